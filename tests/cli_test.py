"""The command line: what it takes in any order, and what it refuses with exit code 2."""

import importlib.util
import json
import re

import pytest

from rig3r_jax import cli


@pytest.mark.parametrize(
    "arguments",
    [
        ["build-data", "procedural", "seed=1", "--out", "OUT"],
        ["build-data", "procedural", "--out", "OUT", "seed=1"],
        ["build-data", "--out=OUT", "procedural", "seed=1"],
    ],
)
def test_settings_may_stand_anywhere(monkeypatch, arguments):
    from rig3r_jax.data import build

    seen = []
    monkeypatch.setattr(build, "build_data", lambda *given: seen.append(given))
    assert cli.main(arguments) == 0
    assert seen == [("procedural", "", "OUT", ["seed=1"])]


def test_charts_of_runs_are_drawn_and_the_others_named(tmp_path, capsys):
    for run in ("old", "new"):
        (tmp_path / run).mkdir()
        rows = [{"step": step, "calibration/d2_rot_mean": 3.0, "calibration/d2_trans_mean": 2.0} for step in (1, 2, 3)]
        (tmp_path / run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "charts"
    assert cli.main(["charts", str(tmp_path / "old"), str(tmp_path / "new"), "--output_dir", str(out)]) == 0
    told = capsys.readouterr().out
    assert (out / "calibration.png").stat().st_size > 5_000 and "not drawn: loss_curves" in told
    assert {"old", "new"} <= set(re.findall(r"\w+", (out / "summary_table.md").read_text()))
    assert cli.main(["charts", str(tmp_path / "none"), "--output_dir", str(out)]) == 2
    assert "none" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, word",
    [
        (["build-data", "procedural", "--out", "x", "--frob"], "--frob"),
        (["evaluate", "--workdir", "x", "seed=1"], "seed=1"),
        (["parity", "twin", "--frob=1", "--config=configs/demo.py"], "--frob=1"),
        (["parity", "nothing"], "nothing"),
        (["convert", "mast3r", "a.pth", "b.safetensors"], "mast3r"),
    ],
)
def test_unknown_words_are_named(capsys, arguments, word):
    with pytest.raises(SystemExit) as exit_:
        cli.main(arguments)
    assert exit_.value.code == 2 and word in capsys.readouterr().err


def test_the_twin_without_pytorch_says_what_to_install(repo, monkeypatch, capsys):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: name != "torch" and find(name, *more) or None)
    assert cli.main(["parity", "twin", f"--config={repo}/configs/demo.py"]) == 2
    assert "pip install 'rig3r_jax[torch]'" in capsys.readouterr().err


def test_what_the_user_can_mend_is_one_message_and_exit_2(capsys, tmp_path):
    assert cli.main(["convert", "dust3r", str(tmp_path / "none.pth"), str(tmp_path / "out.safetensors")]) == 2
    assert "none.pth is missing" in capsys.readouterr().err
    assert cli.main(["parity", "dump", str(tmp_path / "none")]) == 2
    assert "is not a folder" in capsys.readouterr().err
    assert cli.main(["parity", "twin", "--config.model.variant=small"]) == 2
    assert "--config is missing" in capsys.readouterr().err
