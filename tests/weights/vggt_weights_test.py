"""Weights of the public VGGT, there and back; what is ignored, what may be absent, and the report of what is wrong."""

import functools
import json
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rig3r_jax.weights.convert import convert_file, load_metadata, load_params
from rig3r_jax.weights.engine import ConversionError, flatten
from rig3r_jax.weights.files import read_tensors, write_tensors
from rig3r_jax.weights.vggt import (
    build,
    convert_tensors,
    export_tensors,
    fields_from_shapes,
    initial_log_variance,
    initialise,
    load,
    parameter_shapes,
)

FIELDS = {
    "width": 32, "depth": 4, "heads": 2, "levels": [0, 1, 2, 3], "encoder_depth": 2, "encoder_heads": 2,
    "camera_heads": 2, "trunk_depth": 3, "iterations": 4, "patch": 6, "registers": 2, "encoder_registers": 3,
    "position_grid": 5, "dpt_features": 8, "dpt_last": 5, "dpt_widths": [4, 8, 4, 12],
    "outputs": ["camera", "depth", "points"], "log_variance": True,
}  # fmt: skip
TOLD = {"encoder_heads": 2}

pytestmark = [pytest.mark.slow, pytest.mark.sweep("rig3r_jax/models", "rig3r_jax/weights")]


@pytest.fixture(scope="module", autouse=True)
def shapes_once():
    """A model is traced once: most of these tests convert the same one."""
    with mock.patch("rig3r_jax.weights.vggt.parameter_shapes", functools.cache(parameter_shapes)):
        yield


@pytest.fixture(scope="module")
def params() -> dict:
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), parameter_shapes(build(FIELDS)))


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
    tree = parameter_shapes(build({**FIELDS, "levels": [0, 2, 3, 5], "depth": 7}))["aggregator"]
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
    assert flatten(params).keys() == flatten(parameter_shapes(build(FIELDS))).keys()


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
    with pytest.raises(ValueError, match="say levels=a,b,c,d"):
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
        jax.tree.map(lambda leaf: np.broadcast_to(np.float32(0), leaf.shape), parameter_shapes(build(fields))),
        {"fields": json.dumps(fields)},
    )
    ours = {name: list(tensor.shape) for name, tensor in exported.items()}
    left_out = {name for name in shapes if name not in ours}
    assert ours == {name: shape for name, shape in shapes.items() if name not in left_out}
    assert len(shapes) == 1801 and all(n.startswith("track_head.") or n.endswith("mask_token") for n in left_out)


def test_float64_weights_stay_whole(tensors, tmp_path):
    rng = np.random.default_rng(1)
    doubles = {name: tensor + 1e-9 * rng.random(tensor.shape) for name, tensor in tensors.items()}
    params, metadata = convert_tensors(doubles, **TOLD, dtype=np.float64)
    back = export_tensors(params, metadata)
    for name, tensor in back.items():
        assert tensor.dtype == np.float64
        np.testing.assert_array_equal(tensor, doubles[name])
    write_tensors(tmp_path / "model.safetensors", doubles)
    convert_file("vggt", tmp_path / "model.safetensors", tmp_path / "vggt.safetensors", ["encoder_heads=2"])
    for dtype in ("bfloat16", "float64"):
        with jax.enable_x64(dtype == "float64"):
            _, loaded = load(tmp_path / "vggt.safetensors", dtype=dtype)
        exact = np.float64 if dtype == "float64" else np.float32
        assert {leaf.dtype for leaf in jax.tree.leaves(loaded)} == {np.dtype(exact)}
        jax.tree.map(
            lambda ours, theirs, to=exact: np.testing.assert_array_equal(ours, theirs.astype(to)), loaded, params
        )


def test_golden_a_model_of_the_public_size_has_the_public_sizes(shared):
    """What one tensor alone tells is no other model but a misshapen tensor, where all others are the public ones."""
    shapes = json.loads((shared / "golden/vggt_1b_state_dict_shapes.json").read_text())
    wrong = {
        "aggregator.register_token": (1, 2, 5, 1024),
        "aggregator.patch_embed.register_tokens": (1, 5, 1024),
        "aggregator.patch_embed.pos_embed": (1, 1 + 16**2, 1024),
        "aggregator.patch_embed.patch_embed.proj.weight": (1024, 3, 16, 16),
    }
    nothing = {name: np.broadcast_to(np.float32(0), shape) for name, shape in {**shapes, **wrong}.items()}
    with pytest.raises(ConversionError, match="4 misshapen tensors") as error:
        convert_tensors(nothing)
    assert all(f"{name}: has shape {shape}" in str(error.value) for name, shape in wrong.items())


def test_the_report_names_sizes_unlike_the_public_model_s(tensors, tmp_path):
    tensors["aggregator.register_token"] = np.zeros((1, 2, 5, 32), np.float32)
    write_tensors(tmp_path / "model.safetensors", tensors)
    report = convert_file("vggt", tmp_path / "model.safetensors", tmp_path / "vggt.safetensors", ["encoder_heads=2"])
    for line in ("registers 5 (4)", "encoder_registers 3 (4)", "dpt_widths 4,8,4,12 (256,512,1024,1024)"):
        assert f"  unlike the public model: {line}" in report.splitlines()
    assert "iterations 4 (" not in report and "outputs" not in report.split("unlike", 1)[1]


@pytest.fixture()
def encoder_file(tensors, tmp_path):
    """The image encoder alone, as DINOv2's own file has it, converted."""
    prefix = "aggregator.patch_embed."
    encoder = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    write_tensors(tmp_path / "backbone.safetensors", encoder)
    convert_file("dinov2", tmp_path / "backbone.safetensors", tmp_path / "dinov2.safetensors", ["encoder_heads=2"])
    return tmp_path / "dinov2.safetensors"


def _fresh(**fields) -> dict:
    return jax.tree.map(
        lambda leaf: jnp.full(leaf.shape, 0.5, jnp.bfloat16), parameter_shapes(build({**FIELDS, **fields}))
    )


def test_dinov2_initialises_the_image_encoder(params, encoder_file):
    fresh = _fresh()
    new, report = initialise(fresh, encoder_file)
    encoder = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params["aggregator"]["encoder"])
    jax.tree.map(np.testing.assert_array_equal, new["aggregator"]["encoder"], encoder)
    before, after = flatten(fresh), flatten(new)
    assert all(after[name] is leaf for name, leaf in before.items() if not name.startswith("aggregator/encoder/"))
    arrays = len(flatten(encoder))
    assert f"{arrays} of {len(before)} arrays" in report and "made from backbone.safetensors" in report
    assert "encoder_heads=2" in report and "camera_head" in report.split("freshly")[1]


def test_an_encoder_that_does_not_fit_is_refused_whole(encoder_file, tensors, tmp_path):
    with pytest.raises(ValueError, match="does not fit") as error:
        initialise(_fresh(position_grid=4, encoder_registers=0, patch=4), encoder_file)
    for part in (
        "position_grid 5",
        "positions/table (26, 32): the model has (17, 32)",
        "register_tokens (3, 32): the model has no such parameter",
        "patch_embed/kernel (108, 32): the model has (48, 32)",
    ):
        assert part in str(error.value)
    path = tmp_path / "backbone.safetensors"
    write_tensors(path, {name: tensor for name, tensor in read_tensors(path).items() if name != "register_tokens"})
    report = convert_file("dinov2", path, encoder_file, ["encoder_heads=2"])
    assert "unlike the public model: encoder_registers 0 (4)" in report
    with pytest.raises(ValueError, match=r"register_tokens \(3, 32\): the file has no such parameter"):
        initialise(_fresh(), encoder_file)
    write_tensors(path, tensors)
    convert_file("vggt", path, encoder_file, ["encoder_heads=2"])
    with pytest.raises(ValueError, match="holds weights of vggt"):
        initialise(load_params(encoder_file)[0], encoder_file)
