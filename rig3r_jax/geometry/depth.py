"""Depth along rays, which every lens has, and along a camera's axis, which fields of less than 180 degrees have."""

import functools

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from rig3r_jax.geometry.camera import Lens, pixel_centers
from rig3r_jax.geometry.lenses import Lenses


def along_rays(depth: Float[np.ndarray, "h w"], lens: Lens) -> Float[np.ndarray, "h w"]:
    """Distances along the rays of an image's pixels, of depths along its camera's axis; 0 stays 0. For one camera whose
    rays all point forward; numpy, in the type of `depth`."""
    return (depth / _cosines(lens, *depth.shape)).astype(depth.dtype)


def along_axis(distance: Float[Array, "*b h w"], lenses: Lens | Lenses) -> Float[Array, "*b h w"]:
    """Depths along the cameras' axes, of distances along their rays; of a `wide` lens the distances themselves."""
    height, width = distance.shape[-2:]
    pixels = pixel_centers(height, width, distance.dtype).reshape(*(1,) * (distance.ndim - 2), height, width, 2)
    wide = jnp.asarray(lenses.wide)
    wide = wide.reshape(*wide.shape, *(1,) * (distance.ndim - wide.ndim))
    return jnp.where(wide, distance, distance * lenses.rays(pixels)[..., 2])


@functools.lru_cache(maxsize=16)
def _cosines(lens: Lens, height: int, width: int) -> Float[np.ndarray, "{height} {width}"]:
    """Of the angles between the pixels' rays and the axis, float64."""
    u, v = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    return lens.rays(np.stack([u, v], axis=-1))[..., 2]
