"""The images and the truth of a protocol's samples, as `rig3r protocol-data` has written them."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from rig3r_jax.evaluation.protocol_data import IMAGES, TRUTH
from rig3r_jax.exports.read import CAMERAS
from rig3r_jax.formats.cameras_json import read_cameras
from rig3r_jax.schema import PhysicalCamera, Reconstruction


@dataclasses.dataclass(frozen=True)
class SampleData:
    """One sample. A system is shown its images and told of the truth what a setting tells, never a pose."""

    name: str
    folder: Path  # of its images, below which their names are files
    truth: Reconstruction  # every image has its camera and its time

    @property
    def cameras(self) -> tuple[PhysicalCamera, ...]:
        """Those that took the images, one for each."""
        return tuple(self.truth.camera_of(image) for image in self.truth.images)

    def places(self, cameras: Sequence[PhysicalCamera]) -> Float[np.ndarray, "k 4 4"]:
        """rig_from_camera of these cameras of the sample; ValueError naming one that has none."""
        for camera in cameras:
            if camera.rig_from_camera is None:
                raise ValueError(
                    f"{self.name}: its camera {camera.name} has no place in the rig; take a baseline or a setting that "
                    "needs none"
                )
        return np.stack([camera.rig_from_camera for camera in cameras])


def read_samples(data: Path) -> list[SampleData]:
    """All samples of a folder of `protocol-data`, by name; ValueError where it is none, or an image is not there."""
    truths = sorted((data / TRUTH).glob(f"*/{CAMERAS}"))
    if not truths:
        raise ValueError(
            f"{data}: holds no {TRUTH}/SAMPLE/{CAMERAS}; give a folder that rig3r protocol-data has written"
        )
    samples = []
    for path in truths:
        sample = SampleData(path.parent.name, data / IMAGES / path.parent.name, read_cameras(path))
        for image, camera in zip(sample.truth.images, sample.cameras, strict=True):
            if camera is None or image.time is None:
                raise ValueError(f"{path}: {image.name} has no camera or no time; make the data again")
            if not (sample.folder / image.name).is_file():
                raise ValueError(f"{sample.folder / image.name}: is missing; make the data again")
        samples.append(sample)
    return samples
