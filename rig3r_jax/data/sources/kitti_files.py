"""Files that the KITTI benchmarks share: calibrations by name, pictures by number, LiDAR sweeps, times as dates."""

import datetime
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int64

from rig3r_jax.data.files import read_text
from rig3r_jax.data.image_bytes import read_image
from rig3r_jax.data.scene import BadRecord
from rig3r_jax.data.sources.drives import Sweep, read_points
from rig3r_jax.formats.text import numbered_lines
from rig3r_jax.geometry import rigid

ROTATION_TOLERANCE = 1e-2  # the files' rotations have few digits
_SUFFIXES = (".png", ".jpg", ".jpeg")
_POINT_FLOATS = 4  # x y z reflectance


def read_named_numbers(path: Path) -> dict[str, Float[np.ndarray, " n"]]:
    """The rows `name: numbers` of a calibration file, those without numbers (dates) left away. Rows without a name are
    P0, P1, ... in their order, as some odometry files have them."""
    rows: dict[str, np.ndarray] = {}
    for number, line in numbered_lines(read_text(path)):
        name, colon, words = line.rpartition(":") if line.count(":") == 1 else ("", "", line)
        try:
            numbers = np.array([float(word) for word in words.split()])
        except ValueError:
            if ":" in line:  # calib_time: 09-Jan-2012 14:00:15
                continue
            raise BadRecord(f"{path}, line {number}: {line!r} is no name with numbers; restore the file") from None
        rows[name.strip() if colon else f"P{len(rows)}"] = numbers
    if not all(np.isfinite(numbers).all() for numbers in rows.values()):
        raise BadRecord(f"{path}: has numbers that are not finite; restore the file")
    return rows


def matrix_of(rows: dict[str, np.ndarray], name: str, shape: tuple[int, int], path: Path) -> np.ndarray:
    """The matrix of a row; BadRecord where there is none of this shape."""
    if name not in rows or rows[name].size != shape[0] * shape[1]:
        held = f"{rows[name].size} numbers" if name in rows else f"none, only {', '.join(rows) or 'nothing'}"
        raise BadRecord(f"{path}: {name} must be {shape[0]} x {shape[1]} numbers, has {held}; restore the file")
    return rows[name].reshape(shape)


def rigid_of(numbers: Iterable[float], where: str) -> Float[np.ndarray, "4 4"]:
    """A transform of the 12 numbers of its first three rows, or of all 16, moved to the nearest rigid one. BadRecord
    where it is far from one."""
    numbers = np.asarray(list(numbers), np.float64)
    if numbers.size not in (12, 16):
        raise BadRecord(
            f"{where}: {numbers.size} numbers must be 12 of a 3x4 transform, or 16 of a 4x4 one; restore the file"
        )
    matrix = np.concatenate([numbers[:12].reshape(3, 4), [[0, 0, 0, 1]]])
    return rigid.nearest_rigid(rigid.check(matrix, where, BadRecord, ROTATION_TOLERANCE))


def pinhole_of(projection: Float[np.ndarray, "3 4"], where: str) -> tuple[np.ndarray, Float[np.ndarray, "3"]]:
    """Intrinsics (3, 3), the centre of the first pixel at 0.5, and where the camera is in the first rectified camera's
    frame: P = K [I | -position], so that the baseline of a stereo pair is -P[0, 3] / P[0, 0]."""
    intrinsics = projection[:, :3].copy()
    if not (intrinsics[0, 0] > 0 and intrinsics[1, 1] > 0 and intrinsics[2, 2] == 1):
        raise BadRecord(f"{where}: {projection.tolist()} is no projection of a rectified camera; restore the file")
    position = -np.linalg.solve(intrinsics, projection[:, 3])
    intrinsics[:2, 2] += 0.5  # KITTI has the centre of the first pixel at 0
    return intrinsics, position


def rectification_of(rows: dict[str, np.ndarray], number: str, path: Path) -> Float[np.ndarray, "4 4"]:
    """rectified_from_camera, a rotation alone, of camera `number` (two digits) of a calibration's rows."""
    name = f"R_rect_{number}"
    rotation = matrix_of(rows, name, (3, 3), path)
    return rigid_of(np.concatenate([rotation, np.zeros((3, 1))], axis=1).ravel(), f"{path}: {name}")


def numbered_images(folder: Path) -> dict[int, Path]:
    """Pictures by the number that is their name."""
    paths = sorted(path for path in folder.glob("*") if path.suffix.lower() in _SUFFIXES and path.stem.isdigit())
    return {int(path.stem): path for path in paths}


def image_loader(path: Path) -> Callable[[], bytes]:
    """Reads an image when it is called."""
    return lambda: read_image(path)[0]


def read_sweep(path: Path, world_from_lidar: Float[np.ndarray, "4 4"]) -> Sweep:
    """A sweep of the Velodyne; BadRecord where the file is none."""
    return Sweep(rigid.apply(world_from_lidar, read_points(path, _POINT_FLOATS)))


def time_of(times: Int64[np.ndarray, " n"], frame: int, path: Path) -> int:
    """The time, ns, of a frame; BadRecord where the file at `path`, which they are of, has none."""
    if frame >= len(times):
        raise BadRecord(f"{path}: has {len(times)} times, none of frame {frame}; restore the file")
    return int(times[frame])


def read_dates(path: Path) -> Int64[np.ndarray, " n"]:
    """ns since 1970 of lines like 2011-09-26 13:02:25.964389445, which are taken as UTC."""
    times = []
    for number, line in numbered_lines(read_text(path)):
        seconds, _, fraction = line.partition(".")
        try:
            date = datetime.datetime.fromisoformat(seconds).replace(tzinfo=datetime.UTC)
            times.append(int(date.timestamp()) * 10**9 + int(f"{fraction:0<9}"[:9]))
        except ValueError as error:
            raise BadRecord(f"{path}, line {number}: {line!r} is no date ({error}); restore the file") from error
    return np.array(times, np.int64)
