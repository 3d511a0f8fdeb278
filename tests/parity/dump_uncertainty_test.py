"""Every array of the uncertainty loss's reference is within its tolerance or named with a reason."""

import json

import numpy as np
import pytest

from rig3r_jax.parity.compare import Comparison, Skipped
from rig3r_jax.parity.dump import uncertainty_loss
from rig3r_jax.parity.dump.folder import Dump

COMPARED = 1560  # so that none goes missing


def run(folder, tolerance=None):
    dump = Dump(folder, tolerance)
    rows = list(uncertainty_loss.compare_folder(dump))
    compared = {row.name: row for row in rows if isinstance(row, Comparison)}
    skipped = {row.name: row.reason for row in rows if isinstance(row, Skipped)}
    assert len(compared) + len(skipped) == len(rows)
    return compared, skipped, set(dump.unread()) - set(skipped)


def cut(golden, folder, cases, change=lambda name, array: array):
    """A folder of some cases only."""
    folder.mkdir()
    for file in (uncertainty_loss.FILE, uncertainty_loss.GRADIENTS, uncertainty_loss.SQRT_INFORMATION):
        with np.load(golden / file) as arrays:
            kept = {name: change(name, arrays[name]) for name in arrays if name.split("__")[0] in cases}
        np.savez(folder / file, **kept)
    described = json.loads((golden / uncertainty_loss.OPTIONS).read_text())
    (folder / uncertainty_loss.OPTIONS).write_text(json.dumps(described))
    return folder


@pytest.mark.slow
@pytest.mark.sweep("rig3r_jax/geometry", "rig3r_jax/losses", "rig3r_jax/parity")
def test_golden_folder(shared):
    compared, skipped, unread = run(shared / "golden/uncertainty_loss")
    assert not [row for row in compared.values() if not row.passed]
    assert len(compared) == COMPARED and not unread
    assert set(skipped.values()) == {uncertainty_loss.QUOTIENT}
    assert all(row.note for row in compared.values() if row.tolerance > 2e-5)


def test_golden_case_with_one_wrong_number_in_each_file(shared, tmp_path):
    def change(name, array):
        if name in wrong:
            array = array.copy()
            array.flat[7 % array.size] += 1e-5
        return array

    wrong = {
        "residual_clamped__f64_grad_log_var",
        "residual_clamped__grad_pose_enc_scale_detached",
        "residual_clamped__metric.sqrt_info_rot_p90",
    }
    folder = cut(shared / "golden/uncertainty_loss", tmp_path / "cut", {"residual_clamped"}, change)
    compared, skipped, unread = run(folder)
    assert {name.split("/")[1] for name, row in compared.items() if not row.passed} == wrong
    assert {name.split("/")[0] for name in compared} == {
        uncertainty_loss.FILE, uncertainty_loss.GRADIENTS, uncertainty_loss.SQRT_INFORMATION
    }  # fmt: skip
    assert len(skipped) == 4 and not unread


def test_golden_float32_of_a_still_window_is_held_against_a_metre_and_still_shows_a_wrong_number(shared, tmp_path):
    """Millimetres are noticed; 4e-5 of 16 mm, which are the reference's own rounding, are not."""
    errors = {"gt_cam_pos_rel": 4e-7, "residual": 4e-7, "metric.gt_trans_norm_mean": 4e-7, "metric.scale_raw": 1e-5}
    for size, beyond in ((1.0, set()), (5000.0, set(errors))):

        def change(name, array, size=size):
            case, _, rest = name.partition("__f32_")
            if case == "static_window" and rest in errors:
                array = array.copy()
                array.flat[array.size // 2] += size * errors[rest]
            return array

        folder = cut(shared / "golden/uncertainty_loss", tmp_path / str(size), {"static_window"}, change)
        compared, _, _ = run(folder)
        rows = {name.split("__f32_")[1]: row for name, row in compared.items() if "__f32_" in name}
        assert {name for name, row in rows.items() if not row.passed} == beyond
        assert all(row.size >= 1.0 and "metre" in row.note for name, row in rows.items() if name in errors)


def test_golden_options_are_read_from_the_description(shared, tmp_path):
    """A wrong option shows in what depends on it."""
    folder = cut(shared / "golden/uncertainty_loss", tmp_path / "cut", {"one_stage_gamma"})
    (folder / uncertainty_loss.GRADIENTS).unlink()
    (folder / uncertainty_loss.SQRT_INFORMATION).unlink()
    path = folder / uncertainty_loss.OPTIONS
    described = json.loads(path.read_text())
    described["one_stage_gamma"]["options"]["loss_type"] = "laplace"
    path.write_text(json.dumps(described))
    compared, _, _ = run(folder)
    beyond = {name.split("__f64_")[1] for name, row in compared.items() if "__f64_" in name and not row.passed}
    assert beyond == {"nll_elementwise", "grad_log_var", "metric.pose_uncertainty_nll"}

    described["one_stage_gamma"]["options"]["scale_detach"] = False
    path.write_text(json.dumps(described))
    with pytest.raises(ValueError, match="one_stage_gamma lets gradients through the scale"):
        run(folder)


def test_a_folder_without_arrays_is_told(tmp_path):
    with pytest.raises(ValueError, match="log_var.npz is missing"):
        run(tmp_path)
