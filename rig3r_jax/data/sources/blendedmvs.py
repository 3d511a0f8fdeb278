"""BlendedMVS: photographs of places and objects, blended with renderings of their reconstruction, its depth.

The root holds a folder per place with `blended_images/00000000.jpg`, `cams/00000000_cam.txt` (camera_from_world,
intrinsics, range of depth) and `rendered_depth_maps/00000000.pfm` (along the camera's axis, 0 where nothing is), and
the lists of the splits beside them. The scale is arbitrary, and images have no times: a time is an image's number.
As in MVSNet the centre of the first pixel is at 0.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from rig3r_jax.data.files import read_text
from rig3r_jax.data.scene import BadRecord, DenseDepth, LeftOut, RigCamera, Scene, about, leaving_out
from rig3r_jax.data.sources.depth_images import dense_depth, read_pfm
from rig3r_jax.data.sources.sequences import TEST, TRAIN, HeldOutSource, ImageSequence
from rig3r_jax.data.sources.shots import CAMERA, Shot, scene_of_one_camera
from rig3r_jax.formats.text import numbered_lines
from rig3r_jax.geometry import rigid

_VALIDATION = "validation"
_LISTS = {  # of a split, the first that is there
    TRAIN: ("BlendedMVG_training.txt", "BlendedMVS_training.txt", "training_list.txt"),
    _VALIDATION: ("validation_list.txt",),
}


@dataclasses.dataclass(frozen=True)
class BlendedMvs(HeldOutSource):
    """Options of BlendedMVS; `test_share` holds where the lists of the splits are not there."""

    metric = False
    root_holds = "BlendedMVS (a folder per place with blended_images, cams, rendered_depth_maps; the splits' lists)"

    def places(self) -> Sequence[str]:
        """See `HeldOutSource`."""
        folder = self.folder()
        places = sorted(path.parent.name for path in folder.glob("*/cams") if path.is_dir())
        if not places:
            raise BadRecord(
                f"{folder}: holds no place such as 5a3ca9cb270f0e3f14d0eddb/cams; give the folder of places"
            )
        return places

    def splits(self) -> tuple[str, ...]:
        """See `Source`."""
        used = {self.split_of(place) for place in self.places()}
        return tuple(split for split in (TRAIN, _VALIDATION, TEST) if split in used)

    def split_of(self, place: str) -> str:
        """By the lists; "" of a place that none names."""
        lists = self._lists()
        if not lists:
            return super().split_of(place)
        return next((split for split, names in lists.items() if place in names), "")

    def _lists(self) -> dict[str, frozenset[str]]:
        lists = {}
        for split, files in _LISTS.items():
            if path := next((path for file in files if (path := Path(self.root) / file).is_file()), None):
                lists[split] = _names_of(path, path.stat().st_mtime_ns)
        return lists

    def sequences(self, split: str) -> Iterator[tuple[str, Callable[[], ImageSequence]]]:
        """See `SequenceSource`."""
        for place in self.places_of(split):
            yield place, functools.partial(self._sequence, Path(self.root) / place)

    def _sequence(self, folder: Path) -> ImageSequence:
        images = sorted(path for path in (folder / "blended_images").glob("*.jpg") if path.stem.isdecimal())
        return ImageSequence(folder.name, len(images), functools.partial(_load, folder, images))

    def notes(self) -> list[str]:
        """Places of no split."""
        unlisted = [place for place in self.places() if not self.split_of(place)]
        if not unlisted:
            return []
        return [f"{self.root}: {len(unlisted)} places are in no list and not read, such as {unlisted[0]}"]


@functools.lru_cache(maxsize=4)  # every place is looked up in them
def _names_of(path: Path, changed: int) -> frozenset[str]:
    """Lines of a file that changed at a time in ns."""
    return frozenset(line for _, line in numbered_lines(read_text(path)))


def _load(folder: Path, images: Sequence[Path], name: str, piece: Sequence[int]) -> Scene:
    from rig3r_jax.geometry.camera import Pinhole  # imports JAX: not where options are read

    with_depth = (folder / "rendered_depth_maps").is_dir()
    left_out: list[LeftOut] = []
    shots: list[Shot] = []
    for step, image in enumerate(images[number] for number in piece):
        with leaving_out(left_out, image.name), about("pose"):
            file = folder / "cams" / f"{image.stem}_cam.txt"
            camera_from_world, intrinsics = read_cam(file)
            lens = Pinhole(intrinsics)
            lens.check(str(file), BadRecord)
            depth_file = folder / "rendered_depth_maps" / f"{image.stem}.pfm"
            depth = functools.partial(_depth, depth_file) if with_depth else None
            pose = rigid.invert(camera_from_world)
            shots.append(Shot(CAMERA, step, float(int(image.stem)), image, pose, depth, lens=lens))
    return scene_of_one_camera(name, shots, left_out, ordered=False)


def read_cam(path: Path) -> tuple[Float[np.ndarray, "4 4"], Float[np.ndarray, "3 3"]]:
    """camera_from_world and the intrinsics, with the centre of the first pixel at 0.5, of a *_cam.txt."""
    words = read_text(path).split()
    try:
        if words[0] != "extrinsic" or words[17] != "intrinsic":
            raise ValueError(f"begins with {' '.join(words[:2])!r}")
        extrinsic = np.array(words[1:17], np.float64).reshape(4, 4)
        intrinsics = np.array(words[18:27], np.float64).reshape(3, 3)
    except (IndexError, ValueError) as error:
        rule = "must hold extrinsic, a 4x4, intrinsic, a 3x3, and the range of depth"
        raise BadRecord(f"{path}: {rule} ({error}); restore the file") from error
    intrinsics[:2, 2] += 0.5
    return rigid.nearest_rigid(rigid.check(extrinsic, f"{path}: extrinsic", BadRecord)), intrinsics


def _depth(path: Path, camera: RigCamera) -> DenseDepth:
    return dense_depth(read_pfm(path), camera, path)
