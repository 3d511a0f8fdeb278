"""VGGT (Wang et al. 2025): images of a scene to cameras, depth and points, in one pass."""

import typing

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float, UInt8

from rig3r_jax.geometry import pose_encoding
from rig3r_jax.geometry.numerics import at_least_float32
from rig3r_jax.models.aggregator import Aggregator, stage_ends
from rig3r_jax.models.attention import Attention, chunked_attention, select_attention
from rig3r_jax.models.camera_head import CameraEstimate, CameraHead
from rig3r_jax.models.dinov2 import patch_grid
from rig3r_jax.models.dpt import ChunkedDPTHead
from rig3r_jax.models.layers import BlockOptions
from rig3r_jax.models.remat import REMAT_POLICIES
from rig3r_jax.models.rig3r import to_unit_range

OUTPUTS = ("camera", "depth", "points")
_MEAN = np.array([0.485, 0.456, 0.406])  # of ImageNet, RGB in [0, 1]
_DEVIATION = np.array([0.229, 0.224, 0.225])


@typing.no_type_check
@struct.dataclass
class VGGTOutput:
    """What VGGT predicts, at least float32; None where the model's `outputs` leave it out.

    Lengths have no unit of their own: they are relative to the scene. `world` is, nearly, the first camera's frame.
    """

    camera: CameraEstimate | None  # per refinement; camera_from_world
    depth: Float[Array, "b v h w"] | None  # along the camera's z axis
    depth_confidence: Float[Array, "b v h w"] | None  # above 1
    points_world: Float[Array, "b v h w 3"] | None
    points_confidence: Float[Array, "b v h w"] | None  # above 1


class VGGT(nn.Module):
    """Aggregator -> camera head, depth head, point head."""

    width: int
    depth: int  # pairs of a frame block and a global block
    heads: int
    levels: tuple[int, int, int, int]  # layers, from 0, that the depth and point heads read
    encoder_depth: int
    encoder_heads: int
    camera_heads: int
    trunk_depth: int = 4  # blocks of the camera head
    iterations: int = 4  # refinements of the cameras
    patch: int = 14
    registers: int = 4
    encoder_registers: int = 4
    position_grid: int = 37
    dpt_features: int = 256
    dpt_last: int = 32
    dpt_widths: tuple[int, int, int, int] = (256, 512, 1024, 1024)
    dpt_chunk: int = 4  # views of a sample that pass a DPT head at a time
    outputs: tuple[str, ...] = OUTPUTS  # heads that exist; the camera alone needs no DPT head
    log_variance: bool = False  # the camera head tells its uncertainty too
    attend: Attention = chunked_attention
    remat: str = "none"
    unroll: bool = False
    dtype: typing.Any = jnp.float32  # of the aggregator's activations; heads and outputs are at least float32

    @nn.compact
    def __call__(self, images: Float[Array, "b v h w c"] | UInt8[Array, "b v h w c"]) -> VGGTOutput:
        """Predictions for every image; images are RGB in [0, 1] or bytes, of any size that the patch divides.

        Raises:
            ValueError: for images of another layout, or with a side that is no multiple of the patch.
        """
        if images.shape[-1] != 3 or not images.shape[1]:
            raise ValueError(f"images have the shape {images.shape}: it must be (b, v, h, w, 3), channels last, v > 0")
        rows, columns = patch_grid(*images.shape[2:4], self.patch)
        precise = at_least_float32(self.dtype)
        aggregator = aggregator_of(self, name="aggregator")
        kept = aggregator(normalised(self, images))
        camera, depth, points = None, (None, None), (None, None)
        if "camera" in self.outputs:
            head = CameraHead(
                self.camera_heads,
                self.trunk_depth,
                self.iterations,
                self.log_variance,
                precise,
                name="camera_head",
            )
            camera = head(kept[-1][:, :, 0])
        levels = [level[:, :, aggregator.specials :] for level in kept[: len(self.levels)]]
        if "depth" in self.outputs:
            depth = depth_and_confidence(self._dense_head("depth_head", 2)(levels, rows, columns))
        if "points" in self.outputs:
            points = points_and_confidence(self._dense_head("point_head", 4)(levels, rows, columns))
        return VGGTOutput(camera, *depth, *points)

    def dense_head_fields(self, channels: int) -> dict[str, typing.Any]:
        """The fields of `models.dpt.DPTHead`."""
        return {
            "patch": self.patch,
            "channels": channels,
            "features": self.dpt_features,
            "last": self.dpt_last,
            "level_widths": self.dpt_widths,
            "form": "vggt",
            "dtype": at_least_float32(self.dtype),
        }

    def _dense_head(self, name: str, channels: int) -> ChunkedDPTHead:
        return ChunkedDPTHead(self.dpt_chunk, self.dense_head_fields(channels), name=name)


def aggregator_of(model: VGGT, **module_fields) -> Aggregator:
    """The trunk; `aggregator.encoder_of` it is the image encoder, which can be run alone."""
    return Aggregator(
        model.width,
        model.depth,
        model.levels,
        model.encoder_depth,
        model.encoder_heads,
        BlockOptions(model.heads, attend=model.attend, remat=model.remat, unroll=model.unroll, dtype=model.dtype),
        model.patch,
        model.registers,
        model.encoder_registers,
        model.position_grid,
        **module_fields,
    )


def normalised(model: VGGT, images: Float[Array, "*b h w 3"] | UInt8[Array, "*b h w 3"]) -> Float[Array, "*b h w 3"]:
    """Images as the image encoder takes them."""
    precise = at_least_float32(model.dtype)
    return (to_unit_range(images, precise) - _MEAN.astype(precise)) / _DEVIATION.astype(precise)


def depth_and_confidence(raw: Float[Array, "*b h w 2"]) -> tuple[Float[Array, "*b h w"], Float[Array, "*b h w"]]:
    """Depth exp(raw) and confidence 1 + exp(raw)."""
    return jnp.exp(raw[..., 0]), 1.0 + jnp.exp(raw[..., 1])


def points_and_confidence(raw: Float[Array, "*b h w 4"]) -> tuple[Float[Array, "*b h w 3"], Float[Array, "*b h w"]]:
    """Points sign(raw) (exp|raw| - 1), coordinate by coordinate, and confidence 1 + exp(raw)."""
    xyz = raw[..., :3]
    return jnp.sign(xyz) * jnp.expm1(jnp.abs(xyz)), 1.0 + jnp.exp(raw[..., 3])


def unproject_depth(output: VGGTOutput) -> Float[Array, "b v h w 3"]:
    """points_world from the depths and the last cameras: as a rule more accurate than `output.points_world`.

    Raises:
        ValueError: when the model was built without one of both.
    """
    if output.camera is None or output.depth is None:
        missing = "camera" if output.camera is None else "depth"
        raise ValueError(f"the output has no {missing}: build the model with outputs that contain camera and depth")
    return pose_encoding.points_from_depth(output.depth, output.camera.encoding[-1])


_LARGE = {
    "width": 1024,
    "depth": 24,
    "heads": 16,
    "levels": (4, 11, 17, 23),
    "encoder_depth": 24,
    "encoder_heads": 16,
    "camera_heads": 16,
}
_TINY = {
    "width": 48,
    "depth": 4,
    "heads": 4,
    "levels": (0, 1, 2, 3),
    "encoder_depth": 2,
    "encoder_heads": 4,
    "camera_heads": 4,
    "trunk_depth": 2,
    "position_grid": 4,
    "dpt_features": 16,
    "dpt_widths": (8, 16, 24, 32),
}
VARIANTS: dict[str, dict[str, typing.Any]] = {"tiny": _TINY, "1b": _LARGE}


def build_vggt(
    *, variant: str = "1b", attention: str = "auto", dtype: str = "float32", backend: str | None = None, **fields
) -> VGGT:
    """The model of a variant; further fields override it.

    Raises:
        ValueError: for an unknown variant, remat policy, dtype, attention or output, and for widths or levels that do
            not fit.
    """
    outputs = tuple(fields.get("outputs", OUTPUTS))
    choices = [
        ("variant", variant, tuple(VARIANTS)),
        ("remat", fields.get("remat", "none"), tuple(REMAT_POLICIES)),
        ("dtype", dtype, ("float32", "bfloat16", "float64")),
        *(("outputs", output, OUTPUTS) for output in outputs),
    ]
    for name, value, allowed in choices:
        if value not in allowed:
            raise ValueError(f"vggt.{name} is {value!r}; it must be one of {', '.join(allowed)}")
    fields = {**VARIANTS[variant], **fields, "outputs": outputs}
    fields |= {name: tuple(fields[name]) for name in ("levels", "dpt_widths") if name in fields}
    width, heads = fields["width"], fields["heads"]
    if width % (4 * heads):
        raise ValueError(f"vggt.width {width} with {heads} heads: a head's width must be a multiple of 4 (2-D RoPE)")
    stage_ends(fields["levels"], fields["depth"])
    for name, multiple in (("dpt_features", 8), ("dpt_widths", 4)):
        if np.any(np.mod(fields.get(name, 0), multiple)):
            raise ValueError(f"vggt.{name} {fields[name]} must be divisible by {multiple} (sines and cosines of u, v)")
    if len(fields["levels"]) != 4:
        raise ValueError(f"vggt.levels are {fields['levels']}: the dense heads read 4 layers; name four")
    attend = select_attention(attention, backend=backend or jax.default_backend(), dtype=jnp.dtype(dtype))
    return VGGT(**fields, attend=attend, dtype=jnp.dtype(dtype))
