"""DINOv2's weights, with the names of its authors, of timm or of Hugging Face, to and from VGGT's image encoder."""

import json
import math
import re
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from numpy.typing import DTypeLike

from rig3r_jax.models.dinov2 import DINOv2
from rig3r_jax.models.layers import BlockOptions
from rig3r_jax.weights.dinov2_names import authors_names, file_names
from rig3r_jax.weights.engine import (
    PATCH,
    ConversionError,
    Entry,
    Layout,
    Table,
    block_entries,
    conv,
    convert,
    export,
    norm,
    squeezed,
    typed,
)
from rig3r_jax.weights.sizes import Sizes, head_count

UNTOLD = ("encoder_heads",)
TYPICAL = r"(blocks|encoder\.layer)\.\d+\..+"
IGNORED = (r"mask_token", r"((linear_|dino_|ibot_)?head|classifier|fc)\..+")  # heads on top of the encoder
PUBLIC = {  # the ViT-L with registers, which VGGT's encoder is
    "width": 1024, "encoder_depth": 24, "encoder_heads": 16, "patch": 14, "encoder_registers": 4, "position_grid": 37,
}  # fmt: skip
_AUTHORS_ONLY = {"register_tokens", "mask_token"}  # names that timm's files do not have
_PLACE = "aggregator/encoder"  # of the encoder in VGGT's parameters


def _without_class_position(leaf: np.ndarray) -> np.ndarray:
    return leaf[None, 1:]


def _with_class_position(tensor: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros_like(tensor[0, :1]), tensor[0]])


# timm adds the class token's position to the token itself: in its files with registers only patches have positions.
_PATCHES_ONLY = Layout("patches_only", _with_class_position, _without_class_position)


def encoder_entries(source: str, target: str, depth: int, *, registers: bool, timm: bool = False) -> list[Entry]:
    """One entry for each tensor of a DINOv2 whose keys begin with `source` and whose parameters lie below `target`."""
    positions = _PATCHES_ONLY if timm and registers else squeezed(1)
    entries = [
        *conv(f"{source}patch_embed.proj", f"{target}/patch_embed", layout=PATCH),
        Entry(f"{source}cls_token", f"{target}/cls_token", squeezed(1)),
        Entry(f"{source}pos_embed", f"{target}/positions/table", positions),
        *norm(f"{source}norm", f"{target}/norm"),
    ]
    if registers:
        name = "reg_token" if timm else "register_tokens"
        entries.append(Entry(f"{source}{name}", f"{target}/register_tokens", squeezed(1)))
    for index in range(depth):
        entries += block_entries(f"{source}blocks.{index}", f"{target}/blocks/block", index, layer_scale=True)
    return entries


def table(fields: Mapping) -> Table:
    """The mapping of a file whose fields `fields_from_shapes` has read."""
    entries = encoder_entries(
        "", _PLACE, fields["encoder_depth"], registers=fields["encoder_registers"] > 0, timm=fields["timm"]
    )
    return Table(tuple(entries), IGNORED)


def fields_from_shapes(tensors: Mapping[str, np.ndarray], *, encoder_heads: int | None = None) -> dict[str, int | bool]:
    """Fields of VGGT that describe its image encoder, and `timm`: whether the names are timm's.

    Args:
        tensors: the weights file.
        encoder_heads: attention heads, which no shape tells; by default a head is 64 wide.

    Raises:
        ValueError: these are no weights of DINOv2, or the heads do not divide the width.
    """
    sizes = Sizes(tensors, "DINOv2", TYPICAL)
    width = sizes.usual({r"(blocks\.\d+\.)?norm\d?\.\w+": 0}, PUBLIC["width"])
    positions = sizes.usual({"pos_embed": 1}, 1 + PUBLIC["position_grid"] ** 2)
    patches_only = math.isqrt(positions) ** 2 == positions and not _AUTHORS_ONLY & tensors.keys()
    timm = "reg_token" in tensors or patches_only  # in whose files the class token has no position
    patches = positions - (not timm)
    if "pos_embed" in tensors and math.isqrt(patches) ** 2 != patches:
        raise ConversionError(
            f"pos_embed holds positions of {patches} patches, of which no square can be made, and rows and columns of "
            "a rectangle are not in the file; resize it to a square grid (timm's resample_abs_pos_embed), or fetch the "
            "public weights"
        )
    return {
        "width": width,
        "encoder_depth": sizes.layers(r"blocks\.", PUBLIC["encoder_depth"]),
        "encoder_heads": head_count("encoder_heads", encoder_heads, width),
        "patch": sizes.usual({r"patch_embed\.proj\.weight": 2}, PUBLIC["patch"]),
        "encoder_registers": sizes.usual(
            {"reg_token" if timm else "register_tokens": 1}, PUBLIC["encoder_registers"] if timm else 0
        ),
        "position_grid": max(math.isqrt(patches), 1),
        "timm": timm,
    }


def convert_tensors(
    tensors: Mapping[str, Float[np.ndarray, "..."]],
    *,
    encoder_heads: int | None = None,
    dtype: DTypeLike = np.float32,
) -> tuple[dict, dict[str, str]]:
    """({"aggregator": {"encoder": parameters}}, metadata): the part of VGGT's parameters that DINOv2 initialises.

    A file without registers gives no `register_tokens`, and fits a model without them.

    Raises:
        ConversionError: names every key that is unknown, missing or misshapen, by the authors' names.
    """
    plain, names = authors_names(tensors)
    _refuse_gated(plain)
    fields = fields_from_shapes(plain, encoder_heads=encoder_heads)
    params = convert(plain, table(fields), {"aggregator": {"encoder": typed(parameter_shapes(fields), dtype)}})
    return params, {"fields": json.dumps(fields), **({"names": json.dumps(names)} if names else {})}


def _refuse_gated(tensors: Mapping[str, np.ndarray]) -> None:
    """ConversionError for the giant's MLP, by its own names or by timm's, where its shapes tell."""
    for name, tensor in tensors.items():
        part = re.fullmatch(r"(blocks\.\d+\.mlp)\.(w12|w1|fc1)\.weight", name)
        if part is None:
            continue
        after = tensors.get(f"{part[1]}.fc2.weight", np.empty(()))
        if part[2] != "fc1" or (after.ndim == tensor.ndim == 2 and tensor.shape[0] == 2 * after.shape[1]):
            raise ConversionError(
                f"{name} is of a gated MLP (SwiGLU), as DINOv2's ViT-g has, and VGGT's encoder has a plain one, "
                f"{part[1]}.fc1.weight and fc2; give the ViT-S, ViT-B or ViT-L"
            )


def export_tensors(params: Mapping, metadata: Mapping[str, str]) -> dict[str, np.ndarray]:
    """The inverse of `convert_tensors`, with the names of the file that was converted."""
    fields = json.loads(metadata["fields"])
    encoder = dict(params["aggregator"]["encoder"])
    position = np.asarray(encoder["positions"]["table"][:1])
    if fields["timm"] and position.any():  # after training: timm's files have no place for it but the token itself
        encoder["cls_token"] = np.asarray(encoder["cls_token"]) + position
    tensors = export({"aggregator": {"encoder": encoder}}, table(fields))
    return file_names(tensors, json.loads(metadata.get("names", "{}")))


def parameter_shapes(fields: Mapping) -> dict:
    """Shapes of the encoder's parameters; the number of heads has no part in them."""
    model = DINOv2(
        fields["width"],
        fields["encoder_depth"],
        BlockOptions(heads=1),
        patch=fields["patch"],
        registers=fields["encoder_registers"],
        position_grid=fields["position_grid"],
    )
    images = jax.ShapeDtypeStruct((1, model.patch, model.patch, 3), jnp.float32)
    return jax.eval_shape(model.init, jax.random.key(0), images)["params"]
