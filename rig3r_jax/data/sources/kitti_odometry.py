"""Scenes of KITTI odometry: two grey and two colour cameras, rectified to one plane, a LiDAR, poses per frame.

The root (or its `dataset/`) holds `sequences/00` to `21`, each with `calib.txt`, `times.txt`, `image_0` to `image_3`
and, for depth, `velodyne/`, and `poses/00.txt` to `10.txt`: rows of world_from_camera of the first grey camera. The
cameras fire together, when the LiDAR looks forward; its sweeps are as taken, not freed of the vehicle's motion.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from rig3r_jax.data.files import read_text
from rig3r_jax.data.scene import UNMATCHED, BadRecord, LeftOut, RigCamera, Scene, about, leaving_out
from rig3r_jax.data.source import Scenes, bad_scene, even_pieces
from rig3r_jax.data.sources.drives import DriveSource, Shot, Sweep, drive_scene
from rig3r_jax.data.sources.kitti_files import (
    image_loader,
    matrix_of,
    numbered_images,
    pinhole_of,
    read_named_numbers,
    read_sweep,
    rigid_of,
    time_of,
)
from rig3r_jax.data.sources.shots import size_of
from rig3r_jax.formats.text import numbered_lines
from rig3r_jax.geometry import rigid

_CAMERAS = ("image_0", "image_1", "image_2", "image_3")
_COLOUR = _CAMERAS[2:]


@dataclasses.dataclass(frozen=True)
class KittiOdometry(DriveSource):
    """Options of KITTI odometry, whose frames come ten per second."""

    cameras: tuple[str, ...] = _COLOUR  # of image_0 to image_3, the first two grey
    front: str = "image_2"
    validation: tuple[str, ...] = ("09", "10")  # sequences of the split val, as most papers have it; others are train

    root_holds = "KITTI odometry: sequences/ and poses/"

    def splits(self) -> tuple[str, ...]:
        """train and val, those that have a sequence with poses."""
        names = {"val" if name in self.validation else "train" for name in _sequences(self)}
        return tuple(split for split in ("train", "val") if split in names)

    def scenes(self, split: str) -> Scenes:
        """See `Source`."""
        self.check_split(split)
        loaders = []
        for name, folder in _sequences(self).items():
            if (name in self.validation) == (split == "val"):
                loaders += _loaders_of(self, name, folder)
        return loaders

    def left_out(self) -> list[tuple[str, LeftOut]]:
        """Images beyond the last pose of their sequence."""
        left_out = []
        for name, folder in _sequences(self).items():
            try:
                count = _count_poses(_poses_file(folder))
            except BadRecord:  # a bad scene
                continue
            for camera in self.cameras:
                for number, path in numbered_images(folder / camera).items():
                    if number >= count:
                        reason = f"{path}: {_poses_file(folder)} has {count} poses"
                        left_out.append((name, LeftOut(str(path), UNMATCHED, reason)))
        return left_out

    def notes(self) -> list[str]:
        """Sequences without poses."""
        without = [folder.name for folder in _folders(self) if not _poses_file(folder).is_file()]
        return [f"{self.root}: sequences without poses are not read: {', '.join(without)}"] * bool(without)


def _folders(source: KittiOdometry) -> list[Path]:
    root = source.folder()
    base = root / "dataset" if (root / "dataset" / "sequences").is_dir() else root
    folders = sorted(path for path in (base / "sequences").glob("*") if (path / "calib.txt").is_file())
    if not folders:
        raise BadRecord(f"{root}: holds no sequences/*/calib.txt; give the folder that holds {source.root_holds}")
    return folders


def _sequences(source: KittiOdometry) -> dict[str, Path]:
    """Those with poses, by name."""
    folders = {path.name: path for path in _folders(source) if _poses_file(path).is_file()}
    if not folders:
        raise BadRecord(f"{source.root}: holds no poses/*.txt of its sequences; give the folder that holds them")
    return folders


def _poses_file(sequence: Path) -> Path:
    return sequence.parent.parent / "poses" / f"{sequence.name}.txt"


def _rows(path: Path) -> Iterator[tuple[int, str]]:
    return (row for row in numbered_lines(read_text(path)) if not row[1].startswith("#"))


def _count_poses(path: Path) -> int:
    return sum(1 for _ in _rows(path))


def _loaders_of(source: KittiOdometry, name: str, folder: Path) -> Scenes:
    try:
        count = _count_poses(_poses_file(folder))
    except BadRecord as error:
        return [bad_scene(name, str(error))]
    pieces = even_pieces(range(count), source.window)
    if not pieces:
        return [bad_scene(name, f"{_poses_file(folder)}: holds no pose; restore the file")]
    names = [name + (f"_{steps.start:06d}" if steps.start else "") for steps in pieces]
    return [
        (scene, functools.partial(_load, source, scene, folder, steps))
        for scene, steps in zip(names, pieces, strict=True)
    ]


def _load(source: KittiOdometry, name: str, folder: Path, steps: range) -> Scene:
    times = _times(folder / "times.txt")
    images = {camera: numbered_images(folder / camera) for camera in _CAMERAS}
    present = [camera for camera in _CAMERAS if images[camera]]
    kept = source.kept_cameras(present, str(folder))
    calibration = read_named_numbers(folder / "calib.txt")
    cameras = [_camera(camera, calibration, folder, images[camera]) for camera in kept]
    first_from = {camera.name: camera.rig_from_camera for camera in cameras}
    first_from_lidar, sweeps = None, folder / "velodyne"
    if sweeps.is_dir() and "Tr" in calibration:
        first_from_lidar = rigid_of(calibration["Tr"], f"{folder / 'calib.txt'}: Tr")
    poses = list(_rows(_poses_file(folder)))
    left_out: list[LeftOut] = []
    shots = []
    for step, number in enumerate(steps):
        first = functools.cache(functools.partial(_pose, _poses_file(folder), *poses[number]))
        sweep = None
        if first_from_lidar is not None:
            file = sweeps / f"{number:06d}.bin"
            sweep = functools.cache(functools.partial(_sweep, file, first, first_from_lidar))
        for camera in kept:
            path = images[camera].get(number, folder / camera / f"{number:06d}.png")
            with leaving_out(left_out, f"{camera}, frame {number}"):
                with about("pose"):
                    pose = first() @ first_from[camera]
                with about("time"):
                    time = time_of(times, number, folder / "times.txt") / 1e9
                shots.append(Shot(camera, step, time, pose, image_loader(path), sweep))
    return drive_scene(name, cameras, source.front, shots, left_out)


def _camera(name: str, calibration: dict[str, np.ndarray], folder: Path, images: dict[int, Path]) -> RigCamera:
    from rig3r_jax.geometry.camera import Pinhole  # imports JAX: not where options are read

    path = folder / "calib.txt"
    projection = matrix_of(calibration, f"P{name[-1]}", (3, 4), path)
    intrinsics, position = pinhole_of(projection, f"{path}: P{name[-1]}")
    size = size_of(images.values(), str(folder / name))
    return RigCamera(name, Pinhole(intrinsics), size, rigid.from_rotation_translation(np.eye(3), position))


def _times(path: Path) -> np.ndarray:
    """ns since the sequence's start."""
    try:
        return np.array([round(float(line) * 1e9) for _, line in _rows(path)], np.int64)
    except ValueError as error:
        if isinstance(error, BadRecord):
            raise
        raise BadRecord(f"{path}: does not read ({error}); restore the file") from error


def _sweep(file: Path, world_from_first: Callable[[], np.ndarray], first_from_lidar: np.ndarray) -> Sweep:
    return read_sweep(file, world_from_first() @ first_from_lidar)


def _pose(path: Path, line: int, row: str) -> np.ndarray:
    try:
        numbers = [float(word) for word in row.split()]
    except ValueError as error:
        raise BadRecord(f"{path}, line {line}: does not read ({error}); restore the file") from error
    return rigid_of(numbers, f"{path}, line {line}")
