"""`rig3r bench checkpoint` saves what it says, and its columns add up."""

import json

from rig3r_jax import cli
from rig3r_jax.benchmarks.checkpoint import FULL_GB


def test_rows_hold_what_was_saved(tmp_path, capsys):
    (tmp_path / "disk").mkdir()
    flags = ["--megabytes", "3", "1", "--repeats", "1", "--folder", str(tmp_path / "disk"), "--out", str(tmp_path)]
    assert cli.main(["bench", "checkpoint", *flags]) == 0
    result = json.loads((tmp_path / "checkpoint.json").read_text())
    for row, megabytes in zip(result["rows"], (3, 1), strict=True):
        assert 0.85 * megabytes < row["MB"] < 1.2 * megabytes and row["files"] > 5  # random bits compress a little
        assert row["blocked s"] < row["saved s"] and row["verify s"] > 0
    scaled = result["scaled"]["verify s"] * result["rows"][0]["MB"] / (FULL_GB * 1e3)  # in proportion to the largest
    assert abs(scaled - result["rows"][0]["verify s"]) < 1e-9
    assert "configs/full.py" in capsys.readouterr().out and not any((tmp_path / "disk").iterdir())
