"""Photographs as they lie on a disk: which, in what order, of which camera and time step, upright."""

import dataclasses
import glob
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from rig3r_jax.data.files import read_bytes
from rig3r_jax.data.image_bytes import decode_image, turned_upright, usable_size
from rig3r_jax.data.image_header import exif_orientation
from rig3r_jax.data.scene import BadRecord
from rig3r_jax.data.sources.folder.images import FLAT, SUFFIXES, list_images, natural


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
    if len(inputs) == 1 and Path(inputs[0]).is_dir():
        return _of_folder(Path(inputs[0]), prefixes)
    files: dict[Path, None] = {}  # in the order given, each once
    for words in map(str, inputs):
        matching = [words] if Path(words).exists() else sorted(glob.glob(words, recursive=True), key=natural)
        if not matching:
            raise ValueError(f"{words}: there is no such file or folder, nor does the pattern fit any")
        for path in map(Path, matching):
            inside = [image.path for image in list_images(path)] if path.is_dir() else [path]
            files |= dict.fromkeys(file.absolute() for file in inside)
    if unfit := [file for file in files if file.suffix.lower() not in SUFFIXES]:
        raise ValueError(f"{unfit[0]}: is no image file ({' '.join(SUFFIXES)}); leave it out")
    folder = Path(os.path.commonpath([file.parent for file in files]))
    return folder, [Photograph(file, file.relative_to(folder).as_posix()) for file in files]


def read_upright(photograph: Photograph) -> UInt8[np.ndarray, "h w 3"]:
    """RGB as a viewer shows it: turned as the EXIF orientation says. BadRecord naming the file where it is no image."""
    data = read_bytes(photograph.path)
    try:
        usable_size(data)
        return turned_upright(decode_image(data), exif_orientation(data))
    except BadRecord as error:
        raise _undecodable(photograph, error) from error


def upright_size(photograph: Photograph) -> tuple[int, int]:
    """Height and width of what `read_upright` gives, from the file's head; BadRecord likewise."""
    data = read_bytes(photograph.path)
    try:
        height, width = usable_size(data)
    except BadRecord as error:
        raise _undecodable(photograph, error) from error
    return (width, height) if exif_orientation(data) >= 5 else (height, width)


def _undecodable(photograph: Photograph, error: BadRecord) -> BadRecord:
    reason = str(error).rpartition("; ")[0] or str(error)  # what follows is the remedy for records
    return BadRecord(f"{photograph.path}: does not decode ({reason}); restore it or leave it out")


def _of_folder(root: Path, prefixes: Sequence[str]) -> tuple[Path, list[Photograph]]:
    folder = root / "images" if (root / "images").is_dir() else root
    images = list_images(folder, prefixes)
    if {image.camera for image in images} == {FLAT}:
        return folder, [Photograph(image.path, image.name) for image in images]
    steps = {stem: number for number, stem in enumerate(sorted({image.stem for image in images}, key=natural))}
    of_rig = [Photograph(image.path, image.name, image.camera, steps[image.stem]) for image in images]
    return folder, sorted(of_rig, key=lambda image: image.step)
