"""Poses without a network: two predictions from clocks and calibration alone, to be printed beside every table."""

import numpy as np
from jaxtyping import Float

from rig3r_jax.evaluation.rows import CLOSED_FORM, FORWARD
from rig3r_jax.geometry import rigid
from rig3r_jax.schema import Targets

SPEED = 7.5  # metres a second, straight ahead


def identity_forward(targets: Targets, speed: float = SPEED) -> Float[np.ndarray, "b v 4 4"]:
    """reference_from_camera of identity rotations moving along the reference camera's z axis; needs time only."""
    return _translations(np.asarray(targets.time), speed)


def straight_rig(targets: Targets, speed: float = SPEED) -> Float[np.ndarray, "b v 4 4"]:
    """reference_from_camera of the true rig moving straight along its front camera's z axis; needs time and rig.

    The rig frame is the front camera's (see schema), so forward is the rig's z axis.
    """
    world_from_rig = _translations(np.asarray(targets.time), speed)
    world_from_camera = world_from_rig @ np.asarray(targets.rig_from_camera, np.float64)
    return rigid.invert(world_from_camera[:, :1]) @ world_from_camera


BASELINES = {
    FORWARD: identity_forward,
    CLOSED_FORM: straight_rig,
}


def _translations(time: np.ndarray, speed: float) -> np.ndarray:
    moved = np.broadcast_to(np.eye(4), (*time.shape, 4, 4)).copy()
    moved[..., 2, 3] = speed * time.astype(np.float64)
    return moved
