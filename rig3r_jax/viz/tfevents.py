"""Scalars out of TensorBoard event files, without TensorFlow: the few protocol buffer fields that hold a number.

A file is a row of TFRecords: length (8 bytes, little-endian), its masked CRC-32C, the bytes of one Event, their CRC.
Fields read: Event 2 step, 5 summary; Summary 1 value; Value 1 tag, 2 simple_value, 8 tensor; TensorProto 1 dtype,
2 shape, 4 content, 5 float, 6 double. Source: tensorboard/compat/proto/{event,summary,tensor}.proto.
"""

import struct
from collections.abc import Iterator
from pathlib import Path

_LENGTH = struct.Struct("<QI")
_FORMATS = {1: ("<f", 5), 2: ("<d", 6)}  # TensorProto.dtype -> its bytes, the field of unpacked numbers
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def read_scalars(path: Path) -> Iterator[tuple[int, str, float]]:
    """(step, tag, value) of every scalar; a last record cut short by a kill is left out. ValueError for other files."""
    data, start = Path(path).read_bytes(), 0
    while start + _LENGTH.size <= len(data):
        length, checksum = _LENGTH.unpack_from(data, start)
        if _masked_crc(data[start : start + 8]) != checksum:
            raise ValueError(f"{path} is no TensorBoard event file, or damaged: byte {start} starts no record")
        first, start = start + _LENGTH.size, start + _LENGTH.size + length + 4
        if start > len(data):
            return
        try:
            yield from _scalars(data[first : first + length])
        except (IndexError, TypeError, AttributeError, ValueError, struct.error) as error:  # or fields of other kinds
            raise ValueError(f"{path} is damaged: the event at byte {first} cannot be read ({error})") from error


def _scalars(event: bytes) -> Iterator[tuple[int, str, float]]:
    """Of one Event."""
    step, summaries = 0, []
    for number, value in _fields(event):
        if number == 2:
            step = value - (1 << 64) if value >> 63 else value
        elif number == 5:
            summaries.append(value)
    for summary in summaries:
        for number, entry in _fields(summary):
            fields = dict(_fields(entry)) if number == 1 else {}
            tag = fields.get(1, b"").decode()
            if 2 in fields:
                yield step, tag, struct.unpack("<f", fields[2])[0]
            elif 8 in fields and (scalar := _tensor_scalar(fields[8])) is not None:
                yield step, tag, scalar


def _tensor_scalar(tensor: bytes) -> float | None:
    """The number of a TensorProto of no axes; None of texts, images and histograms."""
    fields = dict(_fields(tensor))
    if fields.get(1) not in _FORMATS or any(number == 2 for number, _ in _fields(fields.get(2, b""))):
        return None
    form, unpacked = _FORMATS[fields[1]]
    content = fields.get(4) or fields.get(unpacked)
    return struct.unpack(form, content)[0] if content else 0.0  # a zero may be left out


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(number, value) of every field of a protocol buffer; numbers of fixed size as their bytes."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind = key & 7
        if kind == _VARINT:
            value, at = _varint(message, at)
        else:
            if kind == _BYTES:
                size, at = _varint(message, at)
            elif kind in (_FIXED64, _FIXED32):
                size = 8 if kind == _FIXED64 else 4
            else:
                raise IndexError(f"wire type {kind}")
            value, at = message[at : at + size], at + size
            if at > len(message):
                raise IndexError("a field ends beyond its message")
        yield key >> 3, value


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value, at, shift = value | (byte & 127) << shift, at + 1, shift + 7
        if byte < 128:
            return value, at


def _crc_table() -> list[int]:
    """Of CRC-32C, whose polynomial reversed is 0x82F63B78."""
    table = []
    for entry in range(256):
        for _ in range(8):
            entry = entry >> 1 ^ (0x82F63B78 if entry & 1 else 0)
        table.append(entry)
    return table


_CRC_TABLE = _crc_table()


def _masked_crc(data: bytes) -> int:
    """The checksum of a TFRecord's length: rotated and shifted, so that checksums of checksums differ."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC_TABLE[(crc ^ byte) & 255]
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
