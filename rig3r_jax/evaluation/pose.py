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
_MEAN_UP_TO = 30  # degrees, of mAA30


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


def rate_sums(
    errors: PairErrors,
    degrees: Sequence[int],
    min_baseline: float = MIN_BASELINE,
    mask: Bool[np.ndarray, "*p"] | None = None,
    missing: Bool[np.ndarray, "*p"] | None = None,
) -> dict[str, tuple[float, int]]:
    """Of each rate a sum and a count: their ratio is the rate in percent, and pools over scenes as both add up.

    Pairs whose true baseline is under `min_baseline` metres (or zero) count for RRA alone. Keys with `_unfolded` take
    the direction error in 0..180 degrees, the others fold it to 0..90, as two-view methods, blind to its sign, are
    measured. All comparisons are strict.

    Args:
        errors: of pairs.
        degrees: thresholds of RRA and RTA.
        min_baseline: of a pair with a direction, metres.
        mask: pairs that count; None: all.
        missing: pairs that are wrong by every threshold, folded or not; None: none.
    """
    keep = np.ones(errors.baseline.shape, bool) if mask is None else mask
    lost = np.zeros(errors.baseline.shape, bool) if missing is None else missing
    directed = keep & (errors.baseline >= min_baseline) & (errors.baseline > 0)
    rotation = np.where(lost, 180.0, errors.rotation_deg)
    directions = {
        "": np.where(lost, NO_DIRECTION_DEG, np.minimum(errors.direction_deg, 180.0 - errors.direction_deg)),
        "_unfolded": np.where(lost, 180.0, errors.direction_deg),
    }
    pairs, with_direction = int(keep.sum()), int(directed.sum())
    sums = {f"RRA{limit}": (100.0 * int(np.sum(rotation[keep] < limit)), pairs) for limit in degrees}
    for end, direction in directions.items():
        for limit in degrees:
            sums[f"RTA{limit}{end}"] = 100.0 * int(np.sum(direction[directed] < limit)), with_direction
    for end, direction in directions.items():
        worst = np.maximum(rotation, direction)[directed]
        hits = int(np.sum(worst[:, None] < np.arange(1, _MEAN_UP_TO + 1)))
        sums[f"mAA{_MEAN_UP_TO}{end}"] = 100.0 * hits / _MEAN_UP_TO, with_direction
    return sums


def summarize(
    errors: PairErrors, min_baseline: float = MIN_BASELINE, mask: Bool[np.ndarray, "*p"] | None = None
) -> dict[str, float | int]:
    """The rates of `rate_sums` at 5 and 15 degrees in percent, NaN where no pair is left, and the counts of pairs."""
    keep = np.ones(errors.baseline.shape, bool) if mask is None else mask
    sums = rate_sums(errors, (5, 15), min_baseline, keep)
    rates = {key: total / count if count else float("nan") for key, (total, count) in sums.items()}
    return rates | {"pairs": sums["RRA5"][1], "pairs_without_direction": sums["RRA5"][1] - sums["RTA5"][1]}


def _relative(world_from_camera: np.ndarray, i: np.ndarray, j: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rotation and translation of i_from_j; equal centres give a translation of exactly zero."""
    rotation, center = world_from_camera[..., :3, :3], world_from_camera[..., :3, 3]
    i_from_world = np.swapaxes(rotation[..., i, :, :], -1, -2)
    offset = center[..., j, :] - center[..., i, :]
    return i_from_world @ rotation[..., j, :, :], (i_from_world @ offset[..., None])[..., 0]
