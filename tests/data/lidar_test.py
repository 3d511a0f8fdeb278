"""LiDAR points as a camera sees them: the nearest of a pixel, none that others hide, through any lens."""

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from rig3r_jax.data.lidar import project_points
from rig3r_jax.data.scene import RigCamera
from rig3r_jax.geometry.camera import Brown, Pinhole
from tests.data.scenes import rigid

INTRINSICS = np.array([[100.0, 0, 50], [0, 100, 40], [0, 0, 1]])
WORLD_FROM_CAMERA = rigid(Rotation.from_euler("y", 90, degrees=True).as_matrix(), np.array([1000, 2, 3]))


def project(points_camera, lens):
    points_world = points_camera @ WORLD_FROM_CAMERA[:3, :3].T + WORLD_FROM_CAMERA[:3, 3]
    return project_points(points_world, WORLD_FROM_CAMERA, RigCamera("front", lens, (80, 100), np.eye(4)))


def test_project_points_keeps_what_is_seen():
    points_camera = np.array(
        [
            [0, 0, 10],  # seen at (50, 40)
            [0.01, 0.01, 12],  # the same pixel, farther
            [0.3, 0, 30],  # another pixel close by, three times as far: hidden
            [6, 6, 30],  # farther away in the image: seen at (70, 60)
            [0, 0, -10],  # behind
            [5.01, 0, 10],  # right of the image
            [0, -4.01, 10],  # above it
        ]
    )
    depth = project(points_camera, Pinhole(INTRINSICS))
    np.testing.assert_allclose(depth.pixels, [[50, 40], [70, 60]], rtol=1e-6)
    np.testing.assert_allclose(depth.depths, [10, np.linalg.norm([6, 6, 30])], rtol=1e-6)
    nothing = project(points_camera[4:], Pinhole(INTRINSICS))
    assert nothing.pixels.shape == (0, 2) and nothing.depths.shape == (0,)


def test_points_pass_the_lens_as_opencv_has_it():
    points_camera = np.array([[2.0, 1.0, 10], [-3.0, 2.5, 20], [4.0, -2.0, 12]])
    distortion = np.array([-0.3, 0.1, 0.002, -0.001, 0.01])
    expected, _ = cv2.projectPoints(points_camera, np.zeros(3), np.zeros(3), INTRINSICS, distortion)
    depth = project(points_camera, Brown(INTRINSICS, distortion))
    order = np.argsort(depth.depths)
    np.testing.assert_allclose(depth.pixels[order], expected[[0, 2, 1], 0], rtol=1e-5)
    assert np.abs(expected[:, 0] - (points_camera @ INTRINSICS.T / points_camera[:, 2:])[:, :2]).max() > 0.5


def test_points_beyond_where_a_lens_folds_back_are_not_seen():
    """The polynomial of a camera of Waymo sends points 50 degrees off its axis back into the image."""
    distortion = np.array([0.03, -0.33, 0.0, 0.0, 0.0])
    points_camera = np.array([[12.0, 0, 10], [2.0, 1.0, 10], [-14.0, 1.0, 11]])
    depth = project(points_camera, Brown(INTRINSICS, distortion))
    assert (Brown(INTRINSICS, distortion).project(points_camera)[0] < 100).all()
    np.testing.assert_allclose(depth.depths, np.linalg.norm(points_camera[1:2], axis=1), rtol=1e-6)


def test_what_moves_stays_told_through_the_choice_of_points():
    points_camera = np.array([[0.0, 0, -5], [0, 0, 10], [0.001, 0, 9], [3, 1, 12], [50, 0, 10]])
    camera = RigCamera("front", Pinhole(INTRINSICS), (80, 100), np.eye(4))
    depth = project_points(points_camera, np.eye(4), camera, np.array([True, False, True, False, True]))
    np.testing.assert_allclose(depth.depths, np.linalg.norm(points_camera[[2, 3]], axis=1), rtol=1e-6)
    np.testing.assert_array_equal(depth.moving, [True, False])
