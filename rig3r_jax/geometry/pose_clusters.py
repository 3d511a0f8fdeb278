"""Poses sorted into places: how many places there are, which pose is of which, how surely; host float64.

Every pose is a place moved by an error: x = place exp(v, w), v and w normal with standard deviations that are the same
for all poses and not known. Nor is the number of places k. Compared are the log evidences of fits with k = 1, 2, ...:
the likelihood, with errors, places and labels integrated out (Laplace's approximation), under priors that name no size:

* log(sigma) is uniform between the rounding of the numbers and the extent of the poses (half a radian of rotations);
* the distance of a new place from its nearest neighbour is uniform in its logarithm over the same range, in length and
  in angle, so that two places 6 cm apart are as likely as two places 6 m apart: density 1 / (4 pi |d|^3 log(range));
* labels are uniform over those allowed: any of k, or different ones within a group (`group`).

So a place more costs Occam's factor (MacKay 2003, "Information Theory", chapter 28), and pays where the poses scatter
less about k + 1 places than their number of labels explains: BIC with its constants. A fit is EM with soft labels whose
predictive densities leave each pose out of its own place, Student's of the degrees of freedom that are left.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy.cluster.hierarchy import linkage
from scipy.spatial.distance import squareform

from rig3r_jax.geometry.place_em import PlaceFit, fitted, relabelled
from rig3r_jax.geometry.place_evidence import RESOLUTION, PlaceTask, squared_distances

_ROUNDS = 8  # of EM at most
_HOPELESS = 50.0  # nats below the best after a round: such a number of places is not fitted further


def fit_places(
    poses: Float[np.ndarray, "n 4 4"],
    counts: Iterable[int],
    group: Int[np.ndarray, " n"] | None = None,
    labelled: Int[np.ndarray, " n"] | None = None,
    resolution: float = RESOLUTION,
) -> list[PlaceFit]:
    """The best fit found for every number of places that the poses can have, by number.

    Args:
        poses: rigid and finite, at least one.
        counts: numbers to try; those that groups, known labels or the number of poses rule out are passed over, and so
            is a place for each pose where another number is left: poses that nothing repeats say nothing of the errors.
        group: poses of one number >= 0 are of different places; -1: of any.
        labelled: place 0.. of poses where it is known, numbered without gaps; -1: not.
        resolution: what is nearer, in lengths and radians, differs by rounding.

    Raises ValueError where no number is left, or known labels and groups leave a place without a pose.
    """
    n = len(poses)
    labelled = np.full(n, -1) if labelled is None else np.asarray(labelled, np.int64)
    group = np.full(n, -1) if group is None else np.asarray(group, np.int64)
    rows = [np.flatnonzero(group == number) for number in np.unique(group[group >= 0])]
    groups = [*rows, *np.flatnonzero(group < 0)[:, None]]
    lengths, angles = squared_distances(poses, poses)
    extent = max(float(np.sqrt(lengths.max())), 10 * resolution)
    task = PlaceTask(np.asarray(poses, np.float64), groups, labelled, resolution, extent)
    least = max(max(map(len, groups)), int(labelled.max(initial=-1)) + 1)
    usable = sorted({count for count in counts if least <= count <= n})
    if not usable:
        raise ValueError(f"{n} poses, {least} of which differ for certain, are of {least} to {n} places; try these")
    if usable[-1] == n and len(usable) > 1:
        usable.pop()
    cuts = [_cuts(tree, n, usable) for tree in _trees(np.sqrt(lengths), np.sqrt(angles), resolution)]
    starts = [[_start(labelled, cut[count], count) for cut in cuts] for count in usable]
    fits = _first_fits(task, starts, usable)
    if not np.isfinite(best := max(fit.log_evidence for fit in fits)):
        whole = [[start for start in starts[i] if len(np.unique(start)) == count] for i, count in enumerate(usable)]
        if len(groups) < n or not all(whole):  # images known to be together, or apart, leave a place without any
            raise ValueError(f"{n} poses do not fall into {' or '.join(map(str, usable))} places; try fewer")
        return [relabelled(task, of_count[0], count) for of_count, count in zip(whole, usable, strict=True)]
    hopeful = [i for i, fit in enumerate(fits) if fit.log_evidence > best - _HOPELESS]
    last = fitted(task, [fits[i].label for i in hopeful], [usable[i] for i in hopeful], _ROUNDS)
    for i, fit in zip(hopeful, last, strict=True):
        fits[i] = max(fit, fits[i], key=_log_evidence)
    return fits


def _trees(length: np.ndarray, angle: np.ndarray, resolution: float) -> list[np.ndarray]:
    """Average linkage by both in units of their distances to nearest neighbours, and by each alone."""
    if len(length) == 1:
        return [np.zeros((0, 4))]
    far = np.where(np.eye(len(length), dtype=bool), np.inf, 0.0)
    scaled = [d / max(float(np.median((d + far).min(axis=1))), resolution) for d in (length, angle)]
    metrics = [np.hypot(*scaled), *scaled]
    return [linkage(squareform((metric + metric.T) / 2, checks=False), method="average") for metric in metrics]


def _cuts(tree: np.ndarray, n: int, counts: Sequence[int]) -> dict[int, np.ndarray]:
    """Labels of n poses by a tree that is cut to so many clusters, for each of `counts`; 0.. by first appearance."""
    first, rows, cuts = list(range(n)), np.arange(n), {}  # the first pose of each node of the tree
    cluster = rows.copy()  # of each pose, the first pose of its cluster
    for number in range(n, 0, -1):
        if number in counts:
            cuts[number] = (np.cumsum(cluster == rows) - 1)[cluster]
        if number > 1:
            kept, merged = sorted(first[int(node)] for node in tree[n - number, :2])
            cluster[cluster == merged] = kept
            first.append(kept)
    return cuts


def _start(labelled: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    """Labels of a tree, made to agree with what is known."""
    if (labelled < 0).all():
        return labels
    places, used = np.full(count, -1), np.zeros(count, bool)
    for place in np.unique(labelled[labelled >= 0]):
        votes = np.bincount(labels[labelled == place], minlength=count)
        places[int(np.where(places < 0, votes, -1).argmax())], used[place] = place, True
    places[places < 0] = np.flatnonzero(~used)
    return np.where(labelled >= 0, labelled, places[labels])


def _first_fits(task: PlaceTask, starts: Sequence[Sequence[np.ndarray]], counts: Sequence[int]) -> list[PlaceFit]:
    """For each number of places a round from the best of its starts."""
    different = [list({start.tobytes(): start for start in of_count}.values()) for of_count in starts]
    repeated = [count for count, of_count in zip(counts, different, strict=True) for _ in of_count]
    fits = iter(fitted(task, [start for of_count in different for start in of_count], repeated, 0))
    best = [max((next(fits) for _ in of_count), key=_log_evidence).label for of_count in different]
    return fitted(task, best, counts, 1)


def _log_evidence(fit: PlaceFit) -> float:
    return fit.log_evidence
