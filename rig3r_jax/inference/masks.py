"""Masks that a user gives, as COLMAP's: <folder>/<image's name>.png, 0 (black) is ignored, all else counts."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool
from PIL import Image, UnidentifiedImageError

from rig3r_jax.data.depth_files import read_pixels
from rig3r_jax.data.scene import BadRecord
from rig3r_jax.inference.photographs import Photograph


def find_masks(
    folder: Path, photographs: Sequence[Photograph], sizes: Mapping[str, tuple[int, int]]
) -> tuple[dict[str, Path], list[str]]:
    """Files of masks by the names of the images, and notes; an image without one is used as a whole.

    The mask of `front/000.jpg` is `front/000.jpg.png`; that of a PNG may have its own name. ValueError where the folder
    is none or has a mask of no image, and for one of another size than its upright image (height, width).
    """
    if not folder.is_dir():
        raise ValueError(f"{folder}: is no folder; give that of the masks, <image's name>.png")
    masks = {}
    for photograph in photographs:
        candidates = [Path(f"{folder / photograph.name}.png")]
        candidates += [folder / photograph.name] if photograph.name.lower().endswith(".png") else []
        there = (candidate for candidate in candidates if candidate.is_file())
        file = next((candidate for candidate in there if not candidate.samefile(photograph.path)), None)
        if file is not None:
            _check_size(file, sizes[photograph.name])
            masks[photograph.name] = file
    files = {path for path in folder.rglob("*.[pP][nN][gG]") if not path.name.startswith(".")}
    others = sorted(files - set(masks.values()))
    if not masks:
        there = f"its files are named such as {others[0].relative_to(folder)}" if others else "it holds no PNG"
        raise ValueError(
            f"{folder}: has a mask of none of the {len(photographs)} images; {there}, the mask of "
            f"{photographs[0].name} must be {photographs[0].name}.png (black is ignored, as in COLMAP)"
        )
    note = f"masks of {len(masks)} of {len(photographs)} images; black is ignored"
    note += f"; {len(others)} others are of no image here, such as {others[0].relative_to(folder)}" if others else ""
    return masks, [note]


def read_mask(mask: Path | Bool[np.ndarray, "mh mw"], size: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    """True where the upright image of this size (height, width) counts.

    BadRecord, naming the file, for one that is no image or of another size.
    """
    values = mask if isinstance(mask, np.ndarray) else read_pixels(mask, "mask", grey=True)
    if values.shape != size:
        where = "a mask that is an array" if isinstance(mask, np.ndarray) else mask
        (height, width), (wanted_height, wanted_width) = values.shape[:2], size
        raise BadRecord(
            f"{where}: is {width} x {height} pixels, its image {wanted_width} x {wanted_height} as viewers show it; "
            "store it at that size"
        )
    return values != 0


def _check_size(file: Path, size: tuple[int, int]) -> None:
    try:
        with Image.open(file) as image:  # the header alone is read
            width, height = image.size
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{file}: is no image that opens ({error}); restore the mask") from error
    if (height, width) != size:
        raise ValueError(_of_size(file, (height, width), size))


def _of_size(path: Path, mask: tuple[int, int], image: tuple[int, int]) -> str:
    return (
        f"{path}: this mask is {mask[1]} x {mask[0]} pixels, its image {image[1]} x {image[0]} as viewers show it; "
        "make a mask of that size"
    )
