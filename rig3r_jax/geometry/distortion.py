"""Lens distortion on the plane z = 1 and its inverse: Brown-Conrady, and Kannala-Brandt for fisheyes.

For JAX arrays, differentiable, and for numpy arrays, which stay numpy's in their own precision (host code is float64).
The leading axes of the coefficients are the first axes of the points (see `numerics.align_leading`).
"""

import math

import jax
import numpy as np
from jaxtyping import Float

from rig3r_jax.geometry.numerics import AnyArray, align_leading, array_module, safe_divide

_NEWTON_STEPS = 8  # quadratic convergence: 5 are enough for lenses up to 120 degrees
_CHORD = math.pi / 16
_COARSE_ANGLES = np.linspace(0.0, math.pi, 17)  # of the curve radius by angle, from the axis, a chord apart
_FINE_ANGLES = np.linspace(0.0, math.pi, 513)


def distort_brown(
    normalized: Float[AnyArray, "... 2"], distortion: Float[AnyArray, "*b 5"]
) -> Float[AnyArray, "... 2"]:
    """Brown-Conrady (k1, k2, p1, p2, k3), in the order of OpenCV, on the plane z = 1."""
    xp = array_module(normalized, distortion)
    k1, k2, p1, p2, k3 = xp.moveaxis(align_leading(distortion, 1, normalized.ndim - 1), -1, 0)
    x, y = normalized[..., 0], normalized[..., 1]
    r2 = x * x + y * y
    radial = 1.0 + r2 * (k1 + r2 * (k2 + r2 * k3))
    return xp.stack(
        [
            x * radial + 2.0 * p1 * x * y + p2 * (r2 + 2.0 * x * x),
            y * radial + p1 * (r2 + 2.0 * y * y) + 2.0 * p2 * x * y,
        ],
        axis=-1,
    )


def undistort_brown(
    distorted: Float[AnyArray, "... 2"], distortion: Float[AnyArray, "*b 5"]
) -> Float[AnyArray, "... 2"]:
    """Inverse of `distort_brown` inside the region where the model is one-to-one, by a fixed number of Newton steps."""
    xp = array_module(distorted, distortion)

    def step(normalized, target, coefficients):
        error = distort_brown(normalized, coefficients) - target
        a, b, d = xp.moveaxis(_jacobian_brown(normalized, _constant(coefficients)), -1, 0)
        solved = xp.stack([d * error[..., 0] - b * error[..., 1], a * error[..., 1] - b * error[..., 0]], axis=-1)
        return normalized - safe_divide(solved, (a * d - b * b)[..., None])

    shape = np.broadcast_shapes(distorted.shape[:-1], align_leading(distortion, 1, distorted.ndim - 1).shape[:-1])
    return _newton(step, xp.broadcast_to(distorted, (*shape, 2)), distortion)


def _jacobian_brown(
    normalized: Float[AnyArray, "... 2"], distortion: Float[AnyArray, "*b 5"]
) -> Float[AnyArray, "... 3"]:
    """(dx'/dx, dx'/dy = dy'/dx, dy'/dy) of `distort_brown`, (x', y') its result."""
    xp = array_module(normalized, distortion)
    k1, k2, p1, p2, k3 = xp.moveaxis(align_leading(distortion, 1, normalized.ndim - 1), -1, 0)
    x, y = normalized[..., 0], normalized[..., 1]
    r2 = x * x + y * y
    radial = 1.0 + r2 * (k1 + r2 * (k2 + r2 * k3))
    slope = 2.0 * (k1 + r2 * (2.0 * k2 + r2 * 3.0 * k3))  # d radial / d r2, twice
    along_x = radial + slope * x * x + 2.0 * p1 * y + 6.0 * p2 * x
    across = slope * x * y + 2.0 * p1 * x + 2.0 * p2 * y
    along_y = radial + slope * y * y + 6.0 * p1 * y + 2.0 * p2 * x
    return xp.stack([along_x, across, along_y], axis=-1)


def distort_fisheye(angle: Float[AnyArray, "..."], distortion: Float[AnyArray, "*b 4"]) -> Float[AnyArray, "..."]:
    """Kannala-Brandt (k1..k4): the radius on the unit image of a ray at `angle` radians from the optical axis."""
    k1, k2, k3, k4 = array_module(angle, distortion).moveaxis(align_leading(distortion, 1, angle.ndim), -1, 0)
    a2 = angle * angle
    return angle * (1.0 + a2 * (k1 + a2 * (k2 + a2 * (k3 + a2 * k4))))


def undistort_fisheye(radius: Float[AnyArray, "..."], distortion: Float[AnyArray, "*b 4"]) -> Float[AnyArray, "..."]:
    """Inverse of `distort_fisheye` from the axis to where that first stops to grow; radians. Beyond, about that angle.

    By a fixed number of Newton steps from a chord of the curve, near which they stay: from the radius itself they need
    any number of steps where the curve bends much, as it does past 90 degrees.
    """
    xp = array_module(radius, distortion)
    shape = np.broadcast_shapes(radius.shape, align_leading(distortion, 1, radius.ndim).shape[:-1])
    radius = xp.broadcast_to(radius, shape)
    first = _angle_on_chord(_constant(radius), _constant(distortion))

    def step(angle, target, coefficients):
        k1, k2, k3, k4 = xp.moveaxis(align_leading(_constant(coefficients), 1, angle.ndim), -1, 0)
        a2 = angle * angle
        slope = 1.0 + a2 * (3.0 * k1 + a2 * (5.0 * k2 + a2 * (7.0 * k3 + a2 * 9.0 * k4)))
        stepped = angle - safe_divide(distort_fisheye(angle, coefficients) - target, slope)
        return xp.clip(stepped, first - _CHORD, first + _CHORD)

    return _newton(step, radius, distortion, first)


def fisheye_reach(distortion: Float[AnyArray, "*b 4"]) -> Float[AnyArray, "*b 1"]:
    """The largest radius on the unit image that rays reach before the radius stops to grow with the angle."""
    radii, grows = _curve(distortion, _FINE_ANGLES)
    xp = array_module(distortion)
    return xp.max(xp.where(grows, radii[..., 1:], 0.0), axis=-1, keepdims=True)


def _curve(distortion: Float[AnyArray, "*b 4"], angles: np.ndarray) -> tuple[AnyArray, AnyArray]:
    """Radii at some angles (*b n), and whether the radius grows from the axis over each piece between (*b n-1)."""
    xp = array_module(distortion)
    angles = xp.broadcast_to(xp.asarray(angles, distortion.dtype), (*distortion.shape[:-1], len(angles)))
    radii = distort_fisheye(angles, distortion)
    return radii, xp.cumprod(radii[..., 1:] > radii[..., :-1], axis=-1).astype(bool)


def _angle_on_chord(radius: Float[AnyArray, "..."], distortion: Float[AnyArray, "*b 4"]) -> Float[AnyArray, "..."]:
    """The angle at a radius on the polygon through some points of the curve, as far as that grows."""
    xp = array_module(radius, distortion)
    radii, grows = _curve(distortion, _COARSE_ANGLES)
    starts, lengths = radii[..., :-1], xp.where(grows, radii[..., 1:] - radii[..., :-1], 1.0)
    angle = 0.0
    for piece in range(len(_COARSE_ANGLES) - 1):
        start, length, counts = (
            values[..., piece].reshape(*values.shape[:-1], *(1,) * (radius.ndim - values.ndim + 1))
            for values in (starts, lengths, grows)
        )
        angle = angle + xp.where(counts, xp.clip((radius - start) / length, 0.0, 1.0), 0.0)
    return _CHORD * angle


def _newton(step, target, coefficients, start=None):
    """The solution, by steps from `start` or from the target. The last step alone carries the derivative, which by the
    implicit function theorem is the solution's."""
    if array_module(target, coefficients) is np:
        solution = target if start is None else start
        for _ in range(_NEWTON_STEPS):
            solution = step(solution, target, coefficients)
        return solution
    fixed_target, fixed_coefficients = _constant(target), _constant(coefficients)
    start = fixed_target if start is None else start
    solution = jax.lax.fori_loop(
        0, _NEWTON_STEPS - 1, lambda _, estimate: step(estimate, fixed_target, fixed_coefficients), start
    )
    return step(_constant(solution), target, coefficients)


def _constant(array: AnyArray) -> AnyArray:
    """Without derivative, as the Jacobian of a step may be: its own would multiply an error that ends at zero."""
    return jax.lax.stop_gradient(array) if isinstance(array, jax.Array) else array
