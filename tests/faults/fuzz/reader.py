"""What a reader of files is to be tried, and how its small valid corpus is made."""

import dataclasses
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np

# The numbers of arrays, clouds and tensors.
POINTS = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Reader:
    """How files of a kind are made and read."""

    make: Callable[[Path], object]  # writes a corpus into an empty folder; returns what `read` takes, None: the folder
    read: Callable[[Path], object]
    names: bool = True  # whether its errors name a file


def in_file(name: str, content: Callable[[], bytes]) -> Callable[[Path], Path]:
    """Makes a corpus of one file."""

    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content())
        return folder / name

    return make


def saved(save: Callable, *arguments, **named) -> bytes:
    """What `save` writes into a file that it is given first."""
    buffer = io.BytesIO()
    save(buffer, *arguments, **named)
    return buffer.getvalue()
