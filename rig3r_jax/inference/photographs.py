"""Photographs as they lie on a disk: which, in what order, of which camera and time step, upright."""

import collections
import dataclasses
import glob
import os
import re
import typing
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from rig3r_jax.data.files import read_bytes
from rig3r_jax.data.image_bytes import decode_image, turned_upright, usable_size
from rig3r_jax.data.image_header import exif_orientation
from rig3r_jax.data.scene import BadRecord, LeftOut
from rig3r_jax.data.sources.folder.images import FLAT, SUFFIXES, ImageFile, list_images, natural

UNREAD = (".heic", ".heif", ".gif", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".rw2", ".jxl")  # but are images
_FOR_RECORDS = re.compile(r",? (and|then) build the records again")
_IN_RECORDING = re.compile("(.+?)/images/[^/]+/")  # an image's name, where the folder above its own images/ was given
_NAMED = 3  # recordings of a message


@typing.no_type_check
@dataclasses.dataclass(frozen=True)
class Photograph:
    """One image: a file, or pixels in memory."""

    path: Path  # of pixels in memory the name
    name: str  # below the folder of all, forward slashes; unique
    camera: str | None = None  # the folder of images/<camera>/ that it lies in; None: no rig is told
    step: int | None = None  # of the rig: images of equal names in the cameras' folders were taken together
    pixels: UInt8[np.ndarray, "h w 3"] | None = None  # RGB, upright; None: in the file


def find_photographs(
    inputs: Sequence[str | Path], prefixes: Sequence[str] = (), notes: list[str] | None = None
) -> tuple[Path, list[Photograph]]:
    """The folder of the images and the images, those of a rig by step and camera, others in natural order.

    Args:
        inputs: a folder in COLMAP's rig layout (images/<camera>/<name>, or <camera>/<name>), a folder of images, files,
            patterns such as "shots/*.jpg", or several of these.
        prefixes: names of the cameras of a calibration, whose images lie in folders that begin so.
        notes: takes a sentence on what was given twice, and on what lies among the images and is not read.

    Raises ValueError where there is nothing, naming what was looked at; and for a folder of several such layouts, which
    are no one scene (their depth maps and masks are no photographs either).
    """
    notes = [] if notes is None else notes
    if len(inputs) == 1 and Path(inputs[0]).is_dir():
        return _of_folder(Path(inputs[0]), prefixes, notes)
    files: dict[str, Path] = {}  # in the order given, each once, by where links lead
    twice = 0
    for path in expand(inputs):
        inside = [image.path for image in _listed(path, (), notes)] if path.is_dir() else [path]
        for file in map(_absolute, inside):
            twice += os.path.realpath(file) in files
            files.setdefault(os.path.realpath(file), file)
    for file in files.values():
        if file.suffix.lower() not in SUFFIXES:
            remedy = "convert it to JPEG, or leave it out" if file.suffix.lower() in UNREAD else "leave it out"
            raise ValueError(f"{file}: is no image file that is read ({' '.join(SUFFIXES)}); {remedy}")
    if twice:
        notes.append(f"{twice} images were given twice; each is taken once")
    folder = Path(os.path.commonpath([file.parent for file in files.values()]))
    return folder, [Photograph(file, file.relative_to(folder).as_posix()) for file in files.values()]


def expand(inputs: Iterable[str | Path]) -> list[Path]:
    """The files and folders that inputs are or, as patterns, fit. ValueError naming the first that is none."""
    paths = []
    for words in map(str, inputs):
        matching = [words] if os.path.exists(words) else sorted(glob.glob(words, recursive=True), key=natural)
        if not matching:
            raise ValueError(f"{words}: there is no such file or folder, nor does the pattern fit any")
        paths += map(Path, matching)
    return paths


def read_upright(photograph: Photograph) -> UInt8[np.ndarray, "h w 3"]:
    """RGB as a viewer shows it: turned as the EXIF orientation says, 16 bits as 8, transparency dropped.

    BadRecord naming the file where it is no image.
    """
    if photograph.pixels is not None:
        return photograph.pixels
    data = read_bytes(photograph.path)
    try:
        usable_size(data)
        return turned_upright(decode_image(data), exif_orientation(data))
    except BadRecord as error:
        raise _undecoded(photograph, error) from error


def upright_size(photograph: Photograph) -> tuple[int, int]:
    """Height and width of `read_upright`, without the pixels of a JPEG or PNG; BadRecord, naming the file, for one that
    is cut short, damaged as far as can be told so, or no image."""
    if photograph.pixels is not None:
        return photograph.pixels.shape[:2]
    data = read_bytes(photograph.path)
    try:
        height, width = usable_size(data)
    except BadRecord as error:
        raise _undecoded(photograph, error) from error
    return (width, height) if exif_orientation(data) >= 5 else (height, width)


def usable(
    photographs: Sequence[Photograph], skip_bad: bool = False
) -> tuple[dict[str, tuple[int, int]], list[LeftOut]]:
    """Upright sizes (height, width) of the photographs that can be read, by name; and the others, with reasons.

    Raises ValueError naming the first that cannot, and how many more, unless `skip_bad`; and where none can.
    """
    sizes, bad = {}, []
    for photograph in photographs:
        try:
            if not photograph.name.isprintable() or "\\" in photograph.name:
                raise BadRecord(
                    f"{photograph.name!r}: files of cameras hold no names with backslashes or characters that do not "
                    "print; rename it"
                )
            sizes[photograph.name] = upright_size(photograph)
        except BadRecord as error:
            bad.append(LeftOut(photograph.name, "image", str(error)))
    if bad and not (skip_bad and sizes):
        others = f"; nor can {len(bad) - 1} others be used" if len(bad) > 1 else ""
        raise ValueError(f"{bad[0].reason}{others}" + ("" if skip_bad else "; --skip-bad leaves such images out"))
    return sizes, bad


def _undecoded(photograph: Photograph, error: BadRecord) -> BadRecord:
    reason, _, remedy = _FOR_RECORDS.sub("", str(error)).rpartition("; ")
    remedy = "restore it" if remedy in ("restore the file", "fetch the file anew") else remedy
    return BadRecord(f"{photograph.path}: does not decode ({reason}); {remedy} or leave it out")


def _absolute(path: Path) -> Path:
    """Absolute and without steps upwards, links in the file's own place kept."""
    return path.parent.resolve() / path.name if ".." in path.parts else path.absolute()


def _of_folder(root: Path, prefixes: Sequence[str], notes: list[str]) -> tuple[Path, list[Photograph]]:
    folder = root / "images" if (root / "images").is_dir() else root
    images = _listed(folder, prefixes, notes)
    if recordings := sorted({match[1] for image in images if (match := _IN_RECORDING.match(image.name))}, key=natural):
        raise ValueError(
            f"{root}: holds no images/ but recordings, each with images/<camera>/ of its own; reconstruct one: "
            + " ".join(str(root / name) for name in recordings[:_NAMED])
            + (f" ... ({len(recordings)} in all)" if len(recordings) > _NAMED else "")
        )
    if {image.camera for image in images} == {FLAT}:
        return folder, [Photograph(image.path, image.name) for image in images]
    steps = {stem: number for number, stem in enumerate(sorted({image.stem for image in images}, key=natural))}
    of_rig = [Photograph(image.path, image.name, image.camera, steps[image.stem]) for image in images]
    return folder, sorted(of_rig, key=lambda image: image.step)


def _listed(folder: Path, prefixes: Sequence[str], notes: list[str]) -> tuple[ImageFile, ...]:
    """The images of a folder; what lies there and is an image of a kind that is not read is told."""
    suffixes = (Path(name).suffix.lower() for name in glob.iglob("**/*", root_dir=folder, recursive=True))
    unread = collections.Counter(suffix for suffix in suffixes if suffix in UNREAD)
    counts = ", ".join(f"{count} {suffix}" for suffix, count in unread.items())
    try:
        images = list_images(folder, prefixes)
    except BadRecord as error:
        if unread:
            raise ValueError(f"{folder}: holds no image that is read, but {counts}; convert them to JPEG") from error
        raise ValueError(f"{folder}: holds no image ({' '.join(SUFFIXES)})") from error
    if unread:
        notes.append(f"{folder}: of its files {counts} are not read; convert them to JPEG")
    return images
