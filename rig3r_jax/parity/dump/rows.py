"""What the comparisons of single folders share: our results by the reference's names, and names that are left out."""

import dataclasses
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from rig3r_jax.parity.compare import Comparison, Skipped, compare
from rig3r_jax.parity.dump.folder import Dump


@dataclasses.dataclass(frozen=True)
class Ours:
    """Our array, and how its comparison differs from the usual one (see `compare`)."""

    value: Any  # an array, or a function of theirs that gives it: where a sign or a length is a convention
    tolerance: float | None = None
    note: str = ""
    floor: float = 0.0
    rows: np.ndarray | None = None  # a mask of the rows that are compared; None: all


Results = dict[str, Any]  # our array, plain or as `Ours`, or a text: the reason why there is none


def compare_arrays(
    dump: Dump, file: str, ours: Mapping[str, Any], prefix: str = "", theirs: Mapping[str, Any] | None = None
) -> Iterator[Comparison | Skipped]:
    """Compares those of our `Results` that a file holds.

    The tolerance of the dump takes the place of every other one, those that `Ours` states too; integers are compared
    exactly.

    Args:
        dump: the folder.
        file: an .npz file in it, or what else `theirs` are of.
        ours: results by the names of their arrays; " (...)" behind a name tells apart what is one array of theirs.
        prefix: of all names.
        theirs: arrays of the file; None: read them.
    """
    theirs = (dump.arrays(file) or {}) if theirs is None else theirs
    for name, result in ours.items():
        array = prefix + name.partition(" (")[0]
        if array not in theirs:
            continue
        label = f"{file}/{prefix}{name}"
        if isinstance(result, str):
            yield Skipped(label, result)
            continue
        row, reference = result if isinstance(result, Ours) else Ours(result), np.asarray(theirs[array])
        value = np.asarray(row.value(reference) if callable(row.value) else row.value)
        if row.rows is not None:
            if not row.rows.any():
                continue
            value, reference = value[row.rows], reference[row.rows]
        tolerance = row.tolerance if dump.tolerance is None else dump.tolerance
        yield compare(label, value, reference, tolerance=tolerance, note=row.note, floor=row.floor)


def left_out(dump: Dump, reasons: Mapping[str, str]) -> Iterator[Skipped]:
    """Arrays that were neither compared nor used, `file/array`, with the reason of the first pattern they match."""
    for name in dump.unread():
        reason = next((reason for pattern, reason in reasons.items() if re.fullmatch(pattern, name)), None)
        if reason is not None:
            yield Skipped(name, reason)


def cases(theirs: Mapping[str, Any], last: str) -> list[str]:
    """What stands before `last` in the names that end with it."""
    return [name.removesuffix(last) for name in theirs if name.endswith(last)]
