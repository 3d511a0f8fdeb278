"""Errors of the relative poses of pairs of images, over all pairs and over parts of them."""

import numpy as np
from jaxtyping import Bool, Float

from rig3r_jax.evaluation import auc
from rig3r_jax.evaluation.pose import NO_DIRECTION_DEG, PairErrors, relative_pose_errors
from rig3r_jax.evaluation.steps import same_step
from rig3r_jax.evaluation.systems.measures import Measures
from rig3r_jax.evaluation.systems.options import SystemOptions
from rig3r_jax.evaluation.systems.scene import PosedScene

DEGREES = (3, 5, 15, 30)
SAME_CAMERA, SAME_STEP, ACROSS = "same camera", "same time step", "across both"
RATES = (
    *(f"RRA{t}" for t in DEGREES),
    *(f"RTA{t}" for t in DEGREES),
    *(f"RTA{t}_unfolded" for t in DEGREES),
    "mAA30",
    "mAA30_unfolded",
)  # of every part of the pairs


def add_pairs(
    measures: Measures, world_from_camera: Float[np.ndarray, "v 4 4"], true: PosedScene, options: SystemOptions
) -> None:
    """Adds the rates and AUCs of one scene; poses that are NaN are missing.

    Keys of parts of the pairs begin with the part's name and a slash.
    """
    errors = relative_pose_errors(world_from_camera, true.world_from_camera)
    missing = np.isnan(errors.rotation_deg) | np.isnan(errors.direction_deg)
    kept = ~missing if options.missing == "leave-out" else np.ones(len(missing), bool)
    errors = PairErrors(
        errors.i,
        errors.j,
        np.where(missing, 180.0, errors.rotation_deg),
        np.where(missing, NO_DIRECTION_DEG, errors.direction_deg),
        errors.baseline,
    )
    _add_rates(measures, "", errors, kept, missing, options, "no pairs of images")
    for name, part in parts(true, errors, options).items():
        if isinstance(part, str):
            measures.lack([f"{name}/{key}" for key in RATES], part)
        else:
            _add_rates(measures, f"{name}/", errors, kept & part, missing, options, f"no pairs of images: {name}")
    _add_aucs(measures, world_from_camera, true, options)
    measures.add("pairs", float(kept.sum()), 1.0, "")
    undirected = kept & ((errors.baseline < options.scores.min_baseline) | (errors.baseline == 0))
    measures.add("pairs_without_direction", float(undirected.sum()), 1.0, "")


def parts(true: PosedScene, errors: PairErrors, options: SystemOptions) -> dict[str, Bool[np.ndarray, " p"] | str]:
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
    edges = (0.0, *options.baselines, np.inf)
    for low, high in zip(edges[:-1], edges[1:], strict=True):
        result[_range(low, high)] = (errors.baseline >= low) & (errors.baseline < high)
    return result


def part_names(options: SystemOptions) -> list[str]:
    """Of all parts, in the order of the tables."""
    edges = (0.0, *options.baselines, np.inf)
    ranges = [_range(low, high) for low, high in zip(edges[:-1], edges[1:], strict=True)]
    return [SAME_CAMERA, SAME_STEP, ACROSS, *ranges]


def _range(low: float, high: float) -> str:
    if not low:
        return f"baseline under {high:g} m" if np.isfinite(high) else "any baseline"
    return f"baseline {low:g} to {high:g} m" if np.isfinite(high) else f"baseline from {low:g} m"


def _add_rates(
    measures: Measures,
    prefix: str,
    errors: PairErrors,
    kept: Bool[np.ndarray, " p"],
    missing: Bool[np.ndarray, " p"],
    options: SystemOptions,
    reason: str,
) -> None:
    """Missing pairs are wrong by every threshold, folded or not."""
    directed = kept & (errors.baseline >= options.scores.min_baseline) & (errors.baseline > 0)
    rotation = errors.rotation_deg
    folded = np.minimum(errors.direction_deg, 180.0 - errors.direction_deg)
    unfolded = np.where(missing, 180.0, errors.direction_deg)
    no_direction = f"{reason} with a baseline of {options.scores.min_baseline:g} m or more"
    for degrees in DEGREES:
        measures.add_rate(f"{prefix}RRA{degrees}", rotation[kept] < degrees, reason)
        measures.add_rate(f"{prefix}RTA{degrees}", folded[directed] < degrees, no_direction)
        measures.add_rate(f"{prefix}RTA{degrees}_unfolded", unfolded[directed] < degrees, no_direction)
    for key, direction in (("mAA30", folded), ("mAA30_unfolded", unfolded)):
        worst, count = np.maximum(rotation, direction)[directed], int(directed.sum())
        measures.add(f"{prefix}{key}", count * auc.auc(worst, 30, "rig3r") if count else 0.0, count, no_direction)


def _add_aucs(
    measures: Measures, world_from_camera: Float[np.ndarray, "v 4 4"], true: PosedScene, options: SystemOptions
) -> None:
    posed = np.isfinite(world_from_camera).all(axis=(1, 2))
    rows = np.flatnonzero(posed) if options.missing == "leave-out" else np.arange(len(posed))
    for protocol in auc.PROTOCOLS:
        worst = np.zeros(0)
        if posed.any():
            worst = auc.protocol_errors(
                world_from_camera[rows], true.world_from_camera[rows], protocol, options.scores.min_baseline
            )
        worst = np.where(np.isnan(worst), 180.0, worst)
        weight = worst.size if protocol in auc.POOLED else min(worst.size, 1)
        for limit in auc.LIMITS:
            value = auc.auc(worst, limit, protocol) if worst.size else 0.0
            measures.add(f"AUC{limit}_{protocol}", value * weight, weight, "no pairs of images")
