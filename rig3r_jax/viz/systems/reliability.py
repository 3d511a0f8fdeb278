"""Whether predicted covariances are right, as charts: errors inside their intervals, and d2 against chi-square."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from scipy import stats

from rig3r_jax.evaluation.calibration import component_probabilities
from rig3r_jax.evaluation.d2 import NAMES, OVER, UNDER
from rig3r_jax.evaluation.error_samples import ErrorSamples, squared_distances
from rig3r_jax.evaluation.systems.aligned import AlignedScene
from rig3r_jax.evaluation.systems.cameras import uncertain_errors
from rig3r_jax.formats.html import escape, tag
from rig3r_jax.geometry.se3 import PARTS
from rig3r_jax.viz.charts import MAX_SERIES, Series, line_chart

LEVELS = np.linspace(0.05, 0.99, 48)
_RIGHT = "right"


def pooled_errors(scenes: list[AlignedScene]) -> ErrorSamples | None:
    """Errors of all scenes that state covariances; None where none does."""
    parts = [uncertain_errors(scene.ours, scene.theirs, scene.alignment) for scene in scenes if len(scene.theirs)]
    samples = [part for part in parts if isinstance(part, ErrorSamples)]
    if not samples:
        return None
    residual, covariance = (
        np.concatenate([getattr(of_scene, name) for of_scene in samples]) for name in ("residual", "covariance")
    )
    return ErrorSamples(residual, covariance)


def reliability_charts(systems: Mapping[str, ErrorSamples]) -> str:
    """Two charts for translation and two for rotation; "" of no system. More systems than colours are named."""
    if not systems:
        return ""
    drawn = dict(list(systems.items())[: MAX_SERIES - 1])
    charts = []
    for part, columns in PARTS.items():
        lines = [Series(name, 100 * LEVELS, 100 * inside(samples, columns)) for name, samples in drawn.items()]
        right = Series(_RIGHT, 100 * LEVELS, 100 * LEVELS)
        charts.append(
            line_chart(
                [right, *lines],
                title=f"Reliability of {NAMES[part]}",
                x_label="predicted interval, percent",
                y_label="errors inside it, percent",
            )
        )
    for part in PARTS:
        expected = stats.chi2.ppf(LEVELS, 3)
        lines = [
            Series(name, expected, np.quantile(squared_distances(samples)[part], LEVELS))
            for name, samples in drawn.items()
        ]
        charts.append(
            line_chart(
                [Series(_RIGHT, expected, expected), *lines],
                title=f"d2 of {NAMES[part]}",
                x_label="quantile of chi-square(3)",
                y_label="quantile of d2",
                log_y=True,
            )
        )
    left_out = [name for name in systems if name not in drawn]
    note = f"Reliability: below the line {OVER}, above it {UNDER}; of d2 the other way round."
    note += f" Not drawn: {', '.join(left_out)}." if left_out else ""
    counts = ", ".join(f"{name} {len(samples.residual):,}" for name, samples in drawn.items())
    note += f" Poses with a covariance: {counts}."
    return tag("p", escape(note), class_="note") + tag("div", "".join(charts), class_="charts")


def inside(samples: ErrorSamples, columns: slice) -> Float[np.ndarray, " l"]:
    """Share of the components within the central interval of each level."""
    probabilities = np.sort(component_probabilities(samples)[:, columns], axis=None)
    return np.searchsorted(probabilities, LEVELS, side="right") / len(probabilities)
