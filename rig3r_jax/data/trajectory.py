"""Where a body was at times between those of its trajectory."""

import numpy as np
from jaxtyping import Bool, Float
from scipy.spatial.transform import Rotation, Slerp

from rig3r_jax.geometry import rigid


def poses_at(
    times: Float[np.ndarray, " n"],
    pose_times: Float[np.ndarray, " m"],
    world_from_body: Float[np.ndarray, "m 4 4"],
    longest_gap: float,
) -> tuple[Float[np.ndarray, "n 4 4"], Bool[np.ndarray, " n"]]:
    """world_from_body at `times`, and which of them are known: those between two poses at most `longest_gap` seconds
    apart, and those within half of that of a pose. The others are the identity.

    Positions are interpolated linearly, rotations on the shortest arc; before the first and after the last pose, and in
    wider gaps, the nearest pose stands. Poses need not be sorted; of equal times the first counts.
    """
    poses, has_pose = np.tile(np.eye(4), (len(times), 1, 1)), np.zeros(len(times), bool)
    if not len(times) or not len(pose_times):
        return poses, has_pose
    pose_times, first = np.unique(pose_times, return_index=True)
    world_from_body = world_from_body[first]
    after = np.clip(np.searchsorted(pose_times, times), 1, max(len(pose_times) - 1, 1)) % len(pose_times)
    before = np.maximum(after - 1, 0)
    nearest = np.where(np.abs(times - pose_times[before]) <= np.abs(times - pose_times[after]), before, after)
    inside = (pose_times[before] <= times) & (times <= pose_times[after])
    between = inside & (pose_times[after] - pose_times[before] <= longest_gap)
    has_pose = between | (np.abs(times - pose_times[nearest]) <= longest_gap / 2)
    poses[has_pose] = world_from_body[nearest[has_pose]]
    if between.any() and len(pose_times) > 1:
        chosen = times[between]
        share = (chosen - pose_times[before[between]]) / (pose_times[after] - pose_times[before])[between]
        start, end = world_from_body[before[between], :3, 3], world_from_body[after[between], :3, 3]
        rotations = Slerp(pose_times, Rotation.from_matrix(world_from_body[:, :3, :3]))(chosen).as_matrix()
        poses[between] = rigid.from_rotation_translation(rotations, start + share[:, None] * (end - start))
    return poses, has_pose
