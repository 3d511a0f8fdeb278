"""Whole studies of a tiny Rig3R through the command line: what they leave, that they go on, that numbers are right."""

import json
import math

import numpy as np
import pytest

from rig3r_jax import cli
from rig3r_jax.configs import demo
from rig3r_jax.data.sources import make_source
from rig3r_jax.evaluation.protocol import Rules, write_protocol
from rig3r_jax.evaluation.protocol_make import make_protocol
from rig3r_jax.studies.laws import laws_of
from rig3r_jax.studies.power_law import PowerLaw
from rig3r_jax.studies.runner import Run
from rig3r_jax.studies.scores import KEYS, RunScores
from rig3r_jax.studies.table import difference_of, number_of
from rig3r_jax.studies.variants import BASE, Variant
from tests import runs

WORLDS = {"train_worlds": 3, "test_worlds": 4, "steps": 4, "image_size": 32, "min_cameras": 3, "max_cameras": 3}


def flags(folder, *more):
    """Of a study of the demo's model on few small worlds, of two steps."""
    options = (f"--config.data.mixture[0].options.{key}={value}" for key, value in WORLDS.items())
    return [
        *options, *runs.STARTED_SOON, f"--config.data.records={folder / 'records'}", "--config.train.steps=2",
        "--config.train.batch_size=2", "--config.optimizer.warmup_steps=0", "--config.sampling.image_size=32",
        "--config.sampling.num_views=6", "--config.evaluation.samples=4", "--config.evaluation.batch_size=4",
        "--config.evaluation.sets=('unseen_rigs',)", *more,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("studies")


@pytest.fixture(scope="module")
def ablated(folder):
    """(words of the command, what it printed, its JSON)."""
    words = ["ablate", "--config=ablations", f"--out={folder / 'out'}", "--only", "no-rig-head", *flags(folder)]
    printed = runs.run_here(*words)
    return words, printed, json.loads((folder / "out/ablations.json").read_text())


def test_an_ablation_leaves_a_table_of_differences(folder, ablated):
    _, printed, content = ablated
    markdown = (folder / "out/ablations.md").read_text()
    assert markdown in printed and "## unseen_rigs" in markdown and "* no-rig-head: loss.lambda_rig=0.0" in markdown
    assert content["benchmark"] == "ablations" and content["environment"]["command"]
    assert content["variants"] == {"base": [], "no-rig-head": ["loss.lambda_rig=0.0"]}
    rows = {(row["variant"], row["setting"], row["score"]): row for row in content["rows"]}
    assert len(rows) == 2 * 2 * len(KEYS) and all(row["worlds"] in (0, 4) for row in rows.values())
    scores = {name: json.loads((folder / "out" / name / "scores.json").read_text()) for name in content["variants"]}
    for setting in ("none", "all"):
        totals = {}
        for name in scores:
            pairs = scores[name]["sets"]["unseen_rigs"][setting]["mAA30"]
            totals[name] = sum(total for total, _ in pairs.values()) / sum(weight for _, weight in pairs.values())
            assert rows[name, setting, "mAA30"]["value"] == pytest.approx(totals[name])
        change = rows["no-rig-head", setting, "mAA30"]
        assert change["difference"] == pytest.approx(totals["no-rig-head"] - totals["base"], abs=1e-9)
        assert change["difference_low"] <= change["difference"] <= change["difference_high"]
        assert rows["base", setting, "loss"]["value"] > 0


def test_what_is_finished_is_not_done_again(folder, ablated):
    words, _, content = ablated

    def trains(step):
        pytest.fail("a finished run trains")

    before = (folder / "out/base/scores.json").stat().st_mtime_ns
    runs.run_here(*words, before_step=trains)
    again = json.loads((folder / "out/ablations.json").read_text())
    assert again["rows"] == content["rows"] and (folder / "out/base/scores.json").stat().st_mtime_ns == before
    said = runs.run_here(*words, "--config.optimizer.b1=0.5", code=2)
    assert "out/base is a run of another config: optimizer.b1 was 0.9 and is now 0.5; give another --out" in said


def test_an_interrupted_study_goes_on(folder, ablated):
    words = [word.replace(f"--out={folder / 'out'}", f"--out={folder / 'cut'}") for word in ablated[0]]
    begun = []

    def kill(step):
        begun.append(step)
        if len(begun) == 4:  # in the second run
            raise runs.Killed

    with pytest.raises(runs.Killed):
        runs.run_here(*words, before_step=kill)
    assert (folder / "cut/base/scores.json").exists() and not (folder / "cut/ablations.json").exists()
    runs.run_here(*words)
    rows = json.loads((folder / "cut/ablations.json").read_text())["rows"]
    assert rows == ablated[2]["rows"]


def test_scores_are_those_of_evaluate(folder, ablated, capsys):
    """On the frames of a protocol, told all that `--on` tells a run."""
    source = make_source("procedural", "", WORLDS | {"layouts": ("surround",), "fixed_rigs": 8})
    protocol = make_protocol("some", "procedural", source, "same_rigs", Rules(views=6, max_cameras=3), scenes=3)
    write_protocol(folder / "some.json", protocol)
    words = [*ablated[0], "--on", str(folder / "some.json"), "--settings", "rig"]
    assert "## some" in runs.run_here(*words)
    base = str(folder / "out/base")
    runs.run_here("evaluate", base, "--on", str(folder / "some.json"), "--out", str(folder / "evaluated"))
    systems = json.loads((folder / "evaluated/scores.json").read_text())["systems"]
    expected = next(system for system in systems if system["name"] == "rig")["scores"]
    rows = json.loads((folder / "out/ablations.json").read_text())["rows"]
    ours = {row["score"]: row for row in rows if row["variant"] == "base"}
    assert ours["mAA30"]["worlds"] == 3
    for key in set(KEYS) - {"loss"}:
        for name in ("value", "low", "high"):
            if expected[key][name] is not None:
                # `evaluate` cuts intervals where a score can be no lower or higher.
                assert ours[key][name] == pytest.approx(expected[key][name], abs=1e-6) or name != "value", key


def test_a_scaling_study_of_one_run_says_that_it_has_no_law(folder):
    words = ["scaling-study", "--config=scaling", f"--out={folder / 'scaling'}", "--predict", "demo", *flags(folder)]
    words += ["--config.study.widths=(32,)", "--config.study.worlds=(2,)", "--config.study.image_sizes=(32,)"]
    printed = runs.run_here(*words)
    assert "too few for a law" in printed and (folder / "scaling/scaling.png").stat().st_size > 5_000
    content = json.loads((folder / "scaling/scaling.json").read_text())
    assert list(content["runs"]) == ["width32-worlds2-size32"] and content["laws"][0]["slope"] is None
    assert content["laws"][0]["predictions"]["demo"]["1.0"] == {"value": None, "low": None, "high": None}
    words[words.index("--config.study.worlds=(2,)")] = "--config.study.worlds=(4,)"
    said = runs.run_here(*words, code=2)
    assert "data.max_scenes is 4; train has 3 of procedural: take at most 3, or 0 for all" in said


def run_of(name, worlds_scores, **changes):
    """A run whose loss, told all, and mAA30 are these in every world."""
    config = demo.get_config()
    for key, value in changes.items():
        section, key = key.split("__")
        with config.unlocked():
            config[section][key] = value
    loss, accuracy = worlds_scores
    of_key = {"loss": loss, "mAA30": accuracy}
    worlds = {key: {str(world): (value, 1.0) for world, value in enumerate(values)} for key, values in of_key.items()}
    return Run(Variant(name), config, RunScores(2, {"set": {"none": worlds, "all": worlds}}))


def test_differences_pair_the_worlds_of_both_runs():
    """Worlds differ much, runs little and by as much in each: the difference is sure though the numbers are not."""
    levels = np.linspace(10, 90, 12)
    base = run_of(BASE, (np.ones(12), levels))
    other = run_of("other", (np.ones(12), levels + 1 + 0.1 * (-1) ** np.arange(12)))
    change = difference_of(other, base, "set", "all", "mAA30")
    assert 0.9 < change.low < change.value < change.high < 1.1 and change.p_value < 0.01
    assert number_of(base, "set", "all", "mAA30").high - number_of(base, "set", "all", "mAA30").low > 20
    diverged = Run(Variant("bad"), demo.get_config(), RunScores(0, {}))
    assert math.isnan(number_of(diverged, "set", "all", "loss").value)
    assert math.isnan(difference_of(diverged, base, "set", "all", "loss").value)


def test_laws_are_of_the_runs_on_as_many_worlds():
    true = {100: PowerLaw(0.3, 0.4, 0.5, 1e15), 400: PowerLaw(0.1, 0.4, 0.5, 1e15)}
    grid = []
    for worlds, law in true.items():
        for width in (32, 64, 128, 256, 512):
            sizes = {"model__width": width, "model__heads": width // 16, "data__max_scenes": worlds}
            compute = run_of("", ([1.0], [50.0]), **sizes).compute
            error = float(law.at(compute))
            grid.append(run_of(f"{worlds}-{width}", ([error] * 3, [100 - 100 * error] * 3), **sizes))
    laws = laws_of(grid, "set", ("none", "all"))
    assert [(law.error, law.worlds) for law in laws] == [
        (error, worlds) for error in ("loss all", "100 - mAA30 none", "100 - mAA30 all") for worlds in true
    ]
    for law in laws:
        factor = 1 if law.error == "loss all" else 100
        assert law.predict(1e19).value == pytest.approx(factor * true[law.worlds].at(1e19), rel=1e-3)
        assert law.interval("slope") == (pytest.approx(0.5, abs=1e-3), pytest.approx(0.5, abs=1e-3))


def test_wrong_words_are_one_line():
    for words, message in (
        (["--settings", "everything"], "--settings everything are unknown; take some of none, camera"),
        (["--root", "x"], "--root is of the protocols that --on gives"),
        (["--config=uncertainty"], "is of the task uncertainty; studies are of rig3r"),
    ):
        config = [] if words[0].startswith("--config") else ["--config=ablations"]
        said = runs.run_here("ablate", *config, "--out=x", *words, code=2)
        assert message in said and len(said.splitlines()) == 1
    assert cli.main(["ablate", "--config=ablations"]) == 2  # --out is missing
