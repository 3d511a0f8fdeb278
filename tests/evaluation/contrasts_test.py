"""Differences between rows of evaluations: of pooled rates, zero of equal rows, of the same samples."""

import json

import jax
import numpy as np
import pytest

from rig3r_jax import cli
from rig3r_jax.evaluation import contrasts, table
from rig3r_jax.evaluation.rows import CLOSED_FORM, FORWARD, UNTRAINED, blank_label
from rig3r_jax.evaluation.scores import Scorer
from tests.evaluation.scores_test import add, cameras, scenes


def scored(seed, count=12):
    scorer = Scorer()
    for scene in scenes(seed, count):
        add(scorer, scene)
    return scorer


def rows(shift=0.0):
    """Sums of 12 samples of 10 pairs; `shift` percent are added to the rows of a network."""
    rng = np.random.default_rng(0)

    def row(mean):
        return {rate: np.stack([10 * (mean + rng.normal(0, 3, 12)), np.full(12, 10.0)], 1) for rate in contrasts.RATES}

    network = {"none": 30.0, "all": 60.0, blank_label("none"): 5.0, UNTRAINED: 0.0}
    return {FORWARD: row(10.0), CLOSED_FORM: row(50.0)} | {name: row(mean + shift) for name, mean in network.items()}


@pytest.fixture
def runs(tmp_path):
    for name, shift, step in (("old", 0.0, 5), ("new", 7.0, 6)):
        (tmp_path / name).mkdir()
        contrasts.write_samples({"unseen_rigs": rows(shift)}, tmp_path / name)
        about = {"step": step, "intrinsics": "known", contrasts.WORLDS: {"unseen_rigs": 12, "val": 12}}
        (tmp_path / name / "evaluation.json").write_text(json.dumps(about))
    return tmp_path


def test_sums_of_samples_pool_to_the_scores():
    scorer = scored(0)
    sums, scores = scorer.sample_sums(), scorer.scores()
    for rate in contrasts.RATES:
        total, count = np.sum(sums[rate], axis=0)
        assert total / count == pytest.approx(scores[rate]) and 0 < scores[rate] < 100
        assert len(sums[rate]) == scores["samples"] == 12


def test_samples_of_a_batch_are_samples_one_by_one():
    rng = np.random.default_rng(0)
    poses = np.stack([np.stack([cameras(rng, 5) for _ in range(4)]) for _ in range(2)])
    together, apart = Scorer(), Scorer()
    together.add_poses(*poses)
    for predicted, true in zip(*poses, strict=True):
        apart.add_poses(predicted, true)
    jax.tree.map(np.testing.assert_array_equal, together.sample_sums(), apart.sample_sums())


def test_a_difference_is_that_of_the_pooled_rates_and_of_equal_rows_nothing():
    first, second = scored(1), scored(2)
    change = contrasts.contrast(first.sample_sums(), second.sample_sums(), 12)["mAA30"]
    assert change.value == pytest.approx(second.scores()["mAA30"] - first.scores()["mAA30"])
    assert change.low < change.value < change.high and 0 < change.p_value <= 1
    same = contrasts.contrast(first.sample_sums(), first.sample_sums(), 12)["RRA15"]
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)
    of_few_worlds = contrasts.contrast(first.sample_sums(), second.sample_sums(), 11)["mAA30"]
    assert of_few_worlds.value == change.value and np.isnan([of_few_worlds.low, of_few_worlds.p_value]).all()


def test_a_run_is_held_against_blank_images_and_the_closed_form():
    own = contrasts.within(rows(), 12)
    assert list(own) == [f"none - ({blank_label('none')})", f"all - {CLOSED_FORM}"]  # all has no blank row here
    change = own[f"all - {CLOSED_FORM}"]["mAA30"]
    assert change.low < 10 < change.high and change.p_value < 0.01


def test_tables_state_differences_with_their_intervals():
    differences = {"set": contrasts.as_json(contrasts.within(rows(), 12))}
    evaluation = {"sets": {"set": {"none": {}}}, "differences": differences}
    for text in (table.format_table(evaluation), table.format_markdown(evaluation)):
        line = next(line for line in text.splitlines() if f"all - {CLOSED_FORM}" in line)
        assert line.count("[+") == 3
    nothing = {rate: {"value": np.nan, "low": np.nan, "high": np.nan, "p_value": np.nan} for rate in contrasts.RATES}
    assert contrasts.change_cells(nothing) == ["-"] * 4


def test_two_runs_are_compared_from_their_files(runs, capsys):
    assert cli.main(["evaluate", "--compare", str(runs / "old"), str(runs / "new"), "--out", str(runs / "out")]) == 0
    printed = capsys.readouterr().out
    assert (runs / "out/comparison.md").read_text() == printed
    content = json.loads((runs / "out/comparison.json").read_text())
    changes = content["between"]["unseen_rigs"]
    assert set(changes) == {"none", "all", blank_label("none")}  # neither an untrained network nor none
    for rates in changes.values():
        assert rates["mAA30"]["value"] == pytest.approx(7.0, abs=4.0)
    assert f"| {runs / 'new'}, step 6, row less row | mAA30 |" in printed
    assert f"| all - {CLOSED_FORM} |" in printed


@pytest.mark.parametrize(
    "spoil, message",
    [
        (
            lambda sets: sets["unseen_rigs"][FORWARD].update(mAA30=sets["unseen_rigs"][FORWARD]["mAA30"][::-1]),
            "are not of the same samples",
        ),
        (lambda sets: [sets["unseen_rigs"].pop(row) for row in (FORWARD, CLOSED_FORM)], "no row without a network"),
        (lambda sets: sets.update(val=sets.pop("unseen_rigs")), "have no set in common"),
        (lambda sets: sets["unseen_rigs"]["none"].update(mAA30=np.ones(3)), "is no row of an evaluation"),
    ],
)
def test_runs_that_cannot_be_compared_are_refused(runs, capsys, spoil, message):
    sets = contrasts.read_samples(runs / "new")
    spoil(sets)
    contrasts.write_samples(sets, runs / "new")
    assert cli.main(["evaluate", "--compare", str(runs / "old"), str(runs / "new")]) == 2
    assert message in capsys.readouterr().err


def test_runs_of_other_rules_or_with_options_of_systems_are_refused(runs, capsys):
    words = ["evaluate", "--compare", str(runs / "old"), str(runs / "new")]
    assert cli.main([*words, "--format", "json"]) == 2
    assert "--format is of systems' files with --truth; runs are compared by" in capsys.readouterr().err
    about = json.loads((runs / "new/evaluation.json").read_text())
    (runs / "new/evaluation.json").write_text(json.dumps(about | {"intrinsics": "estimated"}))
    assert cli.main(words) == 2
    assert "intrinsics is known and estimated; evaluate both with the same section" in capsys.readouterr().err
    (runs / "new/evaluation.json").write_text("{}")
    assert cli.main(words) == 2
    assert "evaluation.json: does not say how it was made; evaluate that run again" in capsys.readouterr().err


def test_a_run_that_was_not_evaluated_says_so(runs, capsys):
    (runs / "new" / contrasts.FILE).unlink()
    assert cli.main(["evaluate", "--compare", str(runs / "old"), str(runs / "new")]) == 2
    assert "evaluate that run first: rig3r evaluate" in capsys.readouterr().err
