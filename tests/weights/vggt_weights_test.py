"""Weights of the public VGGT, there and back; what is ignored, what may be absent, and the report of what is wrong."""

import json

import jax
import numpy as np
import pytest

from rig3r_jax.weights.convert import convert_file, load_metadata
from rig3r_jax.weights.engine import ConversionError, flatten
from rig3r_jax.weights.files import read_tensors, write_tensors
from rig3r_jax.weights.vggt import (
    build,
    convert_tensors,
    export_tensors,
    fields_from_shapes,
    initial_log_variance,
    load,
    wanted,
)

FIELDS = {
    "width": 32, "depth": 4, "heads": 2, "levels": [0, 1, 2, 3], "encoder_depth": 2, "encoder_heads": 2,
    "camera_heads": 2, "trunk_depth": 3, "iterations": 4, "patch": 6, "registers": 2, "encoder_registers": 3,
    "position_grid": 5, "dpt_features": 8, "dpt_last": 5, "dpt_widths": [4, 8, 4, 12],
    "outputs": ["camera", "depth", "points"], "log_variance": True,
}  # fmt: skip
TOLD = {"encoder_heads": 2}


@pytest.fixture(scope="module")
def params() -> dict:
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), wanted(build(FIELDS)))


@pytest.fixture()
def tensors(params) -> dict[str, np.ndarray]:
    """The names of PyTorch, with those that are ignored."""
    named = export_tensors(params, {"fields": json.dumps(FIELDS)})
    others = ("aggregator.patch_embed.mask_token", "track_head.tracker.fmap_norm.weight", "track_head.x.0.bias")
    return named | {name: np.zeros((1, 32), np.float32) for name in others}


def test_fields_are_read_from_the_shapes_and_the_round_trip_is_exact(params, tensors):
    assert fields_from_shapes(tensors, **TOLD) == FIELDS
    converted, metadata = convert_tensors(tensors, **TOLD)
    assert json.loads(metadata["fields"]) == FIELDS and "initialised" not in metadata
    jax.tree.map(np.testing.assert_array_equal, converted, params)


def test_layers_go_to_their_stages():
    tree = wanted(build({**FIELDS, "levels": [0, 2, 3, 5], "depth": 7}))["aggregator"]
    lengths = [tree[f"stage{stage}"]["global"]["ls1"]["gamma"].shape[0] for stage in range(5)]
    assert lengths == [1, 2, 1, 2, 1]


def test_absent_log_variance_branch_is_initialised_and_named(tensors):
    public = {name: tensor for name, tensor in tensors.items() if "pose_log_var" not in name}
    params, metadata = convert_tensors(public, **TOLD)
    assert metadata["initialised"] == "camera_head/refinement/pose_log_var"
    branch = params["camera_head"]["refinement"]["pose_log_var"]
    jax.tree.map(np.testing.assert_array_equal, branch, initial_log_variance(64))
    assert {path: leaf.shape for path, leaf in flatten(branch).items()} == {
        "fc1/kernel": (64, 32), "fc1/bias": (32,), "fc2/kernel": (32, 6), "fc2/bias": (6,),
    }  # fmt: skip
    assert flatten(params).keys() == flatten(wanted(build(FIELDS))).keys()


def test_half_a_log_variance_branch_is_an_error(tensors):
    del tensors["camera_head.pose_log_var_branch.fc1.weight"]
    del tensors["camera_head.pose_log_var_branch.fc2.bias"]
    with pytest.raises(ConversionError, match="2 missing keys"):
        convert_tensors(tensors, **TOLD)


def test_one_report_names_what_is_missing_unknown_and_misshapen(tensors):
    tensors["camera_head.nonsense"] = tensors.pop("aggregator.global_blocks.2.attn.k_norm.bias")
    tensors["depth_head.projects.1.weight"] = np.zeros((8, 63, 1, 1), np.float32)
    with pytest.raises(ConversionError) as error:
        convert_tensors(tensors, **TOLD)
    for part in (
        "1 unknown keys:\n  camera_head.nonsense",
        "1 missing keys:\n  aggregator.global_blocks.2.attn.k_norm.bias",
        "1 misshapen tensors:\n  depth_head.projects.1.weight: has shape (8, 63, 1, 1)",
    ):
        assert part in str(error.value)


def test_one_tensor_of_a_layer_too_many_is_unknown_and_makes_no_layer(tensors):
    tensors["aggregator.frame_blocks.4.norm1.bias"] = np.zeros(32, np.float32)
    with pytest.raises(ConversionError, match="1 unknown keys:\n  aggregator.frame_blocks.4.norm1.bias$"):
        convert_tensors(tensors, **TOLD)


@pytest.mark.parametrize(
    "name, shape",
    [
        ("aggregator.camera_token", (1, 2, 1, 31)),
        ("aggregator.frame_blocks.0.attn.q_norm.weight", (8,)),
        ("aggregator.frame_blocks.0.norm1.weight", (7,)),
        ("aggregator.patch_embed.pos_embed", (1, 28, 32)),
        ("point_head.projects.0.weight", (9, 64, 1, 1)),
        ("point_head.scratch.output_conv2.0.weight", (5, 3, 3)),
    ],
)
def test_a_misshapen_tensor_is_the_only_one_that_is_named(tensors, name: str, shape: tuple):
    tensors[name] = np.zeros(shape, np.float32)
    with pytest.raises(ConversionError, match="1 misshapen tensors") as error:
        convert_tensors(tensors, **TOLD)
    assert f"{name}: has shape {shape}" in str(error.value) and "missing" not in str(error.value)


def test_a_file_without_a_head_is_of_a_model_without_it(tensors):
    fewer = {name: tensor for name, tensor in tensors.items() if not name.startswith("point_head")}
    params, metadata = convert_tensors(fewer, **TOLD)
    assert json.loads(metadata["fields"])["outputs"] == ["camera", "depth"] and "point_head" not in params


def test_what_the_shapes_do_not_tell_is_asked_for(tensors):
    for layer in (4, 5):  # six layers: neither the public model nor the tiny one
        for kind in ("frame", "global"):
            prefix = f"aggregator.{kind}_blocks."
            block = {n: t for n, t in tensors.items() if n.startswith(f"{prefix}0.")}
            tensors |= {n.replace(f"{prefix}0.", f"{prefix}{layer}."): t for n, t in block.items()}
    with pytest.raises(ValueError, match=r"say levels=\(a, b, c, d\)"):
        convert_tensors(tensors, **TOLD)
    _, metadata = convert_tensors(tensors, **TOLD, levels=[1, 2, 4, 5])
    assert json.loads(metadata["fields"])["depth"] == 6
    with pytest.raises(ValueError, match="told width: only encoder_heads"):
        convert_tensors(tensors, width=32)
    with pytest.raises(ValueError, match="no weights of VGGT"):
        convert_tensors({"encoder.weight": np.zeros(3, np.float32)})


def test_a_converted_file_is_loaded_in_part_or_whole(tensors, tmp_path):
    write_tensors(tmp_path / "model.safetensors", tensors)
    report = convert_file("vggt", tmp_path / "model.safetensors", tmp_path / "vggt.safetensors", ["encoder_heads=2"])
    assert "3 left out by name" in report and load_metadata(tmp_path / "vggt.safetensors")["kind"] == "vggt"
    model, params = load(tmp_path / "vggt.safetensors", dtype="bfloat16")
    assert (
        model.dtype == "bfloat16"
        and model.width == 32
        and set(params) == {"aggregator", "camera_head", "depth_head", "point_head"}
    )
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(params))
    model, params = load(tmp_path / "vggt.safetensors", outputs=("camera",), log_variance=False)
    assert model.outputs == ("camera",) and set(params) == {"aggregator", "camera_head"}
    assert "pose_log_var" not in params["camera_head"]["refinement"]


def test_golden_weights_go_there_and_back(shared):
    tensors = read_tensors(shared / "golden/vggt_tiny/weights.safetensors")
    params, metadata = convert_tensors(tensors, encoder_heads=4)
    back = export_tensors(params, metadata)
    assert set(tensors) - set(back) == {"aggregator.patch_embed.mask_token"}
    for name, tensor in back.items():
        np.testing.assert_array_equal(tensor, tensors[name], err_msg=name)


def test_golden_public_keys_and_shapes_fit_totally(shared):
    shapes = json.loads((shared / "golden/vggt_1b_state_dict_shapes.json").read_text())
    nothing = {name: np.broadcast_to(np.float32(0), shape) for name, shape in shapes.items()}  # takes no memory
    fields = fields_from_shapes(nothing)
    assert fields["depth"] == 24 and fields["levels"] == [4, 11, 17, 23] and fields["camera_heads"] == 16
    exported = export_tensors(
        jax.tree.map(lambda leaf: np.broadcast_to(np.float32(0), leaf.shape), wanted(build(fields))),
        {"fields": json.dumps(fields)},
    )
    ours = {name: list(tensor.shape) for name, tensor in exported.items()}
    left_out = {name for name in shapes if name not in ours}
    assert ours == {name: shape for name, shape in shapes.items() if name not in left_out}
    assert len(shapes) == 1801 and all(n.startswith("track_head.") or n.endswith("mask_token") for n in left_out)
