"""The sweeps of a folder: which belongs to which image, and where its points are."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from rig3r_jax.data.files import read_numbers
from rig3r_jax.data.lidar import project_points
from rig3r_jax.data.scene import BadRecord, RigCamera, SparseDepth
from rig3r_jax.data.sources.folder.images import ImageFile, natural
from rig3r_jax.data.trajectory import poses_at
from rig3r_jax.formats import tum
from rig3r_jax.formats.point_cloud import READERS, read_points
from rig3r_jax.formats.times import times_of_names
from rig3r_jax.geometry import rigid

FOLDER, TIMES, POSES, PLACE = "lidar", "lidar_times.txt", "lidar_poses.txt", "rig_from_lidar.txt"


@dataclasses.dataclass(frozen=True)
class Sweeps:
    """The files of a LiDAR, and world_from_points of each."""

    paths: dict[str, Path]  # by name without suffix
    world_from_points: dict[str, np.ndarray]  # (4, 4); of those that have one
    of_image: dict[str, str]  # sweep of the images, by name
    frame: str  # of the points, in words
    columns: int

    def depth(self, image: str, world_from_camera: Float[np.ndarray, "4 4"], camera: RigCamera) -> SparseDepth:
        """What a camera sees of the sweep of its image. BadRecord, naming the file, where that does not read."""
        sweep = self.of_image[image]
        try:
            points = _points(self.paths[sweep], self.columns)
        except (ValueError, OSError) as error:
            raise BadRecord(str(error)) from error
        return project_points(rigid.apply(self.world_from_points[sweep], points), world_from_camera, camera)


@functools.lru_cache(maxsize=2)
def _points(path: Path, columns: int) -> Float[np.ndarray, "n 3"]:
    """Kept for the other cameras of the time step."""
    return read_points(path, columns)


def find_sweeps(
    folder: Path,
    images: Sequence[ImageFile],
    times: Mapping[str, float],
    world_from_rig: Mapping[str, np.ndarray],
    rig_track: tuple[np.ndarray, np.ndarray] | None,
    frame: str,
    columns: int,
    longest_gap: float,
    time_unit: str,
) -> Sweeps | None:
    """The sweeps in lidar/ and the images that they serve; None where there is no such folder.

    Args:
        folder: of the recording: lidar/<name>, with lidar_times.txt or times for names, and lidar_poses.txt
            (world_from_lidar, TUM) or rig_from_lidar.txt (4x4).
        images: all that have a pose.
        times: of images, seconds.
        world_from_rig: of images, by name.
        rig_track: times and world_from_rig of a trajectory of the rig, where there is one.
        frame: of the points, one of LIDAR_FRAMES of the source's options.
        columns: of .bin files.
        longest_gap: seconds from a sweep to its image, and between two poses.
        time_unit: of times in files.
    """
    files = (
        sorted((folder / FOLDER).glob("*"), key=lambda path: natural(path.name)) if (folder / FOLDER).is_dir() else []
    )
    paths = {path.stem: path for path in files if path.suffix.lower() in READERS and not path.name.startswith(".")}
    if not files:
        return None
    if not paths:
        raise BadRecord(f"{folder / FOLDER}: holds no file of points ({', '.join(READERS)}); convert them")
    sweep_times = _times(folder, list(paths), time_unit)
    of_image = _nearest(images, times, list(paths), sweep_times, longest_gap)
    if not of_image:
        raise BadRecord(
            f"{folder / FOLDER}: no sweep has the name of an image or a time within {longest_gap:g} s of one, such as "
            f"{next(iter(paths.values())).name}; name sweeps as the images are, or add {TIMES}"
        )
    frame, poses = _poses(folder, frame, of_image, sweep_times, world_from_rig, rig_track, longest_gap, time_unit)
    of_image = {name: sweep for name, sweep in of_image.items() if sweep in poses}
    return Sweeps(paths, poses, of_image, frame, columns)


def _times(folder: Path, names: list[str], time_unit: str) -> dict[str, float]:
    """Seconds of sweeps by name; {} where nothing tells."""
    if (folder / TIMES).is_file():
        table = tum.read_file_list(folder / TIMES, time_unit=time_unit)
        return {Path(name).stem if Path(name).suffix.lower() in READERS else name: float(time)
                for name, time in zip(table.files, table.times, strict=True)}  # fmt: skip
    seconds_and_unit = times_of_names(names, time_unit, str(folder / FOLDER))
    return dict(zip(names, seconds_and_unit[0].tolist(), strict=True)) if seconds_and_unit else {}


def _nearest(
    images: Sequence[ImageFile],
    times: Mapping[str, float],
    sweeps: list[str],
    sweep_times: Mapping[str, float],
    longest_gap: float,
) -> dict[str, str]:
    """The sweep of each image: the one of its name, else the nearest in time."""
    names, of_image = set(sweeps), {}
    timed = [sweep for sweep in sweeps if sweep in sweep_times]
    candidates = np.array([sweep_times[sweep] for sweep in timed])
    for image in images:
        if (leaf := image.stem.rpartition("/")[2]) in names:
            of_image[image.name] = leaf
        elif timed and image.name in times:
            (index,) = tum.nearest(np.array([times[image.name]]), candidates, longest_gap)
            if index >= 0:
                of_image[image.name] = timed[index]
    return of_image


def _poses(
    folder: Path,
    frame: str,
    of_image: Mapping[str, str],
    sweep_times: Mapping[str, float],
    world_from_rig: Mapping[str, np.ndarray],
    rig_track: tuple[np.ndarray, np.ndarray] | None,
    longest_gap: float,
    time_unit: str,
) -> tuple[str, dict[str, np.ndarray]]:
    """The points' frame in words, and world_from_points by sweep."""
    if frame == "world":
        return "the world", {sweep: np.eye(4) for sweep in of_image.values()}
    if frame != "rig" and (folder / POSES).is_file():
        trajectory = tum.read_trajectory(folder / POSES, time_unit=time_unit)
        if not sweep_times:
            raise BadRecord(f"{folder / POSES}: goes by time, and nothing tells the times of sweeps; add {TIMES}")
        track = (trajectory.times, trajectory.world_from_camera)
        return f"the LiDAR ({POSES})", _at_times(sorted(set(of_image.values())), sweep_times, track, longest_gap)
    rig_from_points = np.eye(4)
    if frame != "rig":
        if not (folder / PLACE).is_file():
            raise BadRecord(
                f"{folder / FOLDER}: nothing says of which frame its points are; add {POSES} (world_from_lidar), or "
                f"{PLACE} (4x4), or set lidar_frame=rig or world"
            )
        rig_from_points = rigid.check(read_numbers(folder / PLACE, (4, 4)), str(folder / PLACE), BadRecord)
    poses: dict[str, np.ndarray] = {}
    if rig_track is not None:
        poses = _at_times(sorted(set(of_image.values())), sweep_times, rig_track, longest_gap)
    for image, sweep in of_image.items():  # without a trajectory, or times, the rig's pose at the sweep's first image
        if image in world_from_rig and (rig_track is None or sweep not in sweep_times):
            poses.setdefault(sweep, world_from_rig[image])
    poses = {sweep: world_from_rig_then @ rig_from_points for sweep, world_from_rig_then in poses.items()}
    return "the rig" if frame == "rig" else f"the LiDAR ({PLACE})", poses


def _at_times(
    sweeps: Sequence[str],
    sweep_times: Mapping[str, float],
    track: tuple[np.ndarray, np.ndarray],
    longest_gap: float,
) -> dict[str, np.ndarray]:
    """The pose of a trajectory at the time of each sweep that has one."""
    timed = [sweep for sweep in sweeps if sweep in sweep_times]
    poses, has_pose = poses_at(np.array([sweep_times[sweep] for sweep in timed]), *track, longest_gap)
    return {sweep: pose for sweep, pose, posed in zip(timed, poses, has_pose, strict=True) if posed}
