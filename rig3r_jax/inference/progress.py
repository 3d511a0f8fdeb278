"""How far the passes are: a line for each, with memory and the time that is left."""

import os
import time
from collections.abc import Callable
from pathlib import Path


class PassProgress:
    """Tells a line per pass, such as "pass 3 of 12: 24 images, 1.2 GB in memory, 40 s left"."""

    def __init__(self, passes: int, tell: Callable[[str], None], clock: Callable[[], float] = time.monotonic):
        self._passes, self._tell, self._clock = passes, tell, clock
        self._number, self._before = 0, clock()
        self._seconds: list[float] = []  # of passes that were run here

    def advance(self, images: int, reused: bool = False) -> None:
        """One pass more is done, or was there from before."""
        self._number += 1
        now = self._clock()
        if not reused:
            self._seconds.append(now - self._before)
        self._before = now
        memory = resident_bytes()
        parts = [f"{images} images"] + ([f"{memory / 1e9:.1f} GB in memory"] if memory else [])
        if reused:
            parts.append("from before")
        if (left := self._seconds_left()) is not None:
            parts.append(f"{duration(left)} left")
        self._tell(f"pass {self._number} of {self._passes}: {', '.join(parts)}")

    def _seconds_left(self) -> float | None:
        """None where no pass tells yet, or none is left. The first one is slower, as it compiles: it counts alone."""
        steady = self._seconds[1:] or self._seconds
        if not steady or self._number == self._passes:
            return None
        return sum(steady) / len(steady) * (self._passes - self._number)


def duration(seconds: float) -> str:
    """Such as 40 s, 12 min, 3 h 20 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def resident_bytes() -> int | None:
    """Memory that this process holds now; None where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")
