"""Files of others become ours and come back bit for bit; what is no file of ours is refused with the remedy."""

import argparse
import importlib.util
import json

import numpy as np
import pytest

from rig3r_jax.weights.convert import KINDS, convert_file, export_torch, load_metadata, load_params, save_params
from rig3r_jax.weights.engine import ConversionError, flatten
from rig3r_jax.weights.files import read_tensors, write_tensors

torch = pytest.importorskip("torch")


def croco(width: int = 8, depth: int = 2) -> dict[str, torch.Tensor]:
    """A small DUSt3R state dict, decoder and all."""
    shapes = {"patch_embed.proj.weight": (width, 3, 4, 4), "patch_embed.proj.bias": (width,), "mask_token": (1, 1, 6)}
    shapes |= {"enc_norm.weight": (width,), "enc_norm.bias": (width,), "dec_blocks.0.norm1.weight": (6,)}
    for index in range(depth):
        for name, (out, into) in {
            "attn.qkv": (3, 1),
            "attn.proj": (1, 1),
            "mlp.fc1": (4, 1),
            "mlp.fc2": (1, 4),
        }.items():
            shapes[f"enc_blocks.{index}.{name}.weight"] = (out * width, into * width)
            shapes[f"enc_blocks.{index}.{name}.bias"] = (out * width,)
        shapes |= {f"enc_blocks.{index}.norm{n}.{name}": (width,) for n in (1, 2) for name in ("weight", "bias")}
    torch.manual_seed(0)
    return {name: torch.randn(*shape) for name, shape in shapes.items()}


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "dust3r.pth"
    torch.save({"args": argparse.Namespace(lr=1.0), "model": croco(), "optimizer": {"state": {}}}, path)
    return path


def test_dust3r_checkpoint_to_ours_and_back(tmp_path, checkpoint):
    state, ours = croco(), tmp_path / "ours.safetensors"
    report = convert_file("dust3r", checkpoint, ours)
    for part in (
        f"{len(state)} read",
        f"{len(state) - 2} kept",
        "1  mask_token",
        "1  dec_blocks.0.norm1.weight",
        "2 left out by name",
    ):
        assert part in report
    params, metadata = load_params(ours)
    assert (metadata["kind"], metadata["source"], metadata["version"]) == ("dust3r", "dust3r.pth", "1")
    assert json.loads(metadata["requires"]) == {"position": "rope", "patch": 4, "heads": 1}
    assert params["encoder"]["blocks"]["block"]["attn"]["qkv"]["kernel"].shape == (2, 8, 24)
    assert "encoder/blocks/block/attn/qkv/kernel" in read_tensors(ours)
    for name in ("back.safetensors", "back.pth"):
        assert f"{len(state) - 2} tensors" in export_torch(ours, tmp_path / name)
        back = read_tensors(tmp_path / name)
        assert back.keys() == state.keys() - {"mask_token", "dec_blocks.0.norm1.weight"}
        for key, array in back.items():
            np.testing.assert_array_equal(array, state[key].numpy())
    loaded = torch.load(tmp_path / "back.pth", weights_only=True)
    assert all(torch.equal(tensor, state[name]) for name, tensor in loaded.items())


def test_what_no_shape_tells_can_be_told(tmp_path, checkpoint):
    ours = tmp_path / "ours.safetensors"
    assert "not inferred from tensor shapes: heads; give" in convert_file("dust3r", checkpoint, ours, ["heads=2"])
    assert json.loads(load_metadata(ours)["requires"])["heads"] == 2
    for wrong in ("head=2", "heads=two", "heads"):
        with pytest.raises(ValueError, match=f"'{wrong}': what can be told about dust3r weights is heads"):
            convert_file("dust3r", checkpoint, ours, [wrong])


def test_rig3r_s_own_parameters_get_the_twin_s_names(tmp_path):
    params = {"encoder": {"blocks": {"block": {"mlp": {"fc1": {"kernel": np.random.rand(2, 3, 5).astype("f")}}}}}}
    save_params(tmp_path / "a.safetensors", params, {"kind": "rig3r"})
    export_torch(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    back = read_tensors(tmp_path / "b.safetensors")
    assert back.keys() == {f"encoder.blocks.{index}.mlp.fc1.weight" for index in (0, 1)}
    np.testing.assert_array_equal(back["encoder.blocks.1.mlp.fc1.weight"], flatten(params).popitem()[1][1].T)


def test_bfloat16_parameters_reach_a_pth(tmp_path):
    import jax.numpy as jnp

    values = jnp.arange(6, dtype=jnp.bfloat16).reshape(2, 3) / 7
    save_params(tmp_path / "a.safetensors", {"head": {"kernel": values}}, {"kind": "rig3r"})
    export_torch(tmp_path / "a.safetensors", tmp_path / "b.pth")
    tensor = torch.load(tmp_path / "b.pth", weights_only=True)["head.weight"]
    assert tensor.dtype == torch.bfloat16
    np.testing.assert_array_equal(tensor.float().numpy(), np.asarray(values, np.float32).T)


def test_a_file_that_does_not_fit_is_named_and_writes_nothing(tmp_path, checkpoint):
    state = croco()
    del state["enc_norm.bias"]
    torch.save(state, checkpoint)
    with pytest.raises(ConversionError, match="dust3r.pth: (.|\n)*enc_norm.bias"):
        convert_file("dust3r", checkpoint, tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


def test_wrong_arguments_name_the_remedy(tmp_path, checkpoint):
    with pytest.raises(ValueError, match="kind 'mast3r' is not known; weights are converted from dust3r, dinov2"):
        convert_file("mast3r", checkpoint, tmp_path / "out.safetensors")
    with pytest.raises(ValueError, match="written as .safetensors; give"):
        convert_file("dust3r", checkpoint, tmp_path / "out.pth")
    with pytest.raises(ValueError, match="rig3r convert"):
        export_torch(checkpoint, tmp_path / "out.safetensors")
    convert_file("dust3r", checkpoint, tmp_path / "ours.safetensors")
    with pytest.raises(ValueError, match=".safetensors or .pth"):
        export_torch(tmp_path / "ours.safetensors", tmp_path / "out.npz")


def test_foreign_and_later_files_are_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    write_tensors(path, {"x": np.zeros(3)})
    with pytest.raises(ValueError, match="no converted weights file"):
        load_metadata(path)
    write_tensors(path, {"x": np.zeros(3)}, {"format": "rig3r-weights", "version": "2", "kind": "dust3r"})
    with pytest.raises(ValueError, match="version '2'"):
        load_params(path)


def test_without_torch_a_pth_names_the_remedy(tmp_path, checkpoint, monkeypatch):
    convert_file("dust3r", checkpoint, tmp_path / "ours.safetensors")
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "torch" else find(name, *more))
    with pytest.raises(ValueError, match=r"out.pth needs torch: pip install 'rig3r_jax\[torch\](.|\n)*out.safetensors"):
        export_torch(tmp_path / "ours.safetensors", tmp_path / "out.pth")
    assert not (tmp_path / "out.pth").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_says_when_a_file_is_of_another(tmp_path, kind):
    write_tensors(tmp_path / "a.safetensors", {"some.weight": np.zeros(3, np.float32)})
    with pytest.raises(ValueError, match="no weights of"):
        convert_file(kind, tmp_path / "a.safetensors", tmp_path / "out.safetensors")


TYPES = ["bfloat16", "float16", "float64", "mixed"]


@pytest.mark.parametrize("kind", TYPES)
def test_every_type_comes_back_bit_for_bit(tmp_path, kind):
    rng, state = np.random.default_rng(0), {}
    for index, (name, tensor) in enumerate(croco().items()):
        dtype = TYPES[index % 3] if kind == "mixed" and index % 4 else kind.replace("mixed", "float32")
        state[name] = (torch.from_numpy(rng.normal(size=tensor.shape))).to(getattr(torch, dtype))
    torch.save(state, tmp_path / "a.pth")
    report = convert_file("dust3r", tmp_path / "a.pth", tmp_path / "ours.safetensors")
    wide = "float64" if kind in ("float64", "mixed") else "float32"
    assert f"numbers of {wide}" in report
    assert {leaf.dtype.name for leaf in flatten(load_params(tmp_path / "ours.safetensors")[0]).values()} == {wide}
    told = json.loads(load_metadata(tmp_path / "ours.safetensors")["dtypes"])
    assert told == kind if kind != "mixed" else "float32" not in told.values() and len(set(told.values())) == 3
    for out in ("back.pth", "back.safetensors"):
        export_torch(tmp_path / "ours.safetensors", tmp_path / out)
    back, also = torch.load(tmp_path / "back.pth", weights_only=True), read_tensors(tmp_path / "back.safetensors")
    assert len(back) == len(state) - 2
    for name, tensor in back.items():
        assert tensor.dtype == state[name].dtype and torch.equal(tensor, state[name])
        assert also[name].dtype.name == str(tensor.dtype).removeprefix("torch.")


def test_float32_files_say_nothing_of_types(tmp_path, checkpoint):
    convert_file("dust3r", checkpoint, tmp_path / "ours.safetensors")
    assert "dtypes" not in load_metadata(tmp_path / "ours.safetensors")


def test_a_folder_that_does_not_exist_is_not_made(tmp_path, checkpoint):
    with pytest.raises(ValueError, match="no folder .*weigths; make it"):
        convert_file("dust3r", checkpoint, tmp_path / "weigths" / "ours.safetensors")
    convert_file("dust3r", checkpoint, tmp_path / "ours.safetensors")
    for name in ("b.safetensors", "b.pth"):
        with pytest.raises(ValueError, match="no folder"):
            export_torch(tmp_path / "ours.safetensors", tmp_path / "weigths" / name)
    assert not (tmp_path / "weigths").exists()


def test_the_report_names_what_the_public_model_does_not_have(tmp_path, checkpoint):
    report = convert_file("dust3r", checkpoint, tmp_path / "ours.safetensors").splitlines()
    assert [line.strip() for line in report if "unlike" in line] == [
        f"unlike the public model: {field}"
        for field in ("width 8 (1024)", "encoder_depth 2 (24)", "heads 1 (16)", "patch 4 (16)")
    ]


def test_golden_told_fields_that_cannot_be_are_refused_and_nothing_is_written(shared, tmp_path):
    folder, out = shared / "golden", tmp_path / "out.safetensors"
    whole = read_tensors(folder / "vggt_tiny/weights.safetensors")
    prefix = "aggregator.patch_embed."
    encoder = {name.removeprefix(prefix): tensor for name, tensor in whole.items() if name.startswith(prefix)}
    write_tensors(tmp_path / "dinov2.safetensors", encoder)
    for kind, file, wrong in (
        ("dust3r", folder / "croco_tiny/weights.safetensors", ("heads=0", "heads=7", "heads=32", "heads=2,2")),
        ("dinov2", tmp_path / "dinov2.safetensors", ("encoder_heads=5", "encoder_heads=0", "encoder_heads=1,2")),
        ("open-rig3r", folder / "openrig3r_tiny/weights.safetensors", ("decoder_heads=5", "encoder_heads=0")),
        (
            "vggt",
            folder / "vggt_tiny/weights.safetensors",
            (
                "encoder_heads=5",
                "camera_heads=0",
                "iterations=0",
                "iterations=1,2",
                "levels=1",
                "levels=0,1,3,2",
                "levels=0,1,2,4",
                "levels=0,1,2",
            ),  # fmt: skip
        ),
    ):
        for told in wrong:
            with pytest.raises(ValueError, match=f"{told.partition('=')[0]} (is|are) "):
                convert_file(kind, file, out, [told])
            assert not out.exists()
