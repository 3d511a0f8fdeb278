"""Bilinear interpolation with aligned corners, equal to torch's `interpolate(align_corners=True)`; no scatter."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def upsample_aligned(x: Float[Array, "b h w c"], height: int, width: int) -> Float[Array, "b {height} {width} c"]:
    """Interpolates one axis after the other; corners stay corners."""
    return _resample(_resample(x, 1, height), 2, width)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _resample(x: jax.Array, axis: int, size: int) -> jax.Array:
    """`size` samples along an axis. Its transpose reads, as it does itself: the derivative of `jnp.take` is a
    scatter-add, which takes ten times as long on a GPU, and 70 times on a CPU."""
    return _weighted_sum(x, axis, aligned_matrix(x.shape[axis], size))


def _resample_forward(x: jax.Array, axis: int, size: int) -> tuple[jax.Array, int]:
    return _resample(x, axis, size), x.shape[axis]


def _resample_backward(axis: int, size: int, old: int, cotangent: jax.Array) -> tuple[jax.Array]:
    return (_weighted_sum(cotangent, axis, aligned_matrix(old, size).T),)


_resample.defvjp(_resample_forward, _resample_backward)


def _weighted_sum(x: jax.Array, axis: int, matrix: Float[np.ndarray, "new old"]) -> jax.Array:
    """matrix @ x along an axis, for a matrix of few numbers per row: as many gathers as a row has."""
    taps = np.count_nonzero(matrix, axis=1).max()
    columns = np.argsort(matrix == 0, axis=1, kind="stable")[:, :taps]  # a shorter row takes others with weight 0
    weights = np.take_along_axis(matrix, columns, axis=1)
    along = [-1 if dimension == axis else 1 for dimension in range(x.ndim)]
    parts = [
        jnp.take(x, columns[:, tap], axis=axis) * jnp.asarray(weights[:, tap].reshape(along), x.dtype)
        for tap in range(taps)
    ]
    return functools.reduce(jnp.add, parts)


@functools.lru_cache
def aligned_matrix(old: int, new: int) -> Float[np.ndarray, "{new} {old}"]:
    """Weights of the `old` samples of a line in each of its `new` ones, float64; the ends of the line stay its ends."""
    position = np.linspace(0.0, old - 1.0, new)
    low = np.clip(position.astype(int), 0, max(old - 2, 0))
    matrix, rows = np.zeros((new, old)), np.arange(new)
    matrix[rows, low] = 1.0 - (position - low)
    matrix[rows, np.minimum(low + 1, old - 1)] += position - low
    return matrix
