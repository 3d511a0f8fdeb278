"""Small pictures of a reconstruction's images, where their files can be read."""

import collections
import dataclasses
import math
import typing
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image, ImageOps

from rig3r_jax.schema import PosedImage, Reconstruction

LARGEST, SMALLEST, MANY = 320, 64, 24  # pixels of the longer side; of more than MANY images smaller ones
MOST = 2000  # images with a picture; of more, evenly chosen ones


@typing.no_type_check
@dataclasses.dataclass(frozen=True)
class Thumbnails:
    """Pictures by the number of their image, and how many images have none, by reason."""

    pictures: dict[int, UInt8[np.ndarray, "h w 3"]]
    missing: dict[str, int]

    def note(self) -> str:
        """For people: which images have no picture; "" where all have one."""
        reasons = "; ".join(f"{count:,} ({reason})" for reason, count in self.missing.items())
        return f"images without a picture: {reasons}" if reasons else ""


def thumbnails_of(reconstruction: Reconstruction, folder: Path) -> Thumbnails:
    """Those of all images, upright; `folder` is that which a relative image folder is relative to."""
    images, pictures, missing = reconstruction.images, {}, collections.Counter()
    if reconstruction.image_folder is None:
        return Thumbnails({}, {"their names are of no files": len(images)})
    root, side = folder / reconstruction.image_folder, _side(len(images))
    if not root.is_dir():
        return Thumbnails({}, {f"no folder {root}": len(images)})
    chosen = set(np.linspace(0, len(images) - 1, min(MOST, len(images))).astype(int).tolist())
    for number, image in enumerate(images):
        picture = _thumbnail(root / image.name, image, side) if number in chosen else f"beyond {MOST:,} pictures"
        if isinstance(picture, str):
            missing[picture] += 1
        else:
            pictures[number] = picture
    return Thumbnails(pictures, dict(missing))


def _side(count: int) -> int:
    return max(SMALLEST, round(LARGEST * min(1.0, math.sqrt(MANY / count))))


def _thumbnail(path: Path, image: PosedImage, side: int) -> UInt8[np.ndarray, "h w 3"] | str:
    """The picture, or why there is none."""
    if not path.is_file():
        return "no file of that name"
    try:
        with Image.open(path) as file:
            stored, size = file.size, (image.width, image.height)
            turned = file.getexif().get(ExifTags.Base.Orientation, 1) >= 5
            if size not in (stored, upright := stored[::-1] if turned else stored):
                return "a file of another size"
            file.draft("RGB", (2 * side, 2 * side))  # a JPEG is decoded at a fraction of its size
            small = (ImageOps.exif_transpose(file) if size == upright else file).convert("RGB")
            small.thumbnail((side, side), Image.Resampling.BOX, reducing_gap=None)
            return np.asarray(small)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return "a file that does not decode"
