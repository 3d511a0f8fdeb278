"""The training loop: owns time, signals and files; everything else it calls."""

import contextlib
import dataclasses
import logging
from collections.abc import Iterator
from pathlib import Path

import jax
from ml_collections import ConfigDict

from rig3r_jax.data.scene import BadRecord
from rig3r_jax.losses.mean import Mean
from rig3r_jax.training.agreement import check_program, check_records
from rig3r_jax.training.checkpoint import Checkpoints
from rig3r_jax.training.checkpoint_keep import Keep
from rig3r_jax.training.checksum import CHECKSUM, CopiesDiffer, check_copies, checksum
from rig3r_jax.training.config import config_differences, save_config
from rig3r_jax.training.goodput import Goodput, summary
from rig3r_jax.training.host import share_interpreter_quickly
from rig3r_jax.training.lock import LockLost, only_writer
from rig3r_jax.training.meter import Meter
from rig3r_jax.training.metrics import MetricsWriter, parameter_table, read_metrics
from rig3r_jax.training.paths import make_absolute
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
# 77 does not: one of its devices computes wrongly, and would again.
EXIT_DONE, EXIT_DIVERGED, EXIT_INTERRUPTED, EXIT_COPIES_DIFFER = 0, 1, 75, 77


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
    goodput: Goodput


@contextlib.contextmanager
def prepare(config: ConfigDict, workdir: Path, kind: TaskKind) -> Iterator[Prepared]:
    """Checks, builds and restores everything; holds the workdir for this run alone.

    Raises:
        UserError: for a config that cannot run, data that cannot be used, or a workdir of another model or run.
        OSError: for files and folders that cannot be read or written.
    """
    goodput = Goodput()
    with contextlib.ExitStack() as stack:
        with user_errors():
            # 1. The config, before any device work.
            stop = stack.enter_context(StopRequest())
            make_absolute(config)
            check_program(config, workdir)
            on_first(lambda: _validate(config, workdir, kind))
            share_interpreter_quickly()
            on_first(lambda: workdir.mkdir(parents=True, exist_ok=True))
            use_compilation_cache(workdir)
            check_lock = on_first(lambda: stack.enter_context(only_writer(workdir)))
            for difference in on_first(lambda: config_differences(config, workdir)) or ():
                logger.warning("%s", difference)

            # 2. Data and model, and the state: the newest checkpoint's or a fresh one.
            task = kind.open_task(config, workdir)
            check_records(config, workdir)
            train = config.train
            keep = Keep(train.keep_checkpoints, train.keep_every, train.copy_checkpoints_to)
            checkpoints = Checkpoints(workdir, keep)
            stack.callback(checkpoints.close)
            if checkpoints.latest_step is None:
                state = task.init()
                position = Position(config.seed, 0).after(int(state.step) * train.batch_size)
                if is_first():
                    logger.info("parameters:\n%s", parameter_table(state.params))
            else:
                with goodput.spending("restoring"):
                    state, saved = checkpoints.restore(task.abstract_state)
                position = Position(**saved)
                if position.seed != config.seed:
                    raise ValueError(
                        f"{workdir} was trained with seed={position.seed}, this config has seed={config.seed}: "
                        "give another --workdir, or that seed"
                    )
                logger.info("resumed at step %d, sample %d", int(state.step), position.next_sample)
            if is_first():
                if (metrics := workdir / "metrics.jsonl").exists():
                    goodput.go_on(read_metrics(metrics), int(state.step))
                save_config(config, workdir / "config.json")
            saver = Saver(checkpoints, config.train, check_lock)
            prepared = Prepared(task, workdir, saver, state, position, stop, goodput)
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
        except CopiesDiffer as error:
            if is_first():
                logger.error("the run stops, and saves nothing more: %s", error)
            return EXIT_COPIES_DIFFER
        if code == EXIT_DONE:
            writer.flush()
        if code == EXIT_DONE and config.evaluation.enabled:
            prepared.stop.hear_with(EXIT_INTERRUPTED)  # all is saved; started again, the run comes straight here
            watchdog.progress("evaluating", COMPILING)
            with prepared.goodput.spending("evaluation"):
                prepared.task.finish(prepared.state.trained_params, prepared.workdir, step=int(prepared.state.step))
            writer.write(int(prepared.state.step), prepared.goodput.scalars())
    logger.info("%s", summary(prepared.goodput.scalars()))
    return code


def train(prepared: Prepared, writer: MetricsWriter, watchdog: Watchdog) -> int:
    """Steps from the prepared state to config.train.steps; leaves the last state in `prepared`."""
    task, config, state = prepared.task, prepared.task.config.train, prepared.state
    first, position = int(state.step), prepared.position
    batches = task.batches(position)
    goodput, stop, code = prepared.goodput, prepared.stop, EXIT_DONE
    meter = Meter(task, writer, goodput)
    ended = task.ends_early and task.stopped(state)
    with (
        goodput.spending("training"),
        contextlib.closing(batches),
        ProgressDisplay(first, config.steps, silent=not is_first()) as display,
        _Profiler(config, prepared.workdir) as profiler,
    ):
        stop.hear_all()
        source = iter(batches)
        for step in range(first + 1, first + 1 if ended else config.steps + 1):
            # 1. The next batch, dispatched; the time spent waiting for data is shown.
            watchdog.progress(f"waiting for the data of step {step}", for_data=True)
            with goodput.spending("data"):
                batch = next(source)
            watchdog.progress(f"running step {step}", COMPILING if step <= first + 2 else 1.0)
            profiler.before(step)
            with goodput.spending("starting" if step == first + 1 else "training"):  # the first one compiles
                state, metrics = task.train_step(state, batch)
            profiler.after(step, metrics)
            position = position.after(config.batch_size)

            # 2. The metrics of the step before, while this one runs.
            meter.dispatched(metrics)
            display.advance()

            # 3. Look for trouble, log, save: each waits for the step.
            stopping = stop.after(step)  # asked once: a signal that comes later is heard at the next step
            ended = task.ends_early and task.stopped(state)  # by the task's own rule: waits for the step
            last = step == config.steps or stopping or ended
            bad_steps = meter.bad_steps  # up to the step before
            diverged = bad_steps >= config.max_bad_steps
            if step % config.log_every == 0 or last or diverged:
                scalars = batches.scalars() | {CHECKSUM: float(checksum(state.params))}
                display.show(step, meter.write(step, scalars), last=last or diverged)
            with goodput.spending("saving"):
                due = last or diverged or prepared.saver.is_due(step)
            if config.check_copies_every and (due or step % config.check_copies_every == 0):
                check_copies(state, step)
            if due:
                save = prepared.saver.last if last or diverged else prepared.saver.save
                with goodput.spending("saving"):
                    save(step, state, position)
            if diverged:
                logger.error(
                    "%d steps in a row were not finite%s; the state is saved at step %d",
                    max(bad_steps, meter.bad_steps), " or spikes" if "train/spikes" in metrics else "", step,
                )  # fmt: skip
                code = EXIT_DIVERGED
                break
            if config.evaluate_every and step % config.evaluate_every == 0 and step < config.steps:
                watchdog.progress(f"evaluating step {step}", COMPILING)
                with goodput.spending("evaluation"):
                    writer.write(step, task.short_evaluation(state.trained_params))
            if ended:
                logger.info("training ended early, at step %d of %d", step, config.steps)
                break
            if stopping:
                logger.info("step %d is saved; the same command goes on from there", step)
                code = EXIT_INTERRUPTED
                break
    prepared.state, prepared.position = state, position
    return code


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
