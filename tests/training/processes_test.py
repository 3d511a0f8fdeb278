"""Runs of several processes: as one process, interrupted together, taken up by others, ended when one is stopped."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from rig3r_jax.training.metrics import read_metrics
from rig3r_jax.training.processes import Processes, gather, is_first, join, on_first, run_to_end, stop_agreed

STEPS = 100  # enough that a signal finds the run on its way


@pytest.fixture(scope="session")
def records(tmp_path_factory):
    return tmp_path_factory.mktemp("records")


@pytest.fixture
def start(repo, records):
    """Starts a small run of `processes` processes with `devices` each."""

    def run(workdir: Path, processes: int, devices: int, *more: str) -> subprocess.Popen:
        options = "--config.data.mixture[0].options"
        command = [
            sys.executable, "main.py", "--config=configs/demo.py", f"--workdir={workdir}",
            f"--config.data.records={records}", f"{options}.train_worlds=6", f"{options}.test_worlds=4",
            f"--config.train.steps={STEPS}", "--config.optimizer.warmup_steps=5", "--config.train.log_every=1",
            "--config.train.checkpoint_every=25", "--config.train.batch_size=4", "--config.evaluation.enabled=False",
            *more,
        ]  # fmt: skip
        if processes > 1:
            command = [sys.executable, "launch/local.py", f"--processes={processes}", "--grace=5",
                       f"--devices-per-process={devices}", "--", *command]  # fmt: skip
        environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": "", "JAX_NUM_CPU_DEVICES": str(devices)}
        environment["JAX_COMPILATION_CACHE_DIR"] = str(records / "compiled")
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=repo, env=environment, stdout=pipe, stderr=subprocess.STDOUT, text=True)

    return run


def _finish(process: subprocess.Popen, code: int = 0) -> str:
    output, _ = process.communicate(timeout=400)
    assert process.returncode == code, output[-3000:]
    return output


def _wait_for_step(workdir: Path, step: int, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 300
    while not ((path := workdir / "metrics.jsonl").exists() and len(read_metrics(path)) >= step):
        assert process.poll() is None, process.communicate()[0][-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _rank_pid(launcher: subprocess.Popen, rank: int) -> int:
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except (OSError, IndexError):
            continue  # it has ended
        if parent == launcher.pid and b"--process-id=%d" % rank in words:
            return int(folder.name)
    raise AssertionError(f"no process {rank} of the launcher runs")


@pytest.mark.slow
def test_two_processes_one_interrupted_and_other_processes_go_on(start, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    _finish(start(whole, 1, 2, "--config.mesh.data=2"))

    # The state cut over both; a signal to one of them stops both after the same step.
    process = start(parts, 2, 1, "--config.mesh.fsdp=2")
    _wait_for_step(parts, 4, process)
    os.kill(_rank_pid(process, 1), signal.SIGUSR1)
    output = _finish(process, 75)
    assert "SIGUSR1: saving after a step that all processes agree on" in output
    rows = read_metrics(parts / "metrics.jsonl")
    saved = max(int(path.name) for path in (parts / "checkpoints").iterdir() if path.name.isdigit())
    assert saved == rows[-1]["step"]

    # Another number of processes and devices, the images of every sample cut over two.
    _finish(start(parts, 2, 2, "--config.mesh.data=2", "--config.mesh.frames=2"))
    expected, found = (read_metrics(folder / "metrics.jsonl") for folder in (whole, parts))
    assert [row["step"] for row in found] == [row["step"] for row in expected] == [*range(1, STEPS + 1)]
    for key in ("loss/total", "error/points", "train/learning_rate"):  # rounding grows over the steps
        ours, theirs = (np.array([row[key] for row in rows]) for rows in (found, expected))
        np.testing.assert_allclose(ours[:20], theirs[:20], rtol=1e-4)
        np.testing.assert_allclose(ours, theirs, rtol=2e-2)


def test_without_others_everything_is_done_at_once():
    assert gather("x") == ["x"] and is_first() and not stop_agreed(3)
    assert on_first(lambda: 7) == 7
    join(environment={"SLURM_STEP_NUM_TASKS": "1"})


def test_flags_that_cannot_be_are_named_at_once():
    with pytest.raises(ValueError) as error:
        join(Processes("somewhere", 2, 2))
    for part in ("--coordinator is 'somewhere'; it must be HOST:PORT", "--process-id is 2"):
        assert part in str(error.value)
    assert Processes("host:1", 2, 1).problems() == [] == Processes().problems()


@pytest.mark.slow
def test_a_process_that_fails_alone_ends_at_once(repo, records, tmp_path):
    """The others wait for it, and jax's farewell would wait for them."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{probe.getsockname()[1]}"
    ranks = []
    for number in range(2):
        folder = records if number == 0 else tmp_path / "not_shared"
        options = "--config.data.mixture[0].options"
        command = [
            sys.executable, "main.py", "--config=configs/demo.py", f"--workdir={tmp_path}", "--config.mesh.data=2",
            f"{options}.train_worlds=6", f"{options}.test_worlds=4", f"--config.data.records={folder}",
            f"--coordinator={coordinator}", "--num_processes=2", f"--process_id={number}",
        ]  # fmt: skip
        environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": "", "JAX_NUM_CPU_DEVICES": "1"}
        pipe = subprocess.PIPE
        ranks.append(
            subprocess.Popen(command, cwd=repo, env=environment, stdout=pipe, stderr=subprocess.STDOUT, text=True)
        )
    try:
        output = _finish(ranks[1], 2)
        assert f"process 1 does not see {tmp_path / 'not_shared'}" in output and "all nodes share" in output
    finally:
        for rank in ranks:
            rank.kill()
            rank.communicate()


@pytest.mark.slow
def test_stopped_process_ends_the_run_with_stacks(start, tmp_path):
    train = "--config.train"
    more = (f"{train}.steps=100000", f"{train}.checkpoint_every=5", f"{train}.watchdog_seconds=20")
    process = start(tmp_path, 2, 1, "--config.mesh.data=2", *more)
    _wait_for_step(tmp_path, 30, process)
    os.kill(_rank_pid(process, 1), signal.SIGSTOP)
    stopped = time.monotonic()
    output = _finish(process, 76)
    assert time.monotonic() - stopped < 20 + 5 + 30
    assert "[0] watchdog: process 0 of 2 made no progress for" in output, output[-6000:]
    assert ", while running step" in output
    assert output.count("(most recent call first)") >= 3 and "in train" in output  # stacks of several threads
    kept = [int(path.name) for path in (tmp_path / "checkpoints").iterdir() if path.name.isdigit()]
    assert kept and json.loads((tmp_path / "checkpoints" / str(max(kept)) / "position/metadata").read_text())


def test_a_bug_keeps_its_traceback(capsys):
    assert run_to_end(lambda: 1 // 0) == 1
    assert "ZeroDivisionError" in capsys.readouterr().err
