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


def squared_distances(
    a: Float[np.ndarray, "*a n 4 4"], b: Float[np.ndarray, "*b k 4 4"]
) -> tuple[Float[np.ndarray, "*c n k"], Float[np.ndarray, "*c n k"]]:
    """Squared distances and squared angles of all pairs; angles to 1e-7, which is nothing to `RESOLUTION`."""
    apart = a[..., :, None, :3, 3] - b[..., None, :, :3, 3]
    traces = _flat_rotations(a) @ np.swapaxes(_flat_rotations(b), -1, -2)
    sines = np.sqrt(np.clip((3 - traces) / 4, 0.0, 1.0))  # of half the angles: the chord's square is 6 - 2 traces
    return np.einsum("...i,...i->...", apart, apart), (2 * np.arcsin(sines)) ** 2


def _flat_rotations(poses: np.ndarray) -> np.ndarray:
    return poses[..., :3, :3].reshape(*poses.shape[:-2], 9)


def log_labels(task: PlaceTask, count: Int[np.ndarray, " f"]) -> Float[np.ndarray, " f"]:
    """Of one labelling of those that are allowed, whatever the names of places that have none of their own."""
    named = len(np.unique(task.labelled[task.labelled >= 0]))
    labelled = np.array([np.sum(task.labelled[rows] >= 0) for rows in task.groups])
    unlabelled = np.array([len(rows) for rows in task.groups]) - labelled
    free = count[:, None] - labelled
    return gammaln(count - named + 1) - np.sum(gammaln(free + 1) - gammaln(free - unlabelled + 1), axis=1)


def log_errors(
    square: Float[np.ndarray, " f"], free: Int[np.ndarray, " f"], sigma: Float[np.ndarray, " f"], log_range: float
) -> Float[np.ndarray, " f"]:
    """Log of the mean over log(sigma) of the errors' normal density of `free` dimensions, after Laplace; 0 of none."""
    at_best = -free * np.log(sigma) - square / (2 * sigma**2) - free / 2 * np.log(2 * np.pi)
    width = np.minimum(0.5 * np.log(np.pi / np.maximum(free, 1)), np.log(log_range))
    return np.where(free > 0, at_best + width - np.log(log_range), 0.0)


def log_separations(
    task: PlaceTask,
    place: Float[np.ndarray, "f k 4 4"],
    totals: Float[np.ndarray, "f k"],
    sigmas: Float[np.ndarray, "f 2"],
    count: Int[np.ndarray, " f"],
) -> Float[np.ndarray, " f"]:
    """-log of the density of the places, each by its distance from the nearest of those before it: a spanning tree.

    totals: poses of each place. count: how many of the places of each fit count; the first is the root of all.
    """
    blur = 3 * (1 / totals[:, :, None] + 1 / totals[:, None])
    cost = np.zeros(blur.shape)
    for square, sigma, log_range in zip(squared_distances(place, place), sigmas.T, task.logs, strict=True):
        cost += np.log(4 * np.pi * log_range) + 1.5 * np.log(square + blur * sigma[:, None, None] ** 2)
    fits, total = np.arange(len(place)), np.zeros(len(place))
    outside = (np.arange(place.shape[1]) < count[:, None]) & (np.arange(place.shape[1]) > 0)
    nearest = cost[:, 0].copy()
    for _ in range(place.shape[1] - 1):
        reached = np.where(outside, nearest, np.inf)
        new = np.argmin(reached, axis=1)
        total += np.where(outside.any(axis=1), reached[fits, new], 0.0)
        outside[fits, new] = False
        nearest = np.minimum(nearest, cost[fits, new])
    return total
