"""Checksums see every bit, on every mesh the same; of many copies the one that is alone is named."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rig3r_jax.training.checksum import _differing, checksum


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
