"""Other names of DINOv2's tensors, brought to those of its authors and back: Hugging Face's, and FSDP's chunks."""

import re
import typing
from collections.abc import Mapping

import numpy as np

from rig3r_jax.weights.engine import ConversionError

HUGGING_FACE, CHUNKS = "hugging_face", "chunks"
_LEAVES = ("weight", "bias")
_TOP = {  # Hugging Face's names and the authors'
    "embeddings.cls_token": "cls_token",
    "embeddings.mask_token": "mask_token",
    "embeddings.register_tokens": "register_tokens",
    "embeddings.position_embeddings": "pos_embed",
    **{f"embeddings.patch_embeddings.projection.{leaf}": f"patch_embed.proj.{leaf}" for leaf in _LEAVES},
    **{f"layernorm.{leaf}": f"norm.{leaf}" for leaf in _LEAVES},
}
_SAME = ("norm1", "norm2", "mlp.fc1", "mlp.fc2")
_IN_BLOCK = {
    **{f"{name}.{leaf}": f"{name}.{leaf}" for name in _SAME for leaf in _LEAVES},
    **{f"attention.output.dense.{leaf}": f"attn.proj.{leaf}" for leaf in _LEAVES},
    **{f"mlp.weights_in.{leaf}": f"mlp.w12.{leaf}" for leaf in _LEAVES},
    **{f"mlp.weights_out.{leaf}": f"mlp.w3.{leaf}" for leaf in _LEAVES},
    **{f"layer_scale{number}.lambda1": f"ls{number}.gamma" for number in (1, 2)},
}
_LAYER = re.compile(r"encoder\.layer\.(\d+)\.(.+)")
_SPLIT = re.compile(r"attention\.attention\.(query|key|value)\.(weight|bias)")
_CHUNK = re.compile(r"blocks\.(\d+)\.(\d+)\.(.+)")


def authors_names(tensors: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], dict[str, typing.Any]]:
    """The tensors by the names of DINOv2's authors, and what `file_names` needs to bring them back; {} for nothing.

    Hugging Face parts queries, keys and values; the authors have them in one tensor, in this order. FSDP's checkpoints
    number blocks within chunks.

    Raises:
        ConversionError: of queries, keys and values one is missing.
    """
    if any(_LAYER.fullmatch(name) for name in tensors):
        return _from_hugging_face(tensors), {HUGGING_FACE: True}
    blocks = {name: _CHUNK.fullmatch(name) for name in tensors if name.startswith("blocks.")}
    if blocks and all(blocks.values()):
        chunk_of = {int(match[2]): int(match[1]) for match in blocks.values()}
        plain = {f"blocks.{m[2]}.{m[3]}" if (m := blocks.get(name)) else name: tensors[name] for name in tensors}
        if len(plain) == len(tensors):
            return plain, {CHUNKS: {str(block): chunk for block, chunk in sorted(chunk_of.items())}}
    return dict(tensors), {}


def _from_hugging_face(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    plain, parts = {}, {}
    for name, tensor in tensors.items():
        layer = _LAYER.fullmatch(name)
        if layer and (split := _SPLIT.fullmatch(layer[2])):
            parts.setdefault(f"blocks.{layer[1]}.attn.qkv.{split[2]}", {})[split[1]] = (name, tensor)
        elif layer and layer[2] in _IN_BLOCK:
            plain[f"blocks.{layer[1]}.{_IN_BLOCK[layer[2]]}"] = tensor
        else:
            plain[_TOP.get(name, name)] = tensor
    for name, part in parts.items():
        stem = next(iter(part.values()))[0].rsplit(".", 2)
        if absent := [f"{stem[0]}.{kind}.{stem[2]}" for kind in ("query", "key", "value") if kind not in part]:
            raise ConversionError(f"{', '.join(absent)} is missing; fetch the whole file")
        plain[name] = np.concatenate([part[kind][1] for kind in ("query", "key", "value")])
    return plain


def file_names(tensors: Mapping[str, np.ndarray], names: Mapping[str, typing.Any]) -> dict[str, np.ndarray]:
    """The inverse of `authors_names`, with what that gave beside the tensors."""
    if CHUNKS in names:
        chunks = names[CHUNKS]
        return {
            re.sub(r"^blocks\.(\d+)\.", lambda match: f"blocks.{chunks[match[1]]}.{match[1]}.", name): tensor
            for name, tensor in tensors.items()
        }
    return _to_hugging_face(tensors) if HUGGING_FACE in names else dict(tensors)


def _to_hugging_face(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    top, in_block = ({ours: theirs for theirs, ours in names.items()} for names in (_TOP, _IN_BLOCK))
    renamed = {}
    for name, tensor in tensors.items():
        if not (block := re.fullmatch(r"blocks\.(\d+)\.(.+)", name)):
            renamed[top[name]] = tensor
        elif block[2].startswith("attn.qkv."):
            leaf = block[2].rpartition(".")[2]
            for kind, part in zip(("query", "key", "value"), np.split(tensor, 3), strict=True):
                renamed[f"encoder.layer.{block[1]}.attention.attention.{kind}.{leaf}"] = part
        else:
            renamed[f"encoder.layer.{block[1]}.{in_block[block[2]]}"] = tensor
    return renamed
