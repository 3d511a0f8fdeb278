"""The tables of nuScenes, joined by token: what its cameras and its LiDAR took in each scene, where, and the boxes."""

import collections
import contextlib
import dataclasses
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rig3r_jax.data.boxes import Box
from rig3r_jax.data.files import read_json_rows
from rig3r_jax.data.pose_track import PoseTrack
from rig3r_jax.data.scene import BadRecord
from rig3r_jax.geometry import rigid

LIDAR = "LIDAR_TOP"
MOVING_SPEED = 0.5  # metres per second, which boxes of parked cars wander by at most from label to label
_MICROSECONDS, _NANOSECONDS = 1e-6, 1e-9
_LONGEST_GAP = 1_100_000_000  # ns between two labels of an object to move its box between; keyframes are 0.5 s apart
_MOVING = ("vehicle.moving", "pedestrian.moving", "cycle.with_rider")  # attributes


class Datum(NamedTuple):
    """What one sensor took at one time."""

    channel: str
    time: float  # seconds
    file: str  # below the root
    sample: str
    is_key_frame: bool
    calibration: str
    ego_pose: str
    size: tuple[int, int]  # height, width of an image


class Placed(NamedTuple):
    """A row with a translation and a rotation, as the file has them: of what it names, in its parent's frame."""

    translation: tuple[float, ...]
    rotation: tuple[float, ...]  # w x y z

    def matrix(self, where: str) -> np.ndarray:
        """parent_from_this, (4, 4); BadRecord naming `where` if it is no rigid transform."""
        quat_xyzw = np.array([*self.rotation[1:], self.rotation[0]], np.float64)
        rigid.check_quat_xyzw(quat_xyzw, where, BadRecord)
        translation = np.array(self.translation, np.float64)
        if not np.isfinite(translation).all():
            raise BadRecord(f"{where}: translation {list(self.translation)} is not finite; correct it")
        return rigid.from_rotation_translation(rigid.rotation_from_quat_xyzw(quat_xyzw), translation)


class Calibration(NamedTuple):
    """Of one sensor of one vehicle on one day."""

    channel: str
    modality: str
    ego_from_sensor: Placed
    intrinsics: tuple[tuple[float, ...], ...]  # of a camera


@dataclasses.dataclass(frozen=True)
class Labels:
    """Boxes of one object in one scene."""

    track: PoseTrack
    size: tuple[float, float, float]  # length, width, height
    moving: tuple[bool, ...]  # whether its attributes say so, by label

    def moving_box(self, time: float) -> Box | None:
        """Its box at this time (seconds), if it is labelled then, or before and after it, and moves."""
        times = self.track.times
        at = round(time / _NANOSECONDS)
        if not times[0] <= at <= times[-1]:
            return None
        after = int(np.searchsorted(times, at))
        near = [number for number in (after - 1, after, after + 1) if 0 <= number < len(times)]
        way = self.track.world_from_body[near[-1], :3, 3] - self.track.world_from_body[near[0], :3, 3]
        seconds = (times[near[-1]] - times[near[0]]) * _NANOSECONDS
        if not self.moving[after] and not np.linalg.norm(way) > MOVING_SPEED * seconds:
            return None
        if times[after] != at and times[after] - times[after - 1] > self.track.longest_gap:
            return None
        return Box(self.track.at(at), self.size)


@dataclasses.dataclass(frozen=True)
class Tables:
    """What is needed of all tables of a version; scenes by token."""

    folder: Path  # of the tables
    data: dict[str, list[Datum]]  # by scene, by time
    ego_poses: dict[str, Placed]
    calibrations: dict[str, Calibration]

    def world_from_ego(self, datum: Datum) -> np.ndarray:
        """The vehicle at the datum's own time, (4, 4)."""
        file = self.folder / "ego_pose.json"
        if datum.ego_pose not in self.ego_poses:
            raise BadRecord(f"{file}: has no row {datum.ego_pose}, which is of {datum.file}; restore the file")
        return self.ego_poses[datum.ego_pose].matrix(f"{file}, {datum.ego_pose}")


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """A row that lacks something is a BadRecord that names the file."""
    try:
        yield
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise BadRecord(f"{path}: a row lacks what a table of nuScenes holds ({error!r}); restore the file") from error


def _rows(folder: Path, table: str) -> Iterator[dict[str, Any]]:
    path = folder / f"{table}.json"
    with _reading(path):
        yield from read_json_rows(path)


def _placed(row: dict[str, Any]) -> Placed:
    return Placed(tuple(map(float, row["translation"])), tuple(map(float, row["rotation"])))


def scenes_of(folder: Path) -> dict[str, tuple[str, list[str]]]:
    """{name: (token, tokens of its keyframes by time)} of the scenes of a version."""
    samples = collections.defaultdict(list)
    with _reading(folder / "sample.json"):
        for row in _rows(folder, "sample"):
            samples[row["scene_token"]].append((row["timestamp"], row["token"]))
        tokens = {scene: [token for _, token in sorted(rows)] for scene, rows in samples.items()}
    with _reading(folder / "scene.json"):
        rows = sorted((row["name"], row["token"]) for row in _rows(folder, "scene"))
        return {name: (token, tokens.get(token, [])) for name, token in rows}


def vehicles_of(folder: Path) -> dict[str, str]:
    """{scene: vehicle} of a version; {} where it has no table of logs."""
    path = folder / "log.json"
    if not path.is_file():
        return {}
    with _reading(path):
        vehicles = {row["token"]: row["vehicle"] for row in _rows(folder, "log")}
    with _reading(folder / "scene.json"):
        return {row["name"]: vehicles[row["log_token"]] for row in _rows(folder, "scene")}


def read_tables(folder: Path, sweeps: bool) -> Tables:
    """The tables of a version, with what was taken between keyframes or without. Read once as long as they stay."""
    try:
        changed = (folder / "sample_data.json").stat().st_mtime_ns
    except OSError as error:
        raise BadRecord(f"{folder / 'sample_data.json'}: cannot be read ({error.strerror}); restore it") from error
    return _read_tables(folder, sweeps, changed)


@functools.lru_cache(maxsize=2)  # of gigabytes in the case of sweeps
def _read_tables(folder: Path, sweeps: bool, changed: int) -> Tables:
    calibrations = _read_calibrations(folder)
    with _reading(folder / "sample.json"):
        scene_of = {row["token"]: row["scene_token"] for row in _rows(folder, "sample")}
    data = collections.defaultdict(list)
    with _reading(folder / "sample_data.json"):
        for row in _rows(folder, "sample_data"):
            calibration = calibrations[row["calibrated_sensor_token"]]
            if (sweeps or row["is_key_frame"]) and (calibration.modality == "camera" or calibration.channel == LIDAR):
                data[scene_of[row["sample_token"]]].append(_datum(row, calibration.channel))
    used_poses = {datum.ego_pose for rows in data.values() for datum in rows}
    with _reading(folder / "ego_pose.json"):
        ego_poses = {row["token"]: _placed(row) for row in _rows(folder, "ego_pose") if row["token"] in used_poses}
    return Tables(
        folder, {scene: sorted(rows, key=lambda row: row.time) for scene, rows in data.items()}, ego_poses, calibrations
    )


def _datum(row: dict[str, Any], channel: str) -> Datum:
    return Datum(
        channel=channel,
        time=row["timestamp"] * _MICROSECONDS,
        file=row["filename"],
        sample=row["sample_token"],
        is_key_frame=row["is_key_frame"],
        calibration=row["calibrated_sensor_token"],
        ego_pose=row["ego_pose_token"],
        size=(row["height"], row["width"]),
    )


def _read_calibrations(folder: Path) -> dict[str, Calibration]:
    with _reading(folder / "sensor.json"):
        sensors = {row["token"]: (row["channel"], row["modality"]) for row in _rows(folder, "sensor")}
    with _reading(folder / "calibrated_sensor.json"):
        return {
            row["token"]: Calibration(
                *sensors[row["sensor_token"]], _placed(row), tuple(map(tuple, row["camera_intrinsic"]))
            )
            for row in _rows(folder, "calibrated_sensor")
        }


def read_labels(folder: Path, scene: str) -> list[Labels] | None:
    """Labelled objects of a scene; None where it has no labels. The table is read once as long as it stays."""
    path = folder / "sample_annotation.json"
    if not path.is_file():
        return None
    objects = _read_objects(folder, path.stat().st_mtime_ns).get(scene)
    return None if objects is None else [_labels(rows, f"{path}, {token}") for token, rows in objects.items()]


class _Label(NamedTuple):
    """A row of sample_annotation."""

    time: float  # seconds
    world_from_box: Placed
    size: tuple[float, ...]  # width, length, height
    moving: bool  # by its attributes


@functools.lru_cache(maxsize=1)
def _read_objects(folder: Path, changed: int) -> dict[str, dict[str, list[_Label]]]:
    """Labels by scene and object."""
    with _reading(folder / "sample.json"):
        of_sample = {
            row["token"]: (row["scene_token"], row["timestamp"] * _MICROSECONDS) for row in _rows(folder, "sample")
        }
    with _reading(folder / "attribute.json"):
        moving = {row["token"] for row in _rows(folder, "attribute") if row["name"] in _MOVING}
    objects: dict[str, dict[str, list[_Label]]] = {}
    with _reading(folder / "sample_annotation.json"):
        for row in _rows(folder, "sample_annotation"):
            scene, time = of_sample[row["sample_token"]]
            label = _Label(time, _placed(row), tuple(row["size"]), not moving.isdisjoint(row["attribute_tokens"]))
            objects.setdefault(scene, {}).setdefault(row["instance_token"], []).append(label)
    return objects


def _labels(rows: list[_Label], where: str) -> Labels:
    rows = sorted(rows, key=lambda row: row.time)
    times = np.array([round(row.time / _NANOSECONDS) for row in rows])
    poses = np.array([row.world_from_box.matrix(where) for row in rows])
    width, length, height = rows[0].size
    track = PoseTrack.of(times, poses, _LONGEST_GAP, where)
    return Labels(track, (length, width, height), tuple(row.moving for row in rows))
