"""The rows of metrics of a run: what its steps say, how fast they are, where its time went."""

import math
import time

import jax

from rig3r_jax.losses.mean import Mean
from rig3r_jax.training.goodput import Goodput
from rig3r_jax.training.metrics import STEPS_OF_ROW, MetricsWriter, merge_window
from rig3r_jax.training.peak import peak_flops
from rig3r_jax.training.stragglers import Stragglers
from rig3r_jax.training.task import Task


class Meter:
    """Metrics and times since the last logged row. Metrics are read one step late, so that a step is always running."""

    def __init__(self, task: Task, writer: MetricsWriter, goodput: Goodput):
        self._writer, self._images_per_step, self._goodput = writer, task.images_per_step, goodput
        self._operations, self._peak, self._loss = task.operations_per_step, math.nan, task.loss_name
        if math.isfinite(self._operations):
            tflops = task.config.train.peak_tflops
            self._peak = (tflops * 1e12 or peak_flops(jax.local_devices()[0])) * len(task.devices)
        self._pending, self._stragglers = None, Stragglers()
        self.bad_steps = 0  # skipped, in a row, up to the last step read
        self._window, self._spent = [], self._times()

    def dispatched(self, metrics: dict[str, Mean]) -> None:
        """Takes the metrics of a step that runs, and reads those of the step before."""
        pending, self._pending = self._pending, metrics
        self._read(pending)

    def write(self, step: int, more: dict[str, float]) -> str:
        """Waits for the running step, writes a row, begins a new one; returns a line for the progress bar."""
        self._read(self._pending)
        self._pending = None
        times, steps = self._times(), len(self._window)
        seconds, waited = (now - before for now, before in zip(times, self._spent, strict=True))
        scalars = merge_window(self._window) | more | self._goodput.scalars()
        scalars[STEPS_OF_ROW] = steps
        scalars["speed/steps_per_second"] = steps / seconds
        scalars["speed/images_per_second"] = steps * self._images_per_step / seconds
        scalars["speed/data_wait_percent"] = 100.0 * waited / seconds
        line = f"loss {scalars[self._loss]:.3f}, {scalars['speed/images_per_second']:.0f} images/s, "
        if math.isfinite(self._peak):
            # MFU: the share of the devices' peak that the operations of the model use, recomputation not counted.
            scalars["speed/mfu_percent"] = 100.0 * steps * self._operations / (self._peak * seconds)
            line += f"MFU {scalars['speed/mfu_percent']:.1f}%, "
        self._writer.write(step, scalars)
        self._stragglers.look(step, waited / seconds)
        self._window, self._spent = [], times
        return line + f"waiting for data {scalars['speed/data_wait_percent']:.1f}%"

    def _times(self) -> tuple[float, float]:
        """Seconds of this run up to now without those of evaluations; seconds in which it waited for data."""
        evaluating, waiting = self._goodput.seconds("evaluation"), self._goodput.seconds("data")
        return time.perf_counter() - evaluating, waiting

    def _read(self, metrics: dict[str, Mean] | None) -> None:
        if metrics is not None:
            self._window.append(jax.device_get(metrics))
            self.bad_steps = int(self._window[-1]["count/bad_steps"].total)
