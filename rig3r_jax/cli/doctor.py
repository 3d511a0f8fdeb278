"""`rig3r doctor`: whether everything that a run has saved can still be read."""

import argparse

from rig3r_jax.cli.command import Command, path


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("workdir", metavar="WORKDIR", type=path, help="folder of a run; it may be running")


def _doctor(options: argparse.Namespace) -> int:
    """Prints a line per checkpoint; 1 where one is damaged."""
    from rig3r_jax.training.checkpoint_report import examine

    findings = examine(options.workdir)
    for finding in findings:
        print(f"{finding.place}: {finding.text}")
    return int(any(finding.damaged for finding in findings))


COMMANDS = {
    "doctor": Command(
        "read every checkpoint of a run, and its copies, and compare checksums; exit code 1: one is damaged",
        _arguments,
        _doctor,
        extra="train",
    )
}
