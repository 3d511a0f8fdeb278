"""TartanAir V2: rendered flights, twelve pinholes to six sides of a stereo pair and a fisheye of each, exact depth.

The root holds `ENVIRONMENT/Data_easy/P000/` and so on, each with `image_lcam_front/000000_lcam_front.png`,
`depth_lcam_front/000000_lcam_front_depth.png` (a float32 in four bytes of colour) and `pose_lcam_front.txt`, rows
tx ty tz qx qy qz qw of world_from_camera; world and cameras have north-east-down axes (a camera's: forward, right,
down). Pinholes are 640x640 with f 320 and centre (320, 320), edges counted; their depth is along the axis. A fisheye
(`lcam_fish`) has radii proportional to the angle from the axis (LinearSphere of castacks/mvs_utils), half of
`fisheye_fov` at half the width; its depth is along the ray, and it is where the front camera of its side is.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from rig3r_jax.data.scene import BadRecord, DenseDepth, LeftOut, RigCamera, Scene
from rig3r_jax.data.sources.camera_options import camera_problems, kept_cameras
from rig3r_jax.data.sources.depth_images import dense_depth, read_float_png
from rig3r_jax.data.sources.pose_tables import poses_of, read_rows
from rig3r_jax.data.sources.sequences import HeldOutSource, ImageSequence, frame_numbers
from rig3r_jax.data.sources.shots import Shot, ShotCamera, middle_pose, scene_of_shots, size_of
from rig3r_jax.geometry import rigid

_RATE = 10.0  # frames per second
_SIZE = (640, 640)
_SIDES = ("front", "back", "left", "right", "top", "bottom")
_PINHOLES = tuple(f"{eye}_{side}" for eye in ("lcam", "rcam") for side in _SIDES)
_FISHEYES = ("lcam_fish", "rcam_fish")
_NED_FROM_CV = np.array([[0.0, 0, 1, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]])  # forward, right, down
_IMAGE = re.compile(r"(\d+)_.*\.png")


@dataclasses.dataclass(frozen=True)
class TartanAir2(HeldOutSource):
    """Options of TartanAir V2."""

    window: int = 16  # time steps per scene; its images of all cameras are in memory while it is built
    cameras: tuple[str, ...] = ()  # names of the cameras to keep, such as lcam_front; () keeps all
    front: str = "lcam_front"  # name of the camera whose frame is the rig frame
    fisheye_fov: float = 195.0  # degrees across the width of a fisheye's images
    farthest: float = 1000.0  # metres; what is farther (the sky is very far) has no depth

    root_holds = "TartanAir V2 (ENVIRONMENT/Data_easy/P000/image_lcam_front, ...)"

    def problems(self) -> Iterator[str]:
        """See `Source`."""
        yield from super().problems()
        if unknown := sorted({*self.cameras} - {*_PINHOLES, *_FISHEYES}):
            yield f"cameras={list(self.cameras)}: {unknown} must be of {', '.join((*_PINHOLES, *_FISHEYES))}"
        yield from camera_problems(self.cameras, self.front)
        if not 0 < self.fisheye_fov <= 360:
            yield f"fisheye_fov={self.fisheye_fov} must be more than 0 and at most 360 degrees"

    def places(self) -> Sequence[str]:
        """See `HeldOutSource`."""
        folder = self.folder()
        places = sorted({path.parents[2].name for path in folder.glob("*/Data_*/P*/image_?cam_*")})
        if not places:
            raise BadRecord(f"{folder}: holds no */Data_easy/P000/image_lcam_front; give the folder of environments")
        return places

    def sequences(self, split: str) -> Iterator[tuple[str, Callable[[], ImageSequence]]]:
        """See `SequenceSource`."""
        for place in self.places_of(split):
            for path in sorted((Path(self.root) / place).glob("Data_*/P*")):
                name = f"{place}_{path.parent.name.removeprefix('Data_')}_{path.name}"
                yield name, functools.partial(self._sequence, name, path)

    def _sequence(self, name: str, folder: Path) -> ImageSequence:
        frames = frame_numbers(folder / f"image_{self.front}", _IMAGE)
        if not frames:
            raise BadRecord(
                f"{folder}: has no images of the front camera {self.front}; set front= to one that is there"
            )
        return ImageSequence(name, len(frames), functools.partial(_load, self, folder, frames))

    def notes(self) -> list[str]:
        """Cameras of other kinds."""
        present = {path.name.removeprefix("image_") for path in self.folder().glob("*/Data_*/P*/image_*")}
        others = sorted(present - {*_PINHOLES, *_FISHEYES})
        return [f"{self.root}: images of {', '.join(others)} are of no lens that is read"] if others else []


def _load(source: TartanAir2, folder: Path, frames: Sequence[int], name: str, piece: Sequence[int]) -> Scene:
    present = [camera for camera in (*_PINHOLES, *_FISHEYES) if (folder / f"image_{camera}").is_dir()]
    kept = kept_cameras(source.cameras, source.front, present, str(folder))
    left_out: list[LeftOut] = []
    poses = {camera: _poses(folder, camera, left_out) for camera in kept}
    cameras = []
    for camera, own in poses.items():
        together = min(len(own), len(poses[source.front]))
        front_from_camera = rigid.invert(poses[source.front][:together]) @ own[:together]
        rig_from_camera = np.eye(4) if camera == source.front else middle_pose(front_from_camera)
        cameras.append(_camera(camera, folder, rig_from_camera, source.fisheye_fov))
    shots = []
    for camera in kept:
        with_depth = (folder / f"depth_{camera}").is_dir()
        for step, frame in enumerate(frames[number] for number in piece):
            if frame >= len(poses[camera]):
                reason = f"{folder}: the poses of {camera} have {len(poses[camera])} rows, none of frame {frame}"
                left_out.append(LeftOut(f"{camera}, frame {frame}", "pose", f"{reason}; restore the file"))
                continue
            depth = folder / f"depth_{camera}" / f"{frame:06d}_{camera}_depth.png"
            shots.append(
                Shot(
                    camera=camera,
                    step=step,
                    time=frame / _RATE,
                    image=folder / f"image_{camera}" / f"{frame:06d}_{camera}.png",
                    world_from_camera=poses[camera][frame],
                    depth=functools.partial(_depth, depth, source.farthest) if with_depth else None,
                    outside=_beyond_circle if camera in _FISHEYES else None,
                )
            )
    return scene_of_shots(name, cameras, source.front, shots, left_out)


def _poses(folder: Path, camera: str, left_out: list[LeftOut]) -> Float[np.ndarray, "n 4 4"]:
    """world_from_camera of a camera's images; a fisheye without a file of its own is at its side's front camera.

    A row is its frame's by its number, so that one that does not read costs the sequence.
    """
    path = folder / f"pose_{camera}.txt"
    if camera in _FISHEYES and not path.exists():
        path = folder / f"pose_{camera.replace('fish', 'front')}.txt"
    bad_rows: list[LeftOut] = []
    rows = np.array([row.numbers for row in read_rows(path, 7, bad_rows)])
    if bad_rows:
        raise BadRecord(bad_rows[0].reason)
    return poses_of(rows[:, 3:], rows[:, :3], str(path), "xyzw") @ _NED_FROM_CV


def _camera(name: str, folder: Path, rig_from_camera: Float[np.ndarray, "4 4"], fisheye_fov: float) -> ShotCamera:
    from rig3r_jax.geometry.camera import Fisheye, Pinhole  # imports JAX: not where options are read

    if name not in _FISHEYES:
        return ShotCamera(name, Pinhole(_intrinsics(320.0, _SIZE)), rig_from_camera, _SIZE)
    images = folder / f"image_{name}"
    size = size_of(sorted(images.glob("*.png")), str(images))
    if size[0] != size[1]:
        raise BadRecord(f"{images}: has images of {size} (height, width), a fisheye's are square; restore the files")
    intrinsics = _intrinsics(size[1] / math.radians(fisheye_fov), size)
    return ShotCamera(name, Fisheye(intrinsics, np.zeros(4)), rig_from_camera, size)


def _intrinsics(focal: float, size: tuple[int, int]) -> Float[np.ndarray, "3 3"]:
    return np.array([[focal, 0, size[1] / 2], [0, focal, size[0] / 2], [0, 0, 1]])


def _beyond_circle(camera: RigCamera) -> Bool[np.ndarray, "h w"]:
    """Corners of a fisheye's image."""
    height, width = camera.size
    u, v = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    return np.hypot(u - width / 2, v - height / 2) > width / 2


def _depth(path: Path, farthest: float, camera: RigCamera) -> DenseDepth:
    return dense_depth(read_float_png(path), camera, path, farthest, "ray" if camera.lens.wide else "axis")
