"""Where the wall time of a run goes, over all its starts: what trained, and what was lost to which cause.

Time counts from the moment at which a process begins to prepare its run; what passes between two starts, as in a queue,
is not counted. Of a run that was killed the steps that are done again count as lost, up to the last row that it logged.
"""

import contextlib
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

PERCENT = "goodput/percent"

# By the name of its column, in seconds: what the report calls it.
CAUSES = {
    "training": "training",
    "starting": "starting and compiling",
    "restoring": "restoring",
    "data": "waiting for data",
    "saving": "saving",
    "evaluation": "evaluation",
    "lost": "steps done again after a restart",
}


class Goodput:
    """The account of one process; what happens outside of `spending` counts as starting."""

    def __init__(self) -> None:
        self._seconds = dict.fromkeys(CAUSES, 0.0)
        self._cause, self._since = "starting", time.perf_counter()

    @contextlib.contextmanager
    def spending(self, cause: str) -> Iterator[None]:
        """Counts the time inside for a cause; inside of another, that one goes on after."""
        before = self._turn(cause)
        try:
            yield
        finally:
            self._turn(before)

    def seconds(self, cause: str) -> float:
        """Up to now."""
        self._turn(self._cause)
        return self._seconds[cause]

    def go_on(self, rows: Sequence[Mapping[str, Any]], step: int) -> None:
        """Adds what the rows of a run's metrics tell of its starts before, which goes on at `step`."""
        accounts = [row for row in rows if PERCENT in row]
        kept = _account([row for row in accounts if row["step"] <= step])
        for cause, seconds in kept.items():
            self._seconds[cause] += seconds
        self._seconds["lost"] += max(0.0, sum(_account(accounts).values()) - sum(kept.values()))

    def scalars(self) -> dict[str, float]:
        """For the metrics: the share that trained, in percent, and the seconds of each cause."""
        self._turn(self._cause)
        total = sum(self._seconds.values())
        share = 100.0 * self._seconds["training"] / total if total else math.nan
        return {PERCENT: share} | {_column(cause): seconds for cause, seconds in self._seconds.items()}

    def _turn(self, cause: str) -> str:
        """Counts the time since the last turn for its cause, and begins another; returns the one before."""
        now, before = time.perf_counter(), self._cause
        self._seconds[before] += now - self._since
        self._cause, self._since = cause, now
        return before


def summary(row: Mapping[str, Any]) -> str:
    """The account of a row of metrics as a sentence: `81.0% of 2.5 h trained; saving 10.0%, ...`; "" without one."""
    seconds = _account([row] if PERCENT in row else [])
    if not (total := sum(seconds.values())):
        return ""
    parts = [(seconds[cause], f"{text} {100 * seconds[cause] / total:.1f}%") for cause, text in CAUSES.items()]
    losses = ", ".join(text for spent, text in sorted(parts[1:], reverse=True) if spent >= 0.0005 * total)
    length = f"{total / 3600:.1f} h" if total >= 3600 else f"{total / 60:.1f} min"
    return f"{100 * seconds['training'] / total:.1f}% of {length} trained; {losses}"


def _account(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Seconds by cause in the last of these rows; zeros without one."""
    return {cause: float(rows[-1].get(_column(cause)) or 0.0) if rows else 0.0 for cause in CAUSES}


def _column(cause: str) -> str:
    return f"goodput/{cause}_seconds"
