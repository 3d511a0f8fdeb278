"""Where arrays live: the device mesh, and ordered rules that place parameters and activations on it."""

import contextlib
import math
from collections.abc import Iterator, Sequence

import flax.linen as nn
import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from rig3r_jax.training.optimizer import first_match

BATCH_AXES = ("data", "fsdp")  # the batch is cut over both
SMALLEST_CUT = 2**14  # leaves with fewer elements stay whole: cutting them costs more than it saves

# (regex over the leaf's path, policy): optimizer moments carry their parameter's path and follow it.
PARAMETER_RULES: tuple[tuple[str, str], ...] = ((r"kernel$", "cut"), (r"", "whole"))

# Logical names that the models give to the axes of activations.
ACTIVATION_RULES = (("batch", BATCH_AXES), ("tokens", None), ("width", None))


def make_mesh(data: int, fsdp: int, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh of data x fsdp devices with automatic sharding propagation."""
    devices = jax.devices() if devices is None else devices
    return jax.make_mesh((data, fsdp), BATCH_AXES, axis_types=(AxisType.Auto,) * 2, devices=devices)


def state_shardings(mesh: Mesh, state: PyTree) -> PyTree[NamedSharding]:
    """Shardings of a state (arrays or ShapeDtypeStructs): `cut` leaves are split over `fsdp` along their largest
    divisible axis, all others are whole on every device."""
    policies = first_match(PARAMETER_RULES, state)

    def place(policy: str, leaf) -> NamedSharding:
        spec = [None] * len(leaf.shape)
        ways = mesh.shape["fsdp"]
        axes = [axis for axis, size in enumerate(leaf.shape) if size % ways == 0]
        if policy == "cut" and ways > 1 and axes and math.prod(leaf.shape) >= SMALLEST_CUT:
            spec[max(axes, key=lambda axis: leaf.shape[axis])] = "fsdp"
        return NamedSharding(mesh, PartitionSpec(*spec))

    return jax.tree.map(place, policies, state)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Rows of a batch over all devices."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def replicated(mesh: Mesh) -> NamedSharding:
    """Whole on every device."""
    return NamedSharding(mesh, PartitionSpec())


@contextlib.contextmanager
def placed_on(mesh: Mesh) -> Iterator[None]:
    """Inside, the models' logical axis names mean axes of `mesh`."""
    with jax.set_mesh(mesh), nn.logical_axis_rules(ACTIVATION_RULES):
        yield
