"""Whether a folder of predictions answers a protocol: every fault, and what it has answered."""

import collections
import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

from rig3r_jax.data.image_names import match_names
from rig3r_jax.evaluation.protocol import Protocol, ProtocolSample
from rig3r_jax.evaluation.systems.read import read_scene
from rig3r_jax.evaluation.systems.score import scenes_of


@dataclasses.dataclass(frozen=True)
class Submission:
    """What a folder of predictions holds of a protocol."""

    faults: tuple[str, ...]  # a line each; none: it can be scored
    samples: int  # that it answers without a fault
    images: int  # of the protocol
    posed: int  # that have a pose

    def summary(self, protocol: Protocol) -> str:
        """A line."""
        counts = f"{self.samples} of {len(protocol.samples)} samples, {self.posed} of {self.images} images have a pose"
        missing = self.images - self.posed
        verdict = f"{len(self.faults)} faults" if self.faults else "answers the protocol"
        note = f"; the pairs of {missing} images without one count as failures" if missing and not self.faults else ""
        return f"{protocol.name}: {verdict}: {counts}{note}"


def check_submission(protocol: Protocol, predictions: Path) -> Submission:
    """Reads all predictions. ValueError for a folder that holds no scene at all.

    Faults are samples that are missing, scenes that are no samples, files that cannot be read (such as for a pose that
    is none) or do not name their images, and images that were not asked for or are there twice. Images without a pose
    are no fault, but failures (`Rules.missing`).
    """
    faults: list[str] = []
    whole = posed = 0
    for sample, _, problems, count in _checked(protocol, predictions):
        faults += problems
        whole += sample is not None and not problems
        posed += count
    return Submission(tuple(faults), whole, sum(len(sample.frames) for sample in protocol.samples), posed)


def check_truth(protocol: Protocol, truth: Path) -> list[str]:
    """A line for each way in which the truth is not that of the protocol's lists: `rig3r protocol-data` writes one
    that is. ValueError for a folder that holds no scene at all."""
    faults: list[str] = []
    for sample, path, problems, count in _checked(protocol, truth):
        faults += problems
        if sample is not None and not problems and count < len(sample.frames):
            faults.append(f"{path}: has {count} of {len(sample.frames)} images of {sample.name}")
    return faults


def _checked(protocol: Protocol, folder: Path) -> Iterator[tuple[ProtocolSample | None, Path, list[str], int]]:
    """Of scenes that are no samples (None), then of every sample: its path, its faults, how many of its images have a
    pose."""
    scenes = scenes_of(folder)
    names = {sample.name for sample in protocol.samples}
    for name, path in scenes.items():
        if name not in names:
            yield None, path, [f"{path}: is no sample of {protocol.name}; remove it"], 0
    for sample in protocol.samples:
        if sample.name in scenes:
            yield sample, scenes[sample.name], *_check_sample(sample, scenes[sample.name])
        else:
            yield sample, folder, [f"{folder}: lacks the sample {sample.name}"], 0


def _check_sample(sample: ProtocolSample, path: Path) -> tuple[list[str], int]:
    """The faults of a prediction, and how many images of the sample it has a pose of."""
    try:
        scene = read_scene(path)
        if scene.names is None:
            fault = f"{path}: {scene.kind} does not name its images; write cameras.json, COLMAP or transforms.json"
            return [fault], 0
        # Names of the list have no suffix, which a file's may have.
        names = [_suffixed(name) for name in scene.names]
        matched = set(match_names(sample.images, list(dict.fromkeys(names)), path).values())
    except ValueError as error:
        return [str(error)], 0
    counts = collections.Counter(names)
    faults = [f"{path}: {name} is no image of the sample {sample.name}" for name in counts if name not in matched]
    faults += [f"{path}: {name} is there {count} times; keep one" for name, count in counts.items() if count > 1]
    return faults, len(matched)


def _suffixed(name: str) -> str:
    return name if re.search(r"\.\w{1,5}$", name) else f"{name}.jpg"
