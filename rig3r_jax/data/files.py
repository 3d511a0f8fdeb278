"""Files of raw data: their content, or a BadRecord that names the file."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from rig3r_jax.data.scene import BadRecord


def read_bytes(path: Path) -> bytes:
    """A file's content; BadRecord where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadRecord(f"{path}: cannot be read ({error.strerror}); restore the file") from error


def read_text(path: Path) -> str:
    """A text file's content; BadRecord where it cannot be read."""
    try:
        return read_bytes(path).decode()
    except UnicodeDecodeError as error:
        raise BadRecord(f"{path}: is no text ({error}); restore the file") from error


def read_json(path: Path) -> Any:
    """The value of a JSON file; BadRecord where it cannot be read."""
    content = read_bytes(path)
    try:
        return json.loads(content)
    except ValueError as error:
        raise BadRecord(f"{path}: is no JSON ({error}); restore the file") from error


def read_numbers(path: Path, shape: tuple[int, int]) -> Float[np.ndarray, "rows columns"]:
    """The matrix that a text file holds, its numbers parted by white space; BadRecord where it is no such."""
    try:
        values = np.array([float(word) for word in read_text(path).split()])
    except ValueError as error:
        if isinstance(error, BadRecord):
            raise
        raise BadRecord(f"{path}: does not read ({error}); restore the file") from error
    if values.size != shape[0] * shape[1] or not np.isfinite(values).all():
        raise BadRecord(f"{path}: {values.tolist()} must be {shape[0]} x {shape[1]} finite numbers; restore the file")
    return values.reshape(shape)
