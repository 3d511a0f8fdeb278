"""Some scenes of a source, or of records, looked at: what is wrong with them, and what it looks like."""

import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from rig3r_jax.data.bad_frames import without_bad_frames
from rig3r_jax.data.guard import guarded
from rig3r_jax.data.scene import BadRecord, Scene
from rig3r_jax.inspection.claims import Claims, Placed, placed, read_claims
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
    total_steps: int  # of the scene
    claims: Claims
    matched: Sequence[Matched]
    findings: Sequence[Finding]

    def __str__(self) -> str:
        steps = len({shot.step for shot in self.claims.shots})
        return (
            f"{self.split}/{self.claims.scene}: images of {steps} of {self.total_steps} time steps compared; "
            f"{len(self.matched)} of {len(self.claims.pairs)} pairs of images have matches enough"
        )


@dataclasses.dataclass(frozen=True)
class Scan:
    """All that was looked at."""

    total_scenes: Mapping[str, int]  # of each split
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
        return bool(self.faults)

    @property
    def faults(self) -> list[str]:
        """All that is wrong, in words. That nothing was read is."""
        faults = dict.fromkeys(f"{one.scene}, {one.what}: {one.words}" for one in self.findings if one.fault)
        faults |= dict.fromkeys(f"{scene} does not read: {reason}" for scene, reason in self.unread.items())
        return list(faults) if self.scenes or self.unread else ["there is no scene to look at"]

    @property
    def summary(self) -> str:
        """How many faults there are, and how much was looked at, in one line."""
        read = {split: sum(looked.split == split for looked in self.scenes) for split in self.total_scenes}
        counts = ", ".join(f"{read[split]} of {total} scenes of {split}" for split, total in self.total_scenes.items())
        count = len(self.faults)
        return f"{count or 'no'} fault{'s' if count != 1 else ''} in {counts or 'no split'}"


def scan(splits: Mapping[str, Loaders], scenes: int, steps: int) -> Scan:
    """Looks at about `scenes` scenes of each split, spread over it, and at `steps` time steps of each.

    Names of all scenes are compared between the splits; of those that are read, first images too.
    """
    looked, unread, firsts = [], {}, {}
    for split, loaders in splits.items():
        for name, load in _spread(loaders, scenes):
            try:
                scene = guarded(f"scene {name}", lambda load=load: without_bad_frames(load()))
                firsts[split, name] = FirstImage.of(scene)
                looked.append(_look(split, scene, steps))
            except BadRecord as error:
                unread[f"{split}/{name}"] = str(error)
    names = {split: {name for name, _ in loaders} for split, loaders in splits.items()}
    total_scenes = {split: len(loaders) for split, loaders in splits.items()}
    return Scan(total_scenes, looked, unread, [*repeated_names(names), *repeated_images(firsts)])


def _look(split: str, scene: Scene, steps: int) -> Looked:
    claims = read_claims(scene, steps)
    matched = match_pairs(claims)
    total_steps = len({frame.step for frame in scene.frames})
    return Looked(split, total_steps, claims, matched, judge_scene(scene, claims, matched))


def judge_scene(scene: Scene, claims: Claims, matched: Sequence[Matched]) -> list[Finding]:
    """All findings of a scene; what follows from a mistake that is named says so."""
    geometry, mistake = judge_geometry(claims, matched)

    def of_motion_and_depth(places: Sequence[Placed], claims: Claims) -> list[Finding]:
        motion = judge_motion(scene.name, places) if scene.ordered else []  # photographs have no times
        return [*motion, *judge_depth(claims, matched)]

    others = of_motion_and_depth([placed(scene, frame) for frame in scene.frames], claims)
    if mistake is not None:
        undone = of_motion_and_depth(mistake.undone.shots, mistake.undone)
        others = with_consequences(others, undone, mistake.words)
    return [*judge_numbers(scene), *geometry, *others]


def _spread(loaders: Loaders, count: int) -> Loaders:
    return [loaders[i] for i in np.unique(np.linspace(0, len(loaders) - 1, min(count, len(loaders))).astype(int))]
