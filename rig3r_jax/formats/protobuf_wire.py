"""Messages of Protocol Buffers by field numbers, without their definitions (protobuf.dev, "Encoding").

For reading a few fields of large messages: nothing else is parsed or copied.
"""

import struct
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float32, Float64

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_WIDTHS = {_FIXED64: 8, _FIXED32: 4}


class Message:
    """The fields of one message; of what is not there the defaults of proto2 (0, empty). ValueError where the bytes are
    no message, or a field is of another kind than it is asked for."""

    def __init__(self, data: bytes | memoryview):
        """Splits the message into its fields, and not further."""
        self._fields: dict[int, list[tuple[int, int | memoryview]]] = {}
        for number, kind, value in _fields(memoryview(data)):
            self._fields.setdefault(number, []).append((kind, value))

    def messages(self, number: int) -> list["Message"]:
        """All of a repeated field of messages."""
        return [Message(value) for value in self._all(number, _BYTES)]

    def message(self, number: int) -> "Message":
        """The last of a field, or an empty one."""
        values = self._all(number, _BYTES)
        return Message(values[-1] if values else b"")

    def has(self, number: int) -> bool:
        """Whether the field is there."""
        return number in self._fields

    def bytes(self, number: int) -> bytes:
        """A field of bytes."""
        values = self._all(number, _BYTES)
        return bytes(values[-1]) if values else b""

    def text(self, number: int) -> str:
        """A field of text."""
        return self.bytes(number).decode()

    def integer(self, number: int) -> int:
        """A field of a whole number or an enumeration, not zigzag-coded."""
        values = self._all(number, _VARINT)
        return _signed(values[-1]) if values else 0

    def integers(self, number: int) -> list[int]:
        """A repeated field of whole numbers, packed or not."""
        numbers = []
        for kind, value in self._fields.get(number, []):
            if kind == _VARINT:
                numbers.append(_signed(value))
            else:
                at = 0
                while at < len(_of_kind(number, kind, value, _BYTES)):
                    whole, at = _varint(value, at)
                    numbers.append(_signed(whole))
        return numbers

    def double(self, number: int) -> float:
        """A field of one double."""
        values = self.doubles(number)
        return float(values[-1]) if len(values) else 0.0

    def doubles(self, number: int) -> Float64[np.ndarray, " n"]:
        """A repeated field of doubles, packed or not."""
        return self._numbers(number, "<f8", _FIXED64)

    def floats(self, number: int) -> Float32[np.ndarray, " n"]:
        """A repeated field of floats, packed or not."""
        return self._numbers(number, "<f4", _FIXED32)

    def _numbers(self, number: int, dtype: str, single: int) -> np.ndarray:
        values = self._fields.get(number, [])
        parts = [_of_kind(number, kind, value, single, _BYTES) for kind, value in values]
        if any(len(part) % np.dtype(dtype).itemsize for part in parts):
            raise ValueError(f"field {number} is no list of {dtype}")
        if len(parts) == 1:
            return np.frombuffer(parts[0], dtype)
        return np.frombuffer(b"".join(parts), dtype)

    def _all(self, number: int, kind: int) -> list:
        return [_of_kind(number, wire_type, value, kind) for wire_type, value in self._fields.get(number, [])]


def _of_kind(number: int, wire_type: int, value: int | memoryview, *kinds: int) -> int | memoryview:
    if wire_type not in kinds:
        raise ValueError(f"field {number} has wire type {wire_type}, must have {' or '.join(map(str, kinds))}")
    return value


def _fields(data: memoryview) -> Iterator[tuple[int, int, int | memoryview]]:
    """(number, wire type, value) of every field."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == _VARINT:
            value, at = _varint(data, at)
        elif kind in (_BYTES, *_WIDTHS):
            length, at = _varint(data, at) if kind == _BYTES else (_WIDTHS[kind], at)
            if at + length > len(data):
                raise ValueError(f"field {key >> 3} of {length} bytes ends beyond its message")
            value, at = data[at : at + length], at + length
        else:
            raise ValueError(f"wire type {kind} of field {key >> 3} is none of Protocol Buffers")
        yield key >> 3, kind, value


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ValueError("a number is cut short or too long")
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _signed(value: int) -> int:
    return struct.unpack("<q", struct.pack("<Q", value & (2**64 - 1)))[0]
