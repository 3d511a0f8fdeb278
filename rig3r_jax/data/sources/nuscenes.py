"""Scenes of nuScenes: six cameras and a LiDAR, each image with the vehicle's pose at its own time.

The root holds a folder of tables per version (v1.0-trainval, v1.0-mini, v1.0-test), `samples/` and, for the images
between keyframes, `sweeps/`. ego_pose is world_from_ego, calibrated_sensor ego_from_sensor, quaternions are w x y z,
camera axes are OpenCV's. Images are undistorted.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from rig3r_jax.data.boxes import inside_any
from rig3r_jax.data.image_bytes import read_image
from rig3r_jax.data.scene import UNMATCHED, BadRecord, LeftOut, RigCamera, Scene, about, leaving_out
from rig3r_jax.data.source import Scenes, even_pieces
from rig3r_jax.data.sources.drives import DriveSource, Shot, Sweep, drive_scene, nearest_step, read_points
from rig3r_jax.data.sources.nuscenes_splits import TEST, VALIDATION, split_of
from rig3r_jax.data.sources.nuscenes_tables import (
    LIDAR,
    Calibration,
    Datum,
    Labels,
    Tables,
    read_labels,
    read_tables,
    scenes_of,
    vehicles_of,
)
from rig3r_jax.formats.text import with_slashes
from rig3r_jax.geometry import rigid

_TRAINVAL, _MINI = VALIDATION
_SPLITS = ("train", "val", "test")
_POINT_FLOATS = 5  # x y z intensity ring
# Seconds between an image and the front camera's, or the LiDAR sweep's end: cameras take 12, LiDAR 20 per second.
_SAME_STEP, _SAME_SWEEP = 1 / 24, 0.05


@dataclasses.dataclass(frozen=True)
class NuScenes(DriveSource):
    """Options of nuScenes. A time step is a keyframe (2 per second) or, with sweeps, a front image (12 per second)."""

    front: str = "CAM_FRONT"
    version: str = ""  # v1.0-trainval, v1.0-mini or v1.0-test; "" reads all that are there but mini beside trainval
    sweeps: bool = False  # the images between keyframes too, each with the nearest LiDAR sweep

    root_holds = "nuScenes: samples/ and v1.0-trainval/, v1.0-mini/ or v1.0-test/"

    def problems(self) -> Iterator[str]:
        """See `Source`."""
        yield from super().problems()
        if self.version not in ("", *VALIDATION, TEST):
            yield f"version={self.version!r} must be one of {', '.join((*VALIDATION, TEST))}, or empty"

    def splits(self) -> tuple[str, ...]:
        """Those of the devkit that have a scene: train and val of trainval or mini, test."""
        present = {split_of(folder.name, scene) for folder in _versions(self) for scene in scenes_of(folder)}
        return tuple(split for split in _SPLITS if split in present)

    def scenes(self, split: str) -> Scenes:
        """See `Source`."""
        self.check_split(split)
        loaders = []
        for folder in _versions(self):
            for drive, (token, samples) in scenes_of(folder).items():
                if split_of(folder.name, drive) == split:
                    count = len(_front_images(self, folder, token)) if self.sweeps else len(samples)
                    for steps in even_pieces(range(count), self.window) or [range(0)]:
                        name = drive + (f"_{steps.start:05d}" if steps.start else "")
                        loaders.append((name, functools.partial(_load, self, folder, name, token, samples, steps)))
        return loaders

    def rigs(self, split: str) -> dict[str, str]:
        """Vehicles by the table of logs, such as n008; none where that is not there."""
        return {
            drive: vehicle
            for folder in _versions(self)
            for drive, vehicle in vehicles_of(folder).items()
            if split_of(folder.name, drive) == split
        }

    def left_out(self) -> list[tuple[str, LeftOut]]:
        """Images between keyframes that no front image is near to."""
        if not self.sweeps:
            return []
        return [
            (drive, entry)
            for folder in _versions(self)
            for drive, (token, _) in scenes_of(folder).items()
            for entry in _steps_by_front(self, folder, token)[1]
        ]

    def notes(self) -> list[str]:
        """A version that is not read."""
        folder = self.folder()
        read = [path.name for path in _versions(self)]
        others = [name for name in (*VALIDATION, TEST) if (folder / name).is_dir() and name not in read]
        return [f"{folder}: {', '.join(read)} is read, not {', '.join(others)}; set version= to read it"] * bool(others)


def _versions(source: NuScenes) -> list[Path]:
    folder = source.folder()
    versions = (source.version,) if source.version else (*VALIDATION, TEST)
    present = [name for name in versions if (folder / name / "sample_data.json").is_file()]
    if not present:
        raise BadRecord(
            f"{folder}: holds no {' or '.join(versions)} with sample_data.json; give the folder of nuScenes"
        )
    return [folder / name for name in present if not (name == _MINI and _TRAINVAL in present)]


def _front_images(source: NuScenes, folder: Path, token: str) -> list[Datum]:
    return [datum for datum in read_tables(folder, True).data.get(token, []) if datum.channel == source.front]


def _steps_by_front(source: NuScenes, folder: Path, token: str) -> tuple[list[list[Datum]], list[LeftOut]]:
    """The images of a scene by front image, and those that belong to none; of two of one camera the nearer one."""
    front = _front_images(source, folder, token)
    times = np.array([datum.time for datum in front])
    chosen: list[dict[str, Datum]] = [{} for _ in front]
    left_out = []

    def leave_out(datum: Datum) -> None:
        reason = f"{folder.parent / datum.file}: no image of {source.front} is its own within {_SAME_STEP:.3f} s"
        left_out.append(LeftOut(datum.file, UNMATCHED, reason))

    for datum in read_tables(folder, True).data.get(token, []):
        if datum.channel == LIDAR or (source.cameras and datum.channel not in source.cameras):
            continue
        step = nearest_step(times, datum.time, _SAME_STEP)
        if step is None:
            leave_out(datum)
            continue
        rival = chosen[step].get(datum.channel, datum)
        nearer, farther = sorted((rival, datum), key=lambda candidate: abs(candidate.time - times[step]))
        chosen[step][datum.channel] = nearer
        if rival is not datum:
            leave_out(farther)
    return [list(step.values()) for step in chosen], left_out


def _load(source: NuScenes, folder: Path, name: str, token: str, samples: Sequence[str], chosen: range) -> Scene:
    tables = read_tables(folder, source.sweeps)
    data = tables.data.get(token, [])
    if source.sweeps:
        steps = _steps_by_front(source, folder, token)[0][chosen.start : chosen.stop]
    else:
        step_of = {sample: step for step, sample in enumerate(samples[chosen.start : chosen.stop])}
        steps = [[] for _ in step_of]
        for datum in data:
            if datum.sample in step_of:
                steps[step_of[datum.sample]].append(datum)
    cameras = _cameras(source, tables, name, [datum for step in steps for datum in step if datum.channel != LIDAR])
    sweeps = _Sweeps(tables, [datum for datum in data if datum.channel == LIDAR], read_labels(folder, token))
    left_out: list[LeftOut] = []
    shots = []
    kept = {camera.name: camera for camera in cameras}
    for number, step in enumerate(steps):
        for datum in step:
            if datum.channel in kept:
                with leaving_out(left_out, datum.file), about("pose"):
                    world_from_camera = tables.world_from_ego(datum) @ kept[datum.channel].rig_from_camera
                    shots.append(_shot(datum, number, world_from_camera, folder.parent, sweeps))
    return drive_scene(name, cameras, source.front, shots, left_out)


def _shot(datum: Datum, step: int, world_from_camera: np.ndarray, root: Path, sweeps: "_Sweeps") -> Shot:
    path = root / with_slashes(datum.file)
    return Shot(
        camera=datum.channel,
        step=step,
        time=datum.time,
        world_from_camera=world_from_camera,
        image=lambda: read_image(path)[0],
        sweep=sweeps.of(datum),
    )


def _cameras(source: NuScenes, tables: Tables, name: str, images: Sequence[Datum]) -> list[RigCamera]:
    from rig3r_jax.geometry.camera import Pinhole  # imports JAX: not where options are read

    by_channel: dict[str, set] = {}
    for datum in images:
        by_channel.setdefault(datum.channel, set()).add((datum.calibration, datum.size))
    cameras = []
    for channel in source.kept_cameras(sorted(by_channel), f"{tables.folder}, scene {name}"):
        file = tables.folder / "calibrated_sensor.json"
        if len(by_channel[channel]) > 1:
            raise BadRecord(f"{file}: scene {name} has {len(by_channel[channel])} calibrations or sizes of {channel}")
        ((token, size),) = by_channel[channel]
        calibration: Calibration = tables.calibrations[token]
        intrinsics = np.array(calibration.intrinsics, np.float64)
        if intrinsics.shape != (3, 3):
            raise BadRecord(f"{file}, {token}: camera_intrinsic {calibration.intrinsics} must be 3x3; restore the file")
        intrinsics[:2, 2] += 0.5  # OpenCV's centre of the first pixel is 0, the package's 0.5
        ego_from_camera = calibration.ego_from_sensor.matrix(f"{file}, {token}")
        cameras.append(RigCamera(channel, Pinhole(intrinsics), size, ego_from_camera))
    return cameras


class _Sweeps:
    """LiDAR of a scene: the keyframe's own for an image of a keyframe, the nearest in time for another."""

    def __init__(self, tables: Tables, data: Sequence[Datum], labels: Sequence[Labels] | None):
        self._tables, self._data, self._labels = tables, data, labels
        self._of_sample = {datum.sample: datum for datum in data if datum.is_key_frame}
        self._times = np.array([datum.time for datum in data])
        self._read = functools.cache(self._read_sweep)

    def of(self, image: Datum) -> Callable[[], Sweep] | None:
        """A loader of the sweep, or None where there is none."""
        sweep = self._of_sample.get(image.sample) if image.is_key_frame else None
        if sweep is None:
            nearest = nearest_step(self._times, image.time, _SAME_SWEEP)
            sweep = None if nearest is None else self._data[nearest]
        return None if sweep is None else functools.partial(self._read, sweep)

    def _read_sweep(self, datum: Datum) -> Sweep:
        file = self._tables.folder.parent / with_slashes(datum.file)
        points_lidar = read_points(file, _POINT_FLOATS)
        where = f"{self._tables.folder / 'calibrated_sensor.json'}, {datum.calibration}"
        ego_from_lidar = self._tables.calibrations[datum.calibration].ego_from_sensor.matrix(where)
        points_world = rigid.apply(self._tables.world_from_ego(datum) @ ego_from_lidar, points_lidar)
        if self._labels is None:
            return Sweep(points_world)
        boxes = [box for labels in self._labels if (box := labels.moving_box(datum.time)) is not None]
        return Sweep(points_world, inside_any(points_world, boxes))
