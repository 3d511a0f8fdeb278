"""Some scenes of a source, or of records, looked at: what was found, and what it looks like."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence

import cv2
import numpy as np

from rig3r_jax.data.bad_frames import without_bad_frames
from rig3r_jax.data.image_bytes import decode_image
from rig3r_jax.data.scene import BadRecord, Scene
from rig3r_jax.inspection.claims import Claims, placed, read_claims
from rig3r_jax.inspection.depth_checks import judge_depth
from rig3r_jax.inspection.evidence import Matched, match_pairs
from rig3r_jax.inspection.findings import Finding, with_consequences
from rig3r_jax.inspection.judgement import judge_geometry
from rig3r_jax.inspection.motion_checks import judge_motion
from rig3r_jax.inspection.scene_checks import judge_numbers

Loaders = Sequence[tuple[str, Callable[[], Scene]]]  # name of a scene, and what reads it

_SAME_TIME = 1e-3  # seconds between two such images that are one
_SAME_BITS = 4  # of 64 that two images of different scenes may differ by and still be taken as one


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
                firsts[split, name] = _First.of(scene)
            except BadRecord as error:
                unread[f"{split}/{name}"] = str(error)
    names = {split: {name for name, _ in loaders} for split, loaders in splits.items()}
    return Scan(looked, unread, [*_repeated_names(names), *_repeated_images(firsts)])


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


def _repeated_names(names: Mapping[str, set[str]]) -> Iterator[Finding]:
    for a, b in itertools.combinations(names, 2):
        if shared := sorted(names[a] & names[b]):
            words = f"{', '.join(shared[:3])}{', ...' if len(shared) > 3 else ''}: scores on {b} are none of new scenes"
            yield Finding(f"{a} and {b}", "scenes in both splits", float(len(shared)), "", "none", True, words)


@dataclasses.dataclass(frozen=True)
class _First:
    """What tells a scene's first image again."""

    image: bytes
    time: float
    bits: int  # 64 that survive another encoding: which of 8 x 8 blocks are brighter than their right neighbour

    @staticmethod
    def of(scene: Scene) -> "_First":
        frame = scene.frames[0]
        grey = cv2.cvtColor(decode_image(frame.image), cv2.COLOR_RGB2GRAY)
        blocks = cv2.resize(grey, (9, 8), interpolation=cv2.INTER_AREA).astype(int)
        bits = int.from_bytes(np.packbits(blocks[:, 1:] > blocks[:, :-1]).tobytes(), "big")
        return _First(frame.image, frame.time, bits)


def _repeated_images(firsts: Mapping[tuple[str, str], _First]) -> Iterator[Finding]:
    """Scenes of two splits that begin alike: with one image, a fault; or at other times, as where the rig stands."""
    for ((split, name), a), ((other, other_name), b) in itertools.combinations(firsts.items(), 2):
        if split == other or name == other_name or (a.bits ^ b.bits).bit_count() > _SAME_BITS:
            continue
        same = a.image == b.image or abs(a.time - b.time) < _SAME_TIME
        alike = "with the same image" if same else f"alike, {abs(a.time - b.time):.3g} s apart: the rig stands there?"
        words = f"{split}/{name} and {other}/{other_name} begin {alike}"
        yield Finding(f"{split} and {other}", "images in both splits", 1.0, "", "none", same, words)
