"""Point clouds after the best similarity: accuracy, completeness, Chamfer distance, F-score; host float64.

`geometry.align.umeyama` is the differentiable, batched form of `fit_similarity`; here the number of points differs from
sample to sample, each of which would compile anew.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.spatial import cKDTree

from rig3r_jax.geometry import rigid


class SimilarityFit(NamedTuple):
    """target = scale * rotation @ source + translation."""

    scale: float
    rotation: np.ndarray
    translation: np.ndarray

    def apply(self, points_source: np.ndarray) -> np.ndarray:
        return self.scale * points_source @ self.rotation.T + self.translation


def fit_similarity(
    points_source: Float[np.ndarray, "n 3"], points_target: Float[np.ndarray, "n 3"], with_scale: bool = True
) -> SimilarityFit:
    """Least-squares similarity of corresponding points (Umeyama 1991, eqs. 38-43); det +1 even for mirrored input.

    The scale is NaN, and with it all that the fit moves, where the target's points coincide up to the rounding of their
    type: a scale of 0 would make anything fit, such as any trajectory that of a camera that stands still.

    Raises ValueError for fewer than 3 points: they leave the rotation open.
    """
    if len(points_source) < 3:
        raise ValueError(f"fit_similarity: {len(points_source)} corresponding points; at least 3 are needed")
    rounding = 8 * np.finfo(points_target.dtype).eps * np.abs(points_target).max() if with_scale else 0.0
    source, target = points_source.astype(np.float64), points_target.astype(np.float64)
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    covariance = (target - target_mean).T @ (source - source_mean) / len(source)
    rotation = rigid.nearest_rotation(covariance)
    variance = np.mean(np.sum((source - source_mean) ** 2, axis=1))
    # All source points equal: any scale fits; 1 keeps the result finite.
    scale = float(np.sum(rotation * covariance) / variance) if with_scale and variance > 0 else 1.0
    if with_scale and np.abs(target - target_mean).max() <= rounding:
        scale = float("nan")
    return SimilarityFit(scale, rotation, target_mean - scale * rotation @ source_mean)


def iterative_closest_point(
    points_source: Float[np.ndarray, "n 3"],
    points_target: Float[np.ndarray, "m 3"],
    start: SimilarityFit,
    with_scale: bool = True,
    max_steps: int = 30,
    tolerance: float = 1e-9,
) -> SimilarityFit:
    """Point-to-point ICP from `start` (Besl and McKay 1992); ends when the mean squared distance falls by less than
    `tolerance` of itself, and never returns a fit with a larger one than `start`."""
    source, tree = points_source.astype(np.float64), cKDTree(points_target)
    best, best_error = start, np.inf
    fit = start
    for _ in range(max_steps):
        distances, nearest = tree.query(fit.apply(source))
        error = np.mean(distances**2)
        if not error < best_error * (1 - tolerance):
            break
        best, best_error = fit, error
        fit = fit_similarity(source, np.asarray(points_target)[nearest], with_scale)
    return best


def nearest_distances(
    points_query: Float[np.ndarray, "n 3"], points_reference: Float[np.ndarray, "m 3"]
) -> Float[np.ndarray, "n"]:
    """Distance of each query point to the nearest reference point; NaN if there is none or any point is not finite."""
    if not len(points_reference) or not np.isfinite(points_reference).all() or not np.isfinite(points_query).all():
        return np.full(len(points_query), np.nan)
    return cKDTree(points_reference).query(points_query)[0]


def accuracy(points_predicted: Float[np.ndarray, "n 3"], points_true: Float[np.ndarray, "m 3"]) -> float:
    """Mean distance from predicted points to the nearest true point; NaN when either set is empty."""
    return _mean(nearest_distances(points_predicted, points_true))


def completeness(points_predicted: Float[np.ndarray, "n 3"], points_true: Float[np.ndarray, "m 3"]) -> float:
    """Mean distance from true points to the nearest predicted point; NaN when either set is empty."""
    return _mean(nearest_distances(points_true, points_predicted))


def chamfer(points_predicted: Float[np.ndarray, "n 3"], points_true: Float[np.ndarray, "m 3"]) -> float:
    """Mean of accuracy and completeness (not their sum, not squared)."""
    return (accuracy(points_predicted, points_true) + completeness(points_predicted, points_true)) / 2


def fscore(
    points_predicted: Float[np.ndarray, "n 3"], points_true: Float[np.ndarray, "m 3"], threshold: float
) -> dict[str, float]:
    """Fractions 0..1 of points nearer than `threshold` (strict) and their harmonic mean; NaN if either set is empty."""
    distances = nearest_distances(points_predicted, points_true), nearest_distances(points_true, points_predicted)
    if any(d.size == 0 or np.isnan(d).any() for d in distances):
        return {"precision": float("nan"), "recall": float("nan"), "fscore": float("nan")}
    precision, recall = (float(np.mean(d < threshold)) for d in distances)
    harmonic = 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0
    return {"precision": precision, "recall": recall, "fscore": harmonic}


def align_points(
    points_predicted: Float[np.ndarray, "n 3"], points_true: Float[np.ndarray, "n 3"], icp: bool = False
) -> Float[np.ndarray, "n 3"]:
    """Predicted points moved onto their true correspondences by a similarity, then by ICP if asked; NaN in, NaN out."""
    if not np.isfinite(points_predicted).all():
        return np.full(points_predicted.shape, np.nan)
    fit = fit_similarity(points_predicted, points_true)
    if icp:
        fit = iterative_closest_point(points_predicted, points_true, fit)
    return fit.apply(points_predicted.astype(np.float64))


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values)) if values.size else float("nan")
