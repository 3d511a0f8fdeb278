"""The evaluation's reference numbers against ours: all that have a definition agree, and the rest is named."""

import json

import numpy as np

from rig3r_jax.parity.compare import Comparison, Skipped
from rig3r_jax.parity.dump.eval_metrics import compare_folder
from rig3r_jax.parity.dump.folder import Dump


def rows_of(folder):
    return list(compare_folder(Dump(folder)))


def test_golden_eval_metrics(shared):
    rows = rows_of(shared / "golden/eval_metrics")
    compared = [row for row in rows if isinstance(row, Comparison)]
    assert not [row for row in compared if not row.passed]
    assert len(compared) == 120
    names = [row.name for row in rows]
    assert len(set(names)) == len(names)
    assert all("reference-specific, not compared" in row.reason for row in rows if isinstance(row, Skipped))
    for word in ("ate_sim3/trans_rmse", "umeyama_R", "textbook_c2w/trans_rmse", "calibration/ks_rot", "596,16,0.5"):
        assert any(word in row.name for row in compared)
    assert all(row.note for row in compared if row.tolerance > 1e-9)


def test_golden_eval_metrics_with_a_wrong_number_and_fewer_arrays(shared, tmp_path):
    numbers = json.loads((shared / "golden/eval_metrics/eval.json").read_text())
    numbers["calibration"]["coverage_2sigma"] += 1e-3
    numbers["generate_windows"]["30,8,0.5"][1] = [3, 11]
    del numbers["degenerate"], numbers["sampler"]
    (tmp_path / "eval.json").write_text(json.dumps(numbers))
    with np.load(shared / "golden/eval_metrics/eval.npz") as file:
        kept = ("cal__residuals", "cal__log_var", "normal__gt_w2c", "normal__pred_w2c", "oracle__dt")
        np.savez(tmp_path / "eval.npz", **{name: file[name] for name in kept})
    rows = rows_of(tmp_path)
    failed = {row.name for row in rows if isinstance(row, Comparison) and not row.passed}
    assert failed == {"eval.json/calibration/coverage_2sigma", "eval.json/generate_windows/30,8,0.5"}
    assert "eval.npz/oracle__dt" in {row.name for row in rows if isinstance(row, Skipped)}
