"""CO3D v2: people's films around objects, posed by COLMAP, with depth of multi-view stereo.

The root holds a folder per category: `frame_annotations.jgz`, `set_lists/set_lists_fewview_dev.json` and, per sequence,
`images/`, `depths/` and `depth_masks/`. Cameras are PyTorch3D's: points are rows (x R + T), axes left, up, forward, and
intrinsics in normalised coordinates of one of two conventions, which a frame names: by half the sides of the image, or
by half the shorter side. Edges of pixels are counted. Depth images hold float16 along the axis, times a factor per
frame. The scale of a sequence is arbitrary.
"""

import dataclasses
import functools
import gzip
import itertools
import typing
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from rig3r_jax.data.files import read_bytes, read_json
from rig3r_jax.data.scene import BadRecord, DenseDepth, LeftOut, RigCamera, Scene, about, leaving_out
from rig3r_jax.data.sources.depth_images import dense_depth, read_half_png, read_indices
from rig3r_jax.data.sources.sequences import ImageSequence, SequenceSource
from rig3r_jax.data.sources.shots import CAMERA, Shot, scene_of_one_camera
from rig3r_jax.formats.json_file import parse_json
from rig3r_jax.formats.text import decode_text, with_slashes
from rig3r_jax.geometry import rigid

_SPLITS = ("train", "val", "test")
_LEFT_UP = np.diag([-1.0, -1.0, 1.0])  # PyTorch3D's axes of a camera to OpenCV's, and back
_FARTHEST = 1e5  # units; some frames are stated to be farther off

Frame = Mapping[str, typing.Any]  # an entry of frame_annotations.jgz


@dataclasses.dataclass(frozen=True)
class Co3d(SequenceSource):
    """Options of CO3D v2."""

    window: int = 64  # frames per scene at most; a record is read as a whole
    set_list: str = "fewview_dev"  # of set_lists/set_lists_*.json, whose train, val and test are the splits
    categories: tuple[str, ...] = ()  # () keeps all

    metric = False
    root_holds = "CO3D v2 (a folder per category with frame_annotations.jgz and set_lists/)"

    def splits(self) -> tuple[str, ...]:
        """Names of the splits that the lists of any category fill."""
        lists = [_set_list(path, self.set_list) for path in self._categories()]
        return tuple(split for split in _SPLITS if any(own.get(split) for own in lists))

    def sequences(self, split: str) -> Iterator[tuple[str, Callable[[], ImageSequence]]]:
        """See `SequenceSource`."""
        for category in self._categories():
            rows = sorted(map(tuple, _set_list(category, self.set_list).get(split, [])))
            for sequence, of_sequence in itertools.groupby(rows, key=lambda row: row[0]):
                name = f"{category.name}_{sequence}"
                numbers = [int(row[1]) for row in of_sequence]
                load = functools.partial(_load, category, sequence, numbers)
                yield name, functools.partial(ImageSequence, name, len(numbers), load)

    def _categories(self) -> list[Path]:
        folder = self.folder()
        categories = sorted(path.parent for path in folder.glob("*/frame_annotations.jgz"))
        if not categories:
            raise BadRecord(f"{folder}: holds no category such as apple/frame_annotations.jgz; give the folder of them")
        names = [path.name for path in categories]
        if missing := sorted({*self.categories} - {*names}):
            raise BadRecord(f"{folder}: has no {missing}; it has {names}; set categories=")
        return [path for path in categories if not self.categories or path.name in self.categories]


def _set_list(category: Path, name: str) -> dict[str, list]:
    """[sequence, frame number, path] of every frame, by split."""
    path = category / "set_lists" / f"set_lists_{name}.json"
    if not path.exists():
        present = sorted(other.stem.removeprefix("set_lists_") for other in path.parent.glob("set_lists_*.json"))
        raise BadRecord(f"{path}: does not exist; set set_list= to one of {present}, or restore the file")
    lists = read_json(path)
    rows = [row for own in lists.values() for row in own] if isinstance(lists, dict) else [()]
    if any(not isinstance(row, list) or len(row) < 2 or not isinstance(row[1], int) for row in rows):
        raise BadRecord(f"{path}: must hold [sequence, frame number, path] by split; restore the file")
    return lists


@functools.lru_cache(maxsize=1)  # tens of thousands of frames; scenes of a category follow one another
def _annotations(path: Path, changed: int) -> dict[tuple[str, int], Frame]:
    """Entries by sequence and frame number, of a file that changed at a time in ns."""
    data = read_bytes(path)
    try:
        entries = parse_json(decode_text(gzip.decompress(data), path), path)
        return {(entry["sequence_name"], int(entry["frame_number"])): entry for entry in entries}
    except (OSError, EOFError, zlib.error, KeyError, TypeError, ValueError) as error:
        raise BadRecord(f"{path}: does not read as frame annotations ({error!r}); restore the file") from error


def _load(category: Path, sequence: str, numbers: Sequence[int], name: str, piece: Sequence[int]) -> Scene:
    path = category / "frame_annotations.jgz"
    entries = _annotations(path, path.stat().st_mtime_ns if path.exists() else 0)
    left_out: list[LeftOut] = []
    chosen: list[Frame] = []
    for number in (numbers[i] for i in piece):
        with leaving_out(left_out, f"{sequence}, frame {number}"), about("pose"):
            if (sequence, number) not in entries:
                raise BadRecord(f"{path}: has no frame {number} of {sequence}; restore the file")
            chosen.append(entries[sequence, number])
    shots: list[Shot] = []
    for step, (entry, time) in enumerate(zip(chosen, _times(chosen), strict=True)):
        where = f"{path}, frame {entry['frame_number']} of {sequence}"
        with leaving_out(left_out, f"{sequence}, frame {entry['frame_number']}"), about("pose"):
            shots.append(_shot(category.parent, entry, step, time, where))
    return scene_of_one_camera(name, shots, left_out, ordered=False)


def _times(frames: Sequence[Frame]) -> list[float]:
    """Seconds as they are stated where they ascend, else the frames' numbers (many sequences state -1)."""
    stated = [frame.get("frame_timestamp") for frame in frames]
    if all(isinstance(time, int | float) for time in stated) and (np.diff(stated) > 0).all():
        return [float(time) for time in stated]
    return [float(frame["frame_number"]) for frame in frames]


def _shot(root: Path, entry: Frame, step: int, time: float, where: str) -> Shot:
    from rig3r_jax.geometry.camera import Pinhole  # imports JAX: not where options are read

    try:
        image, viewpoint = entry["image"], entry["viewpoint"]
        height, width = (int(side) for side in image["size"])
        lens = Pinhole(_intrinsics(viewpoint, (height, width), where))
        camera_from_world = np.eye(4)
        camera_from_world[:3, :3] = _LEFT_UP @ np.array(viewpoint["R"], np.float64).reshape(3, 3).T
        camera_from_world[:3, 3] = _LEFT_UP @ np.array(viewpoint["T"], np.float64).reshape(3)
        file = root / with_slashes(image["path"])
        depth = functools.partial(_depth, root, entry["depth"]) if entry.get("depth") else None
    except BadRecord:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise BadRecord(f"{where}: lacks image or viewpoint ({error!r}); restore the file") from error
    lens.check(where, BadRecord)
    if np.abs(camera_from_world[:3, 3]).max() > _FARTHEST:
        raise BadRecord(f"{where}: T {viewpoint['T']} is no place: COLMAP did not find it; leave the frame out")
    pose = rigid.invert(rigid.nearest_rigid(rigid.check(camera_from_world, f"{where}: viewpoint", BadRecord)))
    return Shot(CAMERA, step, time, file, pose, depth, lens=lens)


def _intrinsics(viewpoint: Mapping[str, typing.Any], size: tuple[int, int], where: str) -> Float[np.ndarray, "3 3"]:
    """In pixels, of the two conventions of normalised coordinates, whose axes point left and up."""
    half = np.array(size[::-1]) / 2
    conventions = {"ndc_norm_image_bounds": half, "ndc_isotropic": np.full(2, half.min())}
    name = str(viewpoint.get("intrinsics_format", "ndc_norm_image_bounds")).lower()  # files of old have none
    if name not in conventions:
        raise BadRecord(f"{where}: intrinsics_format {name!r} must be one of {', '.join(conventions)}")
    fx, fy = np.array(viewpoint["focal_length"], np.float64) * conventions[name]
    cx, cy = half - np.array(viewpoint["principal_point"], np.float64) * conventions[name]
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])


def _depth(root: Path, stated: Mapping[str, typing.Any], camera: RigCamera) -> DenseDepth:
    try:
        path, factor = root / with_slashes(stated["path"]), float(stated["scale_adjustment"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise BadRecord(f"{root}: a frame's depth {stated} lacks path or scale_adjustment ({error!r})") from error
    depth = read_half_png(path) * factor
    if stated.get("mask_path"):
        mask = root / with_slashes(stated["mask_path"])
        depth = np.where(read_indices(mask, camera.size) > 0, depth, 0)
    return dense_depth(depth, camera, path)
