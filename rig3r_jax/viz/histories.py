"""Metric histories of runs: metrics.jsonl, TensorBoard event files, or a CSV that W&B or TensorBoard wrote."""

import csv
import dataclasses
import io
import logging
import math
import re
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from rig3r_jax.formats.json_file import read_json_lines
from rig3r_jax.formats.text import read_text
from rig3r_jax.viz.tfevents import read_scalars

_STEP_COLUMNS = ("_step", "step", "trainer/global_step", "train/global_step", "global_step")  # in any case
_BESIDES = ("__MIN", "__MAX", "__STEP", "_step")  # columns that W&B adds to each of a chart
CHECKS = "check/"  # of what begins so, checksums of parameters, there is no curve
_WALL_TIME, _VALUE = "Wall time", "Value"  # columns of TensorBoard, beside Step
_TAG_IN_NAME = re.compile(r"(?:^|-)tag-(.+)$")  # of the files that TensorBoard exports
_DECIMAL_COMMA = re.compile(r"^([-+]?\d*),(\d+(?:[eE][-+]?\d+)?)$")
_SEPARATORS = ",;\t"
_REMEDY = "give a metrics.jsonl, a folder with one or with TensorBoard event files, or a history as .csv"

logger = logging.getLogger(__name__)


@typing.no_type_check
@dataclasses.dataclass(frozen=True)
class Curve:
    """One metric over increasing steps; NaN where it was logged and not finite."""

    steps: Float[np.ndarray, "n"]
    values: Float[np.ndarray, "n"]


@dataclasses.dataclass(frozen=True)
class History:
    """All metrics of one run by name."""

    source: Path
    curves: dict[str, Curve]

    def find(self, name: str) -> Curve | None:
        """The metric of that name, or the only one that ends in "/" and that name ("train/loss/total")."""
        if name in self.curves:
            return self.curves[name]
        longer = [other for other in self.curves if other.endswith(f"/{name}")]
        return self.curves[longer[0]] if len(longer) == 1 else None


def read_history(source: str | Path) -> History:
    """The history of a file or folder; of a step that was logged twice (after a resume) the later value counts.

    A folder with a metrics.jsonl is read from that, else from its event files, of which a sub-folder may hold them all.
    ValueError for anything else, and for a source without a single number.
    """
    source = Path(source)
    if source.is_dir():
        rows = _jsonl(source / "metrics.jsonl") if (source / "metrics.jsonl").is_file() else _events(source)
    elif not source.is_file():
        raise ValueError(f"{source} does not exist; {_REMEDY}")
    elif source.suffix.lower() == ".jsonl":
        rows = _jsonl(source)
    elif source.suffix.lower() in (".csv", ".tsv"):
        rows = _csv(source)
    elif "tfevents" in source.name:
        rows = read_scalars(source)
    else:
        raise ValueError(f"{source} is of no known kind; {_REMEDY}")
    metrics: dict[str, dict[float, float]] = {}
    for step, name, value in rows:
        if name.startswith(CHECKS):
            continue
        metrics.setdefault(name, {})[step] = value
    curves = {}
    for name, values in metrics.items():
        steps = sorted(values)
        curves[name] = Curve(np.array(steps, np.float64), np.array([values[step] for step in steps], np.float64))
    if not curves:
        raise ValueError(f"{source} holds no metric; {_REMEDY}")
    return History(source, curves)


def _jsonl(path: Path) -> Iterator[tuple[float, str, float]]:
    """null is a value that was not finite; a last line cut short by a kill is left out. What is no number is named in a
    warning."""
    others: dict[str, list[str]] = {}  # values that are no numbers, by metric
    for number, row in read_json_lines(path):
        step = row.get("step") if isinstance(row, dict) else None
        if not _is_number(step) or not math.isfinite(step):
            raise ValueError(f'{path}:{number} has no "step"; every line is {{"step": n, "name": value, ...}}')
        for name, value in row.items():
            if name == "step":
                continue
            if value is None or _is_number(value):
                yield step, name, math.nan if value is None else float(value)
            else:
                others.setdefault(name, []).append(str(value))
    _tell_left_out(path, others)


def _events(folder: Path) -> Iterator[tuple[float, str, float]]:
    """Of all event files of one folder, in the order of their names, which carry the time of their start."""
    paths = sorted(folder.rglob("*tfevents*"), key=lambda path: path.name)
    folders = sorted({path.parent for path in paths})
    if folder in folders:
        folders = [folder]
    if len(folders) != 1:
        names = ", ".join(str(path.relative_to(folder)) for path in folders)
        if not folders:
            raise ValueError(f"{folder} has neither; {_REMEDY}")
        raise ValueError(
            f"{folder} has no metrics.jsonl but event files in several sub-folders ({names}); name one of them"
        )
    for path in paths:
        if path.parent == folders[0]:
            yield from read_scalars(path)


def _csv(path: Path) -> Iterator[tuple[float, str, float]]:
    """A history (a row per step, `_step` or the like beside the metrics), one W&B chart (`Step` and `<run> - <metric>`)
    or one of TensorBoard (`Wall time`, `Step` and `Value`). What is no number is named in a warning."""
    rows = _csv_rows(path)
    header = rows[0][1] if rows else []
    at = next((at for step in _STEP_COLUMNS for at, name in enumerate(header) if name.casefold() == step), None)
    if at is None:
        raise ValueError(
            f"{path} has the columns {', '.join(header) or 'none'}; one of {', '.join(_STEP_COLUMNS)} is needed"
        )
    names = {
        column: _metric_name(name, path) for column, name in enumerate(header) if column != at and _is_metric(name)
    }
    twice = sorted({name for name in names.values() if list(names.values()).count(name) > 1})
    if twice:
        raise ValueError(f"{path} has several columns of {', '.join(twice)}: of several runs? give one CSV per run")
    words: dict[str, list[str]] = {}  # cells that are no numbers, by metric
    for number, row in rows[1:]:
        if len(row) <= at or not row[at].strip():
            continue
        step = _number(row[at])
        if step is None or not math.isfinite(step):
            raise ValueError(f"{path}:{number} has {header[at]} {row[at]!r}, must be a number; delete the row")
        for column, name in names.items():
            value = _number(row[column]) if column < len(row) else None
            if value is not None:
                yield step, name, value
            elif column < len(row) and row[column].strip():
                words.setdefault(name, []).append(row[column])
    _tell_left_out(path, words)


def _tell_left_out(path: Path, values: dict[str, list[str]]) -> None:
    """One line for what is no number, by metric."""
    if values:
        counts = ", ".join(f"{len(texts)} of {name} such as {texts[0][:40]!r}" for name, texts in values.items())
        logger.warning("%s: values that are no numbers are left out: %s", path, counts)


def _csv_rows(path: Path) -> list[tuple[int, list[str]]]:
    """(line number, cells) of the rows that are not empty, cells parted by what parts most words of the first one.

    Where that is a semicolon the comma is the point of numbers, as spreadsheets of many countries write.
    """
    text = read_text(path)
    first = next((line for line in text.split("\n") if line.strip()), "")
    separator = max(_SEPARATORS, key=first.count)
    reader = csv.reader(io.StringIO(text), delimiter=separator)
    try:
        rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except csv.Error as error:
        raise ValueError(f"{path}:{reader.line_num} is no CSV ({error}); export the file again") from error
    rows = [(number, cells) for number, cells in rows if any(cells)]
    if separator == ";":
        rows[1:] = [(number, [_DECIMAL_COMMA.sub(r"\1.\2", cell) for cell in cells]) for number, cells in rows[1:]]
    return rows


def _is_metric(column: str) -> bool:
    return not (
        column in ("", _WALL_TIME)
        or column.startswith("_")
        or column.endswith(_BESIDES)
        or column.casefold() in _STEP_COLUMNS
    )


def _metric_name(column: str, path: Path) -> str:
    """Without the run's name that a W&B chart puts before it; of TensorBoard's values the tag in the file's name."""
    if column == _VALUE and (tag := _TAG_IN_NAME.search(path.stem)):
        return tag[1]
    return column.rsplit(" - ", 1)[-1]


def _number(text: str) -> float | None:
    """None of empty cells and words; W&B writes NaN and Infinity as words that float reads."""
    try:
        return float(text)
    except ValueError:
        return None


def _is_number(value: typing.Any) -> bool:
    """Whether JSON's value is a number that a float can be."""
    return isinstance(value, float) or (type(value) is int and abs(value) < 2**1023)


def label_runs(sources: Sequence[str | Path]) -> list[str]:
    """Short labels of runs, each different: the shortest ends of their paths that tell them apart."""
    paths = [Path(source).resolve() for source in sources]
    paths = [path.parent if path.name == "metrics.jsonl" else path for path in paths]
    for length in range(1, max((len(path.parts) for path in paths), default=1) + 1):
        labels = ["/".join(path.parts[-length:]) for path in paths]
        if len(set(labels)) == len(labels):
            return labels
    raise ValueError(f"the same run is given twice: {', '.join(map(str, sources))}; give each run once")
