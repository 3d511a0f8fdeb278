"""A discovered rig in the frame of cameras whose places are calibrated: these are held, the others follow."""

import dataclasses
import typing
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from rig3r_jax.geometry import rigid
from rig3r_jax.geometry.rig_motion import (
    median_similarity,
    motion_derivatives,
    moved_cameras,
    scale_of,
    similarity_of,
    small_tangents,
)
from rig3r_jax.geometry.rig_poses import lie_apart

if typing.TYPE_CHECKING:
    from rig3r_jax.geometry.rig_discovery import DiscoveredRig

_ROUNDS = 10  # of Gauss-Newton
_NO_SPREAD = 1e-3  # lengths and radians alike, of means whose spread is not known


def anchored(rig: "DiscoveredRig", places: Mapping[int, Float[np.ndarray, "4 4"]], metric: bool) -> "DiscoveredRig":
    """The rig in the frame and unit of calibrated places, by camera, which it has exactly.

    The similarity is that of the least squares of the calibrated cameras' means by their covariances; its own
    covariance is part of that of every other camera.

    Args:
        rig: in the frame and unit of the predictions.
        places: rig_from_camera of some cameras.
        metric: the predictions have the unit of the places; else two of these must lie apart, or all be in the origin
            of the frame, and the unit stays that of the predictions.

    Raises ValueError where the places do not tell the unit.
    """
    rows = np.array(sorted(places))
    target = rigid.nearest_rigid(np.stack([places[row] for row in rows]))
    if not metric and not lie_apart(target):
        if target[:, :3, 3].any():
            raise ValueError(
                "calibrated cameras with images are all in one place, off the frame's origin: to tell how many metres "
                "the predictions' unit has takes two places that lie apart; calibrate another camera, or give the scale"
            )
        metric = True
    similarity, covariance = _fit(rig, rows, target, metric)
    units = np.repeat([scale_of(similarity), 1.0], 3)
    moved = moved_cameras(similarity, rig.rig_from_camera)
    by_motion = motion_derivatives(moved, metric)
    covariances = rig.covariance * np.outer(units, units) + by_motion @ covariance @ np.swapaxes(by_motion, 1, 2)
    moved[rows], covariances[rows] = target, 0.0
    return dataclasses.replace(
        rig,
        rig_from_camera=moved,
        covariance=covariances,
        sigma_length=rig.sigma_length * units[0],
        rig_from_predicted=similarity,
        calibrated=np.isin(np.arange(len(moved)), rows),
    )


def _fit(
    rig: "DiscoveredRig", rows: np.ndarray, target: np.ndarray, metric: bool
) -> tuple[Float[np.ndarray, "4 4"], Float[np.ndarray, "m m"]]:
    """The similarity and the covariance of its motion in the calibration's frame."""
    means = rig.rig_from_camera[rows]
    similarity = median_similarity(means, target, np.arange(len(rows)), metric)
    for _ in range(_ROUNDS):
        units = np.repeat([scale_of(similarity), 1.0], 3)
        spread = rig.covariance[rows] * np.outer(units, units)
        spread = np.where(np.isfinite(spread), spread, _NO_SPREAD**2 * np.eye(6))
        moved = moved_cameras(similarity, means)
        motion, weight = motion_derivatives(moved, metric), np.linalg.inv(spread)
        off = small_tangents(rigid.invert(moved) @ target)
        normal = np.einsum("kia,kij,kjb->ab", motion, weight, motion)
        covariance = np.linalg.inv(normal)
        step = covariance @ np.einsum("kia,kij,kj->a", motion, weight, off)
        similarity = similarity_of(step) @ similarity
        if np.abs(step).max() < 1e-12:
            break
    return similarity, covariance
