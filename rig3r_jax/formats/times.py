"""The unit of the times of a file, as the user names it or as their size tells it."""

import re
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

PER_SECOND = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
AUTO = "auto"
TIME_UNITS = (AUTO, *PER_SECOND)

_EPOCH = (5e8, 5e9)  # seconds since 1970, of the years 1985 to 2128
_LONGEST_GAP_OF_EPOCH = 600.0  # seconds from one row to the next, in the median, where times are since 1970
_LONGEST_GAP = 10.0  # where they are since something else
_NUMBER = re.compile(r"\d+(\.\d+)?")


def unit_of_times(times: Float[np.ndarray, " n"], time_unit: str, where: str) -> str:
    """The unit of `times`, a key of PER_SECOND: `time_unit` itself or, for "auto", what their size tells.

    Times since 1970 tell it by their size. Others are seconds where rows are near enough for that; where they are
    not, ValueError naming `where`, the gap between rows and the unit that it fits.
    """
    check_time_unit(time_unit)
    if time_unit != AUTO:
        return time_unit
    gap = _median_gap(times)
    unit = unit_since_1970(float(np.median(times)))
    if unit and gap / PER_SECOND[unit] <= _LONGEST_GAP_OF_EPOCH:
        return unit
    if gap <= _LONGEST_GAP:
        return "s"
    likely = next((unit for unit, per_second in PER_SECOND.items() if gap / per_second <= _LONGEST_GAP), "ns")
    raise ValueError(
        f"{where}: its times are {gap:g} apart in the median, too far for seconds; set time_unit={likely} "
        f"({gap / PER_SECOND[likely]:.4g} s apart), or time_unit=s if they are seconds"
    )


def unit_since_1970(time: float) -> str | None:
    """The unit in which this number is a time since 1970, a key of PER_SECOND; None where it is none in any."""
    units = (unit for unit, per_second in PER_SECOND.items() if _EPOCH[0] <= time / per_second < _EPOCH[1])
    return next(units, None)


def check_time_unit(time_unit: str) -> None:
    """ValueError for what is no unit."""
    if time_unit not in TIME_UNITS:
        raise ValueError(f"time_unit={time_unit!r} must be one of {', '.join(TIME_UNITS)}")


def _median_gap(times: np.ndarray) -> float:
    gaps = np.diff(np.sort(times))
    gaps = gaps[gaps > 0]
    return float(np.median(gaps)) if len(gaps) else 0.0


def times_of_names(names: Sequence[str], time_unit: str, where: str) -> tuple[Float[np.ndarray, " n"], str] | None:
    """Seconds, and the unit, where names of files without their suffix are times; None where they are not.

    Names are times that are numbers since 1970 in s, ms, us or ns (`1403715273262142976`), or of another clock with a
    decimal point (`12.345`), or any numbers where `time_unit` is given. `000123` alone counts images. Names of
    nanoseconds keep all that a float64 of seconds holds: they are divided as whole numbers.
    """
    check_time_unit(time_unit)
    if not names or not all(_NUMBER.fullmatch(name) for name in names):
        return None
    values = np.array([float(name) for name in names])
    unit = time_unit
    if time_unit == AUTO:
        since_1970 = unit_since_1970(float(np.median(values)))
        if since_1970 is None and not all("." in name for name in names):
            return None
        unit = unit_of_times(values, AUTO, where) if since_1970 else "s"
    per_second = int(PER_SECOND[unit])
    seconds = [
        float(name) / per_second if "." in name else int(name) // per_second + int(name) % per_second / per_second
        for name in names
    ]
    return np.array(seconds), unit
