"""Two processes never train in one workdir, whether its file system has locks or not."""

import errno
import fcntl
import json
import os
import subprocess
import sys

import pytest

from rig3r_jax.training import lock
from rig3r_jax.training.lock import only_writer


@pytest.fixture
def no_locks(monkeypatch):
    """A file system that answers flock as NFS without a lock manager does."""

    def refuse(*_):
        raise OSError(number, os.strerror(number))

    number = errno.ENOLCK
    monkeypatch.setattr(fcntl, "flock", refuse)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_without_locks_a_file_is_the_lock(tmp_path, monkeypatch, own_warnings, number):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with only_writer(tmp_path):
        (message,) = own_warnings()
        assert os.strerror(number) in message and "lock.owner" in message
        assert json.loads((tmp_path / "lock.owner").read_text())["process"] == os.getpid()
        with pytest.raises(ValueError, match=rf"another process is training in {tmp_path}: {os.getpid()} on "):
            with only_writer(tmp_path):
                pass
    assert not (tmp_path / "lock.owner").exists()
    with only_writer(tmp_path):
        pass


def _left(workdir, host, process, seconds=0.0):
    """A lock file that was touched so many seconds ago."""
    path = workdir / "lock.owner"
    path.write_text(json.dumps({"host": host, "process": process, "token": "x"}))
    now = path.stat().st_mtime
    os.utime(path, (now - seconds, now - seconds))
    return path


def test_the_lock_of_a_process_that_is_gone_is_taken_over(tmp_path, no_locks, own_warnings):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for host, process, seconds in (
        (lock.socket.gethostname(), ended.pid, 0),
        (lock.socket.gethostname(), os.getpid(), 0),  # of an earlier process with our number
        ("elsewhere", 1, 100),
    ):
        path = _left(tmp_path, host, process, seconds)
        with only_writer(tmp_path):
            assert json.loads(path.read_text())["process"] == os.getpid()
        assert f"process {process} on {host} is gone" in own_warnings()[-1]
    assert {path.name for path in tmp_path.iterdir()} == {"lock"}


def test_the_lock_of_a_process_that_may_live_is_kept(tmp_path, no_locks):
    for host, process, words in (
        ("elsewhere", 7, "7 on elsewhere, which renewed .* [23][0-9] s ago; stop it, or wait [56][0-9] s if it was"),
        (lock.socket.gethostname(), os.getppid(), f"{os.getppid()} on {lock.socket.gethostname()}"),
    ):
        path = _left(tmp_path, host, process, 30)
        with pytest.raises(ValueError, match=words), only_writer(tmp_path):
            pass
        assert path.exists()
    path.write_text("")  # one that is being written
    with pytest.raises(ValueError, match="one on an unknown host"), only_writer(tmp_path):
        pass


def test_a_lock_file_is_renewed_while_its_owner_lives(tmp_path, no_locks, monkeypatch):
    monkeypatch.setattr(lock, "RENEW_SECONDS", 0.01)
    touched = lock.threading.Event()
    monkeypatch.setattr(lock.os, "utime", lambda path: touched.set())
    with only_writer(tmp_path):
        assert touched.wait(30)


def test_other_errors_of_the_lock_name_its_file(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(OSError) as caught, only_writer(tmp_path):
        pass
    assert (caught.value.errno, caught.value.filename) == (errno.EIO, str(tmp_path / "lock"))
