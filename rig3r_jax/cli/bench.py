"""Commands that measure speed and memory on this machine; tables and JSON."""

import argparse
import functools
import importlib

from rig3r_jax.benchmarks.arguments import KINDS, Kind
from rig3r_jax.cli.command import Command
from rig3r_jax.training.config_file import check_whole
from rig3r_jax.training.flags import read_config


def _bench(kind: Kind, options: argparse.Namespace) -> int:
    if options.flags:
        check_whole(read_config(options.flags))  # what is wrong with it is told before anything heavy is imported
    from rig3r_jax.training import host, processes, xla

    if processes.slurm_tasks() > 1:
        raise ValueError("a benchmark is one process; start it with srun --ntasks=1")
    host.keep_freed_memory()  # as in a run; for a peer too
    xla.use_flags()
    xla.keep_host_devices()
    return importlib.import_module(f"rig3r_jax.benchmarks.{kind.module}").command(options, options.flags)


COMMANDS = {
    f"bench {name}": Command(kind.help, kind.add_all, functools.partial(_bench, kind), kind.config, kind.extra)
    for name, kind in KINDS.items()
}
