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
from rig3r_jax.training.processes import (
    Processes,
    gather,
    is_first,
    join,
    on_first,
    run_to_end,
    slurm_tasks,
    stop_agreed,
)
from tests import runs

STEPS = 24  # enough that a signal finds the run on its way


@pytest.fixture(scope="session")
def records(tmp_path_factory):
    return tmp_path_factory.mktemp("records")


@pytest.fixture
def start(records):
    """Starts a small run of `processes` processes with `devices` each."""

    def run(workdir: Path, processes: int, devices: int, *more: str) -> subprocess.Popen:
        train = "--config.train"
        flags = (f"{train}.steps={STEPS}", f"{train}.log_every=1", f"{train}.checkpoint_every=10")
        command = ["main.py", *runs.demo(workdir, records, *flags, f"{train}.batch_size=4", *more)]
        if processes > 1:
            command = ["launch/local.py", f"--processes={processes}", "--grace=5",
                       f"--devices-per-process={devices}", "--", sys.executable, *command]  # fmt: skip
        return runs.start(*command, JAX_NUM_CPU_DEVICES=str(devices))

    return run


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
    runs.finish(start(whole, 1, 2, "--config.mesh.data=2"))

    # The state cut over both; a signal to one of them stops both after the same step.
    process = start(parts, 2, 1, "--config.mesh.fsdp=2")
    runs.wait_for_step(parts, 4, process)
    os.kill(_rank_pid(process, 1), signal.SIGUSR1)
    output = runs.finish(process, 75)
    assert "SIGUSR1: saving after a step that all processes agree on" in output
    rows = read_metrics(parts / "metrics.jsonl")
    assert runs.saved_steps(parts)[-1] == rows[-1]["step"]

    # Another number of processes and devices, the images of every sample cut over two.
    runs.finish(start(parts, 2, 2, "--config.mesh.data=2", "--config.mesh.frames=2"))
    expected, resumed = (read_metrics(folder / "metrics.jsonl") for folder in (whole, parts))
    assert [row["step"] for row in resumed] == [row["step"] for row in expected] == [*range(1, STEPS + 1)]
    for key in ("loss/total", "error/points", "train/learning_rate"):  # rounding grows over the steps
        ours, theirs = (np.array([row[key] for row in rows]) for rows in (resumed, expected))
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
def test_a_process_that_fails_alone_ends_at_once(records, tmp_path):
    """The others wait for it, and jax's farewell would wait for them."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{probe.getsockname()[1]}"
    ranks = []
    for number in range(2):
        flags = runs.demo(tmp_path, records if number == 0 else tmp_path / "not_shared", "--config.mesh.data=2")
        rank = (f"--coordinator={coordinator}", "--num-processes=2", f"--process-id={number}")
        ranks.append(runs.start("main.py", *flags, *rank, JAX_NUM_CPU_DEVICES="1"))
    try:
        output = runs.finish(ranks[1], 2)
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
    runs.wait_for_step(tmp_path, 10, process)
    os.kill(_rank_pid(process, 1), signal.SIGSTOP)
    stopped = time.monotonic()
    output = runs.finish(process, 76)
    assert time.monotonic() - stopped < 20 + 5 + 30
    assert "[0] watchdog: process 0 of 2 made no progress for" in output, output[-6000:]
    assert ", while running step" in output
    assert output.count("(most recent call first)") >= 3 and "in train" in output  # stacks of several threads
    assert json.loads(runs.Saved.of(tmp_path).position)


def test_a_bug_keeps_its_traceback(capsys):
    assert run_to_end(lambda: 1 // 0) == 1
    assert "ZeroDivisionError" in capsys.readouterr().err


STEP = {
    "SLURM_JOB_ID": "1", "SLURM_STEP_NODELIST": "n1", "SLURM_NTASKS": "8", "SLURM_PROCID": "0", "SLURM_LOCALID": "0",
    "SLURM_STEP_NUM_TASKS": "8",
}  # fmt: skip


@pytest.mark.parametrize(
    ("environment", "tasks"),
    [
        ({}, 1),
        ({"SLURM_NTASKS": "8"}, 1),
        ({"SLURM_JOB_ID": "1", "SLURM_NTASKS": "8", "SLURM_JOB_NODELIST": "n[1-2]"}, 1),  # salloc without srun
        ({"SLURM_JOB_ID": "1", "SLURM_STEP_NUM_TASKS": "8"}, 1),
        ({**STEP, "SLURM_STEP_NUM_TASKS": ""}, 1),
        ({**STEP, "SLURM_STEP_NUM_TASKS": "1", "SLURM_STEP_NODELIST": ""}, 1),
        (STEP, 8),
    ],
)
def test_a_process_is_one_of_many_only_in_a_step(environment, tasks):
    assert slurm_tasks(environment) == tasks


def test_variables_of_a_part_of_a_step_are_named():
    with pytest.raises(ValueError, match="task 0 of SLURM_STEP_NUM_TASKS=8, but SLURM_STEP_NODELIST is not set"):
        join(environment={**STEP, "SLURM_STEP_NODELIST": ""})
    with pytest.raises(ValueError, match="SLURM_STEP_NUM_TASKS is 'x', which is no number"):
        join(environment={"SLURM_STEP_NUM_TASKS": "x"})
