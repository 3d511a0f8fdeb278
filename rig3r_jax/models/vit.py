"""The image encoder: a ViT whose weights are shared over all images."""

import dataclasses
import typing

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from rig3r_jax.geometry.numerics import at_least_float32
from rig3r_jax.models.layers import PATCHES, BlockOptions, Blocks, layer_norm
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


def patch_embedding(width: int, dtype: typing.Any) -> nn.Dense:
    """The linear layer from patches to tokens."""
    return nn.Dense(width, kernel_init=nn.initializers.xavier_uniform(), dtype=dtype, name="patch_embed")


class Encoder(nn.Module):
    """Patch embedding, positions, blocks, norm."""

    width: int
    depth: int
    patch: int
    block: BlockOptions
    position: str = "sincos"  # added to the tokens; "rope": RoPE100 inside attention, as DUSt3R's encoder; "none"

    @nn.compact
    def __call__(self, images: Float[Array, "b h w 3"]) -> Float[Array, "b n d"]:
        """Tokens of images in [-1, 1]."""
        dtype = self.block.dtype
        rows, columns = images.shape[1] // self.patch, images.shape[2] // self.patch
        x = patch_embedding(self.width, dtype)(patchify(images.astype(dtype), self.patch))
        if self.position == "sincos":
            x = x + grid_sincos(rows, columns, self.width, at_least_float32(dtype)).astype(dtype)
        x = nn.with_logical_constraint(x, PATCHES)
        positions = grid_positions(rows, columns) if self.position == "rope" else None
        x = Blocks(self.depth, dataclasses.replace(self.block, axes=PATCHES), positions, name="blocks")(x)
        return layer_norm("norm", dtype)(x)
