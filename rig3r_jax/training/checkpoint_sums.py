"""SHA256SUMS: the checksum of every file of a checkpoint, written with it and checked whenever it is read.

OCDBT and zarr, in which arrays lie, do not notice a changed byte. `cd checkpoints/7; sha256sum -c SHA256SUMS` checks a
step without this package.
"""

import concurrent.futures
import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from rig3r_jax.formats.atomic import write_atomically

NAME = "SHA256SUMS"
THREADS = 4  # hashlib lets other threads run meanwhile

_HEADER = r"# rig3r checkpoint of step (\d+): (\d+) files"
_LINE = r"([0-9a-f]{64})  (.+)"


class Damaged(ValueError):
    """Files of a step that are cut, missing or changed."""


def files_of(folder: Path) -> list[str]:
    """The files below a folder of a step, but for its SHA256SUMS, as paths from it; sorted."""
    files = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in files if name != NAME)


def sums(folder: Path, names: Iterable[str], *, sync: bool = False) -> dict[str, str]:
    """SHA-256 of files by name; with `sync` each is on the disk afterwards, not only in the memory of the system.

    Raises:
        OSError: for a file that is not there or cannot be read.
    """

    def digest(name: str) -> str:
        with open(folder / name, "rb") as file:
            if sync:
                os.fsync(file.fileno())
            return hashlib.file_digest(file, "sha256").hexdigest()

    names = list(names)
    with concurrent.futures.ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:
        return dict(zip(names, pool.map(digest, names), strict=True))


def write_sums(folder: Path, step: int, sums_by_name: Mapping[str, str]) -> None:
    """Writes SHA256SUMS of a step."""
    lines = [f"# rig3r checkpoint of step {step}: {len(sums_by_name)} files"]
    lines += [f"{digest}  {name}" for name, digest in sorted(sums_by_name.items())]
    write_atomically(folder / NAME, "".join(f"{line}\n" for line in lines).encode())


def read_sums(folder: Path) -> dict[str, str] | None:
    """SHA-256 by name, as written with the step; None for a step of an older version, which has none.

    Raises:
        Damaged: SHA256SUMS is missing or changed, or is another step's.
    """
    path = folder / NAME
    try:
        text = path.read_text()
    except FileNotFoundError:
        if (folder / "_CHECKPOINT_METADATA").exists():  # which only older versions wrote
            return None
        raise Damaged(f"{path}: is missing") from None
    except UnicodeDecodeError:
        raise Damaged(f"{path}: is no text") from None
    header, *lines = text.splitlines() or [""]
    head, rows = re.fullmatch(_HEADER, header), [re.fullmatch(_LINE, line) for line in lines]
    if not head or not all(rows) or not text.endswith("\n"):
        raise Damaged(f"{path}: is changed")
    if len(rows) != int(head[2]):
        raise Damaged(f"{path}: {len(rows)} lines, of {head[2]}")
    if folder.name != head[1]:
        raise Damaged(f"{path}: is of step {head[1]}")
    return {name: digest for digest, name in (row.groups() for row in rows)}


def verify(folder: Path, part: int = 0, parts: int = 1) -> int | None:
    """Checks every file of a step against SHA256SUMS; as one of several processes, each with its part of the bytes.

    Returns:
        The number of bytes that were read; None for a step without checksums, of an older version.

    Raises:
        Damaged: names the file and what is wrong with it.
    """
    expected = read_sums(folder)
    if expected is None:
        return None
    sizes = {}
    for name in expected:
        try:
            sizes[name] = (folder / name).stat().st_size
        except FileNotFoundError:
            raise Damaged(f"{folder / name}: is missing") from None
    names = share(sizes, part, parts)
    for name, digest in sums(folder, names).items():
        if digest != expected[name]:
            raise Damaged(f"{folder / name}: its checksum differs: it is cut or changed")
    return sum(sizes[name] for name in names)


def share(sizes: Mapping[str, int], part: int, parts: int) -> list[str]:
    """The names of one of several parts of about as many bytes: the largest first, each to the smallest part so far."""
    loads, ours = [0] * parts, []
    for name in sorted(sizes, key=lambda name: (-sizes[name], name)):
        smallest = loads.index(min(loads))
        loads[smallest] += sizes[name]
        if smallest == part:
            ours.append(name)
    return ours
