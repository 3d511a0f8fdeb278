"""The comparisons of VGGT's dumps: golden folders agree, altered ones do not, other configs and gaps are named."""

import json
import pathlib
import shutil

import numpy as np
import pytest

from rig3r_jax.parity.compare import Comparison, Skipped
from rig3r_jax.parity.dump import vggt_ops, vggt_tiny
from rig3r_jax.parity.dump.folder import Dump
from rig3r_jax.weights.files import read_tensors, write_tensors

COVERED = ("rig3r_jax/geometry", "rig3r_jax/models", "rig3r_jax/parity", "rig3r_jax/weights")


def _rows(module, folder: pathlib.Path, tolerance: float | None = None):
    dump = Dump(folder, tolerance)
    rows = list(module.compare_folder(dump))
    compared = {row.name: row for row in rows if isinstance(row, Comparison)}
    return compared, {row.name: row.reason for row in rows if isinstance(row, Skipped)}, dump


def _copy(source: pathlib.Path, folder: pathlib.Path, keep: str) -> pathlib.Path:
    """A folder with the arrays whose names begin with `keep`, in double precision only."""
    folder.mkdir()
    for name in ("config.json", "weights.safetensors"):
        shutil.copy(source / name, folder / name)
    for name in ("inputs.npz", "outputs_f64.npz"):
        with np.load(source / name) as arrays:
            np.savez(folder / name, **{key: arrays[key] for key in arrays.files if key.startswith(keep)})
    return folder


@pytest.mark.slow
@pytest.mark.sweep(*COVERED)
def test_golden_vggt_agrees_in_both_precisions(shared):
    compared, skipped, dump = _rows(vggt_tiny, shared / "golden/vggt_tiny")
    assert len(compared) == 187 and not skipped and not dump.unread()
    assert not [row for row in compared.values() if not row.passed]
    assert max(row.relative for row in compared.values() if row.dtype == "float64") < 1e-13


def test_golden_vggt_agrees_in_its_fullest_case_and_notices_one_changed_weight(shared, tmp_path):
    folder = _copy(shared / "golden/vggt_tiny", tmp_path / "dump", "b__")
    with np.load(folder / "outputs_f64.npz") as arrays:
        outputs = dict(arrays)
    tensors = {name: np.array(tensor) for name, tensor in read_tensors(folder / "weights.safetensors").items()}
    tensors["aggregator.global_blocks.3.mlp.fc2.bias"][5] += 1e-4
    write_tensors(folder / "weights.safetensors", tensors)
    np.savez(folder / "outputs_f64.npz", **outputs, b__novelty=np.ones(2), z__depth=np.ones(3))
    compared, skipped, dump = _rows(vggt_tiny, folder)
    assert set(skipped) == {"outputs_f64.npz/b__novelty", "outputs_f64.npz/z__depth"}
    assert skipped["outputs_f64.npz/z__depth"] == "inputs.npz has no z__images"
    right = {name.split("__")[1] for name, row in compared.items() if row.passed}
    wrong = {name.split("__")[1] for name, row in compared.items() if not row.passed}
    assert len(right) + len(wrong) == len(outputs)
    last = {"agg.global_block3", "aggregated_tokens.3", "cam.token_norm", "depth", "world_points", "pose_enc"}
    assert last <= wrong and {"agg.frame_block3", "dino.block1", "depth.resize0", "point.resize2"} <= right


def test_golden_config_of_another_model_is_refused_by_name(shared, tmp_path):
    folder = _copy(shared / "golden/vggt_tiny", tmp_path / "dump", "d__")
    config = json.loads((folder / "config.json").read_text())
    config["rope_freq"], config["camera_head"]["fl_act"] = 10000, "exp"
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"rope_freq = 10000 \(ours: 100\); camera_head.fl_act = 'exp'"):
        list(vggt_tiny.compare_folder(Dump(folder)))


@pytest.mark.slow
@pytest.mark.sweep(*COVERED)
def test_golden_weights_without_the_log_variance_branch(shared, tmp_path):
    folder = _copy(shared / "golden/vggt_tiny", tmp_path / "dump", "d__pose")
    with np.load(shared / "golden/vggt_tiny/inputs.npz") as arrays:
        np.savez(folder / "inputs.npz", d__images=arrays["d__images"])
    tensors = read_tensors(folder / "weights.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if "log_var" not in name and "_head" not in name}
    kept |= {n: t for n, t in tensors.items() if n.startswith("camera_head.") and "log_var" not in n}
    write_tensors(folder / "public.safetensors", kept)
    (folder / "public.safetensors").rename(folder / "weights.safetensors")
    compared, skipped, _ = _rows(vggt_tiny, folder)
    assert skipped == {"outputs_f64.npz/d__pose_log_var_list": "the weights have no log-variance branch"}
    assert len(compared) == 2 and all(row.passed for row in compared.values())


def test_golden_operations_agree(shared):
    compared, skipped, dump = _rows(vggt_ops, shared / "golden/vggt_ops")
    assert len(compared) == 36 and all(row.passed for row in compared.values()) and not dump.unread()
    assert set(skipped) == {"ops.npz/act_linear_pts", "ops.npz/act_linear_conf"}


def test_golden_operations_that_differ_or_lack_inputs_are_named(shared, tmp_path):
    with np.load(shared / "golden/vggt_ops/ops.npz") as arrays:
        names = ("bicubic_aa_4_2x3_in", "bicubic_aa_4_2x3_out", "gelu_out", "uv_w3_h2")
        ops = {name: arrays[name] for name in names}
    ops["bicubic_aa_4_2x3_out"] = ops["bicubic_aa_4_2x3_out"] + 1e-6
    ops["softsign_out"] = ops["gelu_out"]
    np.savez(tmp_path / "ops.npz", **ops)
    compared, skipped, _ = _rows(vggt_ops, tmp_path)
    assert skipped == {"ops.npz/gelu_out": "without gelu_in", "ops.npz/softsign_out": "no such operation"}
    assert compared["ops.npz/uv_w3_h2"].passed and not compared["ops.npz/bicubic_aa_4_2x3_out"].passed
    assert _rows(vggt_ops, tmp_path, 1e-3)[0]["ops.npz/bicubic_aa_4_2x3_out"].passed


@pytest.mark.slow
@pytest.mark.sweep(*COVERED)
def test_golden_float64_weights_are_not_rounded(shared, tmp_path):
    """Digits that float32 has no place for reach the outputs."""
    folder = _copy(shared / "golden/vggt_tiny", tmp_path / "dump", "d__pose_enc")
    with np.load(shared / "golden/vggt_tiny/inputs.npz") as arrays:
        np.savez(folder / "inputs.npz", d__images=arrays["d__images"])
    tensors = read_tensors(folder / "weights.safetensors")
    doubles = {name: tensor * np.float64(1 + 1e-9) for name, tensor in tensors.items()}
    write_tensors(folder / "double.safetensors", doubles)
    (folder / "double.safetensors").rename(folder / "weights.safetensors")
    compared, _, _ = _rows(vggt_tiny, folder)
    assert compared and all(1e-11 < row.relative < 1e-6 for row in compared.values())
