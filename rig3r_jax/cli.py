"""`rig3r <command>`: one thin function per command."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow only writes the metrics here:
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # its start-up notes help nobody


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code, 2 for input that the user can mend."""
    parser = argparse.ArgumentParser(prog="rig3r", description="Rig3R in JAX: data, evaluation, reports.")
    commands = parser.add_subparsers(dest="command", required=True)

    build = commands.add_parser("build-data", help="turn a data set into records")
    build.add_argument("source", help="procedural or ddad")
    build.add_argument("--root", default="", help="folder of the raw data")
    build.add_argument("--out", required=True, help="folder of the records to make")
    build.add_argument("options", nargs="*", metavar="key=value", help="options of the source")
    build.set_defaults(function=_build_data)

    evaluate = commands.add_parser("evaluate", help="evaluate the newest checkpoint of a workdir and write its report")
    evaluate.add_argument("--workdir", required=True)
    evaluate.set_defaults(function=_evaluate)

    options = parser.parse_args(arguments)
    try:
        return options.function(options)
    except (ValueError, FileNotFoundError) as error:
        print(f"rig3r {options.command}: {error}", file=sys.stderr)
        return 2


def _build_data(options: argparse.Namespace) -> int:
    from rig3r_jax.data.builders import build_data

    print(build_data(options.source, options.root, options.out, options.options))
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    from rig3r_jax.training.report import evaluate_workdir

    evaluate_workdir(Path(options.workdir))
    return 0


if __name__ == "__main__":
    sys.exit(main())
