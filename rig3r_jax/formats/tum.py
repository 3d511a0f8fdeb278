"""Text files of the TUM RGB-D benchmark: trajectories, lists of image files, and how their times are matched.

    groundtruth.txt      time tx ty tz qx qy qz qw      world_from_camera; metres, quaternion x y z w
    rgb.txt, depth.txt   time file                      file relative to the list's folder
    associations.txt     time_rgb rgb time_depth depth

Times are seconds (of the Unix epoch in TUM's own files, where float64 resolves 0.2 microseconds); `#` begins a comment.
Files of other tools may have times in ms, us or ns (see `formats.times`), commas between the columns, quotes, paths of
Windows, and a first line of column names; one that names the quaternion w x y z is refused.
"""

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from rig3r_jax.formats.atomic import write_atomically
from rig3r_jax.formats.text import numbered_lines, read_text, split_words, with_slashes
from rig3r_jax.formats.times import AUTO, PER_SECOND, unit_of_times
from rig3r_jax.geometry import rigid

_HEADER = "# timestamp tx ty tz qx qy qz qw"
_QUATERNION_TOLERANCE = 0.05  # four printed decimals of a unit quaternion are off by 1e-4 at most
_AFTER_DECIMAL_COMMA = re.compile(r"\d+\s+\S")  # "033 rgb/a.png", of 1305031102,033 rgb/a.png
_NAME_OF_TIME = re.compile(r"(time|stamp|t$)", re.IGNORECASE)
_NAME_OF_QUATERNION = re.compile(r"q\w*?([wxyz])", re.IGNORECASE)  # qx, q_x, q_RS_x


@dataclasses.dataclass(frozen=True)
class Trajectory:
    """Where a camera was at which times, in the file's order."""

    times: Float[np.ndarray, " n"]  # seconds, never descending
    world_from_camera: Float[np.ndarray, "n 4 4"]  # float64, metres
    time_unit: str = "s"  # of the file


@dataclasses.dataclass(frozen=True)
class FileList:
    """Image files and when they were taken, in the order of the list."""

    times: Float[np.ndarray, " n"]  # seconds
    files: tuple[str, ...]  # as the list names them
    time_unit: str = "s"  # of the list


def read_trajectory(path: str | Path, bad_rows: dict[int, str] | None = None, *, time_unit: str = AUTO) -> Trajectory:
    """The rows of a trajectory; quaternions are normalised, gaps in time and repeated times stay as they are.

    Times are taken to be of `time_unit`: auto, s, ms, us or ns. ValueError naming file, line, value and rule for rows
    that are no pose, times that descend or whose unit is not told, or no rows at all.
    Where `bad_rows` is given, it takes that message of every row that is no pose, by its place in the trajectory, which
    has a transform of NaN there and is sorted by time; a row without a time costs the whole file still.
    """
    rows = []
    for line, words in _rows(path):
        where, reason = f"{path}, line {line}", ""
        try:
            numbers = _pose_row(words, where)
        except ValueError as error:
            if bad_rows is None:
                raise
            numbers, reason = [_number(words[0], where), *[np.nan] * 7], str(error)
        if bad_rows is None and rows and numbers[0] < rows[-1][0][0]:
            raise ValueError(f"{where}: time {numbers[0]!r} comes after {rows[-1][0][0]!r}; sort the rows by time")
        rows.append((numbers, reason))
    if not rows:
        raise ValueError(f"{path}: holds no pose; it must have rows of time tx ty tz qx qy qz qw")
    rows.sort(key=lambda row: row[0][0])
    good = np.array([not reason for _, reason in rows])
    if not good.any():
        raise ValueError(rows[0][1])
    table = np.array([numbers for numbers, _ in rows], np.float64)
    world_from_camera = np.full((len(rows), 4, 4), np.nan)
    rotations = rigid.rotation_from_quat_xyzw(table[good, 4:])
    world_from_camera[good] = rigid.from_rotation_translation(rotations, table[good, 1:4])
    if bad_rows is not None:
        bad_rows.update((i, reason) for i, (_, reason) in enumerate(rows) if reason)
    times, unit = _in_seconds(table[:, 0], time_unit, path)
    return Trajectory(times, world_from_camera, unit)


def _pose_row(words: list[str], where: str) -> list[float]:
    """Time, position and quaternion of a row; ValueError naming `where`."""
    if len(words) != 8:
        raise ValueError(f"{where}: has {len(words)} values, must be 8 (time tx ty tz qx qy qz qw); correct the row")
    numbers = [_number(word, where) for word in words]
    rigid.check_quat_xyzw(numbers[4:], where, tolerance=_QUATERNION_TOLERANCE)
    return numbers


def read_named_poses(path: str | Path) -> dict[str, Float[np.ndarray, "4 4"]]:
    """Rows `name tx ty tz qx qy qz qw`, world_from_camera by the name of the image; {} where the first row begins with
    a number, as of a trajectory, or has not eight words. ValueError as of `read_trajectory`, and for a name twice."""
    poses: dict[str, np.ndarray] = {}
    for line, words in _rows(path):
        where = f"{path}, line {line}"
        if not poses and (len(words) != 8 or _is_number(words[0])):
            return {}
        if words[0] in poses:
            raise ValueError(f"{where}: {words[0]} is there twice; remove one of the rows")
        *position, qx, qy, qz, qw = _pose_row(["0", *words[1:]], where)[1:]
        rotation = rigid.rotation_from_quat_xyzw(np.array([qx, qy, qz, qw]))
        poses[with_slashes(words[0])] = rigid.from_rotation_translation(rotation, np.array(position))
    return poses


def write_trajectory(
    path: str | Path, times: Float[np.ndarray, " n"], world_from_camera: Float[np.ndarray, "n 4 4"]
) -> None:
    """Writes what `read_trajectory` reads; numbers lose nothing, rotations the rounding of their quaternion.

    ValueError, before anything is written, where a time or a transform is not one.
    """
    times, matrices = np.asarray(times, np.float64), np.asarray(world_from_camera, np.float64)
    if not len(times):
        raise ValueError(f"{path}: no poses to write; a trajectory has at least one")
    bad = ~np.isfinite(times) | ~rigid.is_rigid(matrices)
    bad[1:] |= np.diff(times) < 0
    if bad.any():
        first = int(np.argmax(bad))
        raise ValueError(
            f"{path}: row {first}, time {times[first]!r}, world_from_camera {matrices[first].tolist()}: times must be "
            "finite and not descend, transforms rigid; sort by time, project rotations to SO(3)"
        )
    quaternions = rigid.quat_xyzw_from_rotation(matrices[:, :3, :3])
    table = np.concatenate([times[:, None], matrices[:, :3, 3], quaternions], axis=1)
    lines = [" ".join(repr(float(value)) for value in row) for row in table]
    write_atomically(path, ("\n".join([_HEADER, *lines]) + "\n").encode())


def read_file_list(path: str | Path, bad_rows: list[str] | None = None, *, time_unit: str = AUTO) -> FileList:
    """The rows of rgb.txt or depth.txt, times in `time_unit`; ValueError naming file, line, value and rule.

    Where `bad_rows` is given, it takes that message of every row that does not read; ValueError where none does.
    """
    times, files = [], []
    for line, words in _rows(path, columns=2):
        try:
            if len(words) != 2:
                raise ValueError(f"{path}, line {line}: {' '.join(words)!r} must be a time and a file; correct the row")
            if _AFTER_DECIMAL_COMMA.match(words[1]):
                row = ",".join(words)
                raise ValueError(f"{path}, line {line}: {row!r} has a comma in the time's fraction; write a point")
            times.append(_number(words[0], f"{path}, line {line}"))
            files.append(with_slashes(words[1]))
        except ValueError as error:
            if bad_rows is None:
                raise
            bad_rows.append(str(error))
    if not files:
        raise ValueError(bad_rows[0] if bad_rows else f"{path}: lists no file; it must have rows of time and file")
    seconds, unit = _in_seconds(np.array(times, np.float64), time_unit, path)
    return FileList(seconds, tuple(files), unit)


def write_file_list(path: str | Path, listed: FileList) -> None:
    """Writes what `read_file_list` reads, times in seconds; numbers lose nothing."""
    rows = zip(listed.times, listed.files, strict=True)
    lines = ["# time file", *(f"{float(time)!r} {file}" for time, file in rows)]
    write_atomically(path, ("\n".join(lines) + "\n").encode())


def read_associations(path: str | Path, time_unit: str = AUTO) -> tuple[FileList, FileList]:
    """(colour images, depth images) of equal length, row by row, times in `time_unit`.

    ValueError naming file, line, value and rule.
    """
    rows = []
    for line, words in _rows(path):
        where = f"{path}, line {line}"
        if len(words) != 4:
            raise ValueError(f"{where}: has {len(words)} values, must be 4 (time rgb time depth); correct the row")
        files = with_slashes(words[1]), with_slashes(words[3])
        rows.append((_number(words[0], where), files[0], _number(words[2], where), files[1]))
    if not rows:
        raise ValueError(f"{path}: associates nothing; it must have rows of time rgb time depth")
    image_times, images, depth_times, depths = zip(*rows, strict=True)
    seconds_of_images, unit_of_images = _in_seconds(np.array(image_times), time_unit, path)
    seconds_of_depths, unit_of_depths = _in_seconds(np.array(depth_times), time_unit, path)
    return FileList(seconds_of_images, images, unit_of_images), FileList(seconds_of_depths, depths, unit_of_depths)


def write_associations(path: str | Path, images: FileList, depths: FileList) -> None:
    """Writes what `read_associations` reads; ValueError for lists of unequal length or names with spaces."""
    if len(images.files) != len(depths.files) or not images.files:
        raise ValueError(
            f"{path}: {len(images.files)} images and {len(depths.files)} depths must be equally many, not 0"
        )
    spaced = [name for name in images.files + depths.files if len(name.split()) != 1]
    if spaced:
        raise ValueError(f"{path}: file name {spaced[0]!r} must be one word; rename the file")
    rows = zip(images.times, images.files, depths.times, depths.files, strict=True)
    lines = [f"{float(t)!r} {image} {float(u)!r} {depth}\n" for t, image, u, depth in rows]
    write_atomically(path, "".join(lines).encode())


def nearest(
    times: Float[np.ndarray, " n"], candidates: Float[np.ndarray, " m"], within: float, *, strict: bool = False
) -> Int[np.ndarray, " n"]:
    """For each time the index of the nearest candidate at most (`strict`: less than) `within` seconds away, or -1.

    Of equally near ones the earlier is taken, of equal ones the first. One candidate may serve several times.
    """
    if not len(candidates):
        return np.full(len(times), -1)
    order = np.argsort(candidates, kind="stable")
    ascending = candidates[order]
    after = np.clip(np.searchsorted(ascending, times), 0, len(ascending) - 1)
    before = np.maximum(after - 1, 0)
    chosen = np.where(np.abs(times - ascending[before]) <= np.abs(ascending[after] - times), before, after)
    distance = np.abs(ascending[chosen] - times)
    first_of_equal = np.searchsorted(ascending, ascending[chosen])
    return np.where(distance < within if strict else distance <= within, order[first_of_equal], -1)


def _in_seconds(times: np.ndarray, time_unit: str, path: str | Path) -> tuple[np.ndarray, str]:
    """The times in seconds, and the unit that they have in the file."""
    unit = unit_of_times(times, time_unit, str(path))
    return times / PER_SECOND[unit], unit


def _rows(path: str | Path, columns: int = 0) -> Iterator[tuple[int, list[str]]]:
    """(line number, words) of the lines that hold values; the last of `columns` may have spaces."""
    try:
        text = read_text(path)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}); restore the file") from error
    first = True
    for number, line in numbered_lines(text):
        if line.startswith("#"):
            _check_names(line, f"{path}, line {number}")
        elif first and _NAME_OF_TIME.match(line.split(",")[0].strip().partition(" ")[0].strip('"')):
            _check_names(line, f"{path}, line {number}")
            first = False
        else:
            yield number, split_words(line, columns)
            first = False


def _check_names(names: str, where: str) -> None:
    """ValueError for column names that give the quaternion in another order."""
    matches = [_NAME_OF_QUATERNION.fullmatch(name) for name in re.findall(r"\w+", names)]
    order = "".join(match[1].lower() for match in matches if match)
    if sorted(order) == sorted("wxyz") and order != "xyzw":
        raise ValueError(f"{where}: names the quaternion in the order {order}, must be xyzw; reorder the columns")


def _is_number(word: str) -> bool:
    try:
        return bool(np.isfinite(float(word)))
    except ValueError:
        return False


def _number(word: str, where: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = np.nan
    if not np.isfinite(value):
        raise ValueError(f"{where}: {word!r} must be a finite number; correct or remove the row")
    return value
