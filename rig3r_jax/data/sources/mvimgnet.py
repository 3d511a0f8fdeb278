"""MVImgNet: people's films around objects, each with a COLMAP model.

The root holds a folder per category and in it one per object, with `images/001.jpg`, ... and `sparse/0/`, whose points
are the depth of the images that show them. The scale of an object is arbitrary, and images have no times: a time is an
image's place in the order of names. There are no official splits: objects are held out by name.
"""

import collections
import dataclasses
import functools
import typing
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rig3r_jax.data.scene import UNMATCHED, BadRecord, LeftOut, Scene
from rig3r_jax.data.sources.sequences import HeldOutSource, ImageSequence
from rig3r_jax.data.sources.shots import CAMERA, Shot, scene_of_one_camera

if typing.TYPE_CHECKING:
    import rig3r_jax.formats.colmap

_IMAGES = (".jpg", ".jpeg", ".png")


@dataclasses.dataclass(frozen=True)
class MvImgNet(HeldOutSource):
    """Options of MVImgNet."""

    window: int = 64  # images per scene at most; a record is read as a whole
    largest_error: float = 2.0  # pixels of reprojection, in the mean, of points that are depth
    fewest_views: int = 3  # images that show such a point

    requires = ("pycolmap",)
    metric = False
    root_holds = "MVImgNet (CATEGORY/OBJECT/images, CATEGORY/OBJECT/sparse/0, ...)"

    def problems(self) -> Iterator[str]:
        """See `Source`."""
        yield from super().problems()
        if not self.largest_error > 0:
            yield f"largest_error={self.largest_error} must be a positive number of pixels"

    def places(self) -> Sequence[str]:
        """See `HeldOutSource`."""
        folder = self.folder()
        places = sorted(
            path.parent.relative_to(folder).as_posix() for path in folder.glob("*/*/images") if path.is_dir()
        )
        if not places:
            raise BadRecord(f"{folder}: holds no object such as 0/0f01c3e5/images; give the folder of the categories")
        return places

    def sequences(self, split: str) -> Iterator[tuple[str, Callable[[], ImageSequence]]]:
        """See `SequenceSource`."""
        for place in self.places_of(split):
            name = place.replace("/", "_")
            yield name, functools.partial(self._sequence, name, Path(self.root) / place)

    def _sequence(self, name: str, folder: Path) -> ImageSequence:
        images = sorted(path.name for path in (folder / "images").iterdir() if path.suffix.lower() in _IMAGES)
        return ImageSequence(name, len(images), functools.partial(_load, self, folder, images))


def _load(source: MvImgNet, folder: Path, images: Sequence[str], name: str, piece: Sequence[int]) -> Scene:
    from rig3r_jax.data.sources.model_depth import ModelDepth  # imports JAX: not where options are read

    model = _model(folder)
    depth = ModelDepth.of(model, 1.0, source.largest_error, source.fewest_views)
    posed = {image.name: image for image in model.reconstruction.images}
    chosen = [(number, posed[images[number]]) for number in piece if images[number] in posed]
    left_out = [
        LeftOut(images[number], UNMATCHED, f"{folder}: its COLMAP model has no pose of {images[number]}")
        for number in piece
        if images[number] not in posed
    ]
    if piece[0] == 0:  # once per object
        for absent in sorted(set(posed) - set(images)):
            reason = f"{folder / 'images' / absent}: is not there, though the COLMAP model has its pose; restore it"
            left_out.append(LeftOut(absent, "image", reason))
    most_used = collections.Counter(image.camera for _, image in chosen).most_common(1)
    shots: list[Shot] = []
    for step, (number, image) in enumerate(chosen):
        if image.camera != most_used[0][0] and image.lens.kind != "pinhole":
            reason = f"{folder}: {image.name} is of COLMAP's camera {image.camera}, most images of {most_used[0][0]}"
            left_out.append(LeftOut(image.name, "pose", f"{reason}; undistort the images, or leave it out"))
            continue
        shots.append(
            Shot(
                camera=CAMERA,
                step=step,
                time=float(number),
                image=folder / "images" / image.name,
                world_from_camera=image.world_from_camera,
                depth=functools.partial(depth.depth, image.name),
                lens=image.lens,
            )
        )
    return scene_of_one_camera(name, shots, left_out, ordered=False)


def _model(folder: Path) -> "rig3r_jax.formats.colmap.ColmapModel":
    from rig3r_jax.formats.colmap import find_model, read_model

    model = find_model(folder)
    if model is None:
        raise BadRecord(f"{folder / 'sparse/0'}: holds no COLMAP model; restore it, or leave this object out")
    try:
        return read_model(model)
    except (ValueError, OSError) as error:
        raise BadRecord(str(error)) from error
