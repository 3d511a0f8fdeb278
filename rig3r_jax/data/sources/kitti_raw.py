"""Scenes of KITTI's raw data (synced and rectified): two grey and two colour cameras, a LiDAR, GPS with inertial poses.

The root holds a folder per day with `calib_cam_to_cam.txt`, `calib_velo_to_cam.txt`, `calib_imu_to_velo.txt` and a
folder per drive, in it `image_00/` to `image_03/`, `oxts/` and, for depth, `velodyne_points/`, each with `data/` and
`timestamps.txt`, and, for what moves, `tracklet_labels.xml`. Every image and every sweep has the pose at its own time,
between those of the OXTS unit. LiDAR sweeps are as taken, not freed of the vehicle's motion.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rig3r_jax.data.boxes import inside_any
from rig3r_jax.data.files import read_text
from rig3r_jax.data.pose_track import PoseTrack
from rig3r_jax.data.scene import UNMATCHED, BadRecord, LeftOut, RigCamera, Scene, about, leaving_out
from rig3r_jax.data.source import Scenes, bad_scene, even_pieces
from rig3r_jax.data.sources.drives import DriveSource, Shot, Sweep, drive_scene
from rig3r_jax.data.sources.kitti_files import (
    image_loader,
    matrix_of,
    numbered_images,
    pinhole_of,
    read_dates,
    read_named_numbers,
    read_sweep,
    rectification_of,
    rigid_of,
    time_of,
)
from rig3r_jax.data.sources.kitti_tracklets import AROUND, PlacedSweep, Tracklet, read_tracklets
from rig3r_jax.data.sources.shots import size_of
from rig3r_jax.geometry import rigid

_CAMERAS = ("image_00", "image_01", "image_02", "image_03")
_EARTH_RADIUS = 6378137.0  # metres
_LONGEST_GAP = 250_000_000  # ns between two poses, which come ten per second
# Eigen, Puhrsch and Fergus 2014: the drives that most papers on depth test on, by day.
_TEST = {
    "2011_09_26": "0002 0009 0013 0020 0023 0027 0029 0036 0046 0048 0052 0056 0059 0064 0084 0086 0093 0096 0101 0106 "
    "0117",
    "2011_09_28": "0002",
    "2011_09_29": "0071",
    "2011_09_30": "0016 0018 0027",
    "2011_10_03": "0027 0047",
}
TEST_DRIVES = frozenset(f"{day}_drive_{drive}_sync" for day, drives in _TEST.items() for drive in drives.split())


@dataclasses.dataclass(frozen=True)
class KittiRaw(DriveSource):
    """Options of KITTI's raw data, whose frames come ten per second."""

    cameras: tuple[str, ...] = _CAMERAS[2:]  # of image_00 to image_03, the first two grey
    front: str = "image_02"

    root_holds = "KITTI's raw data: folders like 2011_09_26/2011_09_26_drive_0001_sync"

    def splits(self) -> tuple[str, ...]:
        """train and test (the drives of Eigen's split), those that have a drive."""
        names = {"test" if folder.name in TEST_DRIVES else "train" for folder in _drives(self)}
        return tuple(split for split in ("train", "test") if split in names)

    def scenes(self, split: str) -> Scenes:
        """See `Source`."""
        self.check_split(split)
        loaders = []
        for folder in _drives(self):
            if (folder.name in TEST_DRIVES) == (split == "test"):
                loaders += _loaders_of(self, folder)
        return loaders


def _drives(source: KittiRaw) -> list[Path]:
    root = source.folder()
    folders = sorted(path.parent for path in [*root.glob("*_sync/oxts"), *root.glob("*/*_sync/oxts")])
    if not folders:
        raise BadRecord(f"{root}: holds no *_sync/oxts; give the folder that holds {source.root_holds}")
    return folders


def _loaders_of(source: KittiRaw, folder: Path) -> Scenes:
    images = numbered_images(folder / source.front / "data")
    if not images:
        return [
            bad_scene(folder.name, f"{folder / source.front / 'data'}: holds no images; restore them or set front=")
        ]
    numbers = sorted(images)
    loaders = []
    for piece in even_pieces(range(len(numbers)), source.window):
        name = folder.name + (f"_{numbers[piece.start]:010d}" if piece.start else "")
        chosen = tuple(numbers[piece.start : piece.stop])
        loaders.append((name, functools.partial(_load, source, folder, name, chosen)))
    return loaders


def _load(source: KittiRaw, folder: Path, name: str, frames: tuple[int, ...]) -> Scene:
    images = {camera: numbered_images(folder / camera / "data") for camera in _CAMERAS}
    kept = source.kept_cameras([camera for camera in _CAMERAS if images[camera]], str(folder))
    imu_from_lidar, imu_from_first = _calibration(folder.parent)
    cameras = [_camera(folder.parent, camera, images[camera], imu_from_first) for camera in kept]
    track = _read_track(folder / "oxts")
    times = {camera: read_dates(folder / camera / "timestamps.txt") for camera in kept}
    sweeps = folder / "velodyne_points"
    sweep_times = read_dates(sweeps / "timestamps.txt") if sweeps.is_dir() else None
    tracklets = read_tracklets(folder / "tracklet_labels.xml")
    left_out: list[LeftOut] = []
    shots = []
    for step, frame in enumerate(frames):
        sweep = None
        if sweep_times is not None:
            file = sweeps / "data" / f"{frame:010d}.bin"
            sweep = functools.cache(functools.partial(_sweep, file, sweep_times, track, imu_from_lidar, tracklets))
        for camera in cameras:
            path = images[camera.name].get(frame, folder / camera.name / "data" / f"{frame:010d}.png")
            with leaving_out(left_out, f"{camera.name}, frame {frame}"):
                with about("time"):
                    time = time_of(times[camera.name], frame, folder / camera.name / "timestamps.txt")
                with about(UNMATCHED):
                    pose = track.at(time) @ camera.rig_from_camera
                shots.append(Shot(camera.name, step, time / 1e9, pose, image_loader(path), sweep))
    return drive_scene(name, cameras, source.front, shots, left_out)


def _sweep(
    file: Path,
    times: np.ndarray,
    track: PoseTrack,
    imu_from_lidar: np.ndarray,
    tracklets: Sequence[Tracklet] | None,
) -> Sweep:
    frame, listing = int(file.stem), file.parent.parent / "timestamps.txt"
    sweep = read_sweep(file, track.at(time_of(times, frame, listing)) @ imu_from_lidar)
    if tracklets is None:
        return sweep
    placed = {}
    for number in range(max(frame - AROUND, 0), min(frame + AROUND + 1, len(times))):
        with contextlib.suppress(BadRecord):  # one around it, beyond the poses
            placed[number] = PlacedSweep(int(times[number]) / 1e9, track.at(int(times[number])) @ imu_from_lidar)
    boxes = [box for tracklet in tracklets if (box := tracklet.moving_box(frame, placed)) is not None]
    return Sweep(sweep.points_world, inside_any(sweep.points_world, boxes))


def _read_transform(path: Path) -> np.ndarray:
    """Of a file with rows R and T."""
    rows = read_named_numbers(path)
    rotation, translation = matrix_of(rows, "R", (3, 3), path), matrix_of(rows, "T", (3, 1), path)
    return rigid_of(np.concatenate([rotation, translation], axis=1).ravel(), str(path))


def _calibration(day: Path) -> tuple[np.ndarray, np.ndarray]:
    """imu_from_lidar, and imu_from_camera of the first rectified camera."""
    imu_from_lidar = rigid.invert(_read_transform(day / "calib_imu_to_velo.txt"))
    camera_from_lidar = _read_transform(day / "calib_velo_to_cam.txt")
    path = day / "calib_cam_to_cam.txt"
    rectified_from_camera = rectification_of(read_named_numbers(path), "00", path)
    return imu_from_lidar, imu_from_lidar @ rigid.invert(rectified_from_camera @ camera_from_lidar)


def _camera(day: Path, name: str, images: dict[int, Path], imu_from_first: np.ndarray) -> RigCamera:
    """In the frame of the vehicle's IMU."""
    from rig3r_jax.geometry.camera import Pinhole  # imports JAX: not where options are read

    path, row = day / "calib_cam_to_cam.txt", f"P_rect_{name[-2:]}"
    intrinsics, position = pinhole_of(matrix_of(read_named_numbers(path), row, (3, 4), path), f"{path}: {row}")
    first_from_camera = rigid.from_rotation_translation(np.eye(3), position)
    size = size_of(images.values(), name)
    return RigCamera(name, Pinhole(intrinsics), size, imu_from_first @ first_from_camera)


def _read_track(folder: Path) -> PoseTrack:
    """world_from_imu by time: x east, y north on a Mercator map that is true to scale at the drive's start, z up."""
    times = read_dates(folder / "timestamps.txt")
    rows, row_times, scale = [], [], None
    for path in sorted(path for path in (folder / "data").glob("*.txt") if path.stem.isdigit()):
        try:
            latitude, longitude, altitude, roll, pitch, yaw = map(float, read_text(path).split()[:6])
        except ValueError as error:
            if isinstance(error, BadRecord):
                raise
            raise BadRecord(f"{path}: does not begin with lat lon alt roll pitch yaw ({error})") from error
        frame = int(path.stem)
        if frame >= len(times):
            raise BadRecord(f"{folder / 'timestamps.txt'}: has {len(times)} times, none of {path.name}; restore it")
        scale = np.cos(np.radians(latitude)) if scale is None else scale
        east = scale * _EARTH_RADIUS * np.radians(longitude)
        north = scale * _EARTH_RADIUS * np.log(np.tan(np.radians(90 + latitude) / 2))
        rows.append(_pose(roll, pitch, yaw, np.array([east, north, altitude])))
        row_times.append(times[frame])
    if not rows:
        raise BadRecord(f"{folder / 'data'}: holds no poses; restore the folder")
    return PoseTrack.of(np.array(row_times), np.array(rows), _LONGEST_GAP, str(folder))


def _pose(roll: float, pitch: float, yaw: float, position: np.ndarray) -> np.ndarray:
    """Rz(yaw) Ry(pitch) Rx(roll), radians."""
    (cr, cp, cy), (sr, sp, sy) = np.cos([roll, pitch, yaw]), np.sin([roll, pitch, yaw])
    about_x = np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
    about_y = np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
    about_z = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
    return rigid.from_rotation_translation(about_z @ about_y @ about_x, position)
