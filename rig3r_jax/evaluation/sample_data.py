"""The images and the truth of a protocol's samples, as `rig3r protocol-data` has written them."""

import dataclasses
from pathlib import Path

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
        """That took the images, one for each."""
        return tuple(self.truth.camera_of(image) for image in self.truth.images)


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
