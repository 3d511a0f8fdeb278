"""Charts of systems that are evaluated on one truth, as PNG."""

import math
import typing
from pathlib import Path

import numpy as np
from jaxtyping import Float

from rig3r_jax.evaluation.systems import curves
from rig3r_jax.evaluation.systems.summary import Evaluation, SystemScores
from rig3r_jax.viz.figures import COLORS, DASHES, QUIET, figure, plain_ticks

CURVES, ERRORS = "accuracy_curves.png", "errors_by_view.png"
_BINS = 8
_PAIRS_OF_BIN = 15  # of a system in a bin of the baseline, on average at least
_SHADED = 3  # systems up to which quartiles are drawn: more lie over each other
_TITLES = {
    curves.ROTATION: ("Rotation", "RRA"),
    curves.DIRECTION: ("Direction, folded", "RTA"),
    curves.BOTH: ("Both", "mAA"),
}


def write_system_charts(evaluation: Evaluation, folder: Path) -> list[Path]:
    """Writes CURVES, and ERRORS by baseline and, where it is known, by overlap; what was written.

    Nothing where no scene has a pair of images.
    """
    if not any(len(scene.pairs.baseline) for system in evaluation.systems for scene in system.scenes):
        return []
    _write_curves(evaluation, folder / CURVES)
    _write_errors(evaluation, folder / ERRORS)
    return [folder / CURVES, folder / ERRORS]


def _write_curves(evaluation: Evaluation, path: Path) -> None:
    """Percent of pairs below every threshold from 0 to 30 degrees."""
    with figure(path, f"Pairs of images below a threshold, {_scenes(evaluation)}", len(_TITLES)) as axes:
        for ax, (part, (title, name)) in zip(axes, _TITLES.items(), strict=True):
            for style, system in _styled(evaluation):
                accuracy = curves.accuracy_curves(system)[part]
                label = f"{system.name}: {name}{_headline(part, system)}"
                ax.plot(curves.THRESHOLDS, accuracy, label=label, lw=1.7, **style)
            ax.set(title=title, xlabel="threshold, degrees", ylabel="pairs below it, percent")
            ax.set(xlim=(0, curves.LIMIT), ylim=(0, 101), xticks=range(0, curves.LIMIT + 1, 5))
            _legend_below(ax)


def _headline(part: str, system: SystemScores) -> str:
    """The number of the tables that a curve stands for."""
    key, words = {
        curves.ROTATION: ("RRA15", "@15 {:.1f}%"),
        curves.DIRECTION: ("RTA15", "@15 {:.1f}%"),
        curves.BOTH: ("mAA30", "30 {:.1f}%"),
    }[part]
    value = system.numbers[key].value
    return "" if math.isnan(value) else words.format(value)


def _write_errors(evaluation: Evaluation, path: Path) -> None:
    """Median and quartiles of the errors in bins of the baseline, and of the overlap."""
    baselines = np.concatenate([curves.pooled(system, "baseline") for system in evaluation.systems])
    overlaps = np.concatenate([curves.pooled(system, "overlap") for system in evaluation.systems])
    # Baselines of equal counts, so that every bin says something; near ones are of the cameras of one step.
    bins = max(1, min(_BINS, len(baselines) // len(evaluation.systems) // _PAIRS_OF_BIN))
    by = {"baseline": (_quantile_edges(baselines, bins), "distance of the true cameras, m")}
    if np.isfinite(overlaps).any():
        by["overlap"] = np.linspace(0.0, 100.0, _BINS + 1), "overlap of the views, percent"
        by["overlap"][0][-1] += 1e-9
    errors = {"rotation_deg": "rotation error, degrees", "direction_deg": "direction error, degrees"}
    half = ", and the middle half of them" if len(evaluation.systems) <= _SHADED else ""
    title = f"Errors of pairs: median{half}, {_scenes(evaluation)}"
    with figure(path, title, len(by) * len(errors), panel_size=(4.4, 3.5)) as axes:
        panels = [(name, error) for name in by for error in errors]
        for ax, (name, error) in zip(axes, panels, strict=True):
            edges, label = by[name]
            for style, system in _styled(evaluation):
                binned = curves.binned_errors(curves.pooled(system, name), curves.pooled(system, error), edges)
                ax.plot(binned.middle, binned.median, marker="o", ms=3.5, lw=1.5, label=system.name, **style)
                if len(evaluation.systems) <= _SHADED:
                    ax.fill_between(binned.middle, binned.lower, binned.upper, color=style["color"], alpha=0.15, lw=0)
            heading = f"{errors[error].partition(',')[0].capitalize()} by {name}"
            ax.set(title=heading, xlabel=label, ylabel=errors[error])
            _from_zero(ax, name)
            _legend_below(ax)


def _from_zero(ax: typing.Any, name: str) -> None:
    if not ax.lines or not any(len(line.get_xdata()) for line in ax.lines):
        ax.text(0.5, 0.5, f"no bin has {curves.LEAST_PAIRS} pairs", transform=ax.transAxes, ha="center", color=QUIET)
        return
    ax.set_ylim(bottom=0)
    if name == "baseline" and ax.get_xlim()[1] > 0:
        ax.set_xscale("log")
        plain_ticks(ax.xaxis)


def _legend_below(ax: typing.Any) -> None:
    """Where no line runs through it."""
    columns = 2 if len(ax.get_legend_handles_labels()[0]) > 2 else 1
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=columns)


def _quantile_edges(values: Float[np.ndarray, " p"], bins: int) -> Float[np.ndarray, " e"]:
    """Of bins of as many positive values each, above the last of which nothing lies."""
    positive = values[values > 0]
    if not len(positive):
        return np.array([0.0, 1.0])
    edges = np.unique(np.quantile(positive, np.linspace(0.0, 1.0, bins + 1)))
    edges[-1] *= 1 + 1e-9
    return edges if len(edges) > 1 else np.array([edges[0] / 2, edges[0] * 2])


def _styled(evaluation: Evaluation) -> list[tuple[dict[str, str], SystemScores]]:
    """Systems with their colours, and other dashes where there are more systems than colours."""
    styles = [{"color": color, "ls": dashes} for dashes in DASHES for color in COLORS]
    return [(styles[number % len(styles)], system) for number, system in enumerate(evaluation.systems)]


def _scenes(evaluation: Evaluation) -> str:
    count = len(evaluation.systems[0].scenes)
    return f"{count} scene{'s' * (count != 1)}"
