"""Times of photographs that a user knows: of a file, of the images' names, or of their EXIF data; and the time steps of
a rig that they tell."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from rig3r_jax.data.image_names import match_names, of_images
from rig3r_jax.data.sources.folder.images import exif_time
from rig3r_jax.data.sources.folder.poses import read_folder_poses
from rig3r_jax.data.sources.recorded_rig import steps_by_time
from rig3r_jax.formats.image_times import read_image_times
from rig3r_jax.formats.times import AUTO, times_of_names
from rig3r_jax.inference.photographs import Photograph

NAMES, EXIF = "names", "exif"  # in place of a file
SAME_STEP = 0.02  # seconds within which images of cameras that share no names are one time step


def read_times(
    choice: str | Path, photographs: Sequence[Photograph], time_unit: str = AUTO
) -> tuple[dict[str, float], list[str]]:
    """Seconds by the names of the images, and notes. ValueError naming file, value, rule and remedy.

    Args:
        choice: a file (rows of time and image in either order, CSV, a time per image in their order; transforms.json or
            cameras.json), or NAMES, or EXIF.
        photographs: all.
        time_unit: of numbers; auto, s, ms, us or ns.
    """
    names = [photograph.name for photograph in photographs]
    if str(choice) == NAMES:
        leaves = [name.rpartition("/")[2].rpartition(".")[0] for name in names]
        if (seconds_and_unit := times_of_names(leaves, time_unit, "the images' names")) is None:
            raise ValueError(
                f"--times {NAMES}: {names[0]} is no time (seconds, ms, us or ns since 1970, or a number with a decimal "
                "point); give a file of times, or the unit"
            )
        seconds, unit = seconds_and_unit
        return dict(zip(names, seconds.tolist(), strict=True)), [f"times of {len(names)} images by their names, {unit}"]
    if str(choice) == EXIF:
        times = {one.name: time for one in photographs if (time := exif_time(one.path)) is not None}
        if not times:
            raise ValueError(f"--times {EXIF}: {photographs[0].path} has no DateTimeOriginal, nor has any other image")
        return times, [f"times of {len(times)} of {len(names)} images by their EXIF data"]
    path = Path(choice)
    if path.suffix.lower() == ".json":
        times = read_folder_poses(path, names).times
        if not times:
            raise ValueError(f"{path}: states no times, or not those of all its images; add them")
        return of_images(times, names, path, "times")
    table = read_image_times(path, time_unit)
    if table.names is None:
        return _in_order(table.seconds.tolist(), photographs, path, table.time_unit)
    times = dict(zip(table.names, table.seconds.tolist(), strict=True))
    if len(times) < len(table.names):
        twice = next(name for name in table.names if table.names.count(name) > 1)
        raise ValueError(f"{path}: lists {twice} twice; remove one of the rows")
    shared = _of_shared_names(times, photographs)
    if not match_names(times, names, path) and shared:
        note = f"times of {len(shared)} of {len(names)} images, of names that cameras share"
        return shared, [f"{note} ({path.name}, {table.time_unit})"]
    by_image, notes = of_images(times, names, path, "times")
    return shared | by_image, [f"{note} ({path.name}, {table.time_unit})" for note in notes]


def with_steps(
    photographs: Sequence[Photograph], times: Mapping[str, float], same_step: float = SAME_STEP
) -> tuple[list[Photograph], list[str]]:
    """The photographs of a rig by time step and camera, and notes; others as they are.

    Where no two cameras share a name, times tell which images were taken together: those within `same_step` seconds of
    the first of a step. An image without a time is a step of its own, at the end.
    """
    cameras = {one.camera for one in photographs}
    if len(cameras) < 2 or None in cameras:
        return list(photographs), []
    steps: dict[int | None, set[str | None]] = {}
    for one in photographs:
        steps.setdefault(one.step, set()).add(one.camera)
    shared = sum(len(members) > 1 for members in steps.values())
    if shared:
        return list(photographs), [f"{len(steps)} time steps, {shared} with several cameras"]
    timed = [one for one in photographs if one.name in times]
    if not timed:
        return list(photographs), [
            "no two cameras share a name: no image counts as taken together with another (--times)"
        ]
    numbers = steps_by_time([(one.camera, times[one.name]) for one in timed], same_step)
    stepped = [dataclasses.replace(one, step=step) for one, step in zip(timed, numbers, strict=True)]
    untimed = [one for one in photographs if one.name not in times]
    count = max(numbers) + 1
    stepped += [dataclasses.replace(one, step=count + number) for number, one in enumerate(untimed)]
    note = f"{count} time steps of cameras within {same_step:g} s"
    note += f"; {len(untimed)} images without a time" if untimed else ""
    return sorted(stepped, key=lambda one: (one.step, one.camera)), [note]


def _of_shared_names(times: Mapping[str, float], photographs: Sequence[Photograph]) -> dict[str, float]:
    """By names without the camera's folder, with the suffix or without, which all cameras share."""
    of_image = {}
    for one in photographs:
        below_camera = one.name.removeprefix(f"{one.camera}/")
        keys = (below_camera, below_camera.rpartition(".")[0])
        time = next((times[key] for key in keys if key in times), None)
        if time is not None:
            of_image[one.name] = time
    return of_image


def _in_order(
    seconds: Sequence[float], photographs: Sequence[Photograph], path: Path, unit: str
) -> tuple[dict[str, float], list[str]]:
    """A time per time step, or per image."""
    steps = sorted({one.step for one in photographs if one.step is not None})
    rank = {step: number for number, step in enumerate(steps)}
    if len(seconds) == len(photographs):
        rows = range(len(photographs))
    elif steps and len(seconds) == len(steps) and all(one.step is not None for one in photographs):
        rows = [rank[one.step] for one in photographs]
    else:
        raise ValueError(
            f"{path}: has {len(seconds)} times and no names, for {len(photographs)} images"
            + (f" of {len(steps)} time steps" if steps else "")
            + "; give a row for each, or name the images in its rows"
        )
    times = {one.name: seconds[row] for one, row in zip(photographs, rows, strict=True)}
    return times, [f"times of {len(times)} images in their order ({path.name}, {unit})"]
