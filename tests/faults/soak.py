"""`python -m tests.faults.soak --steps 10000 --minutes 30`: a small run that is disturbed at random until the time is
over, then goes on to its end, and must have ended as one that was never disturbed.

Each start is killed (SIGKILL) or asked to stop (SIGTERM) at a random moment, and before that perhaps stopped for a
while (SIGSTOP), or its files may not grow (a full disk or quota). With --processes 2 each start has one or two
processes, at random. Prints what was done, and exit code 1 with the first rule that was broken: parameters, moments and
counters have the bits of the undisturbed run (with two processes: its numbers within 2%), every row of metrics.jsonl is
there once, every start ends with a code that it may end with.
"""

import argparse
import collections
import contextlib
import dataclasses
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from rig3r_jax.training.metrics import read_metrics
from tests import runs
from tests.faults import ranks

LASTS = 0.3, 2.0  # seconds of what passes
LONGEST = 7200.0  # seconds of one start
FULL_BYTES = 50_000  # that a file may have while the disk is full
ENDS = {"SIGKILL": (-signal.SIGKILL, 137), "SIGTERM": (75, -signal.SIGTERM, 143)}  # SIGTERM ahead of the first step
PASSES = ("SIGSTOP", "full disk", "")


@dataclasses.dataclass
class Plan:
    """What befalls one start: something that passes ("": nothing), then its end; "" for both: it runs on."""

    passes: str = ""
    end: str = ""
    after: int = 1  # steps that it takes before


@dataclasses.dataclass
class Soak:
    """One run that is disturbed; `done` counts what was."""

    start: Callable[[], tuple[subprocess.Popen, int]]  # -> the process, and how many it is
    workdir: Path
    draw: random.Random
    done: collections.Counter = dataclasses.field(default_factory=collections.Counter)

    def go_on(self, plan: Plan) -> bool:
        """Starts the run again, does to it what is planned, and waits for it; whether it came to its end."""
        before = runs.last_step(self.workdir)
        process, count = self.start()
        self.done["starts"] += 1
        while runs.last_step(self.workdir) in range(before + plan.after) and process.poll() is None:
            time.sleep(0.01)
        time.sleep(self.draw.uniform(0, 0.3))
        with contextlib.suppress(ProcessLookupError, AssertionError):  # it has come to its end
            pid = process.pid if count == 1 else ranks.pid_of(process, self.draw.randrange(count))
            self._disturb(pid, plan)
        output, _ = process.communicate(timeout=LONGEST)
        codes = (0, *ENDS.get(plan.end, ()))
        assert process.returncode in codes, f"ended with {process.returncode} after {plan}:\n{output[-3000:]}"
        return process.returncode == 0

    def _disturb(self, pid: int, plan: Plan) -> None:
        seconds = self.draw.uniform(*LASTS)
        if plan.passes == "SIGSTOP":
            os.kill(pid, signal.SIGSTOP)
            time.sleep(seconds)
            os.kill(pid, signal.SIGCONT)
        elif plan.passes == "full disk":
            _, hard = usual = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (FULL_BYTES, hard))
            time.sleep(seconds)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, usual)
        if plan.end:
            os.kill(pid, getattr(signal, plan.end))
        self.done.update(filter(None, (plan.passes, plan.end)))


def soak(
    folder: Path, records: Path, steps: int, plans: Iterable[Plan], seed: int, processes: int = 1, **variables: str
) -> str:
    """Does what is planned to a run, lets it end, and compares it with one that was left alone; says what was done.

    `variables` are of the environment of all starts.

    Raises:
        AssertionError: a rule was broken; names it.
    """
    draw = random.Random(seed)

    def flags(workdir: Path, count: int) -> list[str]:
        train = {"steps": steps, "checkpoint_every": max(7, steps // 250), "log_every": 1, "batch_size": 2}
        more = [f"--config.train.{key}={value}" for key, value in train.items()]
        return runs.demo(workdir, records, *more, f"--config.mesh.data={count}")

    def start(workdir: Path, count: int) -> tuple[subprocess.Popen, int]:
        launcher = ["launch/local.py", f"--processes={count}", f"--grace={ranks.GRACE}", "--", sys.executable]
        command = [*(launcher if count > 1 else []), "main.py", *flags(workdir, count)]
        return runs.start(*command, **variables, JAX_NUM_CPU_DEVICES="1"), count

    runs.finish(start(folder / "left_alone", 1)[0], seconds=LONGEST)
    run = Soak(lambda: start(folder / "disturbed", draw.randint(1, processes)), folder / "disturbed", draw)
    for plan in plans:
        if run.go_on(plan):
            break
    else:
        assert run.go_on(Plan()), "the last start did not come to its end"
    compare(folder / "disturbed", folder / "left_alone", steps, exact=processes == 1)
    goodput = read_metrics(folder / "disturbed" / "metrics.jsonl")[-1]["goodput/percent"]
    return ", ".join(f"{name} {number}" for name, number in run.done.items()) + f", goodput {goodput:.1f}%"


def compare(workdir: Path, expected_workdir: Path, steps: int, *, exact: bool) -> None:
    """Asserts that two runs ended alike, and that their rows are whole."""
    rows, expected = (read_metrics(folder / "metrics.jsonl") for folder in (workdir, expected_workdir))
    assert [row["step"] for row in rows] == [row["step"] for row in expected] == [*range(1, steps + 1)]
    if exact:
        runs.assert_ends_alike(workdir, expected_workdir)
        for name in ("loss/total", "train/gradient_norm", "check/parameters"):
            assert [row[name] for row in rows] == [row[name] for row in expected], name
        return
    saved, left_alone = runs.Saved.of(workdir), runs.Saved.of(expected_workdir)
    assert saved.step == left_alone.step == steps and saved.position == left_alone.position
    losses = [np.mean([row["loss/total"] for row in of_run[-20:]]) for of_run in (rows, expected)]
    np.testing.assert_allclose(*losses, rtol=2e-2)


def random_plans(draw: random.Random, steps: int, minutes: float) -> Iterator[Plan]:
    """Plans for so many minutes from the first one on."""
    end = time.monotonic() + 60 * minutes
    while time.monotonic() < end:
        yield Plan(draw.choice(PASSES), draw.choice([*ENDS]), draw.randint(1, max(1, steps // 20)))


def main() -> int:
    """Soaks; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.soak", description=__doc__)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--minutes", type=float, default=30.0, help="in which the run is disturbed")
    parser.add_argument("--processes", type=int, default=1, choices=(1, 2), help="at most, of a start")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**32)
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="rig3r-soak-") as name:
        folder = Path(name)
        plans = random_plans(random.Random(options.seed + 1), options.steps, options.minutes)
        try:
            how = (folder / "records", options.steps, plans, options.seed, options.processes)
            done = soak(folder, *how, **runs.AS_SHIPPED)
        except AssertionError as error:
            print(f"broken: {error}")
            return 1
    print(f"{options.steps} steps; {done}: ended as the run that was left alone")
    return 0


if __name__ == "__main__":
    sys.exit(main())
