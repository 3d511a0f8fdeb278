"""How sure the number of places and the labels of poses are, by fits of `pose_clusters`; host float64.

Both are too sure where places lie near each other for the size of the errors: an evidence is the height of one optimum,
and a label is held against places that were fitted to it. So probabilities p of labels count as p^labels, and evidences
e as exp(t e), with t between `least` and 1 as the nearest two places lie up to `separation` standard deviations apart.
The powers were chosen by hand, by the logarithmic loss on simulated rigs, other ones than the benchmark's certainties
are measured on: `rig3r bench discovery --law` prints the loss with them, the best with one of them changed, and that
without them.
"""

import dataclasses
import typing
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment

from rig3r_jax.geometry.place_em import PlaceFit
from rig3r_jax.geometry.place_evidence import MOST_RADIANS, squared_distances

_NEGLIGIBLE = 1e-12  # probability of a fit that is left out of means


@dataclasses.dataclass(frozen=True)
class Law:
    """Powers of probabilities; all 1: those of the model."""

    labels: float
    separation: float  # standard deviations, from which evidences count in full
    least: float  # power of evidences


GROUPED = Law(labels=0.45, separation=60.0, least=0.5)  # poses of one group are of different places
FREE = Law(labels=0.33, separation=60.0, least=0.1)


@typing.no_type_check
@dataclasses.dataclass(frozen=True)
class Certainty:
    """Of the labels of one fit.

    count: of each number of places, by the fits.
    pose: that each pose is of its place.
    place: that all of a place's poses, and no others, are of it.
    """

    count: Float[np.ndarray, " f"]
    pose: Float[np.ndarray, " n"]
    place: Float[np.ndarray, " k"]


def certainty(fits: Sequence[PlaceFit], chosen: PlaceFit, law: Law) -> Certainty:
    """Of the labels of `chosen`: means over the fits by their probabilities.

    Places of two fits are one where the Hungarian assignment of most common poses says so.
    """
    count = count_probabilities(fits, law)
    rows, pose, place = np.arange(len(chosen.label)), np.zeros(len(chosen.label)), np.zeros(chosen.count)
    for fit, weight in zip(fits, count, strict=True):
        if weight < _NEGLIGIBLE:
            continue
        table = np.zeros((chosen.count, fit.count))
        np.add.at(table, (chosen.label, fit.label), 1)
        twin = np.full(chosen.count, -1)
        mine, theirs = linear_sum_assignment(table, maximize=True)
        twin[mine] = theirs
        probability = np.column_stack([_tempered(fit, law), np.zeros(len(rows))])  # the last of places without a twin
        pose += weight * probability[rows, twin[chosen.label]]
        for number in range(chosen.count):
            inside = probability[:, twin[number]]
            place[number] += weight * float(np.prod(np.where(chosen.label == number, inside, 1 - inside)))
    return Certainty(count, np.clip(pose, 0.0, 1.0), np.clip(place, 0.0, 1.0))


def count_probabilities(fits: Sequence[PlaceFit], law: Law) -> Float[np.ndarray, " f"]:
    """Of the number of places, all fits being as likely before."""
    logs = np.array([fit.log_evidence for fit in fits])
    best = int(np.argmax(logs))
    power = float(np.clip(nearest_separation(fits[best]) / law.separation, law.least, 1.0))
    likelihoods = np.exp(power * (logs - logs[best]))
    return likelihoods / likelihoods.sum()


def nearest_separation(fit: PlaceFit) -> float:
    """Of the nearest two places, standard deviations; of a single one, from half a radian; inf without a scatter."""
    if not np.isfinite(fit.sigma_rad):
        return np.inf
    if fit.count == 1:
        return MOST_RADIANS / fit.sigma_rad
    length, angle = squared_distances(fit.place, fit.place)
    apart = np.sqrt(length / fit.sigma_length**2 + angle / fit.sigma_rad**2)
    return float(np.min(apart[~np.eye(fit.count, dtype=bool)]))


def _tempered(fit: PlaceFit, law: Law) -> Float[np.ndarray, "n k"]:
    powers = fit.probability**law.labels
    return powers / powers.sum(axis=1, keepdims=True)
