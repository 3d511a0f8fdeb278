"""Boxes around what was labelled: which LiDAR points lie on what moves."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from rig3r_jax.geometry import rigid

# Metres per second from which a box is taken as moving: boxes of parked cars wander by less from sweep to sweep.
MOVING_SPEED = 0.5
_MARGIN = 0.1  # metres beyond each face: labellers draw boxes tight


@dataclasses.dataclass(frozen=True)
class Box:
    """A cuboid around a thing at one time."""

    world_from_box: Float[np.ndarray, "4 4"]  # origin in its middle, x forward, y left, z up
    size: tuple[float, float, float]  # metres along x, y, z: length, width, height
    moving: bool


def points_on_moving(points_world: Float[np.ndarray, "n 3"], boxes: Sequence[Box]) -> Bool[np.ndarray, " n"]:
    """Whether each point lies in a box that moves, or a little outside its faces."""
    on_moving = np.zeros(len(points_world), bool)
    for box in boxes:
        if box.moving:
            points_box = rigid.apply(rigid.invert(box.world_from_box), points_world)
            on_moving |= (np.abs(points_box) <= np.array(box.size) / 2 + _MARGIN).all(axis=1)
    return on_moving
