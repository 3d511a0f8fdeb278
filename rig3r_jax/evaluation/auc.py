"""AUC of relative poses as the authors of each protocol compute it; host float64.

Every protocol takes of each pair of images the larger of two errors in degrees: that of the relative rotation, and that
of the direction of the relative translation, folded to 0..90. They differ in what a relative pose is, in which pairs
count, and in how scenes are pooled:

    rig3r        i_from_j of pairs whose true baseline has a direction; mean over t = 1..T of the share of errors < t;
                 pairs of all scenes pooled
    vggt         i_from_j of all pairs; mean of the cumulated histogram of errors in 1-degree bins, whose last one holds
                 T itself; pairs of all scenes pooled (evaluation/test_co3d.py, of one category)
    mapanything  as vggt, but of each set of images by itself, then the mean over sets (dense_n_view/benchmark.py)
    da3          inv(camera_from_first) of i times camera_from_first of j, which depends on the first image, here the
                 first that was predicted: each scene by itself, then the mean over scenes (bench/utils.py,
                 compute_pose)

Pairs without a true or a predicted direction are 90 degrees off in all but rig3r, which leaves the former out.
"""

import numpy as np
from jaxtyping import Float

from rig3r_jax.evaluation.pose import MIN_BASELINE, PairErrors, relative_pose_errors
from rig3r_jax.geometry import rigid

PROTOCOLS = ("rig3r", "vggt", "mapanything", "da3")
POOLED = ("rig3r", "vggt")  # over the pairs of all scenes; of the others the scenes' AUCs are averaged
LIMITS = (3, 5, 30)  # degrees


def worst_errors(errors: PairErrors) -> Float[np.ndarray, "*p"]:
    """The larger of rotation and folded direction error of every pair, degrees."""
    return np.maximum(errors.rotation_deg, np.minimum(errors.direction_deg, 180.0 - errors.direction_deg))


def protocol_errors(
    world_from_camera_predicted: Float[np.ndarray, "v 4 4"],
    world_from_camera_true: Float[np.ndarray, "v 4 4"],
    protocol: str,
    min_baseline: float = MIN_BASELINE,
) -> Float[np.ndarray, " p"]:
    """The errors of one scene's pairs, degrees, of which a protocol takes the AUC; NaN where a prediction is NaN."""
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol {protocol!r} is unknown; choose from {', '.join(PROTOCOLS)}")
    predicted, true = world_from_camera_predicted.astype(np.float64), world_from_camera_true.astype(np.float64)
    if protocol == "da3":
        posed = np.isfinite(predicted).all(axis=(1, 2)) & np.isfinite(true).all(axis=(1, 2))
        first = int(np.argmax(posed))
        predicted, true = (rigid.invert(poses) @ poses[first] for poses in (predicted, true))
    errors = relative_pose_errors(predicted, true)
    worst = worst_errors(errors)
    if protocol == "rig3r":
        return worst[(errors.baseline >= min_baseline) & (errors.baseline > 0)]
    return worst


def auc(worst_deg: Float[np.ndarray, " p"], limit: int, protocol: str) -> float:
    """In percent of the pairs; NaN without pairs."""
    if not worst_deg.size:
        return float("nan")
    if protocol == "rig3r":
        return 100.0 * float(np.mean(worst_deg[:, None] < np.arange(1, limit + 1)))
    histogram, _ = np.histogram(worst_deg, bins=np.arange(limit + 1))
    return 100.0 * float(np.mean(np.cumsum(histogram / worst_deg.size)))
