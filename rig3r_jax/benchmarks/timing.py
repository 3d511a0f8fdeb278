"""Times of a function on a device: what compiling took, then the median of repeated calls."""

import dataclasses
import math
import statistics
import time
from collections.abc import Callable

import jax


@dataclasses.dataclass(frozen=True)
class Timing:
    """Seconds of repeated calls."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The usual time of a call."""
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """Half the range between the quartiles, over the median; 0 of fewer than 4 calls."""
        if len(self.seconds) < 4:
            return 0.0
        first, _, third = statistics.quantiles(self.seconds, n=4)
        return (third - first) / 2 / self.median


@dataclasses.dataclass(frozen=True)
class HostUse:
    """What this process had of the host while calls ran: where a step on a CPU is slow though its parts are not, memory
    that is fetched anew (page faults) or cores that are not busy say why."""

    cpu_seconds: float  # of all threads, the system's share included
    page_faults: int  # without reading from a disk

    @classmethod
    def so_far(cls) -> "HostUse | None":
        """Of this process since it began; None where the system does not tell."""
        try:
            import resource
        except ImportError:  # not on Windows
            return None
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return cls(usage.ru_utime + usage.ru_stime, usage.ru_minflt)

    def since(self, earlier: "HostUse") -> "HostUse":
        """What was added."""
        return HostUse(self.cpu_seconds - earlier.cpu_seconds, self.page_faults - earlier.page_faults)


class Limit:
    """The time that a benchmark may take; what is not begun by then is left out by name."""

    LATE = "not begun: --limit-seconds were over"

    def __init__(self, seconds: int | float | None = None):
        self._end = math.inf if seconds is None else time.monotonic() + seconds

    def over(self) -> bool:
        return time.monotonic() > self._end


def time_calls(
    call: Callable[[], object],
    *,
    repeats: int,
    warmup: int = 1,
    in_a_row: int = 1,
    wait: Callable[[object], object] = jax.block_until_ready,
) -> Timing:
    """Calls and waits for the result `repeats` times, after `warmup` calls that do not count.

    `wait` is given what `call` returns and waits for its device. With `in_a_row` calls before every wait, what
    Python takes to start one hides behind the device's work on the one before; seconds are those of one call.
    """
    if min(repeats, in_a_row) < 1:
        raise ValueError(f"repeats={repeats} and in_a_row={in_a_row} must be at least 1")
    for _ in range(warmup):
        wait(call())
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        for _ in range(in_a_row):
            result = call()
        wait(result)
        seconds.append((time.perf_counter() - start) / in_a_row)
    return Timing(tuple(seconds))


def time_device(
    call: Callable[[], object],
    *,
    repeats: int,
    warmup: int = 2,
    least: float = 0.02,
    wait: Callable[[object], object] = jax.block_until_ready,
) -> Timing:
    """`time_calls` of short work: as many calls in a row as take `least` seconds, so that the device never waits."""
    once = time_calls(call, repeats=1, warmup=warmup, wait=wait).median
    in_a_row = max(1, min(100, round(least / once)))
    return time_calls(call, repeats=repeats, warmup=0, in_a_row=in_a_row, wait=wait)


def peak_bytes(device: jax.Device) -> int | None:
    """The most memory that was ever in use on a device, in this process; None where it does not tell."""
    return (device.memory_stats() or {}).get("peak_bytes_in_use")
