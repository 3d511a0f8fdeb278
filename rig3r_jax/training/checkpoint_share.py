"""Arrays of a checkpoint that many processes want whole: each reads a part, and the devices exchange the parts.

What every process would read for itself, a file system would have to give once per process. So large arrays are saved
in chunks, and restored cut over all devices of the mesh along the axis that has most chunks; then each array is put
together over the network between the devices. Nothing is computed: every bit is as it was saved.
"""

import math
from collections.abc import Sequence

import jax
import orbax.checkpoint as ocp
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import PyTree

from rig3r_jax.training.optimizer import path_string
from rig3r_jax.training.sharding import shardings_of

CHUNK_BYTES = 2**24  # of an array on the disk, at most; a chunk in which two parts meet is read twice


def save_args(state: PyTree) -> PyTree[ocp.SaveArgs]:
    """How arrays are saved for `parts` to be read."""
    return jax.tree.map(lambda _: ocp.SaveArgs(chunk_byte_size=CHUNK_BYTES), state)


def parts(abstract_state: PyTree, saved: PyTree) -> PyTree[jax.ShapeDtypeStruct]:
    """Shapes, types and shardings with which to restore, so that processes read little that others read too.

    Args:
        abstract_state: ShapeDtypeStructs with the shardings that the state shall have, all of one mesh.
        saved: orbax's metadata of the same leaves, with the shapes of their chunks.
    """
    chunks = {path_string(path): _chunk_shape(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(saved)}

    def part(path, leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        mesh = leaf.sharding.mesh
        axis = _axis_to_cut(leaf.shape, chunks[path_string(path)], mesh.size)
        if axis is None:
            return leaf
        spec = PartitionSpec(*[None] * axis, mesh.axis_names)
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=NamedSharding(mesh, spec))

    return jax.tree_util.tree_map_with_path(part, abstract_state)


def joined(state: PyTree, abstract_state: PyTree) -> PyTree:
    """A state that was restored in `parts`, with the shardings of `abstract_state`; called by all processes."""
    return jax.jit(lambda leaves: leaves, out_shardings=shardings_of(abstract_state))(state)


def _chunk_shape(leaf: ocp.metadata.Metadata) -> Sequence[int] | None:
    return leaf.storage.chunk_shape if leaf.storage else None


def _axis_to_cut(shape: Sequence[int], chunk: Sequence[int] | None, ways: int) -> int | None:
    """The axis to be cut, of those that devices can share alike; None where one chunk holds all.

    Best is one whose parts are whole chunks, else that with most chunks: of these some are read by several processes.
    """
    axes = [axis for axis, size in enumerate(shape) if chunk and size > chunk[axis] and size % ways == 0]

    def worth(axis: int) -> tuple[bool, int]:
        return shape[axis] // ways % chunk[axis] == 0, math.ceil(shape[axis] / chunk[axis])

    return max(axes, key=worth, default=None)
