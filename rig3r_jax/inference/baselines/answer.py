"""A baseline's answers to the samples of a protocol: the files that any system writes, scored by the same code."""

import dataclasses
import importlib
from collections.abc import Callable, Sequence
from pathlib import Path

from rig3r_jax.evaluation.sample_data import SampleData, read_samples
from rig3r_jax.exports.read import CAMERAS
from rig3r_jax.formats.atomic import whole_path
from rig3r_jax.formats.cameras_json import write_cameras
from rig3r_jax.inference.baselines.names import Baseline, BaselineOptions
from rig3r_jax.inference.models.protocol import Model
from rig3r_jax.schema import Reconstruction


@dataclasses.dataclass(frozen=True)
class Task:
    """What a baseline is asked: one sample, and beside it the others, of which a wrong rig is taken."""

    sample: SampleData
    samples: Sequence[SampleData]
    options: BaselineOptions
    model: Model | None = None  # of baselines that take one


Answering = Callable[[Task], Reconstruction]  # images without a pose are left out of the answer


@dataclasses.dataclass(frozen=True)
class Answered:
    """How much of the images has a pose."""

    samples: int
    images: int
    posed: int

    @property
    def summary(self) -> str:
        return f"{self.samples} samples, {self.posed} of {self.images} images with a pose"


def answer(
    baseline: Baseline,
    data: Path,
    out: Path,
    options: BaselineOptions,
    model: Model | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> Answered:
    """Writes OUT/SAMPLE/cameras.json for every sample of a folder of `protocol-data`; all of them, or nothing.

    Args:
        baseline: of `names.BASELINES`.
        data: images and truth.
        out: the folder to make.
        options: what was chosen.
        model: of baselines that take one.
        tell: hears a line of each sample of which an image has no pose.

    Raises:
        ValueError: no such data; a folder that is there; what a baseline says.
    """
    if out.exists():
        raise ValueError(f"{out}: exists already; give a new folder, or remove it first")
    module, _, name = baseline.function.partition(":")
    answering: Answering = getattr(importlib.import_module(module), name)
    samples, images, posed = read_samples(data), 0, 0
    with whole_path(out) as folder:
        for sample in samples:
            reconstruction = answering(Task(sample, samples, options, model))
            (folder / sample.name).mkdir(parents=True)
            write_cameras(folder / sample.name / CAMERAS, dataclasses.replace(reconstruction, points=None))
            count = len(sample.truth.images)
            if len(reconstruction.images) < count:
                tell(f"{sample.name}: {len(reconstruction.images)} of {count} images with a pose")
            images, posed = images + count, posed + len(reconstruction.images)
    return Answered(len(samples), images, posed)
