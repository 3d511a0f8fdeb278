"""kapture's folder of text tables (sensors/): sensors, rigs, trajectories, images.

sensors.txt         id, name, type, parameters     a camera's: model, width, height, COLMAP's parameters
rigs.txt            rig, sensor, qw qx qy qz, tx ty tz         sensor_from_rig
trajectories.txt    time, device, qw qx qy qz, tx ty tz        device_from_world; a device is a sensor or a rig
records_camera.txt  time, device, image                        below sensors/records_data
"""

import dataclasses
from pathlib import Path

import numpy as np

from rig3r_jax.formats.calibration import CalibratedCamera, RigCalibration, transform_of_quat_wxyz
from rig3r_jax.formats.colmap_lenses import lens_of_colmap
from rig3r_jax.formats.text import numbered_lines, read_text
from rig3r_jax.geometry import rigid


@dataclasses.dataclass(frozen=True)
class KaptureImage:
    """One image of the table, and where it was taken from, where that is known."""

    time: int  # in the file's unit
    camera: str
    name: str  # below sensors/records_data
    world_from_camera: np.ndarray | None  # (4, 4) float64


@dataclasses.dataclass(frozen=True)
class Kapture:
    """The cameras and images of a folder."""

    rigs: dict[str, RigCalibration]  # by id; a camera of no rig is a rig of its own
    images: tuple[KaptureImage, ...]  # by time, then camera


def read_kapture(folder: str | Path) -> Kapture:
    """Reads the tables below `folder`/sensors; ValueError naming file, line, value, rule and remedy."""
    sensors = Path(folder) / "sensors"
    cameras = _cameras(sensors / "sensors.txt")
    places = _places(sensors / "rigs.txt", cameras)
    poses = _poses(sensors / "trajectories.txt", places)
    images = []
    for where, words in _rows(sensors / "records_camera.txt", 3):
        time, camera, name = _time(words[0], where), words[1], words[2]
        if camera not in cameras:
            raise ValueError(f"{where}: camera {camera!r} is not in sensors.txt; add it")
        images.append(KaptureImage(time, camera, name, poses.get((time, camera))))
    rigs: dict[str, list[CalibratedCamera]] = {}
    for name, camera in cameras.items():
        rig, place = places.get(name, (name, np.eye(4)))
        rigs.setdefault(rig, []).append(dataclasses.replace(camera, rig_from_camera=place))
    calibrations = {rig: RigCalibration(tuple(members), f"the rig {rig}") for rig, members in rigs.items()}
    return Kapture(calibrations, tuple(sorted(images, key=lambda image: (image.time, image.camera))))


def _cameras(path: Path) -> dict[str, CalibratedCamera]:
    cameras = {}
    for where, words in _rows(path, 3):
        if words[2] != "camera":
            continue
        try:
            model, width, height, *parameters = words[3:]
            size, numbers = (int(float(height)), int(float(width))), [float(value) for value in parameters]
        except (ValueError, OverflowError) as error:
            raise ValueError(
                f"{where}: a camera has model, width, height and parameters ({error}); correct it"
            ) from error
        if model == "UNKNOWN_CAMERA":
            raise ValueError(f"{where}: camera {words[0]} has no model; calibrate it")
        cameras[words[0]] = CalibratedCamera(words[0], lens_of_colmap(model, numbers, where), size)
    if not cameras:
        raise ValueError(f"{path}: lists no camera; restore the file")
    return cameras


def _places(path: Path, cameras: dict[str, CalibratedCamera]) -> dict[str, tuple[str, np.ndarray]]:
    """Rig and rig_from_sensor of the cameras of rigs."""
    places: dict[str, tuple[str, np.ndarray]] = {}
    for where, words in _rows(path, 9) if path.exists() else ():
        if words[1] in cameras:
            if words[1] in places:
                raise ValueError(f"{where}: camera {words[1]} is in a second rig; a camera may be in one")
            places[words[1]] = (words[0], rigid.invert(transform_of_quat_wxyz(words[2:6], words[6:9], where)))
    return places


def _poses(path: Path, places: dict[str, tuple[str, np.ndarray]]) -> dict[tuple[int, str], np.ndarray]:
    """world_from_camera by time and camera; of a rig's pose, of all its cameras."""
    poses = {}
    for where, words in _rows(path, 9):
        if not all(words[2:9]):
            continue  # kapture leaves out what it does not know
        time = _time(words[0], where)
        world_from_device = rigid.invert(transform_of_quat_wxyz(words[2:6], words[6:9], where))
        poses[time, words[1]] = world_from_device
        for camera, (rig, rig_from_camera) in places.items():
            if rig == words[1]:
                poses[time, camera] = world_from_device @ rig_from_camera
    return poses


def _time(word: str, where: str) -> int:
    try:
        return int(word)
    except ValueError as error:
        raise ValueError(f"{where}: time {word!r} must be a whole number; correct the row") from error


def _rows(path: Path, least: int) -> list[tuple[str, list[str]]]:
    rows = []
    for number, line in numbered_lines(read_text(path)):
        if line.startswith("#"):
            continue
        words, where = [word.strip() for word in line.split(",")], f"{path}, line {number}"
        if len(words) < least:
            raise ValueError(f"{where}: has {len(words)} values, must be {least} at least; restore the file")
        rows.append((where, words))
    return rows
