"""Scenes of the DGP format (DDAD): surround cameras and LiDAR, each sensor with its own world transform per sample.

The root holds a `scene_dataset*.json` (DDAD: `ddad.json`) that lists scene files per split; a scene's folder holds
`scene_*.json`, `calibration/`, `rgb/` and `point_cloud/`. Frames of DGP: sensor "pose" is world_from_sensor,
"extrinsics" is vehicle_from_sensor, camera axes are OpenCV's.
"""

import functools
import io
import json
import zipfile
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from rig3r_jax.data.scene import BadRecord, Frame, RigCamera, Scene, SparseDepth, encode_depth
from rig3r_jax.geometry.camera import Pinhole

VERSION = 1
_LISTINGS = ("scene_dataset*.json", "ddad*.json")
_SPLIT_NAMES = {"0": "train", "1": "val", "2": "test", "3": "train_overfit"}  # DGP's DatasetSplit
_PINHOLE_FIELDS = {"fx", "fy", "cx", "cy"}
_MIN_DEPTH = 0.5  # metres; nearer returns are of the vehicle itself or of dirt on the lens
# The LiDAR on the roof sees over what hides a point from a camera. A point is taken as hidden if it is this many
# times as far as the nearest one in its cell (pixels) or one of the eight cells around.
_HIDDEN_RATIO, _HIDDEN_CELL = 1.5, 8


def splits(root: str, **options: object) -> tuple[str, ...]:
    """Names of the splits that list at least one scene. BadRecord where the folder holds no data set."""
    del options
    return tuple(_scene_files(root))


def scene_loaders(
    root: str,
    split: str,
    *,
    cameras: Sequence[str] | None = None,
    front: str = "CAMERA_01",
    window: int = 16,
) -> list[tuple[str, Callable[[], Scene]]]:
    """A loader for every scene of a split, long drives cut into scenes of at most `window` time steps.

    Args:
        root: folder of the data set.
        split: one of `splits(root)`.
        cameras: names of the cameras to keep; None keeps all.
        front: name of the camera whose frame is the rig frame.
        window: time steps per scene; a record is read as a whole, so it should not grow with the drive.

    Raises:
        ValueError: options that cannot hold together.
        BadRecord: a folder without data, or a split that it does not have.
    """
    if window < 1:
        raise ValueError(f"window={window} must be at least 1 time step")
    if cameras is not None and front not in cameras:
        raise ValueError(f"cameras={list(cameras)} must hold the front camera {front!r}; add it or set front=")
    files = _scene_files(root)
    if split not in files:
        raise BadRecord(f"{root}: has no split {split!r}; it has {', '.join(files)}")
    loaders = []
    for path in files[split]:
        for first in _window_starts(path, window):
            name = path.parent.name + (f"_{first:05d}" if first else "")
            keep = None if cameras is None else tuple(cameras)
            loaders.append((name, functools.partial(_load, path, name, keep, front, first, window)))
    return loaders


def _scene_files(root: str) -> dict[str, list[Path]]:
    folder = Path(root)
    if not folder.is_dir():
        raise BadRecord(f"{root}: data folder does not exist; give the folder that holds {' or '.join(_LISTINGS)}")
    listings = [path for pattern in _LISTINGS for path in sorted(folder.glob(pattern))]
    if not listings:
        raise BadRecord(f"{root}: holds no {' or '.join(_LISTINGS)}; give the folder of a DGP data set")
    listing = listings[-1]  # the last version
    try:
        table = json.loads(listing.read_text())["scene_splits"]
        files = {_SPLIT_NAMES.get(key, f"split_{key}"): entry["filenames"] for key, entry in table.items()}
        found = {split: [folder / name for name in names] for split, names in files.items() if names}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadRecord(f"{listing}: is no DGP data set listing ({error!r}); restore the file") from error
    if not found:
        raise BadRecord(f"{listing}: lists no scenes; give the folder of a data set with scenes")
    return found


def _window_starts(path: Path, window: int) -> list[int]:
    """First steps of the windows of a scene; [0] where the scene does not read, so that its loader tells why."""
    try:
        count = len(_read_json(path)["samples"])
    except (BadRecord, KeyError, TypeError):
        return [0]
    return list(range(0, max(count, 1), window))


def _load(path: Path, name: str, keep: tuple[str, ...] | None, front: str, first: int, window: int) -> Scene:
    try:
        return _read_scene(path, name, keep, front, first, window)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise BadRecord(f"{path}: lacks what a DGP scene holds ({error!r}); restore the file") from error


def _read_scene(path: Path, name: str, keep: tuple[str, ...] | None, front: str, first: int, window: int) -> Scene:
    document = _read_json(path)
    datums = {datum["key"]: datum for datum in document["data"]}
    samples = document["samples"][first : first + window]
    by_sensor = [{datums[key]["id"]["name"]: datums[key] for key in sample["datum_keys"]} for sample in samples]
    calibration = _read_calibration(path, [sample["calibration_key"] for sample in samples])
    present = {sensor for step in by_sensor for sensor, datum in step.items() if "image" in datum["datum"]}
    wanted = [sensor for sensor in calibration if sensor in present] if keep is None else list(keep)
    missing = [sensor for sensor in {*wanted, front} if sensor not in present or sensor not in calibration]
    if missing:
        raise BadRecord(f"{path}: has no images or calibration of {missing}; it has those of {sorted(present)}")

    # World coordinates may be kilometres from the origin: everything below is float64, and the first frame of the
    # front camera becomes the world, so that float32 holds millimetres later.
    first_front = next(step[front] for step in by_sensor if front in step)
    base_from_world = _invert(_world_from_sensor(first_front["datum"]["image"], path, front))
    vehicle_from_front = calibration[front][1]
    cameras = []
    for sensor in wanted:
        image = next(step[sensor] for step in by_sensor if sensor in step)["datum"]["image"]
        intrinsics, vehicle_from_camera = calibration[sensor]
        front_from_camera = np.eye(4) if sensor == front else _invert(vehicle_from_front) @ vehicle_from_camera
        size = (int(image["height"]), int(image["width"]))
        cameras.append(RigCamera(sensor, Pinhole(intrinsics), size, front_from_camera))

    frames = []
    for step, sensors in enumerate(by_sensor):
        points_base = _lidar_points(path, sensors, base_from_world)
        for index, camera in enumerate(cameras):
            if camera.name not in sensors:
                continue  # a dropped image of one camera
            datum = sensors[camera.name]
            image = datum["datum"]["image"]
            base_from_camera = base_from_world @ _world_from_sensor(image, path, camera.name)
            depth = project_points(points_base, base_from_camera, camera.lens.intrinsics, camera.size)
            frames.append(
                Frame(
                    camera=index,
                    time=_seconds(datum["id"]["timestamp"], path),
                    step=step,
                    world_from_camera=base_from_camera,
                    image=_read_bytes(path.parent / image["filename"]),
                    depth=encode_depth(depth),
                )
            )
    return Scene(name=name, cameras=tuple(cameras), front_camera=wanted.index(front), frames=tuple(frames))


def project_points(
    points_world: Float[np.ndarray, "n 3"],
    world_from_camera: Float[np.ndarray, "4 4"],
    intrinsics: Float[np.ndarray, "3 3"],
    size: tuple[int, int],
) -> SparseDepth:
    """The points that a pinhole of `size` (height, width) sees, at most one per pixel; metres, pixels.

    Of points in one pixel the nearest stays; points that nearer ones around them seem to hide are left out.
    """
    height, width = size
    camera_from_world = _invert(world_from_camera)
    points_camera = points_world @ camera_from_world[:3, :3].T + camera_from_world[:3, 3]
    points_camera = points_camera[points_camera[:, 2] > _MIN_DEPTH]
    depths = points_camera[:, 2]
    pixels = (points_camera @ intrinsics.T)[:, :2] / depths[:, None]
    inside = ((pixels >= 0) & (pixels < [width, height])).all(axis=1)
    pixels, depths = pixels[inside], depths[inside]
    seen = ~_hidden(pixels, depths, size)
    pixels, depths = pixels[seen], depths[seen]
    columns, rows = pixels.astype(np.int64).T
    order = np.lexsort((depths, columns, rows))  # by pixel, then from near to far
    _, first = np.unique((rows * width + columns)[order], return_index=True)
    nearest = order[first]
    # float32 may round a position onto the far border
    pixels = np.minimum(pixels[nearest].astype(np.float32), np.nextafter(np.float32([width, height]), np.float32(0)))
    return SparseDepth(pixels, depths[nearest].astype(np.float32))


def _hidden(pixels: np.ndarray, depths: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    rows, columns = (pixels[:, ::-1] // _HIDDEN_CELL).astype(np.int64).T + 1  # with a border of empty cells
    nearest = np.full((size[0] // _HIDDEN_CELL + 3, size[1] // _HIDDEN_CELL + 3), np.inf)
    np.minimum.at(nearest, (rows, columns), depths)
    around = np.min([nearest[rows + i, columns + j] for i in (-1, 0, 1) for j in (-1, 0, 1)], axis=0)
    return depths > _HIDDEN_RATIO * around


def _lidar_points(path: Path, sensors: dict[str, Any], base_from_world: np.ndarray) -> np.ndarray:
    """Points of all LiDAR sweeps of a sample, (n, 3) float64 in the re-based world."""
    clouds = [np.zeros((0, 3))]
    for sensor, datum in sensors.items():
        if "point_cloud" not in datum["datum"]:
            continue
        cloud = datum["datum"]["point_cloud"]
        file = path.parent / cloud["filename"]
        try:
            with np.load(io.BytesIO(_read_bytes(file)), allow_pickle=False) as arrays:
                points_lidar = np.asarray(arrays["data"][:, :3], np.float64)
        except (ValueError, KeyError, IndexError, OSError, EOFError, zipfile.BadZipFile) as error:
            if isinstance(error, BadRecord):
                raise
            raise BadRecord(f"{file}: is no LiDAR sweep ({error}); restore the file") from error
        points_lidar = points_lidar[np.isfinite(points_lidar).all(axis=1)]
        base_from_lidar = base_from_world @ _world_from_sensor(cloud, path, sensor)
        clouds.append(points_lidar @ base_from_lidar[:3, :3].T + base_from_lidar[:3, 3])
    return np.concatenate(clouds)


def _read_calibration(path: Path, keys: Sequence[str]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """{sensor: (intrinsics, vehicle_from_sensor)} of a scene, which must not change on the way."""
    if not keys:
        raise BadRecord(f"{path}: has no samples; restore the file")
    if len(set(keys)) > 1:
        raise BadRecord(f"{path}: has {len(set(keys))} calibrations; cut the scene where it changes")
    file = path.parent / "calibration" / f"{keys[0]}.json"
    table = _read_json(file)
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
    xyzw = np.array([fields["rotation"][key] for key in ("qx", "qy", "qz", "qw")], np.float64)
    xyz = np.array([fields["translation"][key] for key in ("x", "y", "z")], np.float64)
    length = np.linalg.norm(xyzw)
    if not (abs(length - 1) < 1e-3 and np.isfinite(xyz).all()):
        raise BadRecord(
            f"{where}: quaternion (x y z w) {xyzw.tolist()} of length {length:.6g} is no rotation (length must be 1) "
            f"or translation {xyz.tolist()} is not finite; correct the calibration"
        )
    a_from_b = np.eye(4)
    a_from_b[:3, :3] = Rotation.from_quat(xyzw).as_matrix()
    a_from_b[:3, 3] = xyz
    return a_from_b


def _invert(a_from_b: np.ndarray) -> np.ndarray:
    b_from_a = np.eye(4)
    b_from_a[:3, :3] = a_from_b[:3, :3].T
    b_from_a[:3, 3] = -a_from_b[:3, :3].T @ a_from_b[:3, 3]
    return b_from_a


def _seconds(timestamp: str, path: Path) -> float:
    try:
        return datetime.fromisoformat(timestamp).timestamp()
    except ValueError as error:
        raise BadRecord(f"{path}: timestamp {timestamp!r} is not of the form 2020-01-31T12:00:00.000000Z") from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(_read_bytes(path))
    except ValueError as error:
        if isinstance(error, BadRecord):
            raise
        raise BadRecord(f"{path}: is no JSON ({error}); restore the file") from error


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadRecord(f"{path}: cannot be read ({error.strerror}); restore the file") from error
