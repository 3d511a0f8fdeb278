"""VGGT against `models.vggt`: every output, and what lies between, of every case."""

import json
from collections.abc import Iterable, Iterator, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from rig3r_jax.models.aggregator import token_positions
from rig3r_jax.models.dpt import DPTHead, add_uv_embedding
from rig3r_jax.models.vggt import VGGT
from rig3r_jax.parity.compare import Comparison, Skipped
from rig3r_jax.parity.dump.by_file import called, cast, channels_first, channels_last
from rig3r_jax.parity.dump.folder import Dump
from rig3r_jax.parity.dump.rows import compare_arrays
from rig3r_jax.weights.vggt import build, convert_tensors

_FILES = {"outputs_f64.npz": "float64", "outputs_f32.npz": "float32"}
_DENSE_HEADS = {"depth": ("depth_head", 2), "point": ("point_head", 4)}

# What the model has no choice in: a config that says otherwise is of another model.
_FIXED = {
    "mlp_ratio": 4, "rope_freq": 100, "qk_norm": True, "aa_order": ["frame", "global"], "aa_block_size": 1,
    "dino.mlp_ratio": 4, "dino.qk_norm": False, "dino.rope": False, "dino.layernorm_eps": 1e-6,
    "dino.interpolate_antialias": True, "dino.interpolate_offset": 0,
    "camera_head.mlp_ratio": 4, "camera_head.trans_act": "linear", "camera_head.quat_act": "linear",
    "camera_head.fl_act": "relu", "camera_head.pose_encoding_type": "absT_quaR_FoV", "camera_head.adaln_eps": 1e-6,
    "depth_head.activation": "exp", "depth_head.conf_activation": "expp1", "depth_head.output_dim": 2,
    "point_head.activation": "inv_log", "point_head.conf_activation": "expp1", "point_head.output_dim": 4,
}  # fmt: skip


def compare_folder(dump: Dump) -> Iterator[Comparison | Skipped]:
    """Compares `<case>__<name>` of outputs_f64.npz and outputs_f32.npz, each computed in its own precision.

    A case is `<case>__images` of inputs.npz; config.json tells what the shapes of the weights do not.
    """
    inputs = dump.needed("inputs.npz")
    fields = _fields(dump.json("config.json"))
    for file, dtype in _FILES.items():
        outputs = dump.arrays(file)
        params, metadata = convert_tensors(dump.tensors(), dtype=dtype, **fields)
        reason = {}
        if "initialised" in metadata:
            reason = {"pose_log_var_list": "the weights have no log-variance branch"}
        cases = dict.fromkeys(name.split("__")[0] for name in outputs or ())
        for case in cases:
            names = outputs.below(f"{case}__")
            if f"{case}__images" not in inputs:
                yield from (Skipped(f"{file}/{case}__{name}", f"inputs.npz has no {case}__images") for name in names)
                continue
            model = build(json.loads(metadata["fields"]), dtype=dtype, attention="dense")
            heads = [head for head in _DENSE_HEADS if any(name.startswith(f"{head}.") for name in names)]
            ours = _run(model, params, inputs[f"{case}__images"], heads)
            results = {name: ours.get(name, "VGGT here has no such output or module") for name in names} | reason
            yield from compare_arrays(dump, file, results, f"{case}__")


def _fields(config: Mapping) -> dict:
    """Fields of the model that the weights do not tell.

    Raises:
        ValueError: names every setting that the model does not have.
    """
    settings = {**config, **{f"{part}.{key}": value for part in config for key, value in _items(config[part])}}
    other = [
        f"{key} = {settings[key]!r} (ours: {value!r})"
        for key, value in _FIXED.items()
        if settings.get(key, value) != value
    ]
    levels = {
        tuple(settings[key])
        for head, _ in _DENSE_HEADS.values()
        if (key := f"{head}.intermediate_layer_idx") in settings
    }
    if len(levels) > 1:
        other.append(f"intermediate_layer_idx = {sorted(levels)} (ours: the same for both heads)")
    if other:
        raise ValueError(f"config.json describes another model than VGGT: {'; '.join(other)}; write a dump of VGGT")
    names = {
        "encoder_heads": "dino.num_heads",
        "camera_heads": "camera_head.num_heads",
        "iterations": "camera_head.num_iterations",
    }
    fields = {field: settings[key] for field, key in names.items() if key in settings}
    return fields | ({"levels": list(*levels)} if levels else {})


def _items(value: object) -> Iterable[tuple[str, object]]:
    return value.items() if isinstance(value, Mapping) else ()


def _run(model: VGGT, params: Mapping, images: np.ndarray, dense: list[str]) -> dict[str, np.ndarray]:
    """Outputs and intermediates under the names of the dump and in its layouts, and those of the dense heads named.

    Images are (b v c h w).
    """
    with jax.enable_x64(model.dtype == np.float64):
        params, images = cast(params, model.dtype), channels_last(images, model.dtype)
        apply = jax.jit(lambda *args: model.apply(*args, capture_intermediates=True, mutable=["intermediates"]))
        output, state = apply({"params": params}, images)
        captured = state["intermediates"]
        rows, columns = (size // model.patch for size in images.shape[2:4])
        ours = _aggregator_arrays(model, captured["aggregator"], images.shape[:2], rows, columns)
        levels = [_flat(level)[:, 1 + model.registers :] for level in called(captured["aggregator"])]
        for name in dense:
            head, channels = _DENSE_HEADS[name]
            if head in params:
                dpt = DPTHead(**model.dense_head_fields(channels))
                arrays = _dense_arrays(dpt, params[head]["dpt"], levels[: len(model.levels)], rows, columns)
                ours |= {f"{name}.{key}": value for key, value in arrays.items()}
    if output.camera is not None:
        ours |= _camera_arrays(captured["camera_head"])
        ours |= {"pose_enc_list": output.camera.encoding, "pose_enc": output.camera.encoding[-1]}
        ours["pose_log_var_list"] = output.camera.log_variance
    if output.depth is not None:
        ours |= {"depth": output.depth[..., None], "depth_conf": output.depth_confidence}
    if output.points_world is not None:
        ours |= {"world_points": output.points_world, "world_points_conf": output.points_confidence}
    return {name: np.asarray(array) for name, array in ours.items()}


def _aggregator_arrays(model: VGGT, captured: Mapping, leading: tuple[int, int], rows: int, columns: int) -> dict:
    encoder, specials = captured["encoder"], 1 + model.registers
    normed = called(encoder["norm"])
    positions = token_positions(specials, rows, columns)
    arrays = {
        "patch_start_idx": specials,
        "dino.patch_embed": called(encoder["patch_embed"]),
        "dino.pos_embed_interp": called(encoder["positions"])[None],
        "dino.x_norm_clstoken": normed[:, 0],
        "dino.x_norm_patchtokens": called(encoder),
        "agg.tokens_in": _flat(captured["tokens"][0]),
        "agg.pos": np.broadcast_to(positions, (np.prod(leading), *positions.shape)),
    }
    arrays |= {f"dino.block{index}": x for index, x in enumerate(called(encoder["blocks"]["block"]))}
    stages = [captured[name] for name in sorted((n for n in captured if n.startswith("stage")), key=_number)]
    for kind in ("frame", "global"):
        blocks = [stage[kind] for stage in stages]
        kinds = {
            "": [called(block) for block in blocks],
            ".attn": [called(block["attn"]) for block in blocks],
            ".attn.q_norm": [jnp.swapaxes(called(block["attn"]["q_norm"]), 2, 3) for block in blocks],
            ".attn.k_norm": [jnp.swapaxes(called(block["attn"]["k_norm"]), 2, 3) for block in blocks],
        }
        for suffix, stacked in kinds.items():
            layers = [layer for stage in stacked for layer in stage]
            arrays |= {f"agg.{kind}_block{index}{suffix}": layer for index, layer in enumerate(layers)}
    for index in range(model.depth):
        pair = [arrays[f"agg.{kind}_block{index}"].reshape(*leading, -1, model.width) for kind in ("frame", "global")]
        arrays[f"aggregated_tokens.{index}"] = jnp.concatenate(pair, axis=-1)
    return arrays


def _camera_arrays(captured: Mapping) -> dict:
    arrays = {"cam.token_norm": called(captured["token_norm"])}
    for name, module in {"modulation": "modulation", "trunk_norm": "trunk_norm", "pose_delta": "pose"}.items():
        arrays[f"cam.{name}"] = called(captured["refinement"][module])  # refinements along axis 0
    return arrays


def _dense_arrays(head: DPTHead, params: Mapping, levels: list, rows: int, columns: int) -> dict:
    """Level maps, fusions and raw maps of a head, channels first; its chunks inside the model show none of them."""
    apply = jax.jit(lambda p, x: head.apply(p, x, rows, columns, capture_intermediates=True, mutable=["intermediates"]))
    raw, state = apply({"params": params}, levels)
    captured = state["intermediates"]
    maps = {f"resize{level}": called(captured[f"level{level + 1}_resize"]) for level in (0, 1, 3)}
    maps["resize2"] = add_uv_embedding(called(captured["level3_project"]), columns / rows)  # nothing to resize
    maps |= {f"refinenet{level}": called(captured[f"fusion{level}"]) for level in (1, 2, 3, 4)}
    maps |= {"output_conv1": called(captured["head1"]), "raw": raw}
    return {name: channels_first(x) for name, x in maps.items()}


def _flat(tokens: jax.Array) -> jax.Array:
    """(b v n d) as (b*v n d)."""
    return tokens.reshape(-1, *tokens.shape[2:])


def _number(name: str) -> int:
    return int(name.removeprefix("stage"))
