"""Weights are the same ones whatever wrappers, prefixes, suffixes and parts they come in."""

import json

import numpy as np
import pytest

from rig3r_jax.weights.convert import convert_file, load_params
from rig3r_jax.weights.engine import ConversionError, flatten
from rig3r_jax.weights.files import read_tensors, write_tensors
from rig3r_jax.weights.names import part_of, unwrapped
from tests.weights.convert_test import croco

torch = pytest.importorskip("torch")


def numbered(*names):
    """One array of its own number for each name."""
    return {name: np.array(number) for number, name in enumerate(names)}


@pytest.mark.parametrize(
    "prefix",
    ["_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "model._orig_mod.module.", "_forward_module.model."],
)
def test_prefixes_in_any_nesting_are_taken_away(prefix):
    assert unwrapped(numbered(f"{prefix}a.weight", f"{prefix}b")) == numbered("a.weight", "b")


def test_marks_within_names_are_taken_away_unless_two_become_one():
    inner = numbered("encoder._orig_mod.a", "encoder.blocks.0._checkpoint_wrapped_module.b", "head.module.c")
    assert unwrapped(inner) == numbered("encoder.a", "encoder.blocks.0.b", "head.c")
    both = numbered("_orig_mod.a", "a")
    assert unwrapped(both) == both


def test_the_part_below_a_prefix_is_taken():
    typical = r"blocks\.\d+\..+"
    assert part_of(numbered("blocks.0.a", "net.blocks.0.a"), typical).prefix == ""
    tensors, prefix, others = part_of(numbered("backbone.blocks.0.a", "backbone.norm", "head.b"), typical)
    assert (tensors, prefix, others) == (numbered("blocks.0.a", "norm"), "backbone.", ["head.b"])
    two = numbered("teacher.backbone.blocks.0.a", "student.backbone.blocks.0.a")
    assert part_of(two, typical)[:2] == (numbered("blocks.0.a"), "teacher.backbone.")
    with pytest.raises(ConversionError, match="several parts .* those below 'left.', 'right.'; save the one"):
        part_of(numbered("left.blocks.0.a", "right.blocks.0.a"), typical)


def converted(file, tmp_path):
    report = convert_file("dust3r", file, tmp_path / "out.safetensors")
    return report, flatten(load_params(tmp_path / "out.safetensors")[0])


def test_every_way_to_keep_them_gives_the_same_parameters(tmp_path):
    state = croco()
    torch.save(state, tmp_path / "plain.pth")
    _, expected = converted(tmp_path / "plain.pth", tmp_path)
    contents = {
        "pytorch_model.bin": {"module._orig_mod." + name: tensor for name, tensor in state.items()},
        "last.ckpt": {"state_dict": {"net." + name: t for name, t in state.items()} | {"loss.scale": torch.ones(1)}},
        "UPPER.PTH": {"checkpoint": {"model": state}},
        "ema.pth": {"n_averaged": torch.tensor(7), **{"module." + name: tensor for name, tensor in state.items()}},
        "odd.safetensors": {"encoder": state, "decoder": {"feat.weight": torch.ones(3)}},  # a checkpoint
        "no_suffix": {"model": {**state, "batches": torch.tensor(3), "phases": torch.ones(2, dtype=torch.complex64)}},
    }
    for name, content in contents.items():
        torch.save(content, tmp_path / name)
    write_tensors(tmp_path / "really_safetensors.pth", read_tensors(tmp_path / "plain.pth"))
    for name in (*contents, "really_safetensors.pth"):
        report, params = converted(tmp_path / name, tmp_path)
        for path, leaf in expected.items():
            np.testing.assert_array_equal(params[path], leaf, err_msg=f"{name}: {path}")
        assert f"{len(state) - 2} kept" in report
    assert "weights taken below 'net.'" in converted(tmp_path / "last.ckpt", tmp_path)[0]


def test_weights_in_parts(tmp_path):
    tensors = {name: tensor.numpy() for name, tensor in croco().items()}
    names, index = list(tensors), tmp_path / "model.safetensors.index.json"
    part_of_name = {name: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, name in enumerate(names)}
    for part in set(part_of_name.values()):
        write_tensors(tmp_path / part, {name: tensors[name] for name in names if part_of_name[name] == part})
    index.write_text(json.dumps({"metadata": {}, "weight_map": part_of_name}))
    read = read_tensors(index)
    assert read.keys() == tensors.keys()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(read[name], tensor)
    convert_file("dust3r", index, tmp_path / "out.safetensors")
    first = tmp_path / "model-00001-of-00002.safetensors"
    with pytest.raises(
        ConversionError, match="is part 1 of 2 of such weights; give their index, model.safetensors.index"
    ):
        convert_file("dust3r", first, tmp_path / "out.safetensors")
    index.write_text(json.dumps({"weight_map": part_of_name | {"more": first.name}}))
    with pytest.raises(ValueError, match="its parts lack more; fetch index and parts of one version"):
        read_tensors(index)
    first.write_bytes(b"version https://git-lfs.github.com/spec/v1\nsize 12\n")
    with pytest.raises(ValueError, match=f"{first.name}: is a Git LFS pointer"):
        read_tensors(index)
    first.unlink()
    with pytest.raises(ValueError, match=f"its parts {first.name} are missing beside it"):
        read_tensors(index)
    index.write_text(json.dumps({"weight_map": {"a": index.name}}))
    with pytest.raises(ValueError, match="is an index where a part is wanted"):
        read_tensors(index)
    index.write_text("{")
    with pytest.raises(ValueError, match="index.json: is not JSON"):
        read_tensors(index)
    for content in ({"hidden_size": 384}, {"weight_map": {"a": "../other.safetensors"}}, {"weight_map": {}}):
        index.write_text(json.dumps(content))
        with pytest.raises(ValueError, match="is JSON but no index of weights"):
            read_tensors(index)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_an_index_is_read_in_the_encodings_of_windows(tmp_path, encoding):
    write_tensors(tmp_path / "a.safetensors", numbered("x"))
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"x": "a.safetensors"}}, indent=1), encoding=encoding)
    assert read_tensors(index) == numbered("x")


FOREIGN = {
    "empty": (b"", "is empty"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 2287654321\n", "is a Git LFS pointer"),
    "page": (
        b"\n<!DOCTYPE html><html><title>Google Drive - Virus scan warning</title>",
        "web page 'Google Drive - Virus",
    ),
    "refusal": (b"Invalid username or password.", "is text that begins with 'Invalid username or password.'"),
    "zeros": (bytes(9000), "begins with zeros"),
    "gzip": (b"\x1f\x8b\x08" + bytes(40), "is packed by gzip; unpack it"),
    "HDF5": (b"\x89HDF\r\n" + bytes(40), "is an HDF5 file"),
    "pickle": (b"\x80\x04\x95" + bytes(40), "is a bare pickle"),
    "old": (bytes.fromhex("80028a0a6cfc9c46f9206aa850192e") + bytes(9), r"format before 1.6 \(2020\); re-save it"),
}


@pytest.mark.parametrize("suffix", ["pth", "safetensors", "bin"])
@pytest.mark.parametrize("case", FOREIGN)
def test_other_files_are_named_for_what_they_are(tmp_path, case, suffix):
    content, message = FOREIGN[case]
    path = tmp_path / f"weights.{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"weights.{suffix}: .*{message}") as error:
        read_tensors(path)
    assert "\n" not in str(error.value)
