"""Metrics on their way out: CLU writers (TensorBoard, log) and metrics.jsonl. Only this file imports TensorFlow."""

import math
import os
import typing
from pathlib import Path

from rig3r_jax.formats.atomic import write_atomically
from rig3r_jax.formats.json_file import json_line, read_json_lines
from rig3r_jax.losses.mean import Mean

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # before TensorFlow is imported: its start-up notes are not ours
from clu import metric_writers, parameter_overview  # noqa: E402


class MetricsWriter:
    """Writes one row of scalars per logged step to every sink."""

    def __init__(self, workdir: Path, *, resume_step: int = 0, only_log: bool = False):
        """Rows of metrics.jsonl beyond `resume_step` are dropped: the resumed run writes them again."""
        self._clu = metric_writers.create_default_writer(str(workdir), just_logging=only_log, asynchronous=True)
        self._file = None
        if not only_log:
            path = Path(workdir) / "metrics.jsonl"
            kept = [row for row in read_metrics(path) if row["step"] <= resume_step] if path.exists() else []
            write_atomically(path, "".join(map(json_line, kept)).encode())
            self._file = path.open("a", buffering=1)

    def write(self, step: int, scalars: dict[str, float]) -> None:
        """One row; a value that is not finite is written as null to metrics.jsonl."""
        self._clu.write_scalars(step, scalars)
        if self._file:
            self._file.write(json_line({"step": step, **scalars}))

    def flush(self) -> None:
        """Everything written so far is on disk."""
        self._clu.flush()

    def close(self) -> None:
        self.flush()
        self._clu.close()
        if self._file:
            self._file.close()


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
    return parameter_overview.get_parameter_overview(params, include_stats=False)
