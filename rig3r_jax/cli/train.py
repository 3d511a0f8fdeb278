"""Commands that train."""

import argparse
import contextlib
import logging
import threading
from collections.abc import Iterator

from rig3r_jax.cli.command import Command, add_processes, path
from rig3r_jax.cli.errors import run_guarded
from rig3r_jax.training.config_file import check_whole
from rig3r_jax.training.flags import read_config


def _train_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workdir", type=path, help="folder of the run; by default runs/NAME of the config")
    add_processes(parser)


def _train(options: argparse.Namespace) -> int:
    """Runs one config to its report; exit codes: BUILD.md."""
    config = read_config(options.flags)
    check_whole(config)
    workdir = options.workdir or path(f"runs/{config.name}")
    from rig3r_jax.cli.tasks import kind_of
    from rig3r_jax.training import host, loop, processes, xla
    from rig3r_jax.training.watchdog import COMPILING

    quiet_libraries()

    def work() -> int:
        with loop.user_errors():
            kind = kind_of(config)
            host.keep_freed_memory()
            xla.use_flags(deterministic=config.deterministic)
            joined = processes.Processes(options.coordinator, options.num_processes, options.process_id)
            processes.join(joined, patience=config.train.watchdog_seconds * COMPILING)
        logging.getLogger("rig3r_jax").setLevel("INFO" if processes.is_first() else "WARNING")
        with quiet_event_threads(), loop.prepare(config, workdir, kind) as prepared:
            return loop.run(prepared)

    # Inside of run_to_end: of many processes one that fails must not wait for the others.
    return processes.run_to_end(lambda: run_guarded(options.program, work, (loop.UserError, OSError)))


def quiet_libraries() -> None:
    """Of the libraries that a training uses, warnings are printed; of the threads of orbax not even these."""
    from absl import flags
    from absl import logging as absl_logging

    flags.FLAGS.mark_as_parsed()  # absl's own, of which there are none: else its logging complains
    absl_logging.use_absl_handler()
    absl_logging.set_verbosity(absl_logging.WARNING)
    for logger in (absl_logging.get_absl_logger(), logging.getLogger("asyncio")):
        logger.addFilter(not_of_orbax_threads)


def not_of_orbax_threads(record: logging.LogRecord) -> bool:
    """A filter: drops what goes wrong in threads of orbax, a traceback for each thread and for each array that asyncio
    throws away; saving raises the first of it, too, which is then one line."""
    error = str(record.exc_info[1]) if record.exc_info else ""
    return not (error and ("orbax" in record.pathname or "in OCDBT database" in error))


@contextlib.contextmanager
def quiet_event_threads() -> Iterator[None]:
    """Inside, TensorBoard's thread that writes event files ends without a traceback: what it fails with is raised again
    with the next row of metrics, and is one line there."""
    usual = threading.excepthook
    threading.excepthook = lambda end: None if _writes_events(end.thread) else usual(end)
    try:
        yield
    finally:
        threading.excepthook = usual


def _writes_events(thread: threading.Thread | None) -> bool:
    return type(thread).__module__.startswith("tensorboard.")


def _calibrate_study_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("workdir", metavar="WORKDIR", type=path, help="holds everything; what is there is used again")
    parser.add_argument(
        "--backbone", type=path, help="workdir of a Rig3R, or a converted VGGT; by default one is trained first"
    )
    parser.add_argument("--seeds", metavar="N", type=int, default=5, help="of each arm; 5 by default")


def _calibrate_study(options: argparse.Namespace) -> int:
    flags = options.flags if options.config else ["--config=calibrate_study", *options.flags]
    config = read_config(flags)
    check_whole(config)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for name in ("jax", "orbax", "absl"):
        logging.getLogger(name).setLevel(logging.WARNING)
    from rig3r_jax.training import host
    from rig3r_jax.uncertainty.calibrate import calibrate_study

    host.keep_freed_memory()
    with quiet_event_threads():
        return calibrate_study(config, options.workdir, options.backbone, options.seeds)


COMMANDS = {
    "train": Command(
        "train a config, evaluate it and write its report; a workdir that was stopped is resumed",
        _train_arguments,
        _train,
        config="what to train: --config=demo",
        extra="train",
    ),
    "calibrate-study": Command(
        "train a small Rig3R, freeze it, and compare ways to learn its pose uncertainty",
        _calibrate_study_arguments,
        _calibrate_study,
        config="of the heads; calibrate_study by default",
        extra="train",
    ),
}
