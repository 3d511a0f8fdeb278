"""What sources of driving data share: options, the rig about its front camera, and scenes of images with LiDAR."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from rig3r_jax.data.files import read_bytes
from rig3r_jax.data.frame_bytes import NO_POINTS, encode_depth
from rig3r_jax.data.lidar import project_points
from rig3r_jax.data.scene import BadRecord, Frame, LeftOut, RigCamera, Scene, about, leaving_out, no_frame_left
from rig3r_jax.data.source import Source
from rig3r_jax.data.sources.camera_options import camera_problems, kept_cameras
from rig3r_jax.geometry import rigid


@dataclasses.dataclass(frozen=True)
class DriveSource(Source):
    """Options of drives, which are cut evenly into scenes of at most `window` time steps."""

    cameras: tuple[str, ...] = ()  # names of the cameras to keep; () keeps all
    front: str = ""  # name of the camera whose frame is the rig frame
    window: int = 16  # time steps per scene; a record is read as a whole, so it should not grow with the drive

    def problems(self) -> Iterator[str]:
        """See `Source`."""
        if self.window < 1:
            yield f"window={self.window} must be at least 1 time step"
        yield from camera_problems(self.cameras, self.front)

    def kept_cameras(self, present: Iterable[str], where: str) -> tuple[str, ...]:
        """See `camera_options.kept_cameras`."""
        return kept_cameras(self.cameras, self.front, present, where)


@dataclasses.dataclass(frozen=True)
class Sweep:
    """Points of LiDAR that belong to an image."""

    points_world: Float[np.ndarray, "n 3"]  # metres, float64
    moving: Bool[np.ndarray, " n"] | None = None  # points on what moves; None: not known


@dataclasses.dataclass(frozen=True)
class Shot:
    """One image of a drive before it is read; its loaders may raise BadRecord, which costs this image."""

    camera: str
    step: int
    time: float  # seconds, of its own exposure
    world_from_camera: Float[np.ndarray, "4 4"]  # at that time
    image: Callable[[], bytes]
    sweep: Callable[[], Sweep] | None = None  # None: no depth


def read_points(path: Path, floats_per_point: int) -> Float[np.ndarray, "n 3"]:
    """Points of a file of little-endian float32, x y z the first of each point's, in the file's frame and metres.

    Points that are not finite are no returns. BadRecord, naming the file, where it is empty or its size does not fit.
    """
    data = read_bytes(path)
    if not data or len(data) % (4 * floats_per_point):
        raise BadRecord(
            f"{path}: holds {len(data)} bytes, must be {floats_per_point} float32 a point; restore the file"
        )
    points = np.frombuffer(data, "<f4").reshape(-1, floats_per_point)[:, :3].astype(np.float64)
    return points[np.isfinite(points).all(axis=1)]


def about_front(cameras: Sequence[RigCamera], front: str) -> tuple[RigCamera, ...]:
    """The cameras, whose `rig_from_camera` are in any frame of the vehicle, in the frame of the front one."""
    (front_camera,) = (camera for camera in cameras if camera.name == front)
    front_from_vehicle = rigid.invert(front_camera.rig_from_camera)
    return tuple(
        dataclasses.replace(
            camera,
            rig_from_camera=np.eye(4) if camera.name == front else front_from_vehicle @ camera.rig_from_camera,
        )
        for camera in cameras
    )


def drive_scene(
    name: str,
    cameras: Sequence[RigCamera],
    front: str,
    shots: Sequence[Shot],
    left_out: list[LeftOut],
) -> Scene:
    """Reads the images of a piece of a drive, and projects LiDAR into them.

    World coordinates may be kilometres from the origin: all is float64, and the first frame of the front camera becomes
    the world, so that float32 holds millimetres later.

    Args:
        name: of the scene.
        cameras: of the rig; `rig_from_camera` in any frame of the vehicle.
        front: name of the front camera.
        shots: the images, of these cameras.
        left_out: what was left out before; what is left out here is added.
    """
    (vehicle_from_front,) = (camera.rig_from_camera for camera in cameras if camera.name == front)
    cameras = about_front(cameras, front)
    index_of = {camera.name: index for index, camera in enumerate(cameras)}
    shots = sorted(shots, key=lambda shot: (shot.step, index_of[shot.camera]))
    if not shots:
        raise no_frame_left(name, left_out) if left_out else BadRecord(f"scene {name}: has no images; restore them")
    first = next((shot for shot in shots if shot.camera == front), shots[0])
    base_from_world = rigid.invert(first.world_from_camera)
    frames: list[Frame] = []
    for shot in shots:
        index = index_of[shot.camera]
        with leaving_out(left_out, f"{shot.camera}, step {shot.step}"):
            with about("image"):
                content = shot.image()
            depth = NO_POINTS
            if shot.sweep is not None:
                with about("depth"):
                    sweep = shot.sweep()
                depth = project_points(sweep.points_world, shot.world_from_camera, cameras[index], sweep.moving)
            base_from_camera = base_from_world @ shot.world_from_camera
            frames.append(Frame(index, shot.time, shot.step, base_from_camera, content, encode_depth(depth)))
    if not frames:
        raise no_frame_left(name, left_out)
    return Scene(
        name,
        cameras,
        index_of[front],
        tuple(frames),
        tuple(left_out),
        source_from_world=first.world_from_camera,
        body_from_rig=vehicle_from_front,
    )


def nearest_step(times: Sequence[int] | Float[np.ndarray, " n"], time: int | float, within: int | float) -> int | None:
    """The number of the nearest of ascending times, or None if it is farther away than `within`; all of one unit."""
    if not len(times):
        return None
    after = int(np.searchsorted(times, time))
    candidates = [i for i in (after - 1, after) if 0 <= i < len(times)]
    nearest = min(candidates, key=lambda i: abs(times[i] - time))
    return nearest if abs(times[nearest] - time) <= within else None
