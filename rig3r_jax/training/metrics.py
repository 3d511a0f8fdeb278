"""Metrics on their way out: TensorBoard's event files and metrics.jsonl.

CLU's writers make the event files where TensorFlow is installed, which they import (700 MB), else TensorBoard's own;
`train.event_writer` asks for one of them. Either is imported by the one process that writes, when it opens them.
"""

import importlib.util
import logging
import math
import os
import sys
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path

from rig3r_jax.formats.atomic import write_atomically
from rig3r_jax.formats.json_file import json_line, read_json_lines
from rig3r_jax.losses.mean import Mean
from rig3r_jax.training.os_errors import explain

logger = logging.getLogger(__name__)

STEPS_OF_ROW = "speed/steps"  # how many steps a row is of: the last ones up to its step


@typing.runtime_checkable
class ScalarWriter(typing.Protocol):
    """What CLU's writers and ours have in common."""

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None: ...

    def flush(self) -> None: ...

    def close(self) -> None: ...


class TensorBoardWriter:
    """Scalars into an event file by TensorBoard's own writer, whose thread does the writing."""

    def __init__(self, folder: Path):
        from tensorboard.summary import Writer

        # TensorBoard's own switch: where there is a module of this name it does without TensorFlow, else it imports all
        # of that where it is installed. It stays so in this process: CLU's writer cannot be opened after this one.
        switch = "tensorboard.compat.notf"
        sys.modules.setdefault(switch, types.ModuleType(switch))
        self._writer = Writer(str(folder))

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Every value under its name."""
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, step)

    def flush(self) -> None:
        """Everything written so far is on disk."""
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


EVENT_WRITERS = ("auto", "clu", "tensorboard")


def open_event_file(folder: Path, kind: str = "auto") -> ScalarWriter:
    """A writer, one of EVENT_WRITERS, of scalars into a new event file of the folder."""
    if kind == "tensorboard" or (kind == "auto" and importlib.util.find_spec("tensorflow") is None):
        return TensorBoardWriter(folder)
    from clu import metric_writers

    return metric_writers.create_default_writer(str(folder), asynchronous=True)


class MetricsWriter:
    """Writes one row of scalars per logged step to an event file and metrics.jsonl."""

    def __init__(self, workdir: Path, *, events: str = "auto", resume_step: int = 0, silent: bool = False):
        """Rows of metrics.jsonl beyond `resume_step` are dropped: the resumed run writes them again.

        `events` is one of EVENT_WRITERS. A `silent` one, of a process that writes no files, opens and imports nothing.
        """
        self._silent, self._waiting = silent, ""
        if not silent:
            self._path = Path(workdir) / "metrics.jsonl"
            rows = read_metrics(self._path) if self._path.exists() else []
            kept = "".join(json_line(row) for row in rows if row["step"] <= resume_step)
            write_atomically(self._path, kept.encode())
            self._events: ScalarWriter | None = open_event_file(workdir, events)

    def write(self, step: int, scalars: dict[str, float]) -> None:
        """One row; a value that is not finite is written as null to metrics.jsonl.

        Where the disk takes none, rows wait in memory for the next one. Event files then end: their rows are also here.
        """
        if self._silent:
            return
        self._with_events(lambda events: events.write_scalars(step, scalars))
        begins, self._waiting = not self._waiting, self._waiting + json_line({"step": step, **scalars})
        try:
            self._append()
        except OSError as error:
            if begins:
                logger.warning("rows of metrics wait in memory: %s", explain(error))

    def flush(self) -> None:
        """Everything written so far is on disk; OSError where rows still wait that the disk does not take."""
        self._with_events(lambda events: events.flush())
        if self._waiting:
            self._append()

    def close(self) -> None:
        """The end; where rows are lost now the log says so."""
        try:
            self.flush()
        except OSError as error:
            logger.error("the last %d rows of metrics are lost: %s", self._waiting.count("\n"), explain(error))
        self._with_events(lambda events: events.close())

    def _append(self) -> None:
        """Appends what waits, whole or not at all; not to a file that is gone, with the folder of the run perhaps."""
        with open(self._path, "r+b", buffering=0) as file:
            end, data = file.seek(0, os.SEEK_END), self._waiting.encode()
            try:
                while data:  # a disk that fills up takes a part first
                    data = data[file.write(data) :]
            except OSError as error:
                file.truncate(end)
                raise OSError(error.errno, error.strerror, str(self._path)) from error
        self._waiting = ""

    def _with_events(self, work: Callable[[ScalarWriter], None]) -> None:
        """Does `work` with the writer of event files; after an error of that, of any library, there is none."""
        try:
            if not self._silent and self._events is not None:
                work(self._events)
        except Exception as error:
            logger.warning("TensorBoard's file ends here: %s", _first_line(error))
            self._events = None


def _first_line(error: Exception) -> str:
    return (explain(error).splitlines() or [type(error).__name__])[0]


def read_metrics(path: Path) -> list[dict[str, typing.Any]]:
    """Rows of a metrics.jsonl; a last line that was cut short by a kill is left out."""
    return [row for _, row in read_json_lines(path)]


def merge_window(window: list[dict[str, Mean]]) -> dict[str, float]:
    """Host scalars of several steps' metrics: sums and counts are added, then divided; NaN over nothing.

    Names that begin with `count/` are running counters: their last value stands.
    """
    scalars = {}
    for name in window[0]:
        steps = window[-1:] if name.startswith("count/") else window
        count = float(sum(step[name].count for step in steps))
        scalars[name] = float(sum(step[name].total for step in steps)) / count if count else math.nan
    return scalars


def parameter_table(params: typing.Any) -> str:
    """clu's overview of names, shapes and sizes, with the total."""
    from clu import parameter_overview  # which needs no TensorFlow

    return parameter_overview.get_parameter_overview(params, include_stats=False)
