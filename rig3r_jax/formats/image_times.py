"""Times of images in text: `time name` as TUM's lists, `name time`, CSV with a line of column names, or times alone."""

import csv
import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from rig3r_jax.formats.text import numbered_lines, read_text, split_words, with_slashes
from rig3r_jax.formats.times import AUTO, PER_SECOND, unit_of_times

_UNIT_IN_NAME = re.compile(r"[_\[(\s](s|ms|us|ns)[\])]?$", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class ImageTimes:
    """Times in the file's order, with the names of their images where the file has them."""

    names: tuple[str, ...] | None
    seconds: Float[np.ndarray, " n"]
    time_unit: str  # of the file


def read_image_times(path: str | Path, time_unit: str = AUTO) -> ImageTimes:
    """The rows of a file; ValueError naming file, line, value, rule and remedy.

    In rows of two numbers the times are those with decimal points, else the first ones.
    """
    rows: list[tuple[int, list[str]]] = []
    for number, line in numbered_lines(read_text(path)):
        if line.startswith("#"):
            continue
        words = _words(line)
        if not rows and not any(map(_is_number, words)):  # column names, which may have a unit in them
            unit = next((match[1] for word in words if (match := _UNIT_IN_NAME.search(word))), "")
            time_unit = unit.lower() if unit and time_unit == AUTO else time_unit
            continue
        rows.append((number, words))
    if not rows:
        raise ValueError(f"{path}: holds no time; it must have rows of time and image")
    widths = {len(words) for _, words in rows}
    if max(widths) > 2 or len(widths) > 1:
        number, words = next(row for row in rows if len(row[1]) > 2 or len(row[1]) != len(rows[0][1]))
        raise ValueError(f"{path}, line {number}: {' '.join(words)!r} must be a time and an image; correct the row")
    column = 0 if widths == {1} else _time_column(rows)
    for number, words in rows:
        if not _is_number(words[column]):
            raise ValueError(f"{path}, line {number}: {words[column]!r} must be a finite number; correct the row")
    times = np.array([float(words[column]) for _, words in rows])
    unit = unit_of_times(times, time_unit, str(path))
    names = None if widths == {1} else tuple(with_slashes(words[1 - column]) for _, words in rows)
    return ImageTimes(names, times / PER_SECOND[unit], unit)


def _time_column(rows: Sequence[tuple[int, list[str]]]) -> int:
    """0 or 1: the column of numbers; of two such, the one with decimal points."""
    numeric = [column for column in (0, 1) if all(_is_number(words[column]) for _, words in rows)]
    if len(numeric) == 2:
        pointed = [column for column in numeric if any("." in words[column] for _, words in rows)]
        return pointed[0] if len(pointed) == 1 else 0
    if numeric:
        return numeric[0]
    return 0 if sum(_is_number(words[0]) for _, words in rows) >= len(rows) / 2 else 1


def _words(line: str) -> list[str]:
    """Those between commas, else a number at the start or the end and the rest, which may have spaces."""
    if "," in line:
        return [word.strip() for word in next(csv.reader([line], skipinitialspace=True)) if word.strip()]
    words = split_words(line)
    if len(words) > 2 and _is_number(words[0]):
        return [words[0], line.partition(words[0])[2].strip()]
    if len(words) > 2 and _is_number(words[-1]):
        return [line.rpartition(words[-1])[0].strip(), words[-1]]
    return words


def _is_number(word: str) -> bool:
    try:
        return bool(np.isfinite(float(word)))
    except ValueError:
        return False
