"""Whole runs by the command line: killed, stopped, resumed, diverging, of another model; ending in a report."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorstore

from rig3r_jax.formats.cameras_json import read_cameras
from rig3r_jax.formats.ply import read_ply
from rig3r_jax.training.metrics import read_metrics

pytestmark = pytest.mark.slow
STEPS = 60


@pytest.fixture(scope="session")
def records(tmp_path_factory):
    return tmp_path_factory.mktemp("records")


@pytest.fixture
def command(repo, records):
    """The command line of a small demo run."""

    def build(workdir: Path, *more: str) -> list[str]:
        options = "--config.data.mixture[0].options"
        return [
            sys.executable, "main.py", "--config=configs/demo.py", f"--workdir={workdir}",
            f"--config.data.records={records}",
            f"{options}.train_worlds=6", f"{options}.test_worlds=4", f"--config.train.steps={STEPS}",
            "--config.optimizer.warmup_steps=5", "--config.train.checkpoint_every=7", "--config.train.log_every=5",
            "--config.train.batch_size=2", "--config.evaluation.samples=4", "--config.evaluation.batch_size=2",
            "--config.evaluation.enabled=false", *more,
        ]  # fmt: skip

    return build


@pytest.fixture
def start(repo, records):
    def run(arguments: list[str]) -> subprocess.Popen:
        environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
        environment["JAX_COMPILATION_CACHE_DIR"] = str(records / "compiled")  # the runs of this file share programs
        return subprocess.Popen(
            arguments,
            cwd=repo,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            stdin=subprocess.DEVNULL,
        )

    return run


def _finish(process: subprocess.Popen, code: int = 0) -> str:
    output, _ = process.communicate(timeout=300)
    assert process.returncode == code, output[-3000:]
    return output


def _wait_for(condition, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 200
    while not condition():
        assert process.poll() is None, process.communicate()[0][-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _step(workdir: Path) -> int:
    """The last step in metrics.jsonl; 0 before the first."""
    path = workdir / "metrics.jsonl"
    rows = read_metrics(path) if path.exists() else []
    return rows[-1]["step"] if rows else 0


def _saved_arrays(workdir: Path) -> dict[str, np.ndarray]:
    """Every array of the last checkpoint, read without orbax."""
    folder = workdir / "checkpoints" / str(STEPS) / "state"
    store = {"driver": "ocdbt", "base": f"file://{folder}/"}
    keys = tensorstore.KvStore.open(store).result().list().result()
    names = sorted({key.decode().rsplit("/", 1)[0] for key in keys if key.endswith(b"/.zarray")})
    assert len(names) > 100

    def read(name):
        return tensorstore.open({"driver": "zarr", "kvstore": {**store, "path": f"{name}/"}}).result().read().result()

    return {name: np.asarray(read(name)) for name in names}


def test_run_killed_three_times_ends_as_the_uninterrupted_one(command, start, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    _finish(start(command(whole)))
    seed = time.time_ns()  # really random: any moment must do
    print("moments of the kills: seed", seed)
    moments = random.Random(seed)
    for earliest in (1, STEPS // 3, 2 * STEPS // 3):
        process = start(command(killed))
        _wait_for(lambda earliest=earliest: _step(killed) >= earliest, process)
        time.sleep(moments.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL and _step(killed) < STEPS
    _finish(start(command(killed)))
    expected, found = _saved_arrays(whole), _saved_arrays(killed)
    assert expected.keys() == found.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)
    losses = [{row["step"]: row["loss/total"] for row in read_metrics(w / "metrics.jsonl")} for w in (whole, killed)]
    assert losses[0][STEPS] == losses[1][STEPS]
    position = json.loads((killed / "checkpoints" / str(STEPS) / "position/metadata").read_text())
    assert position == {"seed": 0, "next_sample": 2 * STEPS}


def test_sigterm_saves_and_asks_for_a_restart(command, start, tmp_path):
    process = start(command(tmp_path, "--config.train.steps=100000"))
    _wait_for(lambda: _step(tmp_path) >= 5, process)
    process.send_signal(signal.SIGTERM)
    output = _finish(process, 75)
    assert "SIGTERM: saving after this step" in output
    saved = max(int(path.name) for path in (tmp_path / "checkpoints").iterdir() if path.name.isdigit())
    assert saved == _step(tmp_path)


def test_workdir_of_another_model_is_refused_and_kept(command, start, tmp_path):
    _finish(start(command(tmp_path, "--config.train.steps=7")))
    output = _finish(start(command(tmp_path, "--config.model.points_per_patch=2")), 2)
    assert "is the run of another model: model.points_per_patch was 4 and is now 2" in output
    (tmp_path / "config.json").unlink()  # without it the shapes tell
    output = _finish(start(command(tmp_path, "--config.model.points_per_patch=2")), 2)
    assert "holds step 7 of another model" in output and "point_head/proj/kernel" in output
    assert "Traceback" not in output
    assert (tmp_path / "checkpoints" / "7").is_dir()


def test_run_that_diverges_stops_with_its_state_saved(command, start, tmp_path):
    output = _finish(start(command(tmp_path, "--config.loss.beta=inf", "--config.train.max_bad_steps=4")), 1)
    assert "4 steps in a row were not finite" in output or "5 steps in a row were not finite" in output
    assert any(path.name.isdigit() for path in (tmp_path / "checkpoints").iterdir())
    assert read_metrics(tmp_path / "metrics.jsonl")[-1]["count/skipped_steps"] >= 4


def test_run_ends_in_files_that_people_open(command, start, tmp_path):
    arguments = command(tmp_path, "--config.train.steps=12", "--config.train.evaluate_every=6")
    arguments = [argument for argument in arguments if argument != "--config.evaluation.enabled=false"]
    output = _finish(start([*arguments, "--config.train.profile_at=3", "--config.train.profile_steps=2"]))
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
    cloud, cameras = read_ply(tmp_path / "points.ply"), read_cameras(tmp_path / "cameras.json")
    assert len(cloud.points_world) > 100 and len(cameras.images) == 6
    assert "all, images blanked" in (tmp_path / "report.html").read_text()
    assert list(tmp_path.glob("events.out.tfevents.*"))
    assert "rig_embedding/time_null" in output and "Total: 384,076" in output  # the overview of parameters
    assert evaluation["intrinsics"] == "known" and evaluation["samples_per_set"] == 4
    assert any("evaluation/same_rigs/none/mAA30" in row for row in read_metrics(tmp_path / "metrics.jsonl"))

    # The same numbers again from the checkpoint alone.
    (tmp_path / "evaluation.json").unlink()
    _finish(start([sys.executable, "-m", "rig3r_jax.cli", "evaluate", str(tmp_path)]))
    assert json.loads((tmp_path / "evaluation.json").read_text()) == evaluation


def test_real_rig_data_runs_to_its_report(start, shared, tmp_path):
    arguments = [
        sys.executable, "main.py", "--config=configs/ddad.py", f"--workdir={tmp_path}",
        f"--config.data.root={shared / 'realdata/ddad_dgp_rig'}",
        "--config.train.steps=6", "--config.train.log_every=2",
        "--config.optimizer.warmup_steps=2", "--config.evaluation.samples=4", "--config.evaluation.batch_size=4",
    ]  # fmt: skip
    _finish(start(arguments))
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
