"""Scenes of the Waymo Open Dataset (perception): five cameras with rolling shutters, five LiDARs.

The root holds `training/`, `validation/`, `testing/`, each with version 2's folders of parquet files
(`camera_image/`, `camera_calibration/`, `vehicle_pose/`; for depth `lidar/`, `lidar_calibration/`, `lidar_pose/`; for
what moves `lidar_box/`), or with version 1's .tfrecord files. A root that holds these itself is one split, train. Both
versions give the same scenes. No TensorFlow is needed.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from rig3r_jax.data.scene import BadRecord, Scene
from rig3r_jax.data.source import Scenes, bad_scene, even_pieces, fingerprint
from rig3r_jax.data.sources import waymo_v1, waymo_v2
from rig3r_jax.data.sources.drives import DriveSource
from rig3r_jax.data.sources.waymo_segment import Segment, segment_scene

_FOLDERS = {"train": "training", "val": "validation", "test": "testing"}


class _Version(NamedTuple):
    """How one version of the data set is read."""

    files: list[Path]  # a segment each
    count: Callable[[Path], int]  # of frames
    read: Callable[[Path, range], Segment]


@dataclasses.dataclass(frozen=True)
class Waymo(DriveSource):
    """Options of Waymo, whose frames come ten per second."""

    front: str = "FRONT"

    root_holds = "Waymo's training/, validation/ or testing/, with camera_image/*.parquet or *.tfrecord"
    requires = ("pyarrow",)

    def splits(self) -> tuple[str, ...]:
        """Names of the splits that are there."""
        return tuple(_versions(self))

    def scenes(self, split: str) -> Scenes:
        """See `Source`."""
        self.check_split(split)
        version = _versions(self)[split]
        loaders = []
        for path in version.files:
            drive = _drive(path)
            try:
                pieces = even_pieces(range(version.count(path)), self.window)
            except BadRecord as error:
                loaders.append(bad_scene(drive, str(error)))
                continue
            for steps in pieces:
                name = drive + (f"_{steps.start:05d}" if steps.start else "")
                loaders.append((name, functools.partial(_load, self, name, version.read, path, steps)))
            if not pieces:
                loaders.append(bad_scene(drive, f"{path}: holds no frame; restore the file"))
        return loaders

    def rigs(self, split: str) -> dict[str, str]:
        """Calibrations by what they hold: the data set names no vehicle."""
        self.check_split(split)
        version, rigs = _versions(self)[split], {}
        for path in version.files:
            with contextlib.suppress(BadRecord):  # of a bad scene
                cameras = sorted(version.read(path, range(1)).cameras.items())
                numbers = [
                    (name, *map(float, (*camera.intrinsic, *camera.vehicle_from_camera))) for name, camera in cameras
                ]
                rigs[_drive(path)] = fingerprint(repr(numbers).encode())
        return rigs

    def notes(self) -> list[str]:
        """Files of version 1 beside those of version 2."""
        notes = []
        for folder in _folders(self).values():
            if waymo_v2.segment_files(folder) and (others := waymo_v1.segment_files(folder)):
                notes.append(
                    f"{folder}: {waymo_v2.IMAGES}/*.parquet is read, not the {len(others)} *.tfrecord beside it"
                )
        return notes


def _drive(path: Path) -> str:
    return path.stem.removeprefix("segment-").removesuffix("_with_camera_labels")


def _folders(source: Waymo) -> dict[str, Path]:
    """Of the splits, or the root itself."""
    root = source.folder()
    folders = {split: root / name for split, name in _FOLDERS.items() if (root / name).is_dir()}
    return folders or {"train": root}


def _versions(source: Waymo) -> dict[str, _Version]:
    versions = {}
    for split, folder in _folders(source).items():
        if files := waymo_v2.segment_files(folder):
            versions[split] = _Version(files, lambda path: len(waymo_v2.frame_times(path)), waymo_v2.read_segment)
        elif files := waymo_v1.segment_files(folder):
            versions[split] = _Version(files, waymo_v1.count_frames, waymo_v1.read_segment)
    if not versions:
        raise BadRecord(
            f"{source.root}: holds no {waymo_v2.IMAGES}/*.parquet and no *.tfrecord; give the folder that holds "
            f"{source.root_holds}"
        )
    return versions


def _load(source: Waymo, name: str, read: Callable[[Path, range], Segment], path: Path, steps: range) -> Scene:
    return segment_scene(source, name, read(path, steps))
