"""Training of the pose uncertainty head on the features of a frozen backbone: windows in, parameters and curves out.

The same step, optimizer and state as any run's; here many steps are one compiled program, since a step is short.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PyTree

from rig3r_jax.evaluation.error_samples import ErrorSamples
from rig3r_jax.evaluation.likelihood import Likelihood
from rig3r_jax.losses.pose_nll import NllOptions, covariance, initial_bias, predictive_variance
from rig3r_jax.models import pose_uncertainty
from rig3r_jax.training.optimizer import learning_rate_schedule, make_optimizer
from rig3r_jax.training.state import TrainState, fresh_state
from rig3r_jax.training.step import TrainStep, make_train_step
from rig3r_jax.uncertainty.features import WindowFeatures
from rig3r_jax.uncertainty.objective import (
    HeadObjective,
    WindowBatch,
    last_residuals,
    residuals_of,
    window_batch,
)
from rig3r_jax.uncertainty.watch import WatchOptions, watch_d2, watch_metrics, watch_state

CHUNK = 50  # steps of one compiled program
RATE_WIDTH = 2048  # of VGGT's features
Curves = list[dict[str, int | float]]  # a row per step, which is its `step`


@dataclasses.dataclass(frozen=True)
class HeadOptions:
    """How the head is trained. The defaults are those of a plain AdamW run of one window per step.

    Learning rates are for a head of RATE_WIDTH features, see `for_width`.
    """

    steps: int = 500
    windows_per_step: int = 1
    learning_rate: float = 1e-4
    end_learning_rate: float = 1e-4  # of a cosine that begins after the warm-up
    warmup_steps: int = 0  # of a learning rate that rises linearly from 0
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.01  # not on biases
    clip_norm: float = 0.0  # of the gradient; 0: none
    head_init: str = "default"  # one of models.pose_uncertainty.HEAD_INITS
    watch: WatchOptions = WatchOptions()

    def __post_init__(self):
        positive = ("steps", "windows_per_step", "learning_rate", "eps")
        others = ("end_learning_rate", "weight_decay", "clip_norm")
        inits = pose_uncertainty.HEAD_INITS
        rules = [
            *((name, getattr(self, name) > 0, "positive") for name in positive),
            *((name, getattr(self, name) >= 0, "0 or more") for name in others),
            ("warmup_steps", 0 <= self.warmup_steps < self.steps, f"0 or more, and less than steps={self.steps}"),
            ("head_init", self.head_init in inits, f"one of {', '.join(inits)}"),
        ]
        wrong = [f"{name} is {getattr(self, name)!r}; it must be {rule}" for name, fine, rule in rules if not fine]
        if wrong:
            raise ValueError("; ".join(wrong))

    def for_width(self, width: int) -> "HeadOptions":
        """The same for features of another width, learning as quickly.

        A step of Adam moves each weight by the learning rate, hence the output by it times the hidden width.
        """
        factor = RATE_WIDTH / width
        rates = {name: factor * getattr(self, name) for name in ("learning_rate", "end_learning_rate")}
        return dataclasses.replace(self, **rates)


def mle_variance(residual: Float[np.ndarray, "n 6"]) -> Float[np.ndarray, "6"]:
    """A Gaussian's most likely variances (m^2, rad^2), one for all frames: mean squares, under which d2 is on target.

    Under a law with heavier tails the residuals of all frames together, whose spreads differ, would be over-confident.
    """
    return np.array([Likelihood().fit_scale(residual[:, dim]) ** 2 for dim in range(6)])


def abstract_params(width: int, nll: NllOptions) -> PyTree[jax.ShapeDtypeStruct]:
    """The shapes of a head's parameters; nothing is allocated."""
    head = pose_uncertainty.build(width, nll.parameterisation)
    return jax.eval_shape(lambda: pose_uncertainty.init(head, jax.random.key(0), width))


def initial_state(windows: WindowBatch, nll: NllOptions, options: HeadOptions, seed: int) -> TrainState:
    """The state before the first step; `head_init: mle` starts at the variances of these windows' residuals."""
    width = windows.features.shape[-1]
    head = pose_uncertainty.build(width, nll.parameterisation)
    bias = None
    if options.head_init == "mle":
        bias = initial_bias(mle_variance(last_residuals(windows)), nll)
    params = pose_uncertainty.init(head, jax.random.key(seed), width, options.head_init, bias)
    return fresh_state(params, _optimizer(options)[0])


def make_head_step(nll: NllOptions, options: HeadOptions, accumulate: int = 1) -> TrainStep:
    """The training step of the head, to be jitted; the gradient's norm goes by the name of the head's curves."""
    watched = watch_metrics(options.watch)
    step = make_train_step(HeadObjective(nll), *_optimizer(options), accumulate=accumulate, state_metrics=watched)

    def head_step(state: TrainState, batch: WindowBatch):
        new, metrics = step(state, batch)
        metrics["grad/uncertainty_head_norm"] = metrics.pop("train/gradient_norm")
        return new, metrics

    return head_step


def _optimizer(options: HeadOptions) -> tuple[optax.GradientTransformation, optax.Schedule]:
    schedule = learning_rate_schedule(
        learning_rate=options.learning_rate,
        end_learning_rate=options.end_learning_rate,
        warmup_steps=options.warmup_steps,
        steps=options.steps,
    )
    adamw = {name: getattr(options, name) for name in ("b1", "b2", "eps", "weight_decay", "clip_norm")}
    watch = watch_d2(options.watch, options.windows_per_step)
    return optax.chain(make_optimizer(schedule, **adamw), watch), schedule


def train_head(windows: WindowFeatures, nll: NllOptions, options: HeadOptions, seed: int) -> tuple[PyTree, Curves]:
    """(parameters, history) of a run from the start to its end. History: see `continue_training`."""
    batch = window_batch(windows, nll.min_translation)
    state, rows = continue_training(initial_state(batch, nll, options, seed), batch, nll, options, seed)
    return state.params, rows


def continue_training(
    state: TrainState, windows: WindowBatch, nll: NllOptions, options: HeadOptions, seed: int, until: int | None = None
) -> tuple[TrainState, Curves]:
    """Trains on, up to step `until` (options.steps by default) or an early end.

    Returns:
        The state, and a row per step: `step` (1 is the first) and the metrics of the step.
    """
    count = len(windows)
    if options.windows_per_step > count:
        raise ValueError(f"windows_per_step is {options.windows_per_step}, but there are {count} windows; lower it")
    until = min(options.steps, options.steps if until is None else until)
    history = []
    while int(state.step) < until and not watch_state(state.opt_state).ended:
        first = int(state.step)
        rows = batch_rows(seed, first, CHUNK, options.windows_per_step, count)
        # Of the same length whatever is left: another program might round otherwise.
        state, metrics = _chunk(state, windows, jnp.asarray(rows), jnp.int32(until), nll=nll, options=options)
        metrics = {name: np.asarray(values, np.float64) for name, values in metrics.items()}
        for taken in range(int(state.step) - first):
            history.append({"step": first + taken + 1} | {k: float(v[taken]) for k, v in metrics.items()})
    return state, history


@functools.partial(jax.jit, static_argnames=("nll", "options"))
def _chunk(
    state: TrainState, windows: WindowBatch, rows: Int[Array, "steps k"], until: Int[Array, ""], *, nll, options
):
    """CHUNK steps; those past `until` or an early end change nothing."""
    step = make_head_step(nll, options)

    def body(state: TrainState, rows):
        new, metrics = step(state, windows.take(rows))
        active = ~watch_state(state.opt_state).ended & (state.step < until)
        metrics = {name: mean.compute() for name, mean in metrics.items()}
        return jax.tree.map(lambda a, b: jnp.where(active, a, b), new, state), metrics

    return jax.lax.scan(body, state, rows)


def batch_rows(seed: int, first: int, steps: int, size: int, count: int) -> Int[np.ndarray, "steps size"]:
    """Windows of the batches from number `first` on."""
    return sample_rows(seed, first * size, steps * size, count).reshape(steps, size)


def sample_rows(seed: int, first: int, number: int, count: int) -> Int[np.ndarray, "number"]:
    """Which of `count` windows the samples from `first` on are: every epoch is a permutation, by (seed, epoch)."""
    sample = np.arange(first, first + number)
    epochs, index = np.unique(sample // count, return_inverse=True)
    orders = np.stack([np.random.default_rng([seed, int(epoch)]).permutation(count) for epoch in epochs])
    return orders[index, sample % count].astype(np.int32)


def predict(params: PyTree, windows: WindowFeatures, nll: NllOptions) -> Float[np.ndarray, "i b n c"]:
    """The head's numbers of every frame but the first."""
    return np.asarray(_apply(params, jnp.asarray(windows.features[:, :, 1:]), nll.parameterisation))


@functools.partial(jax.jit, static_argnames="parameterisation")
def _apply(params: PyTree, features: Float[Array, "i b n d"], parameterisation: str) -> Float[Array, "i b n c"]:
    return pose_uncertainty.build(features.shape[-1], parameterisation).apply({"params": params}, features)


def predicted_covariance(
    params: PyTree, windows: WindowFeatures, nll: NllOptions
) -> Float[np.ndarray, "b n 6"] | Float[np.ndarray, "b n 6 6"]:
    """What the head says of the last refinement's errors: predictive variances, or covariances of `cholesky`.

    Of the tangents (v, w) in true_from_predicted, in the true camera's frame: m^2, m rad, rad^2.
    """
    raw = predict(params, windows, nll)[-1]
    with jax.enable_x64(True):
        spread = covariance if nll.parameterisation == "cholesky" else predictive_variance
        return np.asarray(spread(jnp.asarray(raw, jnp.float64), nll))


def error_samples(params: PyTree, windows: WindowFeatures, nll: NllOptions) -> ErrorSamples:
    """Residuals of the last refinement with what the head says of them, for the calibration report."""
    residual = residuals_of(windows, nll.min_translation)
    spread = predicted_covariance(params, windows, nll)
    return ErrorSamples(
        residual,
        spread.reshape(len(residual), *spread.shape[2:]),
        Likelihood(nll.likelihood, nll.dof),
        np.repeat(np.arange(len(windows)), windows.views - 1),
        windows.views,
    )
