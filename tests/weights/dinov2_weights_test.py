"""DINOv2's weights under both sorts of names, into VGGT's image encoder and back."""

import json

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
