"""Cameras as VGGT's 9 numbers: translation, quaternion (x, y, z, w), vertical and horizontal field of view.

Translation and rotation are those of camera_from_world. The principal point is the image's centre.
"""

import functools

import jax.numpy as jnp
from jaxtyping import Array, Float

from rig3r_jax.geometry import camera, se3, so3
from rig3r_jax.geometry.numerics import compiled


def fov_from_intrinsics(
    intrinsics: Float[Array, "*b 3 3"], height: int, width: int
) -> tuple[Float[Array, "*b"], Float[Array, "*b"]]:
    """(vertical, horizontal) angles of view, radians, of an image of height x width pixels."""
    return tuple(2.0 * jnp.arctan(0.5 * size / intrinsics[..., axis, axis]) for axis, size in ((1, height), (0, width)))


def intrinsics_from_fov(
    fov_h: Float[Array, "*b"], fov_w: Float[Array, "*b"], height: int, width: int
) -> Float[Array, "*b 3 3"]:
    """Pinhole of vertical and horizontal angles of view, radians; the focal length of an angle of 0 is infinite."""
    focal_x, focal_y = (0.5 * size / jnp.tan(0.5 * fov) for size, fov in ((width, fov_w), (height, fov_h)))
    zero, one = jnp.zeros_like(focal_x), jnp.ones_like(focal_x)
    entries = [focal_x, zero, 0.5 * width * one, zero, focal_y, 0.5 * height * one, zero, zero, one]
    return jnp.stack(entries, axis=-1).reshape(*focal_x.shape, 3, 3)


@functools.partial(compiled, static_argnames=("height", "width"))
def encode(
    camera_from_world: Float[Array, "*b 4 4"], intrinsics: Float[Array, "*b 3 3"], height: int, width: int
) -> Float[Array, "*b 9"]:
    """The encoding of cameras; the quaternion is a unit one with w >= 0, the principal point is dropped."""
    quaternion = so3.to_quat_xyzw(se3.rotation(camera_from_world))
    fov = jnp.stack(fov_from_intrinsics(intrinsics, height, width), axis=-1)
    return jnp.concatenate([se3.translation(camera_from_world), quaternion, fov], axis=-1)


@functools.partial(compiled, static_argnames=("height", "width"))
def decode(
    encoding: Float[Array, "*b 9"], height: int, width: int
) -> tuple[Float[Array, "*b 4 4"], Float[Array, "*b 3 3"]]:
    """(camera_from_world, intrinsics) of an encoding; the quaternion need not have length 1."""
    rotation = so3.from_quat_xyzw(encoding[..., 3:7])
    camera_from_world = se3.from_rotation_translation(rotation, encoding[..., :3])
    return camera_from_world, intrinsics_from_fov(encoding[..., 7], encoding[..., 8], height, width)


@compiled
def points_from_depth(depth: Float[Array, "*b h w"], encoding: Float[Array, "*b 9"]) -> Float[Array, "*b h w 3"]:
    """points_world of every pixel's centre; depth is along the camera's z axis, in the translation's unit.

    Without a focal length, which is infinite, and its gradient NaN, where an angle of view is 0.
    """
    height, width = depth.shape[-2:]
    camera_from_world, _ = decode(encoding, height, width)
    half = jnp.tan(0.5 * encoding[..., [8, 7]])  # (x, y) of the image's right and lower border at z = 1
    pixels = camera.pixel_centers(height, width, depth.dtype)
    normalized = (2.0 * pixels / jnp.array([width, height], depth.dtype) - 1.0) * half[..., None, None, :]
    points_camera = depth[..., None] * jnp.concatenate([normalized, jnp.ones_like(normalized[..., :1])], axis=-1)
    return se3.apply(se3.inverse(camera_from_world), points_camera)
