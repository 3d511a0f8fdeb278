"""Metric histories of runs: metrics.jsonl, TensorBoard event files, or a CSV exported from Weights & Biases."""

import csv
import dataclasses
import math
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from rig3r_jax.formats.json_file import read_json_lines
from rig3r_jax.viz.tfevents import read_scalars

_STEP_COLUMNS = ("_step", "step", "Step", "trainer/global_step")
_BESIDES = ("__MIN", "__MAX", "__STEP", "_step")  # columns that W&B adds to each of a chart
_REMEDY = "give a metrics.jsonl, a folder with one or with TensorBoard event files, or a W&B history as .csv"


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
    elif source.suffix == ".jsonl":
        rows = _jsonl(source)
    elif source.suffix == ".csv":
        rows = _csv(source)
    elif "tfevents" in source.name:
        rows = read_scalars(source)
    else:
        raise ValueError(f"{source} is of no known kind; {_REMEDY}")
    metrics: dict[str, dict[float, float]] = {}
    for step, name, value in rows:
        metrics.setdefault(name, {})[step] = value
    curves = {}
    for name, values in metrics.items():
        steps = sorted(values)
        curves[name] = Curve(np.array(steps, np.float64), np.array([values[step] for step in steps], np.float64))
    if not curves:
        raise ValueError(f"{source} holds no metric; {_REMEDY}")
    return History(source, curves)


def _jsonl(path: Path) -> Iterator[tuple[float, str, float]]:
    """null is a value that was not finite; a last line cut short by a kill is left out."""
    for number, row in read_json_lines(path):
        if not isinstance(row, dict) or not _is_number(row.get("step")):
            raise ValueError(f'{path}:{number} has no "step"; every line is {{"step": n, "name": value, ...}}')
        for name, value in row.items():
            if name != "step" and (value is None or _is_number(value)):
                yield row["step"], name, math.nan if value is None else float(value)


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
    """A history (a row per step, `_step` beside the metrics) or one W&B chart (`Step` and `<run> - <metric>`)."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.reader(file))
    header = rows[0] if rows else []
    step_column = next((name for name in _STEP_COLUMNS if name in header), None)
    if step_column is None:
        raise ValueError(
            f"{path} has the columns {', '.join(header) or 'none'}; one of {', '.join(_STEP_COLUMNS)} is needed"
        )
    at = header.index(step_column)
    names = {column: _metric_name(name) for column, name in enumerate(header) if column != at and _is_metric(name)}
    twice = sorted({name for name in names.values() if list(names.values()).count(name) > 1})
    if twice:
        raise ValueError(f"{path} has several columns of {', '.join(twice)}: of several runs? give one CSV per run")
    for number, row in enumerate(rows[1:], 2):
        if not row or not row[at].strip():
            continue
        step = _number(row[at])
        if step is None or not math.isfinite(step):
            raise ValueError(f"{path}:{number} has {step_column} {row[at]!r}, must be a number; delete the row")
        for column, name in names.items():
            value = _number(row[column]) if column < len(row) else None
            if value is not None:
                yield step, name, value


def _is_metric(column: str) -> bool:
    return not (column == "" or column.startswith("_") or column.endswith(_BESIDES) or column in _STEP_COLUMNS)


def _metric_name(column: str) -> str:
    """Without the run's name that a W&B chart puts before it."""
    return column.rsplit(" - ", 1)[-1]


def _number(text: str) -> float | None:
    """None of empty cells and words; W&B writes NaN and Infinity as words that float reads."""
    try:
        return float(text)
    except ValueError:
        return None


def _is_number(value: typing.Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def label_runs(sources: Sequence[str | Path]) -> list[str]:
    """Short labels of runs, each different: the shortest ends of their paths that tell them apart."""
    paths = [Path(source).resolve() for source in sources]
    paths = [path.parent if path.name == "metrics.jsonl" else path for path in paths]
    for length in range(1, max((len(path.parts) for path in paths), default=1) + 1):
        labels = ["/".join(path.parts[-length:]) for path in paths]
        if len(set(labels)) == len(labels):
            return labels
    raise ValueError(f"the same run is given twice: {', '.join(map(str, sources))}; give each run once")
