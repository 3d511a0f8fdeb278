"""The public Open-Rig3R against `models.open_rig3r`: every output and what lies between, per kind of metadata."""

import functools
import json
from collections.abc import Iterator, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from rig3r_jax.models.open_rig3r import OpenRig3R
from rig3r_jax.parity.compare import Comparison, Skipped
from rig3r_jax.parity.dump.by_file import called, cast, channels_first, channels_last, compare_files
from rig3r_jax.parity.dump.folder import Archive, Dump
from rig3r_jax.parity.dump.rows import Results, left_out
from rig3r_jax.weights.open_rig3r import convert_tensors

_LEFT_OUT = {
    r"as_coded_losses_metrics\.npz/.*": "the losses and metrics of Open-Rig3R do not follow the paper",
    r"intended_sincos\.npz/.*": "Open-Rig3R never uses this table",
}


def compare_folder(dump: Dump) -> Iterator[Comparison | Skipped]:
    """Compares `<case>/<output>` and `<case>/mid/<module>`; a case is `nometa` or an array of inputs.npz."""
    yield from compare_files(dump, {"outputs.npz": (_outputs, "")})
    yield from left_out(dump, _LEFT_OUT)


def _outputs(dump: Dump, theirs: Archive, dtype: np.dtype) -> Results:
    inputs, meta = dump.needed("inputs.npz"), dump.json("meta.json")
    params, metadata = convert_tensors(
        dump.tensors(),
        encoder_heads=meta["overrides"]["encoder_num_heads_hardcoded"],
        decoder_heads=meta["cfg"]["num_heads"],
        dtype=dtype,
    )
    model = OpenRig3R(**json.loads(metadata["fields"]), dtype=dtype)
    ours: Results = {}
    for case in dict.fromkeys(name.split("/")[0] for name in theirs):
        if case == "nometa" or case in inputs:
            cam2rig = None if case == "nometa" else jnp.asarray(inputs[case], dtype)
            results = _run(model, cast(params, dtype), channels_last(inputs["images"], dtype), cam2rig)
            ours |= {f"{case}/{name}": array for name, array in results.items()}
        else:
            ours |= {f"{case}/{name}": f"inputs.npz has no {case}" for name in theirs.below(f"{case}/")}
    return ours


def _run(model: OpenRig3R, params: Mapping, images: jax.Array, cam2rig: jax.Array | None) -> Results:
    """Outputs, and `mid/<module>` by their names and layouts: tokens per view, maps per view with channels first."""
    apply = jax.jit(functools.partial(model.apply, capture_intermediates=True))
    outputs, state = apply({"params": params}, images, cam2rig)
    captured = state["intermediates"]
    encoder, head = captured["encoder"], captured["point_head"]
    tokens = {f"enc_layer{index}": encoder[f"layer{index}"] for index in range(model.encoder_depth)}
    tokens |= {"enc_vit_ln": encoder["ln"], "enc_tokens": encoder}
    joint = {f"dec_layer{index}": captured[f"decoder_layer{index}"] for index in range(model.decoder_depth)}
    maps = {"pmh_input_proj": head["input"]}
    maps |= {f"pmh_{name}": module for name, module in head.items() if name.startswith("fusion")}
    mids = {name: called(module).reshape(*images.shape[:2], -1, model.width) for name, module in tokens.items()}
    mids |= {name: called(module) for name, module in joint.items()}
    mids |= {name: channels_first(called(module)) for name, module in maps.items()}
    return {**outputs, **{f"mid/{name}": array for name, array in mids.items()}}
