"""Encoded images: what their header says, and their pixels, at a fraction of the size where that is cheap."""

import struct

import cv2
import numpy as np
from jaxtyping import UInt8

from rig3r_jax.data.scene import BadRecord

_JPEG_START, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
_REDUCED = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}


def encoded_size(data: bytes) -> tuple[int, int]:
    """Height and width that the header of a JPEG or PNG states; BadRecord when it is cut short or of another kind."""
    size = None
    try:
        if data[:8] == b"\x89PNG\r\n\x1a\n" and b"IEND" in data[-64:]:
            width, height = struct.unpack_from(">II", data, 16)
            size = (height, width)
        elif data[:2] == _JPEG_START:
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


def largest_reduction(data: bytes, shrink: float) -> int:
    """By how much (1, 2, 4 or 8) to decode an image smaller that is to be shrunk by `shrink`; a PNG by 1."""
    if data[:2] != _JPEG_START:
        return 1
    return max(factor for factor in _REDUCED if factor <= max(1.0, shrink))


def decode_image(data: bytes, reduction: int = 1) -> UInt8[np.ndarray, "h w 3"]:
    """RGB pixels of a JPEG or PNG as stored: the calibration knows nothing of an EXIF orientation.

    A JPEG is made of 8x8 cosine coefficients, of which the low ones give the image reduced by 2, 4 or 8 for less work.
    Pixel (i, j) of that stands for the square of stored pixels from (reduction i, reduction j) on, nearly as their
    mean; sides are rounded up.
    BadRecord where the bytes do not decode.
    """
    flags = _REDUCED[reduction] | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    except cv2.error:
        image = None
    if image is None:
        raise BadRecord(f"image of {len(data)} bytes does not decode; fetch the file anew and build the records again")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)
