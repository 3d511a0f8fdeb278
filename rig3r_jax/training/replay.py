"""Steps of a run done again: the same bits, or something computes wrongly.

From the same checkpoint, data and program every number comes out the same, on the same kind and number of devices. One
that does not was damaged in memory or on its way, or the program is another one.
"""

import dataclasses
import math
import os
import tempfile
import typing
from collections.abc import Mapping
from pathlib import Path

import jax

from rig3r_jax.losses.mean import Mean
from rig3r_jax.training.checkpoint import restore_before
from rig3r_jax.training.checksum import CHECKSUM, checksum
from rig3r_jax.training.config import workdir_config
from rig3r_jax.training.metrics import STEPS_OF_ROW, merge_window, read_metrics
from rig3r_jax.training.position import Position
from rig3r_jax.training.records import records_folder
from rig3r_jax.training.task import TaskKind, validate


@dataclasses.dataclass(frozen=True)
class Replayed:
    """What came of it: `difference` is one line, "" where there is none."""

    first: int  # step of the checkpoint
    last: int  # step that was compared last
    values: int  # that were compared
    difference: str


def replay(workdir: Path, kind: TaskKind, step: int) -> Replayed:
    """Repeats the steps from the newest checkpoint before `step` up to it, and compares what metrics.jsonl says.

    Compared bit for bit are the checksum of the parameters and the metrics of the steps in every logged row; a row
    whose steps begin before the checkpoint has its checksum compared. The first difference ends it. Nothing is written
    into the workdir, which may be training.

    Raises:
        ValueError, FileNotFoundError: no such workdir, row, checkpoint before it, or records.
    """
    config = workdir_config(workdir)
    rows = _rows(workdir / "metrics.jsonl")
    if step not in rows:
        raise ValueError(f"{workdir / 'metrics.jsonl'} has no row of step {step}; {_nearest(rows, step)}")
    config.data.records = os.path.abspath(records_folder(config, workdir))
    every = range(len(config.data.mixture))  # records that are not there: `open_task` says so, with the command
    validate(config, kind, devices=jax.device_count(), ready=every)
    with tempfile.TemporaryDirectory() as folder:  # for what a task writes beside a run
        task = kind.open_task(config, Path(folder), out=Path(folder))
        state, saved = restore_before(workdir, step, task.abstract_state)
        first, values = int(state.step), 0
        metrics: dict[int, dict[str, Mean]] = {}
        batches = task.batches(Position(**saved))
        try:
            for number, batch in zip(range(first + 1, step + 1), batches, strict=False):
                state, of_step = task.train_step(state, batch)
                metrics[number] = jax.device_get(of_step)
                if number not in rows:
                    continue
                now = {CHECKSUM: float(checksum(state.params))} | _row_of(metrics, number, rows[number])
                compared = {name: value for name, value in now.items() if name in rows[number]}
                values += len(compared)
                if difference := _difference(rows[number], compared):
                    return Replayed(first, number, values, f"step {number}: {difference}")
        finally:
            batches.close()
    if not values:
        raise ValueError(f"{workdir / 'metrics.jsonl'}: its rows after step {first} hold nothing to compare")
    return Replayed(first, step, values, "")


def _rows(path: Path) -> dict[int, dict[str, typing.Any]]:
    """What is logged of each step."""
    rows: dict[int, dict[str, typing.Any]] = {}
    for row in read_metrics(path):
        if STEPS_OF_ROW in row:  # evaluations have rows of their own
            rows[row["step"]] = row
    return rows


def _nearest(rows: Mapping[int, typing.Any], step: int) -> str:
    nearest = sorted(rows, key=lambda logged: abs(logged - step))[:3]
    return f"the nearest are {', '.join(map(str, nearest))}" if nearest else "it has none of any step"


def _row_of(metrics: Mapping[int, dict[str, Mean]], step: int, row: Mapping[str, typing.Any]) -> dict[str, float]:
    """The metrics of a row made again; {} where its steps begin before those that were repeated."""
    steps = range(step - int(row[STEPS_OF_ROW]) + 1, step + 1)
    return merge_window([metrics[number] for number in steps]) if steps[0] in metrics else {}


def _difference(row: Mapping[str, typing.Any], now: Mapping[str, float]) -> str:
    """The first value that is another one now, the checksum last: values say more."""
    for name in sorted(now, key=lambda name: name == CHECKSUM):
        logged = math.nan if row[name] is None else float(row[name])
        same = logged == now[name] or (math.isnan(logged) and not math.isfinite(now[name]))
        if not same:
            return f"{name} was {logged!r}, repeated it is {now[name]!r}"
    return ""
