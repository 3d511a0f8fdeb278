"""The evaluation of a predict_fn: every metadata setting of the ablation, and the rows without a network.

Cameras are recovered from the predicted ray maps in closed form, in float64, wide lenses that are not known by a fit;
`scores` says how they are scored.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from rig3r_jax.data.options import GREY
from rig3r_jax.evaluation.baselines import BASELINES
from rig3r_jax.evaluation.options import ScoreOptions
from rig3r_jax.evaluation.rows import SETTINGS, blank_label, check_settings
from rig3r_jax.evaluation.scores import Scorer
from rig3r_jax.geometry import camera, recover
from rig3r_jax.geometry.depth import along_axis
from rig3r_jax.geometry.fit_lens import fitted_lenses
from rig3r_jax.geometry.lenses import batch_lens
from rig3r_jax.schema import Batch, Predictions, Targets, Views


@dataclasses.dataclass(frozen=True)
class EvaluationOptions:
    """What is evaluated and how."""

    # Recover cameras with the true lenses; else with those that the rays imply: a fisheye for images whose true lens is
    # wide (`geometry.fit_lens`), and focal lengths of pinholes for others, Brown's too.
    known_intrinsics: bool = True
    max_points: int = 512  # corresponding points a sample
    scores: ScoreOptions = ScoreOptions()


def apply_setting(views: Views, setting: str, blank_images: bool = False) -> Views:
    """Views that show only the metadata of `setting`: what is hidden is overwritten too, so that nothing can leak.

    Hidden camera IDs and times become 0, hidden rig calibrations and intrinsics identities; blank images are mid grey.
    """
    check_settings([setting])
    groups, metadata = SETTINGS[setting], views.metadata
    has_camera_id = np.asarray(metadata.has_camera_id) & ("camera_id" in groups)
    has_time = np.asarray(metadata.has_time) & ("time" in groups)
    has_rig = np.asarray(metadata.has_rig) & ("rig" in groups)
    rig_from_camera, intrinsics = np.asarray(metadata.rig_from_camera), np.asarray(metadata.intrinsics)
    metadata = metadata.replace(
        camera_id=np.where(has_camera_id, metadata.camera_id, np.zeros_like(metadata.camera_id)),
        time=np.where(has_time, metadata.time, np.zeros_like(metadata.time)),
        rig_from_camera=np.where(has_rig[..., None, None], rig_from_camera, np.eye(4, dtype=rig_from_camera.dtype)),
        intrinsics=np.where(has_rig[..., None, None], intrinsics, np.eye(3, dtype=intrinsics.dtype)),
        has_camera_id=has_camera_id,
        has_time=has_time,
        has_rig=has_rig,
    )
    if not blank_images:
        return views.replace(metadata=metadata)
    images = np.asarray(views.images)
    return views.replace(images=np.full_like(images, GREY if images.dtype == np.uint8 else 0.5), metadata=metadata)


def evaluate(*arguments, **options) -> dict[str, dict]:
    """The scores of `measure`, with the same arguments: {row name: scores}.

    A row holds the scores of all pairs (see `pose.summarize`), of points (`chamfer_m`; in mean depths
    `chamfer_relative`) and of rigs, and the pose scores again under each of `rows.SUBSETS`. Rates are percent; the ARI
    is at most 1.
    """
    return {label: scorer.scores() for label, scorer in measure(*arguments, **options).items()}


def measure(
    predict_fn: Callable[[Views], Predictions],
    batches: Iterable[Batch],
    settings: Sequence[str] = tuple(SETTINGS),
    blank_settings: Sequence[str] = (),
    with_baselines: bool = True,
    options: EvaluationOptions | None = None,
    gather: Callable[[dict], list[dict]] = lambda rows: [rows],
) -> dict[str, Scorer]:
    """What is measured in every setting over numpy batches in which all metadata is present, by row name.

    Where several processes see different batches, `gather` returns what all of them measured, on each.

    `blank_settings` are evaluated with grey images in rows named by `blank_label`; `with_baselines` adds the rows of
    BASELINES, which know poses only (their other scores are NaN).
    """
    options = options or EvaluationOptions()
    check_settings([*settings, *blank_settings])
    shows = {name: (name, False) for name in settings} | {blank_label(name): (name, True) for name in blank_settings}
    scorers = {label: Scorer(options.scores) for label in (*shows, *(BASELINES if with_baselines else ()))}
    for batch in batches:
        targets = jax.tree.map(np.asarray, batch.targets)
        image_mask = np.asarray(batch.views.image_mask)
        true_poses = (targets.reference_from_camera, targets.time, targets.camera_index)
        true_points = None  # the same for every row, on the grid that the first prediction shows
        for label, (setting, blank_images) in shows.items():
            predictions = jax.tree.map(np.asarray, predict_fn(apply_setting(batch.views, setting, blank_images)))
            if true_points is None:
                true_points = _true_points(targets, image_mask, predictions.points.shape[2:4], options.max_points)
            cameras = recovered_cameras(predictions, targets, image_mask, options.known_intrinsics)
            scorers[label].add_poses(cameras.reference_from_camera, *true_poses)
            scorers[label].add_focals(cameras.focals[cameras.scored], _focals(targets)[cameras.scored])
            scorers[label].add_rigs(cameras.rig_from_camera, targets.rig_from_camera, targets.camera_index)
            for predicted, sample in zip(predictions.points, true_points, strict=True):
                chosen = predicted.reshape(-1, 3)[sample.chosen]
                scorers[label].add_points(chosen, sample.points_reference, sample.mean_depth)
        for label, baseline in BASELINES.items() if with_baselines else ():
            scorers[label].add_poses(baseline(targets), *true_poses)
    parts = gather(scorers)
    return {label: Scorer.merged([part[label] for part in parts]) for label in scorers}


class RecoveredCameras(NamedTuple):
    """What the ray maps of a batch say of its cameras; float64, lengths in the unit of the predictions."""

    reference_from_camera: Float[np.ndarray, "b v 4 4"]
    rig_from_camera: Float[np.ndarray, "b v 4 4"]
    focals: Float[np.ndarray, "b v 2"]  # fx, fy in pixels
    scored: Bool[np.ndarray, "b v"]  # images whose focal lengths the rays tell


def recovered_cameras(
    predictions: Predictions, targets: Targets, image_mask: Bool[np.ndarray, "b v h w"], known_intrinsics: bool
) -> RecoveredCameras:
    """The cameras of both ray maps of a batch in closed form.

    An image has one lens: where it is not known, that of its pose rays. Focal lengths of wide lenses are told where
    they are fitted, which takes about 20 ms an image, those of other lenses always.
    """
    true_lenses = batch_lens(targets.intrinsics, targets.distortion)
    wide = np.broadcast_to(true_lenses.wide, targets.intrinsics.shape[:-2])
    pose_rays = (predictions.pose_directions, predictions.pose_center, image_mask)
    rig_rays = (predictions.rig_directions, predictions.rig_center, image_mask)
    lenses = true_lenses if known_intrinsics else None
    if wide.any() and not known_intrinsics:
        lenses = fitted_lenses(predictions.pose_directions, image_mask, wide)
    cameras = recover.host_cameras_of(*pose_rays, lenses)
    focals, scored = _focals(cameras), np.ones_like(wide)
    if known_intrinsics:
        focals, scored = _ray_focals(*pose_rays), ~wide
    rig_from_camera = recover.host_cameras_of(*rig_rays, lenses).a_from_camera
    return RecoveredCameras(cameras.a_from_camera, rig_from_camera, focals, scored)


def _ray_focals(
    directions: Float[np.ndarray, "b v r c 3"], center: Float[np.ndarray, "b v 3"], image_mask: np.ndarray
) -> Float[np.ndarray, "b v 2"]:
    """(fx, fy) of pinholes that the rays imply, pixels; NaN of grids too small to tell."""
    if not recover.tells_focal(*directions.shape[-3:-1]):
        return np.full((*directions.shape[:-3], 2), math.nan)
    return _focals(recover.host_cameras_of(directions, center, image_mask))


def _focals(cameras: recover.RecoveredCamera | Targets) -> Float[np.ndarray, "b v 2"]:
    """(fx, fy) in pixels."""
    return cameras.intrinsics[..., [0, 1], [0, 1]]


def _widened(values: np.ndarray) -> np.ndarray:
    """Numbers in float64; whole ones as they are."""
    return values.astype(np.float64) if np.issubdtype(values.dtype, np.floating) else values


class _TruePoints(NamedTuple):
    """The true points of one sample that predictions are held against."""

    chosen: np.ndarray  # indices into the sample's predicted points, flat over (v hp wp)
    points_reference: np.ndarray  # (n 3) metres
    mean_depth: float  # metres


def _true_points(
    targets: Targets, image_mask: Bool[np.ndarray, "b v h w"], grid: tuple[int, int], max_points: int
) -> list[_TruePoints]:
    """For each sample of a batch up to `max_points` random valid points of the predicted grid, always the same."""
    height, width = image_mask.shape[-2:]
    rows, columns = (camera.stride_pixels(size, count) for size, count in zip((height, width), grid, strict=True))
    valid = targets.valid & image_mask
    grid_valid = valid[..., rows[:, None], columns]
    depth = np.where(grid_valid, targets.depth[..., rows[:, None], columns], 1.0).astype(np.float64)
    pixels = np.stack(np.meshgrid(columns + 0.5, rows + 0.5), axis=-1)[None, None]
    lenses = batch_lens(*jax.tree.map(_widened, (targets.intrinsics, targets.distortion)))
    points_camera = depth[..., None] * lenses.rays(pixels)
    along_axes = np.asarray(along_axis(jnp.asarray(targets.depth), lenses))
    transform = targets.reference_from_camera.astype(np.float64)
    points_reference = np.einsum("bvij,bvhwj->bvhwi", transform[..., :3, :3], points_camera)
    points_reference += transform[:, :, None, None, :3, 3]
    samples = []
    for b in range(len(valid)):
        chosen = np.flatnonzero(grid_valid[b])
        if len(chosen) > max_points:
            chosen = np.sort(np.random.default_rng(0).choice(chosen, max_points, replace=False))
        mean_depth = float(np.mean(along_axes[b][valid[b]], dtype=np.float64)) if len(chosen) else math.nan
        samples.append(_TruePoints(chosen, points_reference[b].reshape(-1, 3)[chosen], mean_depth))
    return samples
