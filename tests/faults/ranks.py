"""A small run of several processes, started by launch/local.py, and which of them is which."""

import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests import runs

GRACE = 5  # seconds that launch/local.py gives the others once a process has failed


def place(rank: int, coordinator: str) -> list[str]:
    """What tells a process which of two it is, where it is started without a launcher."""
    return [f"--coordinator={coordinator}", "--num-processes=2", f"--process-id={rank}"]


def free_coordinator() -> str:
    """An address that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def start(workdir: Path, records: Path, *more: str, processes: int = 2, devices: int = 1) -> subprocess.Popen:
    """A run of `processes` processes with `devices` each; one process is started without a launcher."""
    train = "--config.train"
    flags = (f"{train}.log_every=1", f"{train}.checkpoint_every=10", f"{train}.batch_size=4", *more)
    command: Sequence[str] = ["main.py", *runs.demo(workdir, records, *flags)]
    if processes > 1:
        launcher = ["launch/local.py", f"--processes={processes}", f"--grace={GRACE}"]
        command = [*launcher, f"--devices-per-process={devices}", "--", sys.executable, *command]
    return runs.start(*command, JAX_NUM_CPU_DEVICES=str(devices))


def pid_of(launcher: subprocess.Popen, rank: int) -> int:
    """The number of the process that the launcher started as this rank."""
    for parent, pid, words in _processes():
        if parent == launcher.pid and b"--process-id=%d" % rank in words:
            return pid
    raise AssertionError(f"no process {rank} of the launcher runs")


def _processes() -> Iterator[tuple[int, int, list[bytes]]]:
    """(parent, number, command line) of every process of this machine."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
            yield parent, int(folder.name), (folder / "cmdline").read_bytes().split(b"\0")
        except (OSError, IndexError):
            continue  # it has ended
