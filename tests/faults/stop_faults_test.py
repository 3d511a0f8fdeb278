"""Signals and second writers: a save that was asked for is not broken off, and nobody else writes into a workdir."""

import errno
import fcntl
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from rig3r_jax.training.checkpoint_save import Save
from rig3r_jax.training.lock import LockLost, only_writer
from tests import runs, tiny_run
from tests.faults.faults import fault


@pytest.fixture
def stopped(tmp_path):
    """stopped() -> what a run prints that gets SIGTERM ahead of step 5."""

    def run() -> str:
        flags = tiny_run.flags(tmp_path, 100_000)
        output = tiny_run.run_here(flags, 75, lambda step: signal.raise_signal(signal.SIGTERM) if step == 5 else None)
        assert runs.saved_steps(tmp_path) == [5]
        return output

    return run


@fault(
    12,
    what="SIGTERM.",
    seen="`SIGTERM: saving after this step`, then `step 5 is saved; ...`; exit code 75, with which "
    "launch/job.sh asks for a restart.",
    kept="All, up to the step that was under way.",
)
def test_sigterm_saves(stopped):
    """Fault 12: SIGTERM saves and ends."""
    output = stopped()
    assert "SIGTERM: saving after this step" in output
    assert "step 5 is saved; the same command goes on from there" in output.splitlines()[-2:]


@fault(
    13,
    what="SIGTERM again, three times, while the state is being saved.",
    seen="`SIGTERM: saving already`; exit code 75.",
    kept="All, up to the step that was under way.",
)
def test_a_second_sigterm_does_not_end_the_save(stopped, monkeypatch):
    """Fault 13: more SIGTERMs change nothing."""

    def commit(save: Save, parts: list[Path], commit=Save._commit) -> None:
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.1)  # for the main thread to hear it
        commit(save, parts)

    monkeypatch.setattr(Save, "_commit", commit)
    assert "SIGTERM: saving already" in stopped()


def _enter(workdir: Path, answers) -> None:
    try:
        with only_writer(workdir):
            answers.put("let in")
    except ValueError as error:
        answers.put(str(error))


@fault(
    10,
    what="A second run starts in the workdir of one that runs; also after somebody has deleted the file `lock`.",
    seen="`another process is training in FOLDER; stop it or give another --workdir`; exit code 2.",
    kept="All; the first run does not notice.",
)
@pytest.mark.parametrize("deleted", [False, True])
def test_a_second_writer_is_refused(tmp_path, deleted):
    """Fault 10: two writers in one workdir."""
    context = multiprocessing.get_context("forkserver")
    answers = context.Queue()
    with only_writer(tmp_path) as check:
        if deleted:
            (tmp_path / "lock").unlink()
        second = context.Process(target=_enter, args=(tmp_path, answers))
        second.start()
        assert "another process is training" in answers.get(timeout=60)
        second.join()
        check()
    with only_writer(tmp_path):
        pass


@fault(
    10,
    what="The file `lock` is deleted on a file system that locks files, but no folders (NFS), and a second run starts.",
    seen="The first run, at its next save: `another process is training in FOLDER since lock was deleted; this one "
    "stops`; exit code 2.",
    kept="The first run's last checkpoint; two runs never both save.",
)
def test_a_lock_that_was_lost_stops_the_first_run(tmp_path, monkeypatch):
    """Fault 10: the lock was deleted where only files can be locked."""
    _lock_no_folders(monkeypatch)
    with only_writer(tmp_path) as check:
        (tmp_path / "lock").unlink()
        check()
        with only_writer(tmp_path) as check_second:
            with pytest.raises(LockLost, match=f"another process is training in {tmp_path} since .*lock was deleted"):
                check()
            check_second()


def _lock_no_folders(monkeypatch) -> None:
    """flock as NFS has it: of descriptors that can be written to."""

    def flock(descriptor: int, how: int, flock=fcntl.flock) -> None:
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", flock)
