"""`rig3r replay`: whether the steps of a run give the same bits when they are repeated."""

import argparse

from rig3r_jax.cli.command import Command, add_processes, path
from rig3r_jax.cli.errors import run_guarded


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("workdir", metavar="WORKDIR", type=path, help="folder of a run; it may be running")
    parser.add_argument("--step", metavar="N", type=int, required=True, help="last step to repeat; one that was logged")
    add_processes(parser)


def _replay(options: argparse.Namespace) -> int:
    """Prints one line; 1 where something came out otherwise."""
    from rig3r_jax.training.config import workdir_config

    config = workdir_config(options.workdir)
    from rig3r_jax.cli.tasks import kind_of
    from rig3r_jax.training import host, loop, processes, xla
    from rig3r_jax.training.replay import replay

    def work() -> int:
        with loop.user_errors():
            host.keep_freed_memory()
            xla.use_flags(deterministic=config.deterministic)
            processes.join(processes.Processes(options.coordinator, options.num_processes, options.process_id))
            replayed = replay(options.workdir, kind_of(config), options.step)
        if processes.is_first():
            steps = f"steps {replayed.first + 1} to {replayed.last}"
            print(replayed.difference or f"{steps}: the same bits in {replayed.values} values of metrics.jsonl")
        return int(bool(replayed.difference))

    return processes.run_to_end(lambda: run_guarded(options.program, work))


COMMANDS = {
    "replay": Command(
        "repeat the steps of a run from a checkpoint and compare every bit that it logged; exit code 1: one differs",
        _arguments,
        _replay,
        extra="train",
    )
}
