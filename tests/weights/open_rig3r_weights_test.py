"""Weights of the public Open-Rig3R, there and back."""

import json

import jax
import numpy as np
import pytest

from rig3r_jax.models.open_rig3r import OpenRig3R
from rig3r_jax.weights.engine import ConversionError, flatten
from rig3r_jax.weights.files import read_metadata, read_tensors, write_tensors
from rig3r_jax.weights.open_rig3r import convert_tensors, export_tensors

FIELDS = {
    "image_size": 24, "patch": 8, "width": 16, "encoder_depth": 3, "encoder_heads": 8, "encoder_hidden": 20,
    "decoder_depth": 2, "decoder_heads": 4, "decoder_hidden": 12, "metadata_width": 6, "point_hidden": 5,
    "ray_hidden": 7,
}  # fmt: skip
METADATA = {"fields": json.dumps(FIELDS)}


@pytest.fixture(scope="module")
def params():
    images = jax.ShapeDtypeStruct((1, 1, 24, 24, 3), np.float32)
    shapes = jax.eval_shape(OpenRig3R(**FIELDS).init, jax.random.key(0), images)["params"]
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes)


def test_fields_are_read_from_the_shapes_and_the_round_trip_is_exact(params):
    tensors = export_tensors(params, METADATA)
    back, metadata = convert_tensors(tensors, decoder_heads=4)
    assert json.loads(metadata["fields"]) == FIELDS
    jax.tree.map(np.testing.assert_array_equal, back, params)


def test_every_parameter_has_a_key_of_its_own(params):
    tensors = export_tensors(params, METADATA)
    assert len(tensors) == len(flatten(params))
    assert sum(tensor.size for tensor in tensors.values()) == sum(leaf.size for leaf in flatten(params).values())


def test_one_report_names_unknown_missing_and_misshapen_keys(params):
    tensors = export_tensors(params, METADATA)
    del tensors["decoder.layers.1.mlp.3.bias"]
    tensors["decoder.extra.weight"] = np.zeros(3, np.float32)
    tensors["encoder.vit.encoder.layers.encoder_layer_2.self_attention.in_proj_weight"] = np.zeros((3, 16), np.float32)
    with pytest.raises(ConversionError) as error:
        convert_tensors(tensors)
    for part in ("decoder.layers.1.mlp.3.bias", "decoder.extra.weight", "layer_2.self_attention.in_proj_weight"):
        assert part in str(error.value)


def test_other_weights_are_told_apart():
    with pytest.raises(ConversionError, match="no weights of Open-Rig3R: the file has patch_embed.proj.weight$"):
        convert_tensors({"patch_embed.proj.weight": np.zeros((4, 3, 8, 8), np.float32)})


def test_heads_must_divide_the_width(params):
    with pytest.raises(ValueError, match="decoder_heads is 5.*width 16"):
        convert_tensors(export_tensors(params, METADATA), decoder_heads=5)


def test_golden_weights_round_trip_through_a_file(shared, tmp_path):
    tensors = read_tensors(shared / "golden/openrig3r_tiny/weights.safetensors")
    params, metadata = convert_tensors(tensors, decoder_heads=4)
    write_tensors(tmp_path / "open.safetensors", flatten(params), metadata)
    assert read_metadata(tmp_path / "open.safetensors") == metadata
    back = export_tensors(read_tensors(tmp_path / "open.safetensors"), metadata)
    assert back.keys() == tensors.keys()
    for key, tensor in tensors.items():
        np.testing.assert_array_equal(back[key], tensor)


def test_golden_class_defaults_are_the_models_defaults(shared):
    shapes = json.loads((shared / "golden/openrig3r_tiny/state_dict_class_defaults.json").read_text())
    assert len(shapes) == 414 and shapes["encoder.vit.heads.head.weight"][0] == 0
    # Nothing but their shapes: one zero, seen many times.
    tensors = {key: np.broadcast_to(np.float32(0), shape) for key, shape in shapes.items()}
    params, metadata = convert_tensors(tensors)
    assert OpenRig3R(**json.loads(metadata["fields"])) == OpenRig3R()
    back = export_tensors(params, metadata)
    empty = {"encoder.vit.heads.head.weight", "encoder.vit.heads.head.bias"}
    assert {key: list(tensor.shape) for key, tensor in back.items()} == {
        key: shape for key, shape in shapes.items() if key not in empty
    }


@pytest.mark.parametrize(
    "name",
    [
        "encoder.vit.conv_proj.weight",
        "encoder.vit.encoder.layers.encoder_layer_0.mlp.0.weight",
        "encoder.vit.encoder.pos_embedding",
        "decoder.layers.0.mlp.0.weight",
        "decoder.meta_proj.weight",
        "decoder.pointmap_head.input_proj.weight",
        "decoder.pose_raymap_head.mlp.0.weight",
    ],
)
def test_a_key_that_sizes_are_read_from_is_named_alone(params, name):
    tensors = export_tensors(params, METADATA)
    tensor = tensors.pop(name)
    with pytest.raises(ConversionError, match=f"1 missing keys:\n  {name}$"):
        convert_tensors(tensors, decoder_heads=4)
    tensors[name] = np.zeros((tensor.shape[0] + 1, *tensor.shape[1:]), np.float32)
    with pytest.raises(ConversionError, match=f"1 misshapen tensors:\n  {name}: has shape [^\n]*$"):
        convert_tensors(tensors, decoder_heads=4)
