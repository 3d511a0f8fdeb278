"""Contests: who calls when, and what happens to those that cannot."""

import argparse
import json
import mmap
import sys
import time

import numpy as np
import pytest

from rig3r_jax.benchmarks.contest import Result, contest_rows, run_contest
from rig3r_jax.benchmarks.result import Record
from rig3r_jax.benchmarks.timing import Limit, Timing


class _Fake:
    remark, first_seconds = "", 3.0

    def __init__(self, name, log, fail_at="", error=None):
        self.name, self._log, self._fail_at, self._error = name, log, fail_at, error

    def _do(self, what):
        self._log.append((self.name, what))
        if what == self._fail_at:
            raise self._error

    def open(self):
        self._do("open")

    def call(self):
        self._do("call")

    def close(self):
        self._do("close")

    def peak_bytes(self):
        return 7


def test_contestants_call_in_turns_when_all_fit():
    log, checked = [], []
    both = [_Fake("a", log), _Fake("b", log)]
    results = run_contest(both, repeats=2, warmup=1, in_turns=True, check=checked.append)
    assert log[:2] == [("a", "open"), ("b", "open")]
    assert log[2:8] == [("a", "call"), ("b", "call")] * 3
    assert log[8:] == [("a", "close"), ("b", "close")]
    assert checked == [both]
    assert [result.name for result in results] == ["a", "b"]
    assert all(len(result.timing.seconds) == 2 and result.peak_bytes == 7 for result in results)
    assert all(2.9 < result.compile_seconds <= 3.0 for result in results)


def test_else_the_last_goes_first_and_is_closed_before_the_next():
    log, checked = [], []
    both = [_Fake("a", log), _Fake("b", log)]
    results = run_contest(both, repeats=1, warmup=0, in_turns=False, check=checked.append)
    assert log == [(name, what) for name in "ba" for what in ("open", "call", "close")]
    assert checked == [both] and [result.name for result in results] == ["a", "b"]


@pytest.mark.parametrize("fail_at", ["open", "call"])
@pytest.mark.parametrize(
    ("error", "remark"),
    [
        (MemoryError("std::bad_alloc"), "out of memory"),
        (RuntimeError("RESOURCE_EXHAUSTED: no room"), "out of memory"),
        (RuntimeError("No available kernel. Aborting execution.\nmore"), "No available kernel. Aborting execution."),
    ],
)
def test_who_cannot_run_is_told_and_the_others_go_on(fail_at, error, remark):
    log, checked = [], []
    good, bad = _Fake("good", log), _Fake("bad", log, fail_at, error)
    results = run_contest([good, bad], repeats=2, warmup=0, in_turns=True, check=checked.append)
    assert results[0].timing and results[1].timing is None and results[1].remark == remark
    assert log.count(("bad", fail_at)) == 1 and ("bad", "close") in log
    assert checked == [[good] if fail_at == "open" else [good, bad]]


def test_other_errors_are_errors():
    with pytest.raises(KeyError):
        run_contest([_Fake("a", [], "open", KeyError("x"))], repeats=1, warmup=0, in_turns=True)
    with pytest.raises(ValueError, match="repeats=0"):
        run_contest([], repeats=0, warmup=0, in_turns=True)


def test_what_calls_take_of_the_host_is_told():
    class Toucher(_Fake):
        def call(self):
            end = time.process_time() + 0.05
            while time.process_time() < end:
                np.frombuffer(mmap.mmap(-1, 64 * mmap.PAGESIZE), np.uint8)[:: mmap.PAGESIZE].sum()  # 64 fresh pages

    (result,) = run_contest([Toucher("a", [])], repeats=3, warmup=0, in_turns=True)
    (row,) = contest_rows([result], "step", "s/step", lambda seconds: {})
    assert row["host CPU s"] == pytest.approx(0.05, rel=0.5) and row["page faults"] >= 64


def test_where_the_system_tells_nothing_of_the_host_no_row_does(monkeypatch):
    monkeypatch.setitem(sys.modules, "resource", None)  # as on Windows: its import fails
    (result,) = run_contest([_Fake("a", [])], repeats=3, warmup=0, in_turns=True)
    (row,) = contest_rows([result], "step", "s/step", lambda seconds: {})
    assert not {"host CPU s", "page faults"} & set(row)


def test_rows_are_against_the_first():
    ours, theirs = (
        Result("ours", Timing((1.0, 2.0, 3.0)), 5.0, 4_000_000_000),
        Result("theirs", Timing((3.0,)), 0.0, None),
    )
    failed = Result("late", None, float("nan"), None, "out of memory")

    def rows(*results):
        return contest_rows(results, "step", "s/step", lambda seconds: {"images/s": 6 / seconds}, {"images": 6})

    (alone,) = rows(ours)
    assert list(alone) == ["images", "step", "s/step", "spread %", "images/s", "compile s", "peak GB"]
    assert alone["s/step"] == 2.0 and alone["images/s"] == 3.0 and alone["compile s"] == 5.0 and alone["peak GB"] == 4.0
    first, second, third = rows(ours, theirs, failed)
    assert first["peer / ours"] == 1.0 and second["peer / ours"] == 1.5 and second["peak GB"] is None
    assert third == {"images": 6, "step": "late", "s/step": None, "remark": "out of memory"}
    assert rows(failed, theirs)[1]["peer / ours"] is None


class _Countdown(Limit):
    """Over after so many questions."""

    def __init__(self, questions: int):
        self._left = questions

    def over(self) -> bool:
        self._left -= 1
        return self._left < 0


def test_what_is_late_is_left_out_by_name_and_what_is_done_is_handed_over_at_once():
    log, done = [], []
    both = [_Fake("a", log), _Fake("b", log)]
    # Asked before b is opened, then before each of its calls; it has been timed once when the time is over.
    results = run_contest(both, repeats=9, warmup=0, in_turns=False, limit=_Countdown(2), finished=done.append)
    assert log == [("b", "open"), ("b", "call"), ("b", "close"), ("a", "close")]
    assert [result.name for result in done] == ["b", "a"]
    late, timed = results
    assert late.timing is None and late.remark == "not begun: --limit-seconds were over"
    assert len(timed.timing.seconds) == 1


def test_a_limit_is_over_after_its_seconds():
    assert not Limit().over() and not Limit(60).over() and Limit(-1).over()


def test_rows_are_on_screen_and_in_the_file_as_they_come(tmp_path, capsys):
    record = Record(argparse.Namespace(out=str(tmp_path)), "bench", {"size": 2})
    record.add({"what": "a", "s": 0.5, "remark": None})
    assert capsys.readouterr().out == "what a  s 0.5\n"
    assert json.loads((tmp_path / "bench.json").read_text())["rows"] == [{"what": "a", "s": 0.5, "remark": None}]
    record.end(more=1)
    assert json.loads((tmp_path / "bench.json").read_text())["more"] == 1
    assert Record(argparse.Namespace(out=""), "bench", {}).save() is None
