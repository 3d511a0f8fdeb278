"""The multi-view decoder: joint self-attention over all tokens of all images of a sample."""

import flax.linen as nn
import numpy as np
from jaxtyping import Array, Float

from rig3r_jax.models.layers import BlockOptions, Blocks, layer_norm


def stage_ends(depth: int) -> tuple[int, int, int]:
    """Blocks that lie before the end of each of a decoder's three stages."""
    return depth // 2, 3 * depth // 4, depth


class Decoder(nn.Module):
    """Blocks in three stages that end at the depths L/2, 3L/4 and L which the DPT head reads."""

    depth: int
    block: BlockOptions
    positions: np.ndarray | None = None  # (n, 2) rotary positions of the tokens of all views

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"]) -> list[Float[Array, "b n d"]]:
        """[decoder input, states after L/2, 3L/4 and L blocks]; the last one is normalised."""
        states = [x]
        ends = stage_ends(self.depth)
        for stage, (start, end) in enumerate(zip((0, *ends), ends, strict=False)):
            x = Blocks(end - start, self.block, self.positions, name=f"stage{stage}")(x)
            states.append(x)
        states[-1] = layer_norm("norm", self.block.dtype)(x)
        return states
