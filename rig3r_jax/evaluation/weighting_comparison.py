"""Weightings of pose graphs compared over many trajectories: figures, a sign test, and the table of them."""

import dataclasses
import math
import typing
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from scipy import stats

from rig3r_jax.evaluation.edge_weighting import (
    CHAINED,
    WEIGHTINGS,
    WeightingScore,
    WindowPredictions,
    check_covered,
    compare_weightings,
)
from rig3r_jax.formats import markdown
from rig3r_jax.formats.json_file import plain

REPORTED_KERNELS = ("none", "huber")
BLIND = (CHAINED, "uniform", "constant", "predicted")  # rows that do not see the truth, so that one of them can win
_TIE = 1e-6  # of an ATE; where windows share one frame only, weights change nothing but the rounding
LEGEND = (
    "ATE (after se3 alignment) and RPE (from each frame to the next) are means over trajectories of root mean squares. "
    "ATE / constant: median over trajectories (quartiles). better: trajectories whose ATE is below the constant "
    "weighting's. wins: trajectories whose ATE is the lowest of the rows that do not see the truth; ties count for "
    "each. chained: no graph is solved. constant: one sigma per dimension, of the training residuals. oracle: each "
    "edge's own true error, not available in practice. Windows carry the scale that fits them to the truth. p: of a "
    "two-sided sign test, ties left out."
)


@dataclasses.dataclass(frozen=True)
class Overall:
    """One weighting over all trajectories; see LEGEND. NaN where the constant weighting errs by nothing at all."""

    ate_m: float
    rpe_trans_m: float
    rpe_rot_deg: float
    ate_of_constant: float  # the median, between the quartiles
    ate_of_constant_p25: float
    ate_of_constant_p75: float
    better: int
    worse: int
    wins: int | None  # None: it sees the truth
    not_converged: int


@dataclasses.dataclass(frozen=True)
class Comparison:
    """All weightings of `trajectories` under one robust kernel; rows in the order CHAINED, *WEIGHTINGS."""

    kernel: str
    sigma: tuple[float, ...]  # of the constant weighting, metres and radians
    trajectories: dict[str, dict[str, WeightingScore]]
    overall: dict[str, Overall]

    @property
    def sign_test(self) -> float:
        """Two-sided p of as many trajectories or more on one side, were predicted weights worth no more nor less."""
        predicted = self.overall["predicted"]
        count = predicted.better + predicted.worse
        return float(stats.binomtest(predicted.better, count).pvalue) if count else math.nan

    def to_json(self) -> dict[str, typing.Any]:
        """Plain numbers, lists and dicts; null for what is NaN."""
        return plain(dataclasses.asdict(self) | {"sign_test": self.sign_test})


def compare_over_trajectories(
    trajectories: Mapping[str, WindowPredictions], sigma: Float[np.ndarray, "6"], kernel: str = "none"
) -> Comparison:
    """Scores of every weighting on every trajectory, and over all of them.

    Args:
        trajectories: by name.
        sigma: of the constant weighting: `edge_weighting.constant_sigma` of the TRAINING residuals.
        kernel: one of `geometry.robust.KERNELS`; `REPORTED_KERNELS` are reported.
    """
    if not trajectories:
        raise ValueError("there are no trajectories to compare weightings on; give at least one")
    scores = {}
    for name, predictions in trajectories.items():
        check_covered(name, predictions.windows, len(predictions.world_from_camera_true))
        try:
            scores[name] = compare_weightings(predictions, sigma, kernel)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    overall = {weighting: _overall(weighting, list(scores.values())) for weighting in (CHAINED, *WEIGHTINGS)}
    return Comparison(kernel, tuple(sigma.tolist()), scores, overall)


def format_comparisons(comparisons: Sequence[Comparison]) -> str:
    """Markdown: a row per kernel and weighting, what predicted weights gain or lose, and a legend."""
    titles = ["kernel", "weighting", "ATE m", "ATE / constant", "better", "wins", "RPE m", "RPE deg"]
    table, verdicts, first = [], [], []
    for comparison in comparisons:
        rows = [_cells(weighting, overall) for weighting, overall in comparison.overall.items()]
        if rows == first:
            reason = f"the same as under {comparisons[0].kernel}, since no edge is beyond the kernel's threshold"
            verdicts.append(f"* kernel {comparison.kernel}: {reason}.")
            continue
        first = first or rows
        table += [[comparison.kernel, *cells] for cells in rows]
        verdicts.append(f"* {_verdict(comparison)}")
    return "\n".join([markdown.table(titles, table, left=2), "", *verdicts, "", LEGEND]) + "\n"


def _cells(weighting: str, overall: Overall) -> list[str]:
    number = markdown.number
    quartiles = f"{number(overall.ate_of_constant_p25)} to {number(overall.ate_of_constant_p75)}"
    return [
        weighting + (" (sees the truth)" if overall.wins is None else ""),
        number(overall.ate_m) + (f" ({overall.not_converged} not converged)" if overall.not_converged else ""),
        f"{number(overall.ate_of_constant)} ({quartiles})",
        "-" if weighting == "constant" else str(overall.better),
        "-" if overall.wins is None else str(overall.wins),
        number(overall.rpe_trans_m),
        number(overall.rpe_rot_deg),
    ]


def _overall(weighting: str, scores: Sequence[Mapping[str, WeightingScore]]) -> Overall:
    def means(field: str) -> float:
        return float(np.mean([getattr(row[weighting], field) for row in scores]))

    ratios = np.array([row[weighting].ate_of_constant for row in scores])
    quartiles = np.percentile(ratios, [25, 50, 75]).tolist()  # NaN where one is
    best = np.array([min(row[name].ate_m for name in BLIND) for row in scores])
    ates = np.array([row[weighting].ate_m for row in scores])
    return Overall(
        ate_m=means("ate_m"),
        rpe_trans_m=means("rpe_trans_m"),
        rpe_rot_deg=means("rpe_rot_deg"),
        ate_of_constant=quartiles[1],
        ate_of_constant_p25=quartiles[0],
        ate_of_constant_p75=quartiles[2],
        better=int(np.sum(ratios < 1 - _TIE)),
        worse=int(np.sum(ratios > 1 + _TIE)),
        wins=int(np.sum(ates <= best * (1 + _TIE))) if weighting in BLIND else None,
        not_converged=sum(not row[weighting].converged for row in scores),
    )


def _verdict(comparison: Comparison) -> str:
    predicted, p = comparison.overall["predicted"], markdown.number(comparison.sign_test, ".2g")
    return (
        f"kernel {comparison.kernel}: with predicted weights the ATE is lower than with the constant ones on "
        f"{predicted.better} and higher on {predicted.worse} of {len(comparison.trajectories)} trajectories (p = {p}), "
        f"median {markdown.number(predicted.ate_of_constant)} of it."
    )
