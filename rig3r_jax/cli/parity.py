"""Commands that compare our numbers with PyTorch's."""

import argparse

from rig3r_jax.benchmarks.arguments import at_least
from rig3r_jax.cli.command import Command, path
from rig3r_jax.training.config_file import check_whole
from rig3r_jax.training.flags import read_config

PRECISIONS = ("float64", "float32", "tf32", "bfloat16")


def _twin_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--precision",
        nargs="+",
        choices=PRECISIONS,
        default=("float64", "float32"),
        help="float64 and float32 by default",
    )
    parser.add_argument("--steps", type=at_least(0), default=20, help="AdamW steps; 0 leaves training out")
    parser.add_argument("--batch", type=at_least(1), default=2, help="samples of the random batch")
    parser.add_argument("--views", type=at_least(1), help="images per sample; by default the config's")
    parser.add_argument("--size", type=at_least(1), help="pixels of an image's side; by default the config's")
    parser.add_argument("--seed", type=at_least(0), default=0, help="of weights and batch")
    parser.add_argument(
        "--corrupt", metavar="NAME", help="change this parameter of the twin by 1%%: the check must fail"
    )
    parser.add_argument("--all", action="store_true", help="one line per parameter")


def _twin(options: argparse.Namespace) -> int:
    config = read_config(options.flags)
    check_whole(config)
    from rig3r_jax.parity.twin import twin_command

    return twin_command(config, options)


def _dump_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="FOLDER", type=path, help="holds the arrays, a sub-folder per subject")
    parser.add_argument("--only", help="the one sub-folder to compare")
    parser.add_argument("--tolerance", type=float, help="largest relative error; by default by the array's type")


def _dump(options: argparse.Namespace) -> int:
    from rig3r_jax.parity.dump.driver import dump_command

    return dump_command(options.folder, options.only, options.tolerance)


def _attention_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quick", action="store_true", help="the first shape in bfloat16 and float32 alone")


def _attention(options: argparse.Namespace) -> int:
    from rig3r_jax.parity.attention import attention_command

    return attention_command(quick=options.quick)


COMMANDS = {
    "parity twin": Command(
        "train Rig3R and its PyTorch twin side by side, and compare",
        _twin_arguments,
        _twin,
        config="the model: --config=demo",
        extra="torch",
    ),
    "parity dump": Command("compare with a folder of arrays that somebody else's code wrote", _dump_arguments, _dump),
    "parity attention": Command(
        "compare every attention of this device with float64", _attention_arguments, _attention
    ),
}
