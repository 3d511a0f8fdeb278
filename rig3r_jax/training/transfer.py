"""Batches between host and devices, the rows of each process."""

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import PyTree

from rig3r_jax.training.sharding import batch_sharding, row_share


def to_device(batch: PyTree, mesh: Mesh) -> PyTree:
    """The rows of this process (`sharding.row_share`) as its part of the global batch: leaves (rows, views, ...)."""
    sharding = batch_sharding(mesh)
    if jax.process_count() == 1:
        return jax.device_put(batch, sharding)
    part, parts = row_share(mesh)

    def place(leaf: np.ndarray) -> jax.Array:
        leaf = np.asarray(leaf)
        rows, start = len(leaf), part * len(leaf)

        def piece(index: tuple[slice, ...]) -> np.ndarray:  # of the global array
            first, last, _ = index[0].indices(rows * parts)
            return leaf[(slice(first - start, last - start), *index[1:])]

        return jax.make_array_from_callback((rows * parts, *leaf.shape[1:]), sharding, piece)

    return jax.tree.map(place, batch)


def to_host(tree: PyTree, mesh: Mesh) -> PyTree:
    """The rows of this process of arrays that are cut over samples (`sharding.samples_sharding`), on the host."""
    if jax.process_count() == 1:
        return jax.tree.map(np.asarray, tree)
    part, parts = row_share(mesh)

    def collect(array: jax.Array) -> np.ndarray:
        rows = array.shape[0] // parts
        out = np.empty((rows, *array.shape[1:]), array.dtype)
        for shard in array.addressable_shards:
            first, last, _ = shard.index[0].indices(array.shape[0])
            out[first - part * rows : last - part * rows] = shard.data
        return out

    return jax.tree.map(collect, tree)
