"""Where arrays live: the device mesh, and ordered rules that place parameters and activations on it.

Three axes: `data` holds whole copies of the state, over `fsdp` one copy of parameters and moments is cut, and over
`frames` the images of a sample are cut: the joint attention then gathers keys and values (`over_frames`).
"""

import contextlib
import functools
import math
from collections.abc import Iterator, Sequence

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from rig3r_jax.models.attention import Attention
from rig3r_jax.training.optimizer import first_match

BATCH_AXES = ("data", "fsdp")  # the samples of a batch are cut over both
FRAMES = "frames"  # the images of a sample are cut over it
SMALLEST_CUT = 2**14  # leaves with fewer elements stay whole: cutting them costs more than it saves

# (regex over the leaf's path, policy): optimizer moments carry their parameter's path and follow it.
PARAMETER_RULES: tuple[tuple[str, str], ...] = ((r"kernel$", "cut"), (r"", "whole"))

# Logical names that the models give to the axes of activations.
ACTIVATION_RULES = (
    ("batch", BATCH_AXES),
    ("views", FRAMES),
    ("tokens", FRAMES),  # of all images of a sample, image by image
    ("images", (*BATCH_AXES, FRAMES)),  # of all samples
    ("patches", None),  # of one image
    ("width", None),
)


def make_mesh(data: int, fsdp: int, frames: int = 1, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh of data x fsdp x frames devices with automatic sharding propagation.

    Neighbours in `devices` (by default all of the run, process by process) share a sample, then a copy of the state:
    what talks most is on one node.
    """
    devices = np.array(jax.devices() if devices is None else devices)
    shape = (data, fsdp, frames)
    if devices.size != math.prod(shape):
        raise ValueError(
            f"a mesh of {' x '.join(map(str, shape))} wants {math.prod(shape)} devices, not {devices.size}"
        )
    return Mesh(devices.reshape(shape), (*BATCH_AXES, FRAMES), axis_types=(AxisType.Auto,) * 3)


def state_shardings(mesh: Mesh, state: PyTree) -> PyTree[NamedSharding]:
    """Shardings of a state (arrays or ShapeDtypeStructs): `cut` leaves are split over `fsdp` along their largest
    divisible axis, all others are whole on every device."""
    policies = first_match(PARAMETER_RULES, state)

    def place(policy: str, leaf) -> NamedSharding:
        axis = cut_axis(policy, leaf.shape, mesh.shape["fsdp"])
        spec = ["fsdp" if n == axis else None for n in range(len(leaf.shape))]
        return NamedSharding(mesh, PartitionSpec(*spec))

    return jax.tree.map(place, policies, state)


def cut_axis(policy: str, shape: Sequence[int], ways: int) -> int | None:
    """The axis along which a leaf is split over `ways` devices; None for one that stays whole."""
    axes = [axis for axis, size in enumerate(shape) if size % ways == 0]
    if policy == "cut" and ways > 1 and axes and math.prod(shape) >= SMALLEST_CUT:
        return max(axes, key=lambda axis: shape[axis])
    return None


def with_shardings(mesh: Mesh, state: PyTree) -> PyTree[jax.ShapeDtypeStruct]:
    """Shapes and types of a state with the shardings of `state_shardings`."""
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        state,
        state_shardings(mesh, state),
    )


def shardings_of(tree: PyTree) -> PyTree[NamedSharding]:
    """The shardings of arrays or ShapeDtypeStructs."""
    return jax.tree.map(lambda leaf: leaf.sharding, tree)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Samples (first axis) and their images (second axis) over all devices."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES, FRAMES))


def samples_sharding(mesh: Mesh) -> NamedSharding:
    """Samples over the devices, each with all its images."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def row_share(mesh: Mesh) -> tuple[int, int]:
    """(i, n): the devices of this process hold the i-th of n equal parts of the rows of a batch.

    Processes that hold different images of the same samples have the same i.
    """
    ours = np.array([device.process_index == jax.process_index() for device in mesh.devices.flat])
    rows = np.flatnonzero(ours.reshape(-1, mesh.shape[FRAMES]).any(axis=1))
    total = mesh.size // mesh.shape[FRAMES]
    if not len(rows) or total % len(rows) or rows[0] % len(rows) or rows[-1] - rows[0] != len(rows) - 1:
        raise ValueError(
            f"process {jax.process_index()} holds the rows {rows.tolist()} of {total} of the mesh {dict(mesh.shape)}; "
            "give every process the same number of devices, and make mesh.frames divide it or be a multiple of it"
        )
    return int(rows[0]) // len(rows), total // len(rows)


def leads_rows(mesh: Mesh) -> bool:
    """Whether this process holds the first images of its rows: of those that share rows, one does."""
    return any(device.process_index == jax.process_index() for device in mesh.devices[:, :, 0].flat)


def over_frames(attend: Attention, mesh: Mesh) -> Attention:
    """`attend` for tokens that are cut over `frames`: every device's queries see the gathered keys and values of all
    images of their sample (context parallel; exact)."""
    cut = PartitionSpec(BATCH_AXES, FRAMES)

    @functools.wraps(attend)  # its name tells which it is
    def from_own_queries(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        k, v = (jax.lax.all_gather(x, FRAMES, axis=1, tiled=True) for x in (k, v))
        return attend(q, k, v)

    return jax.shard_map(from_own_queries, mesh=mesh, in_specs=(cut, cut, cut), out_specs=cut, check_vma=False)


def over_rows(attend: Attention, mesh: Mesh) -> Attention:
    """`attend` for rows that are cut over all devices of the mesh: each attends to its own. XLA's partitioner cuts no
    custom call: left to it, each device would gather the rows of all and compute them."""
    cut = PartitionSpec((*BATCH_AXES, FRAMES))
    return jax.shard_map(attend, mesh=mesh, in_specs=(cut, cut, cut), out_specs=cut, check_vma=False)


def replicated(mesh: Mesh) -> NamedSharding:
    """Whole on every device."""
    return NamedSharding(mesh, PartitionSpec())


@contextlib.contextmanager
def placed_on(mesh: Mesh) -> Iterator[None]:
    """Inside, the models' logical axis names mean axes of `mesh`."""
    with jax.set_mesh(mesh), nn.logical_axis_rules(ACTIVATION_RULES):
        yield
