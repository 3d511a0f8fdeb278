"""What the header of an encoded image says, read without a decoder."""

import struct

from rig3r_jax.data.scene import BadRecord

JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"


def encoded_size(data: bytes) -> tuple[int, int]:
    """Height and width that the header of a JPEG or PNG states; BadRecord when it is cut short or of another kind."""
    size = None
    try:
        if data[:8] == b"\x89PNG\r\n\x1a\n" and b"IEND" in data[-64:]:
            width, height = struct.unpack_from(">II", data, 16)
            size = (height, width)
        elif data[:2] == JPEG_START:
            size = _jpeg_size(data)
    except (struct.error, IndexError):
        size = None
    if not size or 0 in size:
        raise BadRecord(
            f"image of {len(data)} bytes beginning with {data[:4]!r} is no whole JPEG or PNG; "
            "fetch the file anew and build the records again"
        )
    return size


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Walks the segments to the start of frame; None when there is none or no end of image follows it."""
    position = 2
    while data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:  # a fill byte
            position += 1
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # these three are tables and a reserved one
            height, width = struct.unpack_from(">HH", data, position + 5)
            # Decoders fill what is missing of a cut file with grey and only warn: ask for the end marker here.
            return (height, width) if data.rfind(_JPEG_END) > position else None
        position += 2 + struct.unpack_from(">H", data, position + 2)[0]
    return None
