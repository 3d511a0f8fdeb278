"""Whole runs by the command line: of another model, ending in a report. Those that faults befall: tests/faults."""

import functools
import json
import subprocess
import sys

import pytest

from rig3r_jax.evaluation import contrasts
from rig3r_jax.formats.cameras_json import read_cameras
from rig3r_jax.formats.ply import read_ply
from rig3r_jax.training.metrics import read_metrics
from tests import runs

pytestmark = pytest.mark.slow
STEPS = 60


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """demo(workdir, more flags) -> the flags of a small run; all share their records."""
    train = "--config.train"
    flags = [f"{train}.steps={STEPS}", f"{train}.checkpoint_every=7", f"{train}.log_every=5", f"{train}.batch_size=2"]
    return functools.partial(_demo, tmp_path_factory.mktemp("records"), flags)


def _demo(records, flags, workdir, *more):
    return runs.demo(workdir, records, *flags, *more)


def test_workdir_of_another_model_is_refused_and_kept(demo, tmp_path):
    runs.run_here("train", *demo(tmp_path, "--config.train.steps=7"))
    other = demo(tmp_path, "--config.model.points_per_patch=2")
    output = runs.run_here("train", *other, code=2)
    assert "is the run of another model: model.points_per_patch was 4 and is now 2" in output
    (tmp_path / "config.json").unlink()  # without it the shapes tell
    output = runs.run_here("train", *other, code=2)
    assert "holds step 7 of another model" in output and "point_head/proj/kernel" in output
    assert "Traceback" not in output
    assert (tmp_path / "checkpoints" / "7").is_dir()


def test_run_ends_in_files_that_people_open(demo, tmp_path):
    train = "--config.train"
    flags = demo(tmp_path, f"{train}.steps=12", f"{train}.evaluate_every=6", "--config.evaluation.enabled=true")
    more = (f"{train}.profile_at=3", f"{train}.profile_steps=2", f"{train}.event_writer=auto")
    output = runs.finish(runs.start("main.py", *flags, *more))
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))
    evaluation = json.loads((tmp_path / "evaluation.json").read_text())
    for name in ("same_rigs", "unseen_rigs"):
        rows = evaluation["sets"][name]
        settings = {"none", "camera", "time", "rig", "all"}
        controls = {"untrained", "none, images blanked", "all, images blanked"}
        assert settings | controls <= rows.keys()
        assert sum(row.startswith("no network") for row in rows) == 2
        for scores in rows.values():
            for part in (scores, *(scores[key] for key in ("same_time", "across_times", "near", "far"))):
                assert {"mAA30", "RRA15", "RTA15", "RTA15_unfolded"} <= part.keys()
                assert all(0 <= part[key] <= 100 for key in ("mAA30", "RRA15") if part[key] is not None)
        assert name in output
    closed_form = evaluation["differences"]["unseen_rigs"]["all - no network: rig + time closed form"]["mAA30"]
    assert closed_form["scenes"] == 4 and closed_form["low"] <= closed_form["value"] <= closed_form["high"]
    assert "unseen_rigs: differences" in output
    for name, rows in contrasts.read_samples(tmp_path).items():
        assert rows.keys() == evaluation["sets"][name].keys()
    cloud, cameras = read_ply(tmp_path / "points.ply"), read_cameras(tmp_path / "cameras.json")
    assert len(cloud.points_world) > 100 and len(cameras.images) == 6
    assert "all, images blanked" in (tmp_path / "report.html").read_text()
    assert list(tmp_path.glob("events.out.tfevents.*"))
    assert "rig_embedding/time_null" in output and "Total: 384,076" in output  # the overview of parameters
    assert evaluation["intrinsics"] == "known" and evaluation["samples_per_set"] == 4
    assert any("evaluation/same_rigs/none/mAA30" in row for row in read_metrics(tmp_path / "metrics.jsonl"))

    # The same numbers again from the checkpoint alone.
    (tmp_path / "evaluation.json").unlink()
    runs.run_here("evaluate", tmp_path)
    assert json.loads((tmp_path / "evaluation.json").read_text()) == evaluation


def test_real_rig_data_runs_to_its_report(shared, tmp_path):
    runs.run_here(
        "train", "--config=configs/ddad.py", f"--workdir={tmp_path}", *runs.STARTED_SOON,
        f"--config.data.root={shared / 'realdata/ddad_dgp_rig'}",
        "--config.train.steps=6", "--config.train.log_every=2",
        "--config.optimizer.warmup_steps=2", "--config.evaluation.samples=4", "--config.evaluation.batch_size=4",
    )  # fmt: skip
    report = (tmp_path / "report.html").read_text()
    assert "Overfitting on purpose" in report
    assert (tmp_path / "records").is_dir()
    rows = json.loads((tmp_path / "evaluation.json").read_text())["sets"]["train"]
    assert rows["all"]["pairs"] == 4 * 15


@pytest.mark.parametrize("arguments", [["evaluate", "/nowhere"], ["build-data", "nonsense", "--out=/tmp/x"]])
def test_cli_errors_are_one_line(repo, arguments):
    done = subprocess.run(
        [sys.executable, "-m", "rig3r_jax.cli", *arguments], cwd=repo, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr and len(done.stderr.splitlines()) <= 3
