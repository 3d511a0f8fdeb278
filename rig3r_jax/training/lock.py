"""One training at a time in a workdir, on file systems with locks and on those without.

The lock is the workdir's own, which nobody deletes by mistake, and a file's: network file systems lock no folders.
"""

import contextlib
import errno
import fcntl
import json
import logging
import os
import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)  # NFS without a lock manager, Lustre, FUSE
RENEW_SECONDS, STALE_SECONDS = 15.0, 90.0  # of a lock file: how often it is touched, and when its owner counts as gone
_ANOTHER = "another process is training in {}; stop it or give another --workdir"
_LOST = "another process is training in {} since {} was deleted; this one stops and leaves its last checkpoint"
_held: set[str] = set()  # tokens of this process


class LockLost(ValueError):
    """Another process trains in the workdir: the file of our lock was deleted, and that process has made a new one."""


@contextlib.contextmanager
def only_writer(workdir: Path) -> Iterator[Callable[[], None]]:
    """Holds the lock of a workdir; ValueError when another process trains in it.

    Where the file system has no locks a file stands for one, which its owner touches while it lives; the log says so.

    Yields:
        To be called before a save: raises LockLost where the lock is another process's.
    """
    path = Path(workdir) / "lock"
    with path.open("w") as file, contextlib.ExitStack() as stack:
        if not _flock(file.fileno(), path):
            yield stack.enter_context(_lock_file(path.with_name("lock.owner")))
        elif _lock_folder(path.parent, stack):
            yield lambda: None
        else:
            yield lambda: _check_same(path, file.fileno())


def _lock_folder(folder: Path, stack: contextlib.ExitStack) -> bool:
    """Locks a folder until the stack ends; False where its file system locks none, ValueError where it is locked."""
    descriptor = os.open(folder, os.O_RDONLY)
    stack.callback(os.close, descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ValueError(_ANOTHER.format(folder)) from None
    except OSError:
        return False
    return True


def _check_same(path: Path, descriptor: int) -> None:
    """LockLost where the file at a path is another than the one that is open."""
    with contextlib.suppress(FileNotFoundError):  # deleted, but nobody has come in
        if not os.path.samestat(os.stat(path), os.fstat(descriptor)):
            raise LockLost(_LOST.format(path.parent, path))


def _flock(descriptor: int, path: Path) -> bool:
    """Locks an open file; False where its file system has no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ValueError(_ANOTHER.format(path.parent)) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise OSError(error.errno, error.strerror, str(path)) from error
        logger.warning("%s: %s on this file system; the file lock.owner beside it is the lock", path, error.strerror)
        return False
    return True


@contextlib.contextmanager
def _lock_file(path: Path) -> Iterator[Callable[[], None]]:
    """Holds a file that only one process can make; what a process that is gone has left is taken over."""

    def check() -> None:
        if _read(path) not in (owner, None):
            raise LockLost(_LOST.format(path.parent, path))

    owner = {"host": socket.gethostname(), "process": os.getpid(), "token": secrets.token_hex(8)}
    while not _make(path, owner):
        _remove_if_left(path)
    _held.add(owner["token"])
    ended = threading.Event()
    renewing = threading.Thread(target=_renew, args=(path, ended), daemon=True)
    renewing.start()
    try:
        yield check
    finally:
        ended.set()
        renewing.join()
        _held.discard(owner["token"])
        if _read(path) == owner:
            path.unlink(missing_ok=True)


def _make(path: Path, owner: dict[str, Any]) -> bool:
    """Makes the file; False where there is one."""
    try:
        with path.open("x") as file:  # O_EXCL: one of many succeeds, on NFS too
            file.write(json.dumps(owner))
    except FileExistsError:
        return False
    return True


def _remove_if_left(path: Path) -> None:
    """Removes the lock file of a process that is gone; ValueError where it may be there."""
    owner, age = _read(path), _age(path)
    if owner is None:
        return  # removed in this moment
    process, host = owner.get("process", "one"), owner.get("host", "an unknown host")
    if host == socket.gethostname():
        gone = owner.get("token") not in _held if process == os.getpid() else not _runs(process)
    else:
        gone = age > STALE_SECONDS
    if not gone:
        wait = "" if host == socket.gethostname() else f", or wait {STALE_SECONDS - age:.0f} s if it was killed"
        raise ValueError(
            f"another process is training in {path.parent}: {process} on {host}, which renewed {path} {age:.0f} s ago; "
            f"stop it{wait}, or give another --workdir"
        )
    logger.warning("%s: process %s on %s is gone, its lock (%.0f s old) is taken over", path, process, host, age)
    aside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    with contextlib.suppress(FileNotFoundError):
        os.rename(path, aside)
        if _read(aside) != owner:  # another process was faster, and this is its lock
            os.rename(aside, path)
        aside.unlink(missing_ok=True)


def _read(path: Path) -> dict[str, Any] | None:
    """The owner in a lock file, {} where it is not readable; None without a file."""
    try:
        owner = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError:
        return {}
    return owner if isinstance(owner, dict) else {}


def _age(path: Path) -> float:
    """Seconds since a file was touched, by the clock of its file system; 0 without a file."""
    now = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    now.touch()
    try:
        return max(now.stat().st_mtime - path.stat().st_mtime, 0.0)
    except FileNotFoundError:
        return 0.0
    finally:
        now.unlink()


def _runs(process: Any) -> bool:
    """Whether a process of this machine runs."""
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, TypeError, ValueError):
        return False
    except PermissionError:
        pass
    return True


def _renew(path: Path, ended: threading.Event) -> None:
    while not ended.wait(RENEW_SECONDS):
        with contextlib.suppress(OSError):  # a file system that comes back finds the lock a little older
            os.utime(path)
