"""Open-Rig3R, a public PyTorch re-implementation of Rig3R, as it is: its weights run here, to be compared with ours.

It shares the idea with the model in rig3r.py and little else: a torchvision ViT with a class token and learned
positions, metadata as extra tokens in front of the decoder, no view, time or position term there, one ray per patch.
"""

import typing

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from rig3r_jax.geometry.numerics import matmul, safe_normalize
from rig3r_jax.models.layers import Block, BlockOptions, Mlp, layer_norm
from rig3r_jax.models.upsample import upsample_aligned
from rig3r_jax.models.vit import patchify

_DECODER_EPSILON = 1e-5  # of the decoder's norms and of the encoder's second one; the ViT has 1e-6


class ViT(nn.Module):
    """torchvision's VisionTransformer at one image size; its tokens without the class token, normed twice."""

    image_size: int
    patch: int
    width: int
    depth: int
    block: BlockOptions

    @nn.compact
    def __call__(self, images: Float[Array, "b h w 3"]) -> Float[Array, "b n d"]:
        dtype = self.block.dtype
        x = nn.Dense(self.width, dtype=dtype, name="patch_embed")(patchify(images, self.patch))
        zeros, init = nn.initializers.zeros, nn.initializers.normal(0.02)
        class_token = self.param("class_token", zeros, (self.width,)).astype(dtype)
        x = jnp.concatenate([jnp.broadcast_to(class_token, (x.shape[0], 1, self.width)), x], axis=1)
        x = x + self.param("offset", zeros, (self.width,)).astype(dtype)  # the same for all tokens, zero there
        x = x + self.param("positions", init, (1 + (self.image_size // self.patch) ** 2, self.width)).astype(dtype)
        for index in range(self.depth):
            x = Block(self.block, name=f"layer{index}")(x)
        x = layer_norm("ln", dtype)(x)
        return layer_norm("norm", dtype, _DECODER_EPSILON)(x[:, 1:])


class ResidualUnit(nn.Module):
    """relu(x + conv(relu(conv x)))."""

    dtype: typing.Any

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        out = nn.relu(nn.Conv(x.shape[-1], (3, 3), padding=1, dtype=self.dtype, name="conv1")(x))
        return nn.relu(x + nn.Conv(x.shape[-1], (3, 3), padding=1, dtype=self.dtype, name="conv2")(out))


class Fusion(nn.Module):
    """Two residual units, then twice the resolution."""

    dtype: typing.Any

    @nn.compact
    def __call__(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
        for name in ("unit1", "unit2"):
            x = ResidualUnit(self.dtype, name=name)(x)
        return upsample_aligned(x, 2 * x.shape[1], 2 * x.shape[2])


class PointHead(nn.Module):
    """Raw points and confidence at eight times the patch grid."""

    hidden: int
    dtype: typing.Any

    @nn.compact
    def __call__(self, x: Float[Array, "b h w d"]) -> Float[Array, "b h8 w8 4"]:
        x = nn.Conv(self.hidden, (1, 1), dtype=self.dtype, name="input")(x)
        for name in ("fusion1", "fusion2", "fusion3"):
            x = Fusion(self.dtype, name=name)(x)
        return nn.Conv(4, (1, 1), dtype=self.dtype, name="output")(x)


class OpenRig3R(nn.Module):
    """Encoder per view -> metadata tokens and all views' tokens through the decoder -> three heads.

    The defaults are those of the public class.
    """

    image_size: int = 384  # images are square
    patch: int = 8
    width: int = 1024
    encoder_depth: int = 24
    encoder_heads: int = 8
    encoder_hidden: int = 4096
    decoder_depth: int = 6
    decoder_heads: int = 8
    decoder_hidden: int = 2048
    metadata_width: int = 64  # unless equal to `width`, metadata cannot be given, there as here
    point_hidden: int = 256
    ray_hidden: int = 512
    dtype: typing.Any = jnp.float32

    @nn.compact
    def __call__(
        self, images: Float[Array, "b v h w 3"], cam2rig: Float[Array, "b m 3"] | None = None
    ) -> dict[str, Float[Array, "b v _ _"]]:
        """Their outputs under their names.

        Args:
            images: in [0, 1], as their model takes them.
            cam2rig: one 3x3 rotation per sample, or those of all views on top of each other. Each row becomes a token;
                the first rotation of a sample turns the rig rays of all of its views.

        Returns:
            pointmap (b v pixels 3) and pointmap_conf (b v pixels 1), raw; pose_raymap (b v n 3), unit vectors;
            rig_raymap (b v n 6), origin and direction; features (b v n d). Pixels are those of 8 x 8 per patch.
        """
        batch, views, height, width = images.shape[:4]
        if (height, width) != (self.image_size, self.image_size):
            raise ValueError(
                f"images are {height}x{width}; the positions of this Open-Rig3R are for {self.image_size}x"
                f"{self.image_size}: resize the images"
            )
        images = images.reshape(batch * views, height, width, 3).astype(self.dtype)
        tokens = ViT(
            self.image_size,
            self.patch,
            self.width,
            self.encoder_depth,
            BlockOptions(self.encoder_heads, self.encoder_hidden, dtype=self.dtype),
            name="encoder",
        )(images)
        extra = self._metadata_tokens(batch, cam2rig)
        x = jnp.concatenate([extra, tokens.reshape(batch, -1, self.width)], axis=1)
        block = BlockOptions(self.decoder_heads, self.decoder_hidden, epsilon=_DECODER_EPSILON, dtype=self.dtype)
        for index in range(self.decoder_depth):
            x = Block(block, name=f"decoder_layer{index}")(x)
        x = block.norm("decoder_norm")(x[:, extra.shape[1] :])
        features = x.reshape(batch, views, -1, self.width)

        grid = self.image_size // self.patch
        raw = PointHead(self.point_hidden, self.dtype, name="point_head")(x.reshape(-1, grid, grid, self.width))
        raw = raw.reshape(batch, views, -1, 4)
        directions = Mlp(self.ray_hidden, 3, self.dtype, name="pose_head")(features)
        rig_rays = Mlp(self.ray_hidden, 6, self.dtype, name="rig_head")(features)
        if cam2rig is not None:
            pairs = rig_rays.reshape(batch, -1, 3)
            rig_rays = matmul(pairs, cam2rig[:, :3].astype(self.dtype).mT).reshape(rig_rays.shape)
        return {
            "pointmap": raw[..., :3],
            "pointmap_conf": raw[..., 3:],
            "pose_raymap": safe_normalize(directions),
            "rig_raymap": rig_rays,
            "features": features,
        }

    def _metadata_tokens(self, batch: int, cam2rig: Float[Array, "b m 3"] | None) -> Float[Array, "b m2 d"]:
        """One token per row of cam2rig, or the learned one that stands for no metadata."""
        learned = self.param("learned_meta", nn.initializers.normal(0.02), (self.width,)).astype(self.dtype)
        embed = nn.Dense(self.width, dtype=self.dtype, name="cam2rig_embed")
        project = nn.Dense(self.width, dtype=self.dtype, name="metadata_project")
        if self.is_initializing():  # parameters exist whether or not there is metadata
            embed(jnp.zeros((1, 3))), project(jnp.zeros((1, self.metadata_width)))
        if cam2rig is None:
            return jnp.broadcast_to(learned, (batch, 1, self.width))
        if self.metadata_width != self.width:
            raise ValueError(
                f"cam2rig was given to an Open-Rig3R whose metadata_width {self.metadata_width} is not its width "
                f"{self.width}: its embedding does not fit its projection; leave cam2rig out"
            )
        return project(embed(cam2rig.astype(self.dtype)))
