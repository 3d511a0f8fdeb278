"""Some scenes of a source, or of records, looked at: what was found, and what it looks like."""

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from rig3r_jax.data.bad_frames import without_bad_frames
from rig3r_jax.data.scene import BadRecord, Scene
from rig3r_jax.inspection.claims import Claims, placed, read_claims
from rig3r_jax.inspection.depth_checks import judge_depth
from rig3r_jax.inspection.evidence import Matched, match_pairs
from rig3r_jax.inspection.findings import Finding, with_consequences
from rig3r_jax.inspection.judgement import judge_geometry
from rig3r_jax.inspection.motion_checks import judge_motion
from rig3r_jax.inspection.repeats import FirstImage, repeated_images, repeated_names
from rig3r_jax.inspection.scene_checks import judge_numbers

Loaders = Sequence[tuple[str, Callable[[], Scene]]]  # name of a scene, and what reads it


@dataclasses.dataclass(frozen=True, eq=False)
class Looked:
    """A scene that was read: its findings, and the evidence for pictures."""

    split: str
    claims: Claims
    matched: Sequence[Matched]
    findings: Sequence[Finding]


@dataclasses.dataclass(frozen=True)
class Scan:
    """All that was looked at."""

    scenes: Sequence[Looked]
    unread: Mapping[str, str]  # scenes that do not read, and why
    splits: Sequence[Finding]  # about the splits beside each other

    @property
    def findings(self) -> list[Finding]:
        """Of all scenes, then of the splits."""
        return [*itertools.chain.from_iterable(scene.findings for scene in self.scenes), *self.splits]

    @property
    def faulty(self) -> bool:
        """Whether anything is wrong. That nothing was read is."""
        return bool(self.unread) or not self.scenes or any(finding.fault for finding in self.findings)


def scan(splits: Mapping[str, Loaders], scenes: int, steps: int) -> Scan:
    """Looks at about `scenes` scenes of each split, spread over it, and at `steps` time steps of each.

    Names of all scenes are compared between the splits; of those that are read, first images too.
    """
    looked, unread, firsts = [], {}, {}
    for split, loaders in splits.items():
        for name, load in _spread(loaders, scenes):
            try:
                scene = without_bad_frames(load())
                looked.append(_look(split, scene, steps))
                firsts[split, name] = FirstImage.of(scene)
            except BadRecord as error:
                unread[f"{split}/{name}"] = str(error)
    names = {split: {name for name, _ in loaders} for split, loaders in splits.items()}
    return Scan(looked, unread, [*repeated_names(names), *repeated_images(firsts)])


def _look(split: str, scene: Scene, steps: int) -> Looked:
    claims = read_claims(scene, steps)
    matched = match_pairs(claims)
    return Looked(split, claims, matched, judge_scene(scene, claims, matched))


def judge_scene(scene: Scene, claims: Claims, matched: Sequence[Matched]) -> list[Finding]:
    """All findings of a scene; what follows from a mistake that is named says so."""
    geometry, mistake = judge_geometry(claims, matched)
    places = [placed(scene, frame) for frame in scene.frames]
    others = [*judge_motion(scene.name, places), *judge_depth(claims, matched)]
    if mistake is not None:
        undone = [*judge_motion(scene.name, mistake.undone.shots), *judge_depth(mistake.undone, matched)]
        others = with_consequences(others, undone, mistake.words)
    return [*judge_numbers(scene), *geometry, *others]


def _spread(loaders: Loaders, count: int) -> Loaders:
    return [loaders[i] for i in np.unique(np.linspace(0, len(loaders) - 1, min(count, len(loaders))).astype(int))]
