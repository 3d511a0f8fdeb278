"""Masks of photographs: which of their pixels never become points."""

from pathlib import Path

import numpy as np
from jaxtyping import Bool

from rig3r_jax.data.depth_files import read_pixels


def read_mask(path: Path, size: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    """True where the image counts, as in COLMAP's masks: wherever the mask is not black.

    `size` is the height and width of the upright image. ValueError where the mask has another; BadRecord where it does
    not decode.
    """
    mask = read_pixels(path, "mask", grey=True)
    if mask.shape != size:
        raise ValueError(
            f"{path}: this mask is {mask.shape[1]} x {mask.shape[0]} pixels, its image {size[1]} x {size[0]} as "
            "viewers show it; make a mask of that size"
        )
    return mask > 0
