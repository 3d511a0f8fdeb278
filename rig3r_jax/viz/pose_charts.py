"""Charts of how a pose uncertainty head learnt, as PNG, and their numbers as a Markdown table; runs are overlaid."""

import dataclasses
import math
import textwrap
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float

from rig3r_jax.evaluation.d2 import (
    NAMES,
    OVER,
    RAW_METRIC,
    STEP_METRIC,
    TARGET,
    UNDER,
    UNITS,
    WINDOWED_METRIC,
    WINDOWS,
    band,
    status,
)
from rig3r_jax.formats import markdown
from rig3r_jax.formats.atomic import write_atomically
from rig3r_jax.viz.figures import COLORS, DASHES, INK, figure, plain_ticks
from rig3r_jax.viz.histories import Curve, History

ROWS = 100  # logged values of a trailing mean
_MIN_SMOOTHED = 60
_STOPS = (0.2, 0.4, 0.6, 1.0)  # parts of a run at which the table reads it: 100, 200, 300, 500 of 500 steps
_PARTS = {part: NAMES[part].capitalize() for part in UNITS}


@dataclasses.dataclass(frozen=True)
class Panel:
    """One pair of axes. `kind`: "lines", "share" (0..1 drawn as percent), "d2", or "band" (low, middle, high)."""

    title: str
    y_label: str
    lines: dict[str, str]  # metric -> its word in the legend
    kind: str = "lines"
    log_y: bool = False


@dataclasses.dataclass(frozen=True)
class Chart:
    """One file."""

    title: str
    panels: tuple[Panel, ...]

    def metrics(self) -> list[str]:
        return [name for panel in self.panels for name in panel.lines]


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
        for part, title in _PARTS.items()
    )


CHARTS = {
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


def write_charts(histories: Mapping[str, History], output_dir: str | Path) -> list[Path]:
    """Writes every chart of `CHARTS` that any run has metrics of, and summary_table.md; returns what was written.

    Runs (up to six, by label) share axes. What is not drawn is named by `absent_charts` and in the table.
    """
    if not 1 <= len(histories) <= len(COLORS):
        raise ValueError(f"{len(histories)} runs to draw; give 1 to {len(COLORS)}")
    output_dir = Path(output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    absent, written = absent_charts(histories), []
    for name, chart in CHARTS.items():
        if name in absent:
            continue
        panels = [panel for panel in chart.panels if _curves(panel, histories)]
        written.append(output_dir / f"{name}.png")
        with figure(written[-1], chart.title, len(panels)) as axes:
            for panel, ax in zip(panels, axes, strict=True):
                _draw(ax, panel, histories)
    written.append(output_dir / "summary_table.md")
    write_atomically(written[-1], summary_table(histories).encode())
    return written


def absent_charts(histories: Mapping[str, History]) -> dict[str, list[str]]:
    """Charts that no run has a metric of, and the metrics they want."""
    return {
        name: chart.metrics()
        for name, chart in CHARTS.items()
        if not any(_curves(panel, histories) for panel in chart.panels)
    }


def summary_table(histories: Mapping[str, History]) -> str:
    """Markdown: d2 with its status in each run's course, then every metric of the charts at the end of the runs."""
    lines = ["# Pose uncertainty training", ""]
    titles = ["run", "step"]
    for part in ("rot", "trans"):
        titles += [f"d2_{part}", "windowed", "status", f"sqrt_info_{part}_p90", f"clamp hit {part}"]
    rows = []
    for label, history in histories.items():
        last = max(curve.steps[-1] for curve in history.curves.values())
        rows += [[label, *_course(history, round(last * stop))] for stop in _STOPS]
    lines += [markdown.table(titles, rows), "", *_d2_legend(histories), ""]
    titles = [f"{label}, {what}" for label in histories for what in ("last", f"mean of last {ROWS} rows")]
    rows = []
    for name in dict.fromkeys(name for chart in CHARTS.values() for name in chart.metrics()):
        found = [history.find(name) for history in histories.values()]
        if any(found):
            cells = [cell for curve in found for cell in (_last(curve, 1), _last(curve, ROWS))]
            rows.append([name, *map(markdown.number, cells)])
    lines += ["## At the end", "", markdown.table(["metric", *titles], rows)]
    for chart, wanted in absent_charts(histories).items():
        lines += ["", f"Not drawn: {chart}; no run logged {', '.join(wanted)}."]
    return "\n".join(lines) + "\n"


def _d2(history: History, part: str) -> tuple[Curve | None, Curve | None, bool]:
    """d2 of a step; its windowed mean; whether both are of the raw d2, because the run logged no other."""
    step, windowed = (history.find(name.format(part=part)) for name in (STEP_METRIC, WINDOWED_METRIC))
    if step or windowed:
        return step, windowed, False
    raw = history.find(RAW_METRIC.format(part=part))
    return raw, raw and Curve(raw.steps, trailing_mean(raw.values)), raw is not None


def _d2_legend(histories):
    """What d2 and its mean are in the table, and of which runs they are something else."""
    lines = [
        f"d2 of one step, under the predictive variance, is noise: the status is that of the last {WINDOWS} windows,",
        f"calibrated in {band()[0]} to {band()[1]}, below {UNDER} (sigma too large), above {OVER}.",
    ]
    raw = [label for label, history in histories.items() if any(_d2(history, part)[2] for part in _PARTS)]
    if raw:
        lines += [
            "",
            f"Of {', '.join(raw)}, without a logged windowed d2: d2 is the raw r^2 exp(-log variance), its mean",
            f"that of the last {ROWS} logged rows, and the status holds under a Gaussian law alone (calibrated is 6",
            "of a Laplace law, 3 nu / (nu - 2) of a Student-t law).",
        ]
    return lines


def _curves(panel: Panel, histories: Mapping[str, History]) -> list[tuple[str, str, Curve]]:
    """(label, metric, curve) of everything that a panel can show."""
    found = [(label, name, history.find(name)) for label, history in histories.items() for name in panel.lines]
    return [(label, name, curve) for label, name, curve in found if curve and np.isfinite(curve.values).any()]


def _draw(ax, panel, histories):
    """All lines of all runs: colours tell runs apart and dashes metrics; of one run, colours tell metrics apart."""
    histories = {textwrap.fill(label, 34): history for label, history in histories.items()}  # of the legend
    ax.set(title=panel.title, xlabel="step", ylabel=panel.y_label)
    if panel.kind == "d2":
        _draw_d2(ax, panel, histories)
        _finish(ax, panel)
        return
    labels, metrics = list(histories), list(panel.lines)
    for label, name, curve in _curves(panel, histories):
        run, line = labels.index(label), metrics.index(name)
        several = len(labels) > 1
        color, dash = (
            COLORS[run if several else line],
            DASHES[line % len(DASHES) if several or panel.kind == "share" else 0],
        )
        words = [label] * several + [panel.lines[name]] * (not several or len(metrics) > 1)
        if panel.kind == "band":
            _draw_band(ax, panel, histories[label], line, COLORS[run], label if several else "")
            continue
        values = 100.0 * curve.values if panel.kind == "share" else curve.values
        values = np.where(values > 0, values, np.nan) if panel.log_y else values
        length = max(3, len(values) // 25)
        if len(values) >= _MIN_SMOOTHED:
            ax.plot(curve.steps, values, color=color, lw=0.7, alpha=0.35)
            ax.set_xlabel(f"step   (thin: as logged, bold: mean of the last {length} values)")
            values = trailing_mean(values, length)
        mark = "o" if len(values) == 1 else None
        ax.plot(curve.steps, values, color=color, ls=dash, lw=1.7, marker=mark, label=", ".join(words))
    _finish(ax, panel)


def _draw_d2(ax, panel, histories):
    """Of every run one step's d2, thin, and the windowed one, bold."""
    ax.axhspan(*band(), color=COLORS[2], alpha=0.15, lw=0)
    ax.axhline(TARGET, color=INK, lw=1.0, ls="--", label=f"target {TARGET:g}")
    ax.set_xlabel("step   (thin: as logged, bold: windowed)")
    part = next(part for part, title in _PARTS.items() if title == panel.title)
    for color, (label, history) in zip(COLORS, histories.items(), strict=False):
        step, windowed, raw = _d2(history, part)
        words = f"raw, last {ROWS} rows;\ntarget of a Gaussian law" if raw else f"last {WINDOWS} windows"
        words = f"{label}:\n{words}" if len(histories) > 1 else words
        for curve, width, alpha in ((step, 0.7, 0.35), (windowed, 1.7, 1.0)):
            if curve is None:
                continue
            values = np.where(curve.values > 0, curve.values, np.nan)
            mark = "o" if curve is windowed and len(values) == 1 else None
            named = words if curve is windowed and np.isfinite(values).any() else None
            ax.plot(curve.steps, values, color=color, lw=width, alpha=alpha, marker=mark, label=named)


def _draw_band(ax, panel, history, line, color, label):
    """The middle metric as a line; the outer two as an area, once both are there."""
    curves = [history.find(name) for name in panel.lines]
    words = list(panel.lines.values())
    prefix = f"{label}, " if label else ""
    if line == 1:
        ax.plot(curves[1].steps, curves[1].values, color=color, lw=1.6, label=f"{prefix}{words[1]}")
    elif line == 0 and curves[2] and np.array_equal(curves[0].steps, curves[2].steps):
        area = f"{prefix}{words[0]} to {words[2]}"
        ax.fill_between(curves[0].steps, curves[0].values, curves[2].values, color=color, alpha=0.22, lw=0, label=area)


def trailing_mean(values: Float[np.ndarray, "n"], length: int = ROWS) -> Float[np.ndarray, "n"]:
    """Mean of the last `length` finite values at every place; NaN until a tenth of them have come."""
    finite = np.isfinite(values)
    sums = np.concatenate([[0.0], np.cumsum(np.where(finite, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(finite)])
    end = np.arange(1, len(values) + 1)
    start = np.maximum(end - length, 0)
    count = counts[end] - counts[start]
    return np.where(count * 10 >= min(length, len(values)), (sums[end] - sums[start]) / np.maximum(count, 1), np.nan)


def _finish(ax, panel):
    if panel.kind == "share":
        top = max(105.0 if ax.dataLim.y1 > 50 else 1.15 * ax.dataLim.y1, 10.0)
        ax.set_ylim(-0.02 * top, top)
    if panel.log_y:
        ax.set_yscale("log")
        if panel.kind == "d2":
            low, high = ax.get_ylim()
            ax.set_ylim(min(low, 0.8), max(high, 8.0))
        plain_ticks(ax.yaxis)
    ax.margins(x=0.01)
    entries = len(ax.get_legend_handles_labels()[1])
    if entries > 4:  # too many to leave the lines in sight
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2)
    elif entries:
        ax.legend(loc="best")


def _course(history, step):
    cells = [f"{step:g}"]
    for part in ("rot", "trans"):
        d2, windowed, raw = _d2(history, part)
        mean = _last(d2, ROWS, step) if raw else _logged(windowed, step)
        hits = _last(history.find(f"diagnostic/sqrt_info_{part}_clamp_hit"), 1, step)
        cells += [markdown.number(_last(d2, 1, step)), markdown.number(mean), status(mean)]
        cells.append(markdown.number(_last(history.find(f"diagnostic/sqrt_info_{part}_p90"), 1, step)))
        cells.append("-" if math.isnan(hits) else f"{100 * hits:.0f} %")
    return cells


def _last(curve, count, step=math.inf):
    """Mean of the last finite values up to a step; NaN without any."""
    values = np.zeros(0) if curve is None else curve.values[(curve.steps <= step) & np.isfinite(curve.values)]
    return float(values[-count:].mean()) if len(values) else math.nan


def _logged(curve, step):
    """The value logged last up to a step; NaN too, which is no mean of fewer windows."""
    values = np.zeros(0) if curve is None else curve.values[curve.steps <= step]
    return float(values[-1]) if len(values) else math.nan
