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
_COORDINATOR = flags.DEFINE_string("coordinator", "", "HOST:PORT of process 0; SLURM tells by itself.")
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", 0, "Processes of the run.")
_PROCESS_ID = flags.DEFINE_integer("process_id", -1, "Number of this one, from 0.")


def parse(arguments: Sequence[str]) -> tuple[ConfigDict, Path]:
    """Config and workdir of a command line; ValueError when they cannot be read."""
    from rig3r_jax.training.flags import read_config

    if {"--help", "-h"} & set(arguments[1:]):
        print(f"{__doc__}\nconfigs/base.py names and explains every key; BUILD.md has examples.")
        raise SystemExit(0)
    config = read_config(arguments[1:], flags.FLAGS)
    return config, Path(_WORKDIR.value or f"runs/{config.name}")


def main(arguments: Sequence[str]) -> int:
    """Runs one config to its report; returns the exit code."""
    from rig3r_jax.cli.tasks import kind_of
    from rig3r_jax.training import loop, processes, xla
    from rig3r_jax.training.watchdog import COMPILING

    logging.use_absl_handler()
    logging.set_verbosity(logging.WARNING)  # of the libraries
    try:
        with loop.user_errors():
            config, workdir = parse(arguments)
            xla.use_flags()
            told = processes.Processes(_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
            processes.join(told, patience=config.train.watchdog_seconds * COMPILING)
        stdlib_logging.getLogger("rig3r_jax").setLevel("INFO" if processes.is_first() else "WARNING")
        with loop.prepare(config, workdir, kind_of(config)) as prepared:
            return loop.run(prepared)
    except loop.UserError as error:
        if str(error):  # else another process says it
            print("main.py: " + str(error).replace("\n", "\n         "), file=sys.stderr)
        return 2


if __name__ == "__main__":
    from rig3r_jax.training.processes import run_to_end

    sys.exit(run_to_end(lambda: main(sys.argv)))
