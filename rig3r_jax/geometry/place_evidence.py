"""Parts of the log evidence of poses about a number of places, as `pose_clusters` says; host float64."""

import dataclasses
import functools
import typing
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy.special import gammaln

RESOLUTION = 1e-5  # of lengths in their unit, and of radians: float32's poses differ by as much without a meaning
MOST_RADIANS = 0.5  # sigma of rotations at most: a predictor that errs by more says nothing of rotations


@typing.no_type_check
@dataclasses.dataclass(frozen=True)
class PlaceTask:
    """What is the same for every k."""

    poses: Float[np.ndarray, "n 4 4"]
    groups: Sequence[Int[np.ndarray, " m"]]  # rows whose labels differ; each pose in one, alone where it may
    labelled: Int[np.ndarray, " n"]
    resolution: float
    extent: float

    @functools.cached_property
    def groups_by_size(self) -> list[Int[np.ndarray, "g m"]]:
        """The same, stacked."""
        sizes = sorted({len(rows) for rows in self.groups})
        return [np.stack([rows for rows in self.groups if len(rows) == size]) for size in sizes]

    @property
    def logs(self) -> tuple[float, float]:
        """log(range) of lengths and radians."""
        return np.log(self.extent / self.resolution), np.log(MOST_RADIANS / self.resolution)


def squared_distances(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Squared distances and squared angles of all pairs; angles by the chord, which is exact for small ones."""
    length = np.sum((a[:, None, :3, 3] - b[None, :, :3, 3]) ** 2, axis=-1)
    chord = np.sum((a[:, None, :3, :3] - b[None, :, :3, :3]) ** 2, axis=(-2, -1))
    return length, (2 * np.arcsin(np.sqrt(np.clip(chord / 8, 0.0, 1.0)))) ** 2


def log_labels(task: PlaceTask, count: int) -> float:
    """Of one labelling of those that are allowed, whatever the names of places that have none of their own."""
    named = len(np.unique(task.labelled[task.labelled >= 0]))
    unknown = [int(np.sum(task.labelled[rows] < 0)) for rows in task.groups]
    free = [count - int(np.sum(task.labelled[rows] >= 0)) for rows in task.groups]
    ways = sum(gammaln(f + 1) - gammaln(f - u + 1) for f, u in zip(free, unknown, strict=True))
    return float(gammaln(count - named + 1) - ways)


def log_errors(square: float, free: int, sigma: float, log_range: float) -> float:
    """Log of the mean over log(sigma) of the errors' normal density of `free` dimensions, after Laplace."""
    if not free:
        return 0.0
    at_best = -free * np.log(sigma) - square / (2 * sigma**2) - free / 2 * np.log(2 * np.pi)
    return float(at_best + min(0.5 * np.log(np.pi / free), np.log(log_range)) - np.log(log_range))


def log_separations(task: PlaceTask, place: np.ndarray, totals: np.ndarray, sigmas: tuple) -> float:
    """-log of the density of the places, each by its distance from the nearest of those before it: a spanning tree."""
    blur = 3 * (1 / totals[:, None] + 1 / totals)
    cost = np.zeros((len(place), len(place)))
    for square, sigma, log_range in zip(squared_distances(place, place), sigmas, task.logs, strict=True):
        cost += np.log(4 * np.pi * log_range) + 1.5 * np.log(square + blur * sigma**2)
    total, nearest = 0.0, cost[0].copy()
    left = np.ones(len(place), bool)
    left[0] = False
    while left.any():
        new = int(np.argmin(np.where(left, nearest, np.inf)))
        total, left[new] = total + nearest[new], False
        nearest = np.minimum(nearest, cost[new])
    return float(total)
