"""Cameras from ray maps in closed form: focal lengths, rotation and intrinsics from directions and one centre.

Directions need not be normalised; a zero direction counts for nothing. They belong to the centres of rows x cols equal
cells of an image of height x width pixels, as `raymap` makes them.
"""

import typing

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float

from rig3r_jax.geometry import camera, se3, so3
from rig3r_jax.geometry.numerics import matmul, safe_divide, safe_norm, safe_normalize

_ROBUST_ROUNDS = 10
_LARGEST_FOCAL = 1e3  # in half image sizes; nearly parallel rays of noise would even give negative squares
_RESIDUAL_FLOOR = 1e-3  # radians; residuals under it are never outliers


@typing.no_type_check
@struct.dataclass
class RecoveredCamera:
    """What a ray map says about its camera."""

    intrinsics: Float[Array, "*b 3 3"]  # pixels
    a_from_camera: Float[Array, "*b 4 4"]


def recover_focal(
    directions: Float[Array, "*b rows cols 3"],
    height: int,
    width: int,
    principal_point: Float[Array, "*b 2"] | None = None,
    weights: Float[Array, "*b rows cols"] | None = None,
) -> tuple[Float[Array, "*b"], Float[Array, "*b"]]:
    """(fx, fy) in pixels from the angles between rays, the principal point known (None: the image's centre).

    For cells point-reflected about the centre, theta the angle between their rays:
    tan^2(theta/2) = du^2/fx^2 + dv^2/fy^2, by least squares in (1/fx^2, 1/fy^2). Grids from 2x3 cells on.
    About a principal point off the centre, cells have no reflections: then the focal lengths come from the matrix
    that `recover_camera_dlt` fits, exact too, but outliers move it more.
    """
    _check_grid(directions)
    directions = safe_normalize(directions)
    weights = _presence(directions) if weights is None else weights * _presence(directions)
    if principal_point is not None:
        offset = 2.0 * principal_point / jnp.array([width, height], directions.dtype) - 1.0
        columns = _fit_columns(directions, offset, weights)
        along_u, along_v, along_axis = jnp.moveaxis(safe_norm(columns, axis=-2), -1, 0)
        return 0.5 * width * along_axis / along_u, 0.5 * height * along_axis / along_v
    inverse_squares = _solve_pairs(*_pair_equations(directions), _pair_weights(weights))
    return _focal_from_inverse_squares(inverse_squares, height, width)


def recover_rotation(
    directions: Float[Array, "*b rows cols 3"],
    intrinsics: Float[Array, "*b 3 3"],
    height: int,
    width: int,
    weights: Float[Array, "*b rows cols"] | None = None,
) -> Float[Array, "*b 3 3"]:
    """a_from_camera's rotation: Kabsch's between the rays that the intrinsics give and the directions in frame a."""
    directions = safe_normalize(directions)
    directions_camera = _camera_rays(directions, intrinsics, height, width)
    return _kabsch(directions, directions_camera, _presence(directions) if weights is None else weights)


def recover_camera(
    directions: Float[Array, "*b rows cols 3"],
    center: Float[Array, "*b 3"],
    height: int,
    width: int,
    intrinsics: Float[Array, "*b 3 3"] | None = None,
    robust: bool = False,
) -> RecoveredCamera:
    """The camera of a ray map. Without intrinsics: principal point at the centre, no skew, focal lengths fitted.

    `robust` reweights the rays by their angular residual for a fixed number of rounds, so that a minority of wrong rays
    counts for nothing.
    """
    directions = safe_normalize(directions)
    weights = _presence(directions)
    if robust:
        weights = _inlier_weights(directions, height, width, intrinsics)
    if intrinsics is None:
        intrinsics = _centered_intrinsics(*recover_focal(directions, height, width, weights=weights), height, width)
    rotation = recover_rotation(directions, intrinsics, height, width, weights)
    return RecoveredCamera(intrinsics, se3.from_rotation_translation(rotation, center))


def recover_camera_dlt(
    directions: Float[Array, "*b rows cols 3"], center: Float[Array, "*b 3"], height: int, width: int
) -> RecoveredCamera:
    """The camera of a ray map, no intrinsics known (skew and principal point free): normalised DLT, then RQ.

    Eight unknowns rather than five: its rotation feels noise several times more than that of `recover_camera`.
    Mirrored ray maps have no such camera; the rotation keeps det +1 and does not fit them.
    Source: Hartley & Zisserman, Multiple View Geometry, 2nd ed., sections 4.4 and 6.2.4.
    """
    _check_grid(directions)
    directions = safe_normalize(directions)
    columns = _fit_columns(directions, jnp.zeros_like(center[..., :2]), _presence(directions))
    # columns = scale * rotation * K^-1, and K^-1 is upper triangular with a positive diagonal: QR, up to signs.
    orthogonal, upper = jnp.linalg.qr(columns)
    signs = jnp.where(jnp.diagonal(upper, axis1=-2, axis2=-1) < 0, -1.0, 1.0).astype(upper.dtype)
    upper = upper * signs[..., :, None]
    scaled = jax.scipy.linalg.solve_triangular(upper, jnp.broadcast_to(jnp.eye(3, dtype=upper.dtype), upper.shape))
    scaled = scaled / scaled[..., 2:, 2:]
    pixels_from_unit = jnp.array([[width / 2, 0, width / 2], [0, height / 2, height / 2], [0, 0, 1]], upper.dtype)
    rotation = so3.nearest_rotation(orthogonal * signs[..., None, :])
    return RecoveredCamera(matmul(pixels_from_unit, scaled), se3.from_rotation_translation(rotation, center))


def _check_grid(directions: Float[Array, "*b rows cols 3"]) -> None:
    rows, cols = directions.shape[-3:-1]
    if min(rows, cols) < 2 or max(rows, cols) < 3:
        raise ValueError(
            f"a grid of {rows}x{cols} rays does not give two focal lengths; use 2x3 or more, or intrinsics"
        )


def _presence(directions: Float[Array, "*b 3"]) -> Float[Array, "*b"]:
    """1, and 0 for zero vectors."""
    return jnp.any(directions != 0, axis=-1).astype(directions.dtype)


def _unit_cells(rows: int, cols: int, dtype) -> Float[Array, "rows cols 2"]:
    """Cell centres in half image widths and heights from the centre: -1..1 both, whatever the image's size."""
    return camera.cell_centers(2, 2, rows, cols, dtype) - 1.0


def _pair_equations(directions: Float[Array, "*b rows cols 3"]) -> tuple[Array, Array]:
    """(left (*b rows cols 2), right (*b rows cols)): left @ (1/fx^2, 1/fy^2) = right for every cell and its reflection.

    tan^2(theta/2) = |a-b|^2 / |a+b|^2, multiplied by its denominator: bounded for opposite rays.
    """
    reflected = jnp.flip(directions, axis=(-3, -2))
    apart = jnp.sum((directions - reflected) ** 2, axis=-1)
    together = jnp.sum((directions + reflected) ** 2, axis=-1)
    cells = _unit_cells(*directions.shape[-3:-1], directions.dtype)
    return together[..., None] * cells**2, apart


def _pair_weights(weights: Float[Array, "*b rows cols"]) -> Float[Array, "*b rows cols"]:
    """Both rays' weights over the variance of |a-b|^2 under noise, which grows with |a-b|^2 itself."""
    cells = _unit_cells(*weights.shape[-2:], weights.dtype)
    return safe_divide(weights * jnp.flip(weights, axis=(-2, -1)), jnp.sum(cells**2, axis=-1))


def _solve_pairs(left: Array, right: Array, weights: Array) -> Float[Array, "*b 2"]:
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


def _focal_from_inverse_squares(inverse_squares: Float[Array, "*b 2"], height: int, width: int) -> tuple[Array, Array]:
    return 0.5 * width / jnp.sqrt(inverse_squares[..., 0]), 0.5 * height / jnp.sqrt(inverse_squares[..., 1])


def _centered_intrinsics(
    fx: Float[Array, "*b"], fy: Float[Array, "*b"], height: int, width: int
) -> Float[Array, "*b 3 3"]:
    zero, one = jnp.zeros_like(fx), jnp.ones_like(fx)
    rows = [fx, zero, one * (width / 2), zero, fy, one * (height / 2), zero, zero, one]
    return jnp.stack(rows, axis=-1).reshape(*fx.shape, 3, 3)


def _camera_rays(
    directions: Float[Array, "*b rows cols 3"], intrinsics: Float[Array, "*b 3 3"], height: int, width: int
):
    rows, cols = directions.shape[-3:-1]
    cells = camera.cell_centers(height, width, rows, cols, directions.dtype)
    return camera.rays(cells.reshape(*(1,) * (directions.ndim - 3), rows, cols, 2), intrinsics)


def _kabsch(directions: Array, directions_camera: Array, weights: Array) -> Float[Array, "*b 3 3"]:
    flat = (*directions.shape[:-3], directions.shape[-3] * directions.shape[-2], 3)
    weighted = (weights[..., None] * directions).reshape(flat)
    return so3.nearest_rotation(matmul(jnp.swapaxes(weighted, -1, -2), directions_camera.reshape(flat)))


def _inlier_weights(
    directions: Array, height: int, width: int, intrinsics: Array | None
) -> Float[Array, "*b rows cols"]:
    """Geman-McClure weights of the rays after a fixed number of rounds; no gradient passes through them."""
    directions = jax.lax.stop_gradient(directions)
    present = _presence(directions)
    left, right = _pair_equations(directions)
    pairs = _pair_weights(present)

    def least_absolute(_, solution):  # a first focal length that few wrong pairs cannot move: L1 by reweighting
        error = jnp.abs(jnp.sum(left * solution[..., None, None, :], axis=-1) - right)
        return _solve_pairs(left, right, pairs / jnp.maximum(error, _RESIDUAL_FLOOR))

    def fit(inverse_squares, weights):
        given = intrinsics
        if given is None:
            given = _centered_intrinsics(*_focal_from_inverse_squares(inverse_squares, height, width), height, width)
        directions_camera = _camera_rays(directions, given, height, width)
        rotation = _kabsch(directions, directions_camera, weights)
        residual = safe_norm(directions - so3.rotate(rotation, directions_camera))
        spread = jnp.median(residual, axis=(-2, -1), keepdims=True)
        width_of_kernel = jnp.maximum(3.0 * spread, _RESIDUAL_FLOOR)
        return present / (1.0 + (residual / width_of_kernel) ** 2) ** 2

    def reweight(_, weights):
        return fit(_solve_pairs(left, right, _pair_weights(weights)), weights)

    first = _solve_pairs(left, right, pairs)
    first = jax.lax.fori_loop(0, _ROBUST_ROUNDS, least_absolute, first) if intrinsics is None else first
    return jax.lax.stop_gradient(jax.lax.fori_loop(0, _ROBUST_ROUNDS, reweight, fit(first, present)))


def _fit_columns(directions: Array, origin: Float[Array, "*b 2"], weights: Array) -> Float[Array, "*b 3 3"]:
    """M with direction ~ M (x, y, 1) for every cell, (x, y) in half image sizes from `origin`; up to a positive factor.

    Both sides are whitened before the DLT (its normalisation), which keeps float32 exact to 1e-5.
    """
    rows, cols = directions.shape[-3:-1]
    cells = _unit_cells(rows, cols, directions.dtype) - origin[..., None, None, :]
    cells = jnp.concatenate([cells, jnp.ones_like(cells[..., :1])], axis=-1).reshape(*origin.shape[:-1], rows * cols, 3)
    directions, weights = directions.reshape(cells.shape), weights.reshape(cells.shape[:-1])[..., None]
    target, target_root = _whiten(directions, weights)
    source, source_root = _whiten(cells, weights)
    rows_of_design = so3.hat(target)[..., :, :, None] * source[..., None, None, :]  # target x (M source) = 0
    design = (rows_of_design * weights[..., None, None]).reshape(*origin.shape[:-1], rows * cols * 3, 9)
    _, vectors = jnp.linalg.eigh(matmul(jnp.swapaxes(design, -1, -2), design))
    fitted = vectors[..., 0].reshape(*origin.shape[:-1], 3, 3)
    agreement = jnp.sum(weights * target * so3.rotate(fitted, source), axis=(-2, -1))
    fitted = fitted * jnp.where(agreement < 0, -1.0, 1.0)[..., None, None].astype(fitted.dtype)
    # target = root_t^-1 direction and source = root_s^-1 cell, hence M = root_t fitted root_s^-1.
    solved = jax.scipy.linalg.solve_triangular(source_root, jnp.swapaxes(fitted, -1, -2), lower=True, trans=1)
    return matmul(target_root, jnp.swapaxes(solved, -1, -2))


def _whiten(vectors: Float[Array, "*b n 3"], weights: Float[Array, "*b n 1"]) -> tuple[Array, Array]:
    """(vectors with unit second moment, lower triangular root): vectors = root @ whitened."""
    moment = matmul(jnp.swapaxes(weights * vectors, -1, -2), vectors) / jnp.sum(weights, axis=-2, keepdims=True)
    root = jnp.linalg.cholesky(moment)
    whitened = jax.scipy.linalg.solve_triangular(root, jnp.swapaxes(vectors, -1, -2), lower=True)
    return jnp.swapaxes(whitened, -1, -2), root
