"""The loop with a model of one number: what it compares and saves, in which order, and what it says of bad steps."""

import errno
import itertools
import os
from pathlib import Path
from unittest import mock

import jax.numpy as jnp
import numpy as np
import pytest

from rig3r_jax.configs import base
from rig3r_jax.losses.mean import Mean
from rig3r_jax.training import loop, saving
from rig3r_jax.training.checkpoint import Checkpoints
from rig3r_jax.training.goodput import Goodput
from rig3r_jax.training.metrics import MetricsWriter
from rig3r_jax.training.position import Position
from rig3r_jax.training.state import TrainState
from rig3r_jax.training.stopping import StopRequest
from rig3r_jax.training.watchdog import Watchdog


class Disk(Checkpoints):
    """A save is over at once, and nothing is written; those of the steps in `full` fail."""

    def __init__(self, full: tuple[int, ...] = (), error: int = errno.ENOSPC):
        self.latest_step, self.saved, self._full, self._saving = None, [], full, None
        self.folder, self._error = Path("there/is/none"), error

    def save(self, step: int, state: TrainState, position: dict[str, int]) -> None:
        self._saving = step

    def check(self, *, wait: bool = False) -> None:
        step, self._saving = self._saving, None
        if step in self._full:
            raise OSError(self._error, os.strerror(self._error), "checkpoints")
        if step is not None:
            self.latest_step = step
            self.saved.append(step)


def trained(disk: Disk, workdir: Path, bad_steps=lambda step: 0, **options) -> tuple[int, list[int]]:
    """The exit code of a run of 12 steps, and the steps whose copies were compared."""
    config = base.get_config()
    config.train.update(dict(steps=12, log_every=1, checkpoint_every=5, peak_tflops=1.0) | options)

    def train_step(state: TrainState, batch: int) -> tuple[TrainState, dict[str, Mean]]:
        step = int(state.step) + 1
        values = {"loss/total": 1.0, "count/bad_steps": bad_steps(step), "count/skipped_steps": 0}
        metrics = {name: Mean(np.float32(value), np.float32(1)) for name, value in values.items()}
        return state.replace(step=jnp.int32(step)), metrics

    batches = mock.MagicMock(scalars=dict)
    batches.__iter__.return_value = itertools.count()
    task = mock.Mock(config=config, train_step=train_step, loss_name="loss/total", images_per_step=1)
    task.configure_mock(operations_per_step=float("nan"), ends_early=False, devices=(None,))
    task.batches.return_value = batches
    zero = jnp.zeros((), jnp.int32)
    state = TrainState(zero, {"x": jnp.ones(3)}, {}, {}, zero, zero)
    saver = saving.Saver(disk, config.train)
    with StopRequest() as stop, mock.patch.object(loop, "check_copies") as check:
        prepared = loop.Prepared(task, workdir, saver, state, Position(0, 0), stop, Goodput())
        code = loop.train(prepared, MetricsWriter(workdir, silent=True), Watchdog(0.0, "test"))
    return code, [call.args[1] for call in check.call_args_list]


def test_copies_are_compared_before_every_save_one_that_is_tried_again_too(tmp_path, monkeypatch):
    monkeypatch.setattr(saving, "FIRST_PAUSE", 0.0)
    disk = Disk(full=(5,))
    assert trained(disk, tmp_path, check_copies_every=4) == (loop.EXIT_DONE, [4, 5, 6, 8, 10, 12])
    assert disk.saved == [6, 10, 12]
    assert trained(Disk(), tmp_path) == (loop.EXIT_DONE, [])


ENDS = [(errno.ESTALE, 73), (errno.EIO, 73), (errno.EROFS, 74), (errno.ENOSPC, 74), (errno.EDQUOT, 74)]


@pytest.mark.parametrize(("error", "code"), ENDS)
def test_a_run_that_another_machine_may_save_ends_with_a_code_of_its_own(tmp_path, error, code):
    with pytest.raises(saving.NotSaved, match="checkpoints: ") as raised:
        trained(Disk(tuple(range(13)), error), tmp_path, checkpoint_every=12, save_retry_minutes=0.0)
    assert raised.value.code == code


def test_a_save_that_failed_is_tried_again_after_the_pause_that_is_told(tmp_path, caplog):
    """Checkpoints that are due meanwhile, here at every step, are no tries of their own: the log says so once."""
    disk = Disk(full=tuple(range(3, 12)))
    assert trained(disk, tmp_path, checkpoint_every=1, save_retry_minutes=0.5) == (loop.EXIT_DONE, [])
    assert disk.saved == [1, 2, 12]
    said = [record.getMessage() for record in caplog.records if "could not save" in record.getMessage()]
    assert len(said) == 1 and "tries again in 10 s, for 30 s in all; the newest checkpoint is step 2" in said[0]
    assert said[0].endswith("whose folder is not there now")


@pytest.mark.parametrize("log_every", [1, 50])
def test_a_run_that_diverges_says_how_many_steps_were_bad(tmp_path, log_every, caplog):
    """The metrics are read a step late: one that is good again does not hide those before it."""
    disk, bad_steps = Disk(), lambda step: step - 3 if 3 < step < 8 else 0
    code, _ = trained(disk, tmp_path, bad_steps, log_every=log_every, max_bad_steps=4)
    assert code == loop.EXIT_DIVERGED and disk.saved[-1] == 8
    assert "4 steps in a row were not finite; the state is saved at step 8" in caplog.text


def test_the_last_save_waits_until_it_is_tried_again_however_the_clock_runs(tmp_path, monkeypatch):
    """Between two looks at the clock a busy machine lets any time pass."""
    clock, slept = itertools.count(1.0, step=6.0), []  # seconds
    monkeypatch.setattr(saving, "time", mock.Mock(monotonic=lambda: next(clock), sleep=slept.append))
    with pytest.raises(saving.NotSaved):
        trained(Disk(full=tuple(range(13))), tmp_path, checkpoint_every=12, save_retry_minutes=1.0)
    assert slept and 0 <= min(slept) and max(slept) <= 1
