"""How far two arrays are apart, and the table that says so."""

import dataclasses
from collections.abc import Iterable

import numpy as np

FLOAT32_TOLERANCE = 2e-5  # of an array that was computed in single precision
FLOAT64_TOLERANCE = 1e-9


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One array of ours against theirs.

    `relative` is max|ours - theirs| / size: max|theirs|, the size of the whole array, or a floor where that is larger.
    It is NaN, which does not pass, where the arrays differ in shape or in where they are finite, and where nothing
    finite is to be compared.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str  # of theirs
    absolute: float
    relative: float
    tolerance: float
    note: str = ""  # why the tolerance is another than usual, or what differs
    size: float = np.nan  # what the error is relative to: max|theirs|, or the floor that is larger

    @property
    def passed(self) -> bool:
        return self.relative <= self.tolerance


@dataclasses.dataclass(frozen=True)
class Skipped:
    """An array that is not compared, and the reason."""

    name: str
    reason: str


def compare(
    name: str, ours, theirs, *, tolerance: float | None = None, note: str = "", floor: float = 0.0
) -> Comparison:
    """Compares two arrays.

    Args:
        name: what the table calls it.
        ours: anything that numpy takes.
        theirs: the reference.
        tolerance: largest relative error; by default 2e-5 for float32 and 1e-9 for float64 references. Integers, truth
            values and texts must be equal whatever it says.
        note: shown in the table.
        floor: smallest size that the error is measured against, for arrays that may be nothing but the rounding of
            larger numbers (the errors of a perfect trajectory).
    """
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    exact = theirs.dtype.kind in "biuSU"
    if exact:
        tolerance = 0.0
    elif tolerance is None:
        tolerance = FLOAT64_TOLERANCE if theirs.dtype == np.float64 else FLOAT32_TOLERANCE
    result = {"name": name, "shape": theirs.shape, "dtype": str(theirs.dtype), "tolerance": tolerance}
    if ours.shape != theirs.shape:
        return Comparison(**result, absolute=np.nan, relative=np.nan, note=f"our shape is {ours.shape}")
    if theirs.dtype.kind in "SU":
        error = np.nan if not theirs.size else 0.0 if np.array_equal(ours, theirs) else np.inf
        return Comparison(**result, absolute=error, relative=error, note=note)
    a, b = ours.astype(np.float64), theirs.astype(np.float64)
    finite = np.isfinite(b)
    same = np.array_equal(np.isfinite(a), finite) and np.array_equal(a[~finite], b[~finite], equal_nan=True)
    if not same:
        return Comparison(**result, absolute=np.nan, relative=np.nan, note="finite in other places")
    if not finite.any():
        return Comparison(**result, absolute=np.nan, relative=np.nan, note="nothing finite to compare")
    absolute = float(np.abs(a[finite] - b[finite]).max())
    size = max(float(np.abs(b[finite]).max()), floor)
    relative = absolute / size if size else absolute
    return Comparison(**result, absolute=absolute, relative=relative, note=note, size=size)


def report(rows: Iterable[Comparison | Skipped]) -> str:
    """The rows as aligned text: name, shape, worst error, the size that it is relative to, tolerance, verdict."""
    rows = list(rows)
    compared = [row for row in rows if isinstance(row, Comparison)]
    width = max((len(row.name) for row in rows), default=4)
    lines = [
        f"{'array':<{width}}  {'type':<8} {'shape':<18} {'max |a-b|':>10} {'of size':>10} "
        f"{'relative':>10} {'tolerance':>10}"
    ]
    for row in rows:
        if isinstance(row, Skipped):
            lines.append(f"{row.name:<{width}}  not compared: {row.reason}")
            continue
        shape = "x".join(map(str, row.shape)) or "scalar"
        verdict = "ok" if row.passed else "BEYOND"
        lines.append(
            f"{row.name:<{width}}  {row.dtype:<8} {shape:<18} {row.absolute:>10.2e} {row.size:>10.2e} "
            f"{row.relative:>10.2e} {row.tolerance:>10.0e}  {verdict}{f'  ({row.note})' if row.note else ''}"
        )
    beyond = sum(not row.passed for row in compared)
    lines.append(f"{len(compared)} compared, {beyond} beyond tolerance, {len(rows) - len(compared)} not compared")
    return "\n".join(lines)
