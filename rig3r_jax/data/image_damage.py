"""Damage behind the header of an image, which decoders draw over: looked for once, where an image is taken in.

A JPEG has no checksum. What its entropy decoder stumbles over (libjpeg's warnings: codes that are none, data that end
before or after the last block) shows most damage; bytes that happen to decode to other blocks show nowhere. A PNG has
checksums.
"""

import collections
import hashlib
import io
import threading

import numpy as np
from PIL import Image

from rig3r_jax.data.image_header import JPEG_START, PNG_START
from rig3r_jax.data.scene import BadRecord

_MOST_REMEMBERED = 4096  # images that were looked at: a scene's are taken in when they are read, and when it is checked
_DAMAGE = ("Corrupt JPEG data", "Premature end")  # how libjpeg's warnings of damage begin; others are of odd writers
_IN_PIXELS = tuple(f"marker 0x{code:02x}" for code in (*range(0xD0, 0xD8), 0xD9))  # restarts and the end of the image
_whole: collections.OrderedDict[bytes, None] = collections.OrderedDict()
_lock = threading.Lock()


def check_whole(data: bytes) -> None:
    """BadRecord for a JPEG or PNG that is damaged behind its header, as far as that shows. Others are not looked at."""
    if not data.startswith((JPEG_START, PNG_START)):
        return
    digest = hashlib.blake2b(data, digest_size=16).digest()
    with _lock:
        if digest in _whole:
            return
    if reason := _jpeg_damage(data) if data.startswith(JPEG_START) else _png_damage(data):
        raise BadRecord(f"image of {len(data)} bytes is damaged behind its header ({reason}); restore the file")
    with _lock:
        _whole[digest] = None
        if len(_whole) > _MOST_REMEMBERED:
            _whole.popitem(last=False)


def _jpeg_damage(data: bytes) -> str:
    """What libjpeg says of the data of a JPEG; "" for a whole one. Only means of 8x8 pixels are made."""
    import simplejpeg

    try:
        color = simplejpeg.decode_jpeg_header(data)[2]
        space = "CMYK" if color in ("CMYK", "YCCK") else "GRAY"
        simplejpeg.decode_jpeg(data, space, min_height=1, min_width=1, min_factor=8)
    except ValueError as error:
        reason = str(error)
        if reason.startswith(_DAMAGE):
            between_tables = "before marker" in reason and not reason.endswith(_IN_PIXELS)  # stray bytes, which decode
            return "" if between_tables else reason
        return "" if _decodes(data) else reason
    return ""


def _decodes(data: bytes) -> bool:
    """Whether OpenCV takes a JPEG that is of a kind which the strict decoder does not know."""
    import cv2

    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_REDUCED_GRAYSCALE_8) is not None
    except cv2.error:
        return False


def _png_damage(data: bytes) -> str:
    """Which checksum of a PNG does not hold; "" for a whole one. No pixel is decoded."""
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            image.verify()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return str(error)
    return ""
