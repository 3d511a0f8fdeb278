"""The training loop: owns time, signals and files; everything else it calls."""

import contextlib
import dataclasses
import logging
import math
import time
from collections.abc import Iterator
from pathlib import Path

import jax
from ml_collections import ConfigDict

from rig3r_jax.data.scene import BadRecord
from rig3r_jax.losses.mean import Mean
from rig3r_jax.training.checkpoint import Checkpoints
from rig3r_jax.training.checkpoint_keep import Keep
from rig3r_jax.training.config import config_differences, save_config
from rig3r_jax.training.host import share_interpreter_quickly
from rig3r_jax.training.lock import LockLost, only_writer
from rig3r_jax.training.metrics import MetricsWriter, merge_window, parameter_table
from rig3r_jax.training.paths import make_absolute
from rig3r_jax.training.peak import peak_flops
from rig3r_jax.training.position import Position
from rig3r_jax.training.processes import ReportedElsewhere, is_first, on_first
from rig3r_jax.training.progress import ProgressDisplay
from rig3r_jax.training.records import ready_entries, records_folder
from rig3r_jax.training.saving import NotSaved, Saver
from rig3r_jax.training.state import TrainState
from rig3r_jax.training.stopping import StopRequest
from rig3r_jax.training.task import Task, TaskKind, validate
from rig3r_jax.training.watchdog import COMPILING, Watchdog
from rig3r_jax.training.xla import use_compilation_cache

logger = logging.getLogger(__name__)

# 75 (EX_TEMPFAIL) asks a scheduler to start the run again; so do watchdog.EXIT_STALLED and saving.EXIT_NOT_SAVED_HERE.
EXIT_DONE, EXIT_DIVERGED, EXIT_INTERRUPTED = 0, 1, 75


class UserError(ValueError):
    """What the user can mend: a message to print without a traceback; "" where another process prints it."""


@contextlib.contextmanager
def user_errors() -> Iterator[None]:
    """What is wrong inside is for the user to mend: raised as UserError."""
    try:
        yield
    except ReportedElsewhere as error:
        raise UserError("") from error
    except ValueError as error:
        raise UserError(str(error)) from error


@dataclasses.dataclass
class Prepared:
    """A run that is ready to step: restored or fresh."""

    task: Task
    workdir: Path
    saver: Saver
    state: TrainState
    position: Position
    stop: StopRequest


@contextlib.contextmanager
def prepare(config: ConfigDict, workdir: Path, kind: TaskKind) -> Iterator[Prepared]:
    """Checks, builds and restores everything; holds the workdir for this run alone.

    Raises:
        UserError: for a config that cannot run, data that cannot be used, or a workdir of another model or run.
        OSError: for files and folders that cannot be read or written.
    """
    with contextlib.ExitStack() as stack:
        with user_errors():
            # 1. The config, before any device work.
            stop = stack.enter_context(StopRequest())
            make_absolute(config)
            on_first(lambda: _validate(config, workdir, kind))
            share_interpreter_quickly()
            on_first(lambda: workdir.mkdir(parents=True, exist_ok=True))
            use_compilation_cache(workdir)
            check_lock = on_first(lambda: stack.enter_context(only_writer(workdir)))
            for difference in on_first(lambda: config_differences(config, workdir)) or ():
                logger.warning("%s", difference)

            # 2. Data and model, and the state: the newest checkpoint's or a fresh one.
            task = kind.open_task(config, workdir)
            train = config.train
            keep = Keep(train.keep_checkpoints, train.keep_every, train.copy_checkpoints_to)
            checkpoints = Checkpoints(workdir, keep)
            stack.callback(checkpoints.close)
            if checkpoints.latest_step is None:
                state, position = task.init(), Position(config.seed, 0)
                if is_first():
                    logger.info("parameters:\n%s", parameter_table(state.params))
            else:
                state, saved = checkpoints.restore(task.abstract_state)
                position = Position(**saved)
                if position.seed != config.seed:
                    raise ValueError(
                        f"{workdir} was trained with seed={position.seed}, this config has seed={config.seed}: "
                        "give another --workdir, or that seed"
                    )
                logger.info("resumed at step %d, sample %d", int(state.step), position.next_sample)
            if is_first():
                save_config(config, workdir / "config.json")
            saver = Saver(checkpoints, config.train, check_lock)
            prepared = Prepared(task, workdir, saver, state, position, stop)
        try:
            yield prepared
        except (BadRecord, LockLost) as error:
            raise UserError(f"the run stopped: {error}") from error
        except ReportedElsewhere as error:
            raise UserError("") from error
        except OSError as error:
            if error.errno and not error.filename:  # a write to an open file does not tell which
                error.filename = str(workdir)
            raise


def _validate(config: ConfigDict, workdir: Path, kind: TaskKind) -> None:
    """Checks a config, by the devices and the records that there are."""
    ready = ready_entries(config, records_folder(config, workdir))
    validate(config, kind, devices=jax.device_count(), ready=ready)


def run(prepared: Prepared) -> int:
    """Trains to the last step, evaluates and reports; returns the exit code."""
    config, step = prepared.task.config, int(prepared.state.step)
    with contextlib.ExitStack() as stack:
        label = f"process {jax.process_index()} of {jax.process_count()}"
        writer = MetricsWriter(  # its imports may take their time
            prepared.workdir, events=config.train.event_writer, resume_step=step, silent=not is_first()
        )
        stack.callback(writer.close)
        watchdog = stack.enter_context(Watchdog(config.train.watchdog_seconds, label))
        try:
            code = train(prepared, writer, watchdog)
        except NotSaved as error:
            if is_first():
                logger.error("%s", error)
            return error.code
        if code == EXIT_DONE:
            writer.flush()
        if code == EXIT_DONE and config.evaluation.enabled:
            prepared.stop.hear_with(EXIT_INTERRUPTED)  # all is saved; started again, the run comes straight here
            watchdog.progress("evaluating", COMPILING)
            prepared.task.finish(prepared.state.trained_params, prepared.workdir, step=int(prepared.state.step))
    return code


def train(prepared: Prepared, writer: MetricsWriter, watchdog: Watchdog) -> int:
    """Steps from the prepared state to config.train.steps; leaves the last state in `prepared`."""
    task, config, state = prepared.task, prepared.task.config.train, prepared.state
    first, position = int(state.step), prepared.position
    batches = task.batches(position)
    meter, stop, code = _Meter(task, writer), prepared.stop, EXIT_DONE
    ended = task.ends_early and task.stopped(state)
    with (
        contextlib.closing(batches),
        ProgressDisplay(first, config.steps, silent=not is_first()) as display,
        _Profiler(config, prepared.workdir) as profiler,
    ):
        stop.hear_all()
        source = iter(batches)
        for step in range(first + 1, first + 1 if ended else config.steps + 1):
            # 1. The next batch, dispatched; the time spent waiting for data is shown.
            watchdog.progress(f"waiting for the data of step {step}", for_data=True)
            with meter.waiting():
                batch = next(source)
            watchdog.progress(f"running step {step}", COMPILING if step <= first + 2 else 1.0)
            profiler.before(step)
            state, metrics = task.train_step(state, batch)
            profiler.after(step, metrics)
            position = position.after(config.batch_size)

            # 2. The metrics of the step before, while this one runs.
            meter.dispatched(metrics)
            display.advance()

            # 3. Log, look for trouble, save: each waits for the step.
            stopping = stop.after(step)  # asked once: a signal that comes later is heard at the next step
            ended = task.ends_early and task.stopped(state)  # by the task's own rule: waits for the step
            last = step == config.steps or stopping or ended
            diverged = meter.bad_steps >= config.max_bad_steps
            if step % config.log_every == 0 or last or diverged:
                display.show(step, meter.write(step, batches.scalars()), last=last or diverged)
            save = prepared.saver.last if last or diverged else prepared.saver.after
            save(step, state, position)
            if diverged:
                logger.error("%d steps in a row were not finite; the state is saved at step %d", meter.bad_steps, step)
                code = EXIT_DIVERGED
                break
            if config.evaluate_every and step % config.evaluate_every == 0 and step < config.steps:
                evaluating = time.perf_counter()
                watchdog.progress(f"evaluating step {step}", COMPILING)
                writer.write(step, task.short_evaluation(state.trained_params))
                meter.skip_clock(since=evaluating)
            if ended:
                logger.info("training ended early, at step %d of %d", step, config.steps)
                break
            if stopping:
                logger.info("step %d is saved; the same command goes on from there", step)
                code = EXIT_INTERRUPTED
                break
    prepared.state, prepared.position = state, position
    return code


class _Meter:
    """Metrics and times since the last logged row. Metrics are read one step late, so that a step is always running."""

    def __init__(self, task: Task, writer: MetricsWriter):
        self._writer, self._images_per_step = writer, task.images_per_step
        self._operations, self._peak, self._loss = task.operations_per_step, math.nan, task.loss_name
        if math.isfinite(self._operations):
            tflops = task.config.train.peak_tflops
            self._peak = (tflops * 1e12 or peak_flops(jax.local_devices()[0])) * len(task.devices)
        self._pending = None
        self.bad_steps = 0  # not finite, in a row, up to the last step read
        self.restart()

    def skip_clock(self, since: float) -> None:
        """Leaves the time since then out of the row."""
        self._since += time.perf_counter() - since

    def restart(self) -> None:
        """Begins a new row."""
        self._window, self._waited, self._since = [], 0.0, time.perf_counter()

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Counts the time inside as waiting for data."""
        start = time.perf_counter()
        yield
        self._waited += time.perf_counter() - start

    def dispatched(self, metrics: dict[str, Mean]) -> None:
        """Takes the metrics of a step that runs, and reads those of the step before."""
        pending, self._pending = self._pending, metrics
        self._read(pending)

    def write(self, step: int, more: dict[str, float]) -> str:
        """Waits for the running step, writes a row, begins a new one; returns a line for the progress bar."""
        self._read(self._pending)
        self._pending = None
        seconds, steps = time.perf_counter() - self._since, len(self._window)
        scalars = merge_window(self._window) | more
        scalars["speed/steps_per_second"] = steps / seconds
        scalars["speed/images_per_second"] = steps * self._images_per_step / seconds
        scalars["speed/data_wait_percent"] = 100.0 * self._waited / seconds
        line = f"loss {scalars[self._loss]:.3f}, {scalars['speed/images_per_second']:.0f} images/s, "
        if math.isfinite(self._peak):
            # MFU: the share of the devices' peak that the operations of the model use, recomputation not counted.
            scalars["speed/mfu_percent"] = 100.0 * steps * self._operations / (self._peak * seconds)
            line += f"MFU {scalars['speed/mfu_percent']:.1f}%, "
        self._writer.write(step, scalars)
        self.restart()
        return line + f"waiting for data {scalars['speed/data_wait_percent']:.1f}%"

    def _read(self, metrics: dict[str, Mean] | None) -> None:
        if metrics is not None:
            self._window.append(jax.device_get(metrics))
            self.bad_steps = int(self._window[-1]["count/bad_steps"].total)


class _Profiler:
    """A profiler trace of the steps profile_at .. profile_at + profile_steps - 1, ended in any case."""

    def __init__(self, config: ConfigDict, workdir: Path):
        self._first, self._steps, self._folder = config.profile_at, config.profile_steps, str(workdir / "profile")
        self._tracing = False

    def __enter__(self) -> "_Profiler":
        return self

    def before(self, step: int) -> None:
        """To be called before a step is dispatched."""
        if self._first and step == self._first and is_first():
            jax.profiler.start_trace(self._folder)
            self._tracing = True

    def after(self, step: int, metrics: dict[str, Mean]) -> None:
        """To be called after; waits for the last step of the trace."""
        if self._tracing and step >= self._first + self._steps - 1:
            jax.block_until_ready(metrics)
            self.__exit__()

    def __exit__(self, *_) -> None:
        if self._tracing:
            jax.profiler.stop_trace()
            self._tracing = False
