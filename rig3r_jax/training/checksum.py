"""Checksums of a state: one number of all its bits, and whether the devices that hold copies hold the same ones."""

import collections
import platform

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree, UInt32

from rig3r_jax.training.processes import gather

CHECKSUM = "check/parameters"  # in the metrics: the checksum of the parameters after the row's step


class CopiesDiffer(Exception):
    """Devices that should hold the same numbers do not; its text is one line that names them."""


@jax.jit
def checksum(tree: PyTree) -> UInt32[Array, ""]:
    """The sum of the bits of all arrays as 32-bit numbers, modulo 2^32, each array's times an odd number.

    One flipped bit always changes it: by a power of two times an odd number. Sums of whole numbers have no order: it is
    the same on every mesh and device.
    """
    sums = [jnp.sum(_bits(leaf), dtype=jnp.uint32) for leaf in jax.tree.leaves(tree)]
    return sum((jnp.uint32(2 * number + 1) * part for number, part in enumerate(sums)), jnp.uint32(0))


def _bits(array: Array) -> Array:
    if array.dtype == bool:
        return array
    return jax.lax.bitcast_convert_type(array, jnp.dtype(f"uint{min(8 * array.dtype.itemsize, 32)}"))


def check_copies(state: PyTree, step: int) -> None:
    """Compares the copies of a state, or of its parts, that several devices hold; of many processes all call it.

    Arrays of one sharding are compared together, so that on a mesh that cuts some, those that are whole on every device
    are compared over all of them.

    Raises:
        CopiesDiffer: naming process, host and device of those that differ from most.
    """
    leaves = jax.tree.leaves(state)
    numbers = {sharding: number for number, sharding in enumerate(dict.fromkeys(leaf.sharding for leaf in leaves))}
    shards = collections.defaultdict(list)  # by device of this process and number of the sharding: (index, array)
    for leaf in leaves:
        for shard in leaf.addressable_shards:
            shards[shard.device, numbers[leaf.sharding]].append((str(shard.index), shard.data))
    sums = {key: checksum([array for _, array in held]) for key, held in shards.items()}  # dispatched all at once
    ours = []
    for (device, number), value in sums.items():
        part = f"{number}: {[index for index, _ in shards[device, number]]}"
        ours.append((part, int(value), f"{device} of process {device.process_index} on {platform.node()}"))
    holders_of_part: dict[str, list[tuple[int, str]]] = collections.defaultdict(list)
    for of_process in gather(ours):
        for part, value, place in of_process:
            holders_of_part[part].append((value, place))
    for holders in holders_of_part.values():
        counts = collections.Counter(value for value, _ in holders).most_common()
        if len(counts) > 1:
            raise CopiesDiffer(f"step {step}: {_differing(holders, counts)}")


def _differing(holders: list[tuple[int, str]], counts: list[tuple[int, int]]) -> str:
    """The devices that are not with the majority; all of them where there is none."""
    (most, number), (_, second) = counts[:2]
    if number == second:
        return "the copies of the state differ, and none has a majority: " + ", ".join(
            f"{place} has {value:#010x}" for value, place in holders
        )
    others = ", ".join(f"{place} has {value:#010x}" for value, place in holders if value != most)
    return f"a copy of the state is not that of the {number} other devices, {most:#010x}: {others}"
