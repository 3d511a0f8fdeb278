"""Poses of a known rig from the poses of its cameras."""

import numpy as np
from jaxtyping import Float, Int

from rig3r_jax.geometry import rigid


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
