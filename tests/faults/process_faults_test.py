"""Processes that are killed or stopped: the others end in a set time, with stacks; started again, the run goes on."""

import json
import os
import re
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest

from rig3r_jax.data.build import Share, build_records
from rig3r_jax.training.agreement import differences
from tests import runs
from tests.conftest import REPO
from tests.data.logged_source import Logged
from tests.faults import ranks
from tests.faults.faults import fault

pytestmark = pytest.mark.slow


def signalled(workdir: Path, records: Path, rank: int, number: int, *more: str) -> tuple[int, str, float]:
    """Exit code, output and seconds until the end of a run of two processes, one of which gets a signal at step 12."""
    flags = ("--config.mesh.data=2", "--config.train.steps=100000", "--config.train.checkpoint_every=5", *more)
    process = ranks.start(workdir, records, *flags)
    runs.wait_for_step(workdir, 12, process)
    os.kill(ranks.pid_of(process, rank), number)
    begun = time.monotonic()
    output, _ = process.communicate(timeout=runs.SECONDS)
    return process.returncode, output, time.monotonic() - begun


@fault(
    14,
    what="Of two processes the second is killed (SIGKILL).",
    seen="`process 1 ended with 137; the others have 5 s`, then the error or the stacks of the first; code 137. Under "
    "SLURM srun ends the others and the job fails with 137, unless its node failed, for which SLURM starts it again.",
    kept="The last checkpoint, from which the same command goes on.",
)
def test_another_rank_than_the_first_is_killed(records, tmp_path):
    """Fault 14: rank 1 of two is killed."""
    code, output, seconds = signalled(tmp_path, records, 1, signal.SIGKILL)
    assert code == 137 and seconds < ranks.GRACE + 25, output[-3000:]
    assert f"process 1 ended with 137; the others have {ranks.GRACE} s" in output
    assert "Connection reset by peer" in output or "(most recent call first)" in output  # GPUs wait, and are ended
    assert json.loads(runs.Saved.of(tmp_path).position)["next_sample"] >= 4 * 5


@pytest.mark.fault_slow
@fault(
    15,
    what="Of two processes the first is killed (SIGKILL), which writes the files and through which the others meet.",
    seen="`process 0 ended with 137; the others have 5 s`; exit code 137, in SLURM as for any other process.",
    kept="The last checkpoint.",
)
def test_the_first_rank_is_killed(records, tmp_path):
    """Fault 15: rank 0 of two is killed."""
    code, output, seconds = signalled(tmp_path, records, 0, signal.SIGKILL)
    assert code == 137 and seconds < ranks.GRACE + 25, output[-3000:]
    assert f"process 0 ended with 137; the others have {ranks.GRACE} s" in output
    assert json.loads(runs.Saved.of(tmp_path).position)["next_sample"] >= 4 * 5


@fault(
    16,
    what="Of two processes one is stopped (SIGSTOP), as by a debugger or a host that swaps.",
    seen="After `train.watchdog_seconds`: `process 0 of 2 made no progress for 40 s, while running step N; the "
    "stacks:`; exit code 76, with which launch/job.sh asks for a restart.",
    kept="The last checkpoint.",
)
def test_a_stopped_process_ends_the_run_with_stacks(records, tmp_path):
    """Fault 16: rank 1 of two is stopped."""
    code, output, seconds = signalled(tmp_path, records, 1, signal.SIGSTOP, "--config.train.watchdog_seconds=40")
    assert code == 76 and seconds < 40 + ranks.GRACE + 30
    assert "[0] watchdog: process 0 of 2 made no progress for" in output, output[-6000:]
    assert ", while running step" in output
    assert output.count("(most recent call first)") >= 3 and "in train" in output  # stacks of several threads
    assert json.loads(runs.Saved.of(tmp_path).position)


@fault(
    17,
    what="Of two processes that build records one is killed, as by a system without memory. What loads samples for "
    "training are threads, which end with the run alone.",
    seen="`one of 2 workers was killed or could not start, mostly for want of memory; the same command goes on`.",
    kept="The scenes that were built; the same command makes the records that it would have made at once.",
)
def test_a_killed_worker_costs_the_scene_that_it_was_at(tmp_path):
    """Fault 17: a worker of a build is killed."""
    source, out = Logged(str(tmp_path), train=40, val=3), tmp_path / "out"
    (tmp_path / "slow").touch()

    def kill_a_worker() -> None:
        deadline = time.monotonic() + 120
        while len(source.log()) < 6 and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(int(source.log()[-1].split()[1]), signal.SIGKILL)

    killer = threading.Thread(target=kill_a_worker)
    killer.start()
    with pytest.raises(ValueError, match="one of 2 workers was killed.*; the same command goes on from here"):
        build_records("logged", source, out, progress=False, share=Share(workers=2))
    killer.join()
    (tmp_path / "slow").unlink()
    begun = len(source.loads())
    assert not out.exists() and 6 <= begun < 43
    build_records("logged", source, out, progress=False)
    build_records("logged", source, tmp_path / "at_once", progress=False)
    assert 43 - begun <= len(source.loads()[begun:-43]) <= 43 - begun + 2  # those under way are done again
    contents = [
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (out, tmp_path / "at_once")
    ]
    assert contents[0] == contents[1]


@fault(
    38,
    what="Of two processes one is started with another config, and of a package in which one line is another.",
    seen="`the processes of this run differ: train.steps is 31 on process 1, 30 on process 0; digest of the package is "
    "...`; exit code 2, before anything is built or opened.",
    kept="Nothing was begun.",
)
def test_processes_that_differ_are_refused(records, tmp_path):
    """Fault 38: a process has another config and another program."""
    package = tmp_path / "other"
    shutil.copytree(REPO / "rig3r_jax", package / "rig3r_jax", ignore=shutil.ignore_patterns("__pycache__"))
    with open(package / "rig3r_jax/losses/mean.py", "a") as file:
        file.write("\n# another line\n")
    coordinator, processes = ranks.free_coordinator(), []
    for number, folder in enumerate((REPO, package)):
        train = f"import sys; sys.path.insert(0, {str(folder)!r}); from rig3r_jax import cli; sys.exit(cli.main())"
        flags = runs.demo(tmp_path / "run", records, f"--config.train.steps={30 + number}", "--config.mesh.data=2")
        command = ("-c", train, "train", *flags, *ranks.place(number, coordinator))
        processes.append(runs.start(*command, JAX_NUM_CPU_DEVICES="1"))
    outputs = [runs.finish(process, 2) for process in processes]
    assert "the processes of this run differ: train.steps is 31 on process 1, 30 on process 0" in outputs[0]
    assert "digest of the package is" in outputs[0] and "Traceback" not in "".join(outputs)
    assert not (tmp_path / "run").exists()


def test_other_records_are_named():
    """Only one process sees the second folder, and of the first they see other files."""
    everybody = [{"a/build.json": "1", "b/build.json": "2"}, {"a/build.json": "3"}]
    assert differences(everybody) == [
        "a/build.json is '3' on process 1, '1' on process 0",
        "b/build.json is None on process 1, '2' on process 0",
    ]


@pytest.mark.fault_slow
@fault(
    39,
    what="Of two processes one gets a tenth of its processor (stopped and continued all the time); its clock is a day "
    "ahead.",
    seen="`step N: process 1 on HOST computes 9 times slower than the quickest; all wait for it`, at every row.",
    kept="All: the run goes on to its end, at the pace of the slow one.",
)
def test_a_slow_process_is_named_and_the_run_goes_on(records, tmp_path):
    """Fault 39: rank 1 is ten times slower, and lives tomorrow."""
    tomorrow = "import runpy, sys, time; now = time.time; time.time = lambda: now() + 86400; sys.argv = sys.argv[1:]; "
    program = ["-c", tomorrow + "runpy.run_path('main.py', run_name='__main__')", "main.py"]
    coordinator, over = ranks.free_coordinator(), threading.Event()
    flags = [f"--config.train.{flag}" for flag in ("steps=14", "log_every=1", "batch_size=4", "watchdog_seconds=60")]
    first, second = (
        runs.start(*start, *runs.demo(tmp_path, records, *flags, "--config.mesh.data=2"),
                   *ranks.place(number, coordinator), JAX_NUM_CPU_DEVICES="1")
        for number, start in enumerate((["main.py"], program))
    )  # fmt: skip

    def slow_down() -> None:
        while not over.wait(0.02):
            os.kill(second.pid, signal.SIGSTOP)
            over.wait(0.18)
            os.kill(second.pid, signal.SIGCONT)

    runs.wait_for_step(tmp_path, 4, first)
    slower = threading.Thread(target=slow_down)
    slower.start()
    try:
        output = runs.finish(first)
    finally:
        over.set()
        slower.join()
    runs.finish(second)
    assert re.search(r"step \d+: process 1 on \S+ computes \d+ times slower than the quickest; all wait for it", output)
    assert runs.last_step(tmp_path) == 14
