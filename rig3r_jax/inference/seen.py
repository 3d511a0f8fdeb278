"""What a network sees of a photograph: all of it, fitted into the rectangle that the network takes."""

import cv2
import numpy as np
from jaxtyping import Bool, UInt8

from rig3r_jax.schema import Crop


def fitted_crop(height: int, width: int, size: tuple[int, int]) -> Crop:
    """The box of an image that becomes a rectangle of `size` (height, width) with the whole image in its middle.

    One side of the image fills the rectangle. The other becomes a whole number of pixels, so that the two scales differ
    by less than half a pixel over it; the crop states both.
    """
    new_height, new_width, top, left = _place(height, width, size)
    across, down = width / new_width, height / new_height  # pixels of the image per pixel of the rectangle
    return Crop(-left * across, -top * down, size[1] * across, size[0] * down, size[1], size[0])


def seen_image(
    image: UInt8[np.ndarray, "h w 3"], size: tuple[int, int], fill: int = 0
) -> tuple[UInt8[np.ndarray, "sh sw 3"], Bool[np.ndarray, "sh sw"]]:
    """The image in the rectangle of `fitted_crop`, the grey level `fill` beside it, and where it shows the image.

    Pixels are the means of those that they cover.
    """
    new_height, new_width, top, left = _place(*image.shape[:2], size)
    smaller = new_height < image.shape[0] or new_width < image.shape[1]
    interpolation = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    seen, mask = np.full((*size, 3), fill, np.uint8), np.zeros(size, bool)
    rows, columns = slice(top, top + new_height), slice(left, left + new_width)
    seen[rows, columns] = cv2.resize(image, (new_width, new_height), interpolation=interpolation)
    mask[rows, columns] = True
    return seen, mask


def seen_mask(mask: Bool[np.ndarray, "h w"], size: tuple[int, int]) -> Bool[np.ndarray, "sh sw"]:
    """A mask of the image in the rectangle of `fitted_crop`: true where all pixels covered are, false beside it."""
    new_height, new_width, top, left = _place(*mask.shape, size)
    share = cv2.resize(mask.astype(np.float32), (new_width, new_height), interpolation=cv2.INTER_AREA)
    seen = np.zeros(size, bool)
    seen[top : top + new_height, left : left + new_width] = share > 1 - 1e-6
    return seen


def _place(height: int, width: int, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Height, width, top and left of the image in the rectangle."""
    scale = max(height / size[0], width / size[1])
    new_height, new_width = (
        min(most, max(1, round(length / scale))) for length, most in zip((height, width), size, strict=True)
    )
    return new_height, new_width, (size[0] - new_height) // 2, (size[1] - new_width) // 2
