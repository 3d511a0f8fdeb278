"""The ViT of DUSt3R and CroCo v2 as Rig3R's encoder, and DUSt3R's dense head as `models.dpt.DPTHead`."""

import json
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from rig3r_jax.models.vit import Encoder
from rig3r_jax.weights.engine import (
    CONV_TRANSPOSE,
    PATCH,
    ConversionError,
    Table,
    block_entries,
    conv,
    convert,
    export,
    norm,
    stacked_depth,
)

UNTOLD = ("heads",)
HEAD_WIDTH = 64  # of all public sizes

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


def convert_tensors(tensors: Mapping[str, np.ndarray], *, heads: int | None = None) -> tuple[dict, dict[str, str]]:
    """{"encoder": parameters of Rig3R's encoder}, and the metadata that say what model they fit.

    Args:
        tensors: the checkpoint's.
        heads: attention heads, which no shape tells; by default a head is 64 wide.

    Raises:
        ConversionError: names every key that is unknown, missing or misshapen.
    """
    patch_embed = tensors.get("patch_embed.proj.weight")
    depth = stacked_depth(tensors, "enc_blocks")
    if patch_embed is None or patch_embed.ndim != 4 or not depth:
        raise ConversionError(
            "these are no weights of DUSt3R or CroCo: patch_embed.proj.weight (4 axes) or enc_blocks.0 is missing; "
            f"the file has {', '.join(list(tensors)[:5])}, ..."
        )
    width, patch = patch_embed.shape[0], patch_embed.shape[-1]
    heads = heads or max(width // HEAD_WIDTH, 1)
    fields = {"width": width, "encoder_depth": depth, "heads": heads, "patch": patch}
    params = convert(tensors, encoder_table(depth), {"encoder": _wanted(width, depth, patch)})
    requires = {"position": "rope", "patch": patch, "heads": heads}
    return params, {"fields": json.dumps(fields), "requires": json.dumps(requires)}


def export_tensors(params: Mapping, metadata: Mapping[str, str]) -> dict[str, np.ndarray]:
    """The inverse of `convert_tensors`: the encoder under its keys, without what was ignored."""
    return export(params, encoder_table(json.loads(metadata["fields"])["encoder_depth"]))


def _wanted(width: int, depth: int, patch: int) -> dict:
    """Shapes of the encoder's parameters; the number of heads has no part in them."""
    images = jax.ShapeDtypeStruct((1, patch, patch, 3), jnp.float32)
    encoder = Encoder(width, depth, heads=1, patch=patch, position="none")
    return jax.eval_shape(encoder.init, jax.random.key(0), images)["params"]
