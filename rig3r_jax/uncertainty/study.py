"""The old and the new uncertainty head side by side, over several seeds: the arms and their runs.

The old head predicts a square root of the information behind clamps, the new one log-variances. Clamps of 100 and 200
stand just above the errors of a good backbone; on one with larger errors the old head's collapse shows with clamps in
the same proportion to them.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import PyTree

from rig3r_jax.evaluation.calibration import CalibrationReport, calibration_report
from rig3r_jax.geometry.se3 import PARTS
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
from rig3r_jax.uncertainty.objective import last_residuals, window_batch

CLAMP_OVER_INVERSE_SIGMA = {"trans": 1.1, "rot": 2.8}  # of the clamps in proportion
OLD, NEW, RECIPE = ROLES = ("old head, clamps in proportion", "new head", "recipe")


@dataclasses.dataclass(frozen=True)
class Arm:
    """One way to train the head."""

    name: str
    nll: NllOptions
    head: HeadOptions = HeadOptions()
    role: str = ""  # one of ROLES, by which `study_table.checks` finds it


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
    report_line: Callable[[str], object] = lambda line: None,
) -> ArmResult:
    """Trains an arm with every seed and reports on `test`; `validation` is for the temperature alone.

    `report_line` gets a line when a seed is done.
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
        nll = reports[-1].nll
        report_line(f"{arm.name}, seed {seed}: {len(rows)} steps, NLL {nll:.3f} per component on held-out windows")
    return ArmResult(arm, tuple(seeds), tuple(params), tuple(histories), tuple(reports))
