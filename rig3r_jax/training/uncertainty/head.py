"""Training of the pose uncertainty head on the features of a frozen backbone: windows in, parameters and curves out."""

import dataclasses
import functools
import math
import typing

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct
from jaxtyping import Array, Bool, Float, Int, PyTree

from rig3r_jax.evaluation.error_samples import ErrorSamples
from rig3r_jax.evaluation.likelihood import Likelihood
from rig3r_jax.losses.mean import Mean
from rig3r_jax.losses.pose_metrics import PARTS, WindowMotion
from rig3r_jax.losses.pose_nll import (
    NllOptions,
    covariance,
    initial_bias,
    pose_nll,
    predictive_variance,
    window_d2,
    window_errors,
)
from rig3r_jax.models import pose_uncertainty
from rig3r_jax.training.optimizer import make_optimizer
from rig3r_jax.training.uncertainty.features import WindowFeatures

WINDOWS = 100  # that a windowed d2 is the mean of; a single window is noise
TARGET = 3.0  # of d2 under variances that are learnt from the residuals themselves
CHUNK = 50  # steps of one compiled program
STEP_D2 = {part: f"calibration/predictive_d2_{part}" for part in PARTS}
WINDOWED = {part: f"calibration/windowed_d2_{part}" for part in PARTS}
Curves = list[dict[str, int | float]]  # a row per step, which is its `step`
_ADAM = {"b1": 0.9, "b2": 0.999, "eps": 1e-8}


@dataclasses.dataclass(frozen=True)
class HeadOptions:
    """How the head is trained. The defaults are those of a plain AdamW run of one window per step."""

    steps: int = 500
    windows_per_step: int = 1
    learning_rate: float = 1e-4
    weight_decay: float = 0.01  # not on biases
    warmup_steps: int = 0  # of a learning rate that rises linearly
    clip_norm: float = 0.0  # of the gradient; 0: none
    head_init: str = "default"  # one of models.pose_uncertainty.HEAD_INITS
    lower_after: int = 0  # step from which the learning rate is multiplied by lower_factor; 0: none
    lower_near: float = 0.0  # the same from when both windowed d2 are this near to 3; 0: never
    lower_factor: float = 0.1
    stop_near: float = 0.0  # training ends when both windowed d2 have been this near to 3 ...
    stop_patience: int = 100  # ... for so many steps in a row; stop_near 0: never

    def __post_init__(self):
        positive = ("steps", "windows_per_step", "learning_rate", "lower_factor", "stop_patience")
        others = ("weight_decay", "warmup_steps", "clip_norm", "lower_after", "lower_near", "stop_near")
        inits = pose_uncertainty.HEAD_INITS
        rules = [
            *((name, getattr(self, name) > 0, "positive") for name in positive),
            *((name, getattr(self, name) >= 0, "0 or more") for name in others),
            ("head_init", self.head_init in inits, f"one of {', '.join(inits)}"),
        ]
        wrong = [f"{name} is {getattr(self, name)!r}; it must be {rule}" for name, fine, rule in rules if not fine]
        if wrong:
            raise ValueError("; ".join(wrong))


@typing.no_type_check
@struct.dataclass
class HeadData:
    """What training wants to know of windows, frame 0 left out; on the device."""

    features: Float[Array, "i b n d"]
    residual: Float[Array, "i b n 6"]
    motion: WindowMotion

    def take(self, rows: Int[Array, "k"]) -> "HeadData":
        """These windows."""
        motion = WindowMotion(
            jax.tree.map(lambda x: x[:, rows], self.motion.scale),
            self.motion.true_distance[rows],
            self.motion.predicted_distance[:, rows],
        )
        return HeadData(self.features[:, rows], self.residual[:, rows], motion)


@typing.no_type_check
@struct.dataclass
class HeadState:
    """All that a run needs to go on, bit for bit; the n-th batch is a function of (seed, n)."""

    step: Int[Array, ""]  # steps taken
    params: PyTree[Float[Array, "..."]]
    opt_state: PyTree
    recent: Float[Array, "WINDOWS 2"]  # d2 of the last windows, PARTS; NaN before there are as many
    near_steps: Int[Array, ""]  # in a row, up to now
    lowered: Bool[Array, ""]  # the learning rate has been
    stopped: Bool[Array, ""]  # early


def head_data(windows: WindowFeatures, min_translation: float) -> HeadData:
    """Residuals of all windows, once, beside their features."""
    cameras = (windows.camera_from_world_predicted, windows.camera_from_world_true)
    residual, motion = _window_errors(*map(jnp.asarray, cameras), min_translation)
    return HeadData(jnp.asarray(windows.features[:, :, 1:]), residual, motion)


_window_errors = jax.jit(window_errors, static_argnums=2)


def mle_variance(residual: Float[np.ndarray, "n 6"], nll: NllOptions) -> Float[np.ndarray, "6"]:
    """Variances, one for all frames, that are most likely under the law of `nll`."""
    law = Likelihood(nll.likelihood, nll.dof)
    return np.array([law.fit_scale(residual[:, dim]) ** 2 for dim in range(6)]) * law.variance_of_unit_scale


def last_residuals(data: HeadData) -> Float[np.ndarray, "n 6"]:
    """Residuals of the last refinement, of all windows and frames; float64 on the host."""
    return np.asarray(data.residual[-1], np.float64).reshape(-1, 6)


def initial_state(data: HeadData, nll: NllOptions, options: HeadOptions, seed: int) -> HeadState:
    """The state before the first step; `head_init: mle` starts at the variances of these residuals."""
    width = data.features.shape[-1]
    head = pose_uncertainty.build(width, nll.parameterisation)
    bias = None
    if options.head_init == "mle":
        bias = initial_bias(mle_variance(last_residuals(data), nll), nll)
    params = pose_uncertainty.init(head, jax.random.key(seed), width, options.head_init, bias)
    zero, no = jnp.zeros((), jnp.int32), jnp.zeros((), bool)
    recent = jnp.full((WINDOWS, len(PARTS)), jnp.nan, data.residual.dtype)
    return HeadState(zero, params, _optimizer(options).init(params), recent, zero, no, no)


def train_head(windows: WindowFeatures, nll: NllOptions, options: HeadOptions, seed: int) -> tuple[PyTree, Curves]:
    """(parameters, history) of a run from the start to its end. History: see `continue_training`."""
    data = head_data(windows, nll.min_translation)
    state, rows = continue_training(initial_state(data, nll, options, seed), data, nll, options, seed)
    return state.params, rows


def continue_training(
    state: HeadState, data: HeadData, nll: NllOptions, options: HeadOptions, seed: int, until: int | None = None
) -> tuple[HeadState, Curves]:
    """Trains on, up to step `until` (options.steps by default) or an early stop.

    Returns:
        The state, and a row per step: `step` (1 is the first), metrics of `pose_nll`, d2 under the predictive variance
        (of this step, and windowed: mean of the last WINDOWS windows, NaN before), the gradient's norm before
        clipping, learning rate.
    """
    count = data.features.shape[1]
    if options.windows_per_step > count:
        raise ValueError(f"windows_per_step is {options.windows_per_step}, but there are {count} windows; lower it")
    until = min(options.steps, options.steps if until is None else until)
    history = []
    while int(state.step) < until and not state.stopped:
        first = int(state.step)
        rows = batch_rows(seed, first, CHUNK, options.windows_per_step, count)
        # Of the same length whatever is left: another program might round otherwise.
        state, found = _chunk(state, data, jnp.asarray(rows), jnp.int32(until), nll=nll, options=options)
        found = {name: np.asarray(values, np.float64) for name, values in found.items()}
        for taken in range(int(state.step) - first):
            history.append({"step": first + taken + 1} | {k: float(v[taken]) for k, v in found.items()})
    return state, history


def batch_rows(seed: int, first: int, steps: int, size: int, count: int) -> Int[np.ndarray, "steps size"]:
    """Windows of the batches from number `first` on: every epoch is a permutation of all, by (seed, epoch)."""
    sample = np.arange(first * size, (first + steps) * size)
    epochs, index = np.unique(sample // count, return_inverse=True)
    orders = np.stack([np.random.default_rng([seed, int(epoch)]).permutation(count) for epoch in epochs])
    return orders[index, sample % count].reshape(steps, size).astype(np.int32)


def predict(params: PyTree, windows: WindowFeatures, nll: NllOptions) -> Float[np.ndarray, "i b n c"]:
    """The head's numbers of every frame but the first."""
    return np.asarray(_apply(params, jnp.asarray(windows.features[:, :, 1:]), nll.parameterisation))


@functools.partial(jax.jit, static_argnames="parameterisation")
def _apply(params: PyTree, features: Float[Array, "i b n d"], parameterisation: str) -> Float[Array, "i b n c"]:
    return pose_uncertainty.build(features.shape[-1], parameterisation).apply({"params": params}, features)


def error_samples(params: PyTree, windows: WindowFeatures, nll: NllOptions) -> ErrorSamples:
    """Residuals of the last refinement with what the head says of them, for the calibration report."""
    residual = last_residuals(head_data(windows, nll.min_translation))
    raw = predict(params, windows, nll)[-1]
    with jax.enable_x64(True):
        spread = covariance if nll.parameterisation == "cholesky" else predictive_variance
        said = np.asarray(spread(jnp.asarray(raw, jnp.float64), nll))
    frames = windows.views - 1
    return ErrorSamples(
        residual,
        said.reshape(len(residual), *said.shape[2:]),
        Likelihood(nll.likelihood, nll.dof),
        np.repeat(np.arange(len(windows)), frames),
        windows.views,
    )


def _learning_rate(options: HeadOptions) -> optax.Schedule:
    """Of step n from 0, before it is lowered; the first step of the warm-up moves already."""
    return lambda n: options.learning_rate * jnp.minimum(1.0, (n + 1) / max(options.warmup_steps, 1))


def _optimizer(options: HeadOptions) -> optax.GradientTransformation:
    clip_norm = options.clip_norm or math.inf
    return make_optimizer(_learning_rate(options), weight_decay=options.weight_decay, clip_norm=clip_norm, **_ADAM)


@functools.partial(jax.jit, static_argnames=("nll", "options"))
def _chunk(state: HeadState, data: HeadData, rows: Int[Array, "steps k"], until: Int[Array, ""], *, nll, options):
    """CHUNK steps; those past `until` or an early stop change nothing."""

    def body(state: HeadState, rows):
        new, metrics = _step(state, data.take(rows), nll, options)
        active = ~state.stopped & (state.step < until)
        return jax.tree.map(lambda a, b: jnp.where(active, a, b), new, state), metrics

    return jax.lax.scan(body, state, rows)


def _step(state: HeadState, batch: HeadData, nll: NllOptions, options: HeadOptions):
    head = pose_uncertainty.build(batch.features.shape[-1], nll.parameterisation)

    def loss_of(params):
        raw = head.apply({"params": params}, batch.features)
        loss, _, metrics = pose_nll(batch.residual, raw, nll, batch.motion)
        return loss, (metrics, window_d2(batch.residual[-1], raw[-1], nll))

    (loss, (metrics, d2)), grads = jax.value_and_grad(loss_of, has_aux=True)(state.params)
    norm = optax.tree.norm(grads)
    factor = jnp.where(state.lowered, options.lower_factor, 1.0)
    updates, opt_state = _optimizer(options).update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, jax.tree.map(lambda update: factor * update, updates))
    # A step that is not finite changes no parameter; its row shows it.
    finite = jnp.isfinite(loss) & jnp.isfinite(norm)
    params, opt_state = jax.tree.map(
        lambda a, b: jnp.where(finite, a, b), (params, opt_state), (state.params, state.opt_state)
    )
    step = state.step + 1
    recent = jnp.concatenate([state.recent, jnp.stack([d2[part] for part in PARTS], axis=-1)])[-WINDOWS:]
    windowed = jnp.mean(recent, axis=0)
    distance = jnp.max(jnp.abs(windowed - TARGET))  # NaN, which is near to nothing, before there are enough windows
    near_steps = jnp.where(distance < options.stop_near, state.near_steps + 1, 0)
    lowered = state.lowered | (distance < options.lower_near)
    if options.lower_after:
        lowered |= step >= options.lower_after
    new = HeadState(step, params, opt_state, recent, near_steps, lowered, near_steps >= options.stop_patience)
    row = {name: value.compute() if isinstance(value, Mean) else value for name, value in metrics.items()}
    row |= {STEP_D2[part]: jnp.mean(value) for part, value in d2.items()}
    row |= {WINDOWED[part]: value for part, value in zip(PARTS, windowed, strict=True)}
    row |= {
        "grad/uncertainty_head_norm": norm,
        "train/learning_rate": factor * _learning_rate(options)(state.step),
    }
    return new, row
