"""What a camera wrote beside a photograph: the tags of EXIF's own folder (EXIF 2.32, table 7), by their numbers."""

from pathlib import Path
from typing import Any

from PIL import Image

TAKEN, TAKEN_FRACTION = 0x9003, 0x9291  # DateTimeOriginal and its fractions of a second, texts
FOCAL_LENGTH_35MM = 0xA405  # that on 35 mm film with the same field of view, millimetres

_FOLDER = 0x8769


def read_exif(path: str | Path) -> dict[int, Any]:
    """The tags of an image file, of which the header alone is read; {} where it has none or is no image."""
    try:
        with Image.open(path) as image:
            return dict(image.getexif().get_ifd(_FOLDER))
    except (Image.DecompressionBombError, KeyError, OSError, SyntaxError, TypeError, ValueError):
        return {}
