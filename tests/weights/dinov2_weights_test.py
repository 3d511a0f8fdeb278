"""DINOv2's weights under both sorts of names, into VGGT's image encoder and back."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rig3r_jax.models.dinov2 import DINOv2
from rig3r_jax.models.layers import BlockOptions
from rig3r_jax.models.vggt import build_vggt
from rig3r_jax.weights.dinov2 import convert_tensors, export_tensors, fields_from_shapes
from rig3r_jax.weights.engine import ConversionError, flatten

WIDTH, DEPTH, PATCH, GRID, REGISTERS = 24, 2, 4, 3, 3


def _tensors(timm: bool, registers: int = REGISTERS) -> dict[str, np.ndarray]:
    """A file by the authors' names, or what timm makes of it."""
    rng = np.random.default_rng(0)

    def draw(*shape):
        return rng.normal(0, 0.3, shape).astype(np.float32)

    tensors = {
        "cls_token": draw(1, 1, WIDTH),
        "pos_embed": draw(1, 1 + GRID**2, WIDTH),
        "patch_embed.proj.weight": draw(WIDTH, 3, PATCH, PATCH),
        "patch_embed.proj.bias": draw(WIDTH),
        "norm.weight": draw(WIDTH),
        "norm.bias": draw(WIDTH),
        "register_tokens": draw(1, REGISTERS, WIDTH),
        "mask_token": draw(1, WIDTH),
    }
    for index in range(DEPTH):
        for name, shape in {"attn.qkv": (3 * WIDTH, WIDTH), "attn.proj": (WIDTH, WIDTH), "mlp.fc1": (4 * WIDTH, WIDTH),
                            "mlp.fc2": (WIDTH, 4 * WIDTH), "norm1": (WIDTH,), "norm2": (WIDTH,)}.items():  # fmt: skip
            tensors[f"blocks.{index}.{name}.weight"] = draw(*shape)
            tensors[f"blocks.{index}.{name}.bias"] = draw(shape[0])
        for name in ("ls1", "ls2"):
            tensors[f"blocks.{index}.{name}.gamma"] = draw(WIDTH)
    if not registers:
        del tensors["register_tokens"]
    if timm:
        del tensors["mask_token"]
        if registers:
            positions = tensors["pos_embed"]
            tensors["reg_token"] = tensors.pop("register_tokens")
            tensors["cls_token"] = tensors["cls_token"] + positions[:, :1]
            tensors["pos_embed"] = positions[:, 1:]
    return tensors


@pytest.mark.parametrize("registers", [REGISTERS, 0])
@pytest.mark.parametrize("timm", [False, True])
def test_round_trip_is_exact(timm: bool, registers: int):
    tensors = _tensors(timm, registers)
    params, metadata = convert_tensors(tensors, encoder_heads=2)
    back = export_tensors(params, metadata)
    assert set(tensors) - set(back) <= {"mask_token"} and set(back) <= set(tensors)
    for name, tensor in back.items():
        np.testing.assert_array_equal(tensor, tensors[name], err_msg=name)


def test_both_names_are_the_same_network():
    images = jnp.asarray(np.random.default_rng(1).normal(size=(2, 8, 16, 3)), jnp.float32)
    model = DINOv2(WIDTH, DEPTH, BlockOptions(2), PATCH, REGISTERS, GRID)
    outs = []
    for timm in (False, True):
        params, _ = convert_tensors(_tensors(timm), encoder_heads=2)
        outs.append(jax.jit(model.apply)({"params": params["aggregator"]["encoder"]}, images))
    np.testing.assert_allclose(outs[1], outs[0], rtol=1e-4, atol=1e-5)


def test_a_trained_position_of_the_class_token_is_exported_within_the_token():
    params, metadata = convert_tensors(_tensors(timm=True), encoder_heads=2)
    encoder = params["aggregator"]["encoder"]
    before = export_tensors(params, metadata)["cls_token"].copy()
    encoder["positions"]["table"][0] = 0.5
    after = export_tensors(params, metadata)
    np.testing.assert_array_equal(after["cls_token"], before + np.float32(0.5))
    assert after["pos_embed"].shape == (1, GRID**2, WIDTH)


@pytest.mark.parametrize("registers", [REGISTERS, 0])
def test_parameters_are_those_of_vggts_encoder(registers: int):
    params, metadata = convert_tensors(_tensors(False, registers), encoder_heads=2)
    fields = json.loads(metadata["fields"])
    assert fields.pop("timm") is False and fields["encoder_registers"] == registers
    model = build_vggt(variant="tiny", heads=2, outputs=("camera",), camera_heads=2, **fields)
    images = jax.ShapeDtypeStruct((1, 1, 8, 8, 3), jnp.float32)
    whole = flatten(jax.eval_shape(model.init, jax.random.key(0), images)["params"])
    encoder = {path: leaf.shape for path, leaf in whole.items() if path.startswith("aggregator/encoder/")}
    assert {path: leaf.shape for path, leaf in flatten(params).items()} == encoder


def test_heads_are_64_wide_unless_told():
    tensors = {"pos_embed": np.zeros((1, 1370, 384)), "blocks.0.norm1.weight": np.zeros(384)}
    assert fields_from_shapes(tensors)["encoder_heads"] == 6 and fields_from_shapes(tensors)["position_grid"] == 37
    assert fields_from_shapes(tensors, encoder_heads=12)["encoder_heads"] == 12


def test_what_does_not_fit_is_named():
    tensors = _tensors(timm=True)
    tensors["blocks.0.mlp.w12.weight"] = tensors.pop("blocks.0.mlp.fc1.weight")  # a gated mlp, as DINOv2's giant
    with pytest.raises(ConversionError) as error:
        convert_tensors(tensors)
    assert "blocks.0.mlp.w12.weight" in str(error.value) and "blocks.0.mlp.fc1.weight" in str(error.value)


@pytest.mark.parametrize("timm", [False, True])
def test_a_key_that_sizes_are_read_from_is_the_only_one_named(timm: bool):
    registers = "reg_token" if timm else "register_tokens"
    for name in ("cls_token", "pos_embed", "patch_embed.proj.weight", "norm.weight", "blocks.0.norm1.weight"):
        _fails_by_name_only(_tensors(timm), name, missing=True)
        _fails_by_name_only(_tensors(timm), name, missing=False)
    if timm:
        _fails_by_name_only(_tensors(timm), registers, missing=True)
    tensors = _tensors(timm) | {registers: np.zeros((REGISTERS, WIDTH), np.float32)}
    with pytest.raises(ConversionError, match=f"(misshapen tensors|unknown keys):\n  {registers}"):
        convert_tensors(tensors)


def test_an_additional_layer_s_tensor_makes_no_layer():
    tensors = _tensors(False) | {"blocks.7.norm1.weight": np.zeros(WIDTH, np.float32)}
    with pytest.raises(ConversionError, match="1 unknown keys:\n  blocks.7.norm1.weight$"):
        convert_tensors(tensors)


def _fails_by_name_only(tensors, name, missing):
    tensor = tensors.pop(name)
    problem = "missing keys"
    if not missing:
        tensors[name], problem = np.zeros((*tensor.shape[:-1], tensor.shape[-1] + 1), np.float32), "misshapen tensors"
    with pytest.raises(ConversionError, match=f"1 {problem}:\n  {name}[^\n]*$"):
        convert_tensors(tensors)


def test_parameters_take_the_type_that_is_asked_for():
    params, _ = convert_tensors(_tensors(False), dtype=np.float64)
    assert {leaf.dtype for leaf in flatten(params).values()} == {np.dtype(np.float64)}


def _hugging_face(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What transformers makes of the authors' file, by its conversion script's names."""
    renamed = {}
    for name, tensor in tensors.items():
        if ".attn.qkv." in name:
            for kind, part in zip(("query", "key", "value"), np.split(tensor, 3), strict=True):
                renamed[name.replace("attn.qkv", f"attention.attention.{kind}")] = part
        else:
            renamed[name] = tensor
    for ours, theirs in {
        "blocks.": "encoder.layer.", "attn.proj": "attention.output.dense", "ls1.gamma": "layer_scale1.lambda1",
        "ls2.gamma": "layer_scale2.lambda1", "pos_embed": "embeddings.position_embeddings",
        "cls_token": "embeddings.cls_token", "mask_token": "embeddings.mask_token",
        "register_tokens": "embeddings.register_tokens", "patch_embed.proj": "embeddings.patch_embeddings.projection",
    }.items():  # fmt: skip
        renamed = {name.replace(ours, theirs): tensor for name, tensor in renamed.items()}
    return {name.replace("norm.", "layernorm.") if name.startswith("norm.") else name: t for name, t in renamed.items()}


def _chunked(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Blocks in chunks of one, as FSDP leaves them."""
    return {re.sub(r"^blocks\.(\d+)\.", r"blocks.\1.\1.", name): tensor for name, tensor in tensors.items()}


@pytest.mark.parametrize("rename", [_hugging_face, _chunked])
def test_other_names_are_the_same_parameters_and_come_back(rename):
    tensors = _tensors(False)
    expected, _ = convert_tensors(tensors, encoder_heads=2)
    params, metadata = convert_tensors(rename(tensors), encoder_heads=2)
    for path, leaf in flatten(expected).items():
        np.testing.assert_array_equal(flatten(params)[path], leaf, err_msg=path)
    back = export_tensors(params, metadata)
    assert len(rename(tensors)) == len(back) + 1  # all but the mask token
    for name, tensor in back.items():
        np.testing.assert_array_equal(tensor, rename(tensors)[name], err_msg=name)


def test_a_part_of_queries_keys_and_values_that_is_missing_is_named():
    tensors = _hugging_face(_tensors(False))
    del tensors["encoder.layer.1.attention.attention.key.bias"]
    with pytest.raises(ConversionError, match=r"^encoder.layer.1.attention.attention.key.bias is missing"):
        convert_tensors(tensors)


def test_gated_mlps_are_refused_by_name():
    gated = _tensors(False)
    for index in range(DEPTH):
        gated[f"blocks.{index}.mlp.w12.weight"] = gated.pop(f"blocks.{index}.mlp.fc1.weight")
    packed = _tensors(True)
    packed["blocks.0.mlp.fc2.weight"] = packed["blocks.0.mlp.fc2.weight"][:, : 2 * WIDTH]
    for tensors in (gated, packed):
        with pytest.raises(ConversionError, match=r"^blocks.0.mlp.\w+.weight is of a gated MLP \(SwiGLU\)[^\n]*$"):
            convert_tensors(tensors)


def test_positions_of_other_grids():
    tensors = _tensors(False)
    tensors["pos_embed"] = np.zeros((1, 1 + 5**2, WIDTH), np.float32)
    assert json.loads(convert_tensors(tensors, encoder_heads=2)[1]["fields"])["position_grid"] == 5


# 24 patches and the class token are a square number; a file of timm without registers then has no tell.
RECTANGLES = [(timm, registers, 12) for timm in (False, True) for registers in (REGISTERS, 0)]
RECTANGLES += [(False, REGISTERS, 24), (False, 0, 24), (True, REGISTERS, 24)]


@pytest.mark.parametrize("timm, registers, patches", RECTANGLES)
def test_positions_of_a_rectangle_are_refused_in_one_line(timm: bool, registers: int, patches: int):
    tensors = _tensors(timm, registers)
    tensors["pos_embed"] = np.zeros((1, patches + (not (timm and registers)), WIDTH), np.float32)
    with pytest.raises(
        ConversionError, match=rf"^pos_embed holds positions of {patches} patches, .*a rectangle[^\n]*$"
    ):
        convert_tensors(tensors)


def test_heads_on_top_are_left_out_by_name():
    tensors = _tensors(False)
    more = {name: np.zeros(2, np.float32) for name in ("linear_head.weight", "head.bias", "dino_head.mlp.0.weight")}
    expected, _ = convert_tensors(tensors, encoder_heads=2)
    params, _ = convert_tensors(tensors | more, encoder_heads=2)
    assert flatten(params).keys() == flatten(expected).keys()
