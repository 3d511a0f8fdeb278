"""True cameras beside those of a reconstruction, in its world."""

import dataclasses
import typing
from pathlib import Path

import numpy as np

from rig3r_jax.evaluation.pose import rotation_angle_deg
from rig3r_jax.formats.cameras_json import read_cameras
from rig3r_jax.geometry.aligned import camera_alignment
from rig3r_jax.schema import PosedImage, Reconstruction

ALIGNMENTS = ("similarity", "rigid", "none")


@typing.no_type_check
@dataclasses.dataclass(frozen=True)
class Truth:
    """The true images by the number of the reconstruction's, in its world and length unit."""

    images: dict[int, PosedImage]
    scale: float  # lengths of the reconstruction over true ones, as the alignment found it
    errors: dict[int, tuple[float, float]]  # distance in the length unit, angle in degrees

    def note(self, unit: str) -> str:
        """Over all images, in words."""
        distances, angles = np.array(list(self.errors.values())).T
        distance, angle = np.sqrt(np.mean(distances**2)), np.median(angles)
        return (
            f"truth of {len(self.images)} images: off by {distance:.3g} {unit} (root mean square) and {angle:.3g}° "
            f"(median), at a scale of {self.scale:.4g}"
        )


def read_truth(path: Path, reconstruction: Reconstruction, alignment: str | None) -> Truth:
    """The cameras of a cameras.json whose images have names that the reconstruction has, aligned with it.

    Args:
        path: the true cameras.
        reconstruction: those they are drawn beside.
        alignment: of the truth onto the reconstruction: "similarity" (rotation, translation and scale), "rigid", or
            "none": one world and unit. None: rigid where both are metric, else a similarity.

    Raises ValueError, naming the file, where it is no cameras.json or has none of the images.
    """
    true = read_cameras(path)
    by_name = {image.name: image for image in true.images}
    common = [number for number, image in enumerate(reconstruction.images) if image.name in by_name]
    if not common:
        first = reconstruction.images[0].name
        raise ValueError(f"{path}: has none of the images, such as {first!r}; give true cameras of the same names")
    images = [by_name[reconstruction.images[number].name] for number in common]
    source, target = np.stack([i.world_from_camera for i in images]), reconstruction.world_from_camera[common]
    metric = true.length_unit == reconstruction.length_unit == "metre"
    alignment = alignment or ("rigid" if metric else "similarity")
    moved, scale = source, 1.0
    if alignment != "none":
        fit = camera_alignment(source, target, with_scale=alignment == "similarity")
        moved, scale = fit.poses(source), fit.scale
    distances = np.linalg.norm(moved[:, :3, 3] - target[:, :3, 3], axis=-1)
    angles = rotation_angle_deg(moved[:, :3, :3], target[:, :3, :3])
    return Truth(
        {n: dataclasses.replace(i, world_from_camera=m) for n, i, m in zip(common, images, moved, strict=True)},
        scale,
        dict(zip(common, zip(distances.tolist(), angles.tolist(), strict=True), strict=True)),
    )
