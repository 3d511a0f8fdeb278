"""A trained run evaluated on what it was not configured for: any folder of records, or the frames of a protocol.

Of the workdir only its config, its newest checkpoint and the log of its training are read; nothing is written there.
The file that `rig3r export` made of it does as well, but for that log.
"""

import dataclasses
import operator
from collections.abc import Iterable, Sequence
from pathlib import Path

import jax
import numpy as np
from jaxtyping import PyTree
from ml_collections import ConfigDict

from rig3r_jax.data.source import Source, check_root
from rig3r_jax.data.sources import make_source
from rig3r_jax.evaluation.evaluator import recovered_cameras
from rig3r_jax.evaluation.protocol import PROTOCOL_SETTINGS, Protocol, read_protocol
from rig3r_jax.evaluation.samples import predicted_scene, true_scene
from rig3r_jax.evaluation.systems.options import SystemOptions
from rig3r_jax.evaluation.systems.score import SCENE_KINDS, SceneScores, score_scene
from rig3r_jax.evaluation.systems.summary import Evaluation, system_scores
from rig3r_jax.evaluation.systems.tables import to_markdown, write_evaluation
from rig3r_jax.training.processes import gather, is_first, on_first
from rig3r_jax.training.records import records_at
from rig3r_jax.training.rig3r import task
from rig3r_jax.training.rig3r.data import check_views
from rig3r_jax.training.rig3r.evaluate import options_of, predictor
from rig3r_jax.training.rig3r.params import restored_params, run_config
from rig3r_jax.training.rig3r.protocol_batches import ProtocolBatch, protocol_batches, views_in_setting
from rig3r_jax.training.rig3r.setup import PlacedModel
from rig3r_jax.training.sharding import leads_rows, row_share
from rig3r_jax.training.workdir import writable
from rig3r_jax.training.xla import use_compilation_cache
from rig3r_jax.viz.system_charts import write_system_charts
from rig3r_jax.viz.systems.page import write_page

_POINTS = 20_000  # of a sample's clouds: there are as many pairs of clouds as samples and settings


def evaluate_elsewhere(workdir: Path, on: Path, out: Path, root: str = "") -> None:
    """Evaluates the newest checkpoint, or the exported file, of a run of rig3r on records or on a protocol.

    On records: evaluation.json, evaluation.md and the report of all their splits, as of the run's own. On a protocol:
    the scores of every setting, a system each, in the files of `rig3r evaluate --predictions`.

    Args:
        workdir: of the run, where nothing is written; or a file of `rig3r export`.
        on: a folder that `rig3r build-data` wrote, or a file of `rig3r make-protocol`.
        out: folder of the files, outside the workdir.
        root: folder of the raw data of a protocol; "" for procedural worlds.

    Raises:
        ValueError, FileNotFoundError: what is given is none of these, or does not fit; names it and the remedy.
    """
    config = run_config(workdir)
    if out.resolve() == workdir.resolve() or workdir.resolve() in out.resolve().parents:
        raise ValueError(f"--out {out}: is inside the workdir, which stays as it is; give a folder elsewhere")
    if not on.exists():
        raise ValueError(f"--on {on}: there is no such folder of records or protocol")
    on_first(lambda: writable(workdir, out))
    use_compilation_cache(out)
    if on.is_dir():
        _evaluate_records(config, workdir, on, out)
    else:
        _evaluate_protocol(config, workdir, read_protocol(on), root, out)


def _evaluate_records(config: ConfigDict, workdir: Path, folder: Path, out: Path) -> None:
    records = records_at(folder)
    config.evaluation.enabled = True
    config.evaluation.sets = tuple(split for split, count in records[0][1].splits.items() if count)
    config.data.split = ""  # which of these scenes the run has seen is not known
    check_views(config, records)
    task.use_devices(config, jax.device_count())
    opened = task.Rig3RTask(PlacedModel(config), records, workdir)
    params, step = restored_params(workdir, opened.abstract_params)
    opened.finish(params, workdir, step=step, out=out)


def _evaluate_protocol(config: ConfigDict, workdir: Path, protocol: Protocol, root: str, out: Path) -> None:
    source = protocol_source(protocol, root)
    placed, params, step = open_on(config, workdir, protocol)
    batches = protocol_batches(config, protocol, source, row_share(placed.mesh))
    scores = protocol_scores(placed, params, protocol, batches)
    options = protocol_options(placed, protocol)
    systems = [
        system_scores(setting, f"{workdir}, step {step}", scenes, (), options) for setting, scenes in scores.items()
    ]
    evaluation = Evaluation(protocol.title, options, tuple(systems))
    if is_first():
        print(to_markdown(evaluation), end="", flush=True)
        write_evaluation(evaluation, out)
        write_page(out / "report.html", evaluation, write_system_charts(evaluation, out), from_files=False)


def protocol_source(protocol: Protocol, root: str) -> Source:
    """The data set of a protocol below `root`; ValueError where it needs one and has none."""
    source = make_source(protocol.source, root, protocol.options)
    check_root(type(source), root)
    return source


def open_on(config: ConfigDict, workdir: Path, protocol: Protocol) -> tuple[PlacedModel, PyTree, int]:
    """Model, newest parameters and their step of a run whose config is set, in place, to the samples of a protocol.

    ValueError where these have more images than the run was trained with numbers for.
    """
    if protocol.rules.views > config.sampling.frame_index_pool + 1:
        raise ValueError(
            f"{protocol.name}: its samples have {protocol.rules.views} images; the run was trained with numbers for "
            f"{config.sampling.frame_index_pool + 1} at most (sampling.frame_index_pool)"
        )
    config.evaluation.samples = len(protocol.samples)
    config.sampling.num_views = protocol.rules.views
    task.use_devices(config, jax.device_count())
    placed = PlacedModel(config)
    params, step = restored_params(workdir, placed.abstract_params)
    return placed, params, step


def protocol_options(placed: PlacedModel, protocol: Protocol) -> SystemOptions:
    """The protocol's rules; rigs are discovered as in the run's own evaluation."""
    scores = dataclasses.replace(options_of(placed).scores, min_baseline=protocol.rules.min_baseline)
    return SystemOptions(
        align=protocol.rules.align, missing=protocol.rules.missing, match="name", max_points=_POINTS, scores=scores
    )


def protocol_scores(
    placed: PlacedModel,
    params: PyTree,
    protocol: Protocol,
    batches: Iterable[ProtocolBatch],
    settings: Sequence[str] = tuple(PROTOCOL_SETTINGS),
) -> dict[str, list[SceneScores]]:
    """Of every setting the scores of all samples, in the protocol's order, on every process."""
    scores: dict[str, list[SceneScores]] = {setting: [] for setting in settings}
    options, predict = protocol_options(placed, protocol), predictor(placed, params)
    for batch, samples, poses in batches:
        targets, mask = jax.tree.map(np.asarray, (batch.targets, batch.views.image_mask))
        rows = range(len(samples))
        truths = [
            true_scene(protocol.name, poses[row], *jax.tree.map(operator.itemgetter(row), (targets, mask)))
            for row in rows
        ]
        for setting in scores:
            predictions = jax.tree.map(np.asarray, predict(views_in_setting(batch, setting)))
            cameras = recovered_cameras(predictions, targets, mask, options_of(placed).known_intrinsics)
            for row, sample in zip(rows, samples, strict=True):
                of_row = jax.tree.map(operator.itemgetter(row), (predictions, cameras))
                scene = predicted_scene(truths[row], *of_row)
                scores[setting].append(score_scene(scene, truths[row], options, sample.name))
    parts = [part for part in gather(scores if leads_rows(placed.mesh) else None, SCENE_KINDS) if part is not None]
    order = {sample.name: number for number, sample in enumerate(protocol.samples)}
    return {
        setting: sorted((scene for part in parts for scene in part[setting]), key=lambda scene: order[scene.name])
        for setting in scores
    }
