"""JSON files: whole or absent, null for what is no finite number, errors that name the file."""

import json
import math
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from rig3r_jax.formats.atomic import write_atomically
from rig3r_jax.formats.text import decode_torn_text, numbered_lines, read_text


def plain(value: typing.Any) -> typing.Any:
    """As JSON holds it: NumPy's arrays and numbers as lists and Python's own, tuples as lists, null for NaN and inf."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: str | Path, content: typing.Any, *, indent: int = 1) -> None:
    """Writes `plain(content)` to `path`, whole or not at all."""
    write_atomically(path, (json.dumps(plain(content), indent=indent, allow_nan=False) + "\n").encode())


def read_json(path: str | Path) -> typing.Any:
    """The content of a JSON file; a ValueError that names it where it is none (as OSErrors do by themselves), or where
    an object has a key twice."""
    return parse_json(read_text(path), path)


def parse_json(text: str, where: str | Path) -> typing.Any:
    """The value of a JSON text; ValueError naming `where`."""
    try:
        return json.loads(text, object_pairs_hook=_each_key_once)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: is not JSON ({error}); restore the file") from error


def _each_key_once(pairs: list[tuple[str, typing.Any]]) -> dict[str, typing.Any]:
    """ValueError where a key comes twice: json would drop the first value without a word."""
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"an object has the key {next(key for key in keys if keys.count(key) > 1)!r} twice")
    return values


def json_line(row: Mapping[str, typing.Any]) -> str:
    """`plain(row)` as one line of a .jsonl file, its end included."""
    return json.dumps(plain(row), allow_nan=False) + "\n"


def read_json_lines(path: str | Path) -> Iterator[tuple[int, typing.Any]]:
    """(line number, value) of the lines of a .jsonl file; a last one that was cut short by a kill is left out.

    ValueError with file and line where another line is no JSON.
    """
    text = decode_torn_text(Path(path).read_bytes(), path)  # a kill may leave anything in the last line
    lines = list(numbered_lines(text))
    for number, line in lines:
        try:
            value = json.loads(line)
        except ValueError as error:
            if number == lines[-1][0]:
                return
            raise ValueError(f"{path}:{number}: is not JSON ({error}); delete the line") from error
        yield number, value
