"""What charts of systems show, as arrays: the share of pairs below every threshold, and errors by how far apart or how
much alike two views are."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from rig3r_jax.evaluation.systems.pairs import PairTable
from rig3r_jax.evaluation.systems.summary import SystemScores

LIMIT = 30  # degrees
ROTATION, DIRECTION, BOTH = "rotation", "direction", "both"
THRESHOLDS = np.arange(0.0, LIMIT + 0.25, 0.25)
LEAST_PAIRS = 10  # of a bin, to say something of its quartiles


@dataclasses.dataclass(frozen=True)
class ErrorBins:
    """Quartiles of errors in bins of something else; bins of fewer than `LEAST_PAIRS` are left out."""

    middle: Float[np.ndarray, " b"]  # median of the pairs' abscissae
    lower: Float[np.ndarray, " b"]
    median: Float[np.ndarray, " b"]
    upper: Float[np.ndarray, " b"]


def accuracy_curves(system: SystemScores) -> dict[str, Float[np.ndarray, " t"]]:
    """Percent of the pairs of all scenes with errors below each of THRESHOLDS: of the rotation, of the folded
    direction, and of both, whose mean over 1, 2, .. 30 degrees is mAA30. NaN without pairs.

    Directions, and both, are of the pairs that have a true direction.
    """
    rotation, direction = (pooled(system, name) for name in ("rotation_deg", "direction_deg"))
    directed = np.isfinite(direction)
    errors = {
        ROTATION: rotation,
        DIRECTION: direction[directed],
        BOTH: np.maximum(rotation, direction)[directed],
    }
    return {name: _below(values) for name, values in errors.items()}


def binned_errors(
    abscissae: Float[np.ndarray, " p"], errors: Float[np.ndarray, " p"], edges: Sequence[float] | np.ndarray
) -> ErrorBins:
    """Quartiles of the finite errors whose abscissae lie in [edge, next edge)."""
    usable = np.isfinite(abscissae) & np.isfinite(errors)
    abscissae, errors = abscissae[usable], errors[usable]
    rows = np.digitize(abscissae, edges) - 1
    filled = [row for row in range(len(edges) - 1) if np.sum(rows == row) >= LEAST_PAIRS]
    quartiles = [np.quantile(errors[rows == row], [0.25, 0.5, 0.75]) for row in filled]
    lower, median, upper = np.array(quartiles).reshape(-1, 3).T
    middle = np.array([np.median(abscissae[rows == row]) for row in filled])
    return ErrorBins(middle, lower, median, upper)


def pooled(system: SystemScores, name: str) -> Float[np.ndarray, " p"]:
    """A field of the pairs of all scenes; NaN of scenes that do not have it."""
    return np.concatenate([np.zeros(0), *(_field(scene.pairs, name) for scene in system.scenes)])


def _field(pairs: PairTable, name: str) -> Float[np.ndarray, " p"]:
    values = getattr(pairs, name)
    return np.full(len(pairs.baseline), np.nan) if values is None else values


def _below(errors: Float[np.ndarray, " p"]) -> Float[np.ndarray, " t"]:
    if not len(errors):
        return np.full(len(THRESHOLDS), np.nan)
    return 100.0 * np.searchsorted(np.sort(errors), THRESHOLDS, side="left") / len(errors)
