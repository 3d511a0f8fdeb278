"""Files and folders that are whole or absent: written beside their place, then renamed into it."""

import contextlib
import errno
import fcntl
import glob
import os
import secrets
import shutil
import typing
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def whole_file(path: str | Path) -> Iterator[typing.BinaryIO]:
    """A binary file to write to, which takes its place at `path` at the end; after an error there is nothing.

    A reader, or a process killed half-way, never sees or leaves a part of it. Missing parent folders are made. The file
    gets the permissions that a plain `open` would give.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        with open(partial, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        _name_full_disk(error, path)
        raise
    finally:
        partial.unlink(missing_ok=True)


def write_atomically(path: str | Path, data: bytes) -> None:
    """Writes `data` to `path`, whole or not at all."""
    with whole_file(path) as file:
        file.write(data)


@contextlib.contextmanager
def whole_path(path: str | Path) -> Iterator[Path]:
    """A path of the same name in a folder of its own, to make a file or a folder at, which takes the place of `path` at
    the end; after an error, or where nothing is made, what was there stays.

    For writers that want a path, and for folders: one that is there is replaced. A process killed half-way leaves a
    hidden folder at most, which `remove_leftovers` removes. Missing parent folders are made.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unlocked = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    unlocked.mkdir()
    scratch, lock = unlocked.with_name(f"{unlocked.name}.tmp"), _lock(unlocked)
    os.rename(unlocked, scratch)
    made, before = scratch / path.name, scratch / f"{path.name}.before"
    try:
        yield made
        if not made.exists():
            return
        for file in [made] if made.is_file() else made.rglob("*"):
            if file.is_file():
                with open(file, "rb") as descriptor:
                    os.fsync(descriptor)
        if path.exists():
            os.rename(path, before)
        try:
            os.rename(made, path)
        except OSError:
            if before.exists():
                os.rename(before, path)
            raise
    except OSError as error:
        _name_full_disk(error, path)
        raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def remove_leftovers(path: str | Path) -> int:
    """Removes what killed processes have left of `whole_path(path)`, and tells how many folders those were.

    Processes that run hold a lock on theirs; on file systems that lock no folders (NFS) everything stays.
    """
    path, count = Path(path), 0
    for scratch in path.parent.glob(f".{glob.escape(path.name)}.{'[0-9a-f]' * 12}.tmp"):
        lock = _lock(scratch)
        if lock is not None:
            shutil.rmtree(scratch, ignore_errors=True)
            os.close(lock)
            count += 1
    return count


def _name_full_disk(error: OSError, path: Path) -> None:
    """Writing to an open file tells that there is no room, and not where."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) and error.filename is None:
        error.filename = str(path)


def _lock(folder: Path) -> int | None:
    """The descriptor that holds a folder's lock until it is closed, at the latest when this process ends; None where
    another process holds it, or the file system has no such locks."""
    descriptor = None
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        if descriptor is not None:
            os.close(descriptor)
        return None
    return descriptor
