"""Ray maps of known cameras, and points of known depth."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from rig3r_jax.geometry import camera, se3, so3


def raymap(
    a_from_camera: Float[Array, "*b 4 4"],
    intrinsics: Float[Array, "*b 3 3"],
    height: int,
    width: int,
    rows: int,
    cols: int,
) -> tuple[Float[Array, "*b {rows} {cols} 3"], Float[Array, "*b 3"]]:
    """(directions_a, center_a): unit directions through the centres of rows x cols equal cells of the image."""
    cells = camera.cell_centers(height, width, rows, cols, intrinsics.dtype)
    cells = cells.reshape(*(1,) * (intrinsics.ndim - 2), rows, cols, 2)
    directions_camera = camera.Pinhole(intrinsics).rays(cells)
    return so3.rotate(se3.rotation(a_from_camera), directions_camera), se3.translation(a_from_camera)


def points_from_depth(
    depth: Float[Array, "*b h w"], intrinsics: Float[Array, "*b 3 3"], a_from_camera: Float[Array, "*b 4 4"]
) -> Float[Array, "*b h w 3"]:
    """points_a of every pixel; depth is in metres along the camera's z axis. NaN depths give NaN points."""
    height, width = depth.shape[-2:]
    pixels = camera.pixel_centers(height, width, depth.dtype).reshape(*(1,) * (depth.ndim - 2), height, width, 2)
    normalized = camera.normalized_from_pixels(pixels, intrinsics)
    points_camera = depth[..., None] * jnp.concatenate([normalized, jnp.ones_like(normalized[..., :1])], axis=-1)
    return se3.apply(a_from_camera, points_camera)
