"""Fits of poses about places, from labels: EM as `pose_clusters` describes it, of many fits at once; host float64.

Fits of different numbers k of places stand beside each other, padded to the most of them: on a few dozen poses a call
of NumPy takes as long for one fit as for twenty. Axes: f fits, n poses, k places, g groups of m poses.
"""

import dataclasses
import typing
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.optimize import linear_sum_assignment

from rig3r_jax.geometry import rigid
from rig3r_jax.geometry.place_evidence import (
    MOST_RADIANS,
    PlaceTask,
    log_errors,
    log_labels,
    log_separations,
    squared_distances,
)

_CONVERGED = 1e-2  # the largest change of a label's probability
_NEVER = -1e9  # log density of a label that is not allowed
_LEFT = 0.3  # poses, at least, that a place is taken to have beside one that is left out
_AT_ONCE = 2**14  # fits x poses x places that are worked on at once: arrays of 128 KB, which allocators keep


@typing.no_type_check
@dataclasses.dataclass(frozen=True)
class PlaceFit:
    """Poses about k places.

    label, probability: the likeliest place of each pose, different ones within a group; of every place, by the model.
    place: the means.
    sigma_length, sigma_rad: of the errors along and about each axis; NaN where no place has two poses.
    log_evidence: up to what is the same for every k; -inf where a place has no pose left.
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


@typing.no_type_check
@dataclasses.dataclass
class _Fits:
    """Fits under way: `weights` are the labels' probabilities, 0 of the places that only pad."""

    task: PlaceTask
    count: Int[np.ndarray, " f"]
    label: Int[np.ndarray, "f n"]
    weights: Float[np.ndarray, "f n k"]
    entropy: Float[np.ndarray, " f"]  # of the labels

    @classmethod
    def of_labels(cls, task: PlaceTask, labels: Int[np.ndarray, "f n"], count: Int[np.ndarray, " f"]) -> "_Fits":
        weights = (labels[..., None] == np.arange(count.max())).astype(np.float64)
        return cls(task, count, labels.copy(), weights, np.zeros(len(count)))

    def of(self, rows: np.ndarray) -> "_Fits":
        """Some of them, copied."""
        return _Fits(self.task, self.count[rows], self.label[rows], self.weights[rows], self.entropy[rows])

    @property
    def real(self) -> Bool[np.ndarray, "f k"]:
        """Places that do not only pad."""
        return np.arange(self.weights.shape[2]) < self.count[:, None]

    @property
    def free(self) -> Int[np.ndarray, " f"]:
        """Degrees of freedom of the errors, of lengths or of rotations."""
        return 3 * (self.label.shape[1] - self.count)

    @property
    def populated(self) -> Bool[np.ndarray, " f"]:
        """Whether every place has a part of a pose, by the weights."""
        return np.where(self.real, self.weights.sum(axis=1), np.inf).min(axis=1) >= _LEFT

    @property
    def allowed(self) -> Bool[np.ndarray, "f n k"]:
        """Labels that agree with what is known."""
        labelled = self.task.labelled[:, None]
        return ((labelled < 0) | (labelled == np.arange(self.weights.shape[2]))) & self.real[:, None]


def fitted(
    task: PlaceTask, labels: Sequence[Int[np.ndarray, " n"]], counts: Sequence[int], rounds: int
) -> list[PlaceFit]:
    """By so many rounds of EM at most, from labels 0..count-1; one fit for each."""
    count = np.asarray(counts)
    at_once = max(1, _AT_ONCE // (len(task.poses) * count.max()))
    fits: list[PlaceFit] = []
    for first in range(0, len(count), at_once):
        part = slice(first, first + at_once)
        fits += _described(_after_rounds(_Fits.of_labels(task, np.stack(labels[part]), count[part]), rounds))
    return fits


def relabelled(task: PlaceTask, label: Int[np.ndarray, " n"], count: int) -> PlaceFit:
    """Labels as they are, of more places than EM leaves poses for; with what EM says of them after a round."""
    fits = _Fits.of_labels(task, label[None], np.array([count]))
    (fit,) = _described(fits)
    return dataclasses.replace(fit, probability=_labelled(task, _log_densities(fits, *_moments(fits)))[1][0])


def _after_rounds(fits: _Fits, rounds: int) -> _Fits:
    """The same, each until it converges or a place of it has lost its poses."""
    active = fits.free > 0
    for _ in range(rounds):
        active &= fits.populated
        if not active.any():
            break
        part = fits.of(active)
        fits.label[active], moved, fits.entropy[active] = _labelled(part.task, _log_densities(part, *_moments(part)))
        fits.weights[active] = moved
        active[active] = np.abs(moved - part.weights).max(axis=(1, 2)) >= _CONVERGED
    return fits


def _described(fits: _Fits) -> Iterator[PlaceFit]:
    """What comes out; without evidence where no pose is of a place, or a place is no pose's likeliest."""
    with_label = (fits.label[..., None] == np.arange(fits.weights.shape[2])).any(axis=1)
    whole = fits.populated & (with_label | ~fits.real).all(axis=1)
    place, sigmas = np.tile(np.eye(4), (*fits.real.shape, 1, 1)), np.full((len(fits.count), 2), np.nan)
    evidence = np.full(len(fits.count), -np.inf)
    if whole.any():
        part = fits.of(whole)
        place[whole], squares, part_sigmas = _moments(part)
        evidence[whole] = _log_evidence(part, place[whole], squares, part_sigmas)
        sigmas[whole] = np.where(part.free[:, None] > 0, part_sigmas, np.nan)
    for i, k in enumerate(fits.count.tolist()):
        yield PlaceFit(fits.label[i], fits.weights[i, :, :k], place[i, :k], *map(float, sigmas[i]), float(evidence[i]))


def _log_evidence(fits: _Fits, place: np.ndarray, squares: np.ndarray, sigmas: np.ndarray) -> np.ndarray:
    totals = np.where(fits.real, fits.weights.sum(axis=1), 1.0)
    evidence = log_labels(fits.task, fits.count) + fits.entropy - 3 * np.sum(np.log(totals), axis=1)
    evidence -= log_separations(fits.task, place, totals, sigmas, fits.count)
    scatter = np.sum(fits.weights * squares, axis=(2, 3))
    for square, sigma, log_range in zip(scatter, sigmas.T, fits.task.logs, strict=True):
        evidence += log_errors(square, fits.free, sigma, log_range)
    return evidence


def _moments(fits: _Fits) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean places; squared distances and angles (2 f n k) of poses to them; sigmas (f 2) within their bounds."""
    task, real = fits.task, fits.real
    sums = np.swapaxes(fits.weights, 1, 2) @ task.poses[:, :3].reshape(-1, 12)
    means = sums[real].reshape(-1, 3, 4) / fits.weights.sum(axis=1)[real][:, None, None]
    place = np.tile(np.eye(4), (*real.shape, 1, 1))
    place[real] = rigid.from_rotation_translation(rigid.nearest_rotation(means[..., :3]), means[..., 3])
    squares = np.stack(squared_distances(task.poses, place))
    variances = np.sum(fits.weights * squares, axis=(2, 3)).T / np.maximum(fits.free, 1)[:, None]
    return place, squares, np.sqrt(np.clip(variances, task.resolution**2, [task.extent**2, MOST_RADIANS**2]))


def _log_densities(fits: _Fits, place: np.ndarray, squares: np.ndarray, sigmas: np.ndarray) -> np.ndarray:
    """Log densities of every pose at each place by the place's poses in other groups, up to what is the same for all.

    A place that no other group has is anywhere, by the prior of places, about the nearest one of the others.
    """
    task, weights, free = fits.task, fits.weights, fits.free[:, None, None]
    away = np.empty_like(weights)  # how many poses each place has in other groups
    for rows in task.groups_by_size:
        away[:, rows] = (weights.sum(axis=1)[:, None] - weights[:, rows].sum(axis=2))[:, :, None]
    centered = task.poses[:, :3, 3] - task.poses[:, :3, 3].mean(axis=0)
    chords = task.poses[:, :3, :3].reshape(-1, 9) / np.sqrt(2)  # which are angles here
    squared = np.stack([_squared_to_others(task, weights, away, x) for x in (centered, chords)])
    spread = 1 + 1 / np.maximum(away, _LEFT)
    deviations = squared / (spread * sigmas.T[:, :, None, None] ** 2)
    logs = -(free + 3) / 2 * np.log1p(deviations / free).sum(axis=0) - 3 * np.log(spread)
    new = (away < 0.5) & fits.real[:, None]
    if new.any():
        logs = np.where(new, _log_prior(fits, squares, sigmas), logs)
    return np.where(fits.allowed, logs, _NEVER)


def _squared_to_others(task: PlaceTask, weights: np.ndarray, away: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Squared distances (f n k) of every pose to the mean of each place's poses in other groups, of coordinates x.

    By inner products: differences to every such mean, a dimension more, take several times as long.
    """
    sums = np.swapaxes(weights, 1, 2) @ x
    to_sums = x @ np.swapaxes(sums, 1, 2)
    squared, left = np.empty_like(weights), np.maximum(away, _LEFT)
    for rows in task.groups_by_size:
        w, of_sums, divisor = weights[:, rows], to_sums[:, rows], left[:, rows]
        to_own = np.einsum("gid,gjd->gij", x[rows], x[rows]) @ w  # with the sums of the group's own poses
        own = np.sum(w * (to_own - 2 * of_sums), axis=2, keepdims=True)
        means = (np.sum(sums**2, axis=2)[:, None, None] + own) / divisor**2
        squared[:, rows] = np.sum(x[rows] ** 2, axis=2)[..., None] - 2 * (of_sums - to_own) / divisor + means
    return np.maximum(squared, 0.0)


def _log_prior(fits: _Fits, squares: np.ndarray, sigmas: np.ndarray) -> np.ndarray:
    """Log densities of every pose at a place that is anywhere about the nearest of the other places."""
    logs = np.zeros_like(fits.weights)
    for square, sigma, log_range in zip(squares, sigmas.T, fits.task.logs, strict=True):
        last = min(1, square.shape[2] - 1)
        ranked = np.partition(np.where(fits.real[:, None], square, np.inf), last, axis=2)
        first, second = ranked[..., :1], ranked[..., last, None]
        nearest = np.where((square == first) & np.isfinite(second), second, first)
        logs += 1.5 * np.log(2 * np.pi) - np.log(4 * np.pi * log_range)
        logs -= 1.5 * np.log1p(nearest / sigma[:, None, None] ** 2)
    return logs


def _labelled(task: PlaceTask, logs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The likeliest labels (f n), probabilities of all (f n k), and the entropies of the labels (f).

    Within a group the labels are those of the Hungarian assignment; what competes with it are the exchanges of two
    labels, or of one with a label that is free in the group.
    """
    label, probability, entropy = np.argmax(logs, axis=2), np.empty_like(logs), np.zeros(len(logs))
    for rows in task.groups_by_size:
        size = rows.shape[1]
        of_groups, taken = logs[:, rows], label[:, rows]
        for at in np.argwhere((np.diff(np.sort(taken, axis=2), axis=2) == 0).any(axis=2)):
            taken[tuple(at)] = linear_sum_assignment(of_groups[tuple(at)], maximize=True)[1]
        label[:, rows] = taken
        loss = np.take_along_axis(of_groups, taken[..., None], axis=3) - of_groups
        others = np.repeat(taken[:, :, None], size, axis=2)
        if size > 1:  # who has a label takes that of the image which takes it
            exchange = np.swapaxes(np.take_along_axis(loss, others, axis=3), 2, 3)
            np.put_along_axis(loss, others, np.take_along_axis(loss, others, axis=3) + exchange, axis=3)
        odds = np.exp(-np.clip(loss, 0.0, 700.0))
        odds /= odds.sum(axis=3, keepdims=True)
        own = np.take_along_axis(odds, taken[..., None], axis=3)[..., 0]
        inside = np.take_along_axis(odds, others, axis=3).sum(axis=3)
        exchanged = np.divide(inside - own, 1 - own, out=np.zeros_like(own), where=own < 1)
        probability[:, rows] = odds
        entropy += np.sum(_entropies(odds) * (1 - 0.5 * exchanged), axis=(1, 2))  # both of an exchange have it
    return label, probability, entropy


def _entropies(probability: np.ndarray) -> np.ndarray:
    return -np.sum(probability * np.log(np.maximum(probability, 1e-300)), axis=-1)
