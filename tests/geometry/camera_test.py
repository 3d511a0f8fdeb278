"""Pixels and rays: conventions by example, lens models by round trip and against OpenCV."""

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rig3r_jax.geometry import camera

INTRINSICS = np.array([[310.0, 1.5, 322.0], [0.0, 305.0, 244.0], [0.0, 0.0, 1.0]])
BROWN = np.array([-0.28, 0.09, 0.0012, -0.0007, -0.012])
FISHEYE = np.array([0.021, -0.013, 0.004, -0.0006])


def single(array):
    return jnp.asarray(np.asarray(array, np.float32))


def points_in_front(count=200, seed=0, field=0.9):
    rng = np.random.default_rng(seed)
    depth = rng.uniform(0.5, 50.0, (count, 1))
    return np.concatenate([rng.uniform(-field, field, (count, 2)) * depth, depth], axis=-1)


def test_pixel_centers_are_u_right_v_down_at_one_half():
    centers = camera.pixel_centers(3, 5)
    assert centers.shape == (3, 5, 2)
    np.testing.assert_array_equal(centers[0, 0], [0.5, 0.5])
    np.testing.assert_array_equal(centers[2, 4], [4.5, 2.5])


def test_cell_centers_are_the_means_of_their_pixels():
    cells, pixels = camera.cell_centers(6, 8, 3, 2), camera.pixel_centers(6, 8)
    np.testing.assert_allclose(cells, pixels.reshape(3, 2, 2, 4, 2).mean((1, 3)))


@pytest.mark.parametrize(("size", "count", "expected"), [(6, 3, [1, 3, 5]), (6, 2, [1, 4]), (4, 4, [0, 1, 2, 3])])
def test_stride_pixels(size, count, expected):
    np.testing.assert_array_equal(camera.stride_pixels(size, count), expected)


def test_stride_pixels_refuses_counts_that_do_not_divide():
    with pytest.raises(ValueError, match="3 points along 8 pixels"):
        camera.stride_pixels(8, 3)


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
def test_project_inverts_rays_for_every_batch(batch):
    rng = np.random.default_rng(0)
    intrinsics = single(np.broadcast_to(INTRINSICS, (*batch, 3, 3)) * (1 + 0.1 * rng.random((*batch, 1, 1))))
    intrinsics = intrinsics.at[..., 2, 2].set(1.0)
    pixels = single(rng.uniform(0, 600, (*batch, 4, 5, 2)))
    directions = jax.jit(camera.rays)(pixels, intrinsics)
    np.testing.assert_allclose(np.linalg.norm(directions, axis=-1), 1.0, atol=1e-6)
    np.testing.assert_allclose(camera.project(7.0 * directions, intrinsics), pixels, atol=2e-3, rtol=1e-6)


def test_project_is_finite_behind_and_beside_the_camera():
    points = single([[1.0, 1, 0], [0, 0, 0], [1, 1, -2]])
    value, gradient = jax.value_and_grad(lambda p: camera.project(p, single(INTRINSICS)).sum())(points)
    assert np.isfinite(value) and np.isfinite(gradient).all()


def test_brown_agrees_with_opencv():
    points, no_skew = points_in_front(), INTRINSICS * (1 - np.eye(3, k=1))
    theirs = cv2.projectPoints(points, np.zeros(3), np.zeros(3), no_skew, BROWN)[0][:, 0]
    with jax.enable_x64(True):
        ours = camera.project_brown(jnp.asarray(points), jnp.asarray(no_skew), jnp.asarray(BROWN))
    np.testing.assert_allclose(ours, theirs, atol=1e-9)


def test_fisheye_agrees_with_opencv():
    points, no_skew = points_in_front(field=2.5), INTRINSICS * (1 - np.eye(3, k=1))
    theirs = cv2.fisheye.projectPoints(points[:, None], np.zeros(3), np.zeros(3), no_skew, FISHEYE)[0][:, 0]
    with jax.enable_x64(True):
        ours = camera.project_fisheye(jnp.asarray(points), jnp.asarray(no_skew), jnp.asarray(FISHEYE))
    np.testing.assert_allclose(ours, theirs, atol=1e-9)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-6), ("float64", 1e-13)])
def test_rays_of_distorted_pixels_meet_the_points(dtype, tolerance):
    with jax.enable_x64(dtype == "float64"):
        k, brown, fisheye = (jnp.asarray(a.astype(dtype)) for a in (INTRINSICS, BROWN, FISHEYE))
        front = jnp.asarray(points_in_front(field=0.7).astype(dtype))
        pairs = [(front, jax.jit(camera.rays_brown)(camera.project_brown(front, k, brown), k, brown))]
        around = jnp.asarray(np.random.default_rng(1).normal(size=(300, 3)).astype(dtype))
        around = around[around[:, 2] > -0.2 * jnp.linalg.norm(around, axis=-1)]  # a field of 200 degrees
        pairs += [(around, jax.jit(camera.rays_fisheye)(camera.project_fisheye(around, k, fisheye), k, fisheye))]
        for points, directions in pairs:
            assert directions.dtype == dtype
            exact = np.asarray(points, np.float64) / np.linalg.norm(points, axis=-1, keepdims=True)
            np.testing.assert_allclose(directions, exact, atol=tolerance)


def test_zero_distortion_is_the_pinhole():
    pixels, k = camera.pixel_centers(6, 8) * 80, single(INTRINSICS)
    np.testing.assert_allclose(camera.rays_brown(pixels, k, jnp.zeros(5)), camera.rays(pixels, k), atol=1e-6)


@pytest.mark.parametrize(
    ("distort", "undistort", "coefficients", "value"),
    [
        (camera.distort_brown, camera.undistort_brown, BROWN, np.array([0.4, -0.3])),
        (camera.distort_fisheye, camera.undistort_fisheye, FISHEYE, np.array(0.9)),
    ],
)
def test_undistortion_is_differentiable_by_the_implicit_function(distort, undistort, coefficients, value):
    with jax.enable_x64(True):
        value, coefficients = jnp.asarray(value), jnp.asarray(coefficients)
        distort, undistort = jax.jit(distort), jax.jit(undistort)
        by_value = jax.jacfwd(distort, 0)(undistort(value, coefficients), coefficients)
        np.testing.assert_allclose(
            jnp.atleast_2d(by_value) @ jnp.atleast_2d(jax.jacrev(undistort)(value, coefficients)),
            np.eye(value.size),
            atol=1e-12,
        )
        slope = jax.jacrev(undistort, 1)(value, coefficients)
        for i, step in enumerate(1e-6 * np.eye(coefficients.size)):
            difference = (undistort(value, coefficients + step) - undistort(value, coefficients - step)) / 2e-6
            np.testing.assert_allclose(slope[..., i], difference, atol=1e-8)


def test_lens_models_batch_over_cameras_and_stay_finite_at_the_axis():
    k = single(np.broadcast_to(INTRINSICS, (2, 3, 3)))
    brown, fisheye = single(np.stack([BROWN, 0 * BROWN])), single(np.stack([FISHEYE, 0 * FISHEYE]))
    pixels = (camera.pixel_centers(4, 5) * 100)[None]
    for rays, coefficients in ((camera.rays_brown, brown), (camera.rays_fisheye, fisheye)):
        batched = jax.jit(rays)(pixels, k, coefficients)
        assert batched.shape == (2, 4, 5, 3)
        np.testing.assert_allclose(batched[1], jax.jit(rays)(pixels[0], k[1], coefficients[1]), atol=1e-6)
    axis = single(INTRINSICS[:2, 2])
    for function in (camera.rays_brown, camera.rays_fisheye):
        coefficients = single(BROWN if function is camera.rays_brown else FISHEYE)
        assert np.isfinite(jax.jit(jax.jacrev(function))(axis, single(INTRINSICS), coefficients)).all()
    assert np.isfinite(
        jax.jit(jax.jacrev(camera.project_fisheye))(single([0, 0, 1]), single(INTRINSICS), single(FISHEYE))
    ).all()


def test_intrinsics_follow_crop_and_resize():
    points, k = single(points_in_front()), single(INTRINSICS)
    pixels = camera.project(points, k)
    cropped = camera.project(points, camera.crop_intrinsics(k, 12, -7.5))
    np.testing.assert_allclose(cropped, pixels - np.array([12, -7.5]), atol=1e-3)
    resized = camera.project(points, camera.resize_intrinsics(k, 0.5, 2.0))
    np.testing.assert_allclose(resized, pixels * np.array([0.5, 2.0]), rtol=1e-5, atol=1e-3)
    per_camera = camera.resize_intrinsics(jnp.stack([k, k]), single([1.0, 0.5]), 1.0)
    np.testing.assert_allclose(per_camera[1], camera.resize_intrinsics(k, 0.5, 1.0))
