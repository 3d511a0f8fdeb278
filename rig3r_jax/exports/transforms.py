"""transforms.json of nerfstudio and instant-ngp: OpenGL's axes, the images' files from its folder."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from rig3r_jax.exports.job import CannotHold, Job
from rig3r_jax.formats.text import with_slashes
from rig3r_jax.formats.transforms_json import TransformsFrame, write_transforms


def write(job: Job, path: Path) -> Sequence[str]:
    """Writes the file; CannotHold for a lens that the format has no model of."""
    reconstruction = job.reconstruction
    folder = PurePosixPath(with_slashes(reconstruction.image_folder or ""))
    kinds = sorted({image.lens.kind for image in reconstruction.images})
    frames = [
        TransformsFrame(
            name=str(folder / image.name),
            lens=image.lens,
            size=(image.height, image.width),
            world_from_camera=image.world_from_camera,
            time=image.time,
            depth=None,
            mask=None,
        )
        for image in reconstruction.images
    ]
    try:
        write_transforms(path, frames, **({"ply_file_path": "points.ply"} if "ply" in job.kinds else {}))
    except ValueError as error:
        raise CannotHold(str(error).removeprefix(f"{path}, ")) from error
    return [f"lenses are {' and '.join(kinds)}: nerfstudio takes one kind per file"] if len(kinds) > 1 else []
