"""DUSt3R's and CroCo's weights: total over the real names, and the same numbers as their own code."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from batches import random_batch

from rig3r_jax.models.dpt import DPTHead
from rig3r_jax.models.layers import BlockOptions
from rig3r_jax.models.rig3r import build
from rig3r_jax.models.vit import Encoder
from rig3r_jax.weights import dust3r
from rig3r_jax.weights.engine import ConversionError, convert, export, shapes
from rig3r_jax.weights.files import read_tensors


@pytest.fixture
def real_keys(shared):
    """Every name and shape of the real checkpoint, on arrays without memory."""
    names = json.loads((shared / "golden/croco_tiny/dust3r_vitl_512_dpt_keys.json").read_text())
    return {name: np.broadcast_to(np.float32(0.5), shape) for name, shape in names.items()}


def close(ours, theirs, tolerance=2e-5):
    error = np.abs(np.asarray(ours) - theirs).max() / np.abs(theirs).max()
    assert error < tolerance, error


@pytest.mark.parametrize("position, case", [("rope", "rope100"), ("none", "norope")])
def test_golden_encoder_forward(shared, position, case):
    folder = shared / "golden/croco_tiny"
    meta = json.loads((folder / "meta.json").read_text())
    params, metadata = dust3r.convert_tensors(read_tensors(folder / "weights.safetensors"), heads=meta["heads"])
    fields = {"width": meta["dim"], "encoder_depth": meta["depth"], "heads": meta["heads"], "patch": 16}
    assert json.loads(metadata["fields"]) == fields
    assert json.loads(metadata["requires"]) == {"position": "rope", "patch": 16, "heads": meta["heads"]}
    encoder = Encoder(meta["dim"], meta["depth"], meta["patch"], BlockOptions(meta["heads"]), position)
    images = np.load(folder / "inputs.npz")["img"].transpose(0, 2, 3, 1)
    out = encoder.apply({"params": params["encoder"]}, jnp.asarray(images))
    close(out, np.load(folder / "outputs.npz")[f"{case}/enc_norm"])


@pytest.mark.parametrize("size", ["48x64", "64x64"])
def test_golden_dpt_forward(shared, size):
    folder = shared / "golden/dpt_tiny"
    meta = json.loads((folder / "meta.json").read_text())
    vectors = np.load(folder / "io.npz")
    height, width = map(int, size.split("x"))
    head = DPTHead(meta["patch"], 4, meta["feature_dim"], meta["last_dim"], tuple(meta["layer_dims"]))
    levels = [jnp.asarray(vectors[f"{size}/tokens{level}"]) for level in range(4)]
    rows, columns = height // meta["patch"], width // meta["patch"]
    wanted = jax.eval_shape(lambda key: head.init(key, levels, rows, columns), jax.random.key(0))["params"]
    tensors = read_tensors(folder / "weights.safetensors")
    table = dust3r.dpt_table("dpt", "point_head/dpt")
    params = convert(tensors, table, {"point_head": {"dpt": wanted}})
    raw = head.apply({"params": params["point_head"]["dpt"]}, levels, rows, columns)
    close(raw, vectors[f"{size}/mid/raw_nchw"].transpose(0, 2, 3, 1))
    for name, tensor in export(params, table).items():
        np.testing.assert_array_equal(tensor, tensors[name])


def test_golden_real_names_initialise_the_full_encoder(real_keys):
    assert len(real_keys) == 1009
    wanted = _wanted_by_rig3r()
    params, metadata = dust3r.convert_tensors(real_keys)
    assert shapes(params) == shapes({"encoder": wanted})
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 303_098_880
    assert json.loads(metadata["fields"]) == {"width": 1024, "encoder_depth": 24, "heads": 16, "patch": 16}
    back = dust3r.export_tensors(params, metadata)
    assert {name: array.shape for name, array in back.items()} == {
        name: array.shape for name, array in real_keys.items() if name.startswith(("patch_embed.", "enc_"))
    }


def test_golden_real_names_of_both_dense_heads(real_keys):
    """Every key of the two heads is kept or left out by name; the shapes are those of Rig3R's own head."""
    model = DPTHead(16)
    levels = [jnp.zeros((1, 4, 1024 if level == 0 else 768)) for level in range(4)]
    wanted = jax.eval_shape(lambda key: model.init(key, levels, 2, 2), jax.random.key(0))["params"]
    for head in ("downstream_head1", "downstream_head2"):
        tensors = {name: array for name, array in real_keys.items() if name.startswith(head)}
        convert(tensors, dust3r.dpt_table(f"{head}.dpt", "dpt"), {"dpt": wanted})


def test_golden_one_report_names_every_misfit(real_keys):
    del real_keys["enc_blocks.3.norm1.bias"]
    real_keys["enc_blocks.5.attn.qkv.weight"] = np.zeros((3072, 1000), np.float32)
    real_keys["surprise"] = np.zeros(3, np.float32)
    with pytest.raises(ConversionError) as caught:
        dust3r.convert_tensors(real_keys)
    for part in ("surprise", "enc_blocks.3.norm1.bias", "(3072, 1000)", "(3072, 1024)"):
        assert part in str(caught.value)


def test_croco_pretraining_is_left_out_by_name():
    rng = np.random.default_rng(0)
    tensors = croco(rng)
    for name in ("mask_token", "decoder_embed.weight", "dec_blocks.0.cross_attn.projq.bias", "dec_norm.weight"):
        tensors[name] = rng.random((2, 3), np.float32)
    tensors["prediction_head.weight"] = rng.random((768, 8), np.float32)
    params, metadata = dust3r.convert_tensors(tensors)
    kept = dust3r.export_tensors(params, metadata)
    assert kept.keys() == croco(rng).keys()
    for name, array in kept.items():
        np.testing.assert_array_equal(array, tensors[name])


def test_weights_with_learned_or_added_positions_are_not_taken_for_these():
    """CroCo v1 adds sine-cosine positions that its checkpoints hold: with RoPE its weights would mean nothing."""
    tensors = {**croco(np.random.default_rng(0)), "enc_pos_embed": np.zeros((4, 8), np.float32)}
    with pytest.raises(ConversionError, match="1 unknown keys:\n  enc_pos_embed"):
        dust3r.convert_tensors(tensors)


def test_keys_that_sizes_are_read_from_are_named_alone():
    whole = croco(np.random.default_rng(0))
    for name in ("patch_embed.proj.weight", "enc_norm.weight", "enc_blocks.0.norm1.weight"):
        with pytest.raises(ConversionError, match=f"1 missing keys:\n  {name}$"):
            dust3r.convert_tensors({key: tensor for key, tensor in whole.items() if key != name})
        shape = (whole[name].shape[0] + 1, *whole[name].shape[1:])
        with pytest.raises(ConversionError, match=f"1 misshapen tensors:\n  {name}: has shape [^\n]*$"):
            dust3r.convert_tensors({**whole, name: np.zeros(shape, np.float32)})
    with pytest.raises(ConversionError, match="1 unknown keys:\n  enc_blocks.3.norm1.weight$"):
        dust3r.convert_tensors({**whole, "enc_blocks.3.norm1.weight": np.zeros(8, np.float32)})


def test_parameters_take_the_type_that_is_asked_for():
    params, _ = dust3r.convert_tensors(croco(np.random.default_rng(0)), dtype=np.float64)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype(np.float64)}


def test_other_files_are_told_apart():
    with pytest.raises(ConversionError, match="no weights of DUSt3R or CroCo(.|\n)*the file has conv1.weight"):
        dust3r.convert_tensors({"conv1.weight": np.zeros(3)})


def croco(rng: np.random.Generator, width: int = 8, depth: int = 2, patch: int = 4) -> dict[str, np.ndarray]:
    """Random weights of a small encoder."""
    sizes = {"patch_embed.proj.weight": (width, 3, patch, patch), "patch_embed.proj.bias": (width,)}
    sizes |= {f"enc_norm.{name}": (width,) for name in ("weight", "bias")}
    for index in range(depth):
        block = f"enc_blocks.{index}"
        sizes |= {f"{block}.norm{n}.{name}": (width,) for n in (1, 2) for name in ("weight", "bias")}
        layers = {"attn.qkv": (3, 1), "attn.proj": (1, 1), "mlp.fc1": (4, 1), "mlp.fc2": (1, 4)}
        for layer, (out, into) in layers.items():
            sizes |= {f"{block}.{layer}.weight": (out * width, into * width), f"{block}.{layer}.bias": (out * width,)}
    return {name: rng.random(size, np.float32) for name, size in sizes.items()}


def _wanted_by_rig3r() -> dict:
    model = build(variant="large", position="rope", backend="cpu")
    views = jax.tree.map(jnp.asarray, random_batch(batch=1, views=2).views)
    return jax.eval_shape(model.init, jax.random.key(0), views)["params"]["encoder"]
