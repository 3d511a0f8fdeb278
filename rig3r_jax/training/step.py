"""One training step: (state, batch) -> (state, metrics), pure."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from rig3r_jax.losses.ground_truth import GroundTruth, ground_truth
from rig3r_jax.losses.mean import Mean
from rig3r_jax.losses.multitask import Counts, LossWeights, merge_metrics, multitask_loss
from rig3r_jax.models.rig3r import output_grids
from rig3r_jax.schema import Batch, Views
from rig3r_jax.training.state import TrainState

TrainStep = Callable[[TrainState, Batch], tuple[TrainState, dict[str, Mean]]]


def make_train_step(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    weights: LossWeights,
    *,
    accumulate: int = 1,
    ema_decay: float = 0.0,
) -> TrainStep:
    """The step as a function to be jitted.

    Sums and counts of every loss term run over the global batch; with `accumulate` micro-batches the counts are taken
    from the whole batch first, so that the loss does not depend on the mesh or on the number of micro-batches.
    A step whose loss or gradient is not finite changes nothing but the step counters.
    """

    def loss_of(params, views: Views, truth: GroundTruth, counts: Counts):
        return multitask_loss(model.apply({"params": params}, views), truth, weights, counts)

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, Mean]]:
        height, width = batch.views.images.shape[2:4]
        truth = ground_truth(batch.targets, batch.views.image_mask, *output_grids(model, height, width))
        counts = Counts.of(truth, weights.reduction)
        gradient = jax.value_and_grad(loss_of, has_aux=True)
        if accumulate == 1:
            (loss, metrics), grads = gradient(state.params, batch.views, truth, counts)
        else:
            loss, metrics, grads = _accumulate(gradient, state.params, batch.views, truth, counts, accumulate)

        norm = optax.tree.norm(grads)
        finite = jnp.isfinite(loss) & jnp.isfinite(norm)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema = optax.incremental_update(params, state.ema, 1.0 - ema_decay) if state.ema else state.ema
        new = TrainState(
            step=state.step + 1,
            params=_where(finite, params, state.params),
            opt_state=_where(finite, opt_state, state.opt_state),
            ema=_where(finite, ema, state.ema),
            bad_steps=jnp.where(finite, 0, state.bad_steps + 1),
            skipped_steps=state.skipped_steps + jnp.where(finite, 0, 1),
        )
        one = jnp.ones(())
        metrics |= {
            "train/gradient_norm": Mean(norm, one),
            "train/learning_rate": Mean(jnp.asarray(schedule(state.step - state.skipped_steps), jnp.float32), one),
            "count/skipped_steps": Mean(new.skipped_steps.astype(jnp.float32), one),
            "count/bad_steps": Mean(new.bad_steps.astype(jnp.float32), one),
        }
        return new, metrics

    return train_step


def _where(condition: jax.Array, new, old):
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), new, old)


def _accumulate(gradient, params, views: Views, truth: GroundTruth, counts: Counts, parts: int):
    """Sums loss, metrics and gradients over `parts` micro-batches, each spread over all devices."""

    def split(x):  # row r goes to part r mod parts, so that every part takes an equal share of every device's rows
        return x.reshape(x.shape[0] // parts, parts, *x.shape[1:]).swapaxes(0, 1)

    slices = jax.tree.map(split, (views, truth))
    first = jax.tree.map(lambda x: x[0], slices)
    shapes = jax.eval_shape(gradient, params, *first, counts)
    (loss, metrics), grads = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    metrics = {k: Mean(v.total, jnp.ones_like(v.count)) if k.startswith("loss/") else v for k, v in metrics.items()}

    def body(carry, part):
        (part_loss, part_metrics), part_grads = gradient(params, *part, counts)
        loss, metrics, grads = carry
        return (loss + part_loss, merge_metrics(metrics, part_metrics), jax.tree.map(jnp.add, grads, part_grads)), None

    return jax.lax.scan(body, (loss, metrics, grads), slices)[0]
