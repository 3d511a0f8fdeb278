"""What the comparisons of single folders share: our arrays by the reference's names."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from rig3r_jax.parity.compare import Comparison, compare
from rig3r_jax.parity.dump.folder import Dump


@dataclasses.dataclass(frozen=True)
class Ours:
    """Our array, and how its comparison differs from the usual one (see `compare`)."""

    value: Any
    tolerance: float | None = None
    note: str = ""
    floor: float = 0.0


def compare_arrays(
    dump: Dump, file: str, ours: Mapping[str, Any], tolerance: float | None = None
) -> Iterator[Comparison]:
    """Compares those of our arrays (plain, or as `Ours`) that the file holds.

    A `tolerance` takes the place of every other one, those that `Ours` states too; integers are compared exactly.
    """
    archive = dump.arrays(file) or {}
    for name, value in ours.items():
        if name not in archive:
            continue
        row = value if isinstance(value, Ours) else Ours(value)
        yield compare(
            f"{file}/{name}",
            row.value,
            archive[name],
            tolerance=row.tolerance if tolerance is None else tolerance,
            note=row.note,
            floor=row.floor,
        )
