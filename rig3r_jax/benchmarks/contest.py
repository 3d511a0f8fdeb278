"""Contestants that do the same work, timed in turns; the first one named is the measure of the others."""

import dataclasses
import gc
import statistics
import time
import types
import typing
from collections.abc import Callable, Sequence

from rig3r_jax.benchmarks.result import Row
from rig3r_jax.benchmarks.setting import out_of_memory
from rig3r_jax.benchmarks.timing import HostUse, Limit, Timing


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
    host: Sequence[HostUse] = ()  # of each timed call; none where the system does not tell


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
        if result.host:
            row["host CPU s"] = statistics.median(use.cpu_seconds for use in result.host)
            row["page faults"] = statistics.median(use.page_faults for use in result.host)
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
    entries = [_Entry(contestant) for contestant in contestants]
    for group in [entries] if in_turns else [[entry] for entry in reversed(entries)]:
        for entry in group:
            entry.open(limit)
        if in_turns:
            check(_running(group))
        _take_turns(group, repeats, warmup, limit)
        for entry in group:
            entry.finish()
            finished(entry.result)
            entry.contestant.close()
    if not in_turns:
        check(_running(entries))
    return [entry.result for entry in entries]


class _Entry:
    """A contestant in a contest: its timed calls, why it is out of it, and in the end its result."""

    def __init__(self, contestant: Contestant):
        self.contestant, self.failure = contestant, ""
        self.seconds: list[float] = []
        self.host: list[HostUse] = []
        self.result: Result

    def open(self, limit: Limit) -> None:
        """Its first call, where there is time left."""
        if limit.over():
            self.failure = Limit.LATE
        self._attempt(self.contestant.open)

    def call(self, *, timed: bool) -> None:
        """One more call, whose seconds count where it is timed."""
        before, start = HostUse.so_far(), time.perf_counter()
        self._attempt(self.contestant.call)
        if timed and not self.failure:
            self.seconds.append(time.perf_counter() - start)
            if before:
                self.host.append(HostUse.so_far().since(before))

    def finish(self) -> None:
        """Makes its result, before it is closed."""
        contestant, peak = self.contestant, self.contestant.peak_bytes()
        if self.failure:
            self.result = Result(contestant.name, None, float("nan"), peak, self.failure)
            return
        timing = Timing(tuple(self.seconds))
        compile_seconds = max(0.0, contestant.first_seconds - timing.median)
        self.result = Result(contestant.name, timing, compile_seconds, peak, contestant.remark, self.host)

    def _attempt(self, action: Callable[[], object]) -> None:
        """Does it unless the contestant is out; a lack of memory or of a kernel puts it out and closes it."""
        if self.failure:
            return
        try:
            action()
        except Exception as error:
            if not out_of_memory(error) and "No available kernel" not in str(error):
                raise
            self.failure = "out of memory" if out_of_memory(error) else str(error).splitlines()[0]
        if self.failure:  # after the error, which holds on to what it met
            self.contestant.close()
            gc.collect()


def _take_turns(group: Sequence[_Entry], repeats: int, warmup: int, limit: Limit) -> None:
    """Every contestant of the group calls once per turn, until all turns are over, or the time and all are timed."""
    for turn in range(warmup + repeats):
        if limit.over() and all(entry.seconds or entry.failure for entry in group):
            return
        for entry in group:
            entry.call(timed=turn >= warmup)


def _running(entries: Sequence[_Entry]) -> list[Contestant]:
    return [entry.contestant for entry in entries if not entry.failure]
