"""Folders of encoder, dense head and Open-Rig3R: they agree, whole or in part, in either precision; faults are told."""

import json
import shutil

import numpy as np
import pytest

from rig3r_jax.parity.compare import Comparison, Skipped
from rig3r_jax.parity.dump import croco_tiny, dpt_tiny, openrig3r_tiny
from rig3r_jax.parity.dump.folder import Dump
from rig3r_jax.weights.files import read_tensors, write_tensors

MODULES = {"croco_tiny": croco_tiny, "dpt_tiny": dpt_tiny, "openrig3r_tiny": openrig3r_tiny}


@pytest.fixture
def copy(shared, tmp_path):
    """Copies a golden folder without the arrays that `keep(file, name)` denies."""

    def copied(folder, keep=lambda file, name: True):
        shutil.copytree(shared / "golden" / folder, tmp_path / folder)
        for path in (tmp_path / folder).glob("*.npz"):
            with np.load(path) as file:
                kept = {name: file[name] for name in file.files if keep(path.name, name)}
            path.unlink()
            if kept:
                np.savez(path, **kept)
        return tmp_path / folder

    return copied


def compared(path, **options):
    rows = list(MODULES[path.name].compare_folder(Dump(path, **options)))
    return {row.name: row for row in rows if isinstance(row, Comparison)}, {
        row.name: row.reason for row in rows if isinstance(row, Skipped)
    }


@pytest.mark.parametrize("folder, count", [("croco_tiny", 44), ("dpt_tiny", 45), ("openrig3r_tiny", 45)])
def test_golden_folder_agrees_and_nothing_is_passed_over(shared, folder, count):
    dump = Dump(shared / "golden" / folder)
    rows = list(MODULES[folder].compare_folder(dump))
    compared = [row for row in rows if isinstance(row, Comparison)]
    assert len(compared) == count and [row for row in compared if not row.passed] == []
    assert all(row.relative < 5e-6 for row in compared)
    assert set(dump.unread()) <= {row.name for row in rows}
    skipped = {row.name.split("/")[0] for row in rows if isinstance(row, Skipped)}
    assert skipped <= {"postprocess.npz", "as_coded_losses_metrics.npz", "intended_sincos.npz"}


def test_golden_exp_read_out_is_the_one_compared(copy):
    passed, skipped = compared(copy("dpt_tiny", lambda file, name: file == "postprocess.npz"))
    assert set(passed) == {"postprocess.npz/exp/pts3d", "postprocess.npz/conf_exp_1_inf"}
    assert all("exp" in reason for reason in skipped.values()) and len(skipped) == 4


def test_golden_part_of_a_folder_is_compared(copy):
    def keep(file, name):
        return file == "inputs.npz" or name in ("cosine/enc_norm", "hd16_3x4/out", "rope100/odd")

    passed, skipped = compared(copy("croco_tiny", keep))
    assert set(passed) == {"outputs.npz/cosine/enc_norm"} and passed["outputs.npz/cosine/enc_norm"].passed
    assert skipped == {"rope.npz/hd16_3x4/out": "rope.npz has no hd16_3x4/tokens or hd16_3x4/pos_yx"}


def test_golden_arrays_without_their_inputs_are_named(copy):
    def keep(file, name):
        return name in ("images", "nometa/features", "cam2rig_b33/features", "48x64/out/conf", "48x64/tokens0")

    passed, skipped = compared(copy("openrig3r_tiny", keep))
    assert set(passed) == {"outputs.npz/nometa/features"}
    assert skipped == {"outputs.npz/cam2rig_b33/features": "inputs.npz has no cam2rig_b33"}
    lacking = "io.npz lacks tokens of this size"
    expected = {"io.npz/48x64/out/conf": lacking, "io.npz/48x64/tokens0": lacking}
    assert compared(copy("dpt_tiny", keep)) == ({}, expected)


@pytest.mark.parametrize(
    "folder, key, file",
    [
        ("croco_tiny", "enc_blocks.1.attn.proj.bias", "outputs.npz"),
        ("dpt_tiny", "dpt.scratch.refinenet2.out_conv.bias", "io.npz"),
        ("openrig3r_tiny", "decoder.layers.1.mlp.3.bias", "outputs.npz"),
    ],
)
def test_golden_fault_in_one_weight_is_told(copy, folder, key, file):
    def keep(name, array):
        wanted = ("64x64/tokens", "64x64/mid/", "norope/", "nometa/")
        return name == "inputs.npz" or (name == file and array.startswith(wanted))

    path = copy(folder, keep)
    tensors = dict(read_tensors(path / "weights.safetensors"))
    tensors[key] = tensors[key] + np.float32(1e-3) * (np.arange(tensors[key].size) == 3)
    write_tensors(path / "weights.safetensors", tensors)
    rows, _ = compared(path)
    assert {row.passed for row in rows.values()} == {True, False}  # what comes before it still agrees


def test_golden_double_precision_is_computed_in_double_precision(copy):
    def keep(file, name):
        return file == "inputs.npz" or name.startswith("norope/")

    path = copy("croco_tiny", keep)
    with np.load(path / "outputs.npz") as file:
        np.savez(path / "outputs.npz", **{name: file[name].astype(np.float64) for name in file.files})
    rows, _ = compared(path)  # single-precision numbers called double: our error is theirs now, 1e-6 and not 0
    assert 1e-9 < rows["outputs.npz/norope/enc_norm"].relative < 5e-6
    assert rows["outputs.npz/norope/enc_norm"].tolerance == 1e-9 and not rows["outputs.npz/norope/enc_norm"].passed
    loose, _ = compared(path, tolerance=1e-5)
    assert all(row.passed for row in loose.values())


def test_golden_double_precision_weights_keep_their_digits(copy):
    path = copy("croco_tiny", lambda file, name: file == "many_ar.npz")
    rng = np.random.default_rng(0)
    tensors = {
        key: tensor + rng.normal(0, 1e-6, tensor.shape)
        for key, tensor in read_tensors(path / "weights.safetensors").items()
    }
    write_tensors(path / "weights.safetensors", tensors)
    images, sizes = rng.normal(size=(3, 3, 32, 48)), np.array([[32, 48], [48, 32], [32, 48]])
    tokens = []
    for image, (height, _) in zip(images, sizes, strict=True):
        image = image if height == 32 else image.swapaxes(1, 2)
        windows = image.reshape(3, image.shape[1] // 16, 16, image.shape[2] // 16, 16)
        grid = np.einsum("crpsq,dcpq->rsd", windows, tensors["patch_embed.proj.weight"])
        tokens.append(grid.reshape(6, -1) + tensors["patch_embed.proj.bias"])
    np.savez(path / "many_ar.npz", img=images, true_shape_hw=sizes, tokens=tokens, odd=np.zeros(2))
    rows, skipped = compared(path)
    assert rows["many_ar.npz/tokens"].relative < 1e-13
    assert skipped == {"many_ar.npz/odd": "Rig3R has no counterpart"}


def test_golden_encoder_of_another_kind_is_refused(copy):
    path = copy("croco_tiny")
    meta = json.loads((path / "meta.json").read_text())
    (path / "meta.json").write_text(json.dumps({**meta, "rope_freq": 10_000.0, "ln_eps": 1e-5}))
    with pytest.raises(ValueError, match=r"ln_eps = 1e-05 \(ours: 1e-06\); rope_freq = 10000.0"):
        compared(path)
