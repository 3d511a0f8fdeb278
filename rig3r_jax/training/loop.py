"""The training loop: owns time, signals and files; everything else it calls."""

import contextlib
import dataclasses
import logging
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import jax
from ml_collections import ConfigDict
from tqdm import tqdm

from rig3r_jax.data.scene import BadRecord
from rig3r_jax.training import evaluate, report
from rig3r_jax.training.checkpoint import Checkpoints, only_writer
from rig3r_jax.training.config import save_config, validate
from rig3r_jax.training.data import Position, Records, build_mixture, make_loader, to_device, training_stream
from rig3r_jax.training.flops import peak_flops, train_flops
from rig3r_jax.training.host import keep_freed_memory, share_interpreter_quickly
from rig3r_jax.training.metrics import MetricsWriter, log_parameters, merge_window
from rig3r_jax.training.setup import Run, build_run, records_folder
from rig3r_jax.training.state import TrainState

logger = logging.getLogger(__name__)

EXIT_DONE, EXIT_DIVERGED, EXIT_INTERRUPTED = 0, 1, 75  # 75 (EX_TEMPFAIL) asks a scheduler to start the run again


class UserError(Exception):
    """What the user can mend: a message to print without a traceback."""


@dataclasses.dataclass
class Prepared:
    """A run that is ready to step: restored or fresh."""

    run: Run
    workdir: Path
    records: Records
    checkpoints: Checkpoints
    state: TrainState
    position: Position


@contextlib.contextmanager
def prepare(config: ConfigDict, workdir: Path) -> Iterator[Prepared]:
    """Checks, builds and restores everything; holds the workdir for this process alone.

    Raises:
        UserError: for a config that cannot run, data that cannot be used, or a workdir of another model or process.
    """
    with contextlib.ExitStack() as stack:
        try:
            # 1. The config, before any device work.
            validate(config, devices=jax.device_count())
            keep_freed_memory()
            share_interpreter_quickly()
            workdir.mkdir(parents=True, exist_ok=True)
            stack.enter_context(only_writer(workdir))

            # 2. The data: built now or found built.
            records = build_mixture(config, records_folder(config, workdir), progress=jax.process_index() == 0)
            for _, built in records:
                logger.info("%s", built.summary())

            # 3. The model, and its state: the newest checkpoint's or a fresh one.
            run = build_run(config)
            checkpoints = Checkpoints(workdir, config.train.keep_checkpoints)
            stack.callback(checkpoints.close)
            if checkpoints.latest_step is None:
                state, position = run.init(), Position(config.seed, 0)
                log_parameters(state.params)
            else:
                state, saved = checkpoints.restore(run.abstract_state)
                position = Position(**saved)
                if position.seed != config.seed:
                    raise ValueError(
                        f"{workdir} was trained with seed={position.seed}, this config has seed={config.seed}: "
                        "give another --workdir, or that seed"
                    )
                logger.info("resumed at step %d, sample %d", int(state.step), position.next_sample)
            save_config(config, workdir / "config.json")
            prepared = Prepared(run, workdir, records, checkpoints, state, position)
        except (ValueError, FileNotFoundError) as error:
            raise UserError(str(error)) from error
        try:
            yield prepared
        except BadRecord as error:
            raise UserError(f"the run stopped: {error}") from error


def run(prepared: Prepared) -> int:
    """Trains to the last step, evaluates and reports; returns the exit code."""
    writer = MetricsWriter(prepared.workdir, resume_step=int(prepared.state.step), only_log=jax.process_index() > 0)
    try:
        code = train(prepared, writer)
        if code == EXIT_DONE and prepared.run.config.evaluation.enabled:
            report.finish(
                prepared.run, prepared.state.params, prepared.records, prepared.workdir, step=int(prepared.state.step)
            )
    finally:
        writer.close()
    return code


def train(prepared: Prepared, writer: MetricsWriter) -> int:
    """Steps from the prepared state to config.train.steps; leaves the last state in `prepared`."""
    work, config = prepared.run, prepared.run.config.train
    stop = _StopFlag()
    batch_size, views = config.batch_size, work.config.sampling.num_views
    size = work.config.sampling.image_size
    peak = (config.peak_tflops * 1e12 or peak_flops(work.mesh.devices.flat[0])) * work.mesh.size
    step_flops = batch_size * train_flops(work.model, views, size, size)

    state, first, next_sample = prepared.state, int(prepared.state.step), prepared.position.next_sample
    stream = training_stream(work.config, prepared.records)
    loader = make_loader(
        stream,
        batch_size,
        start_sample=next_sample,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        num_threads=work.config.data.threads,
        prefetch=work.config.data.prefetch,
    )
    bar = tqdm(
        total=config.steps,
        initial=first,
        unit="step",
        mininterval=0.5 if sys.stderr.isatty() else 15,
        dynamic_ncols=True,
    )
    window, pending, waited, since = [], None, 0.0, time.perf_counter()
    code, last_bad = EXIT_DONE, 0
    with stop, bar:
        for step in range(first + 1, config.steps + 1):
            # 1. The next batch, dispatched; the time spent waiting for data is shown.
            start = time.perf_counter()
            batch = to_device(next(loader), work.mesh)
            waited += time.perf_counter() - start
            with _profiled(step, config, prepared.workdir):
                state, metrics = work.train_step(state, batch)
            next_sample += batch_size

            # 2. The metrics of the step before, while this one runs.
            if pending is not None:
                window.append(jax.device_get(pending))
            pending = metrics
            bar.update()

            # 3. Log, look for trouble, save: each waits for the step.
            last = step == config.steps or stop.requested
            log, save = step % config.log_every == 0 or last, step % config.checkpoint_every == 0 or last
            if log or save or len(window) >= config.max_bad_steps:
                window.append(jax.device_get(pending))
                pending = None
                last_bad = int(window[-1]["train/bad_steps"].total)
            diverged = last_bad >= config.max_bad_steps
            if log or diverged:
                seconds = time.perf_counter() - since
                scalars = merge_window(window)
                scalars |= _rates(len(window), seconds, waited, batch_size * views, step_flops / peak)
                scalars["data/bad_draws"] = float(stream.quarantine.bad_draws)
                writer.write(step, scalars)
                bar.set_postfix_str(_status(scalars))
                window, waited, since = [], 0.0, time.perf_counter()
            if save or diverged:
                prepared.checkpoints.save(step, state, Position(work.config.seed, next_sample).to_json())
            if diverged:
                logger.error("%d steps in a row were not finite; the state is saved at step %d", last_bad, step)
                code = EXIT_DIVERGED
                break
            every = config.evaluate_every
            if every and step % every == 0 and step < config.steps:
                writer.write(step, evaluate.short_evaluation(work, state.params, prepared.records))
                since = time.perf_counter()
            if stop.requested and step < config.steps:
                code = EXIT_INTERRUPTED
                break
    if hasattr(loader, "close"):
        loader.close()
    prepared.checkpoints.wait()
    prepared.state, prepared.position = state, Position(work.config.seed, next_sample)
    for record, reason in stream.quarantine.reasons.items():
        logger.warning("left out %s: %s", record, reason)
    return code


def _rates(
    steps: int, seconds: float, waited: float, images_per_step: int, peak_seconds_per_step: float
) -> dict[str, float]:
    """Speed over a window of steps. MFU: the share of the devices' peak that the operations of the step use."""
    return {
        "speed/steps_per_second": steps / seconds,
        "speed/images_per_second": steps * images_per_step / seconds,
        "speed/mfu_percent": 100.0 * steps * peak_seconds_per_step / seconds,
        "speed/data_wait_percent": 100.0 * waited / seconds,
    }


def _status(scalars: dict[str, float]) -> str:
    return (
        f"loss {scalars['loss/total']:.3f}, {scalars['speed/images_per_second']:.0f} images/s, "
        f"MFU {scalars['speed/mfu_percent']:.1f}%, waiting for data {scalars['speed/data_wait_percent']:.1f}%"
    )


@contextlib.contextmanager
def _profiled(step: int, config: ConfigDict, workdir: Path) -> Iterator[None]:
    """Starts a profiler trace at config.profile_at and ends it profile_steps later."""
    if config.profile_at and step == config.profile_at:
        jax.profiler.start_trace(str(workdir / "profile"))
    yield
    if config.profile_at and step == config.profile_at + config.profile_steps - 1:
        jax.profiler.stop_trace()


class _StopFlag:
    """Set by SIGTERM or SIGINT; a second signal has its usual effect."""

    def __init__(self):
        self.requested = False
        self._previous = {}

    def __enter__(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            self._previous[number] = signal.signal(number, self._handle)

    def __exit__(self, *_):
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number, _frame):
        logger.warning("%s: saving after this step", signal.Signals(number).name)
        self.requested = True
        signal.signal(number, self._previous[number])
