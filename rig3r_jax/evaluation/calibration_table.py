"""Calibration reports as Markdown tables: several side by side, and one in full."""

from collections.abc import Mapping

from rig3r_jax.evaluation.calibration import CalibrationReport
from rig3r_jax.evaluation.d2 import CENTRAL_LEVELS, DIMENSIONS, NAMES, UNITS, WINDOWS
from rig3r_jax.formats import markdown

LEGEND = (
    "d2: mean squared error over the predictive variance, of 3 components. Below its band: under-confident (sigma too "
    "large); above: over-confident. Coverage: percent of components inside the central 68.3 / 95.4 / 99.7 percent "
    "interval of their marginal law; whitened: of components made independent by the predicted covariance. NLL: per "
    "component, all constants. Margin: NLL of one constant sigma (same law, fit to the training residuals) less the "
    "NLL; positive is better. rho: rank correlation of sigma with the size of the error. Pairs: translation / "
    "rotation. -: nothing to measure."
)
_Kinds = Mapping[str, CalibrationReport]  # "before" and "after" recalibration, or "" for the one that there is


def summary_markdown(reports: Mapping[str, CalibrationReport]) -> str:
    """One row per report under its label, and one more after recalibration where it has been done."""
    titles = ["predictions", "law", "d2 translation", "status", "d2 rotation", "status", "coverage", "NLL", "margin"]
    titles += ["rho translation", "rho rotation", "sigma m", "sigma rad", f"worst d2 of {WINDOWS} windows"]
    rows = []
    for label, report in reports.items():
        rows.append([label, *_summary(report)])
        if report.recalibrated is not None:
            rows.append([f"{label}, recalibrated", *_summary(report.recalibrated)])
    return "\n".join([markdown.table(titles, rows, left=2), "", LEGEND]) + "\n"


def report_markdown(report: CalibrationReport, title: str = "Calibration") -> str:
    """Everything but the curves; columns before and after recalibration where it has been done."""
    kinds = {"": report} if report.recalibrated is None else {"before": report, "after": report.recalibrated}
    windows = "" if report.windows is None else f" of {report.windows} windows"
    facts = f"{report.samples} residuals{windows}, {_law(report)} law."
    if report.temperature is not None:
        named = ", ".join(f"{NAMES[name]} {_number(value, 4)}" for name, value in report.temperature.items())
        facts += f" Recalibration on a split of its own: variances times {named}."
    blocks = [f"## {title}", facts, _distance_table(kinds), _coverage_table(kinds), _score_table(kinds), LEGEND]
    return "\n\n".join(blocks) + "\n"


def _distance_table(kinds: _Kinds) -> str:
    titles = ["d2", "mean", "target", "calibrated in", "status", "p95", "p95 of chi-square", "KS", "raw", "raw target"]
    rows = []
    for kind, report in kinds.items():
        for name, part in report.d2.items():
            label = f"{NAMES[name]} {kind}".strip()
            band = f"{part.band[0]:.2f} to {part.band[1]:.2f}"
            cells = [f"{part.mean:.2f}", f"{part.target:.2f}", band, part.status, f"{part.p95:.2f}"]
            cells += [f"{part.p95_expected:.2f}", f"{part.ks:.3f}", f"{part.raw_mean:.2f}", f"{part.raw_target:.2f}"]
            rows.append([label, *cells])
    return markdown.table(titles, rows)


def _coverage_table(kinds: _Kinds) -> str:
    titles = [f"{100 * level:.1f} % {kind}".strip() for kind in kinds for level in CENTRAL_LEVELS.values()]
    rows = []
    names = ("pooled", *UNITS, *DIMENSIONS, "whitened")
    for name in (name for name in names if all(name in report.coverage for report in kinds.values())):
        shares = [report.coverage[name][level] for report in kinds.values() for level in CENTRAL_LEVELS]
        rows.append([NAMES.get(name, name), *(f"{100 * share:.1f}" for share in shares)])
    return markdown.table(["coverage, percent", *titles], rows)


def _score_table(kinds: _Kinds) -> str:
    rows = {
        "NLL per component": [_number(report.nll, 4) for report in kinds.values()],
        **{
            f"{name.replace('_', ' ')}: NLL (margin)": [
                f"{_number(report.baselines[name], 4)} ({_signed(report.margins[name])})" for report in kinds.values()
            ]
            for name in next(iter(kinds.values())).baselines
        },
        "mean |share - level| over intervals": [_number(report.calibration_error, 4) for report in kinds.values()],
        "KS against the stated law": [_number(report.ks_law, 4) for report in kinds.values()],
        "whitened covariance off its diagonal, max": [
            _number(report.whitened_off_diagonal["max"], 3) for report in kinds.values()
        ],
    }
    for name in UNITS:
        rows[f"rank correlation of sigma with error, {NAMES[name]}"] = [
            _number(report.spearman[name], 3) for report in kinds.values()
        ]
        for statistic in ("mean", "p10", "p50", "p90"):
            key = f"sigma_{name}_{statistic}"
            rows[f"sigma {NAMES[name]} {statistic}, {UNITS[name]}"] = [
                _number(report.sharpness[key], 5) for report in kinds.values()
            ]
        rows[f"worst d2 {NAMES[name]} over {WINDOWS} windows"] = [
            _number(report.windowed_d2[f"{name}_max"], 2) for report in kinds.values()
        ]
    titles = ["score", *(kind or "value" for kind in kinds)]
    return markdown.table(titles, [[label, *cells] for label, cells in rows.items()])


def _summary(report: CalibrationReport) -> list[str]:
    cells = [_law(report)]
    for name in UNITS:
        cells += [f"{report.d2[name].mean:.2f}", report.d2[name].status]
    cells.append(" / ".join(f"{100 * report.coverage['pooled'][level]:.1f}" for level in CENTRAL_LEVELS))
    cells += [_number(report.nll, 3), _signed(report.margins["constant_sigma"])]
    cells += [_number(report.spearman[name], 2) for name in UNITS]
    cells += [_number(report.sharpness[f"sigma_{name}_mean"], 4) for name in UNITS]
    worst = [_number(report.windowed_d2[f"{name}_max"], 2) for name in UNITS]
    return [*cells, " / ".join(worst)]


def _law(report: CalibrationReport) -> str:
    law = report.likelihood
    return f"Student-t, {law.dof:g} dof" if law.name == "student_t" else law.name.capitalize()


def _number(value: float, places: int) -> str:
    return markdown.number(value, f".{places}f")


def _signed(value: float) -> str:
    return markdown.number(value, "+.3f")
