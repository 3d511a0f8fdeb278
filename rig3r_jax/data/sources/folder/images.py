"""The images of a folder: which camera took which, which were taken together, and when."""

import dataclasses
import glob
import math
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from rig3r_jax.data.scene import BadRecord
from rig3r_jax.data.sources.recorded_rig import steps_by_time
from rig3r_jax.formats import exif, tum
from rig3r_jax.formats.times import times_of_names

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".avif", ".jp2")
FLAT = "camera"  # the one camera of images that lie in no folder of their own
TIMES_FILE = "times.txt"
NOTHING, PHOTOGRAPHS = "nothing", "EXIF"  # that times may be from


@dataclasses.dataclass(frozen=True)
class ImageFile:
    """One image file."""

    path: Path
    name: str  # below images/, forward slashes
    camera: str  # the folder that it lies in, or the prefix of the calibration
    stem: str  # what is left of the name without camera and suffix: equal ones are one time step


def list_images(folder: Path, prefixes: Sequence[str] = ()) -> tuple[ImageFile, ...]:
    """All images at or below `folder`, by camera and then in natural order. BadRecord for none.

    The camera of an image is the longest of `prefixes` that its folder begins with, else its whole folder.
    """
    files = []
    longest_first = sorted(prefixes, key=len, reverse=True)
    for listed in sorted(glob.glob("**/*", root_dir=folder, recursive=True)):  # through links, without hidden files
        path, name = folder / listed, Path(listed).as_posix()
        if path.suffix.lower() not in SUFFIXES or path.is_dir():
            continue
        parent = name.rpartition("/")[0]
        place = next((prefix for prefix in longest_first if f"{parent}/".startswith(f"{prefix}/")), parent)
        stem = name.removeprefix(f"{place}/") if place else name
        camera = "" if place == "images" else place.removeprefix("images/")  # of a list of the folder above
        files.append(ImageFile(path, name, camera or FLAT, stem.rpartition(".")[0]))
    if not files:
        raise BadRecord(f"{folder}: holds no image ({' '.join(SUFFIXES)}); put them into images/<camera>/")
    return tuple(sorted(files, key=lambda file: (file.camera, natural(file.stem))))


def natural(name: str) -> list[tuple[int, str]]:
    """A key by which frame_2 comes before frame_10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def read_times(
    folder: Path, images: Sequence[ImageFile], choice: str, time_unit: str, stated: Mapping[str, float]
) -> tuple[dict[str, float], str]:
    """Seconds of the images by name, and a sentence on where they are from; {} where nothing tells them.

    Args:
        folder: of the recording, which may hold times.txt.
        images: all of them.
        choice: auto, or one of file, names, exif, none.
        time_unit: of numbers; auto, s, ms, us or ns.
        stated: times that the file of the poses states, by name.
    """
    if choice in ("auto", "file") and ((folder / TIMES_FILE).is_file() or choice == "file"):
        return _times_of_file(folder / TIMES_FILE, images, time_unit)
    if choice == "auto" and stated:
        return dict(stated), "the file of the poses"
    if choice in ("auto", "names"):
        leaves = [image.stem.rpartition("/")[2] for image in images]
        if seconds_and_unit := times_of_names(leaves, time_unit, str(folder)):
            seconds, unit = seconds_and_unit
            names = (image.name for image in images)
            return dict(zip(names, seconds.tolist(), strict=True)), f"names of images, {unit}"
        if choice == "names":
            raise BadRecord(f"{images[0].path}: its name is no time; set times= to file, exif or none, or time_unit")
    if choice == "exif" or (choice == "auto" and exif_time(images[0].path) is not None):
        times = {image.name: time for image in images if (time := exif_time(image.path)) is not None}
        if len(times) == len(images) and len(set(times.values())) > len(images) // 2:
            return times, PHOTOGRAPHS
        if choice == "exif":
            missing = next((image.path for image in images if image.name not in times), images[0].path)
            raise BadRecord(f"{missing}: has no DateTimeOriginal of its own; set times= to file, names or none")
    return {}, NOTHING


def _times_of_file(path: Path, images: Sequence[ImageFile], time_unit: str) -> tuple[dict[str, float], str]:
    """Rows `time name`: a name below images/, or one without its folder or suffix that all cameras share."""
    table = tum.read_file_list(path, time_unit=time_unit)
    rows = {name.removeprefix("images/"): float(time) for name, time in zip(table.files, table.times, strict=True)}
    times = {}
    for image in images:
        keys = (image.name, image.name.rpartition(".")[0], image.stem, f"{image.stem}{image.path.suffix}")
        time = next((rows[key] for key in keys if key in rows), None)
        if time is not None:
            times[image.name] = time
    if not times:
        raise BadRecord(
            f"{path}: names no image, such as {images[0].name}; its first row is {table.files[0]}; correct it"
        )
    return times, f"{path.name}, {table.time_unit}"


def exif_time(path: Path) -> float | None:
    """Seconds since 1970 of DateTimeOriginal, taken as UTC; None where an image has none."""
    tags = exif.read_exif(path)
    try:
        taken = datetime.strptime(str(tags[exif.TAKEN]).strip("\0 "), "%Y:%m:%d %H:%M:%S")
    except (KeyError, ValueError):
        return None
    fraction = str(tags.get(exif.TAKEN_FRACTION, "")).strip("\0 ")
    return taken.replace(tzinfo=UTC).timestamp() + (float(f"0.{fraction}") if fraction.isdigit() else 0.0)


def time_steps(
    images: Sequence[ImageFile], times: Mapping[str, float], frames: Mapping[str, int], tolerance: float
) -> tuple[dict[str, int], str]:
    """The time step of every image by name, ascending in time, and a sentence on what tells them.

    Images of equal names are of one step. Where no two cameras share a name, the frames of the model of the poses tell
    the steps, or else the times: images of different cameras within `tolerance` seconds of the first of a step.
    """
    cameras_of: dict[str, set[str]] = {}
    for image in images:
        cameras_of.setdefault(image.stem, set()).add(image.camera)
    many = len({image.camera for image in images}) > 1
    shared = any(len(cameras) > 1 for cameras in cameras_of.values())
    if frames and not shared and many:
        groups = {image.name: frames[image.name] for image in images if image.name in frames}
        return _ranked(images, groups, times), "frames of the model"
    if shared or not many or not times:
        return _ranked(images, {image.name: image.stem for image in images}, times), "equal names"
    timed = [image for image in images if image.name in times]
    steps = steps_by_time([(image.camera, times[image.name]) for image in timed], tolerance)
    return {image.name: step for image, step in zip(timed, steps, strict=True)}, f"times within {tolerance:g} s"


def _ranked(images: Sequence[ImageFile], groups: Mapping[str, object], times: Mapping[str, float]) -> dict[str, int]:
    """Number of each group, by its earliest time and then by the natural order of names; those without come last."""
    members: dict[object, list[ImageFile]] = {}
    for image in images:
        if image.name in groups:
            members.setdefault(groups[image.name], []).append(image)

    def key(group: object) -> tuple[float, list[tuple[int, str]]]:
        earliest = min(times.get(image.name, math.inf) for image in members[group])
        return earliest, min(natural(image.stem) for image in members[group])

    rank = {group: number for number, group in enumerate(sorted(members, key=key))}
    return {name: rank[group] for name, group in groups.items()}
