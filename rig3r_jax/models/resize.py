"""Antialiased bicubic resizing of a small grid, equal to torch's `interpolate(mode="bicubic", antialias=True)`."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

_SUPPORT = 2.0  # half the width of Keys' cubic kernel
_SHARPNESS = -0.5  # its free parameter; -0.5 with antialiasing (as Pillow), where torch's plain bicubic has -0.75


def _cubic(x: np.ndarray) -> np.ndarray:
    """Keys' cubic convolution kernel (1981)."""
    x, a = np.abs(x), _SHARPNESS
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    far = (((x - 5.0) * x + 8.0) * x - 4.0) * a
    return np.where(x < 1.0, near, np.where(x < _SUPPORT, far, 0.0))


@functools.lru_cache
def bicubic_matrix(old: int, new: int) -> Float[np.ndarray, "{new} {old}"]:
    """Weights of the `old` samples of a line in each of its `new` ones, float64; every row sums to 1.

    The kernel widens by old / new where the line shrinks. It is cut at the ends of the line and normalised again.
    """
    if min(old, new) < 1:
        raise ValueError(f"a line of {old} samples cannot become one of {new}: both must be at least 1")
    scale = old / new
    stretch = max(scale, 1.0)
    center = (np.arange(new) + 0.5) * scale
    first = np.maximum((center - _SUPPORT * stretch + 0.5).astype(int), 0)
    end = np.minimum((center + _SUPPORT * stretch + 0.5).astype(int), old)
    sample = np.arange(old)
    weights = _cubic((sample + 0.5 - center[:, None]) / stretch)
    weights = np.where((sample >= first[:, None]) & (sample < end[:, None]), weights, 0.0)
    return weights / weights.sum(axis=1, keepdims=True)


def resize_bicubic(grid: Float[Array, "h w c"], rows: int, columns: int) -> Float[Array, "{rows} {columns} c"]:
    """The grid with rows x columns entries."""
    by_row, by_column = (
        jnp.asarray(bicubic_matrix(old, new), grid.dtype)
        for old, new in zip(grid.shape[:2], (rows, columns), strict=True)
    )
    # One weight matrix per axis; products of factors rounded to bfloat16 would show in every token of the image.
    highest = jax.lax.Precision.HIGHEST
    grid = jnp.einsum("jw,hwc->hjc", by_column, grid, precision=highest)
    return jnp.einsum("ih,hjc->ijc", by_row, grid, precision=highest)
