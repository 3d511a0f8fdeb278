"""VGGT's camera head: cameras from the camera tokens of all images, refined a few times."""

import typing

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float

from rig3r_jax.models.aggregator import EPSILON, LAYER_SCALE
from rig3r_jax.models.layers import BlockOptions, Blocks, Mlp, layer_norm

ENCODING = 9  # translation, quaternion (x, y, z, w), vertical and horizontal angle of view
LOG_VARIANCE = 6  # of a tangent: translation, then rotation


@typing.no_type_check
@struct.dataclass
class CameraEstimate:
    """Cameras after each refinement, the last one best; `i` counts refinements."""

    encoding: Float[Array, "i b v 9"]  # of camera_from_world, see geometry.pose_encoding
    features: Float[Array, "i b v d"]  # normalised trunk features, from which both read-outs are made
    log_variance: Float[Array, "i b v 6"] | None  # of the error's tangent (v, w); None without that branch


def activate(raw: Float[Array, "*b 9"]) -> Float[Array, "*b 9"]:
    """The encoding of the head's raw numbers: angles of view are not negative, the rest stays."""
    return jnp.concatenate([raw[..., :7], nn.relu(raw[..., 7:])], axis=-1)


class Refinement(nn.Module):
    """A trunk over the images' camera tokens, modulated (adaLN, Peebles and Xie 2023) by the encoding so far."""

    heads: int
    trunk_depth: int
    log_variance: bool
    dtype: typing.Any

    @nn.compact
    def __call__(self, tokens: Float[Array, "b v d"], encoding: Float[Array, "b v 9"]):
        """(what to add to the encoding, features, log variance or None); `encoding` is that before `activate`."""
        width = tokens.shape[-1]
        modulation = nn.Dense(3 * width, dtype=self.dtype, name="modulation")
        embedded = nn.Dense(width, dtype=self.dtype, name="embed")(encoding)
        shift, scale, gate = jnp.split(modulation(nn.silu(embedded)), 3, axis=-1)
        plain_norm = nn.LayerNorm(1e-6, self.dtype, use_bias=False, use_scale=False, use_fast_variance=False)
        x = tokens + gate * (plain_norm(tokens) * (1 + scale) + shift)
        block = BlockOptions(self.heads, epsilon=EPSILON, layer_scale=LAYER_SCALE, dtype=self.dtype)
        x = Blocks(self.trunk_depth, block, name="trunk")(x)
        features = layer_norm("trunk_norm", self.dtype, EPSILON)(x)
        change = Mlp(width // 2, ENCODING, self.dtype, name="pose")(features)
        if not self.log_variance:
            return change, features, None
        return change, features, Mlp(width // 2, LOG_VARIANCE, self.dtype, name="pose_log_var")(features)


class CameraHead(nn.Module):
    """Camera tokens to cameras, by one `Refinement` that is repeated."""

    heads: int
    trunk_depth: int = 4
    iterations: int = 4
    log_variance: bool = False  # predict log variances too
    dtype: typing.Any = jnp.float32

    @nn.compact
    def __call__(self, camera_tokens: Float[Array, "b v d"]) -> CameraEstimate:
        """Camera estimates of the images from the camera tokens of the aggregator's last layer."""
        tokens = layer_norm("token_norm", self.dtype, EPSILON)(camera_tokens)
        empty = self.param("empty_pose", nn.initializers.zeros, (ENCODING,)).astype(self.dtype)
        refinement = Refinement(self.heads, self.trunk_depth, self.log_variance, self.dtype, name="refinement")

        def refine(module, carry, _):
            total, encoding = carry
            change, features, log_variance = module(tokens, encoding)
            raw = total + change
            fixed = jax.lax.stop_gradient(raw)  # a refinement learns from its own change only
            return (fixed, fixed), (activate(raw), features, log_variance)

        scan = nn.scan(
            refine,
            variable_broadcast="params",
            variable_axes={"intermediates": 0},
            split_rngs={"params": False},
            length=self.iterations,
        )
        # Changes add up from zero, but the first refinement is told the learned `empty_pose`.
        shape = (*tokens.shape[:2], ENCODING)
        _, estimates = scan(refinement, (jnp.zeros(shape, self.dtype), jnp.broadcast_to(empty, shape)), None)
        return CameraEstimate(*estimates)
