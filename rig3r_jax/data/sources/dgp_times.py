"""Times of the DGP format, among them those of DDAD, which are written ten times too large."""

import contextlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rig3r_jax.data.scene import BadRecord
from rig3r_jax.formats.times import PER_SECOND, unit_since_1970

# DDAD's counters are of 0.1 us (15616458249936530: June 2019) and were written as dates as if they were of 1 us: in the
# year 2464, with a second between the frames of cameras that take ten per second. No recording is of 2100 or later.
_TEN_TIMES_TOO_LARGE = datetime(2100, 1, 1, tzinfo=UTC).timestamp()


def seconds_of(timestamp: Any, path: Path) -> float:
    """Seconds since 1970 of a datum's time: DGP's text (UTC where it names no zone), or a number since 1970 in seconds,
    ms, us or ns.

    Raises:
        BadRecord: for anything else; names the file at `path`.
    """
    with contextlib.suppress(ValueError, TypeError):
        date = datetime.fromisoformat(timestamp)
        seconds = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
        return seconds if seconds < _TEN_TIMES_TOO_LARGE else seconds / 10
    with contextlib.suppress(ValueError, TypeError):
        if unit := unit_since_1970(float(timestamp)):
            return float(timestamp) / PER_SECOND[unit]
    raise BadRecord(
        f"{path}: timestamp {timestamp!r} is neither of the form 2020-01-31T12:00:00.000000Z nor a number of seconds, "
        "ms, us or ns since 1970; write it as one of these"
    )
