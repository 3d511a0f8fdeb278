"""Errors of relative camera poses over image pairs: RRA, RTA and mAA@30, in host float64.

The relative pose of a pair i < j is i_from_j = inv(world_from_i) world_from_j, so neither the choice of the world frame
nor the scale of the predictions matters. Pairs of many samples are pooled before any rate is taken.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from rig3r_jax.evaluation.options import ScoreOptions

MIN_BASELINE = ScoreOptions.min_baseline
NO_DIRECTION_DEG = 90.0  # charged where a prediction has no direction at all: wrong by every threshold used


@dataclasses.dataclass(frozen=True)
class PairErrors:
    """Errors of pairs of images; all fields have the same shape."""

    i: Int[np.ndarray, "*p"]  # view numbers of the pair, i < j
    j: Int[np.ndarray, "*p"]
    rotation_deg: Float[np.ndarray, "*p"]  # 0..180
    direction_deg: Float[np.ndarray, "*p"]  # 0..180, unfolded; meaningless where the true baseline is short
    baseline: Float[np.ndarray, "*p"]  # true distance between the two centres, metres


def angle_between_deg(a: Float[np.ndarray, "*b 3"], b: Float[np.ndarray, "*b 3"]) -> Float[np.ndarray, "*b"]:
    """Angle of two vectors, 0..180 degrees, exact near both ends; `NO_DIRECTION_DEG` where either is zero."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    lengths_a, lengths_b = np.linalg.norm(a, axis=-1, keepdims=True), np.linalg.norm(b, axis=-1, keepdims=True)
    zero = (lengths_a[..., 0] == 0) | (lengths_b[..., 0] == 0)
    a, b = a / np.where(lengths_a == 0, 1.0, lengths_a), b / np.where(lengths_b == 0, 1.0, lengths_b)
    # 2 atan2(|a - b|, |a + b|) of unit vectors: Kahan, "How futile are mindless assessments of roundoff", section 12.
    angle = 2 * np.arctan2(np.linalg.norm(a - b, axis=-1), np.linalg.norm(a + b, axis=-1))
    return np.where(zero, NO_DIRECTION_DEG, np.degrees(angle))


def rotation_angle_deg(a: Float[np.ndarray, "*b 3 3"], b: Float[np.ndarray, "*b 3 3"]) -> Float[np.ndarray, "*b"]:
    """Geodesic angle between two rotations, 0..180 degrees, without the arccos that loses digits at both ends."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    # |a - b|_F = 2 sqrt(2) sin(angle / 2), and the trace of a^T b is 1 + 2 cos(angle) = 4 cos^2(angle / 2) - 1.
    sine = np.linalg.norm(a - b, axis=(-2, -1)) / np.sqrt(8.0)
    cosine = np.sqrt(np.maximum(np.sum(a * b, axis=(-2, -1)) + 1.0, 0.0)) / 2.0
    return np.degrees(2 * np.arctan2(sine, cosine))


def relative_pose_errors(
    world_from_camera_predicted: Float[np.ndarray, "*b v 4 4"],
    world_from_camera_true: Float[np.ndarray, "*b v 4 4"],
) -> PairErrors:
    """Errors of all pairs i < j of each sample, shape (*b, v (v - 1) / 2); truth in metres, predictions in any unit."""
    i, j = np.triu_indices(world_from_camera_true.shape[-3], k=1)
    rotation_predicted, offset_predicted = _relative(world_from_camera_predicted.astype(np.float64), i, j)
    rotation_true, offset_true = _relative(world_from_camera_true.astype(np.float64), i, j)
    baseline = np.linalg.norm(offset_true, axis=-1)
    return PairErrors(
        i=np.broadcast_to(i, baseline.shape),
        j=np.broadcast_to(j, baseline.shape),
        rotation_deg=rotation_angle_deg(rotation_predicted, rotation_true),
        direction_deg=angle_between_deg(offset_predicted, offset_true),
        baseline=baseline,
    )


def concatenate(errors: Sequence[PairErrors]) -> PairErrors:
    """Pools the pairs of many samples into one flat set; of no samples, an empty set."""

    def pool(name: str, dtype: type) -> np.ndarray:
        return np.concatenate([np.zeros(0, dtype)] + [np.ravel(getattr(e, name)) for e in errors])

    return PairErrors(
        i=pool("i", np.int64),
        j=pool("j", np.int64),
        rotation_deg=pool("rotation_deg", np.float64),
        direction_deg=pool("direction_deg", np.float64),
        baseline=pool("baseline", np.float64),
    )


def summarize(
    errors: PairErrors, min_baseline: float = MIN_BASELINE, mask: Bool[np.ndarray, "*p"] | None = None
) -> dict[str, float | int]:
    """Rates in percent of the pairs where `mask` is true; NaN where no pair is left.

    Pairs whose true baseline is under `min_baseline` metres (or zero) count for RRA only: they are left out of RTA and
    mAA and reported as `pairs_without_direction`. Keys with `_unfolded` take the direction error in 0..180 degrees, the
    others fold it to 0..90 as two-view methods, blind to its sign, are measured. All comparisons are strict.
    """
    keep = np.ones(errors.baseline.shape, bool) if mask is None else mask
    rotation = errors.rotation_deg[keep]
    directed = (errors.baseline[keep] >= min_baseline) & (errors.baseline[keep] > 0)
    unfolded = errors.direction_deg[keep][directed]
    folded = np.minimum(unfolded, 180.0 - unfolded)
    return {
        "RRA5": _percent(rotation < 5),
        "RRA15": _percent(rotation < 15),
        "RTA5": _percent(folded < 5),
        "RTA15": _percent(folded < 15),
        "RTA5_unfolded": _percent(unfolded < 5),
        "RTA15_unfolded": _percent(unfolded < 15),
        "mAA30": _mean_average_accuracy(np.maximum(rotation[directed], folded)),
        "mAA30_unfolded": _mean_average_accuracy(np.maximum(rotation[directed], unfolded)),
        "pairs": int(rotation.size),
        "pairs_without_direction": int(np.sum(~directed)),
    }


def _relative(world_from_camera: np.ndarray, i: np.ndarray, j: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rotation and translation of i_from_j; equal centres give a translation of exactly zero."""
    rotation, center = world_from_camera[..., :3, :3], world_from_camera[..., :3, 3]
    i_from_world = np.swapaxes(rotation[..., i, :, :], -1, -2)
    offset = center[..., j, :] - center[..., i, :]
    return i_from_world @ rotation[..., j, :, :], (i_from_world @ offset[..., None])[..., 0]


def _percent(hits: np.ndarray) -> float:
    return 100.0 * float(np.mean(hits)) if hits.size else float("nan")


def _mean_average_accuracy(worst_deg: np.ndarray, limit: int = 30) -> float:
    """Mean over t = 1..limit of the fraction of pairs with an error below t degrees, in percent."""
    return _percent(worst_deg[:, None] < np.arange(1, limit + 1))
