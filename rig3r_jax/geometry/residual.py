"""The error of a window's cameras as se(3) tangents: the one definition that training, evaluation and pose graph share.

A window is a handful of frames of which the first is the origin. Its predicted translations have a scale of their own,
so they are first multiplied by the factor that fits them to the true ones.
"""

import functools
import typing

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int

from rig3r_jax.geometry import se3
from rig3r_jax.geometry.numerics import at_least_float32, compiled, matmul

MIN_TRANSLATION = 0.02  # metres; frames nearer to the first one say nothing about the scale
SCALE_BOUNDS = (0.01, 100.0)
_LEAST_SQUARE = 1e-8  # square metres, of all predicted translations together


@typing.no_type_check
@struct.dataclass
class WindowScale:
    """The factor on a window's predicted translations. No gradient passes through it."""

    scale: Float[Array, "*b"]
    raw: Float[Array, "*b"]  # before the bounds and the fallback to 1
    valid_count: Int[Array, "*b"]  # frames that move far enough to count


@typing.no_type_check
@struct.dataclass
class WindowResidual:
    """Residuals of all frames but the first, which is the origin of both sides."""

    residual: Float[Array, "*b v-1 6"]  # (v, w): metres, radians, in the true camera's frame
    scale: WindowScale


def relative_to_first(camera_from_world: Float[Array, "*b v 4 4"]) -> Float[Array, "*b v 4 4"]:
    """first_from_camera; its translation is the camera's centre seen from the first camera."""
    return se3.compose(camera_from_world[..., :1, :, :], se3.inverse(camera_from_world))


@functools.partial(compiled, static_argnames="min_translation")
def window_scale(
    centers_first_predicted: Float[Array, "... v 3"],
    centers_first_true: Float[Array, "... v 3"],
    min_translation: float = MIN_TRANSLATION,
) -> WindowScale:
    """The factor that fits predicted centres to true ones in least squares over the frames that move.

    1 where fewer than two frames lie `min_translation` metres from the first, and where the fit mirrors the window.
    """
    moves = jnp.sum(centers_first_true**2, axis=-1) > min_translation**2
    # where, not a product with the mask: 0 * NaN of a frame that is left out is NaN.
    predicted = jnp.where(moves[..., None], centers_first_predicted, 0.0)
    true = jnp.where(moves[..., None], centers_first_true, 0.0)
    square = jnp.maximum(jnp.sum(predicted * predicted, axis=(-2, -1)), _LEAST_SQUARE)
    raw = jnp.sum(true * predicted, axis=(-2, -1)) / square
    count = jnp.broadcast_to(jnp.sum(moves, axis=-1), raw.shape)
    scale = jnp.where((raw <= 0) | (count < 2), 1.0, jnp.clip(raw, *SCALE_BOUNDS))
    return jax.lax.stop_gradient(WindowScale(scale=scale, raw=raw, valid_count=count))


@compiled
def scaled_residual(
    first_from_camera_predicted: Float[Array, "... v 4 4"],
    first_from_camera_true: Float[Array, "... v 4 4"],
    scale: Float[Array, "*b"],
) -> Float[Array, "... v 6"]:
    """Log(inverse(true) predicted) of each frame, (v, w), predicted translations multiplied by the window's scale."""
    predicted = scale_translation(first_from_camera_predicted, scale)
    return se3.log(matmul(se3.inverse(first_from_camera_true), predicted))


@functools.partial(compiled, static_argnames="min_translation")
def window_residual(
    camera_from_world_predicted: Float[Array, "... v 4 4"],
    camera_from_world_true: Float[Array, "... v 4 4"],
    min_translation: float = MIN_TRANSLATION,
) -> WindowResidual:
    """The residual of first_from_camera under the window's own scale, in float32 at least.

    Leading axes broadcast: predictions (n b v 4 4) of n iterations meet truth (b v 4 4). Rotations must be orthonormal
    to rounding: stored ones pass through a quaternion first.
    """
    if camera_from_world_true.shape[-3] < 2:
        raise ValueError(f"a window of {camera_from_world_true.shape[-3]} frame has no residual; give 2 or more")
    predicted, true = (
        relative_to_first(x.astype(at_least_float32(x.dtype)))
        for x in (camera_from_world_predicted, camera_from_world_true)
    )
    scale = window_scale(se3.translation(predicted), se3.translation(true), min_translation)
    return WindowResidual(residual=scaled_residual(predicted, true, scale.scale)[..., 1:, :], scale=scale)


def scale_translation(
    first_from_camera: Float[Array, "*b v 4 4"], scale: Float[Array, "*b"]
) -> Float[Array, "*b v 4 4"]:
    """first_from_camera of a window whose lengths are multiplied by its scale."""
    moved = scale[..., None, None] * se3.translation(first_from_camera)
    return se3.from_rotation_translation(se3.rotation(first_from_camera), moved)
