"""What a network sees of a photograph: all of it, fitted into the square that it was trained on."""

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

from rig3r_jax.schema import Crop


def fitted_crop(height: int, width: int, side: int) -> Crop:
    """The box of an image that becomes a square of `side` pixels with the whole image in its middle.

    The longer side fills the square. The shorter one becomes a whole number of pixels, so that the two scales differ by
    less than half a pixel over it; the crop states both.
    """
    new_height, new_width, top, left = _place(height, width, side)
    across, down = width / new_width, height / new_height  # pixels of the image per pixel of the square
    return Crop(-left * across, -top * down, side * across, side * down, side, side)


def seen_image(
    image: UInt8[np.ndarray, "h w 3"], side: int
) -> tuple[UInt8[np.ndarray, "{side} {side} 3"], Bool[np.ndarray, "{side} {side}"]]:
    """The image in the square of `fitted_crop`, black beside it, and where the square shows the image.

    Pixels are the means of those that they cover.
    """
    new_height, new_width, top, left = _place(*image.shape[:2], side)
    interpolation = cv2.INTER_AREA if max(image.shape[:2]) > side else cv2.INTER_LINEAR
    square, mask = np.zeros((side, side, 3), np.uint8), np.zeros((side, side), bool)
    rows, columns = slice(top, top + new_height), slice(left, left + new_width)
    square[rows, columns] = cv2.resize(image, (new_width, new_height), interpolation=interpolation)
    mask[rows, columns] = True
    return square, mask


def _place(height: int, width: int, side: int) -> tuple[int, int, int, int]:
    """Height, width, top and left of the image in the square."""
    scale = max(height, width) / side
    new_height, new_width = (max(1, round(length / scale)) for length in (height, width))
    return new_height, new_width, (side - new_height) // 2, (side - new_width) // 2
