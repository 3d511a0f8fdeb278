"""Argoverse 2, sensor data set: seven ring and two stereo cameras, LiDAR, boxes.

The root holds `train/`, `val/`, `test/`; each a folder per log with `calibration/`, `city_SE3_egovehicle.feather`,
`annotations.feather` (not of the test split) and `sensors/`, whose files are named by their time in ns. Tables are
pyarrow's feather files. Cameras fire at their own times: every image has the vehicle's pose of its own time. A time
step is an image of the front camera with the nearest image of every other camera. Images are undistorted, so that the
coefficients k1, k2, k3 of the calibration are not used; the centre of their first pixel is at 0.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from rig3r_jax.data.lidar import project_points
from rig3r_jax.data.pose_track import PoseTrack
from rig3r_jax.data.scene import UNMATCHED, BadRecord, LeftOut, RigCamera, Scene, SparseDepth, about, leaving_out
from rig3r_jax.data.source import fingerprint
from rig3r_jax.data.sources.argoverse2_tables import (
    Boxes,
    Calibration,
    read_boxes,
    read_calibration,
    read_poses,
    read_sweep,
)
from rig3r_jax.data.sources.camera_options import camera_problems, kept_cameras
from rig3r_jax.data.sources.drives import nearest_step
from rig3r_jax.data.sources.sequences import ImageSequence, SequenceSource, splits_with
from rig3r_jax.data.sources.shots import Shot, ShotCamera, scene_of_shots
from rig3r_jax.geometry import rigid

_SPLITS = ("train", "val", "test")
_CAMERAS, _SWEEPS = Path("sensors/cameras"), Path("sensors/lidar")
_LIDAR_WITHIN = 60_000_000  # ns between an image and its sweep: sweeps are 100 ms apart


@dataclasses.dataclass(frozen=True)
class Argoverse2(SequenceSource):
    """Options of Argoverse 2."""

    window: int = 16  # time steps per scene; its images of all cameras are in memory while it is built
    stride: int = 2  # every n-th image of the front camera, which takes 20 per second, is a time step
    cameras: tuple[str, ...] = ()  # names of the cameras to keep; () keeps all
    front: str = "ring_front_center"  # name of the camera whose frame is the rig frame
    within: float = 0.03  # seconds from the front camera's image to those of its time step
    moving_speed: float = 0.5  # m/s from which the points in an object's box are of what moves

    requires = ("pyarrow",)
    root_holds = "train/, val/ or test/ of Argoverse 2's sensor data set, with a folder per log"

    def problems(self) -> Iterator[str]:
        """See `Source`."""
        yield from super().problems()
        yield from camera_problems(self.cameras, self.front)
        for name in ("within", "moving_speed"):
            if not getattr(self, name) >= 0:
                yield f"{name}={getattr(self, name)} must not be negative"

    def splits(self) -> tuple[str, ...]:
        """Names of the splits that hold at least one log."""
        return splits_with(self.folder(), _SPLITS, f"*/{_CAMERAS}")

    def sequences(self, split: str) -> Iterator[tuple[str, Callable[[], ImageSequence]]]:
        """See `SequenceSource`."""
        for log in _logs(self.folder() / split):
            yield log.name, functools.partial(self._sequence, log)

    def rigs(self, split: str) -> dict[str, str]:
        """Calibrations by what they hold: the data set names no vehicle."""
        rigs = {}
        for log in _logs(self.folder() / split):
            with contextlib.suppress(BadRecord):  # of a bad scene
                cameras = sorted(read_calibration(log / "calibration").items())
                numbers = [
                    (name, *camera.intrinsics.ravel().tolist(), *camera.ego_from_camera.ravel().tolist())
                    for name, camera in cameras
                ]
                rigs[log.name] = fingerprint(repr(numbers).encode())
        return rigs

    def _sequence(self, log: Path) -> ImageSequence:
        times = image_times(log, self.front)
        if not times:
            present = sorted(path.name for path in (log / _CAMERAS).iterdir())
            raise BadRecord(
                f"{log}: has no images of the front camera {self.front}; it has those of {present}; set front="
            )
        return ImageSequence(log.name, len(times), functools.partial(_load, self, log, times))


def _logs(folder: Path) -> list[Path]:
    return sorted(path.parents[1] for path in folder.glob(f"*/{_CAMERAS}"))


def image_times(log: Path, camera: str) -> list[int]:
    """Times in ns of a camera's images, ascending."""
    return _times(log / _CAMERAS / camera, ".jpg")


def _times(folder: Path, suffix: str) -> list[int]:
    return sorted(int(path.stem) for path in folder.glob(f"*{suffix}") if path.stem.isdecimal())


def _load(source: Argoverse2, log: Path, front_times: Sequence[int], name: str, piece: Sequence[int]) -> Scene:
    from rig3r_jax.geometry.camera import Pinhole  # imports JAX: not where options are read

    calibration = read_calibration(log / "calibration")
    kept = kept_cameras(source.cameras, source.front, calibration, str(log / "calibration"))
    front_from_ego = rigid.invert(calibration[source.front].ego_from_camera)
    cameras = [
        ShotCamera(
            camera,
            Pinhole(calibration[camera].intrinsics),
            np.eye(4) if camera == source.front else front_from_ego @ calibration[camera].ego_from_camera,
            calibration[camera].size,
        )
        for camera in kept
    ]
    steps = {time: step for step, time in enumerate(front_times[number] for number in piece)}
    left_out = [entry for camera in kept for entry in _unmatched(log, camera, source, front_times, steps)]
    shots = list(_shots(log, calibration, kept, source, steps, left_out))
    scene = scene_of_shots(name, cameras, source.front, shots, left_out)
    return dataclasses.replace(scene, body_from_rig=calibration[source.front].ego_from_camera)


def _shots(
    log: Path,
    calibration: dict[str, Calibration],
    cameras: Sequence[str],
    source: Argoverse2,
    steps: dict[int, int],
    left_out: list[LeftOut],
) -> Iterator[Shot]:
    poses = read_poses(log / "city_SE3_egovehicle.feather")
    lidar = _Lidar(log, poses, source.moving_speed)
    for camera in cameras:
        times = list(steps) if camera == source.front else image_times(log, camera)
        for step_time, step in steps.items():
            number = nearest_step(times, step_time, source.within * 1e9)
            if number is None:
                continue  # the stereo cameras are four times as slow
            time = times[number]
            with leaving_out(left_out, f"{camera}, {time}.jpg"), about("pose"):
                city_from_camera = poses.at(time) @ calibration[camera].ego_from_camera
                yield Shot(
                    camera=camera,
                    step=step,
                    time=time / 1e9,
                    image=log / _CAMERAS / camera / f"{time}.jpg",
                    world_from_camera=city_from_camera,
                    depth=functools.partial(lidar.depth, time, city_from_camera) if lidar.has_sweeps else None,
                )


def _unmatched(
    log: Path, camera: str, source: Argoverse2, front_times: Sequence[int], steps: dict[int, int]
) -> Iterator[LeftOut]:
    """Images of a camera, in the time of these steps, that no image of the front camera is near to."""
    first, last = min(steps), max(steps)
    for time in image_times(log, camera):
        if first <= time <= last and nearest_step(front_times, time, source.within * 1e9) is None:
            reason = f"{log}: {camera}'s {time}.jpg has no image of {source.front} within {source.within} s"
            yield LeftOut(f"{camera}, {time}.jpg", UNMATCHED, reason)


class _Lidar:
    """Sweeps of a log, each in the city by the vehicle's pose at its own time."""

    def __init__(self, log: Path, poses: PoseTrack, moving_speed: float):
        self._folder, self._poses = log / _SWEEPS, poses
        self._times = _times(self._folder, ".feather")
        self._boxes: Boxes | None = read_boxes(log / "annotations.feather", poses, moving_speed)
        self._points = functools.lru_cache(maxsize=4)(self._read)

    @property
    def has_sweeps(self) -> bool:
        """Whether the log was fetched with its LiDAR; without it its images have no depth."""
        return bool(self._times)

    def depth(self, time: int, city_from_camera: np.ndarray, camera: RigCamera) -> SparseDepth:
        """The sweep nearest to a time as the depth of an image; BadRecord where none is near."""
        number = nearest_step(self._times, time, _LIDAR_WITHIN)
        if number is None:
            raise BadRecord(f"{self._folder}: has no sweep within {_LIDAR_WITHIN / 1e9} s of {time} ns; restore it")
        points_city, moving = self._points(self._times[number])
        return project_points(points_city, city_from_camera, camera, moving)

    def _read(self, time: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Points in the city (n, 3), and which are of what moves."""
        points_ego = read_sweep(self._folder / f"{time}.feather")
        moving = None if self._boxes is None else self._boxes.moving(time, points_ego)
        return rigid.apply(self._poses.at(time), points_ego), moving
