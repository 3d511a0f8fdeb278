"""DINOv2's vision transformer with register tokens (Darcet et al. 2024): the image encoder of VGGT."""

import dataclasses
import typing

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from rig3r_jax.geometry.numerics import at_least_float32
from rig3r_jax.models.layers import TOKENS, BlockOptions, Blocks, layer_norm
from rig3r_jax.models.resize import resize_bicubic
from rig3r_jax.models.vit import patch_embedding, patchify


def patch_grid(height: int, width: int, patch: int) -> tuple[int, int]:
    """(rows, columns) of the patches of an image.

    Raises:
        ValueError: unless both sides are multiples of the patch.
    """
    for side, size in (("height", height), ("width", width)):
        if size < patch or size % patch:
            near = max(round(size / patch), 1) * patch
            raise ValueError(
                f"the images' {side} is {size}: it must be a multiple of {patch}; resize or crop to {near}"
            )
    return height // patch, width // patch


class GridPositions(nn.Module):
    """A learned position of the class token, and a square grid of them for the patches, resized to the image's."""

    width: int
    side: int
    dtype: typing.Any = jnp.float32

    @nn.compact
    def __call__(self, rows: int, columns: int) -> Float[Array, "1+{rows}*{columns} {self.width}"]:
        """The class token's position, then those of the patches, row-major."""
        table = self.param("table", nn.initializers.truncated_normal(0.02), (1 + self.side**2, self.width))
        table = table.astype(self.dtype)
        if rows == columns == self.side:
            return table
        grid = resize_bicubic(table[1:].reshape(self.side, self.side, self.width), rows, columns)
        return jnp.concatenate([table[:1], grid.reshape(rows * columns, self.width)])


class DINOv2(nn.Module):
    """Patch embedding, learned positions, registers, blocks with LayerScale, norm."""

    width: int
    depth: int
    block: BlockOptions
    patch: int = 14
    registers: int = 4
    position_grid: int = 37  # patches along a side of the images of its training

    @nn.compact
    def __call__(self, images: Float[Array, "b h w 3"]) -> Float[Array, "b n d"]:
        """Normalised patch tokens, row-major, of images from which ImageNet's mean and deviation are divided out."""
        rows, columns = patch_grid(*images.shape[1:3], self.patch)
        dtype = self.block.dtype
        patches = patchify(images.astype(dtype), self.patch)
        x = patch_embedding(self.width, dtype)(patches)
        x = jnp.concatenate([self._tokens("cls_token", 1, patches), x], axis=1)
        positions = GridPositions(self.width, self.position_grid, at_least_float32(dtype), name="positions")
        x = x + positions(rows, columns).astype(dtype)
        if self.registers:  # placed after the positions are added: they have none
            x = jnp.concatenate([x[:, :1], self._tokens("register_tokens", self.registers, x), x[:, 1:]], axis=1)
        x = nn.with_logical_constraint(x, TOKENS)
        x = Blocks(self.depth, dataclasses.replace(self.block, layer_scale=1.0), name="blocks")(x)
        return layer_norm("norm", dtype)(x)[:, 1 + self.registers :]

    def _tokens(self, name: str, count: int, like: Float[Array, "b n _"]) -> Float[Array, "b {count} d"]:
        """`count` learned tokens, the same for every image."""
        tokens = self.param(name, nn.initializers.normal(0.02), (count, self.width))
        return jnp.broadcast_to(tokens.astype(self.block.dtype), (like.shape[0], count, self.width))
