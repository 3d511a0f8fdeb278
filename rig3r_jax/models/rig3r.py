"""Rig3R: images of a rig, with or without metadata, to points, pose rays and rig rays."""

import dataclasses
import typing

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from rig3r_jax.geometry.numerics import at_least_float32
from rig3r_jax.models.attention import Attention, chunked_attention, select_attention
from rig3r_jax.models.decoder import Decoder
from rig3r_jax.models.dpt import ChunkedDPTHead
from rig3r_jax.models.heads import LinearPointHead, RayHead, points_and_confidence
from rig3r_jax.models.layers import BlockOptions
from rig3r_jax.models.linear import PRODUCTS
from rig3r_jax.models.positions import grid_positions
from rig3r_jax.models.remat import REMAT_POLICIES
from rig3r_jax.models.rig_embedding import RigEmbedding
from rig3r_jax.models.vit import Encoder
from rig3r_jax.schema import Predictions, Views

VIEWS = ("batch", "views", "patches", "width")  # logical axes of the tokens of every view


def to_unit_range(images: Float[Array, "*b"] | UInt8[Array, "*b"], dtype=jnp.float32) -> Float[Array, "*b"]:
    """Images in [0, 1]; bytes are divided by 255."""
    return images.astype(dtype) / 255.0 if images.dtype == jnp.uint8 else images.astype(dtype)


class Rig3R(nn.Module):
    """Encoder per image -> rig embedding -> joint decoder -> point head, pose ray head, rig ray head."""

    width: int
    heads: int
    encoder_depth: int
    decoder_depth: int  # at least 4: the DPT head reads the depths L/2, 3L/4 and L
    patch: int = 16
    decoder_width: int = 0  # 0: as the encoder
    decoder_heads: int = 0  # 0: as the encoder
    position: str = "sincos"
    point_head: str = "dpt"  # "dpt": a point per pixel; "linear": a grid of points_per_patch squared per patch
    points_per_patch: int = 16  # linear head only
    rays_per_patch: int = 16  # side of the ray grid of one patch; `patch` gives a ray per pixel
    ray_hidden: int = 1024  # hidden width of the ray heads
    dpt_features: int = 256
    dpt_last: int = 128
    dpt_chunk: int = 4  # views of a sample that pass the DPT head at a time
    time_unit: float = 0.1  # seconds
    rig_embedding: bool = True  # False: of the metadata the decoder is given the frame index alone
    attend: Attention = chunked_attention
    attend_jointly: Attention | None = None  # over the tokens of all images, in the decoder; None: as `attend`
    qk_norm: bool = False
    linear: str = "plain"  # a key of linear.PRODUCTS: products of the blocks' linear layers
    remat: str = "none"
    unroll: bool = False  # the scan over layers
    unroll_head: bool = False  # the scan over the DPT head's parts
    dtype: typing.Any = jnp.float32  # of the activations; outputs are at least float32

    @nn.compact
    def __call__(self, views: Views) -> Predictions:
        """Predictions for every view; shapes in `schema.Predictions`."""
        batch, count, height, width = views.images.shape[:4]
        rows, columns = height // self.patch, width // self.patch
        block = _block(self)
        tokens = encoder_of(self, name="encoder")(normalised(self, views.images.reshape(-1, height, width, 3)))
        decoder_width = self.decoder_width or self.width
        if decoder_width != self.width:
            tokens = nn.Dense(decoder_width, dtype=self.dtype, name="decoder_embed")(tokens)
        embedding = RigEmbedding(
            decoder_width,
            time_unit=self.time_unit,
            index_only=not self.rig_embedding,
            dtype=self.dtype,
            name="rig_embedding",
        )
        tokens = nn.with_logical_constraint(tokens.reshape(batch, count, rows * columns, -1), VIEWS)
        tokens = tokens + embedding(views.metadata, rows, columns, height, width)

        rotary = np.tile(grid_positions(rows, columns), (count, 1)) if self.position == "rope" else None
        block = dataclasses.replace(
            block,
            heads=self.decoder_heads or self.heads,
            attend=self.attend_jointly or self.attend,
            qk_norm=self.qk_norm,
        )
        decoder = Decoder(self.decoder_depth, block, rotary, name="decoder")
        levels = decoder(tokens.reshape(batch, count * rows * columns, -1))
        levels = [
            nn.with_logical_constraint(level.reshape(batch, count, rows * columns, -1), VIEWS) for level in levels
        ]

        points, confidence = points_and_confidence(self._point_head(levels, rows, columns))
        rays = [
            RayHead(self.ray_hidden, self.rays_per_patch, self.dtype, name=f"{name}_head")(levels[-1], rows, columns)
            for name in ("pose", "rig")
        ]
        return Predictions(points, confidence, *rays[0], *rays[1])

    def _point_head(self, levels: list[Float[Array, "b v n d"]], rows: int, columns: int) -> Float[Array, "b v h w 4"]:
        if self.point_head == "linear":
            return LinearPointHead(self.points_per_patch, self.dtype, name="point_head")(levels[-1], rows, columns)
        dpt = {"patch": self.patch, "features": self.dpt_features, "last": self.dpt_last, "dtype": self.dtype}
        return ChunkedDPTHead(self.dpt_chunk, dpt, self.unroll_head, name="point_head")(levels, rows, columns)


def _block(model: Rig3R) -> BlockOptions:
    return BlockOptions(
        model.heads,
        attend=model.attend,
        product=PRODUCTS[model.linear],
        remat=model.remat,
        unroll=model.unroll,
        dtype=model.dtype,
    )


def encoder_of(model: Rig3R, **module_fields) -> Encoder:
    """The image encoder, which can be run alone: its parameters are those of the model below "encoder"."""
    return Encoder(model.width, model.encoder_depth, model.patch, _block(model), model.position, **module_fields)


def normalised(model: Rig3R, images: Float[Array, "n h w 3"] | UInt8[Array, "n h w 3"]) -> Float[Array, "n h w 3"]:
    """Images as the encoder takes them."""
    return (to_unit_range(images, at_least_float32(model.dtype)) - 0.5) / 0.5


VARIANTS: dict[str, dict[str, int]] = {
    "tiny": {"width": 64, "heads": 4, "encoder_depth": 2, "decoder_depth": 4, "ray_hidden": 64},
    "small": {"width": 384, "heads": 6, "encoder_depth": 6, "decoder_depth": 8, "ray_hidden": 384},
    "base": {"width": 768, "heads": 12, "encoder_depth": 12, "decoder_depth": 12, "ray_hidden": 768},
    "large": {"width": 1024, "heads": 16, "encoder_depth": 24, "decoder_depth": 24, "ray_hidden": 1024},
}


def build(
    *,
    variant: str,
    attention: str = "auto",
    dtype: str = "float32",
    backend: str | None = None,
    kind: str = "",
    **fields,
) -> Rig3R:
    """The model of a variant; further fields override it, heads of 0 do not.

    Attention is that of `models.attention.select_attention` for a device of this backend (by default JAX's own) and
    kind, chosen for the encoder and for the decoder by the width of their heads.

    Raises:
        ValueError: for an unknown variant, attention, kind of linear layers, remat policy, position, head or dtype.
    """
    choices = {
        "variant": (variant, VARIANTS),
        "linear": (fields.get("linear", "plain"), PRODUCTS),
        "remat": (fields.get("remat", "none"), REMAT_POLICIES),
        "position": (fields.get("position", "sincos"), ("sincos", "rope")),
        "point_head": (fields.get("point_head", "dpt"), ("dpt", "linear")),
        "dtype": (dtype, ("float32", "bfloat16", "float64")),
    }
    for name, (value, allowed) in choices.items():
        if value not in allowed:
            raise ValueError(f"model.{name} is {value!r}; it must be one of {', '.join(allowed)}")
    device = {"backend": backend or jax.default_backend(), "kind": kind}
    fields = {**VARIANTS[variant], **fields, "heads": fields.get("heads") or VARIANTS[variant]["heads"]}
    # In a loop, convolutions are several times slower on a CPU; unrolled on a GPU, a head keeps maps of all its parts.
    unroll_head = fields.get("unroll", False) and device["backend"] == "cpu"
    model = Rig3R(**fields, unroll_head=unroll_head, dtype=jnp.dtype(dtype))
    heads = {
        "attend": (model.width, model.heads),
        "attend_jointly": (model.decoder_width or model.width, model.decoder_heads or model.heads),
    }
    return model.clone(
        **{
            name: select_attention(attention, **device, dtype=model.dtype, head_width=width // max(count, 1))
            for name, (width, count) in heads.items()
        }
    )


def output_grids(model: Rig3R, height: int, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """(rows, columns) of the points and of the rays that `model` predicts for height x width images."""
    per_patch = model.points_per_patch if model.point_head == "linear" else model.patch
    rows, columns = height // model.patch, width // model.patch
    return (rows * per_patch, columns * per_patch), (rows * model.rays_per_patch, columns * model.rays_per_patch)
