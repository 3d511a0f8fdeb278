"""golden/eval_metrics: trajectory errors, calibration statistics and windows of an evaluation against ours."""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from rig3r_jax.data.windows import consecutive_windows
from rig3r_jax.evaluation import trajectory
from rig3r_jax.evaluation.calibration import calibration_report
from rig3r_jax.evaluation.d2 import CENTRAL_LEVELS, DIMENSIONS
from rig3r_jax.evaluation.error_samples import ErrorSamples
from rig3r_jax.evaluation.points import fit_similarity
from rig3r_jax.parity.compare import Comparison, Skipped, compare
from rig3r_jax.parity.dump.folder import Archive, Dump
from rig3r_jax.parity.dump.rows import Ours, compare_arrays

ARRAYS, NUMBERS = "eval.npz", "eval.json"
_SPECIFIC = "reference-specific, not compared"
_FIRST_FRAME = "the reference turns degenerate windows by their first frame; " + _SPECIFIC
_VARIANCE_FLOOR = 1e-12  # the reference adds it to the constant variance before the logarithm
_LOG_2_PI = np.log(2 * np.pi)
_PERCENTILE = re.compile(r"(trans|rot)_(rmse|mean|p\d+)")


def compare_folder(dump: Dump, tolerance: float | None) -> Iterator[Comparison | Skipped]:
    """Everything that has a definition outside the reference; the rest is named."""
    arrays, numbers = dump.needed(ARRAYS), dump.json(NUMBERS)
    for case in [
        name.removesuffix("__gt_w2c") for name in arrays if name.endswith("__gt_w2c") and name != "lc__gt_w2c"
    ]:
        yield from _trajectory(dump, arrays, numbers.get(case, {}), case, tolerance)
    if "cal__residuals" in arrays and "cal__log_var" in arrays:
        yield from _calibration(dump, arrays, numbers.get("calibration", {}), tolerance)
    yield from _windows(numbers.get("generate_windows", {}))
    yield from (Skipped(f"{NUMBERS}/{name}", _SPECIFIC) for name in ("lc_windows", "sampler") if name in numbers)
    yield from (Skipped(name, _SPECIFIC) for name in dump.unread())


def _trajectory(dump: Dump, arrays: Archive, numbers: dict, case: str, tolerance: float | None):
    """Umeyama, absolute errors under every alignment, and the relative error of world_from_camera motions."""
    true, estimated = (_world_from_camera(arrays[f"{case}__{side}_w2c"]) for side in ("gt", "pred"))
    fit = fit_similarity(estimated[:, :3, 3], true[:, :3, 3])
    ours: dict[str, Any] = {
        f"{case}__umeyama_R": fit.rotation,
        f"{case}__umeyama_t": fit.translation,
        f"{case}__umeyama_s": fit.scale,
    }
    for alignment in ("sim3", "se3", "none"):
        theirs = numbers.get(f"ate_{alignment}")
        if theirs is None:
            continue
        aligned = trajectory.align_trajectory(estimated, true, theirs.get("actual_align", alignment))
        moved, prefix = aligned.world_from_camera, f"{case}__{alignment}_"
        ours[f"{prefix}aligned_positions"] = moved[:, :3, 3]
        ours[f"{prefix}R"] = np.eye(3) if aligned.fit is None else aligned.fit.rotation
        degenerate = theirs.get("is_degenerate", False)
        if not degenerate:
            ours[f"{prefix}aligned_poses"] = np.linalg.inv(moved)[:, :3]
        errors = {"trans": trajectory.absolute_errors(moved, true)}
        errors["rot"] = trajectory.absolute_errors(moved, true, "rot_deg")
        yield from _statistics(f"{NUMBERS}/{case}/ate_{alignment}", theirs, errors, degenerate, tolerance)
        scale = 1.0 if aligned.fit is None or theirs.get("actual_align", alignment) != "sim3" else aligned.fit.scale
        if "scale" in theirs:
            yield compare(f"{NUMBERS}/{case}/ate_{alignment}/scale", scale, theirs["scale"], tolerance=tolerance)
    yield from _relative(arrays, numbers, case, estimated, true, tolerance)
    yield from compare_arrays(dump, ARRAYS, ours, tolerance)


def _statistics(name: str, theirs: dict, errors: dict, degenerate: bool, tolerance: float | None):
    """Root mean square, mean and percentiles (interpolated between neighbours) of errors by part."""
    for key, value in theirs.items():
        if not (match := _PERCENTILE.fullmatch(key)):
            continue
        part, what = match.groups()
        if part == "rot" and degenerate:
            yield Skipped(f"{name}/{key}", _FIRST_FRAME)
            continue
        values = errors[part]
        if what.startswith("p"):
            ours = np.percentile(values, float(what[1:]))
        else:
            ours = trajectory.statistics(values)[what]
        yield compare(f"{name}/{key}", ours, np.float64(value), tolerance=tolerance)


def _relative(
    arrays: Archive, numbers: dict, case: str, estimated: np.ndarray, true: np.ndarray, tolerance: float | None
):
    """The textbook error; of degenerate windows it is that of the reference's own aligned cameras."""
    for name in numbers:
        if name.startswith("rpe_") and not name.endswith("_textbook_c2w"):
            yield Skipped(f"{NUMBERS}/{case}/{name}", f"composes camera_from_world motions; {_SPECIFIC}")
    theirs = numbers.get("rpe_sim3_textbook_c2w", {})
    note, moved = "", trajectory.align_trajectory(estimated, true, "sim3").world_from_camera
    if numbers.get("ate_sim3", {}).get("is_degenerate") and f"{case}__sim3_aligned_poses" in arrays:
        note, moved = "of their aligned cameras", _world_from_camera(arrays[f"{case}__sim3_aligned_poses"])
    for key, part in {"trans_rmse": "trans", "rot_rmse": "rot_deg"}.items():
        if key in theirs:
            value = trajectory.statistics(trajectory.relative_errors(moved, true, part))["rmse"]
            label = f"{NUMBERS}/{case}/rpe_sim3_textbook_c2w/{key}"
            yield compare(label, value, np.float64(theirs[key]), tolerance=tolerance, note=note)


def _calibration(dump: Dump, arrays: Archive, theirs: dict, tolerance: float | None):
    """The report of Gaussian log-variances; the baseline is fitted to the same residuals, as the reference does."""
    residual, log_variance = arrays["cal__residuals"], arrays["cal__log_var"]
    report = calibration_report(ErrorSamples(residual, np.exp(log_variance)), residual)
    variance = np.mean(residual**2, axis=0)
    baseline = calibration_report(ErrorSamples(residual, np.broadcast_to(variance, residual.shape)), residual)
    unit = calibration_report(ErrorSamples(residual, np.ones_like(residual)), residual)
    ours = {
        "nll_trained": report.nll - 0.5 * _LOG_2_PI,
        "nll_baseline_mle": report.baselines["constant_sigma"] - 0.5 * _LOG_2_PI,
        "nll_baseline_unit": unit.nll - 0.5 * _LOG_2_PI,
        "nll_improvement_vs_mle": report.margins["constant_sigma"],
        "d2_trained": report.d2["pose"].mean,
        "d2_mle": baseline.d2["pose"].mean,
        "d2_total_mean": report.d2["pose"].mean,
        **{f"d2_{part}_mean": report.d2[part].mean for part in ("rot", "trans")},
        **{f"d2_{part}_p95": report.d2[part].p95 for part in ("rot", "trans")},
        **{f"ks_{part}_pvalue": report.d2[part].ks_pvalue for part in ("rot", "trans")},
        **{f"coverage_{level}": report.coverage["pooled"][level] for level in CENTRAL_LEVELS},
        **{f"{part}_off_diag": report.whitened_off_diagonal[part] for part in ("max", "mean")},
    }
    for dimension in DIMENSIONS:
        short = dimension.replace("_", "")
        ours |= {f"per_dim/{short}/{level}": report.coverage[dimension][level] for level in CENTRAL_LEVELS}
    flat = {key: value for key, value in theirs.items() if key != "per_dim"}
    for short, levels in theirs.get("per_dim", {}).items():
        flat |= {f"per_dim/{short}/{level}": value for level, value in levels.items()}
    for key, value in flat.items():
        label = f"{NUMBERS}/calibration/{key}"
        if key not in ours:
            yield Skipped(label, _SPECIFIC)
        elif key in ("nll_baseline_mle", "nll_improvement_vs_mle"):
            loose = 1e-8 if tolerance is None else tolerance
            note = f"the reference adds {_VARIANCE_FLOOR:g} to the variance"
            yield compare(label, ours[key], np.float64(value), tolerance=loose, note=note, floor=1.0)
        else:
            yield compare(label, ours[key], np.float64(value), tolerance=tolerance, floor=1.0 if "nll" in key else 0.0)
    found = {
        "cal__whitened_cov": report.whitened_covariance,
        "cal__sigma_mle": np.sqrt(variance),
        "cal__log_var_mle": Ours(np.log(variance + _VARIANCE_FLOOR), note=f"of the variance + {_VARIANCE_FLOOR:g}"),
    }
    yield from compare_arrays(dump, ARRAYS, found, tolerance)


def _windows(theirs: dict):
    """[start, end) of windows of `length` frames that overlap by a share, under the key "frames,length,overlap"."""
    for key, expected in theirs.items():
        label = f"{NUMBERS}/generate_windows/{key}"
        frames, length, overlap = key.split(",")
        windows = consecutive_windows(int(frames), int(length), float(overlap))
        if len(expected):
            yield compare(label, windows, np.array(expected, np.int64))
        else:
            yield compare(label, len(windows), np.int64(0), note="their number")


def _world_from_camera(camera_from_world: np.ndarray) -> np.ndarray:
    square = np.broadcast_to(np.eye(4), (len(camera_from_world), 4, 4)).copy()
    square[:, :3] = camera_from_world
    return np.linalg.inv(square)
