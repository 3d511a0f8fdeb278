"""Cameras and points of pose encodings and depth maps."""

import numpy as np
import pytest

from rig3r_jax.geometry import pose_encoding, rigid
from rig3r_jax.geometry.camera import Brown, Fisheye, Pinhole
from rig3r_jax.geometry.depth_estimate import estimate_of_depth


def fov_encoding(world_from_camera, lens, height, width):
    camera_from_world = rigid.invert(world_from_camera).astype(np.float32)
    return np.asarray(pose_encoding.encode(camera_from_world, lens.intrinsics[None].astype(np.float32), height, width))


def turned(angle, center):
    """world_from_camera of a camera that is turned about its y axis."""
    sine, cosine = np.sin(angle), np.cos(angle)
    rotation = np.array([[cosine, 0.0, sine], [0.0, 1.0, 0.0], [-sine, 0.0, cosine]])
    return rigid.from_rotation_translation(rotation, np.asarray(center, float))


def test_true_encodings_and_depths_give_true_cameras_and_points():
    height, width = 24, 32
    pinhole = Pinhole(np.array([[30.0, 0.0, 16.0], [0.0, 28.0, 12.0], [0.0, 0.0, 1.0]]))
    world = [turned(0.3, [1.0, 2.0, 3.0]), turned(-0.2, [0.5, 0.0, 1.0])]
    encoding = np.concatenate([fov_encoding(pose[None], pinhole, height, width) for pose in world])
    depth = np.random.default_rng(0).uniform(1.0, 9.0, (2, height, width))
    found = estimate_of_depth(encoding, depth, np.ones_like(depth), [None, None])
    first_from_world = rigid.invert(world[0])
    np.testing.assert_allclose(found.world_from_camera, [np.eye(4), first_from_world @ world[1]], atol=2e-6)
    for row, lens in enumerate(found.lenses):
        np.testing.assert_allclose(lens.intrinsics, pinhole.intrinsics, rtol=1e-5)
        in_camera = rigid.apply(rigid.invert(found.world_from_camera[row]), found.points[row])
        np.testing.assert_allclose(in_camera[..., 2], depth[row], rtol=1e-6)
        u, v = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
        np.testing.assert_allclose(lens.project(in_camera), np.stack([u, v], axis=-1), atol=1e-6)
    assert found.error is None and found.covariance is None


@pytest.mark.parametrize(
    "lens",
    [
        Pinhole(np.array([[40.0, 0.0, 15.0], [0.0, 41.0, 13.0], [0.0, 0.0, 1.0]])),
        Brown(np.array([[40.0, 0.0, 15.0], [0.0, 41.0, 13.0], [0.0, 0.0, 1.0]]), np.array([0.1, 0.02, 0.001, 0, 0])),
        Fisheye(np.array([[12.0, 0.0, 16.0], [0.0, 12.0, 12.0], [0.0, 0.0, 1.0]]), np.array([0.02, 0.0, 0.0, 0.0])),
    ],
    ids=lambda lens: lens.kind,
)
def test_points_lie_on_the_rays_of_lenses_that_are_given(lens):
    """At the predicted depth; of a wide lens at the distance that the predicted pinhole gives."""
    height, width = 24, 32
    pinhole = Pinhole(np.array([[30.0, 0.0, 16.0], [0.0, 28.0, 12.0], [0.0, 0.0, 1.0]]))
    encoding = fov_encoding(np.eye(4)[None], pinhole, height, width)
    depth = np.random.default_rng(0).uniform(1.0, 9.0, (1, height, width))
    found = estimate_of_depth(encoding, depth, np.ones_like(depth), [lens])
    u, v = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    pixels = np.stack([u, v], axis=-1)
    assert found.lenses == (lens,)
    np.testing.assert_allclose(lens.project(found.points[0]), pixels, atol=1e-6)
    if lens.wide:
        distances = depth[0] / pinhole.rays(pixels)[..., 2]
        np.testing.assert_allclose(np.linalg.norm(found.points[0], axis=-1), distances, rtol=1e-5)
    else:
        np.testing.assert_allclose(found.points[0, ..., 2], depth[0], rtol=1e-6)


def test_angles_of_view_that_no_pinhole_has_are_held_and_counted(caplog):
    encoding = np.array([[0, 0, 0, 0, 0, 0, 1.0, 0.0, 4.0]])
    found = estimate_of_depth(encoding, np.ones((1, 4, 4)), np.ones((1, 4, 4)), [None])
    found.lenses[0].check("lens")
    assert "1 of 1 images: angles of view" in caplog.text
