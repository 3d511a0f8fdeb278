"""One training step: (state, batch) -> (state, metrics), pure, whatever the objective."""

import typing
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PyTree

from rig3r_jax.losses.mean import Mean
from rig3r_jax.losses.multitask import merge_metrics
from rig3r_jax.training.noise import NOISE_SCALE, noise_scale
from rig3r_jax.training.spikes import SpikeRule
from rig3r_jax.training.state import TrainState
from rig3r_jax.training.trained import join, split

Metrics = dict[str, Mean]
TrainStep = Callable[[TrainState, PyTree], tuple[TrainState, Metrics]]


@typing.runtime_checkable
class Objective(typing.Protocol):
    """What a step minimises. Pure: its methods are traced."""

    def prepare(self, batch: PyTree) -> tuple[PyTree, PyTree]:
        """(samples, totals): what the loss wants of each sample, in arrays with samples first, and of the whole batch,
        such as counts."""
        ...

    def loss(self, params: PyTree, samples: PyTree, totals: PyTree) -> tuple[Float[Array, ""], Metrics]:
        """The share of these samples in the loss of the whole batch, and their metrics."""
        ...


def make_train_step(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule,
    *,
    accumulate: int = 1,
    ema_decay: float = 0.0,
    frozen: Sequence[str] = (),
    spikes: SpikeRule | None = None,
    state_metrics: Callable[[PyTree], Metrics] = lambda opt_state: {},
) -> TrainStep:
    """The step as a function to be jitted.

    With `accumulate` micro-batches, what concerns the whole batch is taken from it first, so that the loss does not
    depend on the mesh or on the number of micro-batches; their gradients tell the noise scale (see `noise`). A step
    whose loss or gradient is not finite, or a spike by the rule `spikes`, which watches the optimizer, changes nothing
    but the step counters. The optimizer is given metrics, loss and gradient norm as extra arguments; `state_metrics`
    are read from its state after the step.
    Parameters of the names `frozen` (see `trained.split`) are constants: they have no gradient, which the norm would
    count, and neither they nor their average change.
    """
    optimizer = optax.with_extra_args_support(optimizer)

    def train_step(state: TrainState, batch: PyTree) -> tuple[TrainState, Metrics]:
        samples, totals = objective.prepare(batch)
        trained, kept = split(state.params, frozen)
        averaged, kept_average = split(state.ema, frozen)

        def loss_of(trained: PyTree, samples: PyTree, totals: PyTree) -> tuple[Float[Array, ""], Metrics]:
            return objective.loss(join(trained, kept), samples, totals)

        gradient = jax.value_and_grad(loss_of, has_aux=True)
        if accumulate == 1:
            (loss, metrics), grads = gradient(trained, samples, totals)
        else:
            loss, metrics, grads, parts_squared = _accumulate(gradient, trained, samples, totals, accumulate)

        norm = optax.tree.norm(grads)
        if accumulate > 1:
            rows = len(jax.tree.leaves(samples)[0])
            metrics |= {NOISE_SCALE: noise_scale(parts_squared, norm**2, accumulate, rows)}
        good = jnp.isfinite(loss) & jnp.isfinite(norm)
        if spikes:
            spike = good & spikes.is_spike(state.opt_state, loss, norm)
            good &= ~spike

        def move(params: PyTree, opt_state: PyTree, ema: PyTree) -> tuple[PyTree, PyTree, PyTree]:
            updates, opt_state = optimizer.update(grads, opt_state, params, metrics=metrics, loss=loss, norm=norm)
            params = optax.apply_updates(params, updates)
            return params, opt_state, optax.incremental_update(params, ema, 1.0 - ema_decay) if ema else ema

        # A branch, which works in place: choosing number by number would copy parameters and moments first.
        before = trained, state.opt_state, averaged
        trained, opt_state, averaged = jax.lax.cond(good, move, lambda *same: same, *before)
        new = TrainState(
            step=state.step + 1,
            params=join(trained, kept),
            opt_state=opt_state,
            ema=join(averaged, kept_average),
            bad_steps=jnp.where(good, 0, state.bad_steps + 1),
            skipped_steps=state.skipped_steps + jnp.where(good, 0, 1),
        )
        one = jnp.ones(())
        metrics |= {
            "train/gradient_norm": Mean(norm, one),
            "train/learning_rate": Mean(jnp.asarray(schedule(state.step - state.skipped_steps), jnp.float32), one),
            "count/skipped_steps": Mean(new.skipped_steps.astype(jnp.float32), one),
            "count/bad_steps": Mean(new.bad_steps.astype(jnp.float32), one),
            **state_metrics(new.opt_state),
        }
        if spikes:
            metrics["train/spikes"] = Mean(spike.astype(jnp.float32), one)
        return new, metrics

    return train_step


def _accumulate(gradient, params, samples: PyTree, totals: PyTree, parts: int):
    """Sums loss, metrics, gradients and their squared norms over `parts` micro-batches, each over all devices."""

    def part_of(index):  # row r is of part r mod parts, so that every part takes an equal share of every device's rows
        def take(x):
            return jax.lax.dynamic_index_in_dim(x.reshape(-1, parts, *x.shape[1:]), index, axis=1, keepdims=False)

        return jax.tree.map(take, samples)

    shapes = jax.eval_shape(gradient, params, jax.eval_shape(part_of, 0), totals)
    (loss, metrics), grads = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    metrics = {k: Mean(v.total, jnp.ones_like(v.count)) if k.startswith("loss/") else v for k, v in metrics.items()}

    def body(carry, index):
        (part_loss, part_metrics), part_grads = gradient(params, part_of(index), totals)
        loss, metrics, grads, squared = carry
        metrics, grads = merge_metrics(metrics, part_metrics), jax.tree.map(jnp.add, grads, part_grads)
        return (loss + part_loss, metrics, grads, squared + optax.tree.norm(part_grads, squared=True)), None

    return jax.lax.scan(body, (loss, metrics, grads, jnp.zeros(())), jnp.arange(parts))[0]
