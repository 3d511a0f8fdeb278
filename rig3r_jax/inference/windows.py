"""Which images go through a model together, when they are more than fit one pass: windows that share images.

Images with an order: runs of consecutive time steps, each overlapping the next. Without an order: groups that look
alike (`retrieval`). Where a sequence comes back to a place, a window more holds images of both times (`loops`).
"""

import dataclasses
import math
import typing
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from rig3r_jax.inference.loops import loop_pairs
from rig3r_jax.inference.retrieval import lonely_images, retrieval_windows, similarities
from rig3r_jax.inference.shots import Shot

# Share of a window's images that the next one has too. `rig3r bench drift` compares others: less saves passes, but the
# unit and the turn of each window are then known from few images, and their errors add up along the way.
OVERLAP = 0.4
LEAST_SHARED = 2  # images of two windows: their distance tells the ratio of the windows' length units
LEAST_SIZE = LEAST_SHARED + 1  # images of a window, so that the next one gets any further


@typing.no_type_check
@dataclasses.dataclass(frozen=True)
class Facts:
    """What is known of each image's place in an order."""

    step: Int[np.ndarray, " n"]  # images of one number >= 0 were taken together, by the cameras of a rig; -1: alone
    time: Float[np.ndarray, " n"]  # seconds; NaN where not known
    camera: Int[np.ndarray, " n"]  # number of the physical camera; -1 where not known

    @classmethod
    def of(cls, shots: Sequence[Shot]) -> "Facts":
        """Of photographs in the order of their names."""
        names = dict.fromkeys(shot.photograph.camera for shot in shots if shot.photograph.camera is not None)
        numbers = {None: -1} | {name: number for number, name in enumerate(names)}
        steps = [shot.photograph.step for shot in shots]
        return cls(
            np.array([-1 if step is None else step for step in steps], np.int64),
            np.array([np.nan if shot.time is None else shot.time for shot in shots], np.float64),
            np.array([numbers[shot.photograph.camera] for shot in shots], np.int64),
        )


@typing.no_type_check
@dataclasses.dataclass(frozen=True)
class WindowPlan:
    """Windows, in the order in which they are joined; those of loops are the last."""

    windows: tuple[Int[np.ndarray, " k"], ...]  # numbers of images, ascending
    loops: tuple[tuple[int, int], ...] = ()  # images that seem to show one place, of each loop's window
    lonely: tuple[int, ...] = ()  # images that look like no other: where they belong is a guess

    @property
    def passes(self) -> int:
        """Images that go through the model in all, those of several windows several times."""
        return sum(map(len, self.windows))


def plan_windows(
    facts: Facts,
    size: int,
    overlap: float = OVERLAP,
    ordered: bool = True,
    descriptors: Float[np.ndarray, "n d"] | None = None,
    most_loops: int | None = None,
) -> WindowPlan:
    """Windows of at most `size` images that hold every image; each shares two or more with one before it.

    Args:
        facts: of the images.
        size: images that fit one pass.
        overlap: share of a window's images, at least, that the next one has too, where whole time steps allow that.
        ordered: images are sequences: by time where all times are known, else in the order given.
        descriptors: unit vectors; images that show the same things have large products. Needed where not `ordered`;
            of sequences they tell loops, which are not looked for without.
        most_loops: windows of loops at most; None: half as many as there are other windows.

    Raises ValueError for sizes and overlaps that leave nothing to share.
    """
    count = len(facts.step)
    if not 0 <= overlap <= 0.9:
        raise ValueError(f"overlap={overlap} must be in 0..0.9: the share of a window's images that the next has too")
    if count <= size:
        return WindowPlan((np.arange(count),))
    if size < LEAST_SIZE:
        raise ValueError(
            f"{count} images in windows of {size}: each must share {LEAST_SHARED} with the next; let a pass take at "
            f"least {LEAST_SIZE}"
        )
    shared = min(max(LEAST_SHARED, math.ceil(overlap * size)), size - 1)
    if not ordered:
        if descriptors is None:
            raise ValueError(
                f"{count} images without an order in windows of {size}: what they show must be compared, which this "
                "model has no descriptors for; give them in the order of their taking, or let a pass take all"
            )
        similarity = similarities(descriptors)
        return WindowPlan(tuple(retrieval_windows(similarity, size, shared)), lonely=lonely_images(similarity))
    order, moment = snake(facts)
    windows = [np.sort(order[start:stop]) for start, stop in _runs(moment, size, shared)]
    if descriptors is None or size < 2 * LEAST_SHARED:
        return WindowPlan(tuple(windows))
    reach = max(1, round(size / count * (moment[-1] + 1)))  # time steps of a window
    limit = len(windows) // 2 if most_loops is None else most_loops
    loops = loop_pairs(similarities(descriptors[order]), moment, reach, limit)
    windows += [_both_places(order, moment, pair, size) for pair in loops]
    return WindowPlan(tuple(windows), tuple((int(order[one]), int(order[other])) for one, other in loops))


def snake(facts: Facts) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """The images in the order of windows, and the number of the time step of each of them there.

    Time steps ascend; the cameras of every other step descend. Neighbours in this order are cameras of one step or one
    camera at two, so that any run of it holds together, also one that is shorter than a step.
    """
    rows = np.arange(len(facts.step))
    alone = facts.step < 0
    keys = np.where(alone, facts.step.max(initial=-1) + 1 + rows, facts.step)
    _, first, group = np.unique(keys, return_index=True, return_inverse=True)
    start = first.astype(np.float64)
    if np.isfinite(facts.time).all():
        start = np.full(len(first), np.inf)
        np.minimum.at(start, group, facts.time)
    rank = np.empty(len(first), np.int64)
    rank[np.lexsort((first, start))] = np.arange(len(first))
    moment = rank[group]
    backwards = np.where(moment % 2, -1, 1)
    order = np.lexsort((backwards * rows, backwards * facts.camera, moment))
    return order, moment[order]


def _runs(moment: Int[np.ndarray, " n"], size: int, shared: int) -> list[tuple[int, int]]:
    """[start, stop) of each window in the order of `snake`: of whole steps where two of these fit a window, else from
    a step's begin on where one and two images more fit, else anything."""
    begins = np.flatnonzero(np.diff(moment, prepend=-1))
    ends, every = np.append(begins[1:], len(moment)), np.arange(len(moment) + 1)
    for starts, stops in ((begins, ends), (begins, every), (every, every)):
        if runs := _overlapping(starts, stops, size, shared):
            return runs
    raise AssertionError("runs of single images always overlap")


def _overlapping(
    starts: Int[np.ndarray, " s"], stops: Int[np.ndarray, " e"], size: int, shared: int
) -> list[tuple[int, int]]:
    """Runs from allowed starts to allowed stops, as long as `size` lets them be, the last one too; [] where two
    neighbours would share less than LEAST_SHARED."""
    first = stops[(stops > 0) & (stops <= size)]
    if not len(first):
        return []
    runs = [(0, int(first[-1]))]
    while runs[-1][1] < stops[-1]:
        start, stop = runs[-1]
        later = starts[(starts > start) & (starts <= stop - LEAST_SHARED)]
        reach = stops[np.searchsorted(stops, later + size, side="right") - 1]
        later, reach = later[reach > stop], reach[reach > stop]
        if not len(later):
            return []
        sharing = np.flatnonzero(later <= stop - shared)
        best = int(sharing[-1]) if len(sharing) else 0
        if reach[best] == stops[-1]:
            best = int(np.flatnonzero(reach == stops[-1])[0])  # the last run is as long as the others
        runs.append((int(later[best]), int(reach[best])))
    return runs


def _both_places(
    order: Int[np.ndarray, " n"], moment: Int[np.ndarray, " n"], pair: tuple[int, int], size: int
) -> Int[np.ndarray, " k"]:
    """Images around both of a pair, half of the window each."""
    places = np.concatenate([_around(moment, place, size // 2) for place in pair])
    return np.unique(order[places])


def _around(moment: Int[np.ndarray, " n"], place: int, most: int) -> Int[np.ndarray, " k"]:
    """Places around one: of whole steps, the nearest first, while they fit; where its own does not, as many as fit."""
    own = moment[place]
    if np.count_nonzero(moment == own) > most:
        start = min(max(place - most // 2, 0), len(moment) - most)
        return np.arange(start, start + most)
    chosen = np.zeros(0, np.int64)
    for step in sorted(set(moment.tolist()), key=lambda step: (abs(step - own), -step)):
        of_step = np.flatnonzero(moment == step)
        if len(chosen) + len(of_step) > most:
            break
        chosen = np.append(chosen, of_step)
    return chosen
