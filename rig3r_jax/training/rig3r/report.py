"""The end of a run in files that people open: report.html, points.ply, cameras.json."""

import importlib.metadata
import platform
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, PyTree

from rig3r_jax.evaluation.evaluator import apply_setting
from rig3r_jax.formats.cameras_json import ImageCamera, write_cameras
from rig3r_jax.formats.ply import write_ply
from rig3r_jax.geometry import align, se3
from rig3r_jax.geometry.camera import stride_pixels
from rig3r_jax.geometry.recover import host_cameras_of
from rig3r_jax.losses.ground_truth import mean_depth
from rig3r_jax.models.rig3r import to_unit_range
from rig3r_jax.schema import Batch, Predictions
from rig3r_jax.training.metrics import read_metrics
from rig3r_jax.training.processes import is_first
from rig3r_jax.training.records import Records
from rig3r_jax.training.rig3r.data import evaluation_batches
from rig3r_jax.training.rig3r.evaluate import full_evaluation, predictor, protocol, save_evaluation
from rig3r_jax.training.rig3r.setup import PlacedModel
from rig3r_jax.training.sharding import row_share
from rig3r_jax.viz.report import ExampleView, build_report

CONFIDENT = 0.7  # share of the points, the most confident ones, that files and pictures show


def write_report(
    placed: PlacedModel, params: PyTree, records: Records, workdir: Path, evaluation: dict[str, object]
) -> None:
    """Writes report.html, and points.ply and cameras.json of the first held-out scene with all metadata.

    All processes predict, the first one draws.
    """
    examples = []
    for split in placed.config.evaluation.sets:
        batch = next(evaluation_batches(placed.config, records, split, row_share(placed.mesh)))
        name = split.replace("_", " ")
        for setting, told in (("all", "rig calibration, times and camera IDs given"), ("none", "images alone")):
            predictions = predictor(placed, params)(apply_setting(batch.views, setting))
            if not is_first():
                continue
            known = placed.config.evaluation.known_intrinsics
            title = f"{name}: {told}{', intrinsics known' if known else ''}"
            example, intrinsics = _example(title, batch, predictions, metric=setting == "all", known_intrinsics=known)
            if not examples:
                _write_scene(workdir, example, intrinsics, batch)
            examples.append(example)
    if not is_first():
        return
    build_report(
        workdir / "report.html",
        title=placed.config.title,
        summary=_summary(placed, params),
        metrics=read_metrics(workdir / "metrics.jsonl"),
        evaluation=evaluation,
        examples=examples,
        notes=tuple(placed.config.notes),
    )


def _example(
    title: str, batch: Batch, predictions: Predictions, *, metric: bool, known_intrinsics: bool
) -> tuple[ExampleView, Float[np.ndarray, "v 3 3"]]:
    """The first sample of a batch as the report shows it, in metres, in the reference camera's frame; its intrinsics.

    With `metric` the scale comes from the known rig baselines (closed form); else, since images alone do not tell it,
    from the true mean depth.
    """
    views, targets, found = jax.tree.map(lambda x: np.asarray(x)[0], (batch.views, batch.targets, predictions))
    height, width = targets.depth.shape[-2:]
    true_scale = float(mean_depth(jnp.asarray(targets.depth)[None], jnp.asarray(targets.valid)[None])[0][0])
    scale = true_scale
    if metric:
        known = targets.rig_from_camera[:, :3, 3]
        from_rig = float(align.metric_scale(*map(jnp.asarray, (found.rig_center, known, np.ones(len(known), bool)))))
        scale = from_rig if np.isfinite(from_rig) and from_rig > 0 else true_scale  # one camera has no baseline
        title += f"; scale {'from the rig baselines' if scale == from_rig else 'of the truth'}"
    else:
        title += "; scale of the truth"
    intrinsics = targets.intrinsics if known_intrinsics else None
    cameras = host_cameras_of(found.pose_directions, found.pose_center * scale, views.image_mask, intrinsics)
    world_from_camera = cameras.a_from_camera
    points = found.points * scale
    rows, columns = (stride_pixels(size, count) for size, count in zip((height, width), points.shape[1:3], strict=True))
    images = np.asarray(to_unit_range(jnp.asarray(views.images)) * 255).round().astype(np.uint8)
    shown = views.image_mask[:, rows][:, :, columns]
    shown &= found.confidence >= np.quantile(found.confidence[shown], 1 - CONFIDENT)
    camera_from_world = se3.inverse(jnp.asarray(world_from_camera))
    points_camera = se3.apply(camera_from_world, jnp.asarray(points.reshape(len(points), -1, 3)))
    example = ExampleView(
        title=title,
        images=images,
        world_from_camera_predicted=world_from_camera,
        points_world=points[shown],
        colors=images[:, rows][:, :, columns][shown],
        world_from_camera_true=targets.reference_from_camera,
        depth_true=targets.depth,
        valid=targets.valid,
        depth_predicted=np.asarray(points_camera)[..., 2].reshape(points.shape[:3]),
        confidence=found.confidence,
        time=targets.time,
        camera_labels=tuple(f"camera {index}" for index in targets.camera_index),
    )
    return example, cameras.intrinsics


def _write_scene(workdir: Path, example: ExampleView, intrinsics: Float[np.ndarray, "v 3 3"], batch: Batch) -> None:
    """points.ply and cameras.json of one example, in the reference camera's frame, metres.

    Points and camera poses are predicted. Rig calibration, camera numbers and times are those that the model was given.
    """
    write_ply(workdir / "points.ply", example.points_world, example.colors)
    targets = jax.tree.map(lambda x: np.asarray(x)[0], batch.targets)
    height, width = example.images.shape[1:3]
    images = [
        ImageCamera(
            name=f"view_{view:02d}",
            width=width,
            height=height,
            intrinsics=intrinsics[view],
            world_from_camera=example.world_from_camera_predicted[view],
            rig_from_camera=targets.rig_from_camera[view],
            camera=int(targets.camera_index[view]),
            time=float(targets.time[view]),
        )
        for view in range(len(example.images))
    ]
    write_cameras(workdir / "cameras.json", images)


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


def finish(placed: PlacedModel, params: PyTree, records: Records, workdir: Path, *, step: int) -> None:
    """Evaluates `params` and writes every file about them: evaluation.json, evaluation.md, report and scene."""
    evaluation = {"step": step, **protocol(placed), "sets": full_evaluation(placed, params, records)}
    if is_first():
        save_evaluation(evaluation, workdir)
    write_report(placed, params, records, workdir, evaluation)
