"""The table of recipes: curves of runs, named by what differs in their configs."""

import json

import pytest

from rig3r_jax import cli
from rig3r_jax.configs import demo
from rig3r_jax.formats.json_file import json_line
from rig3r_jax.training.config import save_config

METRIC = "evaluation/unseen_rigs/none/mAA30"


@pytest.fixture
def runs(tmp_path):
    for name, rate, changed in (("a", 2e-3, 0.0), ("b", 1e-3, 3.0)):
        folder, config = tmp_path / name, demo.get_config()
        folder.mkdir()
        config.optimizer.learning_rate, config.name = rate, name
        save_config(config, folder / "config.json")
        rows = [{"step": 50, "speed/steps": 50, "speed/steps_per_second": 100.0}]
        rows += [{"step": 100, "speed/steps": 50, "speed/steps_per_second": 25.0}, {"step": 100, METRIC: 12 + changed}]
        (folder / "metrics.jsonl").write_text("".join(map(json_line, rows)))
    return tmp_path


def test_runs_are_named_by_what_differs(runs, capsys):
    assert cli.main(["bench", "recipes", str(runs / "a"), str(runs / "b"), "--out", str(runs)]) == 0
    *_, first, second = capsys.readouterr().out.partition("\n\n/")[0].splitlines()
    assert first.split() == ["first", "0.025", "12"] and second.split() == ["learning_rate=0.001", "0.025", "15"]
    content = json.loads((runs / "recipes.json").read_text())
    assert [row["100"] for row in content["rows"]] == [12, 15]
    assert content["settings"]["first"]["optimizer.learning_rate"] == 2e-3


def test_a_metric_that_was_not_logged_is_named(runs, capsys):
    assert cli.main(["bench", "recipes", str(runs / "a"), "--metric", "loss/none"]) == 2
    assert f"has no loss/none; it has {METRIC}" in capsys.readouterr().err
