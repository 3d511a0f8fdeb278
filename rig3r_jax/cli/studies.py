"""Commands that train many small runs and compare them: ablations, and how errors fall with compute."""

import argparse
import functools
import logging
from collections.abc import Callable

from ml_collections import ConfigDict

from rig3r_jax.cli.command import Command, path, path_text
from rig3r_jax.cli.errors import run_guarded
from rig3r_jax.cli.train import quiet_event_threads, quiet_libraries
from rig3r_jax.evaluation.protocol import PROTOCOL_SETTINGS
from rig3r_jax.training.config_file import check_whole
from rig3r_jax.training.flags import read_config

_SETTINGS = ("none", "all")


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", metavar="FOLDER", type=path, required=True, help="a workdir per run; what is finished is used again"
    )
    parser.add_argument(
        "--on",
        metavar="PATH",
        nargs="+",
        type=path,
        default=[],
        help="protocols, or folders of records, to evaluate on; by default the config's own records, evaluation.sets",
    )
    parser.add_argument("--root", type=path_text, default="", help="folder of the raw data of the protocols of --on")
    parser.add_argument(
        "--settings",
        metavar="NAME",
        nargs="+",
        default=_SETTINGS,
        help=f"what runs are told of the rig: some of {', '.join(PROTOCOL_SETTINGS)} ({' '.join(_SETTINGS)})",
    )


def _ablate_arguments(parser: argparse.ArgumentParser) -> None:
    _arguments(parser)
    parser.add_argument(
        "--only", metavar="VARIANT", nargs="+", default=[], help="these variants beside the base; by default all"
    )


def _scaling_arguments(parser: argparse.ArgumentParser) -> None:
    _arguments(parser)
    parser.add_argument(
        "--predict",
        metavar="NAME|FILE",
        nargs="+",
        type=path_text,
        default=[],
        help="configs of which the law is asked: what they will reach, and what with ten times the compute",
    )


def _ablate(options: argparse.Namespace) -> int:
    def study(config: ConfigDict, **common) -> int:
        from rig3r_jax.studies.ablate import ablate

        return ablate(config, only=options.only, **common)

    return _run(options, study)


def _scaling(options: argparse.Namespace) -> int:
    predicted = {name: _rig3r_config([f"--config={name}"]) for name in options.predict}

    def study(config: ConfigDict, **common) -> int:
        from rig3r_jax.studies.scaling import scaling_study

        return scaling_study(config, predicted=predicted, **common)

    return _run(options, study)


def _rig3r_config(flags: list[str]) -> ConfigDict:
    """A whole config of the task rig3r; ValueError for any other."""
    config = read_config(flags)
    check_whole(config)
    if config.task != "rig3r":
        raise ValueError(f"{flags[0]} is of the task {config.task}; studies are of rig3r, such as --config=demo")
    return config


def _run(options: argparse.Namespace, study: Callable[..., int]) -> int:
    """Runs a study as `rig3r train` runs a config: in one process, with its exit codes."""
    config = _rig3r_config(options.flags)
    if unknown := [name for name in options.settings if name not in PROTOCOL_SETTINGS]:
        raise ValueError(f"--settings {' '.join(unknown)} are unknown; take some of {', '.join(PROTOCOL_SETTINGS)}")
    if options.root and not options.on:
        raise ValueError("--root is of the protocols that --on gives; give these, or leave it out")
    from rig3r_jax.cli.tasks import kind_of
    from rig3r_jax.training import host, loop, processes, xla

    if processes.slurm_tasks() > 1:
        raise ValueError("a study is one process; start it with srun --ntasks=1")
    quiet_libraries()
    logging.getLogger("rig3r_jax").setLevel("WARNING")  # of each run a line is printed
    host.keep_freed_memory()
    xla.use_flags(deterministic=config.deterministic)
    common = {"out": options.out, "on": options.on, "root": options.root, "settings": tuple(options.settings)}
    work = functools.partial(study, config, kind=kind_of(config), **common)
    with quiet_event_threads():
        return run_guarded(options.program, work, (ValueError, loop.UserError, OSError))


COMMANDS = {
    "ablate": Command(
        "train a config without one part at a time, and compare with paired intervals over worlds",
        _ablate_arguments,
        _ablate,
        config="whose variants: --config=ablations",
        extra="train",
    ),
    "scaling-study": Command(
        "train a grid of widths, worlds and image sizes; fit how errors fall with compute, and predict",
        _scaling_arguments,
        _scaling,
        config="around which: --config=scaling",
        extra="train",
    ),
}
