"""Whole uncertainty runs by the command line: killed, stopped, resumed, ended early, evaluated again; and the study."""

import hashlib
import json
import random
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from rig3r_jax import cli
from rig3r_jax.evaluation.edge_weighting import CHAINED, WEIGHTINGS
from rig3r_jax.formats.cameras_json import read_cameras
from rig3r_jax.formats.g2o import read_g2o
from rig3r_jax.formats.tum import read_trajectory
from rig3r_jax.training.metrics import read_metrics
from rig3r_jax.uncertainty.export import load_head
from rig3r_jax.viz.tfevents import read_scalars
from tests import runs
from tests.sweeps import OF_A_RUN

pytestmark = [pytest.mark.slow, pytest.mark.sweep(*OF_A_RUN, "rig3r_jax/uncertainty")]
STEPS, SAVED_EVERY, FRAMES = 150, 10, 16
OPTIONS = {"train_worlds": 6, "test_worlds": 4, "fixed_rigs": 4, "steps": FRAMES}
CONFIG = f"""
from rig3r_jax.configs import calibrate_study

def get_config():
    config = calibrate_study.get_config()
    config.data.mixture[0].options.update({OPTIONS!r})
    config.data.build_workers = 1
    config.windows.counts = (60, 40, 120)
    config.nll.parameterisation = "log_variance"
    config.backbone.batch_size = 20
    config.train.steps, config.train.log_every, config.train.checkpoint_every = {STEPS}, 1, {SAVED_EVERY}
    config.evaluation.trajectories = 2
    config.train.event_writer = "tensorboard"
    return config
"""
NAMES = (
    "loss/pose_uncertainty_nll loss/rot_uncertainty_nll calibration/d2_rot_mean calibration/d2_trans_mean "
    "calibration/windowed_d2_trans uncertainty/sigma_rot_mean diagnostic/sigma_trans_p90 "
    "diagnostic/log_var_rot_at_min diagnostic/residual_trans_p90 scale/mean grad/uncertainty_head_norm "
    "sampling/varied_ratio train/learning_rate"
).split()
NO_EVALUATION = "--config.evaluation.enabled=false"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Records and the small config, which all runs of this file share."""
    folder = tmp_path_factory.mktemp("uncertainty")
    (folder / "small.py").write_text(CONFIG)
    return folder


def head_run(folder: Path, workdir: Path, *more: str, backbone: Path | None = None, **how) -> str:
    """What a run of the head prints and logs."""
    paths = [f"--config.backbone.path={backbone or folder / 'backbone'}", f"--config.data.records={folder / 'records'}"]
    output = runs.run_here("train", f"--config={folder / 'small.py'}", f"--workdir={workdir}", *paths, *more, **how)
    assert "Traceback" not in output
    return output


def logged(workdir: Path) -> list[dict]:
    """The rows of metrics of the steps, without that of the end."""
    return [row for row in read_metrics(workdir / "metrics.jsonl") if NAMES[0] in row]


def fingerprint(workdir: Path) -> dict[str, str]:
    """All that lies below a folder."""
    paths = sorted(workdir.rglob("*"))
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() if p.is_file() else "" for p in paths}


@pytest.fixture(scope="module")
def backbone(folder):
    """(workdir of a small Rig3R after a few steps, what lay in it then)."""
    options, workdir = "--config.data.mixture[0].options", folder / "backbone"
    runs.run_here(
        "train", "--config=configs/demo.py", f"--workdir={workdir}",
        f"--config.data.records={folder / 'records'}", f"{options}.train_worlds=4", f"{options}.test_worlds=1",
        "--config.train.steps=4", "--config.train.checkpoint_every=2", "--config.train.batch_size=2",
        "--config.optimizer.warmup_steps=1", NO_EVALUATION, *runs.STARTED_SOON,
    )  # fmt: skip
    return workdir, fingerprint(workdir)


@pytest.fixture(scope="module")
def whole(folder, backbone):
    """(workdir of an uninterrupted run, what it printed)."""
    workdir = folder / "whole"
    return workdir, head_run(folder, workdir)


def test_run_killed_and_stopped_ends_as_the_uninterrupted_one(folder, whole, tmp_path):
    seed = time.time_ns()  # really random: any moment must do
    print("moments of the interruptions: seed", seed)
    moments = random.Random(seed)

    def kill(step):
        if step == moment:
            raise runs.Killed

    def stop(step):
        if step == moment:
            signal.raise_signal(signal.SIGTERM)

    for earliest, interruption in ((1, kill), (STEPS // 3, stop), (STEPS // 2, kill)):
        moment = earliest + moments.randint(1, STEPS // 6)
        if interruption is stop:
            output = head_run(folder, tmp_path, NO_EVALUATION, code=75, before_step=stop)
            assert "SIGTERM: saving after this step" in output
            assert runs.saved_steps(tmp_path)[-1] == runs.last_step(tmp_path) == moment
        else:
            with pytest.raises(runs.Killed):
                head_run(folder, tmp_path, NO_EVALUATION, before_step=kill)
            assert runs.last_step(tmp_path) < moment < STEPS
    output = head_run(folder, tmp_path, NO_EVALUATION)
    assert "resumed at step" in output and "pass backbone" not in output  # the windows are those of the first start
    assert not (tmp_path / "calibration.json").exists()

    saved = runs.assert_ends_alike(tmp_path, whole[0])
    assert sum("params" in name for name in saved.arrays) == 4
    assert {"near_steps", "recent_d2", "watched_steps"} <= {name.rsplit(".", 1)[-1] for name in saved.arrays}
    rows = [logged(workdir) for workdir in (whole[0], tmp_path)]
    times = ("speed/", "goodput/")
    kept = [[{k: v for k, v in row.items() if not k.startswith(times)} for row in of_run] for of_run in rows]
    assert kept[0] == kept[1] and [row["step"] for row in kept[0]] == list(range(1, STEPS + 1))
    assert saved.step == STEPS and json.loads(saved.position) == {"seed": 0, "next_sample": 10 * STEPS}


def is_png(path: Path) -> bool:
    return path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" and path.stat().st_size > 2000


def check_trajectory(folder: Path) -> None:
    """Each file of a held-out trajectory parses, and they are of the same frames."""
    graph, cameras = read_g2o(folder / "pose_graph.g2o"), read_cameras(folder / "cameras.json").images
    estimated, true = (read_trajectory(folder / f"{name}.tum") for name in ("estimated", "true"))
    assert len(cameras) == len(estimated.times) == len(true.times) == len(graph.world_from_camera) == FRAMES
    np.testing.assert_allclose(graph.world_from_camera, estimated.world_from_camera, atol=1e-6)
    for number, camera in enumerate(cameras):
        np.testing.assert_allclose(camera.world_from_camera, estimated.world_from_camera[number], atol=1e-6)
        assert (np.linalg.eigvalsh(camera.covariance)[0] > 0) == (number > 0)  # the first defines the world
        assert camera.name.endswith(f"/{estimated.times[number]:.6f}") and (camera.width, camera.height) == (64, 64)
    assert is_png(folder / "trajectory.png")


def check_pose_graph(workdir: Path, trajectories: int) -> None:
    content = json.loads((workdir / "pose_graph.json").read_text())
    assert [comparison["kernel"] for comparison in content["comparisons"]] == ["none", "huber"]
    for comparison in content["comparisons"]:
        assert comparison["overall"].keys() == {CHAINED, *WEIGHTINGS}
        assert len(comparison["trajectories"]) == trajectories
    folders = list((workdir / "trajectories").iterdir())
    assert len(folders) == len(content["trajectories"]) == trajectories
    for folder in folders:
        check_trajectory(folder)
    assert "| none | predicted |" in (workdir / "pose_graph.md").read_text()


def test_run_ends_in_files_that_people_open(whole):
    workdir, output = whole
    report = json.loads((workdir / "calibration.json").read_text())
    assert (report["step"], report["windows"], report["views"], report["samples"]) == (STEPS, 120, 8, 120 * 7)
    assert report["backbone"] == "backbone, step 4" and report["likelihood"]["name"] == "student_t"
    for part in (report, report["recalibrated"]):
        assert part["d2"].keys() == {"trans", "rot", "pose"} and np.isfinite(part["nll"])
        assert part["margins"]["constant_sigma"] is not None
    assert "| test |" in output and "| test, recalibrated |" in output and "2 held-out trajectories" in output
    assert "status" in (workdir / "calibration.md").read_text()
    charts = [*(workdir / "calibration").glob("*.png"), *(workdir / "charts").glob("*.png")]
    assert {"reliability", "sigma_against_error", "loss_curves", "calibration", "sigma_percentiles"} <= {
        path.stem for path in charts
    }
    assert all(is_png(path) for path in charts)
    assert "loss/pose_uncertainty_nll" in (workdir / "charts/summary_table.md").read_text()
    check_pose_graph(workdir, 2)


def test_tensorboard_has_the_names_at_every_step(whole):
    steps = {}
    for path in whole[0].glob("events.out.tfevents.*"):
        for step, name, value in read_scalars(path):
            steps.setdefault(name, {})[step] = value
    rows = {row["step"]: row for row in logged(whole[0])}
    for name in NAMES:
        assert sorted(steps[name]) == sorted(rows), name
        np.testing.assert_allclose(steps[name][STEPS], rows[STEPS][name], rtol=1e-6)


def test_calibration_is_the_same_again_from_the_checkpoint_alone(folder, whole):
    files = ["calibration.json", "calibration.md", "pose_graph.json"]
    before = {name: (whole[0] / name).read_bytes() for name in files}
    for name in files:
        (whole[0] / name).unlink()
    runs.run_here("evaluate", whole[0])
    assert {name: (whole[0] / name).read_bytes() for name in files} == before


def test_backbone_is_untouched_and_another_one_refused(folder, whole, backbone, tmp_path):
    workdir, before = backbone
    other = tmp_path / "other"
    shutil.copytree(workdir, other)
    shutil.rmtree(other / "checkpoints" / str(runs.saved_steps(other)[-1]))  # it stands at an earlier step
    kept = fingerprint(whole[0])
    output = head_run(folder, whole[0], backbone=other, code=2)
    assert f"was trained on another backbone than {other} is now; give another --workdir" in output
    assert fingerprint(whole[0]) == kept
    output = head_run(folder, workdir, code=2)  # the backbone's own folder is no place for a head
    assert "is the run of another model" in output
    assert fingerprint(workdir) == before


def test_training_ends_early_once(folder, backbone, tmp_path):
    near = ["--config.head.stop_near=1e6", "--config.head.stop_patience=20", "--config.evaluation.trajectories=0"]
    output = head_run(folder, tmp_path, *near, NO_EVALUATION)
    ended = runs.saved_steps(tmp_path)[-1]
    assert ended == 29 and f"training ended early, at step {ended} of {STEPS}" in output  # d2 from step 10 on
    row = read_metrics(tmp_path / "metrics.jsonl")[-1]
    assert (row["step"], row["count/ended"]) == (ended, 1.0)
    metrics, kept = logged(tmp_path), fingerprint(tmp_path / "checkpoints")
    head_run(folder, tmp_path, *near)  # evaluates, and does nothing more
    assert json.loads((tmp_path / "calibration.json").read_text())["step"] == ended
    assert not (tmp_path / "trajectories").exists()
    assert logged(tmp_path) == metrics and fingerprint(tmp_path / "checkpoints") == kept


def test_study_compares_all_arms(folder, backbone, tmp_path):
    options = [f"--config.data.mixture[0].options.{key}={value}" for key, value in OPTIONS.items()]
    output = runs.run_here(
        "calibrate-study", tmp_path, "--backbone", backbone[0],
        "--seeds", "2", *options, "--config.windows.counts=(60,40,120)", "--config.backbone.batch_size=20",
        "--config.train.steps=110", "--config.evaluation.trajectories=1", "--config.data.build_workers=1",
        f"--config.data.records={folder / 'records'}",
    )  # fmt: skip
    table, study = (tmp_path / "study.md").read_text(), json.loads((tmp_path / "study.json").read_text())
    assert table in output and "±" in table and "### Held against" in table
    arms = study["arms"]
    assert len(arms) == 6 and [arm["nll"]["parameterisation"] for arm in arms.values()][:3] == [
        "sqrt_information", "sqrt_information", "log_variance",
    ]  # fmt: skip
    for name, arm in arms.items():
        assert arm["seeds"] == [0, 1] and all(len(values) == 2 for values in arm["figures"].values())
        assert [f"| {name} | {step} |" in table for step in (100, 200, 300, 500)] == [True] * 4
    lines = study["held_against"]
    assert len(lines) == 12 and all(line.startswith(("met: ", "MISSED: ")) for line in lines)
    histories = sorted((tmp_path / "arms").glob("*/seed_*/metrics.jsonl"))
    assert len(histories) == 12
    assert [len(read_metrics(path)) for path in histories] == [110] * 12
    assert all(load_head(path.with_name("head.safetensors"))[0].keys() == {"fc1", "fc2"} for path in histories)
    assert json.loads((tmp_path / "calibration.json").read_text())["seed"] == 0
    charts = [*(tmp_path / "charts").glob("*.png"), *(tmp_path / "calibration").glob("*.png")]
    assert {"clamp_hit_rate", "log_var_clamp_hit", "calibration", "reliability"} <= {path.stem for path in charts}
    assert all(is_png(path) for path in charts)
    check_pose_graph(tmp_path, 1)


def test_study_looks_at_its_flags_before_it_trains(tmp_path, capsys):
    for wrong, said in {
        "--config.train.step=3": "config.train has no 'step'; did you mean steps?",
        "--config.nll.likelihood=cauchy": "likelihood is 'cauchy'",
    }.items():
        assert cli.main(["calibrate-study", str(tmp_path / "w"), wrong]) == 2
        assert said in capsys.readouterr().err
    assert not list(tmp_path.rglob("checkpoints"))
