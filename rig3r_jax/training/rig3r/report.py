"""The end of a run in files that people open: report.html, points.ply, cameras.json."""

import importlib.metadata
import platform
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PyTree
from ml_collections import ConfigDict

from rig3r_jax.evaluation import contrasts
from rig3r_jax.evaluation.evaluator import apply_setting
from rig3r_jax.formats.cameras_json import write_cameras
from rig3r_jax.formats.ply import write_ply
from rig3r_jax.geometry.camera import Lens, Pinhole
from rig3r_jax.geometry.depth import along_axis
from rig3r_jax.geometry.lenses import batch_lens, one_lens
from rig3r_jax.geometry.reconstruct import SourceImage, reconstruction_of, rig_scale
from rig3r_jax.losses.ground_truth import mean_depth
from rig3r_jax.models.rig3r import to_unit_range
from rig3r_jax.schema import PhysicalCamera, Predictions, Reconstruction, Scale, Targets, Views
from rig3r_jax.training.goodput import summary as goodput_summary
from rig3r_jax.training.metrics import read_metrics
from rig3r_jax.training.processes import is_first
from rig3r_jax.training.records import Records
from rig3r_jax.training.rig3r.data import evaluation_batches, evaluation_worlds, overlap_note
from rig3r_jax.training.rig3r.evaluate import full_evaluation, predictor, protocol, save_evaluation
from rig3r_jax.training.rig3r.setup import PlacedModel
from rig3r_jax.training.sharding import row_share
from rig3r_jax.viz.report import ExampleView, build_report


def write_report(
    placed: PlacedModel, params: PyTree, records: Records, workdir: Path, out: Path, evaluation: dict[str, object]
) -> None:
    """Writes report.html, and points.ply and cameras.json of the first held-out scene with all metadata, into `out`.

    All processes predict, the first one draws.
    """
    examples: list[ExampleView] = []
    for split in placed.config.evaluation.sets:
        batch = next(evaluation_batches(placed.config, records, split, row_share(placed.mesh)))
        for setting, inputs in (("all", "rig calibration, times and camera IDs given"), ("none", "images alone")):
            predictions = predictor(placed, params)(apply_setting(batch.views, setting))
            if not is_first():
                continue
            known_intrinsics = placed.config.evaluation.known_intrinsics
            views, targets, sample = jax.tree.map(lambda x: np.asarray(x)[0], (batch.views, batch.targets, predictions))
            reconstruction = _reconstruction(
                views, targets, sample, with_rig=setting == "all", known_intrinsics=known_intrinsics
            )
            if not examples:
                _write_scene(out, reconstruction)
            title = f"{split.replace('_', ' ')}: {inputs}{', intrinsics known' if known_intrinsics else ''}"
            examples.append(_example(title, reconstruction, views, targets))
    if not is_first():
        return
    path = workdir / "metrics.jsonl"
    metrics = read_metrics(path) if path.exists() else []
    accounts = filter(None, map(goodput_summary, reversed(metrics)))
    build_report(
        out / "report.html",
        title=placed.config.title,
        summary=_summary(placed, params) | {"time": next(accounts, "not logged")},
        metrics=metrics,
        evaluation=evaluation,
        examples=examples,
        notes=(*placed.config.notes, *_overlaps(placed.config, records)),
    )


def _reconstruction(
    views: Views, targets: Targets, predictions: Predictions, *, with_rig: bool, known_intrinsics: bool
) -> Reconstruction:
    """A sample as its predictions show it, in metres, in the reference camera's frame.

    `with_rig`: the rig, which the model was given too, tells the scale by its baselines; else, or where it has none,
    since images alone do not tell it, the scale is that of the true mean depth, and none where no depth is known.
    """
    height, width = targets.depth.shape[-2:]
    numbers = targets.camera_index.tolist()
    true_lenses = _lenses(targets)
    lenses = true_lenses if known_intrinsics else [None] * len(true_lenses)
    sources = [
        SourceImage(
            f"view_{view:02d}",
            width,
            height,
            lens=lenses[view],
            wide=lens.wide,
            camera=numbers[view] if with_rig else None,
            time=time,
        )
        for view, (lens, time) in enumerate(zip(true_lenses, targets.time.tolist(), strict=True))
    ]
    rig = [
        PhysicalCamera(number, f"camera {number}", lenses[view], targets.rig_from_camera[view])
        for number, view in {number: numbers.index(number) for number in numbers if with_rig}.items()
    ]
    scale = rig_scale(predictions.rig_center, sources, rig) or _true_scale(targets)
    return reconstruction_of(predictions, views, sources, rig, scale)


def _overlaps(config: ConfigDict, records: Records) -> list[str]:
    """What a reader must know of sets whose scenes the run was trained on."""
    notes = [overlap_note(records, config.data.split, split) for split in config.evaluation.sets]
    return [note for note in notes if note]


def _lenses(targets: Targets) -> list[Lens]:
    """Of a sample's images."""
    if targets.distortion is None:
        return [Pinhole(intrinsics) for intrinsics in targets.intrinsics]
    lenses = batch_lens(targets.intrinsics, targets.distortion)
    return [one_lens(lenses, view) for view in range(len(targets.intrinsics))]


def _shown_depth(targets: Targets) -> Float[np.ndarray, "v h w"]:
    """Of a sample, as a reconstruction states it: along the camera's axis, of a wide lens along the ray."""
    return np.asarray(along_axis(jnp.asarray(targets.depth), batch_lens(targets.intrinsics, targets.distortion)))


def _true_scale(targets: Targets) -> Scale:
    depths, has_depth = mean_depth(jnp.asarray(_shown_depth(targets))[None], jnp.asarray(targets.valid)[None])
    return Scale(float(depths[0]), "given") if has_depth[0] else Scale(1.0, "none")


def _example(title: str, reconstruction: Reconstruction, views: Views, targets: Targets) -> ExampleView:
    """A sample's reconstruction beside the truth, as the report shows it."""
    source = reconstruction.scale.source
    words = {"given": "scale of the truth", "none": "no depth is known, nor a scale"}
    has_depth = bool(targets.valid.any())
    return ExampleView(
        title=f"{title}; {words.get(source, f'scale from the {source}')}",
        images=np.asarray(to_unit_range(jnp.asarray(views.images)) * 255).round().astype(np.uint8),
        reconstruction=reconstruction,
        world_from_camera_true=targets.reference_from_camera,
        depth_true=_shown_depth(targets) if has_depth else None,
        valid=targets.valid if has_depth else None,
        camera_labels=tuple(f"camera {index}" for index in targets.camera_index),
    )


def _write_scene(out: Path, reconstruction: Reconstruction) -> None:
    """points.ply, the confident ones, and cameras.json, in the reference camera's frame.

    Points and camera poses are predicted. Rig calibration, camera numbers and times are those that the model was given.
    """
    points = reconstruction.points
    chosen = points.confident()
    write_ply(out / "points.ply", points.points_world[chosen], points.colors[chosen])
    write_cameras(out / "cameras.json", reconstruction)


def _summary(placed: PlacedModel, params: PyTree) -> dict[str, object]:
    config = placed.config
    device = placed.mesh.devices.flat[0]
    return {
        "parameters": f"{sum(leaf.size for leaf in jax.tree.leaves(params)):,}",
        "steps": f"{config.train.steps:,} of {config.train.batch_size} samples",
        "images": f"{config.sampling.num_views} per sample, {config.sampling.image_size} px",
        "model": f"{config.model.variant}, {config.model.point_head} point head, {config.model.dtype}",
        "seed": str(config.seed),
        "devices": f"{placed.mesh.size} x {device.device_kind} ({platform.machine()})",
        "versions": ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("jax", "flax", "optax")),
    }


def finish(placed: PlacedModel, params: PyTree, records: Records, workdir: Path, *, step: int, out: Path) -> None:
    """Evaluates `params` and writes every file about them: those of `save_evaluation`, report and scene.

    They go to `out`; of the workdir the metrics of the training are read.
    """
    sets = placed.config.evaluation.sets
    worlds = {split: evaluation_worlds(placed.config, records, split) for split in sets}
    about = {"step": step, **protocol(placed), contrasts.WORLDS: worlds}
    evaluation = save_evaluation(about, full_evaluation(placed, params, records), out)
    write_report(placed, params, records, workdir, out, evaluation)
