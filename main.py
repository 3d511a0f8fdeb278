"""Trains, evaluates and reports: python main.py --config=configs/demo.py [--workdir=W] [--config.a.b=value ...]"""

import logging as stdlib_logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags, logging
from ml_collections import ConfigDict

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow only writes the metrics here:
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # its start-up notes help nobody

_WORKDIR = flags.DEFINE_string("workdir", "", "Folder of the run; runs/<config name> by default.")


def parse(arguments: Sequence[str]) -> tuple[ConfigDict, Path]:
    """Config and workdir of a command line; exits with code 2 and a short message when they cannot be read."""
    from rig3r_jax.training.flags import read_config

    if {"--help", "-h"} & set(arguments[1:]):
        print(f"{__doc__}\nconfigs/base.py names and explains every key; BUILD.md has examples.")
        raise SystemExit(0)
    try:
        config = read_config(arguments[1:], flags.FLAGS)
    except ValueError as error:
        print("main.py: " + str(error).replace("\n", "\n         "), file=sys.stderr)
        raise SystemExit(2) from None
    return config, Path(_WORKDIR.value or f"runs/{config.name}")


def main(arguments: Sequence[str]) -> int:
    """Runs one config to its report; returns the exit code."""
    config, workdir = parse(arguments)
    logging.use_absl_handler()
    logging.set_verbosity(logging.WARNING)  # of the libraries
    stdlib_logging.getLogger("rig3r_jax").setLevel(stdlib_logging.INFO)

    from rig3r_jax.training import loop

    try:
        with loop.prepare(config, workdir) as prepared:
            return loop.run(prepared)
    except loop.UserError as error:
        print(f"main.py: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv))
