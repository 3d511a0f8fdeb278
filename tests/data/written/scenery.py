"""What writers of small data sets share: rotations by their own arithmetic, images, and what they expect to be read."""

import dataclasses
import math
from pathlib import Path

import cv2
import numpy as np

FORWARD_LEFT_UP = np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]])  # cv axes (right, down, forward) of a vehicle's


def turned(axis, angle):
    """Rodrigues' rotation about a unit axis by radians, written out."""
    x, y, z = axis
    c, s = math.cos(angle), math.sin(angle)
    return np.array(
        [
            [c + x * x * (1 - c), x * y * (1 - c) - z * s, x * z * (1 - c) + y * s],
            [y * x * (1 - c) + z * s, c + y * y * (1 - c), y * z * (1 - c) - x * s],
            [z * x * (1 - c) - y * s, z * y * (1 - c) + x * s, c + z * z * (1 - c)],
        ]
    )


def quat_wxyz(rotation):
    """By the trace, of rotations of less than 180 degrees; the largest of the four is taken first."""
    r = rotation
    w, x = 1 + r[0, 0] + r[1, 1] + r[2, 2], 1 + r[0, 0] - r[1, 1] - r[2, 2]
    y, z = 1 - r[0, 0] + r[1, 1] - r[2, 2], 1 - r[0, 0] - r[1, 1] + r[2, 2]
    largest = max(w, x, y, z)
    s = 2 * math.sqrt(largest)
    if largest == w:
        return (s / 4, (r[2, 1] - r[1, 2]) / s, (r[0, 2] - r[2, 0]) / s, (r[1, 0] - r[0, 1]) / s)
    if largest == x:
        return ((r[2, 1] - r[1, 2]) / s, s / 4, (r[0, 1] + r[1, 0]) / s, (r[0, 2] + r[2, 0]) / s)
    if largest == y:
        return ((r[0, 2] - r[2, 0]) / s, (r[0, 1] + r[1, 0]) / s, s / 4, (r[1, 2] + r[2, 1]) / s)
    return ((r[1, 0] - r[0, 1]) / s, (r[0, 2] + r[2, 0]) / s, (r[1, 2] + r[2, 1]) / s, s / 4)


def pose(rotation, position):
    """4x4 of a camera's or vehicle's axes and place in the world."""
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation, position
    return matrix


@dataclasses.dataclass(frozen=True)
class Taken:
    """One image as it was written: where it was taken, and where points of the world are in it."""

    camera: str
    time: float
    position: np.ndarray  # of the camera in the writer's world
    axes: np.ndarray  # (3, 3): columns are the camera's right, down and forward in the writer's world
    points: np.ndarray  # (n, 3) in the writer's world, in front of the camera
    pixels: np.ndarray  # (n, 2), the centre of the first pixel at 0.5
    sequence: str = ""  # part of the names of the scenes that hold it, where others have the same times


def pinhole_pixels(points, position, axes, fx, fy, cx, cy):
    """Where points are in the image of a pinhole, by its own sums."""
    pixels = []
    for point in points:
        right, down, forward = (float(np.dot(axes[:, i], point - position)) for i in range(3))
        assert forward > 0.1
        pixels.append((fx * right / forward + cx, fy * down / forward + cy))
    return np.array(pixels)


def points_before(position, axes, distance=8.0):
    """Some points in front of a camera."""
    offsets = [(0.1, 0.2, 1.0), (-0.3, 0.1, 1.2), (0.25, -0.2, 0.8), (0.0, 0.0, 1.0)]
    return np.array([position + axes @ (distance * np.array(offset)) for offset in offsets])


@dataclasses.dataclass(frozen=True)
class Written:
    """A small data set on disk."""

    root: Path
    taken: list[Taken]
    front: str


def write_image(path, size, shade=90):
    """A grey image with a gradient, as the suffix says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.full((*size, 3), shade % 256, np.uint8)
    image[:, :, 0] = np.arange(size[1]) % 256
    assert cv2.imwrite(str(path), image)
