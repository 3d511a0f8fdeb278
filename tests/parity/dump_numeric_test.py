"""Our losses, geometry and metrics against reference arrays: every array is within its tolerance or named."""

import numpy as np
import pytest

from rig3r_jax.parity.compare import Comparison, Skipped
from rig3r_jax.parity.dump.driver import run_dump

COMPARED = {"seed_loss": 199, "lie": 61, "pose_metrics": 255, "evo_metrics": 1042}  # so that none goes missing


def compared(rows):
    return {row.name: row for row in rows if isinstance(row, Comparison)}


@pytest.mark.parametrize("name", COMPARED)
def test_golden_folder(shared, name):
    rows = run_dump(shared / "golden", name, None)[name]
    beyond = [row for row in compared(rows).values() if not row.passed]
    assert not beyond
    assert len([row for row in rows if isinstance(row, Comparison)]) == COMPARED[name]
    unexplained = [row.name for row in rows if isinstance(row, Skipped) and "no counterpart, or" in row.reason]
    assert not unexplained
    assert all(row.note for row in compared(rows).values() if row.tolerance > 2e-5)


def test_golden_lie_of_other_rows_and_fewer_arrays(shared, tmp_path):
    """Small angles only, half of the arrays, one number wrong."""
    folder = tmp_path / "lie"
    folder.mkdir()
    with np.load(shared / "golden/lie/se3.npz") as file:
        kept = ("xi", "exact_R", "exact_t", "exp_f64", "inv_f64", "se3_Jl_f64", "log_exp_f64")
        arrays = {name: file[name][24:30] for name in kept}
    arrays["inv_f64"][2, 1] += 1e-6
    np.savez(folder / "se3.npz", **arrays)
    rows = run_dump(tmp_path, None, None)["lie"]
    assert [row.name for row in compared(rows).values() if not row.passed] == ["se3.npz/inv_f64"]
    expected = {f"se3.npz/{name}" for name in (*kept[:3], "exp_f64 (small angles)", "inv_f64", "log_exp_f64")}
    assert set(compared(rows)) == expected
    assert [row.name for row in rows if isinstance(row, Skipped)] == ["se3.npz/se3_Jl_f64 (small angles)"]


def test_golden_seed_loss_with_other_weights_fails(shared, tmp_path):
    folder = tmp_path / "seed_loss"
    folder.mkdir()
    with np.load(shared / "golden/seed_loss/inputs.npz") as file:
        inputs = dict(file) | {"lambda_r": file["lambda_r"] * 1.001}
    for name in ("K", "gt_pointmap_cam", "gt_pointmap_nan_at_invalid", "pred_conf_raw"):
        del inputs[name]
    with np.load(shared / "golden/seed_loss/outputs.npz") as file:
        outputs = {name: file[name] for name in file if name.startswith("cam_z/mean/") and "grad" not in name}
    np.savez(folder / "inputs.npz", **inputs)
    np.savez(folder / "outputs.npz", **outputs)
    rows = compared(run_dump(tmp_path, None, None)["seed_loss"])
    assert {name: row.passed for name, row in rows.items()} == {
        "outputs.npz/cam_z/mean/pmap": True,
        "outputs.npz/cam_z/mean/p_rmap": True,
        "outputs.npz/cam_z/mean/r_rmap": True,
        "outputs.npz/cam_z/mean/total": False,
    }
