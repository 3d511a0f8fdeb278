"""Files that are whole or absent: written beside their place, then renamed into it."""

import contextlib
import os
import secrets
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
    finally:
        partial.unlink(missing_ok=True)


def write_atomically(path: str | Path, data: bytes) -> None:
    """Writes `data` to `path`, whole or not at all."""
    with whole_file(path) as file:
        file.write(data)
