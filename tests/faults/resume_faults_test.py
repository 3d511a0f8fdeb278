"""Runs that are killed or stopped and go on: the same bits; with other threads, devices or processes, the same run."""

import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from rig3r_jax.training.metrics import read_metrics
from tests import runs
from tests.faults import ranks
from tests.faults.faults import fault
from tests.faults.soak import Plan, soak

pytestmark = pytest.mark.slow


def flags(workdir: Path, records: Path, **train) -> list[str]:
    train = {"batch_size": 2, "checkpoint_every": 7, "log_every": 5, **train}
    return runs.demo(workdir, records, *(f"--config.train.{key}={value}" for key, value in train.items()))


@fault(
    20,
    what="A run is killed (SIGKILL), stopped and asked to end (SIGSTOP, SIGTERM), its disk is full for a while, at "
    "moments that are really random; each time it is started again. `python -m tests.faults.soak` does it for hours.",
    seen="`resumed at step N, sample M`.",
    kept="All but the steps since the last checkpoint, which are done again: at the end every number of parameters, "
    "moments and counters has the bits of a run that was left alone, and every row of metrics.jsonl is there once.",
)
def test_a_run_that_is_disturbed_ends_as_the_one_that_was_left_alone(records, tmp_path):
    """Fault 20: N + M steps equal N steps, a kill, M steps."""
    seed = time.time_ns() % 2**32
    print("moments: seed", seed)
    plans = [Plan("full disk", "SIGKILL", 10), Plan("SIGSTOP", "SIGTERM", 10)]
    assert soak(tmp_path, records, 60, plans, seed).startswith("starts ")
    saved = runs.Saved.of(tmp_path / "disturbed")
    assert saved.step == 60 and len(saved.arrays) > 100
    assert json.loads(saved.position) == {"seed": 0, "next_sample": 2 * 60}


@fault(
    19,
    what="A run goes on with another number of threads of its loader, none among them, and of batches made ahead.",
    seen="Nothing: what is drawn does not depend on them.",
    kept="All: at the end the bits of a run that never stopped.",
)
def test_another_number_of_threads_changes_no_bit(records, tmp_path):
    """Fault 19: the loader has 8 threads, then none, then 3."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    runs.run_here("train", *flags(whole, records, steps=6))
    for threads, prefetch, stop in ((8, 16, 2), (0, 0, 4), (3, 5, None)):
        more = (f"--config.data.threads={threads}", f"--config.data.prefetch={prefetch}")

        def interrupt(step: int, stop=stop) -> None:
            if step == stop:
                signal.raise_signal(signal.SIGTERM)

        code = 75 if stop else 0
        runs.run_here("train", *flags(parts, records, steps=6), *more, code=code, before_step=interrupt)
    assert runs.assert_ends_alike(parts, whole).step == 6


@fault(
    18,
    what="A run of two processes, its state cut over both, stops by a signal to one of them, and goes on as two with "
    "two devices each, every sample's images cut over two.",
    seen="`SIGUSR1: saving after a step that all processes agree on`; exit code 75; `resumed at step N`.",
    kept="All: the same samples in the same order, and the losses of one process with two devices but for rounding.",
)
def test_other_processes_and_devices_go_on(records, tmp_path):
    """Fault 18: other numbers of processes and devices, another mesh."""
    whole, parts, steps = tmp_path / "whole", tmp_path / "parts", "--config.train.steps=24"
    runs.finish(ranks.start(whole, records, steps, "--config.mesh.data=2", processes=1, devices=2))

    process = ranks.start(parts, records, steps, "--config.mesh.fsdp=2")
    runs.wait_for_step(parts, 4, process)
    os.kill(ranks.pid_of(process, 1), signal.SIGUSR1)
    output = runs.finish(process, 75)
    assert "SIGUSR1: saving after a step that all processes agree on" in output
    assert runs.saved_steps(parts)[-1] == runs.last_step(parts)

    runs.finish(ranks.start(parts, records, steps, "--config.mesh.data=2", "--config.mesh.frames=2", devices=2))
    expected, resumed = (read_metrics(folder / "metrics.jsonl") for folder in (whole, parts))
    assert [row["step"] for row in resumed] == [row["step"] for row in expected] == [*range(1, 24 + 1)]
    for key in ("loss/total", "error/points", "train/learning_rate"):  # rounding grows over the steps
        ours, theirs = (np.array([row[key] for row in rows]) for rows in (resumed, expected))
        np.testing.assert_allclose(ours[:20], theirs[:20], rtol=1e-4)
        np.testing.assert_allclose(ours, theirs, rtol=2e-2)
