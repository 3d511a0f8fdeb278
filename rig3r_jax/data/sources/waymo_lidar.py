"""Waymo's range images as points: rows are beams from the highest, columns turn clockwise from behind the vehicle.

After waymo_open_dataset/utils/range_image_utils.py. The top LiDAR's images have the vehicle's pose for every pixel,
by the time at which it was taken; the others were moved to the frame's pose before they were stored.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from rig3r_jax.data.scene import BadRecord
from rig3r_jax.geometry import rigid


class LidarCalibration(NamedTuple):
    """Of one LiDAR."""

    vehicle_from_lidar: Float[np.ndarray, "4 4"]
    inclinations: Float[np.ndarray, " n"]  # radians, upwards, of the beams from the lowest; empty: even in the range
    inclination_range: tuple[float, float]  # radians, lowest and highest


class RangeImage(NamedTuple):
    """First returns of one turn."""

    lidar: int  # LaserName
    values: Float[np.ndarray, "h w c"]  # metres first; 0 or less: no return
    poses: Float[np.ndarray, "h w 6"] | None = None  # roll pitch yaw x y z of world_from_vehicle


def points_world(
    image: RangeImage, lidar: LidarCalibration, world_from_vehicle: Float[np.ndarray, "4 4"], where: str
) -> Float[np.ndarray, "n 3"]:
    """The points of an image's returns, in float64; BadRecord naming `where` if its shape is not the calibration's."""
    ranges = image.values[..., 0]
    height, width = ranges.shape
    if len(lidar.inclinations) not in (0, height):
        raise BadRecord(f"{where}: LiDAR {image.lidar} has {height} rows and {len(lidar.inclinations)} inclinations")
    rows, columns = np.nonzero(ranges > 0)
    distances = ranges[rows, columns].astype(np.float64)
    up = _inclinations(lidar, height)[::-1][rows]
    turned = np.arctan2(lidar.vehicle_from_lidar[1, 0], lidar.vehicle_from_lidar[0, 0])
    left = np.pi * (1 - (2 * columns + 1) / width) - turned
    directions = np.stack([np.cos(left) * np.cos(up), np.sin(left) * np.cos(up), np.sin(up)], axis=1)
    points_vehicle = rigid.apply(lidar.vehicle_from_lidar, distances[:, None] * directions)
    if image.poses is None:
        return rigid.apply(world_from_vehicle, points_vehicle)
    if image.poses.shape[:2] != ranges.shape:
        raise BadRecord(f"{where}: LiDAR {image.lidar} has {ranges.shape} pixels and {image.poses.shape[:2]} poses")
    poses = image.poses[rows, columns].astype(np.float64)
    return _turned(points_vehicle, *poses[:, :3].T) + poses[:, 3:]


def _inclinations(lidar: LidarCalibration, height: int) -> np.ndarray:
    """Of the rows from the lowest."""
    if len(lidar.inclinations):
        return np.asarray(lidar.inclinations, np.float64)
    low, high = lidar.inclination_range
    return low + (np.arange(height) + 0.5) / height * (high - low)


def _turned(points: np.ndarray, roll: np.ndarray, pitch: np.ndarray, yaw: np.ndarray) -> np.ndarray:
    """Rz(yaw) Ry(pitch) Rx(roll) of every point."""
    x, y, z = points.T
    y, z = np.cos(roll) * y - np.sin(roll) * z, np.sin(roll) * y + np.cos(roll) * z
    x, z = np.cos(pitch) * x + np.sin(pitch) * z, -np.sin(pitch) * x + np.cos(pitch) * z
    x, y = np.cos(yaw) * x - np.sin(yaw) * y, np.sin(yaw) * x + np.cos(yaw) * y
    return np.stack([x, y, z], axis=1)
