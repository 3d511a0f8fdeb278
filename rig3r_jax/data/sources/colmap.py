"""COLMAP models with their images: single cameras, rigs, sets of photographs; and data sets that are such models.

A recording is a folder with `images/` and a model in it (`sparse/0` and the like, .bin or .txt); the root is one, or
holds several. Depth is that of the model's points, as far as their error allows. Lengths are in the model's unit;
`metres` says what that is.
"""

import dataclasses
from pathlib import Path

from rig3r_jax.data.scene import BadRecord
from rig3r_jax.data.sources.folder.source import Folder
from rig3r_jax.data.sources.recorded_rig import Recording


@dataclasses.dataclass(frozen=True)
class Colmap(Folder):
    """Options of COLMAP models; those of `source=folder`, of which `poses` is the folder of the model."""

    requires = ("pycolmap",)
    metric = False  # unless `metres` is set
    root_holds = "images/ and a COLMAP model (sparse/0, or any folder with cameras, images and points3D)"

    def read(self, name: str, folder: Path) -> Recording:
        """See `RigRecordings`."""
        if not self.poses:
            return dataclasses.replace(self, poses=_model_in(folder)).read(name, folder)
        return super().read(name, folder)


def _model_in(folder: Path) -> str:
    """The model in a folder or below it, however deep; of several the one with the largest file of images."""
    from rig3r_jax.formats.colmap import FILES, SUFFIXES, suffix_of_model  # makes lenses, whose module imports JAX

    models = {path.parent for name in FILES for path in folder.rglob(f"{name}.*") if path.suffix in SUFFIXES}
    if not models:
        raise BadRecord(f"{folder}: holds no COLMAP model ({', '.join(FILES)}, .bin or .txt); set poses=FOLDER")
    whole = sorted(filter(suffix_of_model, models)) or sorted(models)  # a part of one is told when it is read
    largest = max(whole, key=lambda model: max((path.stat().st_size for path in model.glob("images.*")), default=0))
    return largest.relative_to(folder).as_posix()


@dataclasses.dataclass(frozen=True)
class WayveScenes(Colmap):
    """WayveScenes101: drives of 20 s of five cameras, whose poses are models of COLMAP with rigs.

    A scene's folder holds images/<camera>/<time>.jpeg, colmap_sparse/rig and masks/<camera>/<time>.png.
    """

    poses: str = "colmap_sparse/rig"
    mask_hides: str = "black"
    front: str = "front-forward"
    metric = True
    root_holds = "scene_001 and so on, each with images/ and colmap_sparse/rig"


@dataclasses.dataclass(frozen=True)
class ScanNetPp(Colmap):
    """ScanNet++ v2, its DSLR images: fisheyes with models of COLMAP, in metres.

    The root holds <scene>/dslr, or data/<scene>/dslr: colmap/, resized_images/, resized_anon_masks/.
    """

    images: str = "dslr/resized_images"
    poses: str = "dslr/colmap"
    masks: str = "dslr/resized_anon_masks"
    mask_hides: str = "black"
    split_by: str = "recording"
    metric = True
    root_holds = "data/<scene>/dslr of ScanNet++ v2"

    def recordings(self) -> list[tuple[str, Path]]:
        """See `RigRecordings`."""
        root = self.folder()
        if (root / "data").is_dir():
            return dataclasses.replace(self, root=str(root / "data")).recordings()
        return super().recordings()
