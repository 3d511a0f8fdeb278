"""Files of raw data: their content, or a BadRecord that names the file."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from rig3r_jax.data.scene import BadRecord
from rig3r_jax.formats.json_file import parse_json
from rig3r_jax.formats.text import decode_text, numbered_lines, split_words


def read_bytes(path: Path) -> bytes:
    """A file's content; BadRecord where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadRecord(f"{path}: cannot be read ({error.strerror}); restore the file") from error


def read_text(path: Path) -> str:
    """A text file's content, whatever its encoding and line ends; BadRecord where it cannot be read."""
    data = read_bytes(path)
    try:
        return decode_text(data, path)
    except ValueError as error:
        raise BadRecord(str(error)) from error


def read_json(path: Path) -> Any:
    """The value of a JSON file; BadRecord where it cannot be read."""
    content = read_text(path)
    try:
        return parse_json(content, path)
    except ValueError as error:
        raise BadRecord(str(error)) from error


def read_numbers(path: Path, shape: tuple[int, int]) -> Float[np.ndarray, "rows columns"]:
    """The matrix that a text file holds, its numbers parted by white space or commas, without lines that begin with #.

    BadRecord, naming file and line, where it is no such.
    """
    values = []
    for number, line in numbered_lines(read_text(path)):
        if not line.startswith("#"):
            try:
                values += [float(word) for word in split_words(line)]
            except ValueError as error:
                raise BadRecord(f"{path}, line {number}: does not read ({error}); restore the file") from error
    if len(values) != shape[0] * shape[1] or not np.isfinite(values).all():
        raise BadRecord(f"{path}: {values} must be {shape[0]} x {shape[1]} finite numbers; restore the file")
    return np.array(values).reshape(shape)
