"""The calibration report as PNG: reliability, d2 against chi-square, whitened covariance, sigma against error.

It is drawn from the report's JSON alone (its `to_json`, or a calibration file read back); a part that was recalibrated
is drawn beside the one before.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from rig3r_jax.evaluation.d2 import DIMENSIONS, NAMES, OVER, UNDER, UNITS
from rig3r_jax.viz.figures import COLORS, INK, QUIET, figure, plain_ticks

_PARTS = {part: name.capitalize() for part, name in NAMES.items()}


def write_calibration_charts(report: Mapping[str, Any], output_dir: str | Path) -> list[Path]:
    """Writes reliability.png, d2_chi_square.png, whitened_covariance.png and sigma_against_error.png."""
    output_dir = Path(output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    kinds = {"predicted": report}
    if report.get("recalibrated") is not None:
        kinds = {"predicted": report, "recalibrated": report["recalibrated"]}
    drawings = {
        "reliability": _reliability,
        "d2_chi_square": _chi_square,
        "whitened_covariance": _whitened,
        "sigma_against_error": _sigma_bins,
    }
    for name, draw in drawings.items():
        draw(output_dir / f"{name}.png", kinds)
    return [output_dir / f"{name}.png" for name in drawings]


def _reliability(path: Path, kinds: Mapping[str, Any]) -> None:
    """Share of components inside the central interval of every level, under their marginal laws."""
    with figure(path, f"Reliability under the stated law ({_law(kinds)})", 3, panel_size=(3.7, 3.7)) as axes:
        for ax, (name, title) in zip(axes, {"pooled": "All components", **_PARTS}.items(), strict=False):
            ax.plot([0, 100], [0, 100], color=QUIET, lw=1.0, ls="--", label="right")
            for color, (kind, report) in zip(COLORS, kinds.items(), strict=False):
                level, share = (100.0 * np.array(report["reliability"][key]) for key in ("level", name))
                ax.plot(level, share, color=color, lw=1.6, marker="o", ms=3, label=kind)
            ax.text(97, 4, f"below: {OVER}\nabove: {UNDER}", ha="right", fontsize=8, color=QUIET)
            ax.set(title=title, xlabel="central interval, percent", ylabel="errors inside, percent")
            ax.set(xlim=(0, 100), ylim=(0, 100), aspect="equal")
            ax.legend(loc="upper left")


def _chi_square(path: Path, kinds: Mapping[str, Any]) -> None:
    """Quantile against quantile above chi-square of as many degrees of freedom, on square-root axes: distances."""
    with figure(path, "Squared errors over predicted variance against chi-square", 3, panel_size=(3.7, 3.7)) as axes:
        for ax, (name, title) in zip(axes, _PARTS.items(), strict=True):
            components = next(iter(kinds.values()))["d2"][name]["components"]
            top = 0.0
            for color, (kind, report) in zip(COLORS, kinds.items(), strict=False):
                part = report["d2"][name]
                expected = stats.chi2.ppf(part["quantile_levels"], components)
                top = max(top, expected[-1] * 1.6)
                label = f"{kind}: mean {part['mean']:.2f}, KS {part['ks']:.2f}"
                ax.plot(expected, part["quantiles"], color=color, lw=1.4, marker="o", ms=2.5, label=label)
            ax.plot([0, top], [0, top], color=QUIET, lw=1.0, ls="--", label="Gaussian errors, right sigma")
            ax.set_xscale("function", functions=(_root, np.square))
            ax.set_yscale("function", functions=(_root, np.square))
            ticks = [tick for tick in (0, 1, 3, 6, 10, 20, 30, 50, 80) if tick <= top]
            ax.set(xticks=ticks, yticks=ticks, xlim=(0, top), ylim=(0, top), aspect="equal")
            ax.set(title=title, xlabel=f"quantile of chi-square({components})", ylabel="quantile of d2")
            ax.legend(loc="lower right")


def _whitened(path: Path, kinds: Mapping[str, Any]) -> None:
    """Covariance of residuals divided by their predicted spread: the identity where everything is right."""
    with figure(
        path, "Covariance of whitened residuals (identity where right)", len(kinds), panel_size=(4.6, 4.0)
    ) as axes:
        for ax, (kind, report) in zip(axes, kinds.items(), strict=True):
            values = np.array(report["whitened_covariance"], np.float64)
            image = ax.imshow(values, cmap="RdBu_r", vmin=-2.0, vmax=2.0)
            for row, column in np.ndindex(values.shape):
                dark = abs(values[row, column]) > 1.2
                text = f"{values[row, column]:.2f}"
                ax.text(column, row, text, ha="center", va="center", fontsize=8, color="white" if dark else INK)
            ax.set(title=kind.capitalize(), xticks=range(6), yticks=range(6))
            ax.set_xticklabels(DIMENSIONS)
            ax.set_yticklabels(DIMENSIONS)
            ax.grid(False)
            ax.figure.colorbar(image, ax=ax, shrink=0.8)


def _sigma_bins(path: Path, kinds: Mapping[str, Any]) -> None:
    """Root mean square of the errors in bins of the predicted sigma."""
    with figure(path, "Errors in ten equal bins of predicted sigma", 2, panel_size=(4.2, 4.0)) as axes:
        for ax, name in zip(axes, UNITS, strict=True):
            unit = UNITS[name]
            every = []
            for color, (kind, report) in zip(COLORS, kinds.items(), strict=False):
                predicted, observed = (
                    np.array(report["sigma_bins"][name][key], np.float64) for key in ("predicted", "observed")
                )
                every += [predicted, observed]
                rank = report["spearman"][name]
                label = kind if rank is None else f"{kind}: rank correlation {rank:.2f}"
                ax.plot(predicted, observed, color=color, lw=1.4, marker="o", ms=4, label=label)
            every = np.concatenate(every)
            ends = every[every > 0].min() / 1.2, every.max() * 1.2
            ax.plot(ends, ends, color=QUIET, lw=1.0, ls="--", label="right")
            ax.set(xscale="log", yscale="log", xlim=ends, ylim=ends, aspect="equal", title=_PARTS[name])
            ax.set(xlabel=f"predicted sigma, {unit}", ylabel=f"root mean square error, {unit}")
            plain_ticks(ax.xaxis)
            plain_ticks(ax.yaxis)
            ax.legend(loc="upper left")


def _root(values: np.ndarray) -> np.ndarray:
    return np.sqrt(np.maximum(values, 0.0))


def _law(kinds: Mapping[str, Any]) -> str:
    law = next(iter(kinds.values()))["likelihood"]
    return f"Student-t, {law['dof']:g} degrees of freedom" if law["name"] == "student_t" else law["name"].capitalize()
