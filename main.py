"""Trains, evaluates and reports: python main.py --config=configs/demo.py [--workdir=W] [--config.a.b=value ...]"""

import argparse
import logging as stdlib_logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import logging
from ml_collections import ConfigDict

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow only writes the metrics here:
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # its start-up notes help nobody


def parse(arguments: Sequence[str]) -> tuple[ConfigDict, argparse.Namespace]:
    """Config and other flags of a command line; ValueError when they cannot be read."""
    from rig3r_jax.training.flags import read_config

    parser = argparse.ArgumentParser("main.py", description=__doc__, allow_abbrev=False)
    parser.add_argument("--workdir", help="folder of the run; runs/<config name> by default")
    parser.add_argument("--coordinator", default="", help="HOST:PORT of process 0; SLURM tells by itself")
    parser.add_argument("--num_processes", type=int, default=0, help="processes of the run")
    parser.add_argument("--process_id", type=int, default=-1, help="number of this one, from 0")
    options, rest = parser.parse_known_args(arguments[1:])
    return read_config(rest), options


def main(arguments: Sequence[str]) -> int:
    """Runs one config to its report; returns the exit code."""
    from rig3r_jax.cli.tasks import kind_of
    from rig3r_jax.training import loop, processes, xla
    from rig3r_jax.training.watchdog import COMPILING

    logging.use_absl_handler()
    logging.set_verbosity(logging.WARNING)  # of the libraries
    try:
        with loop.user_errors():
            config, options = parse(arguments)
            xla.use_flags()
            joined = processes.Processes(options.coordinator, options.num_processes, options.process_id)
            processes.join(joined, patience=config.train.watchdog_seconds * COMPILING)
        stdlib_logging.getLogger("rig3r_jax").setLevel("INFO" if processes.is_first() else "WARNING")
        with loop.prepare(config, Path(options.workdir or f"runs/{config.name}"), kind_of(config)) as prepared:
            return loop.run(prepared)
    except loop.UserError as error:
        if str(error):  # else another process says it
            print("main.py: " + str(error).replace("\n", "\n         "), file=sys.stderr)
        return 2


if __name__ == "__main__":
    from rig3r_jax.training.processes import run_to_end

    sys.exit(run_to_end(lambda: main(sys.argv)))
