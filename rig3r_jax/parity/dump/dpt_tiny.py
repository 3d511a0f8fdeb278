"""DUSt3R's dense head against `models.dpt`, its linear head and its read-out of points against `models.heads`."""

import functools
import re
from collections.abc import Iterator, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from rig3r_jax.models.dpt import DPTHead
from rig3r_jax.models.heads import LinearPointHead, points_and_confidence
from rig3r_jax.models.upsample import upsample_aligned
from rig3r_jax.parity.compare import Comparison, Skipped
from rig3r_jax.parity.dump.by_file import called, cast, channels_first, channels_last, compare_files, parameter_shapes
from rig3r_jax.parity.dump.folder import Archive, Dump
from rig3r_jax.parity.dump.rows import Results
from rig3r_jax.weights.dust3r import dpt_table
from rig3r_jax.weights.engine import convert, export

_TABLE = dpt_table("dpt", "dpt")
_MODES = "Rig3R reads points and confidence out by DUSt3R's exp and (exp, 1, inf) only"


def compare_folder(dump: Dump) -> Iterator[Comparison | Skipped]:
    """Compares io.npz, linear_head_io.npz, postprocess.npz and upsample.npz, as far as they are there."""
    results_of = {
        "io.npz": (_dense_head, ""),
        "linear_head_io.npz": (_linear_head, "tokens"),
        "postprocess.npz": (_read_out, "raw"),
        "upsample.npz": (_upsampling, "x"),
    }
    return compare_files(dump, results_of)


def _dense_head(dump: Dump, theirs: Archive, dtype: np.dtype) -> Results:
    """`<height>x<width>/{mid,out,grad}/...` for every size that has all of its tokens."""
    meta = dump.json("meta.json")
    head = DPTHead(meta["patch"], 4, meta["feature_dim"], meta["last_dim"], tuple(meta["layer_dims"]), dtype=dtype)
    read_out = meta["depth_mode"] == "exp" and list(map(str, meta["conf_mode"])) == ["exp", "1", "inf"]
    tensors = dump.tensors()
    ours: Results = {}
    for size in dict.fromkeys(name.split("/")[0] for name in theirs):
        names = [f"{size}/{rest}" for rest in theirs.below(f"{size}/")]
        tokens = [f"{size}/tokens{level}" for level in range(4)]
        if not set(tokens) <= set(names):
            ours |= {name: "io.npz lacks tokens of this size" for name in names}
            continue
        levels = [jnp.asarray(theirs[name], dtype) for name in tokens]
        rows, columns = (int(pixels) // meta["patch"] for pixels in size.split("x"))
        init = functools.partial(head.init, rows=rows, columns=columns)
        params = cast(convert(tensors, _TABLE, {"dpt": parameter_shapes(init, dtype, levels)}), dtype)
        results = _intermediates(head, params, levels, (rows, columns), with_outputs=read_out)
        if read_out and theirs.below(f"{size}/grad/"):
            results |= _gradients(head, params, levels, (rows, columns))
        if not read_out:
            ours |= {name: _MODES for name in names if re.match(r"[^/]+/(out|grad)/", name)}
        ours |= {f"{size}/{name}": array for name, array in results.items()}
    return ours


def _intermediates(
    head: DPTHead, params: Mapping, levels: list, grid: tuple[int, int], *, with_outputs: bool
) -> Results:
    """`mid/<module>` by their names, channels first, and `out/...`."""

    @jax.jit
    def run(params):
        raw, state = head.apply({"params": params["dpt"]}, levels, *grid, capture_intermediates=True)
        return points_and_confidence(raw), state["intermediates"]

    (points, confidence), captured = run(params)
    modules = {"raw_nchw": captured["head3"]}
    for level in range(4):
        name = f"level{level + 1}"
        modules[f"act_postprocess{level}"] = captured.get(f"{name}_resize", captured[f"{name}_project"])
        modules[f"layer_rn{level}"] = captured[f"layer{level + 1}_rn"]
        modules[f"refinenet{level + 1}"] = captured[f"fusion{level + 1}"]
    ours = {f"mid/{name}": channels_first(called(module)) for name, module in modules.items()}
    return {**ours, "out/pts3d": points, "out/conf": confidence} if with_outputs else ours


def _gradients(head: DPTHead, params: Mapping, levels: list, grid: tuple[int, int]) -> Results:
    """`grad/...` of sum(sin(points)) + sum(log(confidence)) by tokens and by their parameters' names."""

    def scalar(params, levels):
        points, confidence = points_and_confidence(head.apply({"params": params["dpt"]}, levels, *grid))
        return jnp.sin(points).sum() + jnp.log(confidence).sum()

    value, (by_params, by_levels) = jax.jit(jax.value_and_grad(scalar, argnums=(0, 1)))(params, levels)
    gradients = {"scalar_sum_sin_pts_plus_sum_log_conf": value, **export(by_params, _TABLE)}
    gradients |= {f"tokens{level}": gradient for level, gradient in enumerate(by_levels)}
    return {f"grad/{name}": gradient for name, gradient in gradients.items()}


def _linear_head(dump: Dump, theirs: Archive, dtype: np.dtype) -> Results:
    """Their channels are ordered (channel, row, column) in a patch (pixel shuffle), ours (row, column, channel)."""
    weight, bias = (dump.tensors("linear_head.safetensors")[f"proj.{name}"] for name in ("weight", "bias"))
    kernel = weight.reshape(4, -1, weight.shape[1]).transpose(2, 1, 0).reshape(weight.shape[1], -1)
    params = {"proj": {"kernel": kernel, "bias": bias.reshape(4, -1).T.reshape(-1)}}
    side = round((len(bias) / 4) ** 0.5)
    height, width = (theirs["conf"] if "conf" in theirs else theirs["pts3d"]).shape[1:3]
    tokens = jnp.asarray(theirs["tokens"], dtype)
    head = LinearPointHead(side, dtype=dtype)
    raw = head.apply({"params": cast(params, dtype)}, tokens, height // side, width // side)
    points, confidence = points_and_confidence(raw)
    return {"pts3d": points, "conf": confidence}


def _read_out(dump: Dump, theirs: Archive, dtype: np.dtype) -> Results:
    points, confidence = points_and_confidence(channels_last(theirs["raw"], dtype))
    skipped = {name: _MODES for name in theirs if name != "raw"}
    return {**skipped, "exp/pts3d": points, "conf_exp_1_inf": confidence}


def _upsampling(dump: Dump, theirs: Archive, dtype: np.dtype) -> Results:
    """Ours aligns the corners; JAX's own resize does not."""
    x = channels_last(theirs["x"], dtype)
    height, width = 2 * x.shape[1], 2 * x.shape[2]
    aligned = upsample_aligned(x, height, width)
    not_aligned = jax.image.resize(x, (x.shape[0], height, width, x.shape[3]), "bilinear")
    return {"up2_ac_true": channels_first(aligned), "up2_ac_false": channels_first(not_aligned)}
