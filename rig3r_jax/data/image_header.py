"""What the header of an encoded image says, read without decoding a pixel."""

import io
import re
import struct

from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from rig3r_jax.data.scene import BadRecord
from rig3r_jax.formats.foreign import HEAD, describe

JPEG_START, _JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"
PNG_START, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND"
_OTHERS = {  # what OpenCV decodes beside JPEG and PNG: Pillow's names, and how such files begin
    "WEBP": (b"RIFF",),
    "BMP": (b"BM",),
    "TIFF": (b"II*\0", b"MM\0*"),
    "GIF": (b"GIF8",),
    "AVIF": (),
    "JPEG2000": (b"\0\0\0\x0cjP", b"\xff\x4f\xff\x51"),
    "PPM": tuple(b"P%d" % kind for kind in range(1, 7)),
}
_NUMBERS_OF_PPM = re.compile(rb"P[2356](?:\s+(?:#.*\s+)*(\d+)){3}")  # width, height, largest value
_ORIENTATION = 274  # tag of TIFF
# What Pillow raises; the last is of the decoder of AVIF.
_UNREADABLE = (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError, RuntimeError)
_NO_FRAME = (0xC4, 0xC8, 0xCC)  # markers among those of frames that are tables and a reserved one


def is_jpeg_or_png(data: bytes) -> bool:
    """Whether the header alone tells that the image is whole."""
    return data.startswith((JPEG_START, PNG_START))


def encoded_size(data: bytes) -> tuple[int, int]:
    """Height and width that the header of an image states.

    What follows the end of a JPEG or PNG is of no account: a phone's further pictures, its film, padding.

    Raises:
        BadRecord: the image is cut short, or of a kind that does not decode; says what it is.
    """
    if not is_jpeg_or_png(data):
        return _other_size(data)
    try:
        size = _jpeg_size(data) if data.startswith(JPEG_START) else _png_size(data)
    except (struct.error, IndexError):
        size = None
    if not size or 0 in size:
        raise BadRecord(
            f"image of {len(data)} bytes is cut short or damaged (no size in its header or no end marker); restore the "
            "file and build the records again"
        )
    return size


def _png_size(data: bytes) -> tuple[int, int] | None:
    """None when the last chunk is missing."""
    width, height = struct.unpack_from(">II", data, 16)
    return (height, width) if data.rfind(_PNG_END) > 16 else None


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Walks the segments to the start of frame; None when no end of image follows it."""
    position = 2
    while True:
        while data[position] != 0xFF or data[position + 1] == 0xFF:  # stray bytes, which decoders skip, or a fill byte
            position += 1
        marker = data[position + 1]
        if 0xC0 <= marker <= 0xCF and marker not in _NO_FRAME:
            height, width = struct.unpack_from(">HH", data, position + 5)
            # Decoders fill what is missing of a cut file with grey and only warn: ask for the end marker here.
            return (height, width) if data.rfind(_JPEG_END) > position else None
        position += 2 + struct.unpack_from(">H", data, position + 2)[0]


def _other_size(data: bytes) -> tuple[int, int]:
    try:
        with Image.open(io.BytesIO(data), formats=tuple(_OTHERS)) as image:
            width, height = image.size
            kind, mode = image.format, image.mode
            if 5 <= _orientation(image) <= 8:  # Pillow tells the size of the turned image
                width, height = height, width
    except _UNREADABLE as error:
        reason = f"it {describe(data[:HEAD])}, then build the records again"
        for kind, starts in _OTHERS.items():
            if data.startswith(starts):
                reason = f"it is a {kind} image, cut short or damaged; restore the file and build the records again"
        raise BadRecord(f"image of {len(data)} bytes does not decode: {reason}") from error
    largest = _NUMBERS_OF_PPM.match(data)
    if mode == "F" or (kind == "TIFF" and mode == "I"):
        raise BadRecord(f"{kind} image holds numbers of 32 bits each; store whole numbers of 8 or 16 bits")
    if largest and int(largest[1]) not in (255, 65535):  # OpenCV takes any largest value for one of these
        raise BadRecord(f"{kind} image has values up to {int(largest[1])}, must be 255 or 65535; store it as PNG")
    return height, width


def tiff_orientation(data: bytes) -> int:
    """How decoders turn the pixels of a TIFF, whatever they are told: 1 (not) to 8, as in EXIF; 1 of other images."""
    if not data.startswith(_OTHERS["TIFF"]):
        return 1
    try:
        with Image.open(io.BytesIO(data), formats=("TIFF",)) as image:
            return _orientation(image)
    except _UNREADABLE:
        return 1  # the decoder will tell


def exif_orientation(data: bytes) -> int:
    """The EXIF orientation of an image, 1 (as stored) to 8; 1 where it states none."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            orientation = image.getexif().get(_ORIENTATION, 1)
    except _UNREADABLE:
        return 1  # the decoder will tell
    return orientation if orientation in range(1, 9) else 1


def _orientation(image: Image.Image) -> int:
    return image.tag_v2.get(_ORIENTATION, 1) if isinstance(image, TiffImagePlugin.TiffImageFile) else 1
