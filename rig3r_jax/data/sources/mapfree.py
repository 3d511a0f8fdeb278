"""Map-free Relocalization: two scans of a place by phones, metric poses, no depth.

The root holds `train/`, `val/` and `test/`, each a folder per place (`s00000`) with `seq0/frame_00000.jpg`, `seq1/`,
`intrinsics.txt` (image, fx fy cx cy, width height) and `poses.txt` (image, qw qx qy qz, tx ty tz: camera_from_world).
Every image has intrinsics of its own. For training both scans of a place are sequences; of val, whose first scan is one
image, both are one sequence. The places of test have no poses and are not read. Images have no times: 30 per second
in their order. The centre of the first pixel is at 0.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from rig3r_jax.data.scene import BadRecord, LeftOut, Scene, about, leaving_out
from rig3r_jax.data.sources.pose_tables import Row, no_row, pose_of, read_rows
from rig3r_jax.data.sources.sequences import ImageSequence, SequenceSource, splits_with
from rig3r_jax.data.sources.shots import CAMERA, Shot, scene_of_one_camera
from rig3r_jax.geometry import rigid

_SPLITS = ("train", "val")
_RATE = 30.0  # frames per second
_FEW = 2  # images: a scan of so few is a sequence with the other


@dataclasses.dataclass(frozen=True)
class MapFree(SequenceSource):
    """Options of Map-free Relocalization."""

    window: int = 64  # frames per scene at most; a record is read as a whole

    root_holds = "Map-free Relocalization (train/s00000/seq0, train/s00000/poses.txt, val/...)"

    def splits(self) -> tuple[str, ...]:
        """Names of the splits that hold at least one place."""
        return splits_with(self.folder(), _SPLITS, "*/poses.txt")

    def sequences(self, split: str) -> Iterator[tuple[str, Callable[[], ImageSequence]]]:
        """See `SequenceSource`."""
        for path in sorted((self.folder() / split).glob("*/poses.txt")):
            place = path.parent
            scans = {scan.name: _images(scan) for scan in sorted(place.glob("seq*")) if scan.is_dir()}
            if min(map(len, scans.values()), default=0) < _FEW:
                scans = {"": [image for images in scans.values() for image in images]}
            for scan, images in scans.items():
                name = f"{place.name}_{scan}" if scan else place.name
                yield name, functools.partial(self._sequence, name, place, images)

    def _sequence(self, name: str, place: Path, images: Sequence[str]) -> ImageSequence:
        return ImageSequence(name, len(images), functools.partial(_load, place, images))

    def notes(self) -> list[str]:
        """Places without poses."""
        places = sum(path.is_dir() for path in (self.folder() / "test").glob("*"))
        return [f"{self.root}: the {places} places of test have no poses and are not read"] if places else []


def _images(scan: Path) -> list[str]:
    """As the tables name them, in order."""
    return sorted(f"{scan.name}/{path.name}" for path in scan.glob("frame_*.jpg"))


def _load(place: Path, images: Sequence[str], name: str, piece: Sequence[int]) -> Scene:
    left_out: list[LeftOut] = []
    bad_rows: dict[str, list[LeftOut]] = {"poses.txt": [], "intrinsics.txt": []}
    poses, intrinsics = (
        {row.words[0]: row for row in read_rows(place / file, numbers, bad_rows[file], words=1)}
        for file, numbers in (("poses.txt", 7), ("intrinsics.txt", 6))
    )
    shots: list[Shot] = []
    for step, number in enumerate(piece):
        image = images[number]
        with leaving_out(left_out, image), about("pose"):
            for rows, file in ((poses, "poses.txt"), (intrinsics, "intrinsics.txt")):
                if image not in rows:
                    raise no_row(place / file, image, bad_rows[file])
            shots.append(_shot(place / image, step, number / _RATE, poses[image], intrinsics[image]))
    sizes = {(int(height), int(width)) for _, _, _, _, width, height in (row.numbers for row in intrinsics.values())}
    size = sizes.pop() if len(sizes) == 1 else None
    return scene_of_one_camera(name, shots, left_out, size, ordered=False)


def _shot(image: Path, step: int, time: float, pose: Row, intrinsics: Row) -> Shot:
    from rig3r_jax.geometry.camera import Pinhole  # imports JAX: not where options are read

    fx, fy, cx, cy, _, _ = intrinsics.numbers
    lens = Pinhole(np.array([[fx, 0, cx + 0.5], [0, fy, cy + 0.5], [0, 0, 1]]))
    lens.check(intrinsics.where, BadRecord)
    camera_from_world = pose_of(pose.numbers[:4], pose.numbers[4:], pose.where, "wxyz")
    return Shot(CAMERA, step, time, image, rigid.invert(camera_from_world), lens=lens)
