"""Scenes of KITTI-360: a rectified pair that looks forward, two fisheyes that look to the sides, a LiDAR.

The root holds `calibration/`, `data_2d_raw/` (a folder per drive, in it `image_00/data_rect`, `image_01/data_rect`,
`image_02/data_rgb`, `image_03/data_rgb`, each with its `timestamps.txt`), `data_poses/`, for depth `data_3d_raw/`,
for what moves `data_3d_bboxes/`.
`poses.txt` has world_from_imu by frame number, not of every frame: images without a pose are left out. Cameras and
LiDAR are triggered together: images and sweeps of one number share the pose, as in the data set's own tools. LiDAR
sweeps are as taken, not freed of the vehicle's motion. Fisheyes are of Mei's model, with the centre of the first pixel
at 0.
"""

import dataclasses
import functools
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from rig3r_jax.data.boxes import Box, inside_any
from rig3r_jax.data.files import read_numbers, read_text
from rig3r_jax.data.scene import UNMATCHED, BadRecord, LeftOut, RigCamera, Scene, about, leaving_out
from rig3r_jax.data.source import Scenes, bad_scene, even_pieces
from rig3r_jax.data.sources.drives import DriveSource, Shot, Sweep, drive_scene
from rig3r_jax.data.sources.kitti360_boxes import moving_boxes
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
from rig3r_jax.data.sources.shots import size_of
from rig3r_jax.formats.text import numbered_lines
from rig3r_jax.geometry import rigid

_DATA = {"image_00": "data_rect", "image_01": "data_rect", "image_02": "data_rgb", "image_03": "data_rgb"}
_FISHEYES = ("image_02", "image_03")
_LONGEST_GAP = 10  # frames without a pose, of 10 per second, that a scene goes on over
_MEI = ("gamma1", "gamma2", "u0", "v0", "xi", "k1", "k2", "p1", "p2")
_ENTRY = re.compile(r"\s*(\w+)\s*:\s*([-+.\deE]+)\s*")


@dataclasses.dataclass(frozen=True)
class Kitti360(DriveSource):
    """Options of KITTI-360, whose frames come ten per second."""

    front: str = "image_00"
    validation: tuple[str, ...] = ("2013_05_28_drive_0010_sync",)  # drives of the split val; others are train

    root_holds = "KITTI-360: calibration/, data_2d_raw/ and data_poses/"

    def splits(self) -> tuple[str, ...]:
        """train and val, those that have a drive: the data set itself parts frames, not drives."""
        names = {"val" if drive in self.validation else "train" for drive in _drives(self)}
        return tuple(split for split in ("train", "val") if split in names)

    def scenes(self, split: str) -> Scenes:
        """See `Source`."""
        self.check_split(split)
        loaders = []
        for drive in _drives(self):
            if (drive in self.validation) == (split == "val"):
                loaders += _loaders_of(self, drive)
        return loaders

    def rigs(self, split: str) -> dict[str, str]:
        """One vehicle with one calibration took all drives."""
        return {drive: "KITTI-360" for drive in _drives(self) if (drive in self.validation) == (split == "val")}

    def left_out(self) -> list[tuple[str, LeftOut]]:
        """Images of frames without a pose."""
        root, left_out = self.folder(), []
        for drive in _drives(self):
            try:
                poses = _read_poses(_poses_file(root, drive))
            except BadRecord:  # a bad scene
                continue
            for camera in (name for name in self.cameras or _DATA if name in _DATA):  # others make a bad scene
                for number, path in numbered_images(_images_folder(root, drive, camera)).items():
                    if number not in poses:
                        reason = f"{path}: {_poses_file(root, drive)} has no pose of frame {number}"
                        left_out.append((drive, LeftOut(str(path), UNMATCHED, reason)))
        return left_out

    def notes(self) -> list[str]:
        """Drives without poses."""
        root = self.folder()
        paths = sorted((root / "data_2d_raw").glob("*_sync"))
        without = [path.name for path in paths if not _poses_file(root, path.name).is_file()]
        return [f"{root}: drives without poses are not read: {', '.join(without)}"] * bool(without)


def _poses_file(root: Path, drive: str) -> Path:
    return root / "data_poses" / drive / "poses.txt"


def _images_folder(root: Path, drive: str, camera: str) -> Path:
    return root / "data_2d_raw" / drive / camera / _DATA[camera]


def _drives(source: Kitti360) -> list[str]:
    root = source.folder()
    names = [path.name for path in sorted((root / "data_2d_raw").glob("*")) if _poses_file(root, path.name).is_file()]
    if not names:
        raise BadRecord(f"{root}: holds no drive with images and poses; give the folder that holds {source.root_holds}")
    return names


def _read_poses(path: Path) -> dict[int, list[float]]:
    """Numbers of world_from_imu by frame."""
    poses = {}
    for number, line in numbered_lines(read_text(path)):
        try:
            frame, *numbers = map(float, line.split())
            poses[int(frame)] = numbers
        except ValueError as error:
            raise BadRecord(f"{path}, line {number}: does not read ({error}); restore the file") from error
    return poses


def _loaders_of(source: Kitti360, drive: str) -> Scenes:
    path = _poses_file(source.folder(), drive)
    try:
        poses = _read_poses(path)
    except BadRecord as error:
        return [bad_scene(drive, str(error))]
    if not poses:
        return [bad_scene(drive, f"{path}: holds no pose; restore the file")]
    frames = sorted(poses)
    loaders = []
    for run in _runs(frames):
        for piece in even_pieces(run, source.window):
            name = f"{drive}_{frames[piece.start]:010d}"
            chosen = tuple(frames[piece.start : piece.stop])
            loaders.append((name, functools.partial(_load, source, drive, name, chosen)))
    return loaders


def _runs(frames: Sequence[int]) -> Iterator[range]:
    """Places in the list, parted where many frames have no pose."""
    edges = [0, *(np.flatnonzero(np.diff(frames) > _LONGEST_GAP) + 1).tolist(), len(frames)]
    yield from (range(start, stop) for start, stop in itertools.pairwise(edges))


def _load(source: Kitti360, drive: str, name: str, frames: tuple[int, ...]) -> Scene:
    root, poses = source.folder(), _read_poses(_poses_file(source.folder(), drive))
    images = {camera: numbered_images(_images_folder(root, drive, camera)) for camera in _DATA}
    kept = source.kept_cameras([camera for camera in _DATA if images[camera]], f"{root / 'data_2d_raw' / drive}")
    imu_from = {camera: _imu_from_camera(root / "calibration", camera) for camera in ("image_00", *kept)}
    cameras = [_camera(root / "calibration", camera, images[camera], imu_from[camera]) for camera in kept]
    times = {camera: read_dates(root / "data_2d_raw" / drive / camera / "timestamps.txt") for camera in kept}
    imu_from_lidar = _imu_from_lidar(root / "calibration", imu_from["image_00"])
    sweeps, boxes = root / "data_3d_raw" / drive / "velodyne_points" / "data", moving_boxes(root, drive)
    left_out: list[LeftOut] = []
    shots = []
    for step, frame in enumerate(frames):
        imu = functools.cache(functools.partial(rigid_of, poses[frame], f"{_poses_file(root, drive)}: frame {frame}"))
        sweep = None
        if imu_from_lidar is not None and sweeps.is_dir():
            file = sweeps / f"{frame:010d}.bin"
            sweep = functools.cache(functools.partial(_sweep, file, imu, imu_from_lidar, boxes))
        for camera in cameras:
            path = _images_folder(root, drive, camera.name) / f"{frame:010d}.png"
            path = images[camera.name].get(frame, path)
            with leaving_out(left_out, f"{camera.name}, frame {frame}"):
                with about("pose"):
                    pose = imu() @ camera.rig_from_camera
                with about("time"):
                    time = time_of(times[camera.name], frame, path.parent.parent / "timestamps.txt")
                shots.append(Shot(camera.name, step, time / 1e9, pose, image_loader(path), sweep))
    return drive_scene(name, cameras, source.front, shots, left_out)


def _sweep(
    file: Path,
    world_from_imu: Callable[[], np.ndarray],
    imu_from_lidar: np.ndarray,
    boxes: Mapping[int, Sequence[Box]] | None,
) -> Sweep:
    sweep = read_sweep(file, world_from_imu() @ imu_from_lidar)
    if boxes is None:
        return sweep
    return Sweep(sweep.points_world, inside_any(sweep.points_world, boxes.get(int(file.stem), [])))


def _imu_from_camera(calibration: Path, camera: str) -> np.ndarray:
    """Of the camera as mounted, before rectification."""
    path = calibration / "calib_cam_to_pose.txt"
    return rigid_of(matrix_of(read_named_numbers(path), camera, (3, 4), path).ravel(), f"{path}: {camera}")


def _imu_from_lidar(calibration: Path, imu_from_first: np.ndarray) -> np.ndarray | None:
    path = calibration / "calib_cam_to_velo.txt"
    if not path.is_file():
        return None
    lidar_from_first = rigid_of(read_numbers(path, (3, 4)).ravel(), str(path))
    return imu_from_first @ rigid.invert(lidar_from_first)


def _camera(calibration: Path, name: str, images: dict[int, Path], imu_from_camera: np.ndarray) -> RigCamera:
    """In the frame of the vehicle's IMU."""
    from rig3r_jax.geometry.camera import Pinhole, Unified  # imports JAX: not where options are read

    if name in _FISHEYES:
        numbers, size = _read_mei(calibration / f"{name}.yaml")
        focal_u, focal_v, centre_u, centre_v, *coefficients = numbers
        intrinsics = np.array([[focal_u, 0, centre_u + 0.5], [0, focal_v, centre_v + 0.5], [0, 0, 1]])
        return RigCamera(name, Unified(intrinsics, np.array(coefficients)), size, imu_from_camera)
    path, number = calibration / "perspective.txt", name[-2:]
    rows = read_named_numbers(path)
    intrinsics, _ = pinhole_of(matrix_of(rows, f"P_rect_{number}", (3, 4), path), f"{path}: P_rect_{number}")
    rectified_from_camera = rectification_of(rows, number, path)
    size = size_of(images.values(), name)
    return RigCamera(name, Pinhole(intrinsics), size, imu_from_camera @ rigid.invert(rectified_from_camera))


def _read_mei(path: Path) -> tuple[list[float], tuple[int, int]]:
    """gamma1 gamma2 u0 v0 xi k1 k2 p1 p2, and height and width, of a file as camodocal writes it."""
    entries = dict(match.groups() for _, line in numbered_lines(read_text(path)) if (match := _ENTRY.fullmatch(line)))
    try:
        numbers = [float(entries[name]) for name in _MEI]
        return numbers, (int(entries["image_height"]), int(entries["image_width"]))
    except (KeyError, ValueError) as error:
        raise BadRecord(f"{path}: lacks what a camera of Mei's model has ({error!r}); restore the file") from error
