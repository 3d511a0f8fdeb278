"""Copies of finished checkpoints in a second place: a mounted folder, or what epath knows (gs://, s3://)."""

import contextlib
import hashlib
import io
import os
import typing
from pathlib import Path

from etils import epath

from rig3r_jax.training.checkpoint_sums import NAME, read_sums

_BYTES = 1 << 24  # read and written at a time


def copy_step(step: Path, place: str) -> None:
    """Copies a checkpoint to `place` under its number, reads it there again and compares every checksum.

    SHA256SUMS comes last: without it a folder there is no copy. One that is there already is left alone; what a copy
    that failed has written is removed, to make room.

    Raises:
        OSError: the place cannot be written to, or gives back other bytes than were written.
        ValueError: another checkpoint of that step is there, of another run or saved again since.
    """
    target, listing = epath.Path(place) / step.name, (step / NAME).read_text()
    if (target / NAME).exists():
        if (target / NAME).read_text() != listing:
            raise ValueError(
                f"{target} is another checkpoint: delete it, or give a folder of its own as train.copy_checkpoints_to"
            )
        return
    try:
        for name, digest in read_sums(step).items():
            _copy_file(step / name, target / name, digest)
        (target / NAME).write_text(listing)
    except Exception:
        with contextlib.suppress(Exception):
            _remove(target)
        raise


def remove_surplus(steps: set[int], place: str) -> None:
    """Removes the copies of these steps, and these from `steps`; but not the newest copy that there is."""
    if not steps:
        return
    copies = (path for path in epath.Path(place).iterdir() if path.name.isdecimal() and (path / NAME).exists())
    newest = max((int(path.name) for path in copies), default=None)
    for step in sorted(steps - {newest}):
        _remove(epath.Path(place) / str(step))
        steps.remove(step)


def _copy_file(path: Path, target: epath.Path, digest: str) -> None:
    """Copies one file; OSError where its copy has another checksum than `digest`."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "rb") as source, target.open("wb") as sink:
        while chunk := source.read(_BYTES):
            sink.write(chunk)
        _to_the_device(sink)
    with target.open("rb") as file:
        if _digest(file) != digest:
            raise OSError(f"{target} does not give back what was written to it")


def _remove(copy: epath.Path) -> None:
    """Removes a copy; its SHA256SUMS first, so that no half of it passes for one."""
    (copy / NAME).unlink(missing_ok=True)
    if copy.exists():
        copy.rmtree()


def _to_the_device(file: typing.BinaryIO) -> None:
    """Of a local file: its bytes are on the device, from where they are read again."""
    file.flush()
    with contextlib.suppress(AttributeError, io.UnsupportedOperation):
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _digest(file: typing.BinaryIO) -> str:
    digest = hashlib.sha256()
    while chunk := file.read(_BYTES):
        digest.update(chunk)
    return digest.hexdigest()
