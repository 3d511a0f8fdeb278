"""A complete folder as `source=folder` takes it, made from procedural worlds: something to copy the layout of."""

from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, Float

from rig3r_jax.data.depth_files import AXIS, RAY
from rig3r_jax.data.frame_bytes import decode_depth
from rig3r_jax.data.scene import Frame, RigCamera, Scene
from rig3r_jax.data.sources.procedural.scenes import Drive, make_drive, make_scene
from rig3r_jax.data.sources.procedural.source import Procedural
from rig3r_jax.data.sources.procedural.worlds import car_boxes
from rig3r_jax.formats import tum
from rig3r_jax.formats.calibration import CalibratedCamera, RigCalibration
from rig3r_jax.formats.rig_config import write_rig_config
from rig3r_jax.geometry import rigid

_UNITS_PER_METRE = 1000.0  # of the depth images
_MAX_UNITS = 65535  # of 16 bits
_SPLIT = "train"
_MOVING_GREY = 128  # of masks, see `depth_files.read_mask_file`
_STILL = 0.1  # metres per second
_MARGIN = 0.05  # metres around a car in which a point is its own


def write_example(out: Path, drives: int, options: Procedural) -> tuple[list[str], str]:
    """Writes drive_00 ... below `out`, which must be empty or absent; a line for each of what it holds, and the option
    of `source=folder` that its depths want: distances along rays (depth_kind=ray) where a lens of a drive is `wide`,
    for which depth along the axis is none; else "", for depth along the camera's axis.

    ValueError where `out` holds something.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out}: exists and is not empty; give a new folder, or delete it first")
    depth_kind, lines = RAY if options.lenses == "fisheye" else AXIS, []
    for index in range(drives):
        name = f"drive_{index:02d}"
        scene, drive = make_scene(options, name, _SPLIT, index), make_drive(options, _SPLIT, index)
        _write_drive(out / name, scene, drive, depth_kind)
        cameras = ", ".join(camera.name for camera in scene.cameras)
        lines.append(f"{out / name}: {len(drive.times)} time steps of {len(scene.cameras)} cameras ({cameras})")
    return lines, f"depth_kind={RAY}" if depth_kind == RAY else ""


def _write_drive(folder: Path, scene: Scene, drive: Drive, depth_kind: str) -> None:
    for camera in scene.cameras:
        for part in ("images", "depth", "masks"):
            (folder / part / camera.name).mkdir(parents=True)
    for frame in scene.frames:
        camera = scene.cameras[frame.camera]
        place = Path(camera.name) / f"{frame.step:06d}"
        suffix = ".png" if frame.image.startswith(b"\x89PNG") else ".jpg"
        (folder / "images" / place).with_suffix(suffix).write_bytes(frame.image)
        distance = decode_depth(frame.depth).values.astype(np.float64)
        rays = camera.lens.rays(_pixels(camera))
        metres = distance if depth_kind == RAY else distance * rays[..., 2]
        units = np.round(metres * _UNITS_PER_METRE)
        _write_png(folder / "depth" / place, np.where(units <= _MAX_UNITS, units, 0).astype(np.uint16))
        moving = _moving(drive, frame, distance[..., None] * rays) & (distance > 0)
        _write_png(folder / "masks" / place, np.where(moving, _MOVING_GREY, 0).astype(np.uint8))
    cameras = (CalibratedCamera(camera.name, camera.lens, None, camera.rig_from_camera) for camera in scene.cameras)
    write_rig_config(folder / "rig_config.json", RigCalibration(tuple(cameras), scene.cameras[0].name))
    tum.write_file_list(
        folder / "times.txt", tum.FileList(drive.times, tuple(f"{i:06d}" for i in range(len(drive.times))))
    )
    tum.write_trajectory(folder / "poses.txt", drive.times, rigid.nearest_rigid(drive.world_from_rig))


def _pixels(camera: RigCamera) -> Float[np.ndarray, "h w 2"]:
    """(u, v) of the centres."""
    height, width = camera.size
    return np.stack(np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5), axis=-1)


def _moving(drive: Drive, frame: Frame, points_camera: Float[np.ndarray, "h w 3"]) -> Bool[np.ndarray, "h w"]:
    """Which points lie in the box of a car that drives."""
    points_world = rigid.apply(frame.world_from_camera, points_camera)
    centers, halves, yaws = car_boxes(drive.world, np.array([frame.time]))
    driving = np.tile(drive.world.cars.used & (np.abs(drive.world.cars.speed) > _STILL), 2)[: len(halves)]
    moving = np.zeros(points_world.shape[:2], bool)
    for center, half, yaw in zip(centers[0][driving], halves[driving], yaws[0][driving], strict=True):
        offset = points_world - center
        along = np.cos(yaw) * offset[..., 0] + np.sin(yaw) * offset[..., 1]
        across = np.cos(yaw) * offset[..., 1] - np.sin(yaw) * offset[..., 0]
        inside = np.abs(np.stack([along, across, offset[..., 2]], axis=-1)) <= half + _MARGIN
        moving |= inside.all(axis=-1)
    return moving


def _write_png(path: Path, image: np.ndarray) -> None:
    path.with_suffix(".png").write_bytes(cv2.imencode(".png", image)[1].tobytes())
