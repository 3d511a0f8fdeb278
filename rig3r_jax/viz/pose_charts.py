"""The charts of how a pose uncertainty head learnt: what is drawn of which metrics."""

from rig3r_jax.evaluation.d2 import RAW_METRIC, STEP_METRIC, UNITS, WINDOWED_METRIC, WINDOWS
from rig3r_jax.viz.metric_panels import PARTS, Chart, Panel


def _pair(y_label: str, lines: dict[str, str], kind: str = "lines", log_y: bool = False) -> tuple[Panel, Panel]:
    """A panel each for translation and rotation; {part} in metrics and {unit} in the label are filled in."""
    return tuple(
        Panel(
            title,
            y_label.format(unit=UNITS[part]),
            {name.format(part=part): word for name, word in lines.items()},
            kind,
            log_y,
        )
        for part, title in PARTS.items()
    )


POSE_CHARTS = {
    "loss_curves": Chart(
        "Loss: negative log-likelihood",
        (
            Panel("All refinements, weighted", "NLL per component", {"loss/pose_uncertainty_nll": "total"}),
            *_pair("NLL per component", {"loss/{part}_uncertainty_nll": "last refinement"}),
        ),
    ),
    "calibration": Chart(
        "Calibration: squared error over predicted variance, of 3 components",
        _pair(
            "d2", {STEP_METRIC: "one step", WINDOWED_METRIC: f"last {WINDOWS} windows", RAW_METRIC: "raw"}, "d2", True
        ),
    ),
    "sigma_mean": Chart(
        "Predicted sigma, mean", _pair("sigma, {unit}", {"uncertainty/sigma_{part}_mean": "mean"}, log_y=True)
    ),
    "sigma_percentiles": Chart(
        "Predicted sigma: median, and 10th to 90th percentile",
        _pair(
            "sigma, {unit}",
            {f"diagnostic/sigma_{{part}}_p{p}": f"p{p}" for p in (10, 50, 90)},
            "band",
            True,
        ),
    ),
    "log_var_clamp_hit": Chart(
        "Log-variances at their bounds",
        _pair(
            "share, percent",
            {"diagnostic/log_var_{part}_at_min": "at lower", "diagnostic/log_var_{part}_at_max": "at upper"},
            "share",
        ),
    ),
    "clamp_hit_rate": Chart(
        "Square-root informations at their upper bound: no gradient passes there",
        _pair("share, percent", {"diagnostic/sqrt_info_{part}_clamp_hit": "at bound"}, "share"),
    ),
    "sqrt_info_percentiles": Chart(
        "Square-root information (1 / sigma), percentiles",
        _pair("1 / {unit}", {f"diagnostic/sqrt_info_{{part}}_p{p}": f"p{p}" for p in (90, 99)}, log_y=True),
    ),
    "residual_distribution": Chart(
        "Residuals of the frozen model: 90th percentile of their length",
        _pair("residual, {unit}", {"diagnostic/residual_{part}_p90": "p90"}, log_y=True),
    ),
    "scale_fitting": Chart(
        "Scale fitted to each window",
        (
            Panel(
                "Distance from the first frame, mean",
                "m",
                {
                    "diagnostic/gt_trans_norm_mean": "true",
                    "diagnostic/pred_trans_norm_scaled_mean": "predicted, scaled",
                    "diagnostic/pred_trans_norm_raw_mean": "predicted, raw",
                },
            ),
            Panel("Scale", "factor", {"scale/mean": "mean", "scale/std": "std", "scale/raw": "unbounded fit"}),
            Panel("Frames that move", "frames per window", {"scale/valid_count_mean": "mean"}),
        ),
    ),
}
