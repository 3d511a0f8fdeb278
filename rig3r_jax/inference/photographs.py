"""Photographs as they lie on a disk: which, in what order, of which camera and time step, upright."""

import dataclasses
import glob
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError

from rig3r_jax.data.files import read_bytes
from rig3r_jax.data.scene import BadRecord
from rig3r_jax.data.sources.folder.images import FLAT, SUFFIXES, list_images, natural

_MOST_PIXELS = 2**28  # of one image: 800 MB of bytes


@dataclasses.dataclass(frozen=True)
class Photograph:
    """One image file."""

    path: Path
    name: str  # below the folder of all, forward slashes; unique
    camera: str | None = None  # the folder of images/<camera>/ that it lies in; None: no rig is told
    step: int | None = None  # of the rig: images of equal names in the cameras' folders were taken together


def find_photographs(inputs: Sequence[str | Path], prefixes: Sequence[str] = ()) -> tuple[Path, list[Photograph]]:
    """The folder of the images and the images, those of a rig by step and camera, others in natural order.

    Args:
        inputs: a folder in COLMAP's rig layout (images/<camera>/<name>, or <camera>/<name>), a folder of images, files,
            patterns such as "shots/*.jpg", or several of these.
        prefixes: names of the cameras of a calibration, whose images lie in folders that begin so.

    Raises ValueError where there is nothing, naming what was looked at.
    """
    folders = [Path(one) for one in inputs if Path(one).is_dir()]
    if len(folders) == 1 and len(inputs) == 1:
        return _of_folder(folders[0], prefixes)
    paths: dict[Path, None] = {}
    for one in map(str, inputs):
        found = sorted(glob.glob(one, recursive=True), key=natural) if not Path(one).exists() else [one]
        if not found:
            raise ValueError(f"{one}: there is no such file or folder, nor does the pattern fit any")
        for path in map(Path, found):
            inside = [image.path for image in list_images(path)] if path.is_dir() else [path]
            paths |= dict.fromkeys(inside)
    if unfit := [path for path in paths if path.suffix.lower() not in SUFFIXES]:
        raise ValueError(f"{unfit[0]}: is no image file ({' '.join(SUFFIXES)}); leave it out")
    folder = Path(_common_folder(list(paths)))
    return folder, [Photograph(path, path.relative_to(folder).as_posix()) for path in paths]


def read_upright(photograph: Photograph) -> UInt8[np.ndarray, "h w 3"]:
    """RGB as a viewer shows it: turned as the EXIF orientation says. BadRecord naming the file where it is no image."""
    data = read_bytes(photograph.path)
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > _MOST_PIXELS:
                size = f"{image.width} x {image.height}"
                raise BadRecord(f"{photograph.path}: has {size} pixels, more than {_MOST_PIXELS}; make it smaller")
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except (Image.DecompressionBombError, UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        if isinstance(error, BadRecord):
            raise
        raise BadRecord(f"{photograph.path}: does not decode ({error}); restore it or leave it out") from error


def _of_folder(root: Path, prefixes: Sequence[str]) -> tuple[Path, list[Photograph]]:
    folder = root / "images" if (root / "images").is_dir() else root
    images = list_images(folder, prefixes)
    if {image.camera for image in images} == {FLAT}:
        return folder, [Photograph(image.path, image.name) for image in images]
    steps = {stem: number for number, stem in enumerate(sorted({image.stem for image in images}, key=natural))}
    of_rig = [Photograph(image.path, image.name, image.camera, steps[image.stem]) for image in images]
    return folder, sorted(of_rig, key=lambda image: image.step)


def _common_folder(paths: Sequence[Path]) -> Path:
    folders = [path.absolute().parent for path in paths]
    common = folders[0]
    while not all(folder.is_relative_to(common) for folder in folders):
        common = common.parent
    return common if all(path.is_absolute() for path in paths) else _relative(common)


def _relative(folder: Path) -> Path:
    here = Path.cwd()
    return folder.relative_to(here) if folder.is_relative_to(here) else folder
