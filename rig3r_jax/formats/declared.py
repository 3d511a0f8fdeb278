"""What a file declares is held against what is there, before memory is taken for it: one rule for all kinds of files.

Numbers that lie in a file as they are must all be there. What is packed may unpack to FREE bytes, or to MOST_EXPANSION
times its packed bytes where that is more: DEFLATE can promise a thousand times, which no real data comes to. An image
may have MOST_PIXELS.
"""

import math
import struct
from collections.abc import Iterator

MOST_PIXELS = 2**27
FREE = 2**28  # bytes
MOST_EXPANSION = 32

_EXR_START = b"\x76\x2f\x31\x01"


def check_present(where: object, promised: int, present: int, what: str = "bytes") -> None:
    """ValueError naming `where` unless as much is `present` as a header has `promised`."""
    if not 0 <= promised <= present:
        raise ValueError(
            f"{where}: its header promises {promised} {what}, {present} are there; it is cut short or damaged, "
            "fetch it again"
        )


def check_unpacked(where: object, unpacked: int, packed: int) -> None:
    """ValueError naming `where` unless `packed` bytes may unpack to as many (see the module)."""
    most = max(FREE, MOST_EXPANSION * packed)
    if not 0 <= unpacked <= most:
        raise ValueError(
            f"{where}: its {packed} bytes promise to unpack to {unpacked}, may unpack to {most} (the larger of "
            f"{FREE} and {MOST_EXPANSION} times as many); fetch it again, or unpack it yourself if you trust it"
        )


def check_pixels(where: object, height: int, width: int) -> None:
    """ValueError naming `where` unless an image has some pixels, and at most MOST_PIXELS."""
    if min(height, width) < 1 or height * width > MOST_PIXELS:
        raise ValueError(
            f"{where}: its header states {width} x {height} pixels, must be 1 to {MOST_PIXELS}; store it smaller"
        )


def exr_size(data: bytes) -> tuple[int, int]:
    """Height and width of the first part of an OpenEXR file (openexr.com, "OpenEXR File Layout"); ValueError for what
    is none."""
    if not data.startswith(_EXR_START):
        raise ValueError(f"begins with {data[:4]!r}, an EXR image with {_EXR_START!r}")
    for name, content in _exr_attributes(data):
        if name == b"dataWindow" and len(content) == 16:
            left, top, right, bottom = struct.unpack("<4i", content)
            return bottom - top + 1, right - left + 1
    raise ValueError("is an EXR image without a dataWindow")


def _exr_attributes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(name, content) of the first header."""
    at = 8
    while at < len(data) and data[at]:
        name_end = data.find(b"\0", at)
        kind_end = data.find(b"\0", name_end + 1)
        if name_end < 0 or kind_end < 0 or kind_end + 5 > len(data):
            return
        (size,) = struct.unpack_from("<I", data, kind_end + 1)
        start = kind_end + 5
        yield data[at:name_end], data[start : start + size]
        at = start + size


def count_of(shape: tuple[int, ...]) -> int:
    """Numbers in an array of this shape; ValueError for sides that are none."""
    if not all(isinstance(side, int) and side >= 0 for side in shape):
        raise ValueError(f"states the shape {shape}")
    return math.prod(shape)
