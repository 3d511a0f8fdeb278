"""d2 watched while training: a learning rate that is lowered, and a training that ends, when calibration is reached.

It is the last link of an optax chain. Its state travels with the optimizer's, so that a resumed run goes on as one
that was never interrupted.
"""

import dataclasses
import math
import typing

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from rig3r_jax.evaluation.d2 import TARGET, WINDOWED_METRIC, WINDOWS
from rig3r_jax.geometry.se3 import PARTS
from rig3r_jax.losses.mean import Mean
from rig3r_jax.uncertainty.objective import STEP_D2

ENDED = "count/ended"  # 1 from the step on after which training is over
WINDOWED = {part: WINDOWED_METRIC.format(part=part) for part in PARTS}


@dataclasses.dataclass(frozen=True)
class WatchOptions:
    """When to lower the learning rate and when to end."""

    lower_after: int = 0  # steps after which the learning rate is multiplied by lower_factor; 0: never
    lower_near: float = 0.0  # the same from when both windowed d2 are this near to 3; 0: never
    lower_factor: float = 0.1
    stop_near: float = 0.0  # training ends when both windowed d2 have been this near to 3 ...
    stop_patience: int = 100  # ... for so many steps in a row; stop_near 0: never

    def __post_init__(self):
        rules = [
            *((name, getattr(self, name) > 0, "positive") for name in ("lower_factor", "stop_patience")),
            *((name, getattr(self, name) >= 0, "0 or more") for name in ("lower_after", "lower_near", "stop_near")),
        ]
        wrong = [f"{name} is {getattr(self, name)!r}; it must be {rule}" for name, fine, rule in rules if not fine]
        if wrong:
            raise ValueError("; ".join(wrong))


@typing.no_type_check
class WatchState(typing.NamedTuple):
    """What has been seen."""

    watched_steps: Array  # () int32
    recent_d2: Array  # (k, 2) of the last steps, PARTS; NaN before there are as many
    near_steps: Array  # () int32, in a row, up to now
    lowered: Array  # () bool: the learning rate has been
    ended: Array  # () bool: training is over, updates are zero from now on


def watch_d2(options: WatchOptions, windows_per_step: int) -> optax.GradientTransformationExtraArgs:
    """Scales updates by what the steps before said; `update` wants the metrics of the step."""
    length = math.ceil(WINDOWS / windows_per_step)

    def init(params: PyTree) -> WatchState:
        zero, no = jnp.zeros((), jnp.int32), jnp.zeros((), bool)
        return WatchState(zero, jnp.full((length, len(PARTS)), jnp.nan), zero, no, no)

    def update(updates, state: WatchState, params=None, *, metrics: dict[str, Mean], **_):
        factor = jnp.where(state.ended, 0.0, jnp.where(state.lowered, options.lower_factor, 1.0))
        d2 = jnp.stack([metrics[STEP_D2[part]].compute() for part in PARTS])
        recent = jnp.concatenate([state.recent_d2[1:], d2[None].astype(state.recent_d2.dtype)])
        distance = jnp.max(jnp.abs(jnp.mean(recent, axis=0) - TARGET))  # NaN is near to nothing
        near = jnp.where(distance < options.stop_near, state.near_steps + 1, 0)
        lowered = state.lowered | (distance < options.lower_near)
        steps = state.watched_steps + 1
        if options.lower_after:
            lowered |= steps >= options.lower_after
        new = WatchState(steps, recent, near, lowered, state.ended | (near >= options.stop_patience))
        return jax.tree.map(lambda update: factor.astype(update.dtype) * update, updates), new

    return optax.GradientTransformationExtraArgs(init, update)


def watch_state(opt_state: PyTree) -> WatchState:
    """The state of the watch inside that of an optimizer."""
    leaves = [x for x in jax.tree.leaves(opt_state, is_leaf=lambda x: isinstance(x, WatchState))]
    return next(x for x in leaves if isinstance(x, WatchState))


def watch_metrics(options: WatchOptions):
    """`state_metrics` of `training.step`: windowed d2 (NaN of fewer windows), the factor on the learning rate."""

    def read(opt_state: PyTree) -> dict[str, Mean]:
        state, one = watch_state(opt_state), jnp.ones(())
        windowed = jnp.mean(state.recent_d2, axis=0)
        metrics = {WINDOWED[part]: Mean(windowed[index], one) for index, part in enumerate(PARTS)}
        metrics["train/learning_rate_factor"] = Mean(jnp.where(state.lowered, options.lower_factor, 1.0), one)
        metrics[ENDED] = Mean(state.ended.astype(jnp.float32), one)
        return metrics

    return read
