"""What the Waymo Open Dataset holds of a segment, whichever of its formats it came in, and scenes of it.

Vehicle and camera axes are x forward, y left, z up; extrinsics are vehicle_from_sensor, poses world_from_vehicle; the
left border of the first pixel is at 0. Every image has the pose at its own time, that of its middle column or row.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from rig3r_jax.data.boxes import Box, inside_any, upright_pose
from rig3r_jax.data.image_bytes import usable_size
from rig3r_jax.data.scene import BadRecord, LeftOut, RigCamera, Scene, about, leaving_out
from rig3r_jax.data.sources.drives import DriveSource, Shot, Sweep, drive_scene
from rig3r_jax.data.sources.waymo_lidar import LidarCalibration, RangeImage, points_world
from rig3r_jax.geometry import rigid

CAMERAS = {1: "FRONT", 2: "FRONT_LEFT", 3: "FRONT_RIGHT", 4: "SIDE_LEFT", 5: "SIDE_RIGHT"}
MOVING_SPEED = 0.5  # metres per second
# Waymo's axes of a camera from OpenCV's, which are right, down, forward.
_WAYMO_FROM_OPENCV = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
# By RollingShutterReadOutDirection: the axis along which an image is read, and whether from its low end.
_READOUTS = {1: ("rows", 1), 2: ("columns", 1), 3: ("rows", -1), 4: ("columns", -1)}


class CameraCalibration(NamedTuple):
    """Of one camera."""

    intrinsic: Sequence[float]  # fu fv cu cv k1 k2 p1 p2 k3
    vehicle_from_camera: Sequence[float]  # 16, by rows; Waymo's axes of the camera
    size: tuple[int, int]  # height, width
    direction: int  # RollingShutterReadOutDirection


class CameraImage(NamedTuple):
    """One image."""

    camera: str
    data: Callable[[], bytes]
    world_from_vehicle: Sequence[float]  # 16, by rows
    time: float  # seconds, of that pose
    readout: float  # seconds from the first column or row to the last


class Label(NamedTuple):
    """A box in the frame's vehicle."""

    centre: tuple[float, float, float]
    size: tuple[float, float, float]  # length, width, height
    heading: float  # radians
    speed: float  # metres per second; NaN where not known


@dataclasses.dataclass(frozen=True)
class SegmentFrame:
    """What was taken in one turn of the top LiDAR."""

    images: Sequence[CameraImage]
    world_from_vehicle: Sequence[float]  # 16, by rows, of what follows
    range_images: Callable[[], Sequence[RangeImage]]  # none where the files hold no LiDAR
    labels: Sequence[Label] | None  # None: not labelled


@dataclasses.dataclass(frozen=True)
class Segment:
    """A drive of 20 seconds, or a piece of it."""

    where: str  # the file, for messages
    cameras: dict[str, CameraCalibration]
    lidars: dict[int, LidarCalibration]
    frames: Sequence[SegmentFrame]


def segment_scene(source: DriveSource, name: str, segment: Segment) -> Scene:
    """The scene of a piece of a segment."""
    kept = source.kept_cameras(segment.cameras, segment.where)
    readouts: dict[str, list[float]] = {camera: [] for camera in kept}
    for image in (image for frame in segment.frames for image in frame.images if image.camera in readouts):
        readouts[image.camera].append(image.readout)
    cameras = [_camera(segment, camera, readouts[camera]) for camera in kept]
    vehicle_from = {camera.name: camera.rig_from_camera for camera in cameras}
    left_out: list[LeftOut] = []
    shots = []
    for step, frame in enumerate(segment.frames):
        sweep = functools.cache(functools.partial(_sweep, segment, frame))
        for image in frame.images:
            if image.camera not in vehicle_from:
                continue
            with leaving_out(left_out, f"{image.camera}, step {step}"), about("pose"):
                where = f"{segment.where}: pose of {image.camera} at {image.time:.6f} s"
                world_from_camera = transform(image.world_from_vehicle, where) @ vehicle_from[image.camera]
                content = functools.partial(_content, segment.where, image)
                shots.append(Shot(image.camera, step, image.time, world_from_camera, content, sweep))
    return drive_scene(name, cameras, source.front, shots, left_out)


def transform(numbers: Sequence[float], where: str) -> Float[np.ndarray, "4 4"]:
    """A rigid transform of 16 numbers by rows, orthonormal to float64: files hold float32. BadRecord naming `where`."""
    if len(numbers) != 16:
        raise BadRecord(f"{where}: has {len(numbers)} numbers, must be 16 of a 4x4 transform; restore the file")
    return rigid.nearest_rigid(rigid.check(np.reshape(np.asarray(numbers, np.float64), (4, 4)), where, BadRecord))


def _camera(segment: Segment, name: str, readouts: Sequence[float]) -> RigCamera:
    from rig3r_jax.geometry.camera import Brown  # imports JAX: not where options are read

    calibration, where = segment.cameras[name], f"{segment.where}: calibration of {name}"
    if len(calibration.intrinsic) != 9:
        raise BadRecord(f"{where}: intrinsic {list(calibration.intrinsic)} must be fu fv cu cv k1 k2 p1 p2 k3")
    focal_u, focal_v, centre_u, centre_v, *distortion = map(float, calibration.intrinsic)
    intrinsics = np.array([[focal_u, 0, centre_u], [0, focal_v, centre_v], [0, 0, 1]])
    vehicle_from_camera = transform(calibration.vehicle_from_camera, where) @ _WAYMO_FROM_OPENCV
    axis, sign = _READOUTS.get(calibration.direction, ("rows", 0))
    readout = sign * float(np.median(readouts)) if readouts else 0.0
    lens = Brown(intrinsics, np.array(distortion))
    return RigCamera(name, lens, calibration.size, vehicle_from_camera, readout, axis)


def _content(where: str, image: CameraImage) -> bytes:
    data = image.data()
    try:
        usable_size(data)
    except BadRecord as error:
        raise BadRecord(f"{where}: {image.camera} at {image.time:.6f} s: {error}") from error
    return data


def _sweep(segment: Segment, frame: SegmentFrame) -> Sweep:
    world_from_vehicle = transform(frame.world_from_vehicle, f"{segment.where}: pose of a frame")
    points = [np.zeros((0, 3))]
    for image in frame.range_images():
        if image.lidar not in segment.lidars:
            raise BadRecord(f"{segment.where}: has no calibration of LiDAR {image.lidar}; restore the file")
        points.append(points_world(image, segment.lidars[image.lidar], world_from_vehicle, segment.where))
    points = np.concatenate(points)
    if frame.labels is None or not len(points):
        return Sweep(points)
    boxes = [_box(label, world_from_vehicle) for label in frame.labels if not label.speed < MOVING_SPEED]
    return Sweep(points, inside_any(points, boxes))


def _box(label: Label, world_from_vehicle: np.ndarray) -> Box:
    """Upright in the vehicle's frame; labels are of the time of that frame's pose."""
    return Box(world_from_vehicle @ upright_pose(np.array(label.centre), label.heading), label.size)
