"""The image encoder: a ViT whose weights are shared over all images."""

import typing

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from rig3r_jax.geometry.numerics import at_least_float32
from rig3r_jax.models.attention import Attention, dense_attention
from rig3r_jax.models.layers import PATCHES, Blocks, layer_norm
from rig3r_jax.models.positions import grid_positions, grid_sincos


def patchify(images: Float[Array, "b h w c"], patch: int) -> Float[Array, "b n p"]:
    """Cuts images into row-major patches of patch*patch*c values."""
    batch, height, width, channels = images.shape
    x = images.reshape(batch, height // patch, patch, width // patch, patch, channels)
    return x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, -1, patch * patch * channels)


def unpatchify(tokens: Float[Array, "*b n p"], rows: int, columns: int, channels: int) -> Float[Array, "*b h w c"]:
    """Inverse of `patchify` for a grid of rows x columns patches; any leading axes."""
    side = round((tokens.shape[-1] // channels) ** 0.5)
    x = tokens.reshape(*tokens.shape[:-2], rows, columns, side, side, channels)
    return jnp.swapaxes(x, -4, -3).reshape(*tokens.shape[:-2], rows * side, columns * side, channels)


class Encoder(nn.Module):
    """Patch embedding, positions, blocks, norm."""

    width: int
    depth: int
    heads: int
    patch: int
    position: str = "sincos"  # added to the tokens; "rope": RoPE100 inside attention, as DUSt3R's encoder; "none"
    attend: Attention = dense_attention
    remat: str = "none"
    unroll: bool = False
    dtype: typing.Any = jnp.float32

    @nn.compact
    def __call__(self, images: Float[Array, "b h w 3"]) -> Float[Array, "b n d"]:
        """Tokens of images in [-1, 1]."""
        rows, columns = images.shape[1] // self.patch, images.shape[2] // self.patch
        patches = patchify(images.astype(self.dtype), self.patch)
        x = nn.Dense(self.width, kernel_init=nn.initializers.xavier_uniform(), dtype=self.dtype, name="patch_embed")(
            patches
        )
        if self.position == "sincos":
            x = x + grid_sincos(rows, columns, self.width, at_least_float32(self.dtype)).astype(self.dtype)
        x = nn.with_logical_constraint(x, PATCHES)
        x = Blocks(
            self.depth,
            self.heads,
            attend=self.attend,
            positions=grid_positions(rows, columns) if self.position == "rope" else None,
            remat=self.remat,
            unroll=self.unroll,
            dtype=self.dtype,
            axes=PATCHES,
            name="blocks",
        )(x)
        return layer_norm("norm", self.dtype)(x)
