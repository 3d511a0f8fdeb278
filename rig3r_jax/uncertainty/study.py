"""The old and the new uncertainty head side by side, over several seeds: arms, their runs, and the tables of them.

The old head predicts a square root of the information behind clamps, the new one log-variances. Clamps of 100 and 200
stand just above the errors of a good backbone; on one with larger errors the old head's collapse shows with clamps in
the same proportion to them.
"""

import dataclasses
import typing
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import PyTree

from rig3r_jax.evaluation.calibration import CENTRAL_LEVELS, CalibrationReport, band_and_status, calibration_report
from rig3r_jax.formats import markdown
from rig3r_jax.losses.pose_metrics import PARTS
from rig3r_jax.losses.pose_nll import NllOptions
from rig3r_jax.uncertainty.features import WindowFeatures
from rig3r_jax.uncertainty.head import (
    Curves,
    HeadOptions,
    continue_training,
    error_samples,
    initial_state,
    mle_variance,
)
from rig3r_jax.uncertainty.objective import STEP_D2, last_residuals, window_batch
from rig3r_jax.uncertainty.watch import TARGET, WINDOWED, WINDOWS

STEPS = (100, 200, 300, 500)  # whose d2 is shown
CLAMP_OVER_INVERSE_SIGMA = {"trans": 1.1, "rot": 2.8}  # of the clamps in proportion
WORST = 6.0  # windowed d2 that a steady training never exceeds
OLD, NEW, RECIPE = "old head, clamps in proportion", "new head", "recipe"
ROLES = (OLD, NEW, RECIPE)
MARGINS = {  # suffix of a figure -> baseline
    "": "constant_sigma",
    "_gaussian": "constant_sigma_gaussian",
    "_covariance": "constant_covariance_gaussian",
}


@dataclasses.dataclass(frozen=True)
class Arm:
    """One way to train the head."""

    name: str
    nll: NllOptions
    head: HeadOptions = HeadOptions()
    role: str = ""  # one of ROLES, by which `checks` finds it


@dataclasses.dataclass(frozen=True)
class ArmResult:
    """What an arm gave, per seed: parameters, a row of metrics per step, the report of held-out windows."""

    arm: Arm
    seeds: tuple[int, ...]
    params: tuple[PyTree, ...]
    histories: tuple[Curves, ...]
    reports: tuple[CalibrationReport, ...]


def scaled_clamps(train: WindowFeatures, base: NllOptions | None = None) -> NllOptions:
    """The old head with upper clamps in proportion to the training residuals' Gaussian MLE sigma, one for all axes."""
    base = base or NllOptions()
    variance = mle_variance(last_residuals(window_batch(train, base.min_translation)))
    sigma = {part: float(np.sqrt(variance[where].mean())) for part, where in PARTS.items()}
    upper = {part: CLAMP_OVER_INVERSE_SIGMA[part] / sigma[part] for part in PARTS}
    lower = {part: min(0.1, 1e-3 * bound) for part, bound in upper.items()}
    return dataclasses.replace(
        base,
        parameterisation="sqrt_information",
        sqrt_info_clamp_trans=(lower["trans"], upper["trans"]),
        sqrt_info_clamp_rot=(lower["rot"], upper["rot"]),
    )


def study_arms(train: WindowFeatures, nll: NllOptions, recipe: HeadOptions) -> list[Arm]:
    """The old head with raw clamps and with clamps in proportion, the new head, then the recipe under several laws.

    Old and new head start and train plainly. `nll` and `recipe` are those of the recipe, the last arm.
    """
    scaled, plain = scaled_clamps(train), HeadOptions(steps=recipe.steps).for_width(train.width)
    clamps = f"{scaled.sqrt_info_clamp_trans[1]:.3g}/{scaled.sqrt_info_clamp_rot[1]:.3g}"
    student_t = dataclasses.replace(nll, parameterisation="log_variance")
    return [
        Arm("sqrt-info 100/200", NllOptions("sqrt_information"), plain),
        Arm(f"sqrt-info {clamps}", scaled, plain, OLD),
        Arm("log-variance", NllOptions(), plain, NEW),
        Arm("steady, Gaussian", NllOptions(), recipe),
        Arm("steady, Student-t", student_t, recipe),
        Arm("recipe", nll, recipe, RECIPE),
    ]


def run_arm(
    arm: Arm,
    train: WindowFeatures,
    validation: WindowFeatures,
    test: WindowFeatures,
    seeds: Sequence[int] = range(5),
    told: Callable[[str], typing.Any] = lambda line: None,
) -> ArmResult:
    """Trains an arm with every seed and reports on `test`; `validation` is for the temperature alone.

    `told` gets a line when a seed is done.
    """
    data = window_batch(train, arm.nll.min_translation)
    residual = last_residuals(data)
    params, histories, reports = [], [], []
    for seed in seeds:
        state = initial_state(data, arm.nll, arm.head, seed)
        state, rows = continue_training(state, data, arm.nll, arm.head, seed)
        samples, others = (error_samples(state.params, windows, arm.nll) for windows in (test, validation))
        params.append(state.params)
        histories.append(rows)
        reports.append(calibration_report(samples, residual, recalibrate_on=others))
        told(f"{arm.name}, seed {seed}: {len(rows)} steps, NLL {reports[-1].nll:.3f} per component on held-out windows")
    return ArmResult(arm, tuple(seeds), tuple(params), tuple(histories), tuple(reports))


def study_table(results: Sequence[ArmResult]) -> str:
    """Markdown: d2 while training, the state at its end, and calibration on held-out windows; mean ± spread of seeds.

    The spread is the standard deviation over seeds (ddof 1).
    """
    blocks = [
        "### Arms",
        "\n".join(f"* {_told(result)}" for result in results),
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


def _told(result: ArmResult) -> str:
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


def checks(results: Sequence[ArmResult]) -> list[str]:
    """What the study is held against, each "met" or "MISSED" with its figures, the worst of all seeds."""
    found = {result.arm.role: summary(result) for result in results if result.arm.role}
    old, new, recipe = (found[role] for role in ROLES)
    hits = min(old["clamp_hit_trans"]), max(new["clamp_hit_trans"] + new["clamp_hit_rot"])
    lines = [
        (hits[0] > 0.2, f"old head, clamps in proportion: {hits[0]:.1%} of translations at the clamp (above 20%)"),
        (hits[1] == 0, f"log-variance: {hits[1]:.1%} at either clamp (0%)"),
    ]
    low, high = band_and_status(TARGET, TARGET)[0]
    for part in PARTS:
        d2 = recipe[f"held_out_d2_{part}"]
        told = f"recipe, held out: d2 {part} of all windows {min(d2):.2f} to {max(d2):.2f} ({low:.1f} to {high:.1f})"
        lines.append((low <= min(d2) and max(d2) <= high, told))
        d2, inside = recipe[f"held_out_d2_{part}_last"], float(np.mean(recipe[f"held_out_d2_{part}_inside"]))
        told = f"{min(d2):.2f} to {max(d2):.2f} ({low:.1f} to {high:.1f}); {inside:.0%} of all such means are inside"
        lines.append(
            (low <= min(d2) and max(d2) <= high, f"recipe, held out: d2 {part} of the last {WINDOWS} windows {told}")
        )
        worst = max(recipe[f"d2_{part}_worst"] + recipe[f"held_out_d2_{part}_worst"])
        told = f"recipe: worst d2 {part} of {WINDOWS} windows, training and held out, {worst:.2f} (at most {WORST:g})"
        lines.append((worst <= WORST, told))
    margins = [min(recipe[f"held_out_margin{suffix}"]) for suffix in MARGINS]
    told = (
        f"{margins[0]:+.3f} (same law) and {margins[1]:+.3f} (Gaussian), one covariance by {margins[2]:+.3f} (above 0)"
    )
    lines.append((min(margins) > 0, f"recipe, held out: NLL beats one constant sigma by {told}"))
    for level, nominal in CENTRAL_LEVELS.items():
        off = max(abs(share - nominal) for share in recipe[f"held_out_coverage_{level}"])
        told = f"recipe, held out: coverage at {level} within {100 * off:.1f} points of {nominal:.1%} (at most 3)"
        lines.append((off <= 0.03, told))
    return [f"{'met' if good else 'MISSED'}: {told}" for good, told in lines]


def summary(result: ArmResult) -> dict[str, list[float]]:
    """Figures of an arm, one per seed: what the tables show and what a run can be held against."""
    found: dict[str, list[float]] = {}
    for rows, report in zip(result.histories, result.reports, strict=True):
        for name, value in _figures(result.arm, rows, report).items():
            found.setdefault(name, []).append(value)
    return found


def _figures(arm: Arm, rows: Curves, report: CalibrationReport) -> dict[str, float]:
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


def _training_table(results: Sequence[ArmResult]) -> str:
    titles = ["arm", "step", "d2 rotation", "d2 translation"]
    titles += [f"{part}, {WINDOWS} windows" for part in ("rotation", "translation")] + ["status rotation / translation"]
    table = []
    for result in results:
        for step in STEPS:
            rows = [history[step - 1] for history in result.histories if len(history) >= step]
            names = [STEP_D2["rot"], STEP_D2["trans"], WINDOWED["rot"], WINDOWED["trans"]]
            values = [[row[name] for row in rows] for name in names]
            status = " / ".join(_status(part) for part in values[2:])
            spreads = [markdown.mean_and_spread(part, 2) for part in values]
            table.append([result.arm.name, str(step), *spreads, status])
    return markdown.table(titles, table)


def _status(values: Sequence[float]) -> str:
    if not values or not np.isfinite(values).all():
        return "-"
    return band_and_status(float(np.mean(values)), TARGET)[1]


def _final_table(results: Sequence[ArmResult]) -> str:
    columns: Mapping[str, tuple[str, float, int]] = {  # title -> figure, factor, places
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
        found = summary(result)
        cells = [markdown.mean_and_spread(found[name], places, factor) for name, factor, places in columns.values()]
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
        found = summary(result)
        for prefix, told in (("held_out", ""), ("recalibrated", ", recalibrated")):
            cells = []
            for name in columns.values():
                percent = name.startswith("coverage")
                factor, places = (100.0, 1) if percent else (1.0, 3 if name == "nll" or "margin" in name else 2)
                cells.append(markdown.mean_and_spread(found[f"{prefix}_{name}"], places, factor))
            rows.append([result.arm.name + told, *cells])
    return markdown.table(["arm", *columns], rows)


def _mean_of(rows: Curves, name: str) -> float:
    return float(np.mean([row[name] for row in rows]))
