"""Known depth against what matches triangulate to, against the other images, and its place in its own."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy.spatial import cKDTree

from rig3r_jax.data.scene import DenseDepth, SparseDepth
from rig3r_jax.geometry import rigid
from rig3r_jax.inspection.claims import Claims, Pair, Shot
from rig3r_jax.inspection.evidence import FEWEST, Matched, angles
from rig3r_jax.inspection.findings import Finding, with_consequences
from rig3r_jax.inspection.judgement import EPIPOLAR_BAND
from rig3r_jax.inspection.mistakes import with_body_poses, with_places, with_shots
from rig3r_jax.inspection.residuals import moved, triangulated

_LEAST_PARALLAX = 2.0  # degrees of a match whose triangulated distance counts
# Of 1, of the median of the pairs' median ratios: at 2 degrees of parallax 0.3 degrees of a match are 15% of distance.
_RATIO_BAND = 0.2
_WARP_BAND = 0.08  # of the distance, in the median: between sensors' own errors, of 1 to 5%, and the least wrong unit
_REACH = 1.5  # pixels from a point of sparse depth that a pixel may be: its neighbours
_POINTS = 4000  # of one image that are moved into another
# Ratios of depth as stated over depth as seen that a wrong unit gives.
_UNITS = {
    5.0: "depth_scale looks like 5 times that stated (5000, not 1000)",
    0.2: "depth_scale looks like a fifth of that stated (1000, not 5000)",
    10.0: "depth looks like millimetres read as tenths of millimetres, or the like: 10 times too far",
    0.1: "depth is 10 times too near",
    100.0: "depth looks like centimetres read as metres",
    0.01: "depth looks like metres read as centimetres",
    1000.0: "depth looks like millimetres read as metres",
    0.001: "depth looks like metres read as millimetres",
}


def judge_depth(claims: Claims, matched: Sequence[Matched]) -> list[Finding]:
    """Scale by triangulation along time and between cameras, residual after warping, and registration."""
    if not any(len(shot.depths[1]) for shot in claims.shots):
        return []
    ratios = {name: _ratios(claims, matched, along) for name, along in (("time", True), ("cameras", False))}
    shift = _shift(claims, matched)
    medians = {name: median for name, of_kind in ratios.items() if (median := _median(of_kind)) is not None}
    kinds = dict.fromkeys(pair.along_time for pair in claims.pairs)
    findings = [_scale(claims, "time" if along_time else "cameras", medians) for along_time in kinds]
    warp = [_warp(claims)]
    if (scale := next((one for one in findings if one.fault), None)) and warp[0].fault:
        warp = with_consequences(warp, [_warp(_rescaled(claims, medians))], scale.words)
    elif shift and warp[0].fault:
        warp = [dataclasses.replace(warp[0], words=f"goes with: {shift.words}")]
    return [*findings, *warp, *([shift] if shift else [])]


def depth_at(shot: Shot, pixels: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, " n"]:
    """Distances stated at pixels, metres; NaN where none is, or none is near."""
    stated = np.full(len(pixels), np.nan)
    if isinstance(shot.depth, DenseDepth):
        columns, rows = np.floor(pixels).astype(int).T
        height, width = shot.depth.values.shape
        inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
        stated[inside] = shot.depth.values[rows[inside], columns[inside]]
        stated[~(stated > 0)] = np.nan
    elif len(shot.depths[1]):
        positions, distances = shot.depths
        apart, index = cKDTree(positions).query(pixels, distance_upper_bound=_REACH)
        stated[np.isfinite(apart)] = distances[index[np.isfinite(apart)]]
    return stated


def _seen(claims: Claims, one: Matched) -> tuple[np.ndarray, np.ndarray]:
    """(pixels of a, distances that the matches triangulate to) where the parallax tells them."""
    a, b = claims.shots[one.pair.a], claims.shots[one.pair.b]
    rays_a, rays_b = a.lens.rays(one.pixels_a), b.lens.rays(one.pixels_b)
    distances, parallax = triangulated(rays_a, rays_b, claims.b_from_a(one.pair))
    good = (parallax > _LEAST_PARALLAX) & (distances > 0) & (angles(claims, one) < EPIPOLAR_BAND)
    return one.pixels_a[good], distances[good]


def _ratios(claims: Claims, matched: Sequence[Matched], along_time: bool) -> list[np.ndarray]:
    """Stated over triangulated distances, of each pair of images that has some."""
    of_pairs = []
    for one in matched:
        if one.pair.along_time == along_time:
            pixels, distances = _seen(claims, one)
            ratios = depth_at(claims.shots[one.pair.a], pixels) / distances
            of_pairs.append(ratios[np.isfinite(ratios)])
    return [ratios for ratios in of_pairs if len(ratios)]


def _median(of_pairs: Sequence[np.ndarray]) -> float | None:
    """Of the pairs' medians, whatever their numbers of matches: an error of one pose makes all ratios of a pair wrong
    together, a wrong unit those of every pair. None where there are too few."""
    if sum(map(len, of_pairs)) < FEWEST:
        return None
    return float(np.median([np.median(ratios) for ratios in of_pairs]))


def _scale(claims: Claims, name: str, medians: dict[str, float]) -> Finding:
    what = f"depth over that triangulated {'along time' if name == 'time' else 'between cameras'}"
    expected = f"within {_RATIO_BAND:g} of 1"
    if name not in medians:
        reason = f"fewer than {FEWEST} matches of {_LEAST_PARALLAX:g} degrees parallax have a depth"
        return Finding(claims.scene, what, float("nan"), "", expected, False, reason)
    fault = abs(medians[name] - 1) > _RATIO_BAND
    words = _scale_words(name, medians) if fault else ""
    return Finding(claims.scene, what, medians[name], "", expected, fault, words)


def _scale_words(name: str, medians: dict[str, float]) -> str:
    """Which of depth, poses and rig is of another unit."""
    if not _depth_is_wrong(medians):
        wrong, right = ("poses", "rig calibration") if name == "time" else ("the rig's calibration", "poses")
        return f"{wrong} look {1 / medians[name]:.3g} times too long; {right} and depth agree better"
    ratio = medians[name]
    unit = next((words for factor, words in _UNITS.items() if abs(ratio / factor - 1) < 2 * _RATIO_BAND), "")
    words = unit or f"depth is {ratio:.3g} times what poses and images say: another unit"
    return words if len(medians) == 2 else f"{words}; or poses are {1 / ratio:.3g} times too long"


def _depth_is_wrong(medians: dict[str, float]) -> bool:
    """Not known otherwise: along time and between cameras depth is off by one factor, or only one of them tells."""
    return len(medians) == 1 or abs(medians["time"] / medians["cameras"] - 1) < 2 * _RATIO_BAND


def _rescaled(claims: Claims, medians: dict[str, float]) -> Claims:
    """The claims without the wrong scale."""
    if _depth_is_wrong(medians):
        return with_shots(claims, lambda shot: {"depth": _scaled_depth(shot.depth, 1 / next(iter(medians.values())))})
    if abs(medians["time"] - 1) > _RATIO_BAND:
        claims = with_body_poses(claims, lambda pose: _stretched(pose, medians["time"]))
    if abs(medians["cameras"] - 1) > _RATIO_BAND:
        claims = with_places(claims, lambda place: _stretched(place, medians["cameras"]))
    return claims


def _scaled_depth(depth: DenseDepth | SparseDepth, factor: float) -> DenseDepth | SparseDepth:
    if isinstance(depth, SparseDepth):
        return dataclasses.replace(depth, depths=depth.depths * factor)
    return DenseDepth(depth.values.astype(np.float32) * factor)


def _stretched(pose: Float[np.ndarray, "4 4"], factor: float) -> Float[np.ndarray, "4 4"]:
    return rigid.from_rotation_translation(pose[:3, :3], factor * pose[:3, 3])


def _warp(claims: Claims) -> Finding:
    """Points of one image's depth held against the depth of the others that see them."""
    errors = []
    for pair in claims.pairs:
        if (relative := _warp_errors(claims, pair)) is not None:
            errors.append(float(np.median(np.abs(relative))))
    value = float(np.median(errors)) if errors else float("nan")
    words = "" if errors else "no two images with depth see the same points"
    fault = value > _WARP_BAND
    words = "depths of neighbouring images disagree: poses, depth's unit, or its registration" if fault else words
    expected = f"under {_WARP_BAND:g}"
    return Finding(claims.scene, "depth moved into other images", value, "of the distance", expected, fault, words)


def _warp_errors(claims: Claims, pair: Pair) -> np.ndarray | None:
    """Relative differences of the points of image a from the depth of image b; None where too few are seen."""
    a, b = claims.shots[pair.a], claims.shots[pair.b]
    pixels, distances = a.depths
    chosen = np.linspace(0, len(pixels) - 1, min(len(pixels), _POINTS)).astype(int)
    points_b = moved(a.lens.rays(pixels[chosen]), distances[chosen], claims.b_from_a(pair))
    if not b.lens.wide:
        points_b = points_b[points_b[:, 2] > 0.1]
    expected = np.linalg.norm(points_b, axis=-1)
    relative = depth_at(b, b.lens.project(points_b)) / expected - 1
    relative = relative[np.isfinite(relative) & (np.abs(relative) < 1)]
    return relative if len(relative) >= FEWEST else None


def _shift(claims: Claims, matched: Sequence[Matched]) -> Finding | None:
    """The fault of dense depth that lies beside its image: the shift at which it agrees with triangulated distances."""
    seen = []
    for one in matched:
        shot = claims.shots[one.pair.a]
        if isinstance(shot.depth, SparseDepth):
            return None
        pixels, distances = _seen(claims, one)
        seen.append((shot, pixels, distances))
    if sum(len(pixels) for _, pixels, _ in seen) < 10 * FEWEST:
        return None

    def error(right: int, down: int) -> float:
        logs = [np.abs(np.log(depth_at(shot, pixels + (right, down)) / away)) for shot, pixels, away in seen]
        logs = np.concatenate(logs)
        return float(np.nanmean(np.minimum(logs, 0.5))) if np.isfinite(logs).sum() >= FEWEST else np.inf

    step = max(2, round(max(seen[0][0].image.shape[:2]) / 100))
    offsets = range(-6 * step, 7 * step, step)
    table = {(right, down): error(right, down) for right in offsets for down in offsets}
    best = min(table, key=table.get)
    if table[best] > 0.75 * table[0, 0] or max(map(abs, best)) < 2 * step:
        return None
    words = (
        f"depth looks shifted by {best[0]}, {best[1]} pixels (right, down) from its images: it is of another camera, "
        "not registered to the colour camera"
    )
    value = float(np.hypot(*best))
    return Finding(claims.scene, "registration of depth", value, "pixels", f"under {2 * step}", True, words)
