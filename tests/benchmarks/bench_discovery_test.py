"""`rig3r bench discovery`: rows and the peer."""

import json

import numpy as np

from rig3r_jax import cli
from rig3r_jax.benchmarks import discovery


def test_exact_stereo_pairs_are_found_whatever_is_known(tmp_path, monkeypatch):
    monkeypatch.setattr(discovery, "exact_cases", lambda seed: [])  # stereo pairs stay
    flags = ["--rigs=5", "--check-rigs=4", "--name=d", f"--out={tmp_path}"]
    assert cli.main(["bench", "discovery", *flags]) == 0
    rows = json.loads((tmp_path / "d.json").read_text())["rows"]
    exact = {(row["method"], row["input"]): row for row in rows if row["noise"] == "exact"}
    for kind in discovery.INPUTS:
        assert exact["discovery", kind]["IDs %"] == exact["discovery", kind]["counts %"] == 100
    assert exact["discovery", "poses"]["steps %"] == 100
    assert any(row.get("false alarms %") is not None for row in rows)


def test_the_law_stands_beside_others(tmp_path):
    assert cli.main(["bench", "discovery", "--law", "--rigs=5", "--name=law", f"--out={tmp_path}"]) == 0
    rows = json.loads((tmp_path / "law.json").read_text())["rows"]
    losses = {(row["input"], row["method"].removeprefix("law, ")): row["loss"] for row in rows}
    assert len(losses) == 6
    for kind in ("times", "nothing"):
        assert 0 < losses[kind, "best"] <= losses[kind, "in use"]


def test_kmeans_finds_what_is_far_apart():
    rng = np.random.default_rng(0)
    case = discovery.drawn(rng, discovery.any_rig(rng, 5), 4)
    assert len(np.unique(discovery.kmeans_cameras(case.rig_from_camera))) == 5
