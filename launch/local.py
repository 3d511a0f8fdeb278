"""Starts one run as several processes on this machine, each with devices of its own.

    python launch/local.py --processes 2 -- python main.py --config=configs/demo.py --config.mesh.data=2

Every process gets --coordinator, --num-processes and --process-id after its own arguments, and its share of the GPUs
by CUDA_VISIBLE_DEVICES; without GPUs, or under JAX_PLATFORMS=cpu, --devices-per-process simulated CPU devices. What a
process says is shown with its number in front. SIGINT, SIGTERM and SIGUSR1 go on to all.

Exit code: that of the first process to fail; else 75 where one was interrupted with its state saved; else 0. Once a
process fails the others have --grace seconds to end; the rest print their stacks and are ended, a stopped one too.
"""

import argparse
import contextlib
import dataclasses
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence

INTERRUPTED = 75  # the state is saved; no failure
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
STACKS_SECONDS = 5.0  # for a process to print its stacks before it is killed
# Of a SLURM job that this program may have been started in: each process would take itself for the same task of it.
OF_A_TASK = ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_STEP_NUM_TASKS")


@dataclasses.dataclass
class Rank:
    """A process and the thread that passes on what it says."""

    number: int
    process: subprocess.Popen
    reader: threading.Thread


def main(arguments: Sequence[str]) -> int:
    """Runs to the end of all processes; returns the exit code, 2 for a command line that cannot be."""
    parser = argparse.ArgumentParser(
        prog="local.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--processes", type=int, required=True, help="how many to start")
    parser.add_argument("--devices-per-process", type=int, default=1, help="GPUs or simulated CPUs; 1 by default")
    parser.add_argument(
        "--grace", type=float, default=30.0, help="seconds from a failure until the rest is ended; 30 by default"
    )
    parser.add_argument("command", nargs="+", help="what each process runs, after --")
    options = parser.parse_args(arguments)
    if min(options.processes, options.devices_per_process) < 1:
        parser.error("--processes and --devices-per-process must be at least 1")
    try:
        environments = device_environments(options.processes, options.devices_per_process, os.environ)
    except ValueError as error:
        parser.error(str(error))
    coordinator = f"127.0.0.1:{free_port()}"
    ranks: list[Rank] = []
    with forwarding(ranks):
        for number, environment in enumerate(environments):
            place = [f"--coordinator={coordinator}", f"--num-processes={options.processes}", f"--process-id={number}"]
            try:
                ranks.append(start(number, [*options.command, *place], environment))
            except OSError as error:
                print(f"local.py: {options.command[0]}: {error.strerror}", file=sys.stderr)
                end(ranks)
                return 2
        return wait(ranks, options.grace)


def device_environments(processes: int, per_process: int, environment: Mapping[str, str]) -> list[dict[str, str]]:
    """The environment of each process; ValueError where there are fewer GPUs than asked for."""
    base = {name: value for name, value in environment.items() if name not in OF_A_TASK}
    base |= {"PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1"}  # lines at once; stacks on SIGABRT
    gpus = visible_gpus(environment)
    if not gpus:
        return [base | {"JAX_NUM_CPU_DEVICES": str(per_process)}] * processes
    if len(gpus) < processes * per_process:
        raise ValueError(
            f"{processes} processes of {per_process} devices want {processes * per_process} GPUs, here are "
            f"{len(gpus)}; JAX_PLATFORMS=cpu simulates devices"
        )
    shares = [gpus[i * per_process : (i + 1) * per_process] for i in range(processes)]
    return [base | {"CUDA_VISIBLE_DEVICES": ",".join(share)} for share in shares]


def visible_gpus(environment: Mapping[str, str]) -> list[str]:
    """What CUDA_VISIBLE_DEVICES may name here; empty on a machine for CPU."""
    if environment.get("JAX_PLATFORMS", "cuda").split(",")[0] not in ("cuda", "gpu"):
        return []
    if "CUDA_VISIBLE_DEVICES" in environment:
        return [name for name in environment["CUDA_VISIBLE_DEVICES"].split(",") if name]
    try:
        listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return re.findall(r"^GPU (\d+):", listing.stdout, re.MULTILINE)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(number: int, command: Sequence[str], environment: Mapping[str, str]) -> Rank:
    """Starts one process, in a group of its own: the terminal's Ctrl-C reaches it through us alone, hence once."""
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        process_group=0,
    )
    reader = threading.Thread(target=pass_on, args=(number, process.stdout), daemon=True)
    reader.start()
    return Rank(number, process, reader)


def pass_on(number: int, stream) -> None:
    """Shows what a process says, whole lines at a time; a progress bar makes a line of each of its states."""
    rest = b""
    while piece := stream.read1(65536):
        *lines, rest = re.split(rb"[\r\n]+", rest + piece)
        show(number, lines)
    show(number, [rest])


def show(number: int, lines: Sequence[bytes]) -> None:
    """Prints lines with the number of their process in front, in one write."""
    if text := b"".join(b"[%d] %s\n" % (number, line) for line in lines if line):
        sys.stdout.buffer.write(text)
        sys.stdout.buffer.flush()


@contextlib.contextmanager
def forwarding(ranks: Sequence[Rank]):
    """Passes signals on to the processes that run."""

    def forward(signum, _frame):
        for rank in ranks:
            if rank.process.poll() is None:
                rank.process.send_signal(signum)

    previous = {signum: signal.signal(signum, forward) for signum in FORWARDED}
    try:
        yield
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)


def wait(ranks: Sequence[Rank], grace: float) -> int:
    """Waits for all processes, or for a failed one and `grace`; returns the exit code of the whole."""
    code, deadline, running = 0, float("inf"), list(ranks)
    while running and time.monotonic() < deadline:
        time.sleep(0.05)
        ended_now = [rank for rank in running if rank.process.poll() is not None]
        for rank in sorted(ended_now, key=lambda rank: rank.process.returncode >= 0):  # a killed one was the first
            running.remove(rank)
            ended = exit_code(rank.process)
            if ended not in (0, INTERRUPTED) and deadline == float("inf"):
                code, deadline = ended, time.monotonic() + grace
                if running:
                    print(
                        f"local.py: process {rank.number} ended with {ended}; the others have {grace:g} s", flush=True
                    )
            elif deadline == float("inf"):
                code = max(code, ended)
    if running:
        print(f"local.py: ending {', '.join(str(rank.number) for rank in running)}", flush=True)
    end(running)
    for rank in ranks:
        rank.reader.join(timeout=STACKS_SECONDS)  # a child that it left behind may hold the pipe open
    return code


def end(ranks: Sequence[Rank]) -> None:
    """Ends processes: each prints its stacks, which a stopped one can only do when it goes on, and is killed."""
    for rank in ranks:
        if rank.process.poll() is None:
            rank.process.send_signal(signal.SIGABRT)
            rank.process.send_signal(signal.SIGCONT)
    deadline = time.monotonic() + STACKS_SECONDS
    for rank in ranks:
        with contextlib.suppress(subprocess.TimeoutExpired):
            rank.process.wait(max(0.0, deadline - time.monotonic()))
        with contextlib.suppress(ProcessLookupError):
            os.killpg(rank.process.pid, signal.SIGKILL)  # the workers that it started, too
        rank.process.wait()


def exit_code(process: subprocess.Popen) -> int:
    """As a shell gives it: 128 and the signal for a process that was killed."""
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
