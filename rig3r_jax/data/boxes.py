"""Points inside oriented boxes: which LiDAR returns are of what moves."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from rig3r_jax.geometry import rigid

_MARGIN = 0.1  # metres that a box is grown by to every side: boxes are drawn tight


@dataclasses.dataclass(frozen=True)
class Box:
    """An oriented box around an object."""

    frame_from_box: np.ndarray  # (4, 4) float64, metres; the box's centre is its origin
    size: tuple[float, float, float]  # along the box's x, y and z


def upright_pose(centre: Float[np.ndarray, "3"], yaw: float) -> Float[np.ndarray, "4 4"]:
    """frame_from_box of a box with its centre (metres) there, turned by yaw (radians, from x to y) about z alone."""
    cos, sin = np.cos(yaw), np.sin(yaw)
    return rigid.from_rotation_translation(np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]]), centre)


def inside_any(points: Float[np.ndarray, "n 3"], boxes: Sequence[Box]) -> Bool[np.ndarray, " n"]:
    """Whether each point, of the frame that the boxes are in, lies in one of them."""
    inside = np.zeros(len(points), bool)
    for box in boxes:
        half = np.asarray(box.size) / 2 + _MARGIN
        centre = box.frame_from_box[:3, 3]
        near = np.flatnonzero((np.abs(points - centre) <= np.linalg.norm(half)).all(axis=1))
        points_box = rigid.apply(rigid.invert(box.frame_from_box), points[near])
        inside[near[(np.abs(points_box) <= half).all(axis=1)]] = True
    return inside
