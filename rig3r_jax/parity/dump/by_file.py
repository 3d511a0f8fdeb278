"""Comparison of a folder file by file, and what the comparisons of models share."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rig3r_jax.formats.npz import Npz
from rig3r_jax.parity.compare import Comparison, Skipped
from rig3r_jax.parity.dump.folder import Archive, Dump
from rig3r_jax.parity.dump.rows import Results, compare_arrays

ResultsOf = Callable[[Dump, Archive, np.dtype], Results]  # of a file's arrays, in the precision of the reference


def compare_files(dump: Dump, results_of: Mapping[str, tuple[ResultsOf, str]]) -> Iterator[Comparison | Skipped]:
    """Compares the arrays of those files that are there; what has no counterpart and was no input either is named.

    Args:
        dump: the folder.
        results_of: file -> function that computes ours, and the array of the file that it cannot do without ("": none).
    """
    for file, (run, needed) in results_of.items():
        theirs = dump.arrays(file)
        if theirs is None:
            continue
        results, reason = {}, "Rig3R has no counterpart"
        if needed and needed not in theirs:
            reason = f"{file} has no {needed}"
        else:
            dtype = _precision(dump.path / file)
            with jax.enable_x64(dtype == np.float64), jax.default_matmul_precision("highest"):
                results = run(dump, theirs, dtype)
        unread = set(theirs.unread)
        results = {name: results.get(name, reason) for name in theirs}
        inputs = {name for name, result in results.items() if isinstance(result, str) and name not in unread}
        yield from compare_arrays(dump, file, {name: results[name] for name in theirs if name not in inputs})


def _precision(path: Path) -> np.dtype:
    """float64 when any array of a file is, else float32; looked up beside the archive, which notes what is read."""
    with Npz(path) as file:
        return np.result_type(np.float32, *(array.dtype for array in file.values() if array.dtype.kind == "f"))


def parameter_shapes(init: Callable, dtype: np.dtype, *inputs: Any) -> dict:
    """Shapes of the parameters that a module's `init` makes of its inputs; the type is that of the comparison."""
    params = jax.eval_shape(init, jax.random.key(0), *inputs)["params"]
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, dtype), params)


def cast(tree: Any, dtype: np.dtype) -> Any:
    """All arrays of a tree as JAX arrays of a type."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), tree)


def called(captured: Mapping) -> Any:
    """What a module returned when it was called first, from its captured intermediates."""
    return captured["__call__"][0]


def channels_first(x: Any) -> Any:
    """(b h w c) as (b c h w)."""
    return jnp.moveaxis(x, -1, 1)


def channels_last(x: np.ndarray, dtype: np.dtype) -> jax.Array:
    """(... c h w) as (... h w c)."""
    return jnp.asarray(np.moveaxis(x, -3, -1), dtype)
