"""The small operations of VGGT, one by one, against the functions here that do their work."""

import re
from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from rig3r_jax.models import camera_head, dpt, heads, vggt
from rig3r_jax.models.gelu import gelu
from rig3r_jax.models.positions import rotate_by_position
from rig3r_jax.models.resize import resize_bicubic
from rig3r_jax.models.upsample import upsample_aligned
from rig3r_jax.parity.compare import Comparison, Skipped
from rig3r_jax.parity.dump.by_file import channels_first, channels_last
from rig3r_jax.parity.dump.folder import Dump
from rig3r_jax.parity.dump.rows import compare_arrays
from rig3r_jax.weights.engine import CONV, CONV_TRANSPOSE

FILE = "ops.npz"
Shape = tuple[int, ...]  # of the result
Result = jax.Array | np.ndarray


def compare_folder(dump: Dump) -> Iterator[Comparison | Skipped]:
    """Compares every array of ops.npz that an operation made; each names its inputs by its own prefix.

    Computes in double precision where the reference did.
    """
    ops = dump.needed(FILE)
    for name in ops:
        if re.search(r"_(in|pos_yx|w|b)$", name):
            continue  # an input
        with jax.enable_x64(ops[name].dtype == np.float64):
            yield from compare_arrays(dump, FILE, {name: _result(ops, name)})


def _result(ops: Any, name: str) -> Result | str:
    """Our result of an operation, or why there is none."""
    for pattern, inputs, operation in _OPERATIONS:
        if match := re.fullmatch(pattern, name):
            names = [f"{match[1]}_{rest}" for rest in inputs.split()]
            missing = [name for name in names if name not in ops]
            if missing:
                return f"without {', '.join(missing)}"
            return operation(ops[name].shape, *match.groups()[1:], *(ops[name] for name in names))
    return "no such operation"


def _rope(shape: Shape, x: np.ndarray, positions: np.ndarray) -> Result:
    """(b, heads, n, d); every batch item has positions of its own."""
    items = zip(x, positions, strict=True)
    turned = [rotate_by_position(jnp.asarray(item).swapaxes(0, 1)[None], of_item)[0] for item, of_item in items]
    return np.stack([item.swapaxes(0, 1) for item in turned])


def _bicubic(shape: Shape, x: np.ndarray) -> Result:
    return channels_first(jnp.stack([resize_bicubic(image, *shape[2:]) for image in channels_last(x, x.dtype)]))


def _bilinear(shape: Shape, x: np.ndarray) -> Result:
    return channels_first(upsample_aligned(channels_last(x, x.dtype), *shape[2:]))


def _transposed_conv(shape: Shape, x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> Result:
    kernel = CONV_TRANSPOSE.to_flax(weight)
    module = nn.ConvTranspose(kernel.shape[-1], kernel.shape[:2], kernel.shape[:2], padding="VALID", dtype=x.dtype)
    params = jax.tree.map(jnp.asarray, {"kernel": kernel, "bias": bias})
    return channels_first(module.apply({"params": params}, channels_last(x, x.dtype)))


def _strided_conv(shape: Shape, x: np.ndarray, weight: np.ndarray) -> Result:
    kernel = jnp.asarray(CONV.to_flax(weight))
    module = nn.Conv(kernel.shape[-1], kernel.shape[:2], 2, padding=1, use_bias=False, dtype=x.dtype)
    return channels_first(module.apply({"params": {"kernel": kernel}}, channels_last(x, x.dtype)))


def _uv(shape: Shape) -> Result:
    u, v = dpt.uv_grid(*shape[:2], shape[1] / shape[0])
    return np.stack(np.meshgrid(u, v, indexing="xy"), axis=-1)


def _uv_embedding(shape: Shape) -> Result:
    return dpt.add_uv_embedding(jnp.zeros((1, *shape)), shape[1] / shape[0], ratio=1.0)[0]


def _activation(shape: Shape, kind: str, part: str, x: np.ndarray) -> Result | str:
    """Channels first, the confidence last."""
    raw = channels_last(x, x.dtype)
    if kind == "exp":
        xyz = [vggt.depth_and_confidence(raw[..., [channel, 3]])[0] for channel in range(3)]
        points, confidence = jnp.stack(xyz, axis=-1), vggt.depth_and_confidence(raw[..., 2:])[1]
    elif kind == "linear":
        return "none of VGGT's heads has a linear activation"
    else:
        read_out = vggt.points_and_confidence if kind == "inv_log" else heads.points_and_confidence
        points, confidence = read_out(raw)
    return points if part == "pts" else confidence


_OPERATIONS = (  # names of results, whose group 1 is the prefix of the inputs; these; shape, groups and inputs to ours
    (r"(rope_\w+)_out", "in pos_yx", _rope),
    (r"(bicubic_aa_\w+)_out", "in", _bicubic),
    (r"(bilinear_ac_\w+)_out", "in", _bilinear),
    (r"(convT_\w+)_out", "in w b", _transposed_conv),
    (r"(conv_s2p1\w*)_out", "in w", _strided_conv),
    (r"(uv_w\d+_h\d+)", "", _uv),
    (r"(uvembed\d+_w\d+_h\d+)", "", _uv_embedding),
    (r"(act)_(exp|inv_log|norm_exp|linear)_(pts|conf)", "in", _activation),
    (r"(pose_act\w*)_out", "in", lambda shape, x: camera_head.activate(jnp.asarray(x))),
    (r"(gelu\w*)_out", "in", lambda shape, x: gelu(jnp.asarray(x))),
)
