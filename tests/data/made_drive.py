"""A drive that is made up, for writers of driving formats: where the vehicle was, what its cameras and LiDAR saw.

Nothing of the package is used: poses are products of NumPy's matrices, pixels come from OpenCV.
"""

import dataclasses

import cv2
import numpy as np
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from rig3r_jax.data.frame_bytes import decode_depth

SIZE = (240, 320)  # of images
INTRINSICS = np.array([[180.0, 0, 158.5], [0, 185.0, 121.25], [0, 0, 1]])  # the centre of the first pixel at 0
ORIGIN = np.array([41234.5, -9876.25, 88.0])  # metres: far from where float32 is exact
# Columns: right, down and forward of a camera in a frame of x forward, y left, z up.
FORWARD_LEFT_UP_FROM_CAMERA = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])


def matrix(rotation, translation):
    out = np.eye(4)
    out[:3, :3], out[:3, 3] = rotation, translation
    return out


def world_from_vehicle(time):
    """Along a bend at 10 m/s, a little up, nodding."""
    yaw = 0.4 * time + 0.7
    rotation = Rotation.from_euler("ZYX", [yaw, 0.02 * np.sin(3 * time), 0.01]).as_matrix()
    bend = np.array([np.sin(yaw) - np.sin(0.7), np.cos(0.7) - np.cos(yaw), 0.0]) * 10 / 0.4
    return matrix(rotation, ORIGIN + bend + [0, 0, 0.3 * time])


def vehicle_from_camera(yaw_degrees, where=(1.5, 0.1, 1.6)):
    """A camera that looks to the left of forward by `yaw_degrees`, slightly down."""
    turn = Rotation.from_euler("ZYX", [yaw_degrees, 1.0, -0.5], degrees=True).as_matrix()
    return matrix(turn @ FORWARD_LEFT_UP_FROM_CAMERA, where)


def static_points(count=80, seed=3):
    """Points around the vehicle's way, so near to each other in distance that none hides another."""
    rng = np.random.default_rng(seed)
    angles, heights = rng.uniform(-np.pi, np.pi, count), rng.uniform(-3, 4, count)
    return ORIGIN + np.stack([30 * np.cos(angles), 30 * np.sin(angles), heights], axis=1)


def image_png(value, size=SIZE):
    return cv2.imencode(".png", np.full((*size, 3), value % 256, np.uint8))[1].tobytes()


def image_jpeg(value, size=SIZE):
    return cv2.imencode(".jpg", np.full((*size, 3), value % 256, np.uint8))[1].tobytes()


def opencv_pixels(points_camera, intrinsics=INTRINSICS, distortion=None):
    """(u, v) with the centre of the first pixel at 0, and which points the image shows."""
    pixels, _ = cv2.projectPoints(points_camera, np.zeros(3), np.zeros(3), intrinsics, distortion)
    return pixels[:, 0]


@dataclasses.dataclass
class Taken:
    """An image: what a writer says of it."""

    world_from_camera: np.ndarray
    time: float
    project: object = opencv_pixels  # points_camera -> (u, v) with the centre of the first pixel at `centre`
    centre: float = 0.0
    size: tuple = SIZE
    wide: bool = False
    widest: float = 1.2  # tangent of the angle from the axis up to which a lens that is not wide holds

    def pixels(self, points_world):
        """(u, v) with the centre of the first pixel at 0.5, distances, and which points the image shows."""
        points_camera = (np.linalg.inv(self.world_from_camera) @ np.c_[points_world, np.ones(len(points_world))].T).T
        points_camera = np.ascontiguousarray(points_camera[:, :3])
        pixels = self.project(points_camera) + (0.5 - self.centre)
        distances = np.linalg.norm(points_camera, axis=1)
        shown = ((pixels >= 0) & (pixels < self.size[::-1])).all(axis=1)
        if not self.wide:
            rays = points_camera[:, :2] / points_camera[:, 2:]
            shown &= (points_camera[:, 2] > 0.5) & (np.linalg.norm(rays, axis=1) < self.widest)
        return pixels, distances, shown


def check_frames(scene, taken, points, lidar=None, moving=None, tolerance=1e-6, lidar_metres=1e-3):
    """Every frame is where its writer put it: `taken` by (camera, step), points (n, 3) world, LiDAR points likewise.

    Pixels within `tolerance`, LiDAR, which files keep in float32, within `lidar_metres`. Returns how many points were
    compared.
    """
    front = scene.cameras[scene.front_camera].name
    first = next(frame for frame in scene.frames if scene.cameras[frame.camera].name == front)
    base_from_world = np.linalg.inv(taken[front, first.step].world_from_camera)
    compared = 0
    for frame in scene.frames:
        camera = scene.cameras[frame.camera]
        truth = taken[camera.name, frame.step]
        assert abs(frame.time - truth.time) < 2e-6, (camera.name, frame.step)
        assert np.abs(frame.world_from_camera[:3, 3]).max() < 1000
        placed = scene.source_from_world @ frame.world_from_camera
        np.testing.assert_allclose(placed, truth.world_from_camera, atol=1e-5, rtol=0)
        pixels, _, shown = truth.pixels(points)
        points_base = points @ base_from_world[:3, :3].T + base_from_world[:3, 3]
        camera_from_base = np.linalg.inv(frame.world_from_camera)
        points_camera = points_base @ camera_from_base[:3, :3].T + camera_from_base[:3, 3]
        found = camera.lens.project(points_camera[shown])
        np.testing.assert_allclose(found, pixels[shown], atol=tolerance, rtol=0)
        compared += int(shown.sum())
        if lidar is not None:
            _check_depth(decode_depth(frame.depth), truth, lidar, moving, lidar_metres)
    assert compared > 0
    return compared


def _check_depth(depth, truth, lidar, moving, metres):
    """Depths are those of points that the image shows, of nearly all: a pixel keeps one point."""
    pixels, distances, shown = truth.pixels(lidar)
    assert 0.9 * shown.sum() <= len(depth.depths) <= shown.sum() > 0
    scale = 30  # pixels per metre: nearly that of the nearest points
    points = np.c_[pixels / scale, distances][shown]
    off, which = cKDTree(points).query(np.c_[depth.pixels / scale, depth.depths])
    assert off.max() < metres and len(set(which)) == len(which)
    if moving is None:
        assert depth.moving is None
    else:
        np.testing.assert_array_equal(depth.moving, moving[shown][which])
