"""The scores of one run on the sets of a study, world by world, kept in its workdir."""

import collections
import dataclasses
import functools
import math
import operator
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from ml_collections import ConfigDict

from rig3r_jax.formats.json_file import read_json, write_json
from rig3r_jax.losses.ground_truth import ground_truth
from rig3r_jax.losses.multitask import LossWeights, multitask_loss
from rig3r_jax.models.rig3r import output_grids
from rig3r_jax.schema import Batch, Predictions
from rig3r_jax.studies.sets import EvaluationSet
from rig3r_jax.training.checkpoint_files import saved_steps
from rig3r_jax.training.config import plain
from rig3r_jax.training.rig3r.elsewhere import open_on, protocol_scores
from rig3r_jax.training.rig3r.evaluate import predictor
from rig3r_jax.training.rig3r.protocol_batches import protocol_batches, views_in_setting

LOSS = "loss"
KEYS = (LOSS, "mAA30", "RRA15", "RTA15", "rig_mAA30", "chamfer_m", "ATE_m")
FILE = "scores.json"

Grids = tuple[tuple[int, int], tuple[int, int]]
Worlds = dict[str, tuple[float, float]]  # of each world sum and weight of a number: see evaluation.systems.measures
SetScores = dict[str, dict[str, Worlds]]  # by setting and key


@dataclasses.dataclass(frozen=True)
class RunScores:
    """What a run scores, by set; empty for one that diverged."""

    step: int
    sets: Mapping[str, SetScores]


def run_scores(config: ConfigDict, workdir: Path, sets: Sequence[EvaluationSet], settings: Sequence[str]) -> RunScores:
    """Those of the newest checkpoint; read from the workdir where they were made of the same frames and settings, by
    the same rules.

    Args:
        config: of the run, whose section `evaluation` counts; the workdir's own may be of an earlier study.

    Raises:
        ValueError: the newest checkpoint is damaged.
    """
    step = saved_steps(workdir / "checkpoints")[-1]
    asked = {
        "step": step,
        "frames": {one.name: one.protocol.sha256 for one in sets},
        "settings": list(settings),
        "evaluation": plain(config.evaluation),
    }
    path = workdir / FILE
    if path.exists() and (content := read_json(path)).get("asked") == asked:
        return RunScores(step, _with_tuples(content["sets"]))
    scores = RunScores(step, {one.name: _set_scores(config, workdir, one, settings, step) for one in sets})
    write_json(path, {"asked": asked, "sets": scores.sets})
    return scores


def note_diverged(workdir: Path, step: int) -> None:
    """Leaves in a workdir that its run diverged at this step: started again it would seem to go well for a while."""
    write_json(workdir / FILE, {"diverged": step})


def has_diverged(workdir: Path) -> bool:
    """Whether `note_diverged` was told of the run."""
    path = workdir / FILE
    return path.exists() and "diverged" in read_json(path)


def _with_tuples(sets: Mapping[str, Mapping]) -> dict[str, SetScores]:
    """Scores as JSON gives them back; null is NaN."""

    def pair(values: Sequence[float | None]) -> tuple[float, float]:
        total, weight = (math.nan if value is None else float(value) for value in values)
        return total, weight

    return {
        name: {
            setting: {key: {world: pair(values) for world, values in worlds.items()} for key, worlds in of_keys.items()}
            for setting, of_keys in scores.items()
        }
        for name, scores in sets.items()
    }


def _set_scores(config: ConfigDict, workdir: Path, one: EvaluationSet, settings: Sequence[str], step: int) -> SetScores:
    config = config.copy_and_resolve_references()
    placed, params, restored = open_on(config, workdir, one.protocol)
    if restored != step:
        raise ValueError(
            f"{workdir}: its last step, {step}, is damaged, and {restored} is not it; restore it from a copy"
        )
    batches = list(protocol_batches(config, one.protocol, one.source))
    of_samples = protocol_scores(placed, params, one.protocol, batches, settings)
    predict, side = predictor(placed, params), config.sampling.image_size
    grids = output_grids(placed.on_one_device, side, side)
    scores: SetScores = {}
    for setting in settings:
        worlds: dict[str, Worlds] = {key: collections.defaultdict(lambda: (0.0, 0.0)) for key in KEYS}
        for sample, scene in zip(one.protocol.samples, of_samples[setting], strict=True):
            for key in KEYS[1:]:
                measures = scene.measures
                _add(worlds[key], sample.scene, measures.sums.get(key, 0.0), measures.weights.get(key, 0.0))
        for part in batches:
            losses = sample_losses(predict(views_in_setting(part.batch, setting)), part.batch, grids)
            for sample, loss in zip(part.samples, losses, strict=True):
                _add(worlds[LOSS], sample.scene, float(loss), 1.0)
        scores[setting] = {key: dict(of_key) for key, of_key in worlds.items()}
    return scores


def _add(worlds: Worlds, world: str, total: float, weight: float) -> None:
    before = worlds[world]
    worlds[world] = before[0] + total, before[1] + weight


def sample_losses(predictions: Predictions, batch: Batch, grids: Grids) -> Float[np.ndarray, " b"]:
    """Of every sample the multitask loss of its geometry, in units of its mean depth, whatever a run was trained by:
    all weights are 1, and so is the confidence. `grids`: of points and rays, `models.rig3r.output_grids`."""
    rows = range(len(batch.targets.time))
    of_rows = [jax.tree.map(operator.itemgetter(slice(row, row + 1)), (predictions, batch)) for row in rows]
    return np.array([float(_loss(*of_row, grids)) for of_row in of_rows])


@functools.partial(jax.jit, static_argnums=2)
def _loss(predictions: Predictions, batch: Batch, grids: Grids) -> Float[Array, ""]:
    truth = ground_truth(batch.targets, batch.views.image_mask, *grids)
    predictions = predictions.replace(confidence=jnp.ones_like(predictions.confidence))
    return multitask_loss(predictions, truth, LossWeights(alpha=0.0, beta=1.0, lambda_pose=1.0, lambda_rig=1.0))[0]
