"""Files of raw data: their content, or a BadRecord that names the file."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from rig3r_jax.data.scene import BadRecord
from rig3r_jax.formats.json_file import parse_json
from rig3r_jax.formats.text import decode_text, numbered_lines, split_words

LAST_READ = threading.local()  # its `path`: the file that `read_bytes` was asked for last, for messages
_CHUNK = 2**20  # characters of a table that are read at a time
_BETWEEN_OBJECTS = "[], \t\r\n"


def read_bytes(path: Path) -> bytes:
    """A file's content; BadRecord where it cannot be read."""
    LAST_READ.path = path
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadRecord(f"{path}: cannot be read ({error.strerror}); restore the file") from error
    except ValueError as error:  # a name with a zero in it
        raise BadRecord(f"{str(path)!r}: is no path of a file ({error}); correct the name") from error


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


def read_json_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a file that holds a JSON list of objects, one in memory at a time: for tables of gigabytes.

    BadRecord where the file cannot be read or is no such list.
    """
    decoder, text, at, ended = json.JSONDecoder(), "", 0, False
    try:
        with path.open(encoding="utf-8") as file:
            while not ended:
                text, at = text[at:] + (chunk := file.read(_CHUNK)), 0
                ended = not chunk
                while (start := _next_object(text, at)) is not None:
                    try:
                        row, at = decoder.raw_decode(text, start)
                    except json.JSONDecodeError:  # or the object goes on in the next chunk
                        break
                    yield row
    except (OSError, UnicodeDecodeError) as error:
        raise BadRecord(f"{path}: cannot be read ({error}); restore the file") from error
    if text[at:].strip(_BETWEEN_OBJECTS) or not text.rstrip().endswith("]"):
        raise BadRecord(f"{path}: is no list of JSON objects; restore the file")


def _next_object(text: str, at: int) -> int | None:
    """Where an object begins behind `at` with nothing but commas, brackets and space before it."""
    start = text.find("{", at)
    return None if start < 0 or text[at:start].strip(_BETWEEN_OBJECTS) else start


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
