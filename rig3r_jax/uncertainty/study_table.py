"""What a study gave: figures of every arm, Markdown tables of them, and what they are held against."""

from collections.abc import Sequence

import numpy as np

from rig3r_jax.evaluation.calibration import CalibrationReport
from rig3r_jax.evaluation.d2 import CENTRAL_LEVELS, TARGET, WINDOWS, band, status
from rig3r_jax.formats import markdown
from rig3r_jax.geometry.se3 import PARTS
from rig3r_jax.losses.pose_nll import NllOptions
from rig3r_jax.uncertainty.head import Curves
from rig3r_jax.uncertainty.objective import STEP_D2
from rig3r_jax.uncertainty.study import ROLES, Arm, ArmResult
from rig3r_jax.uncertainty.watch import WINDOWED

STEPS = (100, 200, 300, 500)  # whose d2 is shown
WORST = 6.0  # windowed d2 that a steady training never exceeds
MARGINS = {  # suffix of a figure -> baseline
    "": "constant_sigma",
    "_gaussian": "constant_sigma_gaussian",
    "_covariance": "constant_covariance_gaussian",
}


def summary(result: ArmResult) -> dict[str, list[float]]:
    """Figures of an arm, one per seed: what the tables show and what a run can be held against."""
    figures: dict[str, list[float]] = {}
    for rows, report in zip(result.histories, result.reports, strict=True):
        for name, value in (_training_figures(result.arm, rows) | _held_out_figures(report)).items():
            figures.setdefault(name, []).append(value)
    return figures


def study_table(results: Sequence[ArmResult]) -> str:
    """Markdown: d2 while training, the state at its end, and calibration on held-out windows; mean ± spread of seeds.

    The spread is the standard deviation over seeds (ddof 1).
    """
    blocks = [
        "### Arms",
        "\n".join(f"* {_description(result)}" for result in results),
        "### d2 while training",
        "Mean over one step's windows, and over the last "
        f"{WINDOWS} windows (with its status), under the predictive variance of the law; {TARGET:g} is calibrated, "
        "below is under-confident. -: fewer windows, or training had ended.",
        _training_table(results),
        f"### At the end of training, mean of the last {WINDOWS} steps",
        "Clamp hits: percent of numbers at the bound that means most certain, of log-variances at either bound. Worst "
        "d2: the largest windowed d2 after the warm-up. NLL: the loss as it is trained (refinements weighted, no "
        "constants).",
        _final_table(results),
        "### Held-out windows",
        f"d2 target {TARGET:g}, less 1 / (views - 1) for translation where variances are those before the scale is "
        "fitted. Margin: NLL of one constant sigma of the same law, fit to the training residuals, less the NLL; "
        "positive is better; then over one sigma and over one whole covariance of a Gaussian. Per component, all "
        "constants.",
        _held_out_table(results),
    ]
    return "\n\n".join(blocks) + "\n"


def checks(results: Sequence[ArmResult]) -> list[str]:
    """What the study is held against, each "met" or "MISSED" with its figures, the worst of all seeds."""
    figures = {result.arm.role: summary(result) for result in results if result.arm.role}
    old, new, recipe = (figures[role] for role in ROLES)
    hits = min(old["clamp_hit_trans"]), max(new["clamp_hit_trans"] + new["clamp_hit_rot"])
    rules = [
        (hits[0] > 0.2, f"old head, clamps in proportion: {hits[0]:.1%} of translations at the clamp (above 20%)"),
        (hits[1] == 0, f"log-variance: {hits[1]:.1%} at either clamp (0%)"),
    ]
    for part in PARTS:
        rules += _d2_rules(part, recipe)
    margins = [min(recipe[f"held_out_margin{suffix}"]) for suffix in MARGINS]
    by = f"{margins[0]:+.3f} (same law) and {margins[1]:+.3f} (Gaussian), one covariance by {margins[2]:+.3f} (above 0)"
    rules.append((min(margins) > 0, f"recipe, held out: NLL beats one constant sigma by {by}"))
    for level, nominal in CENTRAL_LEVELS.items():
        off = max(abs(share - nominal) for share in recipe[f"held_out_coverage_{level}"])
        within = f"within {100 * off:.1f} points of {nominal:.1%} (at most 3)"
        rules.append((off <= 0.03, f"recipe, held out: coverage at {level} {within}"))
    return [f"{'met' if met else 'MISSED'}: {rule}" for met, rule in rules]


def _d2_rules(part: str, recipe: dict[str, list[float]]) -> list[tuple[bool, str]]:
    """(met, rule with its figures) for d2 of one part under the recipe."""
    low, high = band()
    every, last = recipe[f"held_out_d2_{part}"], recipe[f"held_out_d2_{part}_last"]
    inside = float(np.mean(recipe[f"held_out_d2_{part}_inside"]))
    worst = max(recipe[f"d2_{part}_worst"] + recipe[f"held_out_d2_{part}_worst"])

    def ranges(values: list[float]) -> str:
        return f"{min(values):.2f} to {max(values):.2f} ({low:.1f} to {high:.1f})"

    return [
        (low <= min(every) and max(every) <= high, f"recipe, held out: d2 {part} of all windows {ranges(every)}"),
        (
            low <= min(last) and max(last) <= high,
            f"recipe, held out: d2 {part} of the last {WINDOWS} windows {ranges(last)}; "
            f"{inside:.0%} of all such means are inside",
        ),
        (
            worst <= WORST,
            f"recipe: worst d2 {part} of {WINDOWS} windows, training and held out, {worst:.2f} (at most {WORST:g})",
        ),
    ]


def _training_figures(arm: Arm, rows: Curves) -> dict[str, float]:
    last, later = rows[-WINDOWS:], [row for row in rows if row["step"] > arm.head.warmup_steps]
    figures = {"nll": _mean_of(last, "loss/pose_uncertainty_nll")}
    for part in PARTS:
        windowed = np.array([row[WINDOWED[part]] for row in later])
        windowed = windowed[~np.isnan(windowed)]  # of too few windows yet
        figures |= {
            f"d2_{part}_worst": float(windowed.max()) if len(windowed) else np.nan,
            f"d2_{part}_last": rows[-1][WINDOWED[part]],
            f"clamp_hit_{part}": sum(_mean_of(last, name) for name in _clamp_hits(arm.nll, part)),
            f"sigma_{part}": _mean_of(last, f"uncertainty/sigma_{part}_mean"),
            f"residual_{part}_p90": _mean_of(last, f"diagnostic/residual_{part}_p90"),
        }
    return figures


def _held_out_figures(report: CalibrationReport) -> dict[str, float]:
    """Before and after recalibration."""
    figures = {}
    for prefix, kind in (("held_out", report), ("recalibrated", report.recalibrated)):
        figures |= {f"{prefix}_margin{suffix}": kind.margins.get(name, np.nan) for suffix, name in MARGINS.items()}
        figures[f"{prefix}_nll"] = kind.nll
        figures |= {f"{prefix}_d2_{part}": kind.d2[part].mean for part in PARTS}
        for name, key in (("worst", "max"), ("last", "last"), ("inside", "inside")):
            figures |= {f"{prefix}_d2_{part}_{name}": kind.windowed_d2[f"{part}_{key}"] for part in PARTS}
        figures |= {f"{prefix}_coverage_{level}": kind.coverage["pooled"][level] for level in CENTRAL_LEVELS}
        figures |= {f"{prefix}_spearman_{part}": kind.spearman[part] for part in PARTS}
    return figures


def _clamp_hits(nll: NllOptions, part: str) -> list[str]:
    """The metrics of bounds that stop a head: beyond which it cannot be more certain, or of log-variances, either."""
    if nll.parameterisation == "sqrt_information":
        return [f"diagnostic/sqrt_info_{part}_clamp_hit"]
    return [f"diagnostic/log_var_{part}_at_{end}" for end in ("min", "max")]


def _mean_of(rows: Curves, name: str) -> float:
    return float(np.mean([row[name] for row in rows]))


def _description(result: ArmResult) -> str:
    """What an arm does, in words."""
    nll, head = result.arm.nll, result.arm.head
    role = f" ({result.arm.role})" if result.arm.role not in ("", result.arm.name) else ""
    facts = [
        f"{result.arm.name}{role}: {nll.parameterisation} under a {nll.likelihood} law, {len(result.seeds)} seeds",
        f"{head.steps} steps of {head.windows_per_step} windows, learning rate {head.learning_rate:.2g}",
        f"start {head.head_init}",
    ]
    if head.warmup_steps:
        facts.append(f"warm-up of {head.warmup_steps} steps")
    if head.clip_norm:
        facts.append(f"gradients clipped to {head.clip_norm:g}")
    if head.end_learning_rate < head.learning_rate:
        facts.append(f"cosine to {head.end_learning_rate:.2g}")
    if head.watch.lower_after:
        facts.append(f"learning rate times {head.watch.lower_factor:g} from step {head.watch.lower_after}")
    return ", ".join(facts)


def _training_table(results: Sequence[ArmResult]) -> str:
    titles = ["arm", "step", "d2 rotation", "d2 translation"]
    titles += [f"{part}, {WINDOWS} windows" for part in ("rotation", "translation")] + ["status rotation / translation"]
    names = [STEP_D2["rot"], STEP_D2["trans"], WINDOWED["rot"], WINDOWED["trans"]]
    rows = []
    for result in results:
        for step in STEPS:
            logged = [history[step - 1] for history in result.histories if len(history) >= step]
            values = [[row[name] for row in logged] for name in names]
            spreads = [markdown.mean_and_spread(part, 2) for part in values]
            means = [float(np.mean(part)) if part and np.isfinite(part).all() else np.nan for part in values[2:]]
            statuses = " / ".join(map(status, means))
            rows.append([result.arm.name, str(step), *spreads, statuses])
    return markdown.table(titles, rows)


def _final_table(results: Sequence[ArmResult]) -> str:
    columns = {  # title -> figure, factor, places
        "NLL": ("nll", 1.0, 3),
        "clamp hits translation, %": ("clamp_hit_trans", 100.0, 1),
        "rotation, %": ("clamp_hit_rot", 100.0, 1),
        "sigma translation, m": ("sigma_trans", 1.0, 4),
        "rotation, rad": ("sigma_rot", 1.0, 4),
        "residual p90 translation, m": ("residual_trans_p90", 1.0, 4),
        "p90 rotation, rad": ("residual_rot_p90", 1.0, 4),
        "worst d2 translation": ("d2_trans_worst", 1.0, 2),
        "worst d2 rotation": ("d2_rot_worst", 1.0, 2),
    }
    rows = []
    for result in results:
        figures = summary(result)
        cells = [markdown.mean_and_spread(figures[name], places, factor) for name, factor, places in columns.values()]
        rows.append([result.arm.name, *cells])
    return markdown.table(["arm", *columns], rows)


def _held_out_table(results: Sequence[ArmResult]) -> str:
    columns = {
        "d2 translation": "d2_trans", "d2 rotation": "d2_rot", f"worst of {WINDOWS} windows": "d2_trans_worst",
        "worst rotation": "d2_rot_worst", **{f"in {level}, %": f"coverage_{level}" for level in CENTRAL_LEVELS},
        "NLL": "nll", "margin": "margin", "over Gaussian": "margin_gaussian",
        "over covariance": "margin_covariance",
        "rank correlation translation": "spearman_trans", "rotation": "spearman_rot",
    }  # fmt: skip
    rows = []
    for result in results:
        figures = summary(result)
        for prefix, suffix in (("held_out", ""), ("recalibrated", ", recalibrated")):
            cells = []
            for name in columns.values():
                percent = name.startswith("coverage")
                factor, places = (100.0, 1) if percent else (1.0, 3 if name == "nll" or "margin" in name else 2)
                cells.append(markdown.mean_and_spread(figures[f"{prefix}_{name}"], places, factor))
            rows.append([result.arm.name + suffix, *cells])
    return markdown.table(["arm", *columns], rows)
