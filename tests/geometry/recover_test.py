"""Cameras come back from their own ray maps: exactly without noise, closely under noise and outliers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from rig3r_jax.geometry import raymap, recover, se3, so3

recover_camera = jax.jit(recover.recover_camera, static_argnums=(2, 3), static_argnames="robust")
recover_camera_dlt = jax.jit(recover.recover_camera_dlt, static_argnums=(2, 3))
recover_focal = jax.jit(recover.recover_focal, static_argnums=(1, 2))
make_raymap = jax.jit(raymap.raymap, static_argnums=(2, 3, 4, 5))

# height, width, rows, cols: per pixel and per patch, odd, even, not square, anisotropic cells
GRIDS = [(32, 32, 32, 32), (33, 17, 33, 17), (96, 64, 6, 4), (70, 98, 5, 7), (512, 512, 16, 16), (40, 30, 2, 3)]


def random_cameras(count, height, width, seed=0, centered=True, turns="uniform"):
    """(a_from_camera, intrinsics) float32, fields of about 40 to 100 degrees, fx and fy apart."""
    rng = np.random.default_rng(seed)
    rotation = Rotation.random(count, random_state=seed)
    if turns != "uniform":
        axis = rng.normal(size=(count, 3))
        angle = {"tiny": 1e-5, "near_pi": np.pi - 1e-5}[turns]
        rotation = Rotation.from_rotvec(axis / np.linalg.norm(axis, axis=-1, keepdims=True) * angle)
    a_from_camera = np.broadcast_to(np.eye(4), (count, 4, 4)).copy()
    a_from_camera[:, :3, :3], a_from_camera[:, :3, 3] = rotation.as_matrix(), rng.normal(size=(count, 3)) * 5
    intrinsics = np.broadcast_to(np.eye(3), (count, 3, 3)).copy()
    half_fields = np.deg2rad(rng.uniform(20, 50, (count, 2)))
    intrinsics[:, [0, 1], [0, 1]] = np.array([width, height]) / 2 / np.tan(half_fields)
    shift = 0.0 if centered else rng.uniform(-0.15, 0.15, (count, 2))
    intrinsics[:, :2, 2] = np.array([width, height]) * (0.5 + shift)
    return jnp.asarray(a_from_camera.astype(np.float32)), jnp.asarray(intrinsics.astype(np.float32))


def errors(found, a_from_camera, intrinsics):
    """(rotation radians, relative focal, centre) of every camera, in float64."""
    ours, true = np.asarray(found.a_from_camera, np.float64), np.asarray(a_from_camera, np.float64)
    angle = Rotation.from_matrix(np.swapaxes(true[:, :3, :3], 1, 2) @ ours[:, :3, :3]).magnitude()
    focal = np.abs(np.asarray(found.intrinsics) / intrinsics - 1.0)[:, [0, 1], [0, 1]].max(-1)
    return angle, focal, np.abs(ours[:, :3, 3] - true[:, :3, 3]).max(-1)


@pytest.mark.parametrize(("grid", "robust"), [(g, False) for g in GRIDS] + [(GRIDS[0], True), (GRIDS[3], True)])
def test_recover_inverts_raymap(grid, robust):
    a_from_camera, intrinsics = random_cameras(20, *grid[:2])
    directions, center = make_raymap(a_from_camera, intrinsics, *grid)
    found = recover_camera(3.0 * directions, center, *grid[:2], robust=robust)  # lengths do not matter
    for error in errors(found, a_from_camera, intrinsics):
        assert error.max() < 1e-5
    np.testing.assert_array_equal(found.intrinsics[:, :2, 2], intrinsics[:, :2, 2])


@pytest.mark.parametrize("turns", ["tiny", "near_pi"])
def test_recover_inverts_raymap_of_tiny_and_near_pi_rotations(turns):
    a_from_camera, intrinsics = random_cameras(20, 32, 32, turns=turns)
    directions, center = make_raymap(a_from_camera, intrinsics, 32, 32, 32, 32)
    for error in errors(recover_camera(directions, center, 32, 32), a_from_camera, intrinsics):
        assert error.max() < 1e-5


@pytest.mark.parametrize("grid", [(70, 98, 5, 7)])
def test_known_intrinsics_may_have_any_principal_point_and_are_kept(grid):
    a_from_camera, intrinsics = random_cameras(20, *grid[:2], centered=False)
    directions, center = make_raymap(a_from_camera, intrinsics, *grid)
    for robust in (False, True):
        found = recover_camera(directions, center, *grid[:2], intrinsics, robust=robust)
        np.testing.assert_array_equal(found.intrinsics, intrinsics)
        assert max(error.max() for error in errors(found, a_from_camera, intrinsics)) < 1e-5


@pytest.mark.parametrize("grid", [(32, 32, 32, 32), (70, 98, 5, 7)])
def test_off_centre_cameras_come_back_from_the_dlt_and_focals_from_known_points(grid):
    a_from_camera, intrinsics = random_cameras(20, *grid[:2], centered=False)
    intrinsics = intrinsics.at[:, 0, 1].set(0.02 * intrinsics[:, 0, 0])  # the DLT finds skew too
    directions, center = make_raymap(a_from_camera, intrinsics, *grid)
    found = recover_camera_dlt(directions, center, *grid[:2])
    assert max(error.max() for error in errors(found, a_from_camera, intrinsics)) < 1e-5
    np.testing.assert_allclose(found.intrinsics, intrinsics, atol=1e-5 * max(grid))
    directions, _ = make_raymap(a_from_camera, intrinsics.at[:, 0, 1].set(0.0), *grid)
    focal = jnp.stack(recover_focal(directions, *grid[:2], principal_point=intrinsics[:, :2, 2]), -1)
    np.testing.assert_allclose(focal, intrinsics[:, [0, 1], [0, 1]], rtol=1e-5)


def test_recover_golden(shared):
    golden = np.load(shared / "golden/pose_metrics/rays.npz")
    height, width = int(golden["H"]), int(golden["W"])
    with jax.enable_x64(True):
        intrinsics, centers = jnp.asarray(golden["K"]), jnp.asarray(golden["centers"])
        for noise in ("", "_noisy"):
            directions = jnp.asarray(golden[f"dirs_half{noise}"])
            rotation = recover.recover_rotation(directions, intrinsics, height, width)
            np.testing.assert_allclose(rotation, golden[f"kabsch_R_half{noise}"], atol=1e-9)
        directions = jnp.asarray(golden["dirs_half"])
        focal = jnp.stack(recover.recover_focal(directions, height, width, intrinsics[:, :2, 2]), -1)
        np.testing.assert_allclose(focal, golden["fit_fxfy_half"], rtol=1e-8)
        found = recover_camera_dlt(directions, centers, height, width)
        np.testing.assert_allclose(found.intrinsics, golden["dlt_K_half"], rtol=1e-8, atol=1e-8)
        np.testing.assert_allclose(se3.rotation(found.a_from_camera), golden["dlt_R_half"], atol=1e-9)
        np.testing.assert_allclose(se3.translation(found.a_from_camera), golden["centers"])


def noisy_maps(outliers):
    """100 cameras with a field of 70 degrees, 32x32 rays, N(0, 0.01) per component, a share of rays drawn anew."""
    rng = np.random.default_rng(7)
    a_from_camera, intrinsics = random_cameras(100, 32, 32, seed=7)
    focal = 16 / np.tan(np.deg2rad(35))
    intrinsics = intrinsics.at[:, 0, 0].set(focal).at[:, 1, 1].set(focal)
    directions, center = make_raymap(a_from_camera, intrinsics, 32, 32, 32, 32)
    directions = np.asarray(directions) + rng.normal(size=directions.shape) * 0.01
    wrong = rng.random(directions.shape[:-1]) < outliers
    directions[wrong] = rng.normal(size=(wrong.sum(), 3))
    return a_from_camera, intrinsics, jnp.asarray(directions.astype(np.float32)), center


@pytest.mark.parametrize(("robust", "outliers"), [(False, 0.0), (True, 0.0), (True, 0.2)])
def test_noise_and_outliers_move_the_camera_little(robust, outliers):
    a_from_camera, intrinsics, directions, center = noisy_maps(outliers)
    found = recover_camera(directions, center, 32, 32, robust=robust)
    angle, focal, _ = errors(found, a_from_camera, intrinsics)
    assert np.median(np.rad2deg(angle)) < 0.06 and np.rad2deg(angle).max() < 0.2
    assert np.median(focal) < 0.0025 and focal.max() < 0.01  # of the worse of fx and fy


def test_outliers_move_the_plain_fit_much():
    """Without this the test above would not show that the weights do anything."""
    a_from_camera, intrinsics, directions, center = noisy_maps(0.2)
    angle, _, _ = errors(recover_camera(directions, center, 32, 32), a_from_camera, intrinsics)
    assert np.median(np.rad2deg(angle)) > 0.5


def test_one_corner_of_equal_wrong_rays_is_rejected_and_zero_rays_count_for_nothing():
    a_from_camera, intrinsics = random_cameras(10, 32, 32)
    directions, center = make_raymap(a_from_camera, intrinsics, 32, 32, 32, 32)
    wrong = directions.at[:, :14, :14].set(jnp.array([0.0, 0.6, 0.8]))
    zero = directions.at[:, 5:9, 3:20].set(0.0)
    for damaged, robust in ((wrong, True), (zero, False), (zero, True)):
        found = recover_camera(damaged, center, 32, 32, robust=robust)
        assert max(error.max() for error in errors(found, a_from_camera, intrinsics)) < 1e-4


@pytest.mark.parametrize(
    "function",
    [recover_camera, functools.partial(recover_camera, robust=True), recover_camera_dlt],
)
def test_batches_vmap_and_jit_agree(function):
    a_from_camera, intrinsics = random_cameras(6, 24, 32)
    directions, center = make_raymap(a_from_camera, intrinsics, 24, 32, 6, 8)
    directions += 0.01 * jax.random.normal(jax.random.key(0), directions.shape)
    plain = function(directions, center, 24, 32)
    nested = function(directions.reshape(2, 3, 6, 8, 3), center.reshape(2, 3, 3), 24, 32)
    mapped = jax.jit(jax.vmap(lambda d, c: function(d, c, 24, 32)))(directions, center)
    single = function(directions[0], center[0], 24, 32)
    np.testing.assert_allclose(nested.a_from_camera.reshape(6, 4, 4), plain.a_from_camera, atol=1e-4)
    np.testing.assert_allclose(mapped.a_from_camera, plain.a_from_camera, atol=1e-4)
    np.testing.assert_allclose(single.intrinsics, plain.intrinsics[0], rtol=1e-4)
    assert function(directions[:0], center[:0], 24, 32).intrinsics.shape == (0, 3, 3)


@pytest.mark.parametrize("robust", [False, True])
def test_untrained_ray_maps_give_finite_cameras_and_gradients(robust):
    maps = {
        "noise": jax.random.normal(jax.random.key(0), (8, 8, 3)),
        "equal": jnp.ones((8, 8, 3)),
        "zero": jnp.zeros((8, 8, 3)),
    }

    @jax.jit
    @functools.partial(jax.grad, has_aux=True)
    def gradient_and_camera(directions):
        found = recover.recover_camera(directions, jnp.zeros(3), 32, 32, robust=robust)
        return found.a_from_camera.sum() + found.intrinsics.sum(), found

    for directions in maps.values():
        gradient, found = gradient_and_camera(directions)
        assert np.isfinite(gradient).all() and np.isfinite(found.intrinsics).all()
        assert abs(np.linalg.det(se3.rotation(found.a_from_camera)) - 1.0) < 1e-5


def test_gradient_through_recovery_is_that_of_the_rotation():
    a_from_camera, intrinsics = random_cameras(1, 24, 32)
    directions, center = make_raymap(a_from_camera, intrinsics, 24, 32, 6, 8)

    def turn_back(w):
        turned = so3.rotate(so3.exp(w), directions[0])
        found = recover_camera(turned, center[0], 24, 32)
        return so3.log(se3.rotation(found.a_from_camera) @ se3.rotation(a_from_camera[0]).T)

    np.testing.assert_allclose(jax.jit(jax.jacrev(turn_back))(jnp.zeros(3)), np.eye(3), atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 8), (2, 2)])
def test_grids_that_do_not_determine_focals_are_refused(shape):
    with pytest.raises(ValueError, match="2x3"):
        recover_camera(jnp.ones((*shape, 3)), jnp.zeros(3), 32, 32)
