"""The 9 numbers of a camera: there and back, against hand-made cameras and golden vectors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rig3r_jax.geometry import camera, pose_encoding, se3

HEIGHT, WIDTH = 30, 40
_encode = jax.jit(pose_encoding.encode, static_argnums=(2, 3))
_decode = jax.jit(pose_encoding.decode, static_argnums=(1, 2))


def _cameras(count: int = 7):
    rng = np.random.default_rng(0)
    camera_from_world = jax.jit(se3.exp)(jnp.asarray(rng.normal(size=(2, count, 6)), jnp.float32))
    intrinsics = np.tile(np.eye(3, dtype=np.float32), (2, count, 1, 1))
    intrinsics[..., 0, 0], intrinsics[..., 1, 1] = rng.uniform(20, 60, (2, 2, count))
    intrinsics[..., 0, 2], intrinsics[..., 1, 2] = WIDTH / 2, HEIGHT / 2
    return camera_from_world, jnp.asarray(intrinsics)


def test_decode_inverts_encode():
    camera_from_world, intrinsics = _cameras()
    encoding = _encode(camera_from_world, intrinsics, HEIGHT, WIDTH)
    assert encoding.shape == (2, 7, 9) and (encoding[..., 6] >= 0).all()
    decoded, pinhole = _decode(encoding, HEIGHT, WIDTH)
    np.testing.assert_allclose(decoded, camera_from_world, atol=1e-6)
    np.testing.assert_allclose(pinhole, intrinsics, rtol=1e-5)
    scaled = encoding.at[..., 3:7].multiply(-2.5)  # neither length nor sign of the quaternion matters
    np.testing.assert_allclose(_decode(scaled, HEIGHT, WIDTH)[0], camera_from_world, atol=1e-6)


def test_field_of_view_of_a_right_angle():
    intrinsics = jnp.asarray([[20.0, 0, 3], [0, 15, 4], [0, 0, 1]])  # half of 40 and of 30 pixels
    fov_h, fov_w = pose_encoding.fov_from_intrinsics(intrinsics, HEIGHT, WIDTH)
    np.testing.assert_allclose([fov_h, fov_w], np.pi / 2, rtol=1e-6)
    wide = pose_encoding.intrinsics_from_fov(fov_h, 0 * fov_w, HEIGHT, WIDTH)
    assert wide[0, 0] == np.inf and np.isfinite(wide[1]).all()


def test_points_of_depth_project_to_their_pixels_at_their_depth():
    camera_from_world, intrinsics = _cameras(3)
    depth = jnp.asarray(np.random.default_rng(1).uniform(1, 9, (2, 3, HEIGHT, WIDTH)), jnp.float32)
    encoding = _encode(camera_from_world, intrinsics, HEIGHT, WIDTH)
    points_camera = se3.apply(camera_from_world, jax.jit(pose_encoding.points_from_depth)(depth, encoding))
    np.testing.assert_allclose(points_camera[..., 2], depth, rtol=1e-5)
    pixels = jnp.broadcast_to(camera.pixel_centers(HEIGHT, WIDTH), (2, 3, HEIGHT, WIDTH, 2))
    np.testing.assert_allclose(camera.Pinhole(intrinsics).project(points_camera), pixels, atol=1e-3)


def test_an_angle_of_view_of_zero_has_points_and_gradients():
    """The head's relu does give angles of 0."""
    encoding = jnp.array([[1.0, 2, 3, 0, 0, 0, 1, 0.9, 0.0]])

    def points(encoding):
        return pose_encoding.points_from_depth(jnp.ones((1, 4, 6)), encoding)

    np.testing.assert_allclose(points(encoding)[..., 0], -1.0, atol=1e-6)
    gradient = jax.grad(lambda encoding: points(encoding)[..., :1].sum())(encoding)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("tag", ["f64", "f32"])
def test_golden_encodings(shared, tag: str):
    arrays = np.load(shared / "golden/lie/pose_encoding.npz")
    dtype, tolerance = (np.float64, 1e-12) if tag == "f64" else (np.float32, 1e-6)
    sizes = [name.removesuffix("_hw") for name in arrays.files if name.endswith("_hw")]
    assert len(sizes) == 3
    with jax.enable_x64(dtype == np.float64):
        for size in sizes:
            height, width = (int(side) for side in arrays[f"{size}_hw"])
            lower = np.broadcast_to([0.0, 0, 0, 1], (2, 6, 1, 4))
            camera_from_world = np.concatenate([arrays[f"{size}_extrinsics"], lower], axis=-2)
            ours = _encode(
                jnp.asarray(camera_from_world, dtype), jnp.asarray(arrays[f"{size}_intrinsics"], dtype), height, width
            )
            np.testing.assert_allclose(ours, arrays[f"{size}_enc_{tag}"], atol=tolerance)
            decoded = _decode(jnp.asarray(arrays[f"{size}_dec_in"], dtype), height, width)
            np.testing.assert_allclose(decoded[0][..., :3, :], arrays[f"{size}_dec_extrinsics"], atol=10 * tolerance)
            np.testing.assert_allclose(decoded[1], arrays[f"{size}_dec_intrinsics"], rtol=10 * tolerance)
