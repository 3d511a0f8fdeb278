"""Epipolar evidence of a scene: within its band, or which mistake would explain it."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy.optimize import least_squares

from rig3r_jax.inspection.claims import Claims
from rig3r_jax.inspection.evidence import Matched, angles, cost
from rig3r_jax.inspection.findings import Finding
from rig3r_jax.inspection.mistakes import Mistake, usual_mistakes, with_lenses

# Degrees. Calibrated recordings: 0.01 (EuRoC's stereo pair) to 0.2 (Waymo's neighbours) in the median. Between cameras
# that fire at different times while the vehicle drives, as nuScenes' do, up to 0.6 of single pairs.
EPIPOLAR_BAND = 0.3
_BETWEEN_BAND = 0.5
_BETTER = 0.5  # of the cost that a mistake must leave to be named
_SUSPECT_PAIR = 1.0  # degrees of one pair that is named though the scene is within the band
_SUSPECT_SHARE = 0.2  # of such pairs, two at least, that are a fault: one camera of several may be wrong


def judge_geometry(claims: Claims, matched: Sequence[Matched]) -> tuple[list[Finding], Mistake | None]:
    """Epipolar residuals along time and between cameras; with a fault, the mistake that would undo it, if one does."""
    mistake = None
    findings = []
    kinds = {"along time": True, "between cameras": False}
    for name, along_time in kinds.items():
        of_kind = [one for one in matched if one.pair.along_time == along_time]
        if any(pair.along_time == along_time for pair in claims.pairs):
            band = EPIPOLAR_BAND if along_time else _BETWEEN_BAND
            findings.append(_epipolar(claims, of_kind, f"epipolar, {name}", band))
    if any(finding.fault for finding in findings):
        mistake, words = explanation(claims, matched)
        findings = [dataclasses.replace(one, words=words) if one.fault else one for one in findings]
    elif half := _half_pixel(claims, matched):
        findings.append(half)
    return findings, mistake


def _epipolar(claims: Claims, matched: Sequence[Matched], what: str, band: float) -> Finding:
    expected = f"under {band:g}"
    if not matched:
        reason = "too few matches: no texture, no overlap, or images that do not belong together"
        return Finding(claims.scene, what, float("nan"), "degrees", expected, False, reason)
    medians = {claims.name(one.pair): float(np.median(angles(claims, one))) for one in matched}
    value = float(np.median(list(medians.values())))
    worst = max(medians, key=medians.get)
    suspects = sum(median > _SUSPECT_PAIR for median in medians.values())
    fault = value > band or suspects >= max(2, _SUSPECT_SHARE * len(medians))
    words = f"{suspects} of {len(medians)} pairs, {worst}: {medians[worst]:.2g} degrees" if suspects else ""
    return Finding(claims.scene, what, value, "degrees", expected, fault, words)


def explanation(claims: Claims, matched: Sequence[Matched]) -> tuple[Mistake | None, str]:
    """The mistake that leaves the least residual where that explains the fault; and what to say."""
    before = cost(claims, matched)
    costs = [(cost(mistake.undone, matched), mistake) for mistake in usual_mistakes(claims)]
    after, nearest = min(costs, key=lambda one: one[0])
    if after < _BETTER * before and after < 2 * EPIPOLAR_BAND:
        return nearest, f"{nearest.words} ({before:.2g} degrees as read, {after:.2g} without)"
    words = "no usual mistake explains it"
    if after < _BETTER * before:
        words += f" (the nearest, {nearest.words}, would leave {after:.2g} of {before:.2g} degrees)"
    return None, words + _what_agrees(claims, matched)


def _what_agrees(claims: Claims, matched: Sequence[Matched]) -> str:
    """Where only one kind of pairs disagrees: what that leaves to be wrong."""
    medians = {True: [], False: []}
    for one in matched:
        medians[one.pair.along_time].append(float(np.median(angles(claims, one))))
    if not all(medians.values()):
        return ""
    if np.median(medians[False]) < EPIPOLAR_BAND < np.median(medians[True]):
        return (
            "; between cameras the calibration agrees with the images, so it is the poses along time: "
            "they are imprecise, or their times are not those of the images"
        )
    if np.median(medians[True]) < EPIPOLAR_BAND < np.median(medians[False]):
        return "; along time poses agree with the images, so it is where the cameras sit on the rig, or their times"
    return ""


def _half_pixel(claims: Claims, matched: Sequence[Matched]) -> Finding | None:
    """The fault of pixel centres at whole numbers, where all principal points look half a pixel off, surely."""
    good = [one for one in matched if np.median(angles(claims, one)) < EPIPOLAR_BAND]
    if not good:
        return None

    def residuals(shift: np.ndarray) -> np.ndarray:
        moved = with_lenses(claims, lambda lens: lens.crop(-shift[0], -shift[1]))
        return np.concatenate([angles(moved, one) for one in good])

    fitted = least_squares(residuals, np.zeros(2), loss="cauchy", f_scale=0.05, diff_step=0.05)
    spread = np.sqrt(
        np.maximum(np.diag(np.linalg.pinv(fitted.jac.T @ fitted.jac)), 0) * 2 * fitted.cost / fitted.fun.size
    )
    for half in (0.5, -0.5):
        if np.all(np.abs(fitted.x - half) < 0.2) and np.all(np.abs(fitted.x) > 5 * spread):
            where = "at whole numbers read as at +0.5" if half > 0 else "at +0.5 read as at whole numbers"
            words = (
                f"pixel centres look {where}: principal points off by {fitted.x[0]:.2f}, {fitted.x[1]:.2f} pixels "
                f"(+- {spread[0]:.2f}, {spread[1]:.2f}); add {half:g} to cx and cy"
            )
            value = float(np.abs(fitted.x).mean())
            return Finding(claims.scene, "principal points", value, "pixels", "under 0.2", True, words)
    return None
