"""VGGT's trunk: image tokens through blocks that attend within one image and over all images by turns."""

import dataclasses

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from rig3r_jax.models.dinov2 import DINOv2, patch_grid
from rig3r_jax.models.layers import Block, BlockOptions, stack
from rig3r_jax.models.positions import grid_positions
from rig3r_jax.models.remat import rematerialised

EPSILON = 1e-5  # of every LayerNorm outside DINOv2
LAYER_SCALE = 0.01  # initial factor of the residual branches


def token_positions(specials: int, rows: int, columns: int) -> Int[np.ndarray, "n 2"]:
    """(row, column) of one image's tokens for the rotary embedding: patches count from 1, special tokens are at 0."""
    return np.concatenate([np.zeros((specials, 2), int), 1 + grid_positions(rows, columns)])


class BlockPair(nn.Module):
    """A block within each image, then one over the tokens of all images."""

    options: BlockOptions
    positions: np.ndarray  # (n, 2) of one image

    @nn.compact
    def __call__(self, x: Float[Array, "b v n d"]) -> tuple[Float[Array, "b v n d"], Float[Array, "b v n d"]]:
        """(tokens after the frame block, tokens after the global block)."""
        batch, views, count, width = x.shape
        options = dataclasses.replace(self.options, qk_norm=True, epsilon=EPSILON, layer_scale=LAYER_SCALE)
        frame = Block(options, self.positions, name="frame")(x.reshape(batch * views, count, width))
        over_views = Block(options, np.tile(self.positions, (views, 1)), name="global")
        joint = over_views(frame.reshape(batch, views * count, width))
        return frame.reshape(x.shape), joint.reshape(x.shape)


class Aggregator(nn.Module):
    """Image encoder, a camera token and registers per image, pairs of blocks in stages that end at the kept layers."""

    width: int
    depth: int  # pairs of blocks
    levels: tuple[int, ...]  # layers to keep, counted from 0, in order
    encoder_depth: int
    encoder_heads: int
    block: BlockOptions  # of the pairs; the encoder's has heads of its own
    patch: int = 14
    registers: int = 4  # of the aggregator; the image encoder has its own
    encoder_registers: int = 4
    position_grid: int = 37

    @property
    def specials(self) -> int:
        """Tokens of an image before its patches: the camera token and the registers."""
        return 1 + self.registers

    @nn.compact
    def __call__(self, images: Float[Array, "b v h w 3"]) -> list[Float[Array, "b v n c"]]:
        """Tokens of the kept layers (and of the last), of twice the width: after the frame and the global block.

        A frame's tokens are [camera, registers, patches row-major]; the first frame has camera and register tokens of
        its own. Images are as for `DINOv2`.
        """
        batch, views, height, width, _ = images.shape
        rows, columns = patch_grid(height, width, self.patch)
        encoder = encoder_of(self, name="encoder")
        patches = encoder(images.reshape(batch * views, height, width, 3)).reshape(batch, views, -1, self.width)
        specials = [self._specials("camera_token", 1, patches)]
        if self.registers:
            specials.append(self._specials("register_tokens", self.registers, patches))
        x = jnp.concatenate([*specials, patches], axis=2)
        self.sow("intermediates", "tokens", x)

        pair_class = rematerialised(BlockPair, self.block.remat, unroll=self.block.unroll)
        positions = token_positions(self.specials, rows, columns)
        kept, start = [], 0
        for stage, end in enumerate(stage_ends(self.levels, self.depth)):
            pair = pair_class(self.block, positions, name=f"stage{stage}")
            # The output of the frame block is carried, not stacked: only the last one of a stage is wanted.
            scan = stack(end - start, lambda module, carry, _: (module(carry[1]), None), unroll=self.block.unroll)
            (frame, x), _ = scan(pair, (jnp.zeros_like(x), x), None)
            kept.append(jnp.concatenate([frame, x], axis=-1))
            start = end
        return kept

    def _specials(self, name: str, count: int, patches: Float[Array, "b v _ d"]) -> Float[Array, "b v {count} d"]:
        """Learned tokens: the first row for the first frame, the second for all others."""
        batch, views = patches.shape[:2]
        tokens = self.param(name, nn.initializers.normal(1e-6), (2, count, self.width)).astype(self.block.dtype)
        return jnp.broadcast_to(tokens[np.minimum(np.arange(views), 1)], (batch, views, count, self.width))


def encoder_of(aggregator: Aggregator, **module_fields) -> DINOv2:
    """The image encoder; its parameters are those of the aggregator below "encoder"."""
    return DINOv2(
        aggregator.width,
        aggregator.encoder_depth,
        dataclasses.replace(aggregator.block, heads=aggregator.encoder_heads),
        aggregator.patch,
        aggregator.encoder_registers,
        aggregator.position_grid,
        **module_fields,
    )


def stage_ends(levels: tuple[int, ...], depth: int) -> tuple[int, ...]:
    """Number of layers run at the end of each stage; the last stage ends at `depth`, whether kept or not.

    Raises:
        ValueError: for levels that are no increasing layer numbers below `depth`.
    """
    if list(levels) != sorted({level for level in levels if 0 <= level < depth}):
        raise ValueError(f"levels are {levels}: they must be different layers of 0..{depth - 1}, in increasing order")
    return tuple(sorted({*(level + 1 for level in levels), depth}))
