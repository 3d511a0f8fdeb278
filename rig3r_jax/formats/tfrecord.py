"""TFRecord files: where their records are. A record is its length (u64), a checksum (u32), the data, a checksum (u32),
little-endian. The checksums are not looked at: they are CRC32C, which Python's libraries lack."""

import struct
from pathlib import Path
from typing import NamedTuple

_LENGTH, _CHECKSUM = struct.Struct("<Q"), 4


class RecordPlace(NamedTuple):
    """Bytes of a file that are a record's data."""

    start: int
    length: int


def record_places(path: Path) -> list[RecordPlace]:
    """The records of a file, by their headers alone.

    Raises:
        OSError: the file cannot be read.
        ValueError: naming the file and the byte where a record ends beyond the file's end.
    """
    places, start, size = [], 0, path.stat().st_size
    header = _LENGTH.size + _CHECKSUM
    with path.open("rb") as file:
        while start < size:
            file.seek(start)
            head = file.read(_LENGTH.size)
            length = _LENGTH.unpack(head)[0] if len(head) == _LENGTH.size else size
            end = start + header + length + _CHECKSUM
            if end > size:
                raise ValueError(
                    f"{path}: the record at byte {start} ends at {end}, the file at {size}: it is cut short or no "
                    "TFRecord file; restore it"
                )
            places.append(RecordPlace(start + header, length))
            start = end
    return places


def read_record(path: Path, place: RecordPlace) -> bytes:
    """The data of a record. OSError where the file cannot be read, ValueError where it has changed."""
    with path.open("rb") as file:
        file.seek(place.start)
        data = file.read(place.length)
    if len(data) < place.length:
        raise ValueError(f"{path}: the record at byte {place.start} is cut short; restore the file")
    return data
