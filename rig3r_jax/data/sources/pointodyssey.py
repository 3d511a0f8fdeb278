"""PointOdyssey: one camera among people and animals that move, rendered, exact depth.

The root holds `train/`, `val/`, `test/` or `sample/`, each a folder per scene with `rgbs/rgb_00000.jpg`,
`depths/depth_00000.png` (16-bit, 65535 for 1000 m along the camera's axis) and `anno.npz`: per frame `intrinsics`
(3x3, edges of pixels counted from 0) and `extrinsics`, camera_from_world. Nothing tells which pixels move.
"""

import dataclasses
import functools
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from rig3r_jax.data.depth_files import read_whole_numbers
from rig3r_jax.data.scene import BadRecord, DenseDepth, LeftOut, RigCamera, Scene, about, leaving_out
from rig3r_jax.data.sources.depth_images import dense_depth
from rig3r_jax.data.sources.sequences import ImageSequence, SequenceSource, frame_numbers, splits_with
from rig3r_jax.data.sources.shots import CAMERA, Shot, scene_of_one_camera
from rig3r_jax.formats.npz import Npz
from rig3r_jax.geometry import rigid

_SPLITS = ("train", "val", "test", "sample")
_RATE = 30.0  # frames per second
_RANGE, _FARTHEST = 65535, 1000.0  # the largest number of a depth image, and its metres: nothing was hit
_IMAGE = re.compile(r"rgb_(\d+)\.jpg")


@dataclasses.dataclass(frozen=True)
class PointOdyssey(SequenceSource):
    """Options of PointOdyssey."""

    window: int = 64  # frames per scene at most; a record is read as a whole

    root_holds = "PointOdyssey (train/SCENE/rgbs, train/SCENE/anno.npz, ...)"

    def splits(self) -> tuple[str, ...]:
        """Names of the splits that hold at least one scene."""
        return splits_with(self.folder(), _SPLITS, "*/rgbs")

    def sequences(self, split: str) -> Iterator[tuple[str, Callable[[], ImageSequence]]]:
        """See `SequenceSource`."""
        for path in sorted((self.folder() / split).glob("*/rgbs")):
            yield path.parent.name, functools.partial(self._sequence, path.parent)

    def _sequence(self, folder: Path) -> ImageSequence:
        frames = frame_numbers(folder / "rgbs", _IMAGE)
        return ImageSequence(folder.name, len(frames), functools.partial(_load, folder, frames))


def _load(folder: Path, frames: Sequence[int], name: str, piece: Sequence[int]) -> Scene:
    from rig3r_jax.geometry.camera import Pinhole  # imports JAX: not where options are read

    file = folder / "anno.npz"
    intrinsics, camera_from_world = _annotations(file)
    count = min(len(intrinsics), len(camera_from_world))
    with_depth = (folder / "depths").is_dir()
    left_out: list[LeftOut] = []
    shots: list[Shot] = []
    for step, frame in enumerate(frames[number] for number in piece):
        image = folder / "rgbs" / f"rgb_{frame:05d}.jpg"
        with leaving_out(left_out, image.name), about("pose"):
            if frame >= count:
                raise BadRecord(f"{file}: has the cameras of {count} frames, none of frame {frame}; restore the file")
            where = f"{file}, frame {frame}"
            lens = Pinhole(intrinsics[frame].astype(np.float64))
            lens.check(where, BadRecord)
            pose = rigid.nearest_rigid(rigid.check(camera_from_world[frame], f"{where}: extrinsics", BadRecord))
            depth = functools.partial(_depth, folder / "depths" / f"depth_{frame:05d}.png") if with_depth else None
            shots.append(Shot(CAMERA, step, frame / _RATE, image, rigid.invert(pose), depth, lens=lens))
    return scene_of_one_camera(name, shots, left_out)


def _annotations(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Intrinsics (n, 3, 3) and camera_from_world (n, 4, 4) alone of a file that holds gigabytes beside them."""
    try:
        with Npz(path) as arrays:
            intrinsics, extrinsics = arrays["intrinsics"], arrays["extrinsics"]
        if intrinsics.ndim != 3 or intrinsics.shape[1:] != (3, 3) or extrinsics.shape[1:] != (4, 4):
            raise ValueError(f"intrinsics {intrinsics.shape} and extrinsics {extrinsics.shape}")
    except (OSError, KeyError, ValueError) as error:
        raise BadRecord(
            f"{path}: cannot be read as intrinsics (n 3 3), extrinsics (n 4 4): {error}; restore it"
        ) from error
    return intrinsics, extrinsics


def _depth(path: Path, camera: RigCamera) -> DenseDepth:
    values = read_whole_numbers(path)
    metres = np.where(values >= _RANGE, 0, values) * (_FARTHEST / _RANGE)
    return dense_depth(metres, camera, path)
