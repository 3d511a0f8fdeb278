"""Lens distortion on the plane z = 1 and its inverse: Brown-Conrady, and Kannala-Brandt for fisheyes.

For JAX arrays, differentiable, and for numpy arrays, which stay numpy's in their own precision (host code is float64).
The leading axes of the coefficients are the first axes of the points (see `numerics.align_leading`).
"""

import jax
import numpy as np
from jaxtyping import Float

from rig3r_jax.geometry.numerics import AnyArray, align_leading, array_module, safe_divide

_NEWTON_STEPS = 8  # quadratic convergence: 5 are enough for lenses up to 120 degrees


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
    """Inverse of `distort_fisheye` where that grows with the angle, by a fixed number of Newton steps; radians."""
    xp = array_module(radius, distortion)

    def step(angle, target, coefficients):
        k1, k2, k3, k4 = xp.moveaxis(align_leading(_constant(coefficients), 1, angle.ndim), -1, 0)
        a2 = angle * angle
        slope = 1.0 + a2 * (3.0 * k1 + a2 * (5.0 * k2 + a2 * (7.0 * k3 + a2 * 9.0 * k4)))
        return angle - safe_divide(distort_fisheye(angle, coefficients) - target, slope)

    shape = np.broadcast_shapes(radius.shape, align_leading(distortion, 1, radius.ndim).shape[:-1])
    return _newton(step, xp.broadcast_to(radius, shape), distortion)


def _newton(step, target, coefficients):
    """The last step alone carries the derivative, which by the implicit function theorem is the solution's."""
    if array_module(target, coefficients) is np:
        solution = target
        for _ in range(_NEWTON_STEPS):
            solution = step(solution, target, coefficients)
        return solution
    fixed_target, fixed_coefficients = _constant(target), _constant(coefficients)
    solution = jax.lax.fori_loop(
        0, _NEWTON_STEPS - 1, lambda _, estimate: step(estimate, fixed_target, fixed_coefficients), fixed_target
    )
    return step(_constant(solution), target, coefficients)


def _constant(array: AnyArray) -> AnyArray:
    """Without derivative, as the Jacobian of a step may be: its own would multiply an error that ends at zero."""
    return jax.lax.stop_gradient(array) if isinstance(array, jax.Array) else array
