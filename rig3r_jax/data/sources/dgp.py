"""Scenes of the DGP format (DDAD): surround cameras and LiDAR, each sensor with its own world transform per sample.

The root holds a `scene_dataset*.json` (DDAD: `ddad.json`) that lists scene files per split; a scene's folder holds
`scene_*.json`, `calibration/`, `rgb/` and `point_cloud/`. Frames of DGP: sensor "pose" is world_from_sensor,
"extrinsics" is vehicle_from_sensor, camera axes are OpenCV's.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rig3r_jax.data.files import read_bytes, read_json
from rig3r_jax.data.frame_bytes import encode_depth
from rig3r_jax.data.image_bytes import read_image
from rig3r_jax.data.lidar import project_points
from rig3r_jax.data.scene import BadRecord, Frame, LeftOut, RigCamera, Scene, about, leaving_out, no_frame_left
from rig3r_jax.data.source import Scenes, Source
from rig3r_jax.data.sources.dgp_listing import LISTINGS_WANTED, calibration_key, listing_notes, scene_files, windows_of
from rig3r_jax.data.sources.dgp_times import seconds_of
from rig3r_jax.formats.foreign import HEAD, describe
from rig3r_jax.formats.npz import Npz
from rig3r_jax.formats.text import with_slashes
from rig3r_jax.geometry import rigid

_ZIP = b"PK\x03\x04"  # how a .npz begins
_PINHOLE_FIELDS = {"fx", "fy", "cx", "cy"}


@dataclasses.dataclass(frozen=True)
class Dgp(Source):
    """Options of a data set in the DGP format. Drives are cut evenly into scenes of at most `window` time steps."""

    cameras: tuple[str, ...] = ()  # names of the cameras to keep; () keeps all
    front: str = "CAMERA_01"  # name of the camera whose frame is the rig frame
    window: int = 16  # time steps per scene; a record is read as a whole, so it should not grow with the drive

    VERSION = 3  # 1: windows of `window` steps, but for the rest of a drive; 2: DDAD's times ten times as long
    root_holds = LISTINGS_WANTED

    def problems(self) -> Iterator[str]:
        """See `Source`."""
        if self.window < 1:
            yield f"window={self.window} must be at least 1 time step"
        if len(set(self.cameras)) < len(self.cameras):
            yield f"cameras={list(self.cameras)} must hold each camera once"
        if self.cameras and self.front not in self.cameras:
            yield f"cameras={list(self.cameras)} must hold the front camera {self.front!r}; add it or set front="

    def splits(self) -> tuple[str, ...]:
        """Names of the splits that list at least one scene."""
        return tuple(scene_files(self.folder()))

    def scenes(self, split: str) -> Scenes:
        """See `Source`."""
        self.check_split(split)
        loaders = []
        for path in scene_files(self.folder())[split]:
            for steps in windows_of(path, self.window):
                name = path.parent.name + (f"_{steps.start:05d}" if steps.start else "")
                loaders.append((name, functools.partial(_load, path, name, self, steps)))
        return loaders

    def rigs(self, split: str) -> dict[str, str]:
        """Calibrations by their key, which is that of every scene that was taken with them."""
        keys = {path.parent.name: calibration_key(path) for path in scene_files(self.folder())[split]}
        return {drive: key for drive, key in keys.items() if key is not None}

    def notes(self) -> list[str]:
        """Which of several listings is read, and which scenes are in more than one split."""
        return list(listing_notes(self.folder()))


@contextlib.contextmanager
def _reading(path: Path, kind: str = "", holder: str = "scene") -> Iterator[None]:
    """What a file of a scene lacks is a BadRecord, about this kind."""
    with about(kind):
        try:
            yield
        except BadRecord:
            raise
        except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
            raise BadRecord(f"{path}: lacks what a DGP {holder} holds ({error!r}); restore the file") from error


def _load(path: Path, name: str, source: Dgp, steps: range) -> Scene:
    with _reading(path):
        return _read_scene(path, name, source, steps)


def _read_scene(path: Path, name: str, source: Dgp, chosen: range) -> Scene:
    from rig3r_jax.geometry.camera import Pinhole  # imports JAX: not where options are read

    document, front = read_json(path), source.front
    left_out: list[LeftOut] = []
    samples = document["samples"][chosen.start : chosen.stop]
    steps = _sensors_of(path, document["data"], samples, left_out)
    calibration = _read_calibration(path, [sample["calibration_key"] for sample in samples])
    first_image = {}  # of each camera
    for step in reversed(steps):
        first_image |= {sensor: datum["datum"]["image"] for sensor, datum in step.items() if "image" in datum["datum"]}
    kept = source.cameras or tuple(sensor for sensor in calibration if sensor in first_image)
    missing = [sensor for sensor in {*kept, front} if sensor not in first_image or sensor not in calibration]
    if missing:
        raise BadRecord(f"{path}: has no images or calibration of {missing}; it has those of {sorted(first_image)}")

    front_from_vehicle = rigid.invert(calibration[front][1])
    cameras = []
    for sensor in kept:
        intrinsics, vehicle_from_camera = calibration[sensor]
        front_from_camera = np.eye(4) if sensor == front else front_from_vehicle @ vehicle_from_camera
        size = (int(first_image[sensor]["height"]), int(first_image[sensor]["width"]))
        cameras.append(RigCamera(sensor, Pinhole(intrinsics), size, front_from_camera))
    base_from_world = _base_from_world(path, steps, front)
    frames = _read_frames(path, steps, cameras, base_from_world, left_out)
    if not frames:
        raise no_frame_left(name, left_out)
    front_camera, world_from_base = kept.index(front), rigid.invert(base_from_world)
    return Scene(name, tuple(cameras), front_camera, tuple(frames), tuple(left_out), world_from_base)


def _sensors_of(
    path: Path, data: Sequence[dict[str, Any]], samples: Sequence[dict[str, Any]], left_out: list[LeftOut]
) -> list[dict[str, Any]]:
    """{sensor: datum} of every sample; a datum that the file lacks, and the second of one sensor, are left out."""
    datums = {datum["key"]: datum for datum in data}
    steps: list[dict[str, Any]] = []
    for sample in samples:
        sensors: dict[str, Any] = {}
        for key in sample["datum_keys"]:
            with leaving_out(left_out, f"datum {key}"), _reading(path, "row"):
                sensor = datums[key]["id"]["name"]
                if sensor in sensors:
                    raise BadRecord(f"{path}: datum {key} is the second of {sensor} in its sample; remove it")
                sensors[sensor] = datums[key]
        steps.append(sensors)
    return steps


def _base_from_world(path: Path, steps: Sequence[dict[str, Any]], front: str) -> np.ndarray:
    """World coordinates may be kilometres from the origin: all is float64, and the first frame of the front camera that
    has a pose becomes the world, so that float32 holds millimetres later."""
    reasons = []
    for sensors in steps:
        if front in sensors:
            try:
                with _reading(path):
                    return rigid.invert(_world_from_sensor(sensors[front]["datum"]["image"], path, front))
            except BadRecord as error:
                reasons.append(str(error))
    raise BadRecord(f"{path}: {front} has no pose in {len(steps)} samples: {reasons[0]}")


def _read_frames(
    path: Path,
    steps: Sequence[dict[str, Any]],
    cameras: Sequence[RigCamera],
    base_from_world: np.ndarray,
    left_out: list[LeftOut],
) -> list[Frame]:
    """Images, poses and projected LiDAR of every step (sensor -> datum), but for what its camera dropped.

    A sweep that does not read costs the images of its step: none is taken with part of its points.
    """
    frames: list[Frame] = []
    for step, sensors in enumerate(steps):
        points_base = functools.cache(functools.partial(_lidar_points, path, sensors, base_from_world))
        for index, camera in enumerate(cameras):
            if camera.name not in sensors:
                continue
            datum = sensors[camera.name]
            with leaving_out(left_out, f"{camera.name}, step {step}"):
                with _reading(path, "row"):
                    image = datum["datum"]["image"]
                with _reading(path, "pose"):
                    base_from_camera = base_from_world @ _world_from_sensor(image, path, camera.name)
                with _reading(path, "time"):
                    time = seconds_of(datum["id"]["timestamp"], path)
                with _reading(path, "image"):
                    content = read_image(path.parent / with_slashes(image["filename"]))[0]
                with _reading(path, "depth"):
                    depth = project_points(points_base(), base_from_camera, camera)
                frames.append(Frame(index, time, step, base_from_camera, content, encode_depth(depth)))
    return frames


def _lidar_points(path: Path, sensors: dict[str, Any], base_from_world: np.ndarray) -> np.ndarray:
    """Points of all LiDAR sweeps of a sample, (n, 3) float64 in the re-based world."""
    clouds = [np.zeros((0, 3))]
    for sensor, datum in sensors.items():
        if "point_cloud" not in datum["datum"]:
            continue
        cloud = datum["datum"]["point_cloud"]
        file = path.parent / with_slashes(cloud["filename"])
        data = read_bytes(file)
        try:
            with Npz(data, file) as arrays:
                points_lidar = np.asarray(arrays["data"][:, :3], np.float64)
                if points_lidar.shape[1] < 3:
                    raise ValueError(f"shape {arrays['data'].shape}, must be (n, 3 or more): x y z")
        except (ValueError, KeyError, IndexError) as error:
            reason = f"({error}); restore the file"
            if not data.startswith(_ZIP):
                reason = f"but {describe(data[:HEAD])}"
            raise BadRecord(f"{file}: is no LiDAR sweep {reason}") from error
        points_lidar = points_lidar[np.isfinite(points_lidar).all(axis=1)]
        base_from_lidar = base_from_world @ _world_from_sensor(cloud, path, sensor)
        clouds.append(rigid.apply(base_from_lidar, points_lidar))
    return np.concatenate(clouds)


def _read_calibration(path: Path, keys: Sequence[str]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """{sensor: (intrinsics, vehicle_from_sensor)} of a scene, which must not change on the way."""
    if not keys:
        raise BadRecord(f"{path}: has no samples; restore the file")
    if len(set(keys)) > 1:
        raise BadRecord(f"{path}: has {len(set(keys))} calibrations; cut the scene where it changes")
    file = path.parent / "calibration" / f"{keys[0]}.json"
    with _reading(file, holder="calibration"):
        return _parse_calibration(file)


def _parse_calibration(file: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    table = read_json(file)
    names, intrinsics, extrinsics = (table[key] for key in ("names", "intrinsics", "extrinsics"))
    if not len(names) == len(intrinsics) == len(extrinsics):
        raise BadRecord(f"{file}: names, intrinsics and extrinsics differ in number; restore the file")
    calibration = {}
    for sensor, fields, transform in zip(names, intrinsics, extrinsics, strict=True):
        vehicle_from_sensor = _transform(transform, f"{file}, {sensor}")
        bent = {key: value for key, value in fields.items() if key not in _PINHOLE_FIELDS and value}
        if bent:
            raise BadRecord(f"{file}, {sensor}: {bent} must be zero; undistort the images first")
        # DGP puts the centre of the first pixel at 0 (see its scale_intrinsics), the package at 0.5.
        centre_u, centre_v = fields["cx"] + 0.5, fields["cy"] + 0.5
        matrix = np.array([[fields["fx"], 0, centre_u], [0, fields["fy"], centre_v], [0, 0, 1]], np.float64)
        calibration[sensor] = (matrix, vehicle_from_sensor)
    return calibration


def _world_from_sensor(datum: dict[str, Any], path: Path, sensor: str) -> np.ndarray:
    return _transform(datum["pose"], f"{path}, {sensor}")


def _transform(fields: dict[str, Any], where: str) -> np.ndarray:
    """4x4 of a DGP rotation and translation; BadRecord where the quaternion is none of a rotation."""
    quat_xyzw = np.array([fields["rotation"][key] for key in ("qx", "qy", "qz", "qw")], np.float64)
    b_origin_a = np.array([fields["translation"][key] for key in ("x", "y", "z")], np.float64)
    rigid.check_quat_xyzw(quat_xyzw, where, BadRecord)
    if not np.isfinite(b_origin_a).all():
        raise BadRecord(f"{where}: translation {b_origin_a.tolist()} is not finite; correct the calibration")
    return rigid.from_rotation_translation(rigid.rotation_from_quat_xyzw(quat_xyzw), b_origin_a)
