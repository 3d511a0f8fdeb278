"""Ray maps of known cameras, and points of known depth."""

from jaxtyping import Array, Float

from rig3r_jax.geometry import camera, se3, so3
from rig3r_jax.geometry.camera import Lens
from rig3r_jax.geometry.lenses import Lenses


def raymap(
    a_from_camera: Float[Array, "*b 4 4"],
    lenses: Lens | Lenses,
    height: int,
    width: int,
    rows: int,
    cols: int,
) -> tuple[Float[Array, "*b {rows} {cols} 3"], Float[Array, "*b 3"]]:
    """(directions_a, center_a): unit directions through the centres of rows x cols equal cells of the image."""
    cells = camera.cell_centers(height, width, rows, cols, lenses.intrinsics.dtype)
    directions_camera = lenses.rays(cells.reshape(*(1,) * (lenses.intrinsics.ndim - 2), rows, cols, 2))
    return so3.rotate(se3.rotation(a_from_camera), directions_camera), se3.translation(a_from_camera)


def points_at(
    distance: Float[Array, "*b r c"],
    pixels: Float[Array, "r c 2"],
    lenses: Lens | Lenses,
    a_from_camera: Float[Array, "*b 4 4"],
) -> Float[Array, "*b r c 3"]:
    """points_a at distances along the rays of a grid of pixels that all images share. NaN distances give NaN points."""
    rays = lenses.rays(pixels.reshape(*(1,) * (distance.ndim - 2), *pixels.shape))
    return se3.apply(a_from_camera, distance[..., None] * rays)
