"""What a command is, and the arguments that several share. Nothing heavy is imported before the flags are checked."""

import argparse
import dataclasses
import os
import re
import typing
from collections.abc import Callable
from pathlib import Path

from rig3r_jax.training.flags import config_names

OVERRIDES = """\
--config=NAME takes an installed config ({names}), --config=FILE any other: a Python file with get_config(). Every key
is a flag of its own, with its value after =: --config.train.steps=100 --config.model.variant=small
'--config.data.mixture[0].root=/data/ddad' (quoted because of the shell); --config.model.unroll and
--noconfig.model.unroll set a boolean; another name of a data set brings that source's default options. In rig3r_jax,
configs/base.py names and explains the keys, data/options.py those of sampling and windows, data/source.py the options
that all data sets have, data/sources those of each."""


@dataclasses.dataclass(frozen=True)
class Command:
    """One command; `run` returns the exit code.

    Args:
        help: a line for the list of commands.
        add_arguments: declares its arguments.
        run: takes them, and in `flags` the words --config... that were given.
        config: what --config is to it; "" for a command without one.
        extra: the extra of pyproject.toml that it cannot do without.
    """

    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]
    config: str = ""
    extra: str = ""


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are a ValueError, for one place to print."""

    def error(self, message: str) -> typing.NoReturn:
        """Raises it, with argparse's words for types as sentences."""
        message = re.sub("invalid int value: (.*)", r"\1 must be a whole number", message)
        message = re.sub("invalid float value: (.*)", r"\1 must be a number", message)
        raise ValueError(f"{message}; see {self.prog} --help")


def path(text: str) -> Path:
    """A path argument, ~ expanded; an empty one, of a variable of the shell that is not set, is no current folder."""
    if not text.strip():
        raise argparse.ArgumentTypeError("is empty; give a path, . for the current folder")
    return Path(path_text(text))


def path_text(text: str) -> str:
    """The same for an argument that may be empty, or is not always a path."""
    return os.path.expanduser(text)


def add_config(parser: argparse.ArgumentParser, config: str) -> None:
    """Declares --config; its overrides are no options of the parser, hence explained in words."""
    names = ", ".join(config_names())
    group = parser.add_argument_group("config", OVERRIDES.format(names=names))
    group.add_argument("--config", metavar="NAME|FILE", help=config)


def add_processes(parser: argparse.ArgumentParser) -> None:
    """Declares how the processes of one run find each other."""
    tellers = "SLURM tells all of this by itself; in a clone launch/local.py gives it."
    group = parser.add_argument_group("many processes", tellers)
    group.add_argument("--coordinator", metavar="HOST:PORT", default="", help="where process 0 listens")
    group.add_argument("--num-processes", metavar="N", type=int, default=0, help="processes of the run")
    group.add_argument("--process-id", metavar="N", type=int, default=-1, help="number of this one, from 0")


def no_arguments(parser: argparse.ArgumentParser) -> None:
    """For a command without any."""
