"""The ViT of DUSt3R and CroCo v2 as Rig3R's encoder, and DUSt3R's dense head as `models.dpt.DPTHead`."""

import json
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import DTypeLike

from rig3r_jax.models.layers import BlockOptions
from rig3r_jax.models.vit import Encoder
from rig3r_jax.weights.engine import (
    CONV_TRANSPOSE,
    PATCH,
    Table,
    block_entries,
    conv,
    convert,
    export,
    norm,
    typed,
)
from rig3r_jax.weights.sizes import Sizes, head_count

UNTOLD = ("heads",)
TYPICAL = r"enc_blocks\.\d+\..+"
PUBLIC = {"width": 1024, "encoder_depth": 24, "heads": 16, "patch": 16}  # DUSt3R's and CroCo's ViT-L

# What Rig3R has no place for: a decoder of image pairs, its heads, and the pixel prediction of pre-training.
IGNORED = (
    r"mask_token",
    r"decoder_embed\.(weight|bias)",
    r"dec_blocks2?\.\d+\..+",
    r"dec_norm\.(weight|bias)",
    r"downstream_head[12]\..+",
    r"prediction_head\..+",
)


def encoder_table(depth: int, target_prefix: str = "encoder") -> Table:
    """Keys of a whole DUSt3R or CroCo v2 checkpoint with `depth` encoder blocks; all but the encoder is ignored."""
    entries = [
        *conv("patch_embed.proj", f"{target_prefix}/patch_embed", layout=PATCH),
        *norm("enc_norm", f"{target_prefix}/norm"),
    ]
    for index in range(depth):
        entries += block_entries(f"enc_blocks.{index}", f"{target_prefix}/blocks/block", index)
    return Table(tuple(entries), ignored=IGNORED)


def dpt_table(source_prefix: str = "downstream_head1.dpt", target_prefix: str = "point_head/dpt") -> Table:
    """Keys below `source_prefix` of DUSt3R's dense head; its duplicates and its one unused unit are ignored."""
    entries = []
    for level in range(4):
        source, target = f"{source_prefix}.act_postprocess.{level}", f"{target_prefix}/level{level + 1}"
        entries += conv(f"{source}.0", f"{target}_project")
        if level < 2:
            entries += conv(f"{source}.1", f"{target}_resize", layout=CONV_TRANSPOSE)
        elif level == 3:
            entries += conv(f"{source}.1", f"{target}_resize")
        layer = f"layer{level + 1}_rn"
        entries += conv(f"{source_prefix}.scratch.{layer}", f"{target_prefix}/{layer}", bias=False)
        source, target = f"{source_prefix}.scratch.refinenet{level + 1}", f"{target_prefix}/fusion{level + 1}"
        for unit in (1, 2) if level < 3 else (2,):
            for part in ("conv1", "conv2"):
                entries += conv(f"{source}.resConfUnit{unit}.{part}", f"{target}/unit{unit}/{part}")
        entries += conv(f"{source}.out_conv", f"{target}/out_conv")
    for number, name in enumerate(("head.0", "head.2", "head.4")):
        entries += conv(f"{source_prefix}.{name}", f"{target_prefix}/head{number + 1}")
    prefix = source_prefix.replace(".", r"\.")
    ignored = (
        rf"{prefix}\.scratch\.layer_rn\.\d\.weight",  # the layer{i}_rn once more
        rf"{prefix}\.scratch\.refinenet4\.resConfUnit1\..+",  # the coarsest level has nothing to add
    )
    return Table(tuple(entries), ignored)


def convert_tensors(
    tensors: Mapping[str, np.ndarray], *, heads: int | None = None, dtype: DTypeLike = np.float32
) -> tuple[dict, dict[str, str]]:
    """{"encoder": parameters of Rig3R's encoder}, and the metadata that say what model they fit.

    Args:
        tensors: the checkpoint's.
        heads: attention heads, which no shape tells; by default a head is 64 wide.
        dtype: of the parameters.

    Raises:
        ConversionError: names every key that is unknown, missing or misshapen.
        ValueError: the heads do not divide the width.
    """
    sizes = Sizes(tensors, "DUSt3R or CroCo", TYPICAL)
    width = sizes.usual({r"enc_(blocks\.\d+\.)?norm\d?\.\w+": 0}, PUBLIC["width"])
    depth = sizes.layers(r"enc_blocks\.", PUBLIC["encoder_depth"])
    patch = sizes.usual({r"patch_embed\.proj\.weight": 2}, PUBLIC["patch"])
    heads = head_count("heads", heads, width, multiple=4)  # RoPE: sine and cosine of row and column
    fields = {"width": width, "encoder_depth": depth, "heads": heads, "patch": patch}
    params = convert(tensors, encoder_table(depth), {"encoder": typed(_parameter_shapes(width, depth, patch), dtype)})
    requires = {"position": "rope", "patch": patch, "heads": heads}
    return params, {"fields": json.dumps(fields), "requires": json.dumps(requires)}


def export_tensors(params: Mapping, metadata: Mapping[str, str]) -> dict[str, np.ndarray]:
    """The inverse of `convert_tensors`: the encoder under its keys, without what was ignored."""
    return export(params, encoder_table(json.loads(metadata["fields"])["encoder_depth"]))


def _parameter_shapes(width: int, depth: int, patch: int) -> dict:
    """Shapes of the encoder's parameters; the number of heads has no part in them."""
    images = jax.ShapeDtypeStruct((1, patch, patch, 3), jnp.float32)
    encoder = Encoder(width, depth, patch, BlockOptions(heads=1), "none")
    return jax.eval_shape(encoder.init, jax.random.key(0), images)["params"]
