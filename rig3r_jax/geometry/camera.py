"""Cameras: pixels to rays and points to pixels, for the pinhole, Brown-Conrady and Kannala-Brandt (fisheye) models.

Pixel centres lie at +0.5, (u, v) is (right, down), intrinsics are 3x3 and upper triangular.
The leading axes of intrinsics and distortion are the first axes of pixels and points: intrinsics (b v 3 3) meet points
(b v h w 3), intrinsics (3 3) meet anything; a grid shared by many cameras is passed with axes of length 1 before it.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from rig3r_jax.geometry.numerics import align_leading, safe_divide, safe_norm, safe_normalize

_NEWTON_STEPS = 8  # quadratic convergence: 5 are enough for lenses up to 120 degrees


def pixel_centers(height: int, width: int, dtype=jnp.float32) -> Float[Array, "{height} {width} 2"]:
    """(u, v) of every pixel's centre."""
    return cell_centers(height, width, height, width, dtype)


def cell_centers(height: int, width: int, rows: int, cols: int, dtype=jnp.float32) -> Float[Array, "{rows} {cols} 2"]:
    """(u, v), in pixels, of the centres of rows x cols equal cells of the image."""
    u = (jnp.arange(cols, dtype=dtype) + 0.5) * (width / cols)
    v = (jnp.arange(rows, dtype=dtype) + 0.5) * (height / rows)
    return jnp.stack(jnp.meshgrid(u, v, indexing="xy"), axis=-1)


def cell_pixels(size: int, count: int) -> Int[np.ndarray, "{count}"]:
    """Indices of the pixels that hold the centres of `count` equal cells along an axis of `size` pixels."""
    return ((np.arange(count) + 0.5) * size / count).astype(np.int64)


def stride_pixels(size: int, count: int) -> Int[np.ndarray, "{count}"]:
    """Indices of `count` pixels along an axis: of each run of size // count, the one in or just past its middle."""
    if count < 1 or size % count:
        raise ValueError(f"{count} points along {size} pixels: the count must divide the size; choose a divisor")
    stride = size // count
    return stride // 2 + stride * np.arange(count)


def normalized_from_pixels(pixels: Float[Array, "... 2"], intrinsics: Float[Array, "*b 3 3"]) -> Float[Array, "... 2"]:
    """(x, y) on the plane z = 1 of the camera: K^-1 (u, v, 1), skew included."""
    k = align_leading(intrinsics, 2, pixels.ndim - 1)
    y = (pixels[..., 1] - k[..., 1, 2]) / k[..., 1, 1]
    x = (pixels[..., 0] - k[..., 0, 2] - k[..., 0, 1] * y) / k[..., 0, 0]
    return jnp.stack([x, y], axis=-1)


def pixels_from_normalized(
    normalized: Float[Array, "... 2"], intrinsics: Float[Array, "*b 3 3"]
) -> Float[Array, "... 2"]:
    """(u, v) of points (x, y) on the plane z = 1."""
    k = align_leading(intrinsics, 2, normalized.ndim - 1)
    x, y = normalized[..., 0], normalized[..., 1]
    return jnp.stack([k[..., 0, 0] * x + k[..., 0, 1] * y + k[..., 0, 2], k[..., 1, 1] * y + k[..., 1, 2]], axis=-1)


def rays(pixels: Float[Array, "... 2"], intrinsics: Float[Array, "*b 3 3"]) -> Float[Array, "... 3"]:
    """Unit directions_camera of a pinhole's pixels."""
    return _unit_rays(normalized_from_pixels(pixels, intrinsics))


def project(points_camera: Float[Array, "... 3"], intrinsics: Float[Array, "*b 3 3"]) -> Float[Array, "... 2"]:
    """Pixels of points in front of a pinhole. For z <= 0 they mean nothing (but are finite): mask by z."""
    return pixels_from_normalized(_perspective(points_camera), intrinsics)


def distort_brown(normalized: Float[Array, "... 2"], distortion: Float[Array, "*b 5"]) -> Float[Array, "... 2"]:
    """Brown-Conrady (k1, k2, p1, p2, k3), in the order of OpenCV, on the plane z = 1."""
    k1, k2, p1, p2, k3 = jnp.moveaxis(align_leading(distortion, 1, normalized.ndim - 1), -1, 0)
    x, y = normalized[..., 0], normalized[..., 1]
    r2 = x * x + y * y
    radial = 1.0 + r2 * (k1 + r2 * (k2 + r2 * k3))
    return jnp.stack(
        [
            x * radial + 2.0 * p1 * x * y + p2 * (r2 + 2.0 * x * x),
            y * radial + p1 * (r2 + 2.0 * y * y) + 2.0 * p2 * x * y,
        ],
        axis=-1,
    )


def undistort_brown(distorted: Float[Array, "... 2"], distortion: Float[Array, "*b 5"]) -> Float[Array, "... 2"]:
    """Inverse of `distort_brown` inside the region where the model is one-to-one, by a fixed number of Newton steps."""

    def step(normalized, target, coefficients):
        def model(point):
            return distort_brown(point, coefficients)

        error = model(normalized) - target
        along_x = jnp.zeros_like(normalized).at[..., 0].set(1.0)
        a, c = jnp.moveaxis(jax.jvp(model, (normalized,), (along_x,))[1], -1, 0)
        b, d = jnp.moveaxis(jax.jvp(model, (normalized,), (1.0 - along_x,))[1], -1, 0)
        # The steps carry no derivative of the Jacobian: it would only multiply an error that is zero at the solution.
        a, b, c, d = (jax.lax.stop_gradient(entry) for entry in (a, b, c, d))
        solved = jnp.stack([d * error[..., 0] - b * error[..., 1], a * error[..., 1] - c * error[..., 0]], axis=-1)
        return normalized - safe_divide(solved, (a * d - b * c)[..., None])

    shape = jnp.broadcast_shapes(distorted.shape[:-1], align_leading(distortion, 1, distorted.ndim - 1).shape[:-1])
    return _newton(step, jnp.broadcast_to(distorted, (*shape, 2)), distortion)


def rays_brown(
    pixels: Float[Array, "... 2"], intrinsics: Float[Array, "*b 3 3"], distortion: Float[Array, "*b 5"]
) -> Float[Array, "... 3"]:
    """Unit directions_camera of the pixels of a Brown-Conrady camera."""
    return _unit_rays(undistort_brown(normalized_from_pixels(pixels, intrinsics), distortion))


def project_brown(
    points_camera: Float[Array, "... 3"], intrinsics: Float[Array, "*b 3 3"], distortion: Float[Array, "*b 5"]
) -> Float[Array, "... 2"]:
    """Pixels of points in front of a Brown-Conrady camera; see `project` for z <= 0."""
    return pixels_from_normalized(distort_brown(_perspective(points_camera), distortion), intrinsics)


def distort_fisheye(angle: Float[Array, "..."], distortion: Float[Array, "*b 4"]) -> Float[Array, "..."]:
    """Kannala-Brandt (k1..k4): the radius on the unit image of a ray at `angle` radians from the optical axis."""
    k1, k2, k3, k4 = jnp.moveaxis(align_leading(distortion, 1, angle.ndim), -1, 0)
    a2 = angle * angle
    return angle * (1.0 + a2 * (k1 + a2 * (k2 + a2 * (k3 + a2 * k4))))


def undistort_fisheye(radius: Float[Array, "..."], distortion: Float[Array, "*b 4"]) -> Float[Array, "..."]:
    """Inverse of `distort_fisheye` where that grows with the angle, by a fixed number of Newton steps; radians."""

    def step(angle, target, coefficients):
        value, slope = jax.jvp(lambda a: distort_fisheye(a, coefficients), (angle,), (jnp.ones_like(angle),))
        return angle - safe_divide(value - target, jax.lax.stop_gradient(slope))

    shape = jnp.broadcast_shapes(radius.shape, align_leading(distortion, 1, radius.ndim).shape[:-1])
    return _newton(step, jnp.broadcast_to(radius, shape), distortion)


def rays_fisheye(
    pixels: Float[Array, "... 2"], intrinsics: Float[Array, "*b 3 3"], distortion: Float[Array, "*b 4"]
) -> Float[Array, "... 3"]:
    """Unit directions_camera of the pixels of a Kannala-Brandt camera; fields over 180 degrees are allowed."""
    normalized = normalized_from_pixels(pixels, intrinsics)
    angle = undistort_fisheye(safe_norm(normalized), distortion)[..., None]
    # sin(angle) / angle times angle / radius, so that the centre needs no special case but the norm's.
    return jnp.concatenate([jnp.sin(angle) * safe_normalize(normalized), jnp.cos(angle)], axis=-1)


def project_fisheye(
    points_camera: Float[Array, "... 3"], intrinsics: Float[Array, "*b 3 3"], distortion: Float[Array, "*b 4"]
) -> Float[Array, "... 2"]:
    """Pixels of points seen by a Kannala-Brandt camera, behind the image plane too."""
    across = points_camera[..., :2]
    off_axis = safe_norm(across)
    angle = jnp.arctan2(off_axis, points_camera[..., 2])
    return pixels_from_normalized(distort_fisheye(angle, distortion)[..., None] * safe_normalize(across), intrinsics)


def crop_intrinsics(
    intrinsics: Float[Array, "*b 3 3"], left: float | int | Float[Array, "*b"], top: float | int | Float[Array, "*b"]
) -> Float[Array, "*b 3 3"]:
    """Intrinsics after the first `left` columns and `top` rows of pixels are cut away (negative: padding added)."""
    return intrinsics.at[..., 0, 2].add(-left).at[..., 1, 2].add(-top)


def resize_intrinsics(
    intrinsics: Float[Array, "*b 3 3"],
    scale_u: float | int | Float[Array, "*b"],
    scale_v: float | int | Float[Array, "*b"],
) -> Float[Array, "*b 3 3"]:
    """Intrinsics after the width is multiplied by scale_u, the height by scale_v (centres at +0.5: no shift)."""
    scale_u, scale_v = (jnp.asarray(scale, intrinsics.dtype)[..., None] for scale in (scale_u, scale_v))
    return intrinsics.at[..., 0, :].multiply(scale_u).at[..., 1, :].multiply(scale_v)


def _unit_rays(normalized: Float[Array, "... 2"]) -> Float[Array, "... 3"]:
    directions = jnp.concatenate([normalized, jnp.ones_like(normalized[..., :1])], axis=-1)
    return directions / jnp.linalg.norm(directions, axis=-1, keepdims=True)  # at least 1 long


def _perspective(points_camera: Float[Array, "... 3"]) -> Float[Array, "... 2"]:
    return safe_divide(points_camera[..., :2], points_camera[..., 2:])


def _newton(step, target, coefficients):
    """The last step alone carries the derivative, which by the implicit function theorem is the solution's."""
    fixed_target, fixed_coefficients = jax.lax.stop_gradient((target, coefficients))
    solution = jax.lax.fori_loop(
        0, _NEWTON_STEPS - 1, lambda _, estimate: step(estimate, fixed_target, fixed_coefficients), fixed_target
    )
    return step(jax.lax.stop_gradient(solution), target, coefficients)
