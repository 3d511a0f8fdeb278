"""PCD, the files of the Point Cloud Library: a header of lines, then points as text, as rows, or compressed by field.

DATA ascii               numbers, a row per point
DATA binary              a row per point, of the fields' types
DATA binary_compressed   uint32 bytes of code, uint32 bytes of points, then LZF code: all x, then all y, ...
"""

import re
import struct
from pathlib import Path

import numpy as np
from jaxtyping import Float

from rig3r_jax.formats.declared import check_present, check_unpacked
from rig3r_jax.formats.foreign import HEAD, describe
from rig3r_jax.formats.lzf import decode_lzf

_TYPES = {"F": "f", "U": "u", "I": "i"}
_DATA = re.compile(rb"^DATA[ \t]+(\w+)[^\n]*\n", re.MULTILINE)


def read_pcd(path: Path) -> Float[np.ndarray, "n 3"]:
    """x, y, z of all points. ValueError naming the file; KeyError, IndexError for a header that lacks something."""
    data = path.read_bytes()
    end = _DATA.search(data)
    if not end:
        raise ValueError(f"{path}: is no PCD file (has no line DATA) but {describe(data[:HEAD])}")
    lines = (line.split() for line in data[: end.start()].decode("latin-1").splitlines() if line.strip())
    header = {words[0]: words[1:] for words in lines}
    names, counts = header["FIELDS"], [int(count) for count in header.get("COUNT", ["1"] * len(header["FIELDS"]))]
    total, body, encoding = int(header["POINTS"][0]), data[end.end() :], end[1].decode()
    if not set("xyz") <= set(names):
        raise ValueError(f"{path}: has the fields {' '.join(names)}, must have x y z; restore the file")
    places = [names.index(axis) for axis in "xyz"]
    if encoding == "ascii":
        words = body.split()
        if len(words) != total * sum(counts):
            raise ValueError(
                f"{path}: has {len(words)} numbers, must be {total} points of {sum(counts)}; restore the file"
            )
        rows = np.array(words, np.float64).reshape(total, sum(counts))
        starts = np.cumsum([0, *counts])
        return np.stack([rows[:, starts[place]] for place in places], axis=1)
    kinds = [f"<{_TYPES[kind]}{size}" for kind, size in zip(header["TYPE"], header["SIZE"], strict=True)]
    table = np.dtype([(f"#{i}", kind, (count,)) for i, (kind, count) in enumerate(zip(kinds, counts, strict=True))])
    if encoding == "binary":
        check_present(path, total * table.itemsize, len(body), "bytes of points")
        rows = np.frombuffer(body, table, total)
        return np.stack([rows[f"#{place}"][:, 0] for place in places], axis=1)
    if encoding != "binary_compressed":
        raise ValueError(f"{path}: DATA {encoding} must be ascii, binary or binary_compressed; convert it")
    fields = _decompress(path, body, total * table.itemsize)
    starts = np.cumsum([0, *(total * table[i].itemsize for i in range(len(names)))])
    columns = [np.frombuffer(fields, kinds[place], total * counts[place], starts[place]) for place in places]
    return np.stack([column[:: counts[place]] for column, place in zip(columns, places, strict=True)], axis=1)


def _decompress(path: Path, body: bytes, size: int) -> bytes:
    """The bytes of all fields, one after the other, of which the header says how many there are."""
    if len(body) < 8:
        raise ValueError(f"{path}: ends before the sizes of its points; restore the file")
    packed, unpacked = struct.unpack("<II", body[:8])
    if unpacked != size or len(body) < 8 + packed:
        raise ValueError(
            f"{path}: states {packed} bytes of code for {unpacked} of points; it has {len(body) - 8}, its header says "
            f"{size}; restore the file"
        )
    check_unpacked(path, unpacked, packed)
    try:
        return decode_lzf(body[8 : 8 + packed], size)
    except ValueError as error:
        raise ValueError(f"{path}: its LZF code {error}; restore the file") from error
