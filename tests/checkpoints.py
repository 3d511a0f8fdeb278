"""Small checkpoints whose numbers are a function of their step."""

from pathlib import Path

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from rig3r_jax.training.checkpoint import Checkpoints
from rig3r_jax.training.checkpoint_keep import Keep
from rig3r_jax.training.state import TrainState


def state_of(step: int, width: int = 1000) -> TrainState:
    """A small state whose numbers are those of the step."""
    params = {"dense": {"kernel": jax.random.normal(jax.random.key(step), (100, width)), "bias": jnp.zeros(width)}}
    zero = jnp.zeros((), jnp.int32)
    return TrainState(zero + step, params, (jax.tree.map(jnp.ones_like, params),), {}, zero, zero)


def position_of(step: int) -> dict[str, int]:
    """The position in the data that is saved with it."""
    return {"seed": 1, "next_sample": 8 * step}


def abstract(tree: PyTree) -> PyTree:
    """What a tree of arrays is restored as."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), tree)


def save(workdir: Path, *steps: int, keep: Keep | int = 3) -> None:
    """Saves these steps."""
    checkpoints = Checkpoints(workdir, keep)
    for step in steps:
        checkpoints.save(step, state_of(step), position_of(step))
        checkpoints.wait()
    checkpoints.close()
