"""Ends a process that makes no progress: a stopped or lost peer leaves the others waiting in a collective for ever."""

import faulthandler
import os
import sys
import threading
import time

EXIT_STALLED = 76  # asks a scheduler to start the run again from its last checkpoint
COMPILING = 5.0  # times the limit for what may have to compile a program first
_STUCK_INTERPRETER = 1.5  # times the limit after which C code ends a process whose interpreter no longer runs
_REARM_SECONDS = 1.0


class Watchdog:
    """After `seconds` without `progress`, prints the stacks of all threads and ends the process with EXIT_STALLED.

    A thread of Python's keeps the time. Behind it stands one of C's (exit code 1), for code that never gives the
    interpreter back. With 0 seconds nothing is watched.
    """

    def __init__(self, seconds: float, label: str):
        self._seconds, self._label = seconds, label
        self._last, self._limit, self._doing, self._armed = time.monotonic(), seconds, "starting", 0.0
        self._for_data = False  # whether what is done is to wait for it
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> "Watchdog":
        global _current
        _current = self
        if self._seconds:
            self.progress(self._doing)
            self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        global _current
        _current = None
        self._over.set()
        if self._seconds:
            faulthandler.cancel_dump_traceback_later()

    def progress(self, doing: str, patience: float = 1.0, *, for_data: bool = False) -> None:
        """Notes that the process lives; `doing` is what comes next, for the message, and may take `patience` times the
        limit. What waits `for_data` may take as long as samples come in (`sample_made`)."""
        self._for_data = for_data
        limit = self._seconds * patience
        self._last, self._doing = time.monotonic(), doing  # before the limit: the other thread may look in between
        changed, self._limit = limit != self._limit, limit
        self._arm(at_once=changed)

    def sample_made(self) -> None:
        """Notes that a sample is there: a process that waits for data lives, however slow the storage."""
        if self._for_data:
            self._last = time.monotonic()
            self._arm()

    def _arm(self, *, at_once: bool = False) -> None:
        """Sets the clock of C's thread, once a second at most unless `at_once`: it starts a thread each time."""
        if not self._seconds or not (at_once or self._last - self._armed > _REARM_SECONDS):
            return
        self._armed = self._last
        faulthandler.dump_traceback_later(self._limit * _STUCK_INTERPRETER + _REARM_SECONDS, exit=True)

    def _watch(self) -> None:
        while not self._over.wait(min(1.0, self._seconds / 10)):
            waited = time.monotonic() - self._last
            if waited > self._limit:
                self._end(waited)

    def _end(self, waited: float) -> None:
        message = f"\nwatchdog: {self._label} made no progress for {waited:.0f} s, while {self._doing}; the stacks:\n"
        sys.stderr.write(message)
        sys.stderr.flush()
        faulthandler.dump_traceback(all_threads=True)
        os._exit(EXIT_STALLED)  # a thread that waits in a collective would keep a usual exit from ending


_current: Watchdog | None = None


def progress(doing: str, patience: float = 1.0) -> None:
    """Tells the watchdog of this process, if there is one, that work goes on."""
    if _current:
        _current.progress(doing, patience)


def sample_made() -> None:
    """Tells the watchdog of this process, if there is one, that a sample is there; from any thread."""
    if _current:
        _current.sample_made()
