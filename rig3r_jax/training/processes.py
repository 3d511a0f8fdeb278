"""Many processes as one run: how they find each other, agree, and let process 0 write.

Under SLURM every task of a job step is a process with one device; by hand each is told where process 0 listens. With
one process all of this does nothing.
"""

import dataclasses
import logging
import os
import sys
import traceback
import typing
from collections.abc import Callable, Mapping, Sequence

import jax
import numpy as np
from jax.experimental import multihost_utils

from rig3r_jax.training.messages import decode, encode

logger = logging.getLogger(__name__)

HEARTBEAT_SECONDS = 100  # at least, without a word from a process after which jax aborts the others (code 134)
SHUTDOWN_SECONDS = 3600  # that the others wait at the end for process 0, which draws the report

# What jax reads of a task of a job step; srun sets all of them.
_OF_A_TASK = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID")

_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")

T = typing.TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Processes:
    """Who takes part, where the environment does not tell: `coordinator` is HOST:PORT of process 0."""

    coordinator: str = ""
    num_processes: int = 0
    process_id: int = -1

    def problems(self) -> list[str]:
        """What is wrong with these values; none are needed at all."""
        if self == Processes():
            return []
        wrong = []
        if ":" not in self.coordinator:
            wrong.append(f"--coordinator is {self.coordinator!r}; it must be HOST:PORT of process 0")
        if self.num_processes < 1:
            wrong.append(f"--num-processes is {self.num_processes}; it must be at least 1")
        if not 0 <= self.process_id < max(self.num_processes, 1):
            wrong.append(f"--process-id is {self.process_id}; it must be in 0..num-processes - 1")
        return wrong


class ReportedElsewhere(ValueError):
    """A problem that another process, mostly the first, prints."""


def join(
    processes: Processes = Processes(), *, patience: float = 0.0, environment: Mapping[str, str] = os.environ
) -> None:
    """Joins the processes of this run; to be called before anything touches a device.

    Without `processes` the tasks of a SLURM job step are joined: one task per GPU, since jax gives every task the GPU
    of its SLURM_LOCALID. `patience`: seconds that a watchdog may wait; jax itself waits longer, so that the watchdog's
    stacks and its exit code come first.

    Raises:
        ValueError: for values that cannot be, naming all of them, or processes that do not find each other.
    """
    if problems := processes.problems():
        raise ValueError("; ".join(problems))
    heartbeat = max(HEARTBEAT_SECONDS, round(1.5 * patience))
    waits = {"heartbeat_timeout_seconds": heartbeat, "shutdown_timeout_seconds": SHUTDOWN_SECONDS}
    try:
        if processes != Processes():
            # Its own devices were given to each process by whoever started it.
            jax.distributed.initialize(**_arguments(processes), cluster_detection_method="deactivate", **waits)
        elif slurm_tasks(environment) > 1:
            jax.distributed.initialize(cluster_detection_method="slurm", **waits)
    except RuntimeError as error:
        raise ValueError(f"the processes of this run did not find each other: {error}") from error


def slurm_tasks(environment: Mapping[str, str] = os.environ) -> int:
    """Tasks of the SLURM job step that this process is one of; 1 where it is of none, as under salloc without srun.

    ValueError, naming the variables, where they tell of a step but not all that its tasks must know.
    """
    text = environment.get("SLURM_STEP_NUM_TASKS", "").strip() or "1"
    alone = "to run alone: unset SLURM_STEP_NUM_TASKS"
    if not text.isdecimal():
        raise ValueError(f"SLURM_STEP_NUM_TASKS is {text!r}, which is no number; {alone}")
    missing = [name for name in _OF_A_TASK if not environment.get(name, "").strip()]
    if int(text) <= 1 or not missing:
        return int(text)
    if "SLURM_PROCID" in missing:  # every task of a step has a number: these variables are another process's
        logger.warning("SLURM_STEP_NUM_TASKS=%s without %s: no step, one process", text, ", ".join(missing))
        return 1
    raise ValueError(
        f"this is task {environment['SLURM_PROCID']} of SLURM_STEP_NUM_TASKS={text}, but {', '.join(missing)} "
        f"{'is' if len(missing) == 1 else 'are'} not set: pass all SLURM_ variables on, into a container too; {alone}"
    )


def run_to_end(main: Callable[[], int]) -> int:
    """The exit code of `main`. Of many processes one that fails ends at once.

    jax's farewell at a usual exit waits for all processes, and those wait for this one in a collective: nobody would
    see that it has failed. Whoever started them (srun --kill-on-bad-exit, launch/local.py) ends the others.
    """
    try:
        code = main()
    except Exception:
        traceback.print_exc()
        code = 1
    if jax.distributed.is_initialized() and code not in (0, 75):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def is_first() -> bool:
    """Whether this is the process that writes files and speaks for the run."""
    return jax.process_index() == 0


def on_first(work: Callable[[], T], *, then_all: bool = False) -> T | None:
    """Does `work` on process 0 while the others wait; with `then_all` they do it after, finding what it made.

    What goes wrong on process 0 stops all: there as itself, elsewhere as ReportedElsewhere.
    """
    if jax.process_count() == 1:
        return work()
    result, problem = None, None
    if is_first():
        try:
            result = work()
        except Exception as error:
            problem = error
    first_problem = gather(f"{type(problem).__name__}: {problem}" if problem else "")[0]
    if problem:
        raise problem
    if first_problem:
        raise ReportedElsewhere(first_problem)
    return work() if then_all and not is_first() else result


def gather(value: T, kinds: Sequence[type] = ()) -> list[T]:
    """The values of all processes, in their order, on every process: what `messages.encode` takes, dataclasses among it
    of these kinds. No bytes of another process are ever run."""
    if jax.process_count() == 1:
        return [value]
    ours = np.frombuffer(encode(value), np.uint8)
    sizes = np.ravel(multihost_utils.process_allgather(np.array([ours.size], np.int64)))
    padded = np.zeros(int(sizes.max()), np.uint8)
    padded[: ours.size] = ours
    return [
        decode(row[:size].tobytes(), kinds)
        for row, size in zip(multihost_utils.process_allgather(padded), sizes, strict=True)
    ]


def stop_agreed(step: int) -> bool:
    """Whether all processes stop after this step, since one of them got SIGTERM; to be asked at every step by all.

    The step is the same on all: jax carries the notice around and names a step that none has reached yet.
    """
    return jax.process_count() > 1 and multihost_utils.reached_preemption_sync_point(step)


def _arguments(processes: Processes) -> dict[str, object]:
    """The arguments that jax.distributed takes. Processes of one machine are heard on its loopback address alone."""
    host = processes.coordinator.rpartition(":")[0]
    bind = {"coordinator_bind_address": processes.coordinator} if host in _LOOPBACK else {}
    return bind | {
        "coordinator_address": processes.coordinator,
        "num_processes": processes.num_processes,
        "process_id": processes.process_id,
    }
