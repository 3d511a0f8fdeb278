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

import dataclasses
import typing
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy.cluster.hierarchy import cut_tree, linkage
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import squareform

from rig3r_jax.geometry import rigid
from rig3r_jax.geometry.place_evidence import (
    MOST_RADIANS,
    RESOLUTION,
    PlaceTask,
    log_errors,
    log_labels,
    log_separations,
    squared_distances,
)

_ROUNDS = 8  # of EM at most
_CONVERGED = 1e-2  # the largest change of a label's probability
_HOPELESS = 50.0  # nats below the best after a round: such a number of places is not fitted further
_NEVER = -1e9  # log density of a label that is not allowed
_LEFT = 0.3  # poses, at least, that a place is taken to have beside one that is left out


@typing.no_type_check
@dataclasses.dataclass(frozen=True)
class PlaceFit:
    """Poses about k places.

    label, probability: the likeliest place of each pose, different ones within a group; of every place, by the model.
    place: the means.
    sigma_length, sigma_rad: of the errors along and about each axis; NaN where no place has two poses.
    log_evidence: up to what is the same for every k.
    """

    label: Int[np.ndarray, " n"]
    probability: Float[np.ndarray, "n k"]
    place: Float[np.ndarray, "k 4 4"]
    sigma_length: float
    sigma_rad: float
    log_evidence: float

    @property
    def count(self) -> int:
        """k."""
        return len(self.place)


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
        counts: numbers to try; those that groups, known labels or the number of poses rule out are passed over.
        group: poses of one number >= 0 are of different places; -1: of any.
        labelled: place 0.. of poses where it is known, numbered without gaps; -1: not.
        resolution: what is nearer, in lengths and radians, differs by rounding.

    Raises ValueError where no number is left.
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
    trees = _trees(np.sqrt(lengths), np.sqrt(angles), resolution)
    cuts = [cut_tree(tree, n_clusters=usable) if n > 1 else np.zeros((1, 1), np.int64) for tree in trees]
    starts = [_first_fit(task, [cut[:, i] for cut in cuts], count) for i, count in enumerate(usable)]
    if not np.isfinite(best := max(fit.log_evidence for fit in starts)):
        if len(groups) < n:
            raise ValueError(f"{n} poses do not fall into {' or '.join(map(str, usable))} places; try fewer")
        return [_of_tree(task, np.array(_start(task, cuts[0][:, i], k)), k) for i, k in enumerate(usable)]
    return [
        max(_fitted(task, fit.label, fit.count), fit, key=lambda one: one.log_evidence)
        if fit.log_evidence > best - _HOPELESS
        else fit
        for fit in starts
    ]


def _trees(length: np.ndarray, angle: np.ndarray, resolution: float) -> list[np.ndarray]:
    """Average linkage by both in units of their distances to nearest neighbours, and by each alone."""
    if len(length) == 1:
        return [np.zeros((0, 4))]
    far = np.where(np.eye(len(length), dtype=bool), np.inf, 0.0)
    scaled = [d / max(float(np.median((d + far).min(axis=1))), resolution) for d in (length, angle)]
    metrics = [np.hypot(*scaled), *scaled]
    return [linkage(squareform((metric + metric.T) / 2, checks=False), method="average") for metric in metrics]


def _start(task: PlaceTask, labels: np.ndarray, count: int) -> list[int]:
    """Labels of a tree, made to agree with what is known."""
    if (task.labelled < 0).all():
        return labels.tolist()
    places, used = np.full(count, -1), np.zeros(count, bool)
    for place in np.unique(task.labelled[task.labelled >= 0]):
        votes = np.bincount(labels[task.labelled == place], minlength=count)
        places[int(np.where(places < 0, votes, -1).argmax())], used[place] = place, True
    places[places < 0] = np.flatnonzero(~used)
    return np.where(task.labelled >= 0, task.labelled, places[labels]).tolist()


def _first_fit(task: PlaceTask, cuts: Sequence[np.ndarray], count: int) -> PlaceFit:
    """A round from the best of the cuts of trees."""
    starts = {tuple(_start(task, labels, count)) for labels in cuts}
    fits = (_fitted(task, np.array(start), count, rounds=0) for start in starts)
    return _fitted(task, max(fits, key=lambda fit: fit.log_evidence).label, count, rounds=1)


def _fitted(task: PlaceTask, labels: np.ndarray, count: int, rounds: int = _ROUNDS) -> PlaceFit:
    """By so many rounds of EM, from labels."""
    free = 3 * (len(labels) - count)
    weights, label, entropy = np.eye(count)[labels], labels, 0.0
    allowed = (task.labelled[:, None] < 0) | (task.labelled[:, None] == np.arange(count))
    for _ in range(rounds):
        totals = weights.sum(axis=0)
        if totals.min() < _LEFT:
            return _of_fewer(label, weights)
        place, squares, sigmas = _moments(task, weights, free)
        if not free:
            break
        densities = _predictive(task, weights, place, sigmas, free)
        label, moved, entropy = _labelled(task, np.where(allowed, densities, _NEVER))
        change, weights = np.abs(moved - weights).max(), moved
        if change < _CONVERGED:
            break
    totals = weights.sum(axis=0)
    if totals.min() < _LEFT or len(np.unique(label)) < count:
        return _of_fewer(label, weights)
    place, squares, sigmas = _moments(task, weights, free)
    evidence = log_labels(task, count) + entropy - 3 * np.sum(np.log(totals)) - log_separations(
        task, place, totals, sigmas)  # fmt: skip
    for square, sigma, log_range in zip(squares, sigmas, task.logs, strict=True):
        evidence += log_errors(float(np.sum(weights * square)), free, sigma, log_range)
    sigmas = sigmas if free else (np.nan, np.nan)
    return PlaceFit(label, weights, place, *map(float, sigmas), float(evidence))


def _of_tree(task: PlaceTask, labels: np.ndarray, count: int) -> PlaceFit:
    """Labels as they are, of more places than EM leaves poses for; with what EM says of them after a round."""
    fit = _fitted(task, labels, count, rounds=0)
    free = 3 * (len(labels) - count)
    logs = _predictive(task, fit.probability, fit.place, (fit.sigma_length, fit.sigma_rad), free)
    allowed = (task.labelled[:, None] < 0) | (task.labelled[:, None] == np.arange(count))
    return dataclasses.replace(fit, probability=_labelled(task, np.where(allowed, logs, _NEVER))[1])


def _of_fewer(label: np.ndarray, weights: np.ndarray) -> PlaceFit:
    """What becomes of a fit one of whose places no pose is of, or is no pose's likeliest: nothing, by its evidence."""
    count = weights.shape[1]
    return PlaceFit(label, weights, np.tile(np.eye(4), (count, 1, 1)), np.nan, np.nan, -np.inf)


def _moments(task: PlaceTask, weights: np.ndarray, free: int) -> tuple[np.ndarray, tuple, tuple]:
    """Mean places, squared distances and angles of all poses to all places, and the sigmas within their bounds."""
    shares = weights / weights.sum(axis=0)
    rotation = rigid.nearest_rotation(np.einsum("nk,nij->kij", shares, task.poses[:, :3, :3]))
    place = rigid.from_rotation_translation(rotation, shares.T @ task.poses[:, :3, 3])
    squares = squared_distances(task.poses, place)
    variances = [np.sum(weights * square) / max(free, 1) for square in squares]
    most = (task.extent, MOST_RADIANS)
    bounded = [np.sqrt(np.clip(v, task.resolution**2, m**2)) for v, m in zip(variances, most, strict=True)]
    return place, squares, tuple(bounded)


def _predictive(task: PlaceTask, weights: np.ndarray, place: np.ndarray, sigmas: tuple, free: int) -> np.ndarray:
    """Log densities of every pose at each place by the place's poses in other groups, up to what is the same for all.

    A place that no other group has is anywhere, by the prior of places, about the nearest one of the others.
    """
    away = np.empty_like(weights)  # how many poses each place has in other groups
    centers = np.empty((*weights.shape, 3)), np.empty((*weights.shape, 9))
    coordinates = task.poses[:, :3, 3], task.poses[:, :3, :3].reshape(-1, 9) / np.sqrt(2)  # a chord is an angle here
    for rows in task.groups_by_size:
        away[rows] = (weights.sum(axis=0) - weights[rows].sum(axis=1))[:, None]
        for mean, x in zip(centers, coordinates, strict=True):
            left = weights.T @ x - np.einsum("gmk,gmd->gkd", weights[rows], x[rows])
            mean[rows] = (left / np.maximum(away[rows][:, 0], _LEFT)[..., None])[:, None]
    new = away < 0.5
    spread, logs, logs_new = 1 + 1 / np.maximum(away, _LEFT), np.zeros_like(weights), np.zeros_like(weights)
    apart = squared_distances(task.poses, place)
    for mean, x, sigma, square, log_range in zip(centers, coordinates, sigmas, apart, task.logs, strict=True):
        deviation = np.sum((x[:, None] - mean) ** 2, axis=-1) / (spread * sigma**2)
        logs -= (free + 3) / 2 * np.log1p(deviation / free) + 1.5 * np.log(spread)
        if new.any():
            order = np.argsort(square, axis=1)[:, : min(2, len(place))]
            nearest = np.where(order[:, :1] == np.arange(len(place)), order[:, -1:], order[:, :1])  # of the others
            logs_new += 1.5 * np.log(2 * np.pi) - np.log(4 * np.pi * log_range)
            logs_new -= 1.5 * np.log1p(np.take_along_axis(square, nearest, axis=1) / sigma**2)
    return np.where(new, logs_new, logs)


def _labelled(task: PlaceTask, logs: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """The likeliest labels, probabilities of all, and the entropy of the labels.

    Within a group the labels are those of the Hungarian assignment; what competes with it are the exchanges of two
    labels, or of one with a label that is free in the group.
    """
    label, probability, entropy = np.argmax(logs, axis=1), np.zeros_like(logs), 0.0
    for rows in task.groups_by_size:
        size = rows.shape[1]
        of_groups, taken = logs[rows], label[rows]
        for number in np.flatnonzero((np.diff(np.sort(taken, axis=1), axis=1) == 0).any(axis=1)):
            taken[number] = linear_sum_assignment(of_groups[number], maximize=True)[1]
        label[rows] = taken
        loss = np.take_along_axis(of_groups, taken[..., None], axis=2) - of_groups
        # Who has a label takes that of the image which takes it.
        exchange = np.swapaxes(np.take_along_axis(loss, np.repeat(taken[:, None], size, axis=1), axis=2), 1, 2)
        loss[np.arange(len(rows))[:, None, None], np.arange(size)[:, None], taken[:, None]] += exchange
        odds = np.exp(-np.clip(loss, 0.0, 700.0))
        odds /= odds.sum(axis=2, keepdims=True)
        own = np.take_along_axis(odds, taken[..., None], axis=2)[..., 0]
        inside = np.take_along_axis(odds, np.repeat(taken[:, None], size, axis=1), axis=2).sum(axis=2)
        exchanged = np.divide(inside - own, 1 - own, out=np.zeros_like(own), where=own < 1)
        probability[rows] = odds
        entropy += float(np.sum(_entropies(odds) * (1 - 0.5 * exchanged)))  # both images of an exchange have it
    return label, probability, entropy


def _entropies(probability: np.ndarray) -> np.ndarray:
    return -np.sum(probability * np.log(np.maximum(probability, 1e-300)), axis=-1)
