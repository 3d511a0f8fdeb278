"""transforms.json of NeRF, instant-ngp and nerfstudio, with the images that it names."""

import dataclasses
from pathlib import Path

from rig3r_jax.data.sources.folder.source import Folder


@dataclasses.dataclass(frozen=True)
class Transforms(Folder):
    """Options of transforms.json: those of `source=folder`.

    A recording is the folder of a transforms.json, to which its file_paths are relative.
    """

    images: str = "."
    poses: str = "transforms.json"
    metric = False  # unless `metres` is set
    root_holds = "transforms.json and the images that it names, or several such folders"

    def recordings(self) -> list[tuple[str, Path]]:
        """See `RigRecordings`; a folder of images without the file is one too, which cannot be read."""
        return self.folders_holding(self.poses, "images")
