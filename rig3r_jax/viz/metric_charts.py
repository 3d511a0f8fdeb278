"""Charts of the metrics of runs as PNG, and their numbers as a Markdown table."""

import math
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from rig3r_jax.evaluation.d2 import OVER, UNDER, WINDOWS, band, status
from rig3r_jax.formats import markdown
from rig3r_jax.formats.atomic import write_atomically
from rig3r_jax.viz.figures import COLORS, figure
from rig3r_jax.viz.histories import Curve, History
from rig3r_jax.viz.metric_panels import PARTS, ROWS, Chart, Panel, curves_of, d2_curves, draw_panel
from rig3r_jax.viz.pose_charts import POSE_CHARTS

_STOPS = (0.2, 0.4, 0.6, 1.0)  # parts of a run at which the table reads it: 100, 200, 300, 500 of 500 steps


def write_charts(
    histories: Mapping[str, History], output_dir: str | Path, charts: Mapping[str, Chart] = POSE_CHARTS
) -> list[Path]:
    """Writes every chart that any run has metrics of, and summary_table.md; returns what was written.

    Runs (up to six, by label) share axes. What is not drawn is named by `absent_charts` and in the table.
    """
    if not 1 <= len(histories) <= len(COLORS):
        raise ValueError(f"{len(histories)} runs to draw; give 1 to {len(COLORS)}")
    output_dir = Path(output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    written = []
    for name, chart in charts.items():
        panels = [panel for panel in chart.panels if curves_of(panel, histories)]
        if not panels:
            continue
        written.append(output_dir / f"{name}.png")
        with figure(written[-1], chart.title, len(panels)) as axes:
            for panel, ax in zip(panels, axes, strict=True):
                draw_panel(ax, panel, histories)
    written.append(output_dir / "summary_table.md")
    write_atomically(written[-1], summary_table(histories, charts).encode())
    return written


def all_charts(histories: Mapping[str, History]) -> dict[str, Chart]:
    """The charts of pose uncertainty, and one for every prefix of the names of other metrics, a panel for each."""
    names = [name for chart in POSE_CHARTS.values() for name in chart.metrics()]
    groups: dict[str, dict[str, Panel]] = {}
    for history in histories.values():
        drawn = [history.find(name) for name in names]
        for name, curve in history.curves.items():
            if not any(curve is other for other in drawn):
                prefix, slash, title = name.partition("/")
                group = groups.setdefault(prefix if slash else "metrics", {})
                group[name] = Panel(title or name, "", {name: ""})  # its title names it
    charts = dict(POSE_CHARTS)
    for prefix, panels in sorted(groups.items()):
        file = re.sub(r"[^\w.-]+", "_", prefix)
        charts[f"{file}_others" if file in charts else file] = Chart(prefix, tuple(panels.values()))
    return charts


def absent_charts(histories: Mapping[str, History]) -> dict[str, list[str]]:
    """Charts of pose uncertainty that no run has a metric of, and the metrics they want; none of runs without any."""
    absent = {
        name: chart.metrics()
        for name, chart in POSE_CHARTS.items()
        if not any(curves_of(panel, histories) for panel in chart.panels)
    }
    return absent if len(absent) < len(POSE_CHARTS) else {}


def summary_table(histories: Mapping[str, History], charts: Mapping[str, Chart] = POSE_CHARTS) -> str:
    """Markdown: d2, where there is one, with its status in each run's course; every metric at the end of the runs."""
    lines = ["# Metrics at the end of runs", ""]
    if any(d2_curves(history, part)[0] for history in histories.values() for part in PARTS):
        lines = ["# Pose uncertainty training", "", _course_table(histories), "", *_d2_legend(histories), ""]
        lines += ["## At the end", ""]
    titles = [f"{label}, {what}" for label in histories for what in ("last", f"mean of last {ROWS} rows")]
    rows = []
    for name in dict.fromkeys(name for chart in charts.values() for name in chart.metrics()):
        curves = [history.find(name) for history in histories.values()]
        if any(curves):
            cells = [cell for curve in curves for cell in (_last(curve, 1), _last(curve, ROWS))]
            rows.append([name, *map(markdown.number, cells)])
    lines += [markdown.table(["metric", *titles], rows)]
    for chart, names in absent_charts(histories).items():
        lines += ["", f"Not drawn: {chart}; no run logged {', '.join(names)}."]
    return "\n".join(lines) + "\n"


def _course_table(histories: Mapping[str, History]) -> str:
    """d2 of every run at some of its steps."""
    titles = ["run", "step"]
    for part in ("rot", "trans"):
        titles += [f"d2_{part}", "windowed", "status", f"sqrt_info_{part}_p90", f"clamp hit {part}"]
    rows = []
    for label, history in histories.items():
        last = max(curve.steps[-1] for curve in history.curves.values())
        rows += [[label, *_course(history, round(last * stop))] for stop in _STOPS]
    return markdown.table(titles, rows)


def _d2_legend(histories: Mapping[str, History]) -> list[str]:
    """What d2 and its mean are in the table, and of which runs they are something else."""
    lines = [
        f"d2 of one step, under the predictive variance, is noise: the status is that of the last {WINDOWS} windows,",
        f"calibrated in {band()[0]} to {band()[1]}, below {UNDER} (sigma too large), above {OVER}.",
    ]
    raw = [label for label, history in histories.items() if any(d2_curves(history, part)[2] for part in PARTS)]
    if raw:
        lines += [
            "",
            f"Of {', '.join(raw)}, without a logged windowed d2: d2 is the raw r^2 exp(-log variance), its mean",
            f"that of the last {ROWS} logged rows, and the status holds under a Gaussian law alone (calibrated is 6",
            "of a Laplace law, 3 nu / (nu - 2) of a Student-t law).",
        ]
    return lines


def _course(history: History, step: int) -> list[str]:
    cells = [f"{step:g}"]
    for part in ("rot", "trans"):
        d2, windowed, raw = d2_curves(history, part)
        mean = _last(d2, ROWS, step) if raw else _logged(windowed, step)
        hits = _last(history.find(f"diagnostic/sqrt_info_{part}_clamp_hit"), 1, step)
        cells += [markdown.number(_last(d2, 1, step)), markdown.number(mean), status(mean)]
        cells.append(markdown.number(_last(history.find(f"diagnostic/sqrt_info_{part}_p90"), 1, step)))
        cells.append("-" if math.isnan(hits) else f"{100 * hits:.0f} %")
    return cells


def _last(curve: Curve | None, count: int, step: int | float = math.inf) -> float:
    """Mean of the last finite values up to a step; NaN without any."""
    values = np.zeros(0) if curve is None else curve.values[(curve.steps <= step) & np.isfinite(curve.values)]
    return float(values[-count:].mean()) if len(values) else math.nan


def _logged(curve: Curve | None, step: int) -> float:
    """The value logged last up to a step; NaN too, which is no mean of fewer windows."""
    values = np.zeros(0) if curve is None else curve.values[curve.steps <= step]
    return float(values[-1]) if len(values) else math.nan
