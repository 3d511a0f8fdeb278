"""Steps whose loss or gradient is far beyond those before it: which they are, by the median of a window.

A value is a spike where it lies more than `deviations` robust standard deviations (1.4826 times the median distance
from the median, which for a Gaussian is its standard deviation) above the median of the last `window` steps that were
taken. Steps that are skipped do not enter the window: one bad batch, or ten, do not make the next ones look usual.
Nothing is judged before the window is full.
"""

import dataclasses
import typing

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int, PyTree

_GAUSSIAN = 1.4826  # standard deviations of a Gaussian over its median distance from the median
_LEAST = 0.01  # of the median that a deviation counts as, at least: where all values are alike any other is far off


@typing.no_type_check
class SpikeState(typing.NamedTuple):
    """Of the steps taken last, one row each."""

    recent: Float[Array, "window 2"]  # loss, norm of the gradient; NaN where there was none yet
    steps: Int[Array, ""]  # that were taken since the window began


@dataclasses.dataclass(frozen=True)
class SpikeRule:
    """Pure: its methods are traced."""

    deviations: float
    window: int

    def watching(self, optimizer: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
        """The optimizer, with the window in its state; `update` wants `loss` and `norm` of the step."""

        def init(params: PyTree) -> SpikeState:
            return SpikeState(jnp.full((self.window, 2), jnp.nan), jnp.zeros((), jnp.int32))

        def update(updates, state: SpikeState, params=None, *, loss, norm, **_):
            row = jnp.stack([loss, norm]).astype(state.recent.dtype)
            return updates, SpikeState(jnp.concatenate([state.recent[1:], row[None]]), state.steps + 1)

        return optax.chain(optimizer, optax.GradientTransformationExtraArgs(init, update))

    def is_spike(self, opt_state: PyTree, loss: Float[Array, ""], norm: Float[Array, ""]) -> Bool[Array, ""]:
        """Whether a step is one, by the state before it."""
        leaves = jax.tree.leaves(opt_state, is_leaf=lambda leaf: isinstance(leaf, SpikeState))
        state = next(leaf for leaf in leaves if isinstance(leaf, SpikeState))
        median = jnp.median(state.recent, axis=0)
        deviation = _GAUSSIAN * jnp.median(jnp.abs(state.recent - median), axis=0)
        bound = median + self.deviations * jnp.maximum(deviation, _LEAST * jnp.abs(median))
        return (state.steps >= self.window) & jnp.any(jnp.stack([loss, norm]) > bound)
