"""Poses of known rigs from the poses of their cameras, and means of poses."""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float, Int

from rig3r_jax.geometry import rigid

_ROUNDS = 15  # of reweighting, in which a mean comes near the median
_NEAR = 0.02  # of the mean distance: nearer values all weigh the same


def world_from_rigs(
    world_from_camera: Float[np.ndarray, "v 4 4"],
    rig_from_camera: Float[np.ndarray, "v 4 4"],
    step: Int[np.ndarray, " v"],
) -> dict[int, Float[np.ndarray, "4 4"]]:
    """For each step the pose of the rig that is nearest to what its cameras say, in one length unit; float64.

    The rotation is the chordal mean (Hartley et al. 2013, "Rotation Averaging", section 5.3) of what each camera says;
    with it the position is the mean over the cameras, the least squares of their centres.
    """
    poses = {}
    for number in np.unique(step).tolist():
        rows = step == number
        rotation_rig = rigid.invert(rig_from_camera[rows])[:, :3, :3]
        rotation = rigid.nearest_rotation(np.sum(world_from_camera[rows, :3, :3] @ rotation_rig, axis=0))
        centers = world_from_camera[rows, :3, 3] - rig_from_camera[rows, :3, 3] @ rotation.T
        poses[number] = rigid.from_rotation_translation(rotation, centers.mean(axis=0))
    return poses


def median_rotations(
    rotations: Float[np.ndarray, "n 3 3"], group: Int[np.ndarray, " n"], count: int
) -> Float[np.ndarray, "g 3 3"]:
    """The rotation of each group of least summed chordal distance: gross errors of less than half do little.

    By reweighted chordal means (Hartley et al. 2013, "Rotation Averaging", section 5.4, there on angles). NaN-free:
    a group without members gets the identity.
    """
    weights = np.ones(len(group))
    for _ in range(_ROUNDS):
        sums = np.zeros((count, 3, 3))
        np.add.at(sums, group, weights[:, None, None] * rotations)
        means = rigid.nearest_rotation(sums + 1e-300 * np.eye(3))
        weights = _reweighted(np.linalg.norm(rotations - means[group], axis=(-2, -1)), group, count)
    return means


def median_points(
    points: Float[np.ndarray, "n 3"], group: Int[np.ndarray, " n"], count: int
) -> Float[np.ndarray, "g 3"]:
    """The geometric median of each group (Weiszfeld 1937); zeros for a group without members."""
    weights = np.ones(len(group))
    for _ in range(_ROUNDS):
        sums, total = np.zeros((count, 3)), np.bincount(group, weights, count)
        np.add.at(sums, group, weights[:, None] * points)
        means = sums / np.where(total > 0, total, 1.0)[:, None]
        weights = _reweighted(np.linalg.norm(points - means[group], axis=-1), group, count)
    return means


def median_poses(
    world_from_camera: Float[np.ndarray, "n 4 4"],
    body_from_camera: Float[np.ndarray, "n 4 4"],
    body: Int[np.ndarray, " n"],
    count: int,
) -> Float[np.ndarray, "g 4 4"]:
    """`world_from_rigs` of the bodies 0..count-1 by medians in place of means."""
    turned = world_from_camera[:, :3, :3] @ np.swapaxes(body_from_camera[:, :3, :3], -1, -2)
    rotation = median_rotations(turned, body, count)
    arms = (rotation[body] @ body_from_camera[:, :3, 3:])[..., 0]
    return rigid.from_rotation_translation(rotation, median_points(world_from_camera[:, :3, 3] - arms, body, count))


def lie_apart(places: Iterable[Float[np.ndarray, "4 4"]]) -> bool:
    """Whether any two of the places differ, so that they say how long a unit is."""
    centers = np.array([place[:3, 3] for place in places]).reshape(-1, 3)
    return bool((centers != centers[:1]).any())


def _reweighted(distance: Float[np.ndarray, " n"], group: Int[np.ndarray, " n"], count: int) -> Float[np.ndarray, " n"]:
    """Inverse distances in units of the group's mean one, bounded."""
    members = np.maximum(np.bincount(group, minlength=count), 1)
    mean = np.bincount(group, distance, count) / members
    return 1.0 / np.maximum(distance / np.where(mean > 0, mean, 1.0)[group], _NEAR)
