"""Pixels of encoded images, at a fraction of the size where that is cheap, in bounded memory."""

import contextlib
import threading
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from rig3r_jax.data.files import read_bytes
from rig3r_jax.data.image_damage import check_whole
from rig3r_jax.data.image_header import JPEG_START, encoded_size, is_jpeg_or_png, tiff_orientation
from rig3r_jax.data.scene import BadRecord

MAX_SIDE = 2**15 - 1  # pixels of a stored image: OpenCV warps no longer ones
MAX_PIXELS = 2**27  # that an image may be decoded to, 400 MB; a JPEG is decoded smaller where it has more
_LARGE = 2**25  # pixels; what decodes to more is decoded alone, for each thread decodes images of its own
_one_large = threading.Lock()
_REDUCTIONS = (1, 2, 4, 8)  # that a JPEG is decoded by
_UNDO_TURN = {  # by the orientation of a TIFF, (h, w, 3) to the pixels as stored
    1: lambda image: image,
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: np.rot90(image),
    7: lambda image: image[::-1, ::-1].swapaxes(0, 1),
    8: lambda image: np.rot90(image, -1),
}


def read_image(path: Path) -> tuple[bytes, tuple[int, int]]:
    """An image file's content, its height and width; BadRecord, naming the file, where it cannot be used."""
    data = read_bytes(path)
    try:
        return data, usable_size(data)
    except BadRecord as error:
        raise BadRecord(f"{path}: {error}") from error


def usable_size(data: bytes) -> tuple[int, int]:
    """Height and width of an image; BadRecord where no view could be made of it.

    The header of a JPEG or PNG tells its size, `check_whole` most damage behind it; an image of another kind, which is
    rare, is decoded.
    """
    size = encoded_size(data)
    decoded_reduction(data, size, 1.0)
    check_whole(data)
    if not is_jpeg_or_png(data):
        decode_image(data)
    return size


def decoded_reduction(data: bytes, size: tuple[int, int], shrink: float, max_pixels: int = MAX_PIXELS) -> int:
    """By how much (1, 2, 4 or 8) to decode an image smaller.

    Args:
        data: the encoded image.
        size: its height and width.
        shrink: pixels of the image per pixel of the view. The reduction is at most that, unless more of a JPEG would
            not fit.
        max_pixels: of the decoded image.

    Raises:
        BadRecord: the image is too large.
    """
    if max(size) > MAX_SIDE:
        raise BadRecord(f"image is {size[0]}x{size[1]} (height x width), sides may be {MAX_SIDE}; store it smaller")
    reduction = largest_reduction(data, shrink)
    while -(-size[0] // reduction) * -(-size[1] // reduction) > max_pixels:
        if not data.startswith(JPEG_START) or reduction == max(_REDUCTIONS):
            raise BadRecord(
                f"image is {size[0]}x{size[1]} (height x width) and would be decoded to more than {max_pixels} pixels; "
                "store it smaller, or as a JPEG, which is decoded at an eighth of its sides where need be"
            )
        reduction *= 2
    return reduction


def largest_reduction(data: bytes, shrink: float) -> int:
    """By how much (1, 2, 4 or 8) to decode an image smaller that is to be shrunk by `shrink`; by 1 what is no JPEG."""
    if not data.startswith(JPEG_START):
        return 1
    return max(factor for factor in _REDUCTIONS if factor <= max(1.0, shrink))


def decode_image(data: bytes, reduction: int = 1) -> UInt8[np.ndarray, "h w 3"]:
    """RGB pixels of an image as stored: the calibration knows nothing of an EXIF orientation.

    A JPEG is made of 8x8 cosine coefficients, of which the low ones give the image reduced by 2, 4 or 8 for less work.
    Pixel (i, j) of that stands for the square of stored pixels from (reduction i, reduction j) on, nearly as their
    mean; sides are rounded up.
    BadRecord where the bytes do not decode.
    """
    import cv2  # here: sources, which are asked for their options, want no decoder

    color = cv2.IMREAD_COLOR if reduction == 1 else getattr(cv2, f"IMREAD_REDUCED_COLOR_{reduction}")
    flags = color | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        with _turn(data, reduction):
            image = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    except cv2.error:
        image = None
    if image is None:
        raise BadRecord(f"image of {len(data)} bytes does not decode; fetch the file anew and build the records again")
    image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)
    return np.ascontiguousarray(_UNDO_TURN.get(tiff_orientation(data), _UNDO_TURN[1])(image))


def turned_upright(image: UInt8[np.ndarray, "h w 3"], orientation: int) -> UInt8[np.ndarray, "hu wu 3"]:
    """The pixels as a viewer shows them, of those stored; `orientation` is that of EXIF, 1 to 8."""
    undo = {6: 8, 8: 6}.get(orientation, orientation)  # the quarter turns are each other's inverse, the rest their own
    return np.ascontiguousarray(_UNDO_TURN.get(undo, _UNDO_TURN[1])(image))


def _turn(data: bytes, reduction: int) -> contextlib.AbstractContextManager:
    """The turn of a large image among the threads; others wait for none."""
    try:
        height, width = encoded_size(data)
    except BadRecord:
        return contextlib.nullcontext()  # the decoder will tell
    return _one_large if height * width > _LARGE * reduction**2 else contextlib.nullcontext()
