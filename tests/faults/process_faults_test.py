"""Processes that are killed or stopped: the others end in a set time, with stacks; started again, the run goes on."""

import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from rig3r_jax.data.build import Share, build_records
from rig3r_jax.training.metrics import read_metrics
from tests import runs
from tests.data.logged_source import Logged
from tests.faults import ranks
from tests.faults.faults import fault

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def records(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("records")


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
    seen="`process 1 ended with 137; the others have 5 s`, then the stacks of the first; exit code 137. Under SLURM "
    "srun ends the others and the job fails with 137, unless its node failed, for which SLURM starts it again.",
    kept="The last checkpoint, from which the same command goes on.",
)
def test_another_rank_than_the_first_is_killed(records, tmp_path):
    """Fault 14: rank 1 of two is killed."""
    code, output, seconds = signalled(tmp_path, records, 1, signal.SIGKILL)
    assert code == 137 and seconds < ranks.GRACE + 25, output[-3000:]
    assert f"process 1 ended with 137; the others have {ranks.GRACE} s" in output
    assert "[0] " in output and "(most recent call first)" in output
    saved = runs.saved_steps(tmp_path)[-1]
    flags = ("--config.mesh.data=2", f"--config.train.steps={saved + 3}")
    assert f"resumed at step {saved}" in runs.finish(ranks.start(tmp_path, records, *flags))
    rows = [row["step"] for row in read_metrics(tmp_path / "metrics.jsonl")]
    assert rows == [*range(1, saved + 3 + 1)]


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
    seen="After `train.watchdog_seconds`: `process 0 of 2 made no progress for 20 s, while running step N; the stacks:`; "
    "exit code 76, with which launch/job.sh asks for a restart.",
    kept="The last checkpoint.",
)
def test_a_stopped_process_ends_the_run_with_stacks(records, tmp_path):
    """Fault 16: rank 1 of two is stopped."""
    code, output, seconds = signalled(tmp_path, records, 1, signal.SIGSTOP, "--config.train.watchdog_seconds=20")
    assert code == 76 and seconds < 20 + ranks.GRACE + 30
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
