"""Lenses that are projected by way of a sphere, brought to the nearest Kannala-Brandt lens: `nearest_fisheye`.

Double sphere: Usenko, Demmel and Cremers 2018, equations 40 to 42. Enhanced unified: Khomutenko, Garcia and Martinet
2016, equation 8. Both are symmetric about the axis: a profile is the distance from the principal point, in focal
lengths, of a direction by its angle from the axis. Host float64.
"""

import typing
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from rig3r_jax.geometry.camera import Fisheye

Profile = Callable[[Float[np.ndarray, " n"]], Float[np.ndarray, " n"]]  # of radians; not finite where nothing is seen
_GRID = 4096  # angles at which the reach of a profile is looked for
_NODES = 512  # angles of the fit
_POWERS = np.array([1, 3, 5, 7, 9])
_LEAST_SLOPE = 0.1  # of that on the axis: where a profile grows less, it is at the rim of what it shows


def double_sphere(xi: float, alpha: float) -> Profile:
    """That of two unit spheres, xi apart, and a plane by alpha."""

    def profile(angle: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        along = xi + np.cos(angle)
        return _over(np.sin(angle), alpha * np.hypot(np.sin(angle), along) + (1 - alpha) * along)

    return profile


def enhanced_unified(alpha: float, beta: float) -> Profile:
    """That of an ellipsoid by beta and a plane by alpha; of beta = 1 Mei's model without distortion."""

    def profile(angle: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        distance = np.sqrt(beta * np.sin(angle) ** 2 + np.cos(angle) ** 2)
        return _over(np.sin(angle), alpha * distance + (1 - alpha) * np.cos(angle))

    return profile


@typing.no_type_check
def nearest_fisheye(
    profile: Profile, intrinsics: Float[np.ndarray, "3 3"], size: tuple[int, int]
) -> tuple[Fisheye, float]:
    """The Kannala-Brandt lens whose pixels are nearest, by least squares, to those of a profile on an image.

    Args:
        profile: of the lens.
        intrinsics: its focal lengths and principal point, pixels.
        size: height and width of the image.

    Returns:
        The lens, whose focal lengths are its own, and the largest distance of a pixel of it from where the profile has
        it, at any angle that the image shows, but for the rim of a profile that ends within it; pixels.

    Raises:
        ValueError: the profile shows nothing, or no such lens grows with the angle as far as the image goes.
    """
    focal, centre = intrinsics[[0, 1], [0, 1]], intrinsics[:2, 2]
    corners = np.array([(u, v) for u in (0, size[1]) for v in (0, size[0])])
    farthest = np.linalg.norm((corners - centre) / focal, axis=1).max()
    angles = np.linspace(0, np.pi, _GRID)
    radii = profile(angles)
    steps = np.diff(np.where(np.isfinite(radii), radii, 0.0))
    grows = np.isfinite(radii[1:]) & (steps > _LEAST_SLOPE * steps[0]) & (radii[:-1] < farthest)
    reach = angles[len(grows) if grows.all() else int(np.argmin(grows))]
    if reach <= 0:
        raise ValueError("the lens shows nothing on its axis")
    nodes = reach * (1 - np.cos(np.linspace(0, np.pi, _NODES))) / 2  # dense at both ends: errors spread evenly
    table = nodes[:, None] ** _POWERS
    weights, *_ = np.linalg.lstsq(table, profile(nodes), rcond=None)
    if weights[0] <= 0 or (np.diff(table @ weights) <= 0).any():
        raise ValueError("no lens of Kannala and Brandt grows with the angle as it does")
    residual = float(np.abs(table @ weights - profile(nodes)).max() * focal.max())
    matrix = np.array(intrinsics, np.float64)
    matrix[[0, 1], [0, 1]] = focal * weights[0]
    return Fisheye(matrix, weights[1:] / weights[0]), residual


def _over(above: Float[np.ndarray, " n"], below: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Infinite where the plane is not reached."""
    return np.where(below > 0, above / np.where(below > 0, below, 1.0), np.inf)
