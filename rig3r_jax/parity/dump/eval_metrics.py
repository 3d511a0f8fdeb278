"""golden/eval_metrics: trajectory errors, calibration statistics and windows of an evaluation against ours."""

from collections.abc import Iterator, Mapping

import numpy as np

from rig3r_jax.data.windows import consecutive_windows
from rig3r_jax.evaluation import trajectory
from rig3r_jax.evaluation.calibration import calibration_report
from rig3r_jax.evaluation.d2 import CENTRAL_LEVELS, DIMENSIONS
from rig3r_jax.evaluation.error_samples import ErrorSamples
from rig3r_jax.evaluation.points import fit_similarity
from rig3r_jax.parity.compare import Comparison, Skipped
from rig3r_jax.parity.dump.folder import Archive, Dump
from rig3r_jax.parity.dump.rows import Ours, Results, cases, compare_arrays, left_out

ARRAYS, NUMBERS = "eval.npz", "eval.json"
_SPECIFIC = "reference-specific, not compared"
_FIRST_FRAME = "the reference turns degenerate windows by their first frame; " + _SPECIFIC
_VARIANCE_FLOOR = 1e-12  # the reference adds it to the constant variance before the logarithm
_LOG_2_PI = np.log(2 * np.pi)


def compare_folder(dump: Dump) -> Iterator[Comparison | Skipped]:
    """Everything that has a definition outside the reference; the rest is named."""
    arrays, numbers = dump.needed(ARRAYS), dump.json(NUMBERS)
    for case in cases(arrays, "__gt_w2c"):
        if case != "lc":
            yield from _trajectory(dump, arrays, numbers.get(case, {}), case)
    if "cal__residuals" in arrays and "cal__log_var" in arrays:
        yield from _calibration(dump, arrays, numbers.get("calibration", {}))
    yield from _windows(dump, numbers.get("generate_windows", {}))
    yield from (Skipped(f"{NUMBERS}/{name}", _SPECIFIC) for name in ("lc_windows", "sampler") if name in numbers)
    yield from left_out(dump, {".*": _SPECIFIC})


def _trajectory(dump: Dump, arrays: Archive, numbers: Mapping, case: str) -> Iterator[Comparison | Skipped]:
    """Umeyama, absolute errors under every alignment, and the relative error of world_from_camera motions."""
    true, estimated = (_world_from_camera(arrays[f"{case}__{side}_w2c"]) for side in ("gt", "pred"))
    fit = fit_similarity(estimated[:, :3, 3], true[:, :3, 3])
    ours: Results = {"umeyama_R": fit.rotation, "umeyama_t": fit.translation, "umeyama_s": fit.scale}
    for alignment in ("sim3", "se3", "none"):
        if (theirs := numbers.get(f"ate_{alignment}")) is None:
            continue
        aligned = trajectory.align_trajectory(estimated, true, theirs.get("actual_align", alignment))
        moved, scaled = aligned.world_from_camera, theirs.get("actual_align", alignment) == "sim3"
        ours[f"{alignment}_aligned_positions"] = moved[:, :3, 3]
        ours[f"{alignment}_R"] = np.eye(3) if aligned.fit is None else aligned.fit.rotation
        turns = _statistics("rot", trajectory.absolute_errors(moved, true, "rot_deg"))
        if theirs.get("is_degenerate", False):
            turns = dict.fromkeys(turns, _FIRST_FRAME)
        else:
            ours[f"{alignment}_aligned_poses"] = np.linalg.inv(moved)[:, :3]
        results = _statistics("trans", trajectory.absolute_errors(moved, true)) | turns
        results["scale"] = aligned.fit.scale if aligned.fit is not None and scaled else 1.0
        yield from compare_arrays(dump, f"{NUMBERS}/{case}/ate_{alignment}", results, theirs=theirs)
    yield from compare_arrays(dump, ARRAYS, ours, f"{case}__")
    yield from _relative(dump, arrays, numbers, case, estimated, true)


def _relative(
    dump: Dump, arrays: Archive, numbers: Mapping, case: str, estimated: np.ndarray, true: np.ndarray
) -> Iterator[Comparison | Skipped]:
    """The textbook error; of degenerate windows it is that of the reference's own aligned cameras."""
    textbook, other = "rpe_sim3_textbook_c2w", f"composes camera_from_world motions; {_SPECIFIC}"
    for name in numbers:
        if name.startswith("rpe_") and name != textbook:
            yield Skipped(f"{NUMBERS}/{case}/{name}", other)
    moved, note = trajectory.align_trajectory(estimated, true, "sim3").world_from_camera, ""
    if numbers.get("ate_sim3", {}).get("is_degenerate") and f"{case}__sim3_aligned_poses" in arrays:
        moved, note = _world_from_camera(arrays[f"{case}__sim3_aligned_poses"]), "of their aligned cameras"
    ours = {}
    for name, part in {"trans_rmse": "trans", "rot_rmse": "rot_deg"}.items():
        errors = trajectory.relative_errors(moved, true, part)
        ours[name] = Ours(trajectory.statistics(errors)["rmse"], note=note)
    yield from compare_arrays(dump, f"{NUMBERS}/{case}/{textbook}", ours, theirs=numbers.get(textbook, {}))


def _statistics(part: str, errors: np.ndarray) -> Results:
    """Root mean square, mean and percentiles (interpolated between neighbours)."""
    ours = {f"{part}_{name}": trajectory.statistics(errors)[name] for name in ("rmse", "mean")}
    return ours | {f"{part}_p{percent}": np.percentile(errors, percent) for percent in (50, 90, 95, 99)}


def _calibration(dump: Dump, arrays: Archive, numbers: Mapping) -> Iterator[Comparison | Skipped]:
    """The report of Gaussian log-variances; the baseline is fitted to the same residuals, as the reference does."""
    residual, log_variance = arrays["cal__residuals"], arrays["cal__log_var"]
    variance = np.mean(residual**2, axis=0)
    report, baseline, unit = (
        calibration_report(ErrorSamples(residual, np.broadcast_to(x, residual.shape)), residual)
        for x in (np.exp(log_variance), variance, 1.0)
    )
    likelihoods = {
        "nll_trained": report.nll - 0.5 * _LOG_2_PI,
        "nll_baseline_mle": report.baselines["constant_sigma"] - 0.5 * _LOG_2_PI,
        "nll_baseline_unit": unit.nll - 0.5 * _LOG_2_PI,
        "nll_improvement_vs_mle": report.margins["constant_sigma"],
    }
    loose = {"tolerance": 1e-8, "note": f"the reference adds {_VARIANCE_FLOOR:g} to the variance"}
    ours = {
        **{name: Ours(x, floor=1.0, **(loose if "mle" in name else {})) for name, x in likelihoods.items()},
        "d2_trained": report.d2["pose"].mean,
        "d2_mle": baseline.d2["pose"].mean,
        "d2_total_mean": report.d2["pose"].mean,
        **{f"coverage_{level}": report.coverage["pooled"][level] for level in CENTRAL_LEVELS},
        **{f"{part}_off_diag": report.whitened_off_diagonal[part] for part in ("max", "mean")},
    }
    for part in ("rot", "trans"):
        d2 = report.d2[part]
        ours |= {f"d2_{part}_mean": d2.mean, f"d2_{part}_p95": d2.p95, f"ks_{part}_pvalue": d2.ks_pvalue}
    for dimension in DIMENSIONS:
        name = f"per_dim/{dimension.replace('_', '')}"
        ours |= {f"{name}/{level}": report.coverage[dimension][level] for level in CENTRAL_LEVELS}
    theirs = {name: x for name, x in numbers.items() if name != "per_dim"}
    theirs |= {
        f"per_dim/{name}/{level}": x for name, of in numbers.get("per_dim", {}).items() for level, x in of.items()
    }
    yield from compare_arrays(dump, f"{NUMBERS}/calibration", dict.fromkeys(theirs, _SPECIFIC) | ours, theirs=theirs)
    ours = {
        "whitened_cov": report.whitened_covariance,
        "sigma_mle": np.sqrt(variance),
        "log_var_mle": Ours(np.log(variance + _VARIANCE_FLOOR), note=f"of the variance + {_VARIANCE_FLOOR:g}"),
    }
    yield from compare_arrays(dump, ARRAYS, ours, "cal__")


def _windows(dump: Dump, theirs: Mapping) -> Iterator[Comparison | Skipped]:
    """[start, end) of windows of `length` frames that overlap by a share, under the key "frames,length,overlap"."""
    ours = {}
    for key, expected in theirs.items():
        frames, length, overlap = key.split(",")
        windows = consecutive_windows(int(frames), int(length), float(overlap))
        ours[key] = windows if len(expected) else Ours(len(windows), note="their number")
    theirs = {key: expected or 0 for key, expected in theirs.items()}
    yield from compare_arrays(dump, f"{NUMBERS}/generate_windows", ours, theirs=theirs)


def _world_from_camera(camera_from_world: np.ndarray) -> np.ndarray:
    square = np.broadcast_to(np.eye(4), (len(camera_from_world), 4, 4)).copy()
    square[:, :3] = camera_from_world
    return np.linalg.inv(square)
