"""One pair of axes of metrics over steps: its lines, of one run or of several on top of each other."""

import dataclasses
import textwrap
import typing
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from rig3r_jax.evaluation.d2 import (
    NAMES,
    RAW_METRIC,
    STEP_METRIC,
    TARGET,
    UNITS,
    WINDOWED_METRIC,
    WINDOWS,
    band,
)
from rig3r_jax.viz.figures import COLORS, DASHES, INK, plain_ticks
from rig3r_jax.viz.histories import Curve, History

ROWS = 100  # logged values of a trailing mean
_MIN_SMOOTHED = 60
PARTS = {part: NAMES[part].capitalize() for part in UNITS}


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


def draw_panel(ax: typing.Any, panel: Panel, histories: Mapping[str, History]) -> None:
    """All lines of all runs: colours tell runs apart and dashes metrics; of one run, colours tell metrics apart."""
    histories = {textwrap.fill(label, 34): history for label, history in histories.items()}  # of the legend
    ax.set(title=panel.title, xlabel="step", ylabel=panel.y_label)
    if panel.kind == "d2":
        _draw_d2(ax, panel, histories)
        _finish(ax, panel)
        return
    labels, metrics = list(histories), list(panel.lines)
    for label, name, curve in curves_of(panel, histories):
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


def _draw_d2(ax: typing.Any, panel: Panel, histories: Mapping[str, History]) -> None:
    """Of every run one step's d2, thin, and the windowed one, bold."""
    ax.axhspan(*band(), color=COLORS[2], alpha=0.15, lw=0)
    ax.axhline(TARGET, color=INK, lw=1.0, ls="--", label=f"target {TARGET:g}")
    ax.set_xlabel("step   (thin: as logged, bold: windowed)")
    part = next(part for part, title in PARTS.items() if title == panel.title)
    for color, (label, history) in zip(COLORS, histories.items(), strict=False):
        step, windowed, raw = d2_curves(history, part)
        words = f"raw, last {ROWS} rows;\ntarget of a Gaussian law" if raw else f"last {WINDOWS} windows"
        words = f"{label}:\n{words}" if len(histories) > 1 else words
        for curve, width, alpha in ((step, 0.7, 0.35), (windowed, 1.7, 1.0)):
            if curve is None:
                continue
            values = np.where(curve.values > 0, curve.values, np.nan)
            mark = "o" if curve is windowed and len(values) == 1 else None
            named = words if curve is windowed and np.isfinite(values).any() else None
            ax.plot(curve.steps, values, color=color, lw=width, alpha=alpha, marker=mark, label=named)


def _draw_band(ax: typing.Any, panel: Panel, history: History, line: int, color: str, label: str) -> None:
    """The middle metric as a line; the outer two as an area, once both are there."""
    curves = [history.find(name) for name in panel.lines]
    words = list(panel.lines.values())
    prefix = f"{label}, " if label else ""
    if line == 1:
        ax.plot(curves[1].steps, curves[1].values, color=color, lw=1.6, label=f"{prefix}{words[1]}")
    elif line == 0 and curves[2] and np.array_equal(curves[0].steps, curves[2].steps):
        area = f"{prefix}{words[0]} to {words[2]}"
        ax.fill_between(curves[0].steps, curves[0].values, curves[2].values, color=color, alpha=0.22, lw=0, label=area)


def _finish(ax: typing.Any, panel: Panel) -> None:
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


def curves_of(panel: Panel, histories: Mapping[str, History]) -> list[tuple[str, str, Curve]]:
    """(label, metric, curve) of everything that a panel can show."""
    curves = [(label, name, history.find(name)) for label, history in histories.items() for name in panel.lines]
    return [(label, name, curve) for label, name, curve in curves if curve and np.isfinite(curve.values).any()]


def d2_curves(history: History, part: str) -> tuple[Curve | None, Curve | None, bool]:
    """d2 of a step; its windowed mean; whether both are of the raw d2, because the run logged no other."""
    step, windowed = (history.find(name.format(part=part)) for name in (STEP_METRIC, WINDOWED_METRIC))
    if step or windowed:
        return step, windowed, False
    raw = history.find(RAW_METRIC.format(part=part))
    return raw, raw and Curve(raw.steps, trailing_mean(raw.values)), raw is not None


def trailing_mean(values: Float[np.ndarray, "n"], length: int = ROWS) -> Float[np.ndarray, "n"]:
    """Mean of the last `length` finite values at every place; NaN until a tenth of them have come."""
    finite = np.isfinite(values)
    sums = np.concatenate([[0.0], np.cumsum(np.where(finite, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(finite)])
    end = np.arange(1, len(values) + 1)
    start = np.maximum(end - length, 0)
    count = counts[end] - counts[start]
    return np.where(count * 10 >= min(length, len(values)), (sums[end] - sums[start]) / np.maximum(count, 1), np.nan)
