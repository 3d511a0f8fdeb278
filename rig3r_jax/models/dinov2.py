"""DINOv2's vision transformer with register tokens (Darcet et al. 2024): the image encoder of VGGT."""

import typing

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from rig3r_jax.geometry.numerics import at_least_float32
from rig3r_jax.models.attention import Attention, dense_attention
from rig3r_jax.models.layers import TOKENS, Blocks, layer_norm
from rig3r_jax.models.resize import resize_bicubic
from rig3r_jax.models.vit import patchify

_SMALL = nn.initializers.normal(0.02)


def check_image_size(height: int, width: int, patch: int) -> None:
    """Raises ValueError unless both sides are multiples of the patch."""
    for name, size in (("height", height), ("width", width)):
        if size < patch or size % patch:
            near = max(round(size / patch), 1) * patch
            raise ValueError(f"images have {name} {size}: it must be a multiple of {patch}; crop or resize to {near}")


class DINOv2(nn.Module):
    """Patch embedding, learned positions, registers, blocks with LayerScale, norm."""

    width: int
    depth: int
    heads: int
    patch: int = 14
    registers: int = 4
    grid: int = 37  # side of the learned grid of positions: of the images of training, in patches
    attend: Attention = dense_attention
    remat: str = "none"
    unroll: bool = False
    dtype: typing.Any = jnp.float32

    @nn.compact
    def __call__(self, images: Float[Array, "b h w 3"]) -> Float[Array, "b n d"]:
        """Normalised tokens of the patches, row-major, of images less ImageNet's mean, over its deviation."""
        batch, height, width, _ = images.shape
        check_image_size(height, width, self.patch)
        rows, columns = height // self.patch, width // self.patch
        patches = patchify(images.astype(self.dtype), self.patch)
        x = nn.Dense(self.width, kernel_init=nn.initializers.xavier_uniform(), dtype=self.dtype, name="patch_embed")(
            patches
        )
        special = [self._token("cls_token", 1)]
        position = Positions(self.width, self.grid, at_least_float32(self.dtype), name="positions")(rows, columns)
        x = jnp.concatenate([jnp.broadcast_to(special[0], (batch, 1, self.width)), x], axis=1)
        x = x + position.astype(self.dtype)
        if self.registers:  # after the positions: they have none
            registers = jnp.broadcast_to(
                self._token("register_tokens", self.registers), (batch, self.registers, self.width)
            )
            x = jnp.concatenate([x[:, :1], registers, x[:, 1:]], axis=1)
        x = nn.with_logical_constraint(x, TOKENS)
        x = Blocks(
            self.depth,
            self.heads,
            attend=self.attend,
            layer_scale=1.0,
            remat=self.remat,
            unroll=self.unroll,
            dtype=self.dtype,
            name="blocks",
        )(x)
        return layer_norm("norm", self.dtype)(x)[:, 1 + self.registers :]
