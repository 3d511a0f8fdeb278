"""The training state: all that a checkpoint holds beside the data position."""

import typing
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jaxtyping import Array, Float, Int, PyTree

from rig3r_jax.training.trained import split


@typing.no_type_check
@struct.dataclass
class TrainState:
    """Crosses jit whole; donated to every step."""

    step: Int[Array, ""]  # steps taken, skipped ones included
    params: PyTree[Float[Array, "..."]]
    opt_state: PyTree
    ema: PyTree[Float[Array, "..."]]  # average of the parameters; {} when none is kept
    bad_steps: Int[Array, ""]  # steps that were skipped, in a row up to now
    skipped_steps: Int[Array, ""]  # in all: not finite, or spikes

    @property
    def trained_params(self) -> PyTree[Float[Array, "..."]]:
        """The parameters to evaluate: the average where one is kept."""
        return self.ema or self.params


def fresh_state(
    params: PyTree, optimizer: optax.GradientTransformation, *, keep_ema: bool = False, frozen: Sequence[str] = ()
) -> TrainState:
    """The state before the first step; the optimizer knows nothing of `frozen` parameters (see `trained.split`).

    Pure: wrap it in jit with shardings, or in eval_shape.
    """
    zero = jnp.zeros((), jnp.int32)
    ema = jax.tree.map(jnp.copy, params) if keep_ema else {}
    return TrainState(zero, params, optimizer.init(split(params, frozen)[0]), ema, zero, zero)
