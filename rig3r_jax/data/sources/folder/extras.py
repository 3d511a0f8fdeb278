"""Depths and masks of a folder: which image has which, from which files."""

import collections
import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rig3r_jax.data.depth_files import DEPTH_READERS, read_depth_file, read_mask_file
from rig3r_jax.data.scene import BadRecord, DenseDepth, RigCamera
from rig3r_jax.data.sources.folder.images import ImageFile
from rig3r_jax.data.sources.folder.lidar import FOLDER as LIDAR
from rig3r_jax.data.sources.folder.lidar import Sweeps
from rig3r_jax.data.sources.folder.poses import Poses
from rig3r_jax.data.sources.folder.source import Folder
from rig3r_jax.data.sources.model_depth import ModelDepth
from rig3r_jax.data.sources.recorded_rig import Shot
from rig3r_jax.data.sources.rgbd import DepthCode, check_depth_unit
from rig3r_jax.formats.times import AUTO


@dataclasses.dataclass(frozen=True)
class Extras:
    """Depths and masks of a folder, which shots read when a scene is made."""

    options: Folder
    folder: Path
    poses: Poses
    image_of: dict[Path, ImageFile]  # of the shots
    listed: frozenset[str]  # names of all images of the folder, those without a pose too

    def with_depths(self, shots: Sequence[Shot], sweeps: Sweeps | None) -> tuple[tuple[Shot, ...], tuple[str, str]]:
        """From depth/, else the file of the poses, else lidar/, else the points of the model."""
        files = {shot.image: file for shot in shots if (file := self._depth_file(shot))}
        self._check_names(self.options.depth, tuple(DEPTH_READERS), shots, bool(files))
        if files:
            pngs = [file for file in files.values() if file.suffix.lower() == ".png"]
            check_depth_unit(pngs, DepthCode(self.options.depth_scale, (0,)), self.options.plausible_depth)
            kinds = collections.Counter(file.suffix.lower() for file in files.values())
            unit = f", {self.options.depth_scale:g} per metre" if pngs else ""
            text = (
                f"{len(files)} of {len(shots)} images ({', '.join(kinds)}{unit}, along the {self.options.depth_kind})"
            )
            makers = {image: functools.partial(self._read_depth, file) for image, file in files.items()}
            return _with(shots, "depth", makers), (f"{self.options.depth}/", text)
        if sweeps is not None:
            names = {shot.image: self.image_of[shot.image].name for shot in shots}
            makers = {
                shot.image: functools.partial(sweeps.depth, names[shot.image], shot.world_from_camera)
                for shot in shots
                if names[shot.image] in sweeps.of_image
            }
            text = f"{len(makers)} of {len(shots)} images, {len(sweeps.paths)} sweeps in the frame of {sweeps.frame}"
            return _with(shots, "depth", makers), (f"{LIDAR}/", text)
        if self.poses.model is not None:
            model = ModelDepth.of(
                self.poses.model, self.options.metres, self.options.point_error, self.options.point_views
            )
            makers = {shot.image: functools.partial(model.depth, self.image_of[shot.image].name) for shot in shots}
            return _with(shots, "depth", makers), ("points3D", str(model))
        return tuple(shots), ("nothing", "poses and rays are trained on, no points")

    def with_masks(self, shots: Sequence[Shot]) -> tuple[tuple[Shot, ...], tuple[str, str]]:
        """From masks/, or the file of the poses."""
        makers = {}
        for shot in shots:
            image = self.image_of[shot.image]
            stated = self.poses.masks.get(image.name)
            stem = self.folder / self.options.masks / image.name
            files = [(stem.with_suffix(".png"), False), (Path(f"{stem}.png"), True)]
            files += [(self.folder / stated, True)] if stated else []
            for file, black_by_name in files:
                if file.is_file():
                    choice = self.options.mask_hides
                    hidden_is_black = black_by_name if choice == AUTO else choice == "black"
                    makers[shot.image] = functools.partial(_read_mask, file, hidden_is_black)
                    break
        self._check_names(self.options.masks, (".png",), shots, bool(makers))
        if not makers:
            return tuple(shots), ("nothing", "all pixels show the scene")
        return _with(shots, "mask", makers), (f"{self.options.masks}/", f"{len(makers)} of {len(shots)} images")

    def _check_names(self, name: str, suffixes: tuple[str, ...], shots: Sequence[Shot], matched: bool) -> None:
        """BadRecord where a folder holds files, and none is of an image: they are named otherwise."""
        folder = self.folder / name
        if matched or not folder.is_dir():
            return
        files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith(".")]
        names = self.listed | {Path(image).with_suffix("").as_posix() for image in self.listed}
        if files and not any(path.relative_to(folder).with_suffix("").as_posix() in names for path in files):
            expected = Path(self.image_of[shots[0].image].name).with_suffix(suffixes[0])
            raise BadRecord(
                f"{files[0]}: is of no image, nor is any other file of {name}/; name them as the images are, such as "
                f"{name}/{expected}, or remove the folder"
            )

    def _depth_file(self, shot: Shot) -> Path | None:
        image = self.image_of[shot.image]
        if stated := self.poses.depths.get(image.name):
            if Path(stated).suffix.lower() not in DEPTH_READERS:
                kinds = ", ".join(DEPTH_READERS)
                raise BadRecord(f"{self.folder / stated}: a file of depth must be one of {kinds}; convert it")
            return self.folder / stated
        stem = (self.folder / self.options.depth / image.name).with_suffix("")
        return next((file for suffix in DEPTH_READERS if (file := Path(f"{stem}{suffix}")).is_file()), None)

    def _read_depth(self, file: Path, camera: RigCamera) -> DenseDepth:
        return read_depth_file(file, camera, self.options.depth_scale, self.options.depth_kind)


def _read_mask(file: Path, hidden_is_black: bool, camera: RigCamera) -> bytes:
    return read_mask_file(file, camera, hidden_is_black)


def _with(shots: Sequence[Shot], field: str, makers: Mapping[Path, Callable]) -> tuple[Shot, ...]:
    return tuple(dataclasses.replace(shot, **{field: makers.get(shot.image)}) for shot in shots)
