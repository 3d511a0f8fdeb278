"""Poses without a network, from clocks and calibration alone: what every table is to be read against."""

import numpy as np
from jaxtyping import Float

from rig3r_jax.evaluation.rows import CLOSED_FORM, FORWARD, SPEED
from rig3r_jax.geometry import rigid
from rig3r_jax.schema import Targets


def moving_forward(time: Float[np.ndarray, "*b v"], speed: float = SPEED) -> Float[np.ndarray, "*b v 4 4"]:
    """world_from_camera of identity rotations moving along z; `time` in seconds, `speed` in metres a second."""
    moved = np.broadcast_to(np.eye(4), (*time.shape, 4, 4)).copy()
    moved[..., 2, 3] = speed * time.astype(np.float64)
    return moved


def rig_moving_straight(
    time: Float[np.ndarray, "*b v"], rig_from_camera: Float[np.ndarray, "*b v 4 4"], speed: float = SPEED
) -> Float[np.ndarray, "*b v 4 4"]:
    """reference_from_camera of a rig that moves along its own z axis; the reference is the first camera.

    The rig frame is the front camera's (see schema), so forward is the rig's z axis.
    """
    world_from_camera = moving_forward(time, speed) @ np.asarray(rig_from_camera, np.float64)
    return rigid.invert(world_from_camera[..., :1, :, :]) @ world_from_camera


def identity_forward(targets: Targets, speed: float = SPEED) -> Float[np.ndarray, "b v 4 4"]:
    """reference_from_camera of `moving_forward`; of the targets it needs the times only."""
    return moving_forward(np.asarray(targets.time), speed)


def straight_rig(targets: Targets, speed: float = SPEED) -> Float[np.ndarray, "b v 4 4"]:
    """reference_from_camera of `rig_moving_straight`; of the targets it needs times and rig."""
    return rig_moving_straight(np.asarray(targets.time), targets.rig_from_camera, speed)


BASELINES = {
    FORWARD: identity_forward,
    CLOSED_FORM: straight_rig,
}
