"""A SLURM of one's own on this machine: several fake nodes with fake GPUs, its own key, sockets, ports and folder.

Nothing of the machine's own SLURM or munge is read or changed. Needs the programs of Debian's slurm-wlm and munge;
daemons run as the user who starts them.
"""

import contextlib
import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

NODES, GPUS = 12, 8
SEARCH_PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"
DAEMONS = ("munged", "slurmctld", "slurmd")

CONFIG = """\
ClusterName=private
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
SlurmctldPort={controller_port}
# A job that was requeued waits for as long as the credentials of its last run hold: 120 s by default.
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_interval=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
KillWait=30
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmdParameters=config_overrides
GresTypes=gpu
{nodes}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


class PrivateSlurm:
    """Commands to a running one: `with private_slurm(folder) as slurm: slurm.run("sinfo")`."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.environment = {**os.environ, "PATH": SEARCH_PATH, "SLURM_CONF": str(folder / "slurm.conf")}
        for name in [name for name in self.environment if name.startswith("SLURM_") and name != "SLURM_CONF"]:
            del self.environment[name]  # of a job that the tests themselves run in
        self._daemons: list[subprocess.Popen] = []

    def run(self, *command: str, environment: Mapping[str, str] | None = None) -> str:
        """What a SLURM command prints."""
        told = {**self.environment, **(environment or {})}
        done = subprocess.run(command, env=told, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def submit(self, *command: str, environment: Mapping[str, str] | None = None) -> int:
        """The number of the job that `sbatch command` makes."""
        return int(self.run("sbatch", "--parsable", *command, environment=environment))

    def job(self, number: int) -> dict[str, str]:
        """What `scontrol show job` says: JobState, Restarts, ExitCode, Reason ..."""
        words = self.run("scontrol", "show", "job", str(number)).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def wait(self, number: int, states: str = "COMPLETED FAILED CANCELLED TIMEOUT") -> dict[str, str]:
        """The job, once it is in one of these states."""
        self.until(lambda: self.job(number)["JobState"] in states.split(), f"job {number} to be {states}")
        return self.job(number)

    def until(self, condition: Callable[[], bool], what: str, seconds: float = 600) -> None:
        """Waits for a condition that jobs bring about."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"waited {seconds} s for {what}\n{self.run('squeue')}"
            time.sleep(0.2)

    def start(self) -> None:
        """Writes the configuration and starts the daemons; returns when all nodes are there."""
        ports = free_ports(NODES + 1)
        self._write_config(ports)
        names = ("socket", "key-file", "pid-file", "log-file", "seed-file")
        files = ("munge.socket", "munge.key", "munge.pid", "munge.log", "munge.seed")
        options = [f"--{name}={self.folder / file}" for name, file in zip(names, files, strict=True)]
        self._start("munged", "--foreground", "--force", *options)
        self._until(lambda: (self.folder / "munge.socket").exists(), "munged")
        self._start("slurmctld", "-D")
        for node in range(1, NODES + 1):
            self._start("slurmd", "-D", "-N", f"n{node}")
        self._until(lambda: self._idle_nodes() == NODES, "the nodes")

    def stop(self) -> None:
        """Ends jobs and daemons, and whatever they left running."""
        with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):
            self.run("scancel", "--state=PENDING", "--user", getpass.getuser())
        for daemon in reversed(self._daemons):
            daemon.terminate()
        deadline = time.monotonic() + 10
        for daemon in self._daemons:
            try:
                daemon.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        while left := self._left_running():
            for process in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            time.sleep(0.05)

    def _write_config(self, ports: list[int]) -> None:
        host = socket.gethostname().split(".")[0]
        (self.folder / "munge.key").write_bytes(secrets.token_bytes(128))
        (self.folder / "munge.key").chmod(0o600)
        for gpu in range(GPUS):
            (self.folder / f"gpu{gpu}").touch()
        (self.folder / "state").mkdir()
        (self.folder / "spool").mkdir()
        (self.folder / "gres.conf").write_text(
            f"NodeName=n[1-{NODES}] Name=gpu Type=h100 File={self.folder}/gpu[0-{GPUS - 1}]\n"
        )
        nodes = "\n".join(
            f"NodeName=n{number} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=16 RealMemory=64000 "
            f"Gres=gpu:h100:{GPUS} State=UNKNOWN"
            for number, port in enumerate(ports[1:], 1)
        )
        (self.folder / "slurm.conf").write_text(
            CONFIG.format(host=host, user=getpass.getuser(), folder=self.folder, controller_port=ports[0], nodes=nodes)
        )

    def _start(self, program: str, *arguments: str) -> None:
        path = shutil.which(program, path=SEARCH_PATH)
        with (self.folder / f"{program}.out").open("ab") as output:
            self._daemons.append(
                subprocess.Popen(
                    [path, *arguments], env=self.environment, cwd=self.folder, stdout=output, stderr=output
                )
            )

    def _until(self, condition, what: str) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            dead = [daemon.args for daemon in self._daemons if daemon.poll() is not None]
            if dead or time.monotonic() > deadline:
                words = "".join(path.read_text()[-2000:] for path in sorted(self.folder.glob("*.out")))
                raise AssertionError(f"SLURM does not start: waiting for {what}; ended: {dead}\n{words}")
            time.sleep(0.1)

    def _idle_nodes(self) -> int:
        states = subprocess.run(
            ["sinfo", "--noheader", "--Node", "--format=%t"], env=self.environment, capture_output=True, text=True
        )
        return states.stdout.split().count("idle")

    def _left_running(self) -> list[int]:
        """Processes that know this configuration: steps and ranks whose daemon is gone."""
        mark, found = f"SLURM_CONF={self.folder}/slurm.conf".encode(), []
        for path in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if mark in path.read_bytes().split(b"\0"):
                    found.append(int(path.parent.name))
        return found


@contextlib.contextmanager
def private_slurm(folder: Path) -> Iterator[PrivateSlurm]:
    """A running SLURM in an empty folder; everything of it has ended afterwards."""
    missing = [program for program in DAEMONS if not shutil.which(program, path=SEARCH_PATH)]
    assert not missing, f"{', '.join(missing)} not found: apt-get install slurm-wlm munge"
    slurm = PrivateSlurm(folder)
    try:
        slurm.start()
        yield slurm
    finally:
        slurm.stop()


def free_ports(count: int) -> list[int]:
    """Different ports that nobody listens on now."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
