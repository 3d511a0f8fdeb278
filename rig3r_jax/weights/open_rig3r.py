"""The weights of the public Open-Rig3R, to and from `models.open_rig3r.OpenRig3R`."""

import json
import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import DTypeLike

from rig3r_jax.models.open_rig3r import OpenRig3R
from rig3r_jax.weights.engine import (
    LINEAR,
    PATCH,
    Entry,
    Table,
    conv,
    convert,
    export,
    linear,
    norm,
    squeezed,
    typed,
)
from rig3r_jax.weights.sizes import Sizes, head_count

UNTOLD = ("encoder_heads", "decoder_heads")

_LAYER = "encoder.vit.encoder.layers.encoder_layer_"
_ENCODER, _DECODER = r"encoder\.vit\.encoder\.layers\.encoder_layer_", r"decoder\.layers\."
TYPICAL = rf"({_ENCODER}|{_DECODER})\d+\..+"
_TOLD_BY = {  # field of OpenRig3R -> {regex of keys: the axis that tells it}
    "patch": {r"encoder\.vit\.conv_proj\.weight": 2},
    "width": {rf"({_ENCODER}|{_DECODER})\d+\.ln_?\d\.\w+": 0},
    "encoder_hidden": {rf"{_ENCODER}\d+\.mlp\.0\.\w+": 0, rf"{_ENCODER}\d+\.mlp\.3\.weight": 1},
    "decoder_hidden": {rf"{_DECODER}\d+\.mlp\.0\.\w+": 0, rf"{_DECODER}\d+\.mlp\.3\.weight": 1},
    "metadata_width": {r"decoder\.meta_proj\.weight": 1},
    "point_hidden": {r"decoder\.pointmap_head\.(input_proj|fusion\d\.rcu\d\.conv\d)\.\w+": 0},
    "ray_hidden": {r"decoder\.\w+_raymap_head\.mlp\.0\.\w+": 0, r"decoder\.\w+_raymap_head\.mlp\.2\.weight": 1},
}
PUBLIC = {  # the defaults of the public class
    name: getattr(OpenRig3R, name)
    for name in (*_TOLD_BY, "image_size", "encoder_depth", "encoder_heads", "decoder_depth", "decoder_heads")
}


def fields_from_shapes(
    tensors: Mapping[str, np.ndarray], *, encoder_heads: int | None = None, decoder_heads: int | None = None
) -> dict[str, int]:
    """Fields of OpenRig3R; the numbers of heads are not in the shapes, their defaults are those of the public class.

    Raises:
        ValueError: these are no weights of Open-Rig3R, or the heads do not divide the width.
    """
    sizes = Sizes(tensors, "Open-Rig3R", TYPICAL)
    fields = {field: sizes.usual(axes, PUBLIC[field]) for field, axes in _TOLD_BY.items()}
    public_grid = PUBLIC["image_size"] // PUBLIC["patch"]
    positions = sizes.usual({r"encoder\.vit\.encoder\.pos_embedding": 1}, 1 + public_grid**2)
    return {
        **fields,
        "image_size": max(math.isqrt(positions - 1), 1) * fields["patch"],  # the first position is the class token's
        "encoder_depth": sizes.layers(_ENCODER, PUBLIC["encoder_depth"]),
        "encoder_heads": head_count("encoder_heads", encoder_heads, fields["width"], PUBLIC["encoder_heads"]),
        "decoder_depth": sizes.layers(_DECODER, PUBLIC["decoder_depth"]),
        "decoder_heads": head_count("decoder_heads", decoder_heads, fields["width"], PUBLIC["decoder_heads"]),
    }


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
    encoder_heads: int | None = None,
    decoder_heads: int | None = None,
    dtype: DTypeLike = np.float32,
) -> tuple[dict, dict[str, str]]:
    """Parameters of OpenRig3R in a type, and metadata with its fields.

    Raises:
        ConversionError: names every key that is unknown, missing or misshapen.
    """
    fields = fields_from_shapes(tensors, encoder_heads=encoder_heads, decoder_heads=decoder_heads)
    shapes = _parameter_shapes(OpenRig3R(**fields))
    params = convert(tensors, table(fields["encoder_depth"], fields["decoder_depth"]), typed(shapes, dtype))
    return params, {"fields": json.dumps(fields)}


def export_tensors(params: Mapping, metadata: Mapping[str, str]) -> dict[str, np.ndarray]:
    """The inverse of `convert_tensors`, without the empty classifier."""
    fields = json.loads(metadata["fields"])
    return export(params, table(fields["encoder_depth"], fields["decoder_depth"]))


def _parameter_shapes(model: OpenRig3R) -> dict:
    """Shapes of the model's parameters."""
    images = jax.ShapeDtypeStruct((1, 1, model.image_size, model.image_size, 3), jnp.float32)
    return jax.eval_shape(model.init, jax.random.key(0), images)["params"]
