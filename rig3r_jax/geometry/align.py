"""Alignment of two sets of corresponding points or cameras in closed form."""

import functools
import typing

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float

from rig3r_jax.geometry import se3, so3
from rig3r_jax.geometry.numerics import align_leading, compiled, matmul


@typing.no_type_check
@struct.dataclass
class Similarity:
    """target = scale * rotation @ source + translation."""

    scale: Float[Array, "*b"]
    rotation: Float[Array, "*b 3 3"]
    translation: Float[Array, "*b 3"]

    def apply(self, points_source: Float[Array, "... 3"]) -> Float[Array, "... 3"]:
        """points_target; the similarity's leading axes are the points' first ones."""
        leading = points_source.ndim - 1
        turned = so3.rotate(self.rotation, points_source)
        return align_leading(self.scale, 0, leading)[..., None] * turned + align_leading(self.translation, 1, leading)


@functools.partial(compiled, static_argnames="with_scale")
def umeyama(
    source: Float[Array, "*b n 3"],
    target: Float[Array, "*b n 3"],
    weights: Float[Array, "*b n"] | None = None,
    with_scale: bool = True,
) -> Similarity:
    """The similarity (rigid motion when not `with_scale`) that moves source onto target in weighted least squares.

    The rotation has det +1 for mirrored and planar points too. Points that all coincide give scale 1; no weight, NaN.
    Source: Umeyama 1991, "Least-squares estimation of transformation parameters between two point patterns".
    """
    weights = jnp.ones_like(source[..., 0]) if weights is None else weights
    weights = (weights / jnp.sum(weights, axis=-1, keepdims=True))[..., None]
    source_mean, target_mean = (jnp.sum(weights * points, axis=-2) for points in (source, target))
    source_centered, target_centered = source - source_mean[..., None, :], target - target_mean[..., None, :]
    covariance = matmul(jnp.swapaxes(weights * target_centered, -1, -2), source_centered)
    rotation = so3.nearest_rotation(covariance)
    scale = jnp.ones_like(source_mean[..., 0])
    if with_scale:
        variance = jnp.sum(weights * source_centered**2, axis=(-1, -2))
        # trace(R^T C) is the sum of the signed singular values.
        ratio = jnp.sum(rotation * covariance, axis=(-1, -2)) / jnp.where(variance == 0, 1.0, variance)
        scale = jnp.where(variance == 0, 1.0, ratio)
    translation = target_mean - scale[..., None] * so3.rotate(rotation, source_mean)
    return Similarity(scale=scale, rotation=rotation, translation=translation)


def to_first_view(world_from_camera: Float[Array, "*b v 4 4"]) -> Float[Array, "*b v 4 4"]:
    """first_from_camera: every camera in the frame of the first camera of its set."""
    return se3.compose(se3.inverse(world_from_camera[..., :1, :, :]), world_from_camera)


@compiled
def metric_scale(
    predicted_centers_rig: Float[Array, "*b v 3"], known_centers_rig: Float[Array, "*b v 3"], mask: Bool[Array, "*b v"]
) -> Float[Array, "*b"]:
    """The factor s that minimises sum |s predicted - known|^2 over the views in `mask`: predicted times s is metres.

    NaN where nothing tells the scale: no view in the mask, or all known or all predicted centres at the rig's origin.
    """
    # where, not a product with the mask: 0 * NaN of a masked view is NaN.
    predicted = jnp.where(mask[..., None], predicted_centers_rig, 0.0)
    metric = jnp.where(mask[..., None], known_centers_rig, 0.0)
    product = jnp.sum(predicted * metric, axis=(-1, -2))
    square = jnp.sum(predicted * predicted, axis=(-1, -2))
    determined = (square > 0) & (jnp.sum(metric * metric, axis=(-1, -2)) > 0)
    return jnp.where(determined, product / jnp.where(determined, square, 1.0), jnp.nan)
