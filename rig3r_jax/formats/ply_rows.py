"""The rows of a PLY file, element by element in the order of its header."""

import typing
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rig3r_jax.formats.declared import check_present

SCALARS = {
    "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4",
    "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4",
    "float": "f4", "double": "f8", "float32": "f4", "float64": "f8",
}  # fmt: skip


class Element(typing.NamedTuple):
    """A kind of rows. Its properties, by name: the numpy kind of a number, or those of a list's length and items."""

    count: int
    fields: dict[str, tuple[str, ...]]

    @property
    def is_plain(self) -> bool:
        """Whether every property is one number."""
        return all(len(kinds) == 1 for kinds in self.fields.values())


class BinaryRows:
    """Of a binary body."""

    def __init__(self, path: str | Path, body: bytes, byte_order: str):
        self._path, self._body, self._at, self._order = path, body, 0, byte_order

    def read(self, name: str, element: Element) -> dict[str, np.ndarray]:
        """The columns of the next element: see `PointCloud.properties`. ValueError where the body ends before."""
        if element.is_plain:
            row = [(field, self._order + kind) for field, (kind,) in element.fields.items()]
            table = self._take(row, element.count)
            return {field: table[field].astype(kind) for field, (kind,) in element.fields.items()}
        columns: dict[str, list] = {field: [] for field in element.fields}
        for _ in range(element.count):
            for field, (*length, kind) in element.fields.items():
                count = int(self._take(self._order + length[0], 1)[0]) if length else 1
                values = self._take(self._order + kind, count).astype(kind)
                columns[field].append(values if length else values[0])
        return _as_arrays(element, columns)

    def _take(self, kind: typing.Any, count: int) -> np.ndarray:
        dtype, left = np.dtype(kind), len(self._body) - self._at
        check_present(self._path, count * dtype.itemsize, left, "bytes of rows")
        values = np.frombuffer(self._body, dtype, count, self._at)
        self._at += count * dtype.itemsize
        return values


class AsciiRows:
    """Of an ascii body: a line each; blank lines are none."""

    def __init__(self, path: str | Path, body: bytes):
        self._path, self._at = path, 0
        self._lines = [line for line in body.decode("latin-1").splitlines() if line.strip()]

    def read(self, name: str, element: Element) -> dict[str, np.ndarray]:
        """As `BinaryRows.read`; ValueError naming the row too where one is none of the element."""
        lines = self._lines[self._at : self._at + element.count]
        if len(lines) < element.count:
            raise ValueError(
                f"{self._path}: holds {len(lines)} rows of {name}, the header promises {element.count}; export the "
                "file again"
            )
        self._at += element.count
        rows = []
        for number, line in enumerate(lines):
            try:
                rows.append(_parse(line.split(), element))
            except (ValueError, OverflowError) as error:
                raise ValueError(
                    f"{self._path}: {name} {number} reads {line[:80]!r} ({error}); export the file again"
                ) from error
        return _as_arrays(element, {field: [row[i] for row in rows] for i, field in enumerate(element.fields)})


def _parse(words: Sequence[str], element: Element) -> list[float | np.ndarray]:
    """A number or an array per property. ValueError where the words are no row of the element."""
    if element.is_plain:
        lengths = dict.fromkeys(element.fields, 1)
        parts = [[word] for word in words]
    else:
        lengths, parts, rest = {}, [], list(words)
        for field, kinds in element.fields.items():
            lengths[field] = int(rest.pop(0) if rest else -1) if len(kinds) > 1 else 1
            parts.append(rest[: max(lengths[field], 0)])
            rest = rest[max(lengths[field], 0) :]
        parts += [[word] for word in rest]
    if [len(part) for part in parts] != list(lengths.values()):
        raise ValueError(f"{len(words)} numbers are not {', '.join(element.fields)}")
    row: list[float | np.ndarray] = []
    for part, (*length, kind) in zip(parts, element.fields.values(), strict=True):
        numbers = [_number(word, kind) for word in part]
        row.append(np.array(numbers, kind) if length else numbers[0])
    return row


_BOUNDS = {kind: (np.iinfo(kind).min, np.iinfo(kind).max) for kind in SCALARS.values() if kind[0] in "iu"}


def _number(word: str, kind: str) -> float:
    value = float(word)
    if kind in _BOUNDS and not (value.is_integer() and _BOUNDS[kind][0] <= value <= _BOUNDS[kind][1]):
        raise ValueError(f"{word} is no whole number of {8 * int(kind[1])} bits")
    return value


def _as_arrays(element: Element, columns: dict[str, Sequence]) -> dict[str, np.ndarray]:
    arrays = {}
    for field, (*length, kind) in element.fields.items():
        arrays[field] = np.empty(element.count, object if length else kind)
        arrays[field][:] = columns[field]
    return arrays
