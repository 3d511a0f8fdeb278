"""Read-outs of the decoder: linear point head and ray heads, and the map from raw numbers to points.

The last layer of every head is float32 at least: 8 bits of a bfloat16 would round rays by a tenth of a degree.
"""

import typing

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from rig3r_jax.geometry.numerics import at_least_float32, safe_norm
from rig3r_jax.models.layers import Mlp
from rig3r_jax.models.vit import unpatchify


def points_and_confidence(raw: Float[Array, "*b h w 4"]) -> tuple[Float[Array, "*b h w 3"], Float[Array, "*b h w"]]:
    """Points = direction * expm1(norm), confidence = 1 + exp(raw): DUSt3R's parametrisation, in float32 at least."""
    raw = raw.astype(at_least_float32(raw.dtype))
    xyz, log_confidence = raw[..., :3], raw[..., 3]
    norm = safe_norm(xyz, axis=-1, keepdims=True)
    scale = jnp.where(norm > 1e-6, jnp.expm1(norm) / jnp.maximum(norm, 1e-6), 1.0)  # expm1(x)/x -> 1 at the origin
    return xyz * scale, 1.0 + jnp.exp(log_confidence)


class LinearPointHead(nn.Module):
    """One linear layer from a token to a grid of points_per_patch squared raw points: the cheap choice on a CPU."""

    points_per_patch: int
    dtype: typing.Any = jnp.float32

    @nn.compact
    def __call__(self, tokens: Float[Array, "*b n d"], rows: int, columns: int) -> Float[Array, "*b h w 4"]:
        init = nn.initializers.normal(0.02)
        precise = at_least_float32(self.dtype)
        raw = nn.Dense(4 * self.points_per_patch**2, kernel_init=init, dtype=precise, name="proj")(tokens)
        return unpatchify(raw, rows, columns, 4)


class RayHead(nn.Module):
    """Two MLPs: one from each token to its patch's ray directions, one from the mean token to the camera centre."""

    hidden: int
    rays_per_patch: int
    dtype: typing.Any = jnp.float32

    @nn.compact
    def __call__(
        self, tokens: Float[Array, "*b n d"], rows: int, columns: int
    ) -> tuple[Float[Array, "*b h w 3"], Float[Array, "*b 3"]]:
        """Directions (not normalised), rays_per_patch squared for each of rows x columns patches, and one centre."""
        precise = at_least_float32(self.dtype)
        raw = Mlp(self.hidden, 3 * self.rays_per_patch**2, self.dtype, precise, name="directions")(tokens)
        center = Mlp(self.hidden, 3, precise, name="center")(tokens.astype(precise).mean(axis=-2))
        return unpatchify(raw, rows, columns, 3), center
