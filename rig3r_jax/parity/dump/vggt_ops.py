"""The small operations of VGGT, one by one, against the functions here that do their work."""

import re
from collections.abc import Callable, Iterator

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from rig3r_jax.models import camera_head, dpt, heads, vggt
from rig3r_jax.models.positions import rotate_by_position
from rig3r_jax.models.resize import resize_bicubic
from rig3r_jax.parity.compare import Comparison, Skipped
from rig3r_jax.parity.dump.by_file import channels_first, channels_last
from rig3r_jax.parity.dump.folder import Archive, Dump
from rig3r_jax.parity.dump.rows import compare_arrays
from rig3r_jax.weights.engine import CONV, CONV_TRANSPOSE

FILE = "ops.npz"
Result = jax.Array | np.ndarray


def compare_folder(dump: Dump, tolerance: float | None = None) -> Iterator[Comparison | Skipped]:
    """Compares every array of ops.npz that an operation made; each names its inputs by its own prefix.

    Computes in double precision where the reference did.
    """
    ops = dump.needed(FILE)
    for name in ops:
        if re.search(r"_(in|pos_yx|w|b)$", name):
            continue  # an input
        found = next(((run, match) for pattern, run in _OPS if (match := re.fullmatch(pattern, name))), None)
        if found is None:
            yield Skipped(f"{FILE}/{name}", "no such operation")
            continue
        run, match = found
        inputs = [f"{match[1]}_{rest}" for rest in _INPUTS.get(run, ("in",))]
        absent = [wanted for wanted in inputs if wanted not in ops]
        if absent:
            yield Skipped(f"{FILE}/{name}", f"without {', '.join(absent)}")
            continue
        with jax.enable_x64(ops[name].dtype == np.float64):
            ours = run(ops, match)
        if ours is None:
            yield Skipped(f"{FILE}/{name}", "none of VGGT's heads has a linear activation")
        else:
            yield from compare_arrays(dump, FILE, {name: ours}, tolerance)


def _rope(ops: Archive, match: re.Match) -> Result:
    """(b, heads, n, d); every batch item has positions of its own."""
    items = zip(ops[f"{match[1]}_in"], ops[f"{match[1]}_pos_yx"], strict=True)
    turned = [rotate_by_position(jnp.asarray(item).swapaxes(0, 1)[None], positions)[0] for item, positions in items]
    return np.stack([item.swapaxes(0, 1) for item in turned])


def _bicubic(ops: Archive, match: re.Match) -> Result:
    rows, columns = ops[match[0]].shape[2:]
    return channels_first(jnp.stack([resize_bicubic(x, rows, columns) for x in _maps(ops, match[1])]))


def _bilinear(ops: Archive, match: re.Match) -> Result:
    rows, columns = ops[match[0]].shape[2:]
    return channels_first(dpt.upsample_aligned(_maps(ops, match[1]), rows, columns))


def _transposed_conv(ops: Archive, match: re.Match) -> Result:
    kernel = CONV_TRANSPOSE.to_flax(ops[f"{match[1]}_w"])
    module = nn.ConvTranspose(kernel.shape[-1], kernel.shape[:2], kernel.shape[:2], padding="VALID", dtype=kernel.dtype)
    return _convolve(ops, match[1], module, kernel)


def _strided_conv(ops: Archive, match: re.Match) -> Result:
    kernel = CONV.to_flax(ops[f"{match[1]}_w"])
    return _convolve(
        ops, match[1], nn.Conv(kernel.shape[-1], kernel.shape[:2], 2, padding=1, dtype=kernel.dtype), kernel
    )


def _convolve(ops: Archive, prefix: str, module: nn.Module, kernel: np.ndarray) -> Result:
    bias = ops[f"{prefix}_b"] if f"{prefix}_b" in ops else np.zeros(kernel.shape[-1], kernel.dtype)
    params = jax.tree.map(jnp.asarray, {"kernel": kernel, "bias": bias})
    return channels_first(module.apply({"params": params}, _maps(ops, prefix)))


def _uv(ops: Archive, match: re.Match) -> Result:
    height, width = ops[match[0]].shape[:2]
    u, v = dpt.uv_grid(height, width, width / height)
    return np.stack(np.meshgrid(u, v, indexing="xy"), axis=-1)


def _uv_embedding(ops: Archive, match: re.Match) -> Result:
    height, width, channels = ops[match[0]].shape
    nothing = jnp.zeros((1, height, width, channels), ops[match[0]].dtype)
    return dpt.add_uv_embedding(nothing, width / height, ratio=1.0)[0]


def _activation(ops: Archive, match: re.Match) -> Result | None:
    """Channels first, the confidence last."""
    raw = _maps(ops, match[1])
    if match[2] == "exp":
        xyz = [vggt.depth_and_confidence(raw[..., [channel, 3]])[0] for channel in range(3)]
        points, confidence = jnp.stack(xyz, axis=-1), vggt.depth_and_confidence(raw[..., 2:])[1]
    elif match[2] == "inv_log":
        points, confidence = vggt.points_and_confidence(raw)
    elif match[2] == "norm_exp":
        points, confidence = heads.points_and_confidence(raw)
    else:
        return None
    return points if match[3] == "pts" else confidence


def _camera_activation(ops: Archive, match: re.Match) -> Result:
    return camera_head.activate(jnp.asarray(ops[f"{match[1]}_in"]))


def _gelu(ops: Archive, match: re.Match) -> Result:
    return nn.gelu(jnp.asarray(ops[f"{match[1]}_in"]), approximate=False)


def _maps(ops: Archive, prefix: str) -> jax.Array:
    """The input, channels last."""
    array = ops[f"{prefix}_in"]
    return channels_last(array, array.dtype)


_OPS: tuple[tuple[str, Callable], ...] = (  # (names of results; group 1 is the prefix of the inputs, how)
    (r"(rope_\w+)_out", _rope),
    (r"(bicubic_aa_\w+)_out", _bicubic),
    (r"(bilinear_ac_\w+)_out", _bilinear),
    (r"(convT_\w+)_out", _transposed_conv),
    (r"(conv_s2p1\w*)_out", _strided_conv),
    (r"(uv_w\d+_h\d+)", _uv),
    (r"(uvembed\d+_w\d+_h\d+)", _uv_embedding),
    (r"(act)_(exp|inv_log|norm_exp|linear)_(pts|conf)", _activation),
    (r"(pose_act\w*)_out", _camera_activation),
    (r"(gelu\w*)_out", _gelu),
)
_INPUTS = {
    _rope: ("in", "pos_yx"),
    _transposed_conv: ("in", "w"),
    _strided_conv: ("in", "w"),
    _uv: (),
    _uv_embedding: (),
}
