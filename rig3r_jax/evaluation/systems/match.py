"""Which image of a system's output is which of the truth: by name, by camera and time, or by order."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from rig3r_jax.data.image_names import match_names
from rig3r_jax.evaluation.systems.options import SystemOptions
from rig3r_jax.evaluation.systems.scene import PosedScene

WAYS = ("auto", "name", "time", "order")


@dataclasses.dataclass(frozen=True)
class Matched:
    """Rows of the same images in both, in the order of the truth."""

    predicted: Int[np.ndarray, " m"]
    true: Int[np.ndarray, " m"]
    way: str  # one of WAYS but auto
    strangers: int  # predicted images that are none of the truth


def match(
    predicted: PosedScene,
    true: PosedScene,
    way: str = SystemOptions.match,
    longest_gap: float = SystemOptions.longest_gap,
) -> Matched:
    """The common images of two scenes.

    Args:
        predicted: of a system; images may be missing, and others there.
        true: what it is measured against.
        way: auto takes names where both have them, else times. Order is taken only where it is asked for, and wants
            the same number of images on both sides.
        longest_gap: seconds between two times of one image. Where both name cameras, these must be equal too.

    Raises:
        ValueError: names both files: no way to tell, or no image in common.
    """
    if way not in WAYS:
        raise ValueError(f"match {way!r} is unknown; choose from {', '.join(WAYS)}")
    if not len(predicted) or not len(true):
        none = np.zeros(0, np.int64)
        return Matched(none, none, "order", 0)
    both = f"{predicted.source} and {true.source}"
    if way == "auto":
        way = _way(predicted, true, both)
    if way == "order":
        if len(predicted) != len(true):
            raise ValueError(f"{both}: {len(predicted)} and {len(true)} images; by order there must be as many in both")
        rows = np.arange(len(true))
        return Matched(rows, rows, way, 0)
    lack = [scene.source for scene in (predicted, true) if (scene.names if way == "name" else scene.times) is None]
    if lack:
        raise ValueError(f"{lack[0]}: states no {way}s of its images; give another --match")
    pairs = _by_name(predicted, true) if way == "name" else _by_time(predicted, true, longest_gap)
    if not pairs:
        raise ValueError(f"{both}: have no image in common by {way}: {_examples(predicted, true, way, longest_gap)}")
    rows_predicted, rows_true = (
        np.array(side, np.int64) for side in zip(*sorted(pairs, key=lambda p: p[1]), strict=True)
    )
    return Matched(rows_predicted, rows_true, way, len(predicted) - len(pairs))


def _way(predicted: PosedScene, true: PosedScene, both: str) -> str:
    if predicted.names is not None and true.names is not None:
        return "name"
    if predicted.times is not None and true.times is not None:
        return "time"
    raise ValueError(
        f"{both}: nothing tells which image is which: {predicted.kind} and {true.kind} have neither names nor times in "
        "common; give --match order where the images are the same in the same order"
    )


def _by_name(predicted: PosedScene, true: PosedScene) -> list[tuple[int, int]]:
    images = match_names(predicted.names, true.names, predicted.source)
    row_true = {name: row for row, name in enumerate(true.names)}
    return [(row, row_true[images[name]]) for row, name in enumerate(predicted.names) if name in images]


def _by_time(predicted: PosedScene, true: PosedScene, longest_gap: float) -> list[tuple[int, int]]:
    """The nearest in time of each camera, the closest pairs first, each image once."""
    pairs = []
    stem = Path(predicted.source).stem
    if predicted.cameras is None and stem in (true.cameras or ()):  # one trajectory, named after its camera
        predicted = dataclasses.replace(predicted, cameras=(stem,) * len(predicted))
    cameras = set(predicted.cameras or ()) & set(true.cameras or ())
    for camera in sorted(cameras) or [None]:
        ours, theirs = (_rows(scene, camera) for scene in (predicted, true))
        several = true.names is not None or len(set(true.cameras or ())) > 1  # a trajectory may repeat a time
        if camera is None and several and len(np.unique(true.times[theirs])) < len(theirs):
            raise ValueError(
                f"{true.source}: images were taken at one time, and {predicted.source} does not name the cameras "
                f"as it does; name trajectories after them: {', '.join(sorted(set(true.cameras or ['?'])))}"
            )
        used_ours, used_theirs = set(), set()
        for _, i, j in sorted(_candidates(predicted.times[ours], true.times[theirs], longest_gap)):
            if i not in used_ours and j not in used_theirs:
                used_ours.add(i)
                used_theirs.add(j)
                pairs.append((int(ours[i]), int(theirs[j])))
    return pairs


def _candidates(
    ours: Float[np.ndarray, " n"], theirs: Float[np.ndarray, " m"], longest_gap: float
) -> Iterator[tuple[float, int, int]]:
    """Gap and rows of each of theirs with the two of ours before it and the two after it, within the gap."""
    order = np.argsort(ours, kind="stable")
    after = np.searchsorted(ours[order], theirs)
    for j, place in enumerate(after.tolist()):
        for i in order[max(place - 2, 0) : place + 2].tolist():
            if (gap := abs(float(ours[i] - theirs[j]))) <= longest_gap:
                yield gap, i, j


def _rows(scene: PosedScene, camera: str | None) -> Int[np.ndarray, " n"]:
    rows = np.arange(len(scene))
    return rows if camera is None else rows[np.array([name == camera for name in scene.cameras])]


def _examples(predicted: PosedScene, true: PosedScene, way: str, longest_gap: float) -> str:
    if way == "name":
        return f"{_some(predicted.names)} there, {_some(true.names)} here; name them alike, or give another --match"
    clocks = [f"{scene.times.min():.3f} to {scene.times.max():.3f} s" for scene in (predicted, true)]
    return f"{clocks[0]} and {clocks[1]}, {longest_gap} s apart at most; use one clock, or raise --max-gap"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:2])
