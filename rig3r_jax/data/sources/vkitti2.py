"""Virtual KITTI 2: two cameras on a car in rendered streets, exact depth, in ten renderings of every drive.

The root holds `Scene01/clone/` and so on, each with `intrinsic.txt`, `extrinsic.txt` (rows of camera_from_world per
frame and camera) and `frames/rgb/Camera_0/rgb_00000.jpg`, `frames/depth/Camera_0/depth_00000.png` (16-bit, in
centimetres along the camera's axis, 65535 for the sky). The centre of the first pixel is at 0. The renderings of a
drive show one place, and are held out together. Where `bbox.txt` and `frames/instanceSegmentation/` are there, pixels
of what moves are marked in the mask.
"""

import dataclasses
import functools
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from rig3r_jax.data.depth_files import read_whole_numbers
from rig3r_jax.data.scene import BadRecord, DenseDepth, LeftOut, RigCamera, Scene, about, leaving_out
from rig3r_jax.data.sources.depth_images import dense_depth, read_indices
from rig3r_jax.data.sources.pose_tables import no_row, read_rows
from rig3r_jax.data.sources.sequences import HeldOutSource, ImageSequence, frame_numbers
from rig3r_jax.data.sources.shots import Shot, ShotCamera, middle_pose, scene_of_shots
from rig3r_jax.geometry import rigid

_RATE = 10.0  # frames per second, as the drives of KITTI that were rendered
_SKY = 65535
_FRONT = "Camera_0"
_IMAGE = re.compile(r"rgb_(\d+)\.jpg")


@dataclasses.dataclass(frozen=True)
class VirtualKitti2(HeldOutSource):
    """Options of Virtual KITTI 2."""

    variants: tuple[str, ...] = ()  # renderings to keep, such as clone, fog, 15-deg-left; () keeps all
    farthest: float = 655.0  # metres; what is farther has no depth

    root_holds = "Virtual KITTI 2 (Scene01/clone/frames, Scene01/clone/extrinsic.txt, ...)"

    def places(self) -> Sequence[str]:
        """See `HeldOutSource`."""
        folder = self.folder()
        drives = [path.parent for path in folder.glob("*/*/extrinsic.txt")]
        if not drives:
            raise BadRecord(
                f"{folder}: holds no Scene01/clone/extrinsic.txt or the like; give the folder of the scenes"
            )
        variants = {drive.name for drive in drives}
        if missing := sorted({*self.variants} - variants):
            raise BadRecord(f"{folder}: has no renderings {missing}; it has {sorted(variants)}; set variants=")
        return sorted({drive.parent.name for drive in drives})

    def sequences(self, split: str) -> Iterator[tuple[str, Callable[[], ImageSequence]]]:
        """See `SequenceSource`."""
        for place in self.places_of(split):
            for path in sorted((Path(self.root) / place).glob("*/extrinsic.txt")):
                variant = path.parent.name
                if not self.variants or variant in self.variants:
                    yield f"{place}_{variant}", functools.partial(self._sequence, path.parent)

    def _sequence(self, folder: Path) -> ImageSequence:
        frames = frame_numbers(folder / "frames/rgb" / _FRONT, _IMAGE)
        name = f"{folder.parent.name}_{folder.name}"
        return ImageSequence(name, len(frames), functools.partial(_load, self, folder, frames))


def _load(source: VirtualKitti2, folder: Path, frames: Sequence[int], name: str, piece: Sequence[int]) -> Scene:
    left_out: list[LeftOut] = []
    bad_rows: list[LeftOut] = []
    poses = _poses(folder / "extrinsic.txt", bad_rows)
    cameras = _cameras(folder / "intrinsic.txt", poses, left_out)
    with_depth, with_instances = ((folder / "frames" / kind).is_dir() for kind in ("depth", "instanceSegmentation"))
    moving = _moving_tracks(folder / "bbox.txt", left_out) if with_instances else {}
    shots = []
    for camera in cameras:
        for step, frame in enumerate(frames[number] for number in piece):
            if (camera.name, frame) not in poses:
                fault = no_row(folder / "extrinsic.txt", f"frame {frame} and {camera.name}", bad_rows)
                left_out.append(LeftOut(f"{camera.name}, frame {frame}", "pose", str(fault)))
                continue
            images = folder / "frames"
            depth = images / "depth" / camera.name / f"depth_{frame:05d}.png"
            instances = images / "instanceSegmentation" / camera.name / f"instancegt_{frame:05d}.png"
            tracks = moving.get((camera.name, frame))
            shots.append(
                Shot(
                    camera=camera.name,
                    step=step,
                    time=frame / _RATE,
                    image=images / "rgb" / camera.name / f"rgb_{frame:05d}.jpg",
                    world_from_camera=poses[camera.name, frame],
                    depth=functools.partial(_depth, depth, source.farthest) if with_depth else None,
                    moving=functools.partial(_shows, instances, tracks) if tracks else None,
                )
            )
    return scene_of_shots(name, cameras, _FRONT, shots, left_out)


def _poses(path: Path, bad_rows: list[LeftOut]) -> dict[tuple[str, int], np.ndarray]:
    """world_from_camera by camera and frame."""
    poses = {}
    for row in read_rows(path, 18, bad_rows, header="frame"):
        frame, camera = (int(number) for number in row.numbers[:2])
        with leaving_out(bad_rows, f"Camera_{camera}, frame {frame}"), about("pose"):
            camera_from_world = rigid.check(row.numbers[2:].reshape(4, 4), row.where, BadRecord)
            poses[f"Camera_{camera}", frame] = rigid.invert(rigid.nearest_rigid(camera_from_world))
    return poses


def _cameras(path: Path, poses: dict[tuple[str, int], np.ndarray], left_out: list[LeftOut]) -> list[ShotCamera]:
    """The cameras of a drive, whose intrinsics and places on the car must be the same all along."""
    from rig3r_jax.geometry.camera import Pinhole  # imports JAX: not where options are read

    numbers: dict[str, np.ndarray] = {}
    for row in read_rows(path, 6, left_out, header="frame"):
        camera = f"Camera_{int(row.numbers[1])}"
        if not np.array_equal(numbers.setdefault(camera, row.numbers[2:]), row.numbers[2:]):
            raise BadRecord(f"{row.where}: intrinsics of {camera} change on the way; cut the drive there")
    cameras = []
    for camera, (fx, fy, cx, cy) in sorted(numbers.items()):
        pairs = [
            rigid.invert(poses[_FRONT, frame]) @ pose
            for (other, frame), pose in poses.items()
            if other == camera and (_FRONT, frame) in poses
        ]
        if not pairs:
            raise BadRecord(f"{path.parent / 'extrinsic.txt'}: has no frame with poses of {camera} and {_FRONT}")
        rig_from_camera = np.eye(4) if camera == _FRONT else middle_pose(pairs)
        intrinsics = np.array([[fx, 0, cx + 0.5], [0, fy, cy + 0.5], [0, 0, 1]])
        cameras.append(ShotCamera(camera, Pinhole(intrinsics), rig_from_camera))
    return cameras


def _moving_tracks(path: Path, left_out: list[LeftOut]) -> dict[tuple[str, int], list[int]]:
    """Numbers of the objects that move, by camera and frame; none where no file tells."""
    if not path.exists():
        return {}
    tracks: dict[tuple[str, int], list[int]] = {}
    for row in read_rows(path, 11, left_out, header="frame", least=0):
        frame, camera, track = (int(number) for number in row.numbers[:3])
        if row.numbers[-1]:
            tracks.setdefault((f"Camera_{camera}", frame), []).append(track)
    return tracks


def _depth(path: Path, farthest: float, camera: RigCamera) -> DenseDepth:
    values = read_whole_numbers(path)
    return dense_depth(np.where(values == _SKY, 0, values) / 100, camera, path, farthest)


def _shows(path: Path, tracks: Sequence[int], camera: RigCamera) -> Bool[np.ndarray, "h w"]:
    """Where the image shows one of these objects; the segmentation holds their numbers plus 1."""
    return np.isin(read_indices(path, camera.size), np.array(tracks) + 1)
