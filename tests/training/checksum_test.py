"""Checksums see every bit, on every mesh the same; of many copies the one that is alone is named."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rig3r_jax.training.checksum import _differing, checksum
from tests import runs

ON_FOUR_DEVICES = """
import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from rig3r_jax.training.checksum import CopiesDiffer, check_copies
from rig3r_jax.training.sharding import make_mesh

mesh = make_mesh(1, 4)
cut = jax.device_put(np.arange(8.0), NamedSharding(mesh, PartitionSpec("fsdp")))
whole = NamedSharding(mesh, PartitionSpec())
check_copies({"cut": cut, "whole": jax.device_put(np.ones(3), whole)}, 5)
copies = [jax.device_put(np.full(3, 1.0 + (number == 2)), device) for number, device in enumerate(mesh.devices.flat)]
try:
    check_copies({"cut": cut, "whole": jax.make_array_from_single_device_arrays((3,), whole, copies)}, 6)
except CopiesDiffer as error:
    print(error)
"""


def in_numpy(arrays: list[np.ndarray]) -> int:
    """The same with whole numbers of Python's."""
    words = {1: np.uint8, 2: np.uint16, 4: np.uint32}
    sums = [int(np.ravel(array).view(words[array.itemsize]).astype(np.uint64).sum()) for array in arrays]
    return sum((2 * number + 1) * part for number, part in enumerate(sums)) % 2**32


def test_it_is_the_sum_of_all_bits():
    draw = np.random.default_rng(0)
    arrays = [draw.normal(size=(3, 50)).astype(np.float32), draw.integers(-9, 9, 7).astype(np.int32)]
    arrays += [np.asarray(jnp.asarray(draw.normal(size=40), jnp.bfloat16)), np.array([True, False]), np.float32(np.nan)]
    assert int(checksum([jnp.asarray(array) for array in arrays])) == in_numpy([np.asarray(array) for array in arrays])


@pytest.mark.parametrize("bit", range(32))
def test_any_bit_of_any_array_changes_it(bit):
    tree = {"a": np.linspace(-1, 1, 12, dtype=np.float32), "b": np.ones((2, 3), np.float32)}
    before = int(checksum(jax.tree.map(jnp.asarray, tree)))
    for name in tree:
        flipped = {key: value.copy() for key, value in tree.items()}
        flipped[name].reshape(-1).view(np.uint32)[bit % 6] ^= np.uint32(1 << bit)
        assert int(checksum(jax.tree.map(jnp.asarray, flipped))) != before


def test_the_one_that_is_alone_is_named():
    holders = [(7, "gpu 0"), (9, "gpu 1"), (7, "gpu 2")]
    expected = "a copy of the state is not that of the 2 other devices, 0x00000007: gpu 1 has 0x00000009"
    assert _differing(holders, [(7, 2), (9, 1)]) == expected


def test_whole_arrays_are_compared_where_others_are_cut():
    """Of one array each device has a part of its own, of the other a copy, of which one differs."""
    output = runs.finish(runs.start("-c", ON_FOUR_DEVICES, JAX_NUM_CPU_DEVICES="4"))
    assert "step 6: a copy of the state is not that of the 3 other devices" in output
    assert re.search(r"devices, 0x\w+: \w+:?_?2 of process 0 on \S+ has 0x\w+$", output.strip())
