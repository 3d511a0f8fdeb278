"""Scores of a system's depth maps and points."""

import numpy as np
from jaxtyping import Float

from rig3r_jax.evaluation import points
from rig3r_jax.evaluation.systems.measures import Measures
from rig3r_jax.evaluation.systems.options import SystemOptions
from rig3r_jax.evaluation.systems.scene import PosedScene
from rig3r_jax.geometry import rigid
from rig3r_jax.geometry.aligned import CameraAlignment

RATIOS = {"delta_103": 1.03, "delta1": 1.25, "delta2": 1.25**2}  # of true over predicted depth, either way round
DEPTH = (
    "depth_abs_rel",
    *(f"depth_{name}" for name in RATIOS),
    "depth_abs_rel_median",
    "depth_delta1_median",
    "depth_coverage",
    "depth_maps_left_out",
)


def point_keys(options: SystemOptions) -> tuple[str, ...]:
    return ("accuracy_m", "completeness_m", "chamfer_m", *(f"fscore_{t:g}m" for t in options.thresholds))


def add_depth(measures: Measures, predicted: PosedScene, true: PosedScene, alignment: CameraAlignment | None) -> None:
    """Means over images of errors at the true map's points, where the prediction's nearest one has a depth.

    Depths are scaled as the cameras are by the alignment; keys `_median` scale the scene by the median of true over
    predicted depth instead. `depth_coverage` is the share of true points with a predicted depth; an image without a
    predicted map has none. Of maps along the axis and along rays both are taken along rays; where the lens that this
    wants is not known, the image is left out of all and counted (`depth_maps_left_out`).
    """
    lack = [scene.source for scene in (predicted, true) if scene.depths is None or not any(scene.depths)]
    if lack:
        return measures.lack(DEPTH, f"{lack[0]} has no depth maps")
    images, total, left_out = [], 0, 0
    for ours, theirs in zip(predicted.depths, true.depths, strict=True):
        if theirs is None:
            continue
        if ours is None:
            total += int(theirs.valid.sum())
            continue
        if (pair := ours.in_one_kind(theirs)) is None:
            left_out += 1
            continue
        ours, theirs = pair
        depth, has_depth = ours.nearest(theirs.uv[theirs.valid])
        total += len(has_depth)
        if has_depth.any():
            images.append((depth[has_depth], theirs.depth[theirs.valid][has_depth]))
    measures.add("depth_maps_left_out", left_out, 1.0, "")
    if not images:
        reason = "depths are along the axis in one, along rays in the other, without lenses to turn one into the other"
        return measures.lack(DEPTH[:-1], reason if left_out else "no true point has a predicted depth")
    measures.add("depth_coverage", 100.0 * sum(len(depth) for depth, _ in images), total, "")
    scale = np.nan if alignment is None else alignment.scale
    median = float(np.median(np.concatenate([theirs / ours for ours, theirs in images])))
    for end, factor in (("", scale), ("_median", median)):
        scaled = [(factor * ours, theirs) for ours, theirs in images]
        rel = float(np.mean([np.mean(np.abs(ours - theirs) / theirs) for ours, theirs in scaled]))
        measures.add(f"depth_abs_rel{end}", rel, 1.0, "no alignment tells the unit of the depths")
        for name, bound in RATIOS.items() if not end else (("delta1", RATIOS["delta1"]),):
            shares = [np.mean(np.maximum(ours / theirs, theirs / ours) < bound) for ours, theirs in scaled]
            share = 100.0 * float(np.mean(shares)) if np.isfinite(factor) else np.nan
            measures.add(f"depth_{name}{end}", share, 1.0, "no alignment tells the unit of the depths")
    return None


def add_points(
    measures: Measures,
    predicted: PosedScene,
    true: PosedScene,
    alignment: CameraAlignment | None,
    options: SystemOptions,
) -> None:
    """Distances between the clouds, the predicted one moved with the cameras."""
    keys = point_keys(options)
    lack = [scene.source for scene in (predicted, true) if scene.points_world is None or not len(scene.points_world)]
    if lack:
        return measures.lack(keys, f"{lack[0]} has no points")
    if alignment is None or not np.isfinite(alignment.scale):
        return measures.lack(
            keys, "too few cameras in common to align the points by; --align none takes them as they are"
        )
    moved = rigid.apply(alignment.target_from_source, alignment.scale * _drawn(predicted.points_world, options))
    cloud = _drawn(true.points_world, options)
    to_true, to_predicted = points.nearest_distances(moved, cloud), points.nearest_distances(cloud, moved)
    accuracy, completeness = float(np.mean(to_true)), float(np.mean(to_predicted))
    for key, value in zip(keys[:3], (accuracy, completeness, (accuracy + completeness) / 2), strict=True):
        measures.add(key, value, 1.0, "points are not finite")
    for key, threshold in zip(keys[3:], options.thresholds, strict=True):
        precision, recall = float(np.mean(to_true < threshold)), float(np.mean(to_predicted < threshold))
        harmonic = 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0
        measures.add(key, 100.0 * harmonic, 1.0, "points are not finite")
    return None


def _drawn(cloud: Float[np.ndarray, "n 3"], options: SystemOptions) -> Float[np.ndarray, "m 3"]:
    if len(cloud) <= options.max_points:
        return cloud
    rows = np.random.default_rng(options.seed).choice(len(cloud), options.max_points, replace=False)
    return cloud[np.sort(rows)]
