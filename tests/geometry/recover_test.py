"""Cameras come back from their own ray maps: exactly without noise, closely under noise."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from rig3r_jax.geometry import raymap, recover, se3, so3
from rig3r_jax.geometry.camera import Pinhole

recover_camera = jax.jit(recover.recover_camera, static_argnums=(2, 3))
cameras_of = jax.jit(recover.cameras_of)
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


def errors(recovered, a_from_camera, intrinsics):
    """(rotation radians, relative focal, centre) of every camera, in float64."""
    ours, true = np.asarray(recovered.a_from_camera, np.float64), np.asarray(a_from_camera, np.float64)
    angle = Rotation.from_matrix(np.swapaxes(true[:, :3, :3], 1, 2) @ ours[:, :3, :3]).magnitude()
    focal = np.abs(np.asarray(recovered.intrinsics) / intrinsics - 1.0)[:, [0, 1], [0, 1]].max(-1)
    return angle, focal, np.abs(ours[:, :3, 3] - true[:, :3, 3]).max(-1)


@pytest.mark.parametrize("grid", GRIDS)
def test_recover_inverts_raymap(grid):
    a_from_camera, intrinsics = random_cameras(20, *grid[:2])
    directions, center = make_raymap(a_from_camera, Pinhole(intrinsics), *grid)
    recovered = recover_camera(3.0 * directions, center, *grid[:2])  # lengths do not matter
    for error in errors(recovered, a_from_camera, intrinsics):
        assert error.max() < 1e-5
    np.testing.assert_array_equal(recovered.intrinsics[:, :2, 2], intrinsics[:, :2, 2])


@pytest.mark.parametrize("turns", ["tiny", "near_pi"])
def test_recover_inverts_raymap_of_tiny_and_near_pi_rotations(turns):
    a_from_camera, intrinsics = random_cameras(20, 32, 32, turns=turns)
    directions, center = make_raymap(a_from_camera, Pinhole(intrinsics), 32, 32, 32, 32)
    for error in errors(recover_camera(directions, center, 32, 32), a_from_camera, intrinsics):
        assert error.max() < 1e-5


@pytest.mark.parametrize("grid", [(70, 98, 5, 7)])
def test_known_intrinsics_may_have_any_principal_point_and_are_kept(grid):
    a_from_camera, intrinsics = random_cameras(20, *grid[:2], centered=False)
    directions, center = make_raymap(a_from_camera, Pinhole(intrinsics), *grid)
    recovered = recover_camera(directions, center, *grid[:2], Pinhole(intrinsics))
    np.testing.assert_array_equal(recovered.intrinsics, intrinsics)
    assert max(error.max() for error in errors(recovered, a_from_camera, intrinsics)) < 1e-5


def test_recover_golden(shared):
    golden = np.load(shared / "golden/pose_metrics/rays.npz")
    height, width = int(golden["H"]), int(golden["W"])
    with jax.enable_x64(True):
        intrinsics = jnp.asarray(golden["K"])
        for noise in ("", "_noisy"):
            directions = jnp.asarray(golden[f"dirs_half{noise}"])
            rotation = recover.recover_rotation(directions, Pinhole(intrinsics), height, width)
            np.testing.assert_allclose(rotation, golden[f"kabsch_R_half{noise}"], atol=1e-9)


def test_noise_moves_the_camera_little():
    """100 cameras with a field of 70 degrees, 32x32 rays, N(0, 0.01) per component."""
    a_from_camera, intrinsics = random_cameras(100, 32, 32, seed=7)
    focal = 16 / np.tan(np.deg2rad(35))
    intrinsics = intrinsics.at[:, 0, 0].set(focal).at[:, 1, 1].set(focal)
    directions, center = make_raymap(a_from_camera, Pinhole(intrinsics), 32, 32, 32, 32)
    directions += 0.01 * np.random.default_rng(7).normal(size=directions.shape).astype(np.float32)
    angle, focal, _ = errors(recover_camera(directions, center, 32, 32), a_from_camera, intrinsics)
    assert np.median(np.rad2deg(angle)) < 0.06 and np.rad2deg(angle).max() < 0.2
    assert np.median(focal) < 0.0025 and focal.max() < 0.01  # of the worse of fx and fy


def test_zero_rays_count_for_nothing():
    a_from_camera, intrinsics = random_cameras(10, 32, 32)
    directions, center = make_raymap(a_from_camera, Pinhole(intrinsics), 32, 32, 32, 32)
    recovered = recover_camera(directions.at[:, 5:9, 3:20].set(0.0), center, 32, 32)
    assert max(error.max() for error in errors(recovered, a_from_camera, intrinsics)) < 1e-4


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("junk", [np.nan, np.inf, 3.0])
def test_rays_of_padding_count_for_nothing(known, junk):
    height, width, *_ = grid = (70, 98, 5, 7)
    a_from_camera, intrinsics = random_cameras(6, height, width)
    directions, center = make_raymap(a_from_camera, Pinhole(intrinsics), *grid)
    mask = np.ones((6, height, width), bool)
    mask[:3, :, :28], mask[3:, 60:] = False, False  # two columns of cells; the row whose centres lie below line 60
    padded = directions.at[:3, :, :2].set(junk).at[3:, 4:].set(junk)
    arguments = (padded, center, mask, Pinhole(intrinsics) if known else None)
    for cameras in (cameras_of(*arguments), recover.host_cameras_of(*jax.tree.map(np.asarray, arguments))):
        assert max(error.max() for error in errors(cameras, a_from_camera, intrinsics)) < 1e-5


def test_cameras_of_keep_the_precision_of_their_road():
    """Float32 under jit; float64 on the host, where exact rays give exact cameras."""
    rng = np.random.default_rng(3)
    rotation, center = Rotation.random(5, random_state=3).as_matrix(), rng.normal(size=(5, 3))
    intrinsics = np.array([[40.0, 0, 49], [0, 55, 35], [0, 0, 1]])
    u, v = np.meshgrid((np.arange(7) + 0.5) * 14, (np.arange(5) + 0.5) * 14)
    rays = np.stack([u, v, np.ones_like(u)], axis=-1) @ np.linalg.inv(intrinsics).T
    directions, mask = np.einsum("vij,rcj->vrci", rotation, rays), np.ones((5, 70, 98), bool)
    cameras = recover.host_cameras_of(directions, center, mask)
    assert cameras.a_from_camera.dtype == cameras.intrinsics.dtype == np.float64
    np.testing.assert_allclose(cameras.a_from_camera[:, :3], np.concatenate([rotation, center[..., None]], -1))
    np.testing.assert_allclose(cameras.intrinsics, np.broadcast_to(intrinsics, (5, 3, 3)))
    assert not jax.config.jax_enable_x64
    traced = cameras_of(directions.astype(np.float32), center.astype(np.float32), mask)
    assert traced.a_from_camera.dtype == traced.intrinsics.dtype == np.float32


def test_a_ray_on_the_image_that_is_not_finite_gives_no_rotation():
    a_from_camera, intrinsics = random_cameras(3, 32, 32)
    directions, center = make_raymap(a_from_camera, Pinhole(intrinsics), 32, 32, 8, 8)
    directions = directions.at[1, 4, 4, 0].set(jnp.nan).at[2, 0, 0].set(jnp.inf)
    cameras = cameras_of(directions, center, jnp.ones((3, 32, 32), bool), Pinhole(intrinsics))
    rotation = np.asarray(se3.rotation(cameras.a_from_camera))
    assert np.isfinite(rotation[0]).all() and np.isnan(rotation[1:]).all()
    np.testing.assert_array_equal(se3.translation(cameras.a_from_camera), center)


def test_batches_vmap_and_jit_agree():
    a_from_camera, intrinsics = random_cameras(6, 24, 32)
    directions, center = make_raymap(a_from_camera, Pinhole(intrinsics), 24, 32, 6, 8)
    directions += 0.01 * jax.random.normal(jax.random.key(0), directions.shape)
    plain = recover_camera(directions, center, 24, 32)
    nested = recover_camera(directions.reshape(2, 3, 6, 8, 3), center.reshape(2, 3, 3), 24, 32)
    mapped = jax.jit(jax.vmap(lambda d, c: recover_camera(d, c, 24, 32)))(directions, center)
    single = recover_camera(directions[0], center[0], 24, 32)
    np.testing.assert_allclose(nested.a_from_camera.reshape(6, 4, 4), plain.a_from_camera, atol=1e-4)
    np.testing.assert_allclose(mapped.a_from_camera, plain.a_from_camera, atol=1e-4)
    np.testing.assert_allclose(single.intrinsics, plain.intrinsics[0], rtol=1e-4)
    assert recover_camera(directions[:0], center[:0], 24, 32).intrinsics.shape == (0, 3, 3)


def test_untrained_ray_maps_give_finite_cameras_and_gradients():
    maps = {
        "noise": jax.random.normal(jax.random.key(0), (8, 8, 3)),
        "equal": jnp.ones((8, 8, 3)),
        "zero": jnp.zeros((8, 8, 3)),
    }

    @jax.jit
    @functools.partial(jax.grad, has_aux=True)
    def gradient_and_camera(directions):
        recovered = recover.recover_camera(directions, jnp.zeros(3), 32, 32)
        return recovered.a_from_camera.sum() + recovered.intrinsics.sum(), recovered

    for directions in maps.values():
        gradient, recovered = gradient_and_camera(directions)
        assert np.isfinite(gradient).all() and np.isfinite(recovered.intrinsics).all()
        assert abs(np.linalg.det(se3.rotation(recovered.a_from_camera)) - 1.0) < 1e-5


def test_gradient_through_recovery_is_that_of_the_rotation():
    a_from_camera, intrinsics = random_cameras(1, 24, 32)
    directions, center = make_raymap(a_from_camera, Pinhole(intrinsics), 24, 32, 6, 8)

    def turn_back(w):
        turned = so3.rotate(so3.exp(w), directions[0])
        recovered = recover_camera(turned, center[0], 24, 32)
        return so3.log(se3.rotation(recovered.a_from_camera) @ se3.rotation(a_from_camera[0]).T)

    np.testing.assert_allclose(jax.jit(jax.jacrev(turn_back))(jnp.zeros(3)), np.eye(3), atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 8), (2, 2)])
def test_grids_that_do_not_determine_focals_are_refused(shape):
    with pytest.raises(ValueError, match="2x3"):
        recover_camera(jnp.ones((*shape, 3)), jnp.zeros(3), 32, 32)
