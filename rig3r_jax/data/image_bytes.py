"""Pixels of encoded images, at a fraction of the size where that is cheap."""

import cv2
import numpy as np
from jaxtyping import UInt8

from rig3r_jax.data.image_header import JPEG_START
from rig3r_jax.data.scene import BadRecord

_REDUCED = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}


def largest_reduction(data: bytes, shrink: float) -> int:
    """By how much (1, 2, 4 or 8) to decode an image smaller that is to be shrunk by `shrink`; a PNG by 1."""
    if data[:2] != JPEG_START:
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
