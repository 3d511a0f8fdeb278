"""Evaluation of a run's parameters on held-out scenes, and its files."""

import typing
from collections.abc import Iterable
from pathlib import Path

from jaxtyping import PyTree

from rig3r_jax.evaluation import contrasts
from rig3r_jax.evaluation.evaluator import EvaluationOptions, measure
from rig3r_jax.evaluation.options import ScoreOptions
from rig3r_jax.evaluation.rows import SETTINGS, UNTRAINED
from rig3r_jax.evaluation.scores import SCORER_KINDS, Scorer
from rig3r_jax.evaluation.table import format_markdown, format_table
from rig3r_jax.formats.atomic import write_atomically
from rig3r_jax.formats.json_file import write_json
from rig3r_jax.schema import Batch, Predictions, Views
from rig3r_jax.training.processes import gather, is_first
from rig3r_jax.training.records import Records
from rig3r_jax.training.rig3r.data import evaluation_batches
from rig3r_jax.training.rig3r.setup import PlacedModel
from rig3r_jax.training.sharding import leads_rows, row_share
from rig3r_jax.training.transfer import to_device, to_host
from rig3r_jax.training.watchdog import COMPILING, progress


def predictor(placed: PlacedModel, params: PyTree):
    """predict_fn of the evaluators: numpy views in, numpy predictions out, the rows of this process."""

    def predict(views: Views) -> Predictions:
        progress("predicting for the evaluation", COMPILING)
        return to_host(placed.predict(params, to_device(views, placed.mesh)), placed.mesh)

    return predict


def options_of(placed: PlacedModel) -> EvaluationOptions:
    """config.evaluation as the evaluator's options."""
    section = placed.config.evaluation
    return EvaluationOptions(section.known_intrinsics, scores=ScoreOptions.of(section.to_dict()))


def full_evaluation(placed: PlacedModel, params: PyTree, records: Records) -> dict[str, dict[str, Scorer]]:
    """By set and row: every metadata setting, blank images, the untrained network and the no-network rows.

    The same on all processes, each of which evaluates its rows.
    """
    section, result = placed.config.evaluation, {}
    for split in section.sets:
        batches = list(evaluation_batches(placed.config, records, split, row_share(placed.mesh)))
        blank = ("none", "all") if section.baselines else ()
        rows = _measure(placed, params, batches, tuple(SETTINGS), blank, section.baselines)
        if section.baselines:
            rows[UNTRAINED] = _measure(placed, placed.init_params(), batches, ("all",))["all"]
        result[split] = rows
    return result


def short_evaluation(placed: PlacedModel, params: PyTree, records: Records) -> dict[str, float]:
    """The headline numbers of the settings none and all, as scalars for the metrics."""
    scalars = {}
    for split in placed.config.evaluation.sets:
        batches = evaluation_batches(placed.config, records, split, row_share(placed.mesh))
        rows = _measure(placed, params, batches, ("none", "all"))
        for setting, scorer in rows.items():
            scores = scorer.scores()
            for key in ("mAA30", "RRA15", "RTA15", "chamfer_relative"):
                scalars[f"evaluation/{split}/{setting}/{key}"] = scores[key]
    return scalars


def _measure(
    placed: PlacedModel,
    params: PyTree,
    batches: Iterable[Batch],
    settings: tuple[str, ...],
    blank: tuple[str, ...] = (),
    with_baselines: bool = False,
) -> dict[str, Scorer]:
    """`measure` over the rows of all processes; of those that share rows, one counts."""

    def of_all(rows: dict) -> list[dict]:
        parts = gather(rows if leads_rows(placed.mesh) else None, SCORER_KINDS)
        return [part for part in parts if part is not None]

    predict = predictor(placed, params)
    return measure(predict, batches, settings, blank, with_baselines, options_of(placed), gather=of_all)


def protocol(placed: PlacedModel) -> dict[str, object]:
    """How the numbers were made, to stand beside them."""
    section = placed.config.evaluation
    return {
        "samples_per_set": section.samples,
        "images_per_sample": placed.config.sampling.num_views,
        "intrinsics": "known" if section.known_intrinsics else "estimated",
        "min_baseline_m": section.min_baseline,
        "near_below_m": section.near_baseline,
        "one_rig_step_within_s": section.same_time_seconds,
        "points_refined_by_icp": "yes" if section.icp else "no",
    }


def save_evaluation(
    about: dict[str, typing.Any], measured: dict[str, dict[str, Scorer]], out: Path
) -> dict[str, object]:
    """Prints the table and writes evaluation.json, evaluation_samples.jsonl and evaluation.md, in this order: a full
    disk does not take it.

    Args:
        about: step, `protocol`, and of each set the number of its scenes, `contrasts.WORLDS`.
        measured: by set and row.
        out: folder of the files.

    Returns:
        What evaluation.json holds.
    """
    sets = {name: {row: scorer.scores() for row, scorer in rows.items()} for name, rows in measured.items()}
    samples = {name: {row: scorer.sample_sums() for row, scorer in rows.items()} for name, rows in measured.items()}
    worlds = about[contrasts.WORLDS]
    differences = {name: contrasts.as_json(contrasts.within(rows, worlds[name])) for name, rows in samples.items()}
    evaluation = {**about, "sets": sets, "differences": differences}
    if is_first():
        print(format_table(evaluation), flush=True)
        write_json(out / "evaluation.json", evaluation)
        contrasts.write_samples(samples, out)
        write_atomically(out / "evaluation.md", format_markdown(evaluation).encode())
    return evaluation
