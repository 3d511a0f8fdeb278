"""Cameras from ray maps in closed form: focal lengths, rotation and intrinsics from directions and one centre.

Directions need not be normalised; a zero direction counts for nothing. They belong to the centres of rows x cols equal
cells of an image of height x width pixels, as `raymap` makes them.
"""

import typing

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float

from rig3r_jax.geometry import camera, se3, so3
from rig3r_jax.geometry.camera import Lens, Pinhole
from rig3r_jax.geometry.lenses import Lenses
from rig3r_jax.geometry.numerics import matmul, safe_divide, safe_normalize

_LARGEST_FOCAL = 1e3  # in half image sizes; nearly parallel rays of noise would even give negative squares


@typing.no_type_check
@struct.dataclass
class RecoveredCamera:
    """What a ray map says about its camera."""

    intrinsics: Float[Array, "*b 3 3"]  # pixels
    a_from_camera: Float[Array, "*b 4 4"]


def cameras_of(
    directions: Float[Array, "*b rows cols 3"],
    center: Float[Array, "*b 3"],
    image_mask: Bool[Array, "*b h w"],
    lenses: Lens | Lenses | None = None,
) -> RecoveredCamera:
    """The cameras of predicted ray maps: `recover_camera` of the rays that look at the image, not at padding.

    `lenses` are given or fitted (`fit_lens`); None: pinholes, whose focal lengths the rays tell (of Brown lenses too).
    Where one of these is not finite the rotation is NaN, wrong by every threshold; the identity might be right.
    """
    directions = rays_on_image(directions, image_mask)
    cameras = recover_camera(directions, center, *image_mask.shape[-2:], lenses)
    finite = jnp.all(jnp.isfinite(directions), axis=(-3, -2, -1))[..., None, None]
    rotation = jnp.where(finite, se3.rotation(cameras.a_from_camera), jnp.nan)
    return cameras.replace(a_from_camera=se3.from_rotation_translation(rotation, center))


def host_cameras_of(
    directions: Float[np.ndarray, "*b rows cols 3"],
    center: Float[np.ndarray, "*b 3"],
    image_mask: Bool[np.ndarray, "*b h w"],
    lenses: Lens | Lenses | None = None,
) -> RecoveredCamera:
    """`cameras_of` in float64, from numpy to numpy."""
    with jax.enable_x64(True):
        precise = jax.tree.map(_float64, (directions, center, lenses))
        cameras = _compiled_cameras_of(*precise[:2], jnp.asarray(image_mask), precise[2])
        return jax.tree.map(np.asarray, cameras)


def _float64(values: np.ndarray) -> Array:
    """Whole numbers stay what they are."""
    return jnp.asarray(values, float if np.issubdtype(values.dtype, np.floating) else None)


_compiled_cameras_of = jax.jit(cameras_of)


def rays_on_image(
    directions: Float[Array, "*b rows cols 3"], image_mask: Bool[Array, "*b h w"]
) -> Float[Array, "*b rows cols 3"]:
    """Zeros for the rays that look at padding: those left are the ones that training supervises."""
    (height, width), (rows, cols) = image_mask.shape[-2:], directions.shape[-3:-1]
    at_rows, at_cols = camera.cell_pixels(height, rows), camera.cell_pixels(width, cols)
    return jnp.where(image_mask[..., at_rows[:, None], at_cols, None], directions, 0.0)


def recover_focal(
    directions: Float[Array, "*b rows cols 3"], height: int, width: int
) -> tuple[Float[Array, "*b"], Float[Array, "*b"]]:
    """(fx, fy) in pixels from the angles between rays, the principal point at the image's centre.

    For cells point-reflected about the centre, theta the angle between their rays:
    tan^2(theta/2) = du^2/fx^2 + dv^2/fy^2, by least squares in (1/fx^2, 1/fy^2). Grids from 2x3 cells on.
    """
    rows, cols = directions.shape[-3:-1]
    if not tells_focal(rows, cols):
        raise ValueError(
            f"a grid of {rows}x{cols} rays does not give two focal lengths; use 2x3 or more, or intrinsics"
        )
    directions = safe_normalize(directions)
    fx_inverse, fy_inverse = jnp.moveaxis(jnp.sqrt(_inverse_square_focals(directions)), -1, 0)
    return 0.5 * width / fx_inverse, 0.5 * height / fy_inverse


def tells_focal(rows: int, cols: int) -> bool:
    """Whether a grid of so many rays has two independent pairs of reflected cells."""
    return min(rows, cols) >= 2 and max(rows, cols) >= 3


def recover_rotation(
    directions: Float[Array, "*b rows cols 3"], lenses: Lens | Lenses, height: int, width: int
) -> Float[Array, "*b 3 3"]:
    """a_from_camera's rotation: Kabsch's between the rays that the lenses give and the directions in frame a."""
    rows, cols = directions.shape[-3:-1]
    cells = camera.cell_centers(height, width, rows, cols, directions.dtype)
    directions_camera = lenses.rays(cells.reshape(*(1,) * (directions.ndim - 3), rows, cols, 2))
    flat = (*directions.shape[:-3], rows * cols, 3)
    directions = jnp.swapaxes(safe_normalize(directions).reshape(flat), -1, -2)
    return so3.nearest_rotation(matmul(directions, directions_camera.reshape(flat)))


def recover_camera(
    directions: Float[Array, "*b rows cols 3"],
    center: Float[Array, "*b 3"],
    height: int,
    width: int,
    lenses: Lens | Lenses | None = None,
) -> RecoveredCamera:
    """The camera of a ray map. Without lenses: pinholes, their centres in the middle, no skew, focal lengths fitted."""
    if lenses is None:
        lenses = Pinhole(_centered_intrinsics(*recover_focal(directions, height, width), height, width))
    rotation = recover_rotation(directions, lenses, height, width)
    return RecoveredCamera(lenses.intrinsics, se3.from_rotation_translation(rotation, center))


def _inverse_square_focals(directions: Float[Array, "*b rows cols 3"]) -> Float[Array, "*b 2"]:
    """(1/fx^2, 1/fy^2) in half image widths and heights, of unit (or zero) directions.

    tan^2(theta/2) = |a-b|^2 / |a+b|^2 of a ray a and its reflection b, multiplied by its denominator: bounded for
    opposite rays. The weights are both rays' presence over the variance of |a-b|^2 under noise, which grows with
    |a-b|^2 itself.
    """
    cells = camera.cell_centers(2, 2, *directions.shape[-3:-1], directions.dtype) - 1.0  # -1..1, whatever the size
    reflected = jnp.flip(directions, axis=(-3, -2))
    apart = jnp.sum((directions - reflected) ** 2, axis=-1)
    together = jnp.sum((directions + reflected) ** 2, axis=-1)
    present = jnp.any(directions != 0, axis=-1).astype(directions.dtype)
    weights = safe_divide(present * jnp.flip(present, axis=(-2, -1)), jnp.sum(cells**2, axis=-1))
    return _solve_two(together[..., None] * cells**2, apart, weights)


def _solve_two(
    left: Float[Array, "*b rows cols 2"], right: Float[Array, "*b rows cols"], weights: Float[Array, "*b rows cols"]
) -> Float[Array, "*b 2"]:
    """Weighted least squares for two unknowns, by Cramer's rule; bounded below by the largest focal length."""
    u, v = left[..., 0], left[..., 1]
    uu, uv, vv, ur, vr = (
        jnp.sum(weights * term, axis=(-2, -1)) for term in (u * u, u * v, v * v, u * right, v * right)
    )
    determinant = uu * vv - uv * uv
    usable = determinant > 0
    solution = jnp.stack([vv * ur - uv * vr, uu * vr - uv * ur], axis=-1)
    solution = jnp.where(usable[..., None], solution / jnp.where(usable, determinant, 1.0)[..., None], 1.0)
    return jnp.maximum(solution, _LARGEST_FOCAL**-2)


def _centered_intrinsics(
    fx: Float[Array, "*b"], fy: Float[Array, "*b"], height: int, width: int
) -> Float[Array, "*b 3 3"]:
    zero, one = jnp.zeros_like(fx), jnp.ones_like(fx)
    rows = [fx, zero, one * (width / 2), zero, fy, one * (height / 2), zero, zero, one]
    return jnp.stack(rows, axis=-1).reshape(*fx.shape, 3, 3)
