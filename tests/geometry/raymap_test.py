"""Ray maps and points of depth against golden vectors and plain loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rig3r_jax.geometry import camera, raymap, se3

make_raymap = jax.jit(raymap.raymap, static_argnums=(2, 3, 4, 5))


def test_raymap_golden(shared):
    golden = np.load(shared / "golden/pose_metrics/rays.npz")
    height, width = int(golden["H"]), int(golden["W"])
    with jax.enable_x64(True):
        intrinsics = jnp.asarray(golden["K"])
        for transform, suffix in (
            ("T_cam2world", ("dirs_half", "centers")),
            ("T_cam2ref0", ("dirs_half_ref0", "centers_ref0")),
        ):
            lens = camera.Pinhole(intrinsics)
            maps = raymap.raymap(jnp.asarray(golden[transform]), lens, height, width, height, width)
            for ours, key in zip(maps, suffix, strict=True):
                np.testing.assert_allclose(ours, golden[key], atol=1e-12)


@pytest.mark.parametrize("batch", [(), (2, 3)])
def test_rays_pass_through_the_points_of_their_pixels(batch):
    rng = np.random.default_rng(0)
    height, width = 6, 9
    world_from_camera = se3.exp(jnp.asarray(rng.normal(size=(*batch, 6)).astype(np.float32)))
    intrinsics = np.array([[7.0, 0, 4.2], [0, 6.0, 3.1], [0, 0, 1]], np.float32)
    intrinsics = jnp.asarray(np.broadcast_to(intrinsics, (*batch, 3, 3)))
    depth = jnp.asarray(rng.uniform(1, 20, (*batch, height, width)).astype(np.float32))
    lens, pixels = camera.Pinhole(intrinsics), camera.pixel_centers(height, width)
    points = jax.jit(raymap.points_at)(depth, pixels, lens, world_from_camera)
    directions, center = make_raymap(world_from_camera, lens, height, width, height, width)
    across = np.cross(points - center[..., None, None, :], directions)
    np.testing.assert_allclose(across, 0.0, atol=2e-5)
    # Depth is along the ray, and the pixels are the points' own.
    points_camera = se3.apply(se3.inverse(world_from_camera), points)
    np.testing.assert_allclose(np.linalg.norm(points_camera, axis=-1), depth, rtol=1e-5)
    np.testing.assert_allclose(lens.project(points_camera), np.broadcast_to(pixels, (*depth.shape, 2)), atol=1e-4)


def test_a_patch_ray_passes_through_the_centre_of_its_patch():
    intrinsics = jnp.array([[50.0, 0, 31], [0, 60, 33], [0, 0, 1]])
    directions, _ = raymap.raymap(jnp.eye(4), camera.Pinhole(intrinsics), 64, 48, 4, 3)
    np.testing.assert_allclose(camera.Pinhole(intrinsics).project(directions)[1, 2], [40.0, 24.0], rtol=1e-5)
