"""Runs whose disk fills, turns read-only or goes away: they say so, go on and save again, or stop with a code."""

import contextlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rig3r_jax.training import saving
from rig3r_jax.training.metrics import read_metrics
from tests import runs, tiny_run
from tests.faults.faults import fault
from tests.full_disk import limited_files

LAST = 8  # step

# A thread that ends by an exception writes its traceback, which pytest would take for a warning.
pytestmark = pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")


@pytest.fixture
def train(monkeypatch):
    """train(workdir, code, before_step, more flags) -> what a run prints that saves every second step."""
    monkeypatch.setattr(saving, "FIRST_PAUSE", 0.05)

    def run(workdir: Path, code: int, before_step=None, *more: str) -> str:
        return tiny_run.run_here(tiny_run.flags(workdir, LAST, "checkpoint_every=2", *more), code, before_step)

    return run


def at(step: int, workdir: Path, work):
    """A before_step that does `work` ahead of one step, once the last save before it is a checkpoint."""

    def before(number: int) -> None:
        if number == step:
            runs.wait_for_checkpoint(workdir, step - 2)
            work()

    return before


def complaints(output: str) -> list[str]:
    """The lines about saving, of which there shall be few, and no traceback anywhere."""
    assert "Traceback" not in output, output[-3000:]
    return [line for line in output.splitlines() if "could not save" in line or "saves work again" in line]


@contextlib.contextmanager
def mounted(folder: Path, *options: str):
    """A file system in memory at `folder`, as root; skips where that cannot be."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", *options, "tmpfs", folder]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a file system takes root, and a container that may")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture
def file_limit():
    """file_limit(bytes): what a file may have from now on, as in a full quota; file_limit(): as much as before."""
    with limited_files() as limit:
        yield limit


@fault(
    4,
    what="The disk takes no checkpoint for some steps (a limit on the size of files), then it does again.",
    seen="`could not save: FOLDER: File too large; ...`, a line per try, then `step N is saved; saves work again`.",
    kept="The steps before; training goes on meanwhile.",
)
def test_a_run_goes_on_while_it_cannot_save(train, tmp_path, file_limit):
    """Fault 4: the disk is full for a while."""
    fails = at(4, tmp_path, lambda: file_limit(100_000))
    output = train(tmp_path, 0, lambda step: file_limit() if step == 7 else fails(step))
    lines = complaints(output)
    assert "File too large; raise the limit" in lines[0] and "the newest checkpoint is step 2" in lines[0]
    assert "saves work again" in lines[-1] and len(lines) < 8
    assert runs.saved_steps(tmp_path)[-1] == LAST and 4 not in runs.saved_steps(tmp_path)
    assert [row["step"] for row in read_metrics(tmp_path / "metrics.jsonl")] == [*range(1, LAST + 1)]


@fault(
    9,
    what="The last save fails, and still does when the run's patience is over.",
    seen="`could not save for 30 min (train.save_retry_minutes): ... The run stops; the newest checkpoint is step 6`; "
    "exit code 74, which launch/job.sh does not start again. The test waits 0.3 s.",
    kept="The steps before.",
)
def test_a_last_save_that_fails_is_no_success(train, tmp_path, file_limit):
    """Fault 9: the last save fails."""
    output = train(tmp_path, 74, at(LAST, tmp_path, lambda: file_limit(100_000)), "save_retry_minutes=0.005")
    lines = complaints(output)
    assert re.search(r"could not save for [\d.]+ s \(train.save_retry_minutes\): .*File too large", lines[-1])
    assert lines[-1].endswith("The run stops; the newest checkpoint is step 6") and len(lines) < 6
    assert runs.saved_steps(tmp_path)[-1] == 6


@fault(
    5,
    what="The folder of the run is moved away under it, and comes back.",
    seen="`could not save: FOLDER: No such file or directory; ...`, a line per try, then `saves work again`.",
    kept="All, rows of metrics too; no folder is made anew in a place where a disk may be missing.",
)
def test_a_folder_that_is_gone_for_a_while(train, tmp_path):
    """Fault 5: the workdir vanishes and comes back."""
    workdir, away, seen = tmp_path / "run", tmp_path / "away", []

    def come_back() -> None:
        seen.append(workdir.exists())
        away.rename(workdir)

    goes = at(4, workdir, lambda: workdir.rename(away))
    lines = complaints(train(workdir, 0, lambda step: come_back() if step == 7 else goes(step)))
    assert "No such file or directory" in lines[0] and "saves work again" in lines[-1] and seen == [False]
    assert runs.saved_steps(workdir)[-1] == LAST
    assert [row["step"] for row in read_metrics(workdir / "metrics.jsonl")] == [*range(1, LAST + 1)]


@fault(
    5,
    what="The folder of the run is deleted under it.",
    seen="A line per try, then `The run stops; ...`; exit code 74.",
    kept="Nothing was to be saved: all was deleted.",
)
def test_a_deleted_workdir_ends_the_run(train, tmp_path):
    """Fault 5: the workdir is deleted."""
    workdir = tmp_path / "run"
    output = train(workdir, 74, at(4, workdir, lambda: shutil.rmtree(workdir)), "save_retry_minutes=0.005")
    assert "The run stops" in complaints(output)[-1] and not workdir.exists()


@pytest.mark.fault_slow
@fault(
    4,
    what="A file system of 8 MB fills up under a run, and stays full.",
    seen="`could not save: FOLDER: No space left on device; make room on the disk ...`, a line per try; exit code 74.",
    kept="The steps before.",
)
def test_a_full_disk(train, tmp_path):
    """Fault 4: the disk is full."""
    with mounted(tmp_path / "disk", "-o", "size=8m") as disk:

        def fill() -> None:
            with contextlib.suppress(OSError), open(disk / "filler", "wb", buffering=0) as file:
                while True:
                    file.write(bytes(4096))

        flags = ("save_retry_minutes=0.005", "keep_checkpoints=1")
        output = train(disk / "run", 74, at(4, disk / "run", fill), *flags)
        lines = complaints(output)
        assert "No space left on device; make room on the disk" in lines[0] and len(lines) < 6
        assert runs.saved_steps(disk / "run") == [2]
        (disk / "filler").unlink()
        train(disk / "run", 0, None, *flags)
        assert runs.saved_steps(disk / "run") == [LAST]


@pytest.mark.fault_slow
@fault(
    5,
    what="The file system of the run turns read-only under it.",
    seen="`could not save: FOLDER: Read-only file system; ...`, a line per try; exit code 74. Started again: one line, "
    "exit code 2.",
    kept="The steps before.",
)
def test_a_disk_that_turns_read_only(train, tmp_path):
    """Fault 5: the file system turns read-only."""
    with mounted(tmp_path / "disk") as disk:

        def turn_read_only() -> None:  # by a mount above: the system lets nobody do it below open files but a driver
            subprocess.run(["mount", "--bind", disk, disk], check=True)
            subprocess.run(["mount", "-o", "remount,bind,ro", disk], check=True)

        more = "save_retry_minutes=0.005"
        output = train(disk / "run", 74, at(4, disk / "run", turn_read_only), more)
        assert "Read-only file system; give a path" in complaints(output)[0]
        output = train(disk / "run", 2, None, more)
        assert "Read-only file system" in output.splitlines()[-1] and complaints(output) == []
        subprocess.run(["umount", disk], check=True)
        assert runs.saved_steps(disk / "run") == [2]
        train(disk / "run", 0, None, more)
        assert runs.saved_steps(disk / "run")[-1] == LAST


# Process 0 moves the folder away between the making of a save's folder and its arrays, whose writers make it anew.
FOLDER_GOES = """
import jax
from rig3r_jax.training.checkpoint_save import Save
from tests import tiny_run

start = Save._start

def start_elsewhere(save, state):
    if save.step == 10 and jax.process_index() == 0:
        folder = save._saving.parent
        folder.rename(folder.with_name("away"))
    start(save, state)

Save._start = start_elsewhere
raise SystemExit(tiny_run.main())
"""


@pytest.mark.fault_slow
@fault(
    9,
    what="Of a run of two processes the folder goes away while it is saved to, for good.",
    seen="A line per try, of process 0 alone; exit code 74 of both, long before the watchdog.",
    kept="The steps before. What writers of arrays make anew in the place of the folder never becomes a checkpoint.",
)
def test_two_processes_that_cannot_save(tmp_path):
    """Fault 9: the last save of two processes fails."""
    flags = tiny_run.flags(tmp_path / "run", 40, "checkpoint_every=5", "save_retry_minutes=0.01")
    process = runs.start(
        "launch/local.py", "--processes=2", "--grace=20", "--", sys.executable, "-c", FOLDER_GOES,
        "train", *flags, "--config.mesh.fsdp=2", JAX_NUM_CPU_DEVICES="1",
    )  # fmt: skip
    output = runs.finish(process, 74)
    lines = complaints(output)
    assert "No such file or directory" in lines[0] and "the newest checkpoint is step 5" in lines[0]
    assert "The run stops" in lines[-1] and all(line.startswith("[0] ") for line in lines) and "watchdog" not in output
    steps = [path.name for path in tmp_path.glob("run/*/*") if path.name.isdecimal()]
    assert steps == ["5"] and (tmp_path / "run" / "away" / "5").is_dir()
