"""Whole runs: as processes that are started, interrupted and waited for, or inside this one; and what they leave."""

import contextlib
import dataclasses
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import tensorstore
from jaxtyping import PyTree

from rig3r_jax import cli
from rig3r_jax.training import host, loop
from rig3r_jax.training.metrics import read_metrics
from rig3r_jax.training.state import TrainState
from rig3r_jax.training.task import Task
from tests.conftest import REPO

SECONDS = 400  # that a run may take
# A loop over layers is one piece of code; TensorFlow takes seconds to import, and so do processes that build records.
STARTED_SOON = (
    "--config.model.unroll=false",
    "--config.train.event_writer=tensorboard",
    "--config.data.build_workers=1",
)
AS_SHIPPED = {"XLA_FLAGS": ""}  # of a run that is compiled as a user's is, not quickly as in other tests


def demo(workdir: Path, records: Path, *more: str) -> list[str]:
    """Flags of a short run of the demo on few worlds, without evaluation."""
    options = "--config.data.mixture[0].options"
    return [
        "--config=configs/demo.py", f"--workdir={workdir}", f"--config.data.records={records}",
        f"{options}.train_worlds=6", f"{options}.test_worlds=4", "--config.optimizer.warmup_steps=5",
        "--config.evaluation.samples=4", "--config.evaluation.batch_size=2", "--config.evaluation.enabled=false",
        *STARTED_SOON, *more,
    ]  # fmt: skip


def start(*arguments: str | Path, **variables: str) -> subprocess.Popen:
    """A program of Python's with these arguments, in the working tree, with more variables in its environment."""
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)], cwd=REPO, env={**os.environ, **variables}, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def finish(process: subprocess.Popen, code: int = 0, seconds: float = SECONDS) -> str:
    """What a process prints until it ends, within `seconds`, with this exit code."""
    output, _ = process.communicate(timeout=seconds)
    assert process.returncode == code, output[-3000:]
    return output


def wait_for_step(workdir: Path, step: int, process: subprocess.Popen) -> None:
    """Returns once the process has logged that step."""
    deadline = time.monotonic() + SECONDS
    while last_step(workdir) < step:
        assert process.poll() is None, process.communicate()[0][-3000:]
        assert time.monotonic() < deadline
        time.sleep(0.01)


def wait_for_checkpoint(workdir: Path, step: int) -> None:
    """Returns once that step is a checkpoint."""
    deadline = time.monotonic() + SECONDS
    while not (workdir / "checkpoints" / str(step)).is_dir():
        assert time.monotonic() < deadline, sorted(workdir.glob("checkpoints/*"))
        time.sleep(0.01)


def interrupt(process: subprocess.Popen, workdir: Path, step: int, number: int, delay: float) -> None:
    """Sends a signal `delay` seconds after the process has logged that step."""
    wait_for_step(workdir, step, process)
    time.sleep(delay)
    process.send_signal(number)


class Killed(BaseException):
    """To be raised by `before_step`: ends a run in the middle, which saves nothing more, as after SIGKILL."""


class _Watched:
    """A task that calls `before_step` ahead of each of its steps."""

    def __init__(self, task: Task, before_step: Callable[[int], None]):
        self._task, self._before_step = task, before_step

    def __getattr__(self, name: str):
        return getattr(self._task, name)

    def train_step(self, state: TrainState, batch: PyTree):
        self._before_step(int(state.step) + 1)
        return self._task.train_step(state, batch)


def run_here(*arguments: str | Path, code: int = 0, before_step: Callable[[int], None] | None = None) -> str:
    """Runs a command of `rig3r` in this process and asserts its exit code.

    Args:
        before_step: called with the number of every training step ahead of it.

    Returns:
        What it printed and logged.
    """

    def run_watched(prepared: loop.Prepared, run=loop.run) -> int:
        prepared.task = _Watched(prepared.task, before_step)
        return run(prepared)

    with contextlib.ExitStack() as stack:
        output = stack.enter_context(tempfile.TemporaryFile("w+"))  # a real file: the watchdog asks for its number
        handler, logger = logging.StreamHandler(output), logging.getLogger("rig3r_jax")
        stack.enter_context(contextlib.redirect_stdout(output))
        stack.enter_context(contextlib.redirect_stderr(output))
        for module, name in ((host, "keep_freed_memory"), (loop, "share_interpreter_quickly")):  # of the whole process
            stack.enter_context(mock.patch.object(module, name))
        if before_step:
            stack.enter_context(mock.patch.object(loop, "run", run_watched))
        logger.addHandler(handler)
        stack.callback(logger.removeHandler, handler)
        ended = cli.main([str(argument) for argument in arguments])
        output.seek(0)
        printed = output.read()
    assert ended == code, printed[-3000:]
    return printed


def last_step(workdir: Path) -> int:
    """The last step in metrics.jsonl; 0 before the first."""
    path = workdir / "metrics.jsonl"
    rows = read_metrics(path) if path.exists() else []
    return rows[-1]["step"] if rows else 0


def saved_steps(workdir: Path) -> list[int]:
    """Steps of the complete checkpoints."""
    return sorted(int(path.name) for path in (workdir / "checkpoints").iterdir() if path.name.isdigit())


@dataclasses.dataclass(frozen=True)
class Saved:
    """The newest checkpoint, read without orbax."""

    step: int
    arrays: dict[str, np.ndarray]
    position: str

    @classmethod
    def of(cls, workdir: Path) -> "Saved":
        step = saved_steps(workdir)[-1]
        folder = workdir.resolve() / "checkpoints" / str(step)
        store = {"driver": "ocdbt", "base": f"file://{folder}/state/"}
        keys = tensorstore.KvStore.open(store).result().list().result()
        names = sorted({key.decode().rsplit("/", 1)[0] for key in keys if key.endswith(b"/.zarray")})
        specs = {name: {"driver": "zarr", "kvstore": {**store, "path": f"{name}/"}} for name in names}
        arrays = {name: np.asarray(tensorstore.open(spec).result().read().result()) for name, spec in specs.items()}
        return cls(step, arrays, (folder / "position/metadata").read_text())


def assert_ends_alike(workdir: Path, expected_workdir: Path) -> Saved:
    """Asserts that two runs ended at the same step and in the same bits of every array; returns what they saved."""
    saved, expected = Saved.of(workdir), Saved.of(expected_workdir)
    assert saved.step == expected.step and saved.position == expected.position
    assert saved.arrays.keys() == expected.arrays.keys()
    for name, array in expected.arrays.items():
        np.testing.assert_array_equal(saved.arrays[name], array, err_msg=name)
    return saved
