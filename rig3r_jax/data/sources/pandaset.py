"""PandaSet: six cameras, two LiDARs, cuboids.

The root holds a folder per sequence (`001`, ...): `camera/NAME/` with `00.jpg`, ..., `intrinsics.json`, `poses.json`
and `timestamps.json`; `lidar/00.pkl.gz`, ..., points in the world already; `annotations/cuboids/00.pkl.gz`, ... A pose
is world_from_camera of OpenCV's axes at the image's own time. Tables are pandas' pickles, of which nothing is run (see
`formats.frame_pickle`). Images are pinhole images; the centre of their first pixel is at 0. There are no official
splits: sequences are held out by name.
"""

import contextlib
import dataclasses
import functools
import gzip
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from rig3r_jax.data.boxes import Box, inside_any, upright_pose
from rig3r_jax.data.files import read_bytes, read_json
from rig3r_jax.data.lidar import project_points
from rig3r_jax.data.pose_track import PoseTrack
from rig3r_jax.data.scene import BadRecord, LeftOut, RigCamera, Scene, SparseDepth, about, leaving_out
from rig3r_jax.data.sources.camera_options import camera_problems, kept_cameras
from rig3r_jax.data.sources.pose_tables import pose_of
from rig3r_jax.data.sources.sequences import HeldOutSource, ImageSequence
from rig3r_jax.data.sources.shots import Shot, ShotCamera, middle_pose, scene_of_shots
from rig3r_jax.formats.frame_pickle import read_data_frame
from rig3r_jax.geometry import rigid

_FRONT_GAP = 300_000_000  # ns between poses of the front camera, which takes ten per second
_POSITION = ("position.x", "position.y", "position.z")
_DIMENSIONS = ("dimensions.x", "dimensions.y", "dimensions.z")


@dataclasses.dataclass(frozen=True)
class PandaSet(HeldOutSource):
    """Options of PandaSet."""

    window: int = 16  # time steps per scene; its images of all cameras are in memory while it is built
    cameras: tuple[str, ...] = ()  # names of the cameras to keep; () keeps all
    front: str = "front_camera"  # name of the camera whose frame is the rig frame

    root_holds = "PandaSet's sequences (001/camera, 001/lidar, ...)"

    def problems(self) -> Iterator[str]:
        """See `Source`."""
        yield from super().problems()
        yield from camera_problems(self.cameras, self.front)

    def places(self) -> Sequence[str]:
        """See `HeldOutSource`."""
        folder = self.folder()
        places = sorted(path.parent.name for path in folder.glob("*/camera") if path.is_dir())
        if not places:
            raise BadRecord(f"{folder}: holds no sequence such as 001/camera; give the folder of PandaSet's sequences")
        return places

    def sequences(self, split: str) -> Iterator[tuple[str, Callable[[], ImageSequence]]]:
        """See `SequenceSource`."""
        for place in self.places_of(split):
            yield place, functools.partial(self._sequence, Path(self.root) / place)

    def _sequence(self, folder: Path) -> ImageSequence:
        count = len(_list_of(folder / "camera" / self.front / "timestamps.json"))
        return ImageSequence(folder.name, count, functools.partial(_load, self, folder))


def _list_of(path: Path) -> list:
    values = read_json(path)
    if not isinstance(values, list):
        raise BadRecord(f"{path}: must be a list with an entry per image; restore the file")
    return values


def _load(source: PandaSet, folder: Path, name: str, numbers: Sequence[int]) -> Scene:
    from rig3r_jax.geometry.camera import Pinhole  # imports JAX: not where options are read

    present = sorted(path.name for path in (folder / "camera").iterdir() if path.is_dir())
    kept = kept_cameras(source.cameras, source.front, present, str(folder / "camera"))
    images = {camera: _images(folder / "camera" / camera) for camera in kept}
    cameras = [
        ShotCamera(camera, Pinhole(_intrinsics(folder / "camera" / camera / "intrinsics.json")), front_from_camera)
        for camera, front_from_camera in _rig(images, source.front, folder / "camera").items()
    ]
    lidar = _Lidar(folder) if (folder / "lidar").is_dir() else None
    left_out: list[LeftOut] = []
    shots: list[Shot] = []
    for camera in kept:
        for step, number in enumerate(numbers):
            file = folder / "camera" / camera / f"{number:02d}.jpg"
            with leaving_out(left_out, f"{camera}, {file.name}"), about("pose"):
                image = images[camera][number] if number < len(images[camera]) else _Image()
                if image.world_from_camera is None:
                    raise BadRecord(
                        image.fault or f"{file}: has no entry in poses.json or timestamps.json; restore them"
                    )
                depth = functools.partial(lidar.depth, number, image.world_from_camera) if lidar else None
                shots.append(Shot(camera, step, image.time, file, image.world_from_camera, depth))
    return scene_of_shots(name, cameras, source.front, shots, left_out)


@dataclasses.dataclass(frozen=True)
class _Image:
    time: float = 0.0  # seconds
    world_from_camera: np.ndarray | None = None  # None: see `fault`
    fault: str = ""


def _images(folder: Path) -> list[_Image]:
    """Time and pose of every image of a camera."""
    images = []
    times = _list_of(folder / "timestamps.json")
    for number, (time, entry) in enumerate(zip(times, _list_of(folder / "poses.json"), strict=False)):
        where = f"{folder / 'poses.json'}, entry {number}"
        try:
            quaternion = [entry["heading"][axis] for axis in "wxyz"]
            pose = pose_of(quaternion, [entry["position"][axis] for axis in "xyz"], where, "wxyz")
            images.append(_Image(float(time), pose))
        except BadRecord as error:
            images.append(_Image(fault=str(error)))
        except (KeyError, TypeError, ValueError) as error:
            images.append(_Image(fault=f"{where}: lacks time, position or heading ({error!r}); restore the file"))
    return images


def _rig(images: dict[str, list[_Image]], front: str, where: Path) -> dict[str, np.ndarray]:
    """front_from_camera of every camera, which no file states.

    Cameras fire up to 50 ms apart: each pose is compared with the front camera's at the same time, between two of its
    own, and the middle of all is taken.
    """
    fronts = [image for image in images.get(front, []) if image.world_from_camera is not None]
    poses = np.array([image.world_from_camera for image in fronts]).reshape(-1, 4, 4)
    track = PoseTrack.of(np.array([_ns(image.time) for image in fronts]), poses, _FRONT_GAP, f"{where}/{front}")
    rig = {}
    for camera, own in images.items():
        pairs = []
        for image in own:
            with contextlib.suppress(BadRecord):
                if image.world_from_camera is not None:
                    pairs.append(rigid.invert(track.at(_ns(image.time))) @ image.world_from_camera)
        if not pairs:
            raise BadRecord(f"{where / camera}: has no pose at a time between those of {front}; restore poses.json")
        rig[camera] = np.eye(4) if camera == front else middle_pose(pairs)
    return rig


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)


def _intrinsics(path: Path) -> Float[np.ndarray, "3 3"]:
    """With the centre of the first pixel at 0.5."""
    fields = read_json(path)
    try:
        fx, fy, cx, cy = (float(fields[name]) for name in ("fx", "fy", "cx", "cy"))
    except (KeyError, TypeError, ValueError) as error:
        raise BadRecord(f"{path}: lacks fx, fy, cx, cy ({error!r}); restore the file") from error
    return np.array([[fx, 0, cx + 0.5], [0, fy, cy + 0.5], [0, 0, 1]])


class _Lidar:
    """Sweeps of a sequence: points in the world at the time of each."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._points = functools.lru_cache(maxsize=2)(self._read)

    def depth(self, number: int, world_from_camera: np.ndarray, camera: RigCamera) -> SparseDepth:
        """The sweep of an image's number as its depth."""
        points_world, moving = self._points(number)
        return project_points(points_world, world_from_camera, camera, moving)

    def _read(self, number: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Points (n, 3), and which are of what moves; None where there are no cuboids."""
        points = _columns(self._folder / "lidar" / f"{number:02d}.pkl.gz", ("x", "y", "z"))
        points = points[np.isfinite(points).all(axis=1)]
        cuboids = self._folder / "annotations" / "cuboids"
        if not cuboids.is_dir():
            return points, None
        return points, inside_any(points, _moving_boxes(cuboids / f"{number:02d}.pkl.gz"))


def _moving_boxes(path: Path) -> list[Box]:
    """Cuboids of objects that are not stationary all along the sequence; x is across such a box, y along it."""
    table = _columns(path, (*_POSITION, *_DIMENSIONS, "yaw", "stationary"))
    boxes = []
    for *numbers, yaw, stationary in table:
        if not stationary:
            centre, size = np.array(numbers[:3]), tuple(float(side) for side in numbers[3:])
            boxes.append(Box(upright_pose(centre, yaw), size))
    return boxes


def _columns(path: Path, names: Sequence[str]) -> Float[np.ndarray, "n columns"]:
    data = read_bytes(path)
    with contextlib.suppress(OSError, EOFError, zlib.error):
        data = gzip.decompress(data)
    try:
        table = read_data_frame(data, path)
    except ValueError as error:
        raise BadRecord(str(error)) from error
    if missing := [name for name in names if name not in table]:
        raise BadRecord(f"{path}: has no columns {missing}; it has {sorted(table)}; restore the file")
    try:
        return np.stack([table[name].astype(np.float64) for name in names], axis=1)
    except (TypeError, ValueError) as error:
        raise BadRecord(f"{path}: {', '.join(names)} must be numbers ({error}); restore the file") from error
