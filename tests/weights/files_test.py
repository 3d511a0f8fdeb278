"""Weight files come back as they were written, mapped, and damaged ones are refused."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from rig3r_jax.weights.files import read_metadata, read_tensors, write_tensors

torch = pytest.importorskip("torch")
safetensors_torch = pytest.importorskip("safetensors.torch")

TYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool)


def every_type() -> dict[str, torch.Tensor]:
    tensors = {str(dtype): (torch.randn(3, 4) * 3).to(dtype) for dtype in TYPES}
    return {**tensors, "scalar": torch.tensor(2.5), "empty": torch.empty(0, 3)}


def test_reads_what_the_library_writes(tmp_path):
    tensors = every_type()
    safetensors_torch.save_file(tensors, tmp_path / "a.safetensors", {"format": "pt"})
    ours = read_tensors(tmp_path / "a.safetensors")
    assert ours.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert ours[name].shape == tuple(tensor.shape)
        np.testing.assert_array_equal(ours[name].astype(np.float64), tensor.double().numpy())
    assert ours["torch.bfloat16"].dtype == jnp.bfloat16
    assert read_metadata(tmp_path / "a.safetensors") == {"format": "pt"}


def test_the_library_reads_what_we_write(tmp_path):
    tensors = every_type()
    safetensors_torch.save_file(tensors, tmp_path / "a.safetensors")
    views = dict(read_tensors(tmp_path / "a.safetensors"))
    views["transposed"] = views["torch.float32"].T
    views["jax"] = jnp.arange(6.0).reshape(2, 3)
    write_tensors(tmp_path / "new" / "b.safetensors", views, {"kind": "test", "text": "ü"})
    theirs = safetensors_torch.load_file(tmp_path / "new" / "b.safetensors")
    for name, tensor in tensors.items():
        assert theirs[name].dtype == tensor.dtype and torch.equal(theirs[name], tensor)
    assert torch.equal(theirs["transposed"], tensors["torch.float32"].T)
    assert torch.equal(theirs["jax"], torch.arange(6.0).reshape(2, 3))
    assert read_metadata(tmp_path / "new" / "b.safetensors") == {"kind": "test", "text": "ü"}
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["b.safetensors"]


def test_arrays_are_views_of_the_file(tmp_path):
    write_tensors(tmp_path / "a.safetensors", {"x": np.arange(5.0)})
    array = read_tensors(tmp_path / "a.safetensors")["x"]
    assert not array.flags.owndata and not array.flags.writeable


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.safetensors"
    write_tensors(path, {"x": np.arange(5.0)})
    with pytest.raises(ValueError, match="complex64"):
        write_tensors(path, {"x": np.zeros(3, np.complex64)})

    class Broken:
        shape, dtype = (2,), np.dtype(np.float32)

        def __array__(self, dtype=None, copy=None):
            raise RuntimeError("the device is lost")

    with pytest.raises(RuntimeError):
        write_tensors(path, {"x": Broken()})
    np.testing.assert_array_equal(read_tensors(path)["x"], np.arange(5.0))
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


@pytest.mark.parametrize("damage", ["cut", "short", "beyond", "empty"])
def test_damaged_files_are_refused(tmp_path, damage):
    path = tmp_path / "a.safetensors"
    write_tensors(path, {"x": np.arange(5.0)})
    data = path.read_bytes()
    header = {"x": {"dtype": "F64", "shape": [5], "data_offsets": [0, 4000]}}
    text = json.dumps(header).encode()
    path.write_bytes(
        {
            "cut": data[:-3],
            "short": data[:20],
            "beyond": len(text).to_bytes(8, "little") + text + bytes(40),
            "empty": b"",
        }[damage]
    )
    with pytest.raises(ValueError, match="is empty" if damage == "empty" else "its header promises"):
        read_tensors(path)


def test_missing_and_foreign_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="missing"):
        read_tensors(tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="is a folder; give a weights file: rig3r export makes one of a run"):
        read_tensors(tmp_path)
    np.savez(tmp_path / "a.npz", x=np.zeros(2))
    with pytest.raises(ValueError, match="is a folder; give a weights file: one of b.BIN$"):
        (tmp_path / "b.BIN").write_bytes(b"")
        read_tensors(tmp_path)
    with pytest.raises(ValueError, match=r"a.npz: is a NumPy archive \(.npz\), no checkpoint"):
        read_tensors(tmp_path / "a.npz")


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
@pytest.mark.parametrize("prefix", ["module.", "model.", "backbone.", "module.model."])
def test_a_prefix_of_all_names_is_taken_away(tmp_path, suffix, prefix):
    path, tensors = tmp_path / f"a.{suffix}", {f"{prefix}a.weight": torch.ones(2), f"{prefix}b": torch.zeros(3)}
    save = torch.save if suffix == "pth" else safetensors_torch.save_file
    save(tensors, path)
    assert read_tensors(path).keys() == {"a.weight", "b"}
    save({**tensors, "c": torch.ones(1)}, path)
    assert read_tensors(path).keys() == {*tensors, "c"}
