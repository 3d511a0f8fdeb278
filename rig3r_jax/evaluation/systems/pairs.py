"""Errors of the relative poses of pairs of images, over all pairs and over parts of them."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Float

from rig3r_jax.evaluation import auc
from rig3r_jax.evaluation.pose import NO_DIRECTION_DEG, PairErrors, concatenate, rate_sums, relative_pose_errors
from rig3r_jax.evaluation.steps import same_step
from rig3r_jax.evaluation.systems.measures import Measures
from rig3r_jax.evaluation.systems.options import SystemOptions
from rig3r_jax.evaluation.systems.overlap import Overlaps, pair_overlaps
from rig3r_jax.evaluation.systems.scene import PosedScene

DEGREES = (3, 5, 15, 30)
SAME_CAMERA, SAME_STEP, ACROSS = "same camera", "same time step", "across both"
RATES = tuple(rate_sums(concatenate([]), DEGREES))  # keys of every part of the pairs
AUCS = tuple(f"AUC{limit}_{protocol}" for protocol in auc.PROTOCOLS for limit in auc.LIMITS)  # of all pairs


@dataclasses.dataclass(frozen=True)
class PairTable:
    """The pairs of one scene that count; those that a system has no pose of are off by 180 and 90 degrees."""

    rotation_deg: Float[np.ndarray, " p"]
    direction_deg: Float[np.ndarray, " p"]  # folded; NaN of pairs whose true cameras are too near to have one
    baseline: Float[np.ndarray, " p"]  # metres
    overlap: Float[np.ndarray, " p"] | None  # percent; None: not known
    overlap_told_by: str  # in words, or why it is not known


def add_pairs(
    measures: Measures, world_from_camera: Float[np.ndarray, "v 4 4"], true: PosedScene, options: SystemOptions
) -> PairTable:
    """Adds the rates and AUCs of one scene; poses that are NaN are missing. The pairs themselves are returned.

    Keys of parts of the pairs begin with the part's name and a slash.
    """
    errors = relative_pose_errors(world_from_camera, true.world_from_camera)
    missing = np.isnan(errors.rotation_deg) | np.isnan(errors.direction_deg)
    kept = ~missing if options.missing == "leave-out" else np.ones(len(missing), bool)
    overlaps = pair_overlaps(true, options.view_range)
    _add_rates(measures, "", errors, kept, missing, options, "no pairs of images")
    for name, part in parts(true, errors, overlaps, options).items():
        if isinstance(part, str):
            measures.lack([f"{name}/{key}" for key in RATES], part)
        else:
            _add_rates(measures, f"{name}/", errors, kept & part, missing, options, f"no pairs of images: {name}")
    sums = auc_sums(world_from_camera, true.world_from_camera, options.scores.min_baseline, options.missing)
    for key, (total, count) in sums.items():
        measures.add(key, total, count, "no pairs of images")
    measures.add("pairs", float(kept.sum()), 1.0, "")
    near = (errors.baseline < options.scores.min_baseline) | (errors.baseline == 0)
    measures.add("pairs_without_direction", float((kept & near).sum()), 1.0, "")
    direction = np.where(missing, NO_DIRECTION_DEG, np.minimum(errors.direction_deg, 180.0 - errors.direction_deg))
    return PairTable(
        rotation_deg=np.where(missing, 180.0, errors.rotation_deg)[kept],
        direction_deg=np.where(near, np.nan, direction)[kept],
        baseline=errors.baseline[kept],
        overlap=None if overlaps.percent is None else overlaps.percent[kept],
        overlap_told_by=overlaps.told_by,
    )


def parts(
    true: PosedScene, errors: PairErrors, overlaps: Overlaps, options: SystemOptions
) -> dict[str, Bool[np.ndarray, " p"] | str]:
    """Which pairs are of each part; the reason where the truth does not tell."""
    cameras = None if true.cameras is None else np.unique(true.cameras, return_inverse=True)[1]
    result: dict[str, Bool[np.ndarray, " p"] | str] = {}
    one_camera = None if cameras is None else cameras[errors.i] == cameras[errors.j]
    result[SAME_CAMERA] = "the truth names no cameras" if one_camera is None else one_camera
    if true.times is None or one_camera is None:
        lack = "the truth names no cameras" if one_camera is None else "the truth states no times"
        result |= {SAME_STEP: lack, ACROSS: lack}
    else:
        one_step = same_step(true.times, cameras, options.scores.same_time_seconds)
        result |= {SAME_STEP: one_step, ACROSS: ~one_step & ~one_camera}
    for name, (low, high) in _ranges(options.baselines, _baseline_name).items():
        result[name] = (errors.baseline >= low) & (errors.baseline < high)
    for name, (low, high) in _ranges(options.overlaps, _overlap_name).items():
        percent = overlaps.percent
        result[name] = overlaps.told_by if percent is None else (percent >= low) & (percent < high)
    return result


def part_names(options: SystemOptions) -> list[str]:
    """Of all parts, in the order of the tables."""
    baselines, overlaps = _ranges(options.baselines, _baseline_name), _ranges(options.overlaps, _overlap_name)
    return [SAME_CAMERA, SAME_STEP, ACROSS, *baselines, *overlaps]


def auc_sums(
    world_from_camera: Float[np.ndarray, "v 4 4"],
    world_from_camera_true: Float[np.ndarray, "v 4 4"],
    min_baseline: float,
    missing: str = "fail",
) -> dict[str, tuple[float, int]]:
    """Of the AUC of each protocol a sum and a count, as of `pose.rate_sums`; poses that are NaN are missing."""
    posed = np.isfinite(world_from_camera).all(axis=(1, 2))
    rows = np.flatnonzero(posed) if missing == "leave-out" else np.arange(len(posed))
    predicted, true = world_from_camera[rows], world_from_camera_true[rows]
    sums = {}
    for protocol in auc.PROTOCOLS:
        worst = auc.protocol_errors(predicted, true, protocol, min_baseline) if len(rows) else np.zeros(0)
        worst = np.where(np.isnan(worst), 180.0, worst)
        weight = worst.size if protocol in auc.POOLED else min(worst.size, 1)
        for limit in auc.LIMITS:
            value = auc.auc(worst, limit, protocol) if worst.size else 0.0
            sums[f"AUC{limit}_{protocol}"] = value * weight, weight
    return sums


def _ranges(edges: Sequence[float], name: Callable[[float, float], str]) -> dict[str, tuple[float, float]]:
    """From 0 to the first edge, from each to the next, and from the last on, by name."""
    bounds = (0.0, *edges, np.inf)
    return {name(low, high): (low, high) for low, high in zip(bounds[:-1], bounds[1:], strict=True)}


def _baseline_name(low: float, high: float) -> str:
    if not low:
        return f"baseline under {high:g} m" if np.isfinite(high) else "any baseline"
    return f"baseline {low:g} to {high:g} m" if np.isfinite(high) else f"baseline from {low:g} m"


def _overlap_name(low: float, high: float) -> str:
    if not low:
        return f"overlap under {high:g}%" if np.isfinite(high) else "any overlap"
    return f"overlap {low:g} to {high:g}%" if np.isfinite(high) else f"overlap from {low:g}%"


def _add_rates(
    measures: Measures,
    prefix: str,
    errors: PairErrors,
    kept: Bool[np.ndarray, " p"],
    missing: Bool[np.ndarray, " p"],
    options: SystemOptions,
    reason: str,
) -> None:
    """Missing pairs are wrong by every threshold."""
    smallest = options.scores.min_baseline
    for key, (total, count) in rate_sums(errors, DEGREES, smallest, kept, missing).items():
        of_rotation = key.startswith("RRA")
        measures.add(
            f"{prefix}{key}",
            total,
            count,
            reason if of_rotation else f"{reason} with a baseline of {smallest:g} m or more",
        )
