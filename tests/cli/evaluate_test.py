"""`rig3r evaluate --predictions` from the command line: its tables, its files, its refusals."""

import csv
import json

import numpy as np
import pytest

from rig3r_jax import cli
from rig3r_jax.formats.cameras_json import write_cameras
from tests.evaluation.systems.system_scores_test import shaken
from tests.exports.reconstructions import rig_of_three


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluate")
    truth = rig_of_three("pinhole")
    for name, size in (("truth", 0.0), ("good", 0.01), ("bad", 0.08)):
        (folder / name).mkdir()
        for number in range(9):
            written = truth if not size else shaken(truth, number, size * (1 + number / 5))
            write_cameras(folder / name / f"scene_{number}.json", written)
    return folder


def test_two_systems_are_compared(scenes, capsys, tmp_path):
    words = ["evaluate", "--compare", str(scenes / "good"), str(scenes / "bad"), "--truth", str(scenes / "truth")]
    assert cli.main([*words, "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "# good, bad against" in printed and "|  | good | bad | bad - good | p |" in printed
    assert (
        "9 scenes, images matched by name." in printed and "- good: points: /" in printed.partition("not measured")[2]
    )
    assert (tmp_path / "out/scores.md").read_text() == printed
    content = json.loads((tmp_path / "out/scores.json").read_text())
    good, bad = (system["scores"]["ATE_m"] for system in content["systems"])
    assert good["low"] < good["value"] < good["high"] < bad["low"]
    change = content["differences"]["ATE_m"]
    assert change["value"] == pytest.approx(bad["value"] - good["value"]) and change["p_value"] == 2 / 512
    scores = [scene["scores"]["ATE_m"] for scene in content["systems"][0]["scenes"].values()]
    assert good["value"] == pytest.approx(np.mean(scores))
    assert content["systems"][0]["scores"]["chamfer_m"]["value"] is None  # never 0
    rows = list(csv.DictReader((tmp_path / "out/scores.csv").open()))
    row = next(row for row in rows if row["score"] == "ATE_m" and row["system"] == "good")
    assert float(row["value"]) == good["value"]
    row = next(row for row in rows if row["score"] == "chamfer_m" and row["system"] == "good")
    assert row["value"] == "" and row["reason"].endswith("has no points")
    latex = (tmp_path / "out/scores.tex").read_text()
    body = [line for line in latex.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
    assert {line.count(" & ") for line in body} == {4} and latex.count("{") == latex.count("}")


@pytest.mark.parametrize("form", ["markdown", "csv", "latex", "json"])
def test_forms(scenes, capsys, form):
    one = [
        "evaluate",
        "--predictions",
        str(scenes / "good/scene_0.json"),
        "--truth",
        str(scenes / "truth/scene_0.json"),
    ]
    assert cli.main([*one, "--format", form, "--align", "first", "--baselines", "1,2"]) == 0
    printed = capsys.readouterr().out
    assert {"markdown": "| mAA30 (%) ↑ |", "csv": "group,score,", "latex": "\\toprule", "json": '"systems"'}[
        form
    ] in printed
    assert "baseline 1 to 2 m" in printed and "nan" not in printed.lower()


@pytest.mark.parametrize(
    "words, message",
    [
        ([], "nothing to evaluate; give the WORKDIR of a run, --predictions or --compare with --truth, or --compare"),
        (["--predictions", "good"], "nothing to evaluate"),
        (["--predictions", "good", "--compare", "good", "bad", "--truth", "truth"], "nothing to evaluate"),
        (["W", "--predictions", "good", "--truth", "truth"], "W and other systems are two evaluations"),
        (["--predictions", "nowhere", "--truth", "truth"], "nowhere: there is no such file or folder"),
        (["--predictions", "good", "good", "--truth", "truth"], "good: is given twice"),
        (["--predictions", "good", "--truth", "truth", "--align", "icp"], "--align 'icp' is unknown; choose from none"),
        (["--predictions", "good", "--truth", "truth", "--format", "pdf"], "--format 'pdf' is unknown; choose from"),
        (
            ["--predictions", "good", "--truth", "truth", "--baselines", "x"],
            "--baselines 'x' must be numbers",
        ),
        (["--predictions", "good", "--truth", "truth", "--missing", "x"], "missing 'x' is unknown; choose from fail"),
        (["--predictions", "good", "--truth", "truth", "--allign", "se3"], "did you mean --align?"),
    ],
)
def test_refusals(scenes, monkeypatch, capsys, words, message):
    monkeypatch.chdir(scenes)
    assert cli.main(["evaluate", *words]) == 2
    assert message in capsys.readouterr().err
