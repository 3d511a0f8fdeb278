"""One similarity between two rigs: predictions brought to a calibration, and what such a motion does to cameras."""

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial.transform import Rotation

from rig3r_jax.geometry import rigid
from rig3r_jax.geometry.rig_poses import median_points, median_rotations


def median_similarity(
    rig_from_camera: Float[np.ndarray, "v 4 4"],
    places: Float[np.ndarray, "k 4 4"],
    index: Int[np.ndarray, " v"],
    metric: bool,
) -> Float[np.ndarray, "4 4"]:
    """The similarity that brings images of cameras `index` to `places`, by medians, which a moved camera does not sway.

    Scaled rotation and shift; the scale is 1 where predictions are `metric`, or no two places lie apart.
    """
    count = len(places)
    one = np.zeros(count, np.int64)
    rotation = median_rotations(rig_from_camera[:, :3, :3], index, count)
    center = median_points(rig_from_camera[:, :3, 3], index, count)
    turn = median_rotations(places[:, :3, :3] @ np.swapaxes(rotation, 1, 2), one, 1)[0]
    turned, scale = center @ turn.T, 1.0
    if not metric:
        i, j = np.triu_indices(count, 1)
        here, there = (np.linalg.norm(points[i] - points[j], axis=1) for points in (turned, places[:, :3, 3]))
        if (there > 0).any() and (here[there > 0] > 0).all():
            scale = float(np.exp(np.median(np.log(there[there > 0] / here[there > 0]))))
    shift = median_points(places[:, :3, 3] - scale * turned, one, 1)[0]
    return rigid.from_rotation_translation(scale * turn, shift)


def scale_of(similarity: Float[np.ndarray, "4 4"]) -> float:
    """Of a scaled rotation with a shift."""
    return float(np.cbrt(np.linalg.det(similarity[:3, :3])))


def moved_cameras(
    similarity: Float[np.ndarray, "4 4"], rig_from_camera: Float[np.ndarray, "*v 4 4"]
) -> Float[np.ndarray, "*v 4 4"]:
    """The cameras after a similarity of the rig's space; they stay rigid."""
    turn = similarity[:3, :3] / scale_of(similarity)
    center = rig_from_camera[..., :3, 3] @ similarity[:3, :3].T + similarity[:3, 3]
    return rigid.from_rotation_translation(turn @ rig_from_camera[..., :3, :3], center)


def small_tangents(near_identity: Float[np.ndarray, "n 4 4"]) -> Float[np.ndarray, "n 6"]:
    """(v, w) of transforms that are nearly the identity, to first order."""
    turns = Rotation.from_matrix(near_identity[:, :3, :3]).as_rotvec()
    return np.concatenate([near_identity[:, :3, 3], turns], axis=1)


def motion_derivatives(places: Float[np.ndarray, "k 4 4"], metric: bool) -> Float[np.ndarray, "k 6 m"]:
    """Of every camera's tangent by the common motion (shift, turn, log scale) of the rig's space; without `metric`'s
    scale 6 of its numbers."""
    motion = np.zeros((len(places), 6, 6 if metric else 7))
    back = np.swapaxes(places[:, :3, :3], 1, 2)
    motion[:, :3, :3] = motion[:, 3:, 3:6] = back
    motion[:, :3, 3:6] = -back @ rigid.skew(places[:, :3, 3])
    if not metric:
        motion[:, :3, 6] = (back @ places[:, :3, 3:])[..., 0]
    return motion


def similarity_of(step: Float[np.ndarray, " m"]) -> Float[np.ndarray, "4 4"]:
    """Of a motion (shift, turn, log scale); the scale is 1 where there are 6 numbers."""
    scale = float(np.exp(step[6])) if len(step) > 6 else 1.0
    return rigid.from_rotation_translation(scale * Rotation.from_rotvec(step[3:6]).as_matrix(), step[:3])
