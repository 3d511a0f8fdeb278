"""Weights of a file laid over a model's fresh parameters."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import jax
import numpy as np
from jaxtyping import PyTree

from rig3r_jax.weights.engine import flatten, nest


def misfits(arrays: Mapping, parameters: Mapping) -> list[str]:
    """One line for every array of a file that is none of the model's, both flat; anything with a shape will do."""
    return [
        f"{name} {leaf.shape}: the model has {parameters[name].shape if name in parameters else 'no such parameter'}"
        for name, leaf in sorted(arrays.items())
        if name not in parameters or leaf.shape != parameters[name].shape
    ]


def overlay(tree: PyTree, arrays: Mapping[str, np.ndarray]) -> PyTree:
    """`tree` with the leaves of `arrays`, placed and typed as those were; others are the same arrays as before.

    Every process reads only the parts that its devices hold.
    """

    def place(old: jax.Array | jax.ShapeDtypeStruct, new: np.ndarray) -> jax.Array:
        return jax.make_array_from_callback(
            old.shape, old.sharding, lambda index: np.array(new[index], dtype=old.dtype, order="C")
        )

    return nest({path: place(leaf, arrays[path]) if path in arrays else leaf for path, leaf in flatten(tree).items()})


def origins(path: str | Path, metadata: Mapping[str, str], arrays: Mapping, model: Mapping) -> str:
    """What came from the file and what stayed fresh, by top-level room."""
    fresh = Counter(name.split("/")[0] for name in model if name not in arrays)
    numbers = sum(array.size for array in arrays.values())
    left = ", ".join(f"{room} {count}" for room, count in fresh.items()) or "nothing"
    return (
        f"{path} ({metadata['kind']}, made from {metadata.get('source', 'unknown')}): {len(arrays)} of {len(model)} "
        f"arrays, {numbers:,} numbers; freshly initialised arrays: {left}"
    )
