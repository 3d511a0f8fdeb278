"""Sine-cosine codes and rotary embeddings of positions."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Num


def sincos(
    values: Num[Array, "*b"], width: int, max_period: float = 10_000.0, dtype=jnp.float32
) -> Float[Array, "*b {width}"]:
    """Sine-cosine code (Vaswani et al. 2017): sines, then cosines, of periods 2 pi .. 2 pi max_period."""
    frequencies = jnp.asarray(max_period ** (-np.arange(width // 2) / (width // 2)), dtype)
    angles = values.astype(dtype)[..., None] * frequencies
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


def grid_sincos(rows: int, columns: int, width: int, dtype=jnp.float32) -> Float[Array, "{rows}*{columns} {width}"]:
    """2-D code of a patch grid, row-major: half of the channels codes the column, the other half the row (as MAE)."""
    row, column = np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij")
    code = [sincos(jnp.asarray(axis.ravel()), width // 2, dtype=dtype) for axis in (column, row)]
    return jnp.concatenate(code, axis=-1)


def grid_positions(rows: int, columns: int) -> Int[np.ndarray, "{rows}*{columns} 2"]:
    """(row, column) of each patch, row-major."""
    return np.stack(np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij"), axis=-1).reshape(-1, 2)


def rotate_by_position(
    heads: Float[Array, "b n k d"], positions: Int[np.ndarray, "n 2"], base: float = 100.0
) -> Float[Array, "b n k d"]:
    """2-D RoPE as CroCo v2: the first half of each head turns by the row, the second half by the column."""
    quarter = heads.shape[-1] // 4
    frequencies = base ** (-np.arange(quarter) / quarter)
    turned = []
    for axis, half in enumerate(jnp.split(heads, 2, axis=-1)):
        angles = positions[:, axis, None] * frequencies
        cos, sin = (jnp.asarray(f(angles), heads.dtype)[None, :, None] for f in (np.cos, np.sin))
        first, second = jnp.split(half, 2, axis=-1)
        turned += [first * cos - second * sin, second * cos + first * sin]
    return jnp.concatenate(turned, axis=-1)
