"""Pixels and rays: conventions by example, lens models by round trip and against OpenCV."""

import json

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rig3r_jax.geometry import camera, distortion, lenses
from rig3r_jax.geometry.camera import Brown, Fisheye, Pinhole

INTRINSICS = np.array([[310.0, 1.5, 322.0], [0.0, 305.0, 244.0], [0.0, 0.0, 1.0]])
BROWN = np.array([-0.28, 0.09, 0.0012, -0.0007, -0.012])
FISHEYE = np.array([0.021, -0.013, 0.004, -0.0006])


def single(array):
    return jnp.asarray(np.asarray(array, np.float32))


rays_of = jax.jit(lambda lens, pixels: lens.rays(pixels))


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
    directions = rays_of(Pinhole(intrinsics), pixels)
    np.testing.assert_allclose(np.linalg.norm(directions, axis=-1), 1.0, atol=1e-6)
    np.testing.assert_allclose(Pinhole(intrinsics).project(7.0 * directions), pixels, atol=2e-3, rtol=1e-6)


def test_project_is_finite_behind_and_beside_the_camera():
    points = single([[1.0, 1, 0], [0, 0, 0], [1, 1, -2]])
    value, gradient = jax.value_and_grad(lambda p: Pinhole(single(INTRINSICS)).project(p).sum())(points)
    assert np.isfinite(value) and np.isfinite(gradient).all()


def test_brown_agrees_with_opencv():
    points, no_skew = points_in_front(), INTRINSICS * (1 - np.eye(3, k=1))
    theirs = cv2.projectPoints(points, np.zeros(3), np.zeros(3), no_skew, BROWN)[0][:, 0]
    with jax.enable_x64(True):
        ours = Brown(jnp.asarray(no_skew), jnp.asarray(BROWN)).project(jnp.asarray(points))
    np.testing.assert_allclose(ours, theirs, atol=1e-9)


def test_fisheye_agrees_with_opencv():
    points, no_skew = points_in_front(field=2.5), INTRINSICS * (1 - np.eye(3, k=1))
    theirs = cv2.fisheye.projectPoints(points[:, None], np.zeros(3), np.zeros(3), no_skew, FISHEYE)[0][:, 0]
    with jax.enable_x64(True):
        ours = Fisheye(jnp.asarray(no_skew), jnp.asarray(FISHEYE)).project(jnp.asarray(points))
    np.testing.assert_allclose(ours, theirs, atol=1e-9)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-6), ("float64", 1e-13)])
def test_rays_of_distorted_pixels_meet_the_points(dtype, tolerance):
    with jax.enable_x64(dtype == "float64"):
        k, *coefficients = (jnp.asarray(a.astype(dtype)) for a in (INTRINSICS, BROWN, FISHEYE))
        brown, fisheye = Brown(k, coefficients[0]), Fisheye(k, coefficients[1])
        front = jnp.asarray(points_in_front(field=0.7).astype(dtype))
        pairs = [(front, rays_of(brown, brown.project(front)))]
        around = jnp.asarray(np.random.default_rng(1).normal(size=(300, 3)).astype(dtype))
        around = around[around[:, 2] > -0.2 * jnp.linalg.norm(around, axis=-1)]  # a field of 200 degrees
        pairs += [(around, rays_of(fisheye, fisheye.project(around)))]
        for points, directions in pairs:
            assert directions.dtype == dtype
            exact = np.asarray(points, np.float64) / np.linalg.norm(points, axis=-1, keepdims=True)
            np.testing.assert_allclose(directions, exact, atol=tolerance)


def test_zero_distortion_is_the_pinhole():
    pixels, k = camera.pixel_centers(6, 8) * 80, single(INTRINSICS)
    np.testing.assert_allclose(Brown(k, jnp.zeros(5)).rays(pixels), Pinhole(k).rays(pixels), atol=1e-6)


@pytest.mark.parametrize(
    ("distort", "undistort", "coefficients", "value"),
    [
        (distortion.distort_brown, distortion.undistort_brown, BROWN, np.array([0.4, -0.3])),
        (distortion.distort_fisheye, distortion.undistort_fisheye, FISHEYE, np.array(0.9)),
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
    for both in (Brown(k, brown), Fisheye(k, fisheye)):
        batched = rays_of(both, pixels)
        assert batched.shape == (2, 4, 5, 3)
        np.testing.assert_allclose(batched[1], rays_of(jax.tree.map(lambda x: x[1], both), pixels[0]), atol=1e-6)
    axis = single(INTRINSICS[:2, 2])
    for lens in (Brown(k[0], brown[0]), Fisheye(k[0], fisheye[0])):
        by_pixel, by_lens = jax.jit(jax.jacrev(lambda pixel, lens: lens.rays(pixel), (0, 1)))(axis, lens)
        assert np.isfinite(by_pixel).all() and all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(by_lens))
    ahead = jax.jit(jax.jacrev(lambda point: Fisheye(k[0], fisheye[0]).project(point)))(single([0, 0, 1]))
    assert np.isfinite(ahead).all()


@pytest.mark.parametrize("lens", [Pinhole, Brown, Fisheye])
def test_intrinsics_follow_crop_and_resize(lens):
    lens = lens(single(INTRINSICS), *(single(c) for c in {Pinhole: [], Brown: [BROWN], Fisheye: [FISHEYE]}[lens]))
    points = single(points_in_front())
    pixels = lens.project(points)
    np.testing.assert_allclose(lens.crop(12, -7.5).project(points), pixels - np.array([12, -7.5]), atol=1e-3)
    resized = lens.resize(0.5, 2.0).project(points)
    np.testing.assert_allclose(resized, pixels * np.array([0.5, 2.0]), rtol=1e-5, atol=1e-3)
    per_camera = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), lens).resize(single([1.0, 0.5]), 1.0)
    np.testing.assert_allclose(per_camera.intrinsics[1], lens.resize(0.5, 1.0).intrinsics)


NO_SKEW = np.where([[0, 1, 0], [0, 0, 0], [0, 0, 0]], 0.0, INTRINSICS)
LENSES = [Pinhole(INTRINSICS), Brown(INTRINSICS, BROWN), Fisheye(INTRINSICS, FISHEYE)]


@pytest.mark.parametrize("lens", LENSES, ids=[lens.kind for lens in LENSES])
def test_numpy_stays_numpy_in_float64(lens):
    """Without x64, and without a compiler: what host code wants. The same numbers as JAX's in float64."""
    points = points_in_front(field=0.7)
    pixels = lens.project(points)
    directions = lens.rays(pixels)
    moved = lens.crop(3, 4.5).resize(0.5, 1 / 3)
    arrays = (pixels, directions, moved.intrinsics, lens.project(points[0]), lens.rays(pixels[0]))
    assert all(type(array) is np.ndarray and array.dtype == np.float64 for array in arrays)
    np.testing.assert_allclose(directions, points / np.linalg.norm(points, axis=-1, keepdims=True), atol=1e-13)
    np.testing.assert_allclose(moved.project(points), (pixels - (3, 4.5)) * (0.5, 1 / 3), rtol=1e-12, atol=1e-10)
    np.testing.assert_array_equal(lens.rays(pixels[0]), directions[0])
    with jax.enable_x64(True):
        device = jax.tree.map(jnp.asarray, lens)
        np.testing.assert_allclose(device.project(jnp.asarray(points)), pixels, rtol=1e-13, atol=1e-10)
        np.testing.assert_allclose(rays_of(device, jnp.asarray(pixels)), directions, atol=1e-14)
    halves = jax.tree.map(np.float32, lens)
    assert (
        halves.rays(pixels.astype(np.float32)).dtype == halves.resize(0.5, np.float64(2)).intrinsics.dtype == np.float32
    )
    assert isinstance(lens.rays(single(pixels)), jax.Array)


@pytest.mark.parametrize("lens", LENSES, ids=[lens.kind for lens in LENSES])
def test_numbers_for_files_lose_nothing_but_skew_is_refused(lens):
    with pytest.raises(ValueError, match="skew"):
        lens.to_numbers()
    lens = lens.replace(intrinsics=NO_SKEW)
    numbers = lens.to_numbers()
    assert (numbers["kind"], numbers["fx"], numbers["cy"]) == (lens.kind, 310.0, 244.0)
    back = lenses.lens_from_numbers(json.loads(json.dumps(numbers)))
    assert back == lens and hash(back) == hash(lens) and back.intrinsics.dtype == np.float64
    assert back != lens.crop(1, 0) and {back, lens, lens.crop(1, 0)} == {lens, lens.crop(1, 0)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "mirror"}, "lens 'mirror' is unknown; kinds: pinhole, brown, fisheye"),
        ({"kind": "pinhole"}, "a pinhole one has kind, fx, fy, cx, cy$"),
        ({"k5": 0.1}, "k4, k5; a fisheye one has kind, fx"),
        ({"fx": "wide"}, "must hold numbers"),
        ({"fy": -2.0}, "focal lengths 310.0, -2.0 must be positive"),
        ({"cx": np.nan}, "finite 3x3"),
        ({"k2": np.inf}, "a fisheye lens must be finite k1 k2 k3 k4"),
    ],
)
def test_numbers_that_make_no_lens_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        lenses.lens_from_numbers(LENSES[2].replace(intrinsics=NO_SKEW).to_numbers() | change)


def test_a_lens_has_the_coefficients_of_its_kind():
    for lens, wrong in ((Brown, FISHEYE), (Fisheye, BROWN)):
        with pytest.raises(KeyError, match=f"front: distortion .* of a {lens.kind} lens must be finite"):
            lens(INTRINSICS, wrong).check("front", _NamedError)


class _NamedError(ValueError, KeyError):
    """An error of the caller's own type."""


@pytest.mark.parametrize("bends", [(0.1, 0.05, 0.02, 0.005), (-0.05, 0.02, 0.03, 0.005), (0.18, 0.07, 0.007, -0.006)])
def test_fisheyes_that_bend_much_are_inverted_to_where_they_stop_to_grow(bends):
    """From the radius itself 8 Newton steps end far off beyond 90 degrees."""
    angles = np.radians(np.linspace(0.0, 100.0, 201))
    coefficients = np.array(bends)
    radii = distortion.distort_fisheye(angles, coefficients)
    np.testing.assert_allclose(distortion.undistort_fisheye(radii, coefficients), angles, atol=1e-9)
    with jax.enable_x64(True):
        on_device = distortion.undistort_fisheye(jnp.asarray(radii), jnp.asarray(coefficients))
        np.testing.assert_allclose(on_device, angles, atol=1e-9)


def test_a_fisheye_sees_the_circle_in_which_its_radius_grows():
    lens = Fisheye(np.array([[20.0, 0, 32], [0, 20, 32], [0, 0, 1]]), np.array([0.0, -0.02, 0.0, 0.0]))
    largest = 10.0**0.25  # where 1 = 5 * 0.02 angle^4
    reach = largest * (1 - 0.02 * largest**4)
    u, v = np.meshgrid(np.arange(64) + 0.5, np.arange(64) + 0.5)
    np.testing.assert_array_equal(lens.sees(np.stack([u, v], axis=-1)), np.hypot(u - 32, v - 32) < 20 * reach)
