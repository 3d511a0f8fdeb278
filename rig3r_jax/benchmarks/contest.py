"""Contestants that do the same work, timed in turns; the first one named is the measure of the others."""

import dataclasses
import gc
import time
import types
import typing
from collections.abc import Callable, Sequence

from rig3r_jax.benchmarks.result import Row
from rig3r_jax.benchmarks.setting import out_of_memory
from rig3r_jax.benchmarks.timing import Limit, Timing


@typing.runtime_checkable
class Contestant(typing.Protocol):
    """What is timed: ours, or the twin of `torch_step`."""

    name: str
    remark: str  # what a reader must know of this row; "" for nothing
    first_seconds: float  # of the first call, compilation included

    def open(self) -> None:
        """Compiles and makes the first call."""
        ...

    def call(self) -> object:
        """One call, until its device has done it."""
        ...

    def peak_bytes(self) -> int | None:
        """The most memory in use; None where nobody tells."""
        ...

    def close(self) -> None:
        """Gives the memory back as far as its allocator does."""
        ...


@dataclasses.dataclass(frozen=True)
class Result:
    """What one contestant did."""

    name: str
    timing: Timing | None  # None: it did not run, and `remark` says why
    compile_seconds: float  # the first call, less a usual one
    peak_bytes: int | None
    remark: str = ""


def contest_rows(
    results: Sequence[Result],
    what: str,
    unit: str,
    rates: Callable[[float], Row],
    labels: Row = types.MappingProxyType({}),
) -> list[Row]:
    """One row per contestant; `peer / ours` above 1 says that the first, ours, is faster.

    Args:
        results: ours first.
        what: title of the column of names.
        unit: title of the column of seconds; None there, with a remark, for one that did not run.
        rates: columns made of the seconds of a call.
        labels: columns that come first.
    """
    rows, first = [], results[0].timing
    for result in results:
        row = {**labels, what: result.name, unit: None}
        if result.timing is None:
            rows.append({**row, "remark": result.remark})
            continue
        seconds = result.timing.median
        row |= {
            unit: seconds,
            "spread %": 100 * result.timing.spread,
            **rates(seconds),
            "compile s": result.compile_seconds,
            "peak GB": None if result.peak_bytes is None else result.peak_bytes / 1e9,
        }
        if len(results) > 1:
            row["peer / ours"] = seconds / first.median if first else None
        rows.append(row)
    return rows


def run_contest(
    contestants: Sequence[Contestant],
    *,
    repeats: int,
    warmup: int,
    in_turns: bool,
    check: Callable[[Sequence[Contestant]], None] = lambda opened: None,
    limit: Limit | None = None,
    finished: Callable[[Result], None] = lambda result: None,
) -> list[Result]:
    """Times every contestant; those that run out of memory or have no kernel give a result without times.

    Args:
        contestants: in the order of the results.
        repeats: timed calls of each.
        warmup: calls before those, after the first one.
        in_turns: all are open at once and call in turns, so that a slow moment of the machine meets all; else one after
            another, the last one first, each closed before the next is opened.
        check: is given all those that ran after their first calls, before results are made; it raises on unequal work.
        limit: beyond which none is opened, and none is called once more that has been timed.
        finished: is given each result as soon as it is there.
    """
    if repeats < 1:
        raise ValueError(f"repeats={repeats} must be at least 1")
    limit = limit or Limit()
    seconds: dict[int, list[float]] = {}
    failed: dict[int, str] = {}

    def attempt(index: int, action: Callable[[], None]) -> None:
        if index in failed:
            return
        try:
            action()
        except Exception as error:
            if not out_of_memory(error) and "No available kernel" not in str(error):
                raise
            failed[index] = "out of memory" if out_of_memory(error) else str(error).splitlines()[0]
        if index in failed:
            contestants[index].close()
            gc.collect()

    def timed(index: int, count: bool) -> None:
        start = time.perf_counter()
        contestants[index].call()
        if count:
            seconds.setdefault(index, []).append(time.perf_counter() - start)

    def open_in_time(index: int) -> None:
        if limit.over():
            failed[index] = Limit.LATE
        attempt(index, contestants[index].open)

    order = list(range(len(contestants)))
    results: dict[int, Result] = {}
    for group in [order] if in_turns else [[index] for index in reversed(order)]:
        for index in group:
            open_in_time(index)
        if in_turns:
            check([contestants[index] for index in group if index not in failed])
        for turn in range(warmup + repeats):
            if limit.over() and all(index in seconds or index in failed for index in group):
                break
            for index in group:
                attempt(index, lambda index=index, turn=turn: timed(index, turn >= warmup))
        for index in group:
            peak = contestants[index].peak_bytes()
            results[index] = _result(contestants[index], seconds.get(index, ()), peak, failed.get(index, ""))
            finished(results[index])
            contestants[index].close()
    if not in_turns:
        check([contestants[index] for index in order if index not in failed])
    return [results[index] for index in order]


def _result(contestant: Contestant, seconds: Sequence[float], peak: int | None, failure: str) -> Result:
    if failure:
        return Result(contestant.name, None, float("nan"), peak, failure)
    timing = Timing(tuple(seconds))
    return Result(contestant.name, timing, max(0.0, contestant.first_seconds - timing.median), peak, contestant.remark)
