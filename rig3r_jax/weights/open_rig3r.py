"""The weights of the public Open-Rig3R, to and from `models.open_rig3r.OpenRig3R`."""

import json
import re
from collections.abc import Iterable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import DTypeLike

from rig3r_jax.models.open_rig3r import OpenRig3R
from rig3r_jax.weights.engine import (
    LINEAR,
    PATCH,
    ConversionError,
    Entry,
    Table,
    conv,
    convert,
    export,
    linear,
    norm,
    squeezed,
)

ENCODER_HEADS = 8  # fixed in their code
DECODER_HEADS = 8  # their class's default

UNTOLD = ("encoder_heads", "decoder_heads")

_LAYER = "encoder.vit.encoder.layers.encoder_layer_"
_FIELD_OF_SHAPE = {  # field of OpenRig3R -> (key, axis)
    "patch": ("encoder.vit.conv_proj.weight", 2),
    "width": ("encoder.vit.conv_proj.weight", 0),
    "encoder_hidden": (_LAYER + "0.mlp.0.weight", 0),
    "decoder_hidden": ("decoder.layers.0.mlp.0.weight", 0),
    "metadata_width": ("decoder.meta_proj.weight", 1),
    "point_hidden": ("decoder.pointmap_head.input_proj.weight", 0),
    "ray_hidden": ("decoder.pose_raymap_head.mlp.0.weight", 0),
}


def fields_from_shapes(
    tensors: Mapping[str, np.ndarray], *, encoder_heads: int = ENCODER_HEADS, decoder_heads: int = DECODER_HEADS
) -> dict[str, int]:
    """Fields of OpenRig3R; the numbers of heads are not in the shapes, their defaults are those of the public class."""
    places = {**_FIELD_OF_SHAPE, "patches": ("encoder.vit.encoder.pos_embedding", 1)}
    bad = sorted({key for key, axis in places.values() if key not in tensors or tensors[key].ndim <= axis})
    if bad:
        raise ConversionError(f"these are no weights of Open-Rig3R: {', '.join(bad)} missing or of too few axes")
    fields = {field: int(tensors[key].shape[axis]) for field, (key, axis) in places.items()}
    grid = round((fields.pop("patches") - 1) ** 0.5)  # the first position is the class token's
    for name, heads in (("encoder_heads", encoder_heads), ("decoder_heads", decoder_heads)):
        if heads < 1 or fields["width"] % heads:
            raise ValueError(f"{name} is {heads}; it must divide the width {fields['width']} of these weights")
    return {
        **fields,
        "image_size": grid * fields["patch"],
        "encoder_depth": _count(tensors, _LAYER),
        "encoder_heads": encoder_heads,
        "decoder_depth": _count(tensors, "decoder.layers."),
        "decoder_heads": decoder_heads,
    }


def _count(keys: Iterable[str], prefix: str) -> int:
    """Number of layers `<prefix><i>.`: one more than the largest i."""
    found = (re.match(re.escape(prefix) + r"(\d+)\.", key) for key in keys)
    return max((int(match[1]) + 1 for match in found if match), default=0)


def table(encoder_depth: int, decoder_depth: int) -> Table:
    """Their key -> our parameter."""
    entries = [
        *conv("encoder.vit.conv_proj", "encoder/patch_embed", layout=PATCH),
        Entry("encoder.vit.class_token", "encoder/class_token", squeezed(2)),
        Entry("encoder.vit.pos_embed", "encoder/offset", squeezed(2)),
        Entry("encoder.vit.encoder.pos_embedding", "encoder/positions", squeezed(1)),
        *norm("encoder.vit.encoder.ln", "encoder/ln"),
        *norm("encoder.norm", "encoder/norm"),
        Entry("decoder.learned_meta", "learned_meta", squeezed(2)),
        *linear("decoder.key_projs.cam2rig", "cam2rig_embed"),
        *linear("decoder.meta_proj", "metadata_project"),
        *norm("decoder.final_ln", "decoder_norm"),
        *conv("decoder.pointmap_head.input_proj", "point_head/input"),
        *conv("decoder.pointmap_head.output_conv", "point_head/output"),
    ]
    for index in range(encoder_depth):
        entries += _layer(f"{_LAYER}{index}.", f"encoder/layer{index}/", "ln_1", "self_attention", "ln_2")
    for index in range(decoder_depth):
        entries += _layer(f"decoder.layers.{index}.", f"decoder_layer{index}/", "ln1", "mha", "ln2")
    for fusion in (1, 2, 3):
        for unit in (1, 2):
            for part in ("conv1", "conv2"):
                source = f"decoder.pointmap_head.fusion{fusion}.rcu{unit}.{part}"
                entries += conv(source, f"point_head/fusion{fusion}/unit{unit}/{part}")
    for source, target in (("pose_raymap_head", "pose_head"), ("rig_raymap_head", "rig_head")):
        entries += linear(f"decoder.{source}.mlp.0", f"{target}/fc1")
        entries += linear(f"decoder.{source}.mlp.2", f"{target}/fc2")
    # A classifier of zero classes: some files hold its empty tensors.
    return Table(tuple(entries), ignored=(r"encoder\.vit\.heads\.head\.(weight|bias)",))


def _layer(source: str, target: str, norm1: str, attention: str, norm2: str) -> list[Entry]:
    return [
        *norm(source + norm1, target + "norm1"),
        Entry(f"{source}{attention}.in_proj_weight", target + "attn/qkv/kernel", LINEAR),
        Entry(f"{source}{attention}.in_proj_bias", target + "attn/qkv/bias"),
        *linear(f"{source}{attention}.out_proj", target + "attn/proj"),
        *norm(source + norm2, target + "norm2"),
        *linear(source + "mlp.0", target + "mlp/fc1"),
        *linear(source + "mlp.3", target + "mlp/fc2"),
    ]


def convert_tensors(
    tensors: Mapping[str, np.ndarray],
    *,
    encoder_heads: int = ENCODER_HEADS,
    decoder_heads: int = DECODER_HEADS,
    dtype: DTypeLike = np.float32,
) -> tuple[dict, dict[str, str]]:
    """Parameters of OpenRig3R in a type, and metadata with its fields.

    Raises:
        ConversionError: names every key that is unknown, missing or misshapen.
    """
    fields = fields_from_shapes(tensors, encoder_heads=encoder_heads, decoder_heads=decoder_heads)
    wanted = _wanted(OpenRig3R(**fields), dtype)
    params = convert(tensors, table(fields["encoder_depth"], fields["decoder_depth"]), wanted)
    return params, {"fields": json.dumps(fields)}


def export_tensors(params: Mapping, metadata: Mapping[str, str]) -> dict[str, np.ndarray]:
    """The inverse of `convert_tensors`, without the empty classifier."""
    fields = json.loads(metadata["fields"])
    return export(params, table(fields["encoder_depth"], fields["decoder_depth"]))


def _wanted(model: OpenRig3R, dtype: DTypeLike) -> dict:
    """Shapes and types of the model's parameters."""
    images = jax.ShapeDtypeStruct((1, 1, model.image_size, model.image_size, 3), jnp.float32)
    params = jax.eval_shape(model.init, jax.random.key(0), images)["params"]
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, dtype), params)
