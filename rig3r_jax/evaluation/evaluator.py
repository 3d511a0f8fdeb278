"""The evaluation of a predict_fn: every metadata setting of the ablation, and the rows without a network.

Rates and distances are pooled over all pairs, points and images of all samples, never means of means (the ARI and the
error in the number of cameras, defined per sample, are means over samples). Cameras are recovered from the predicted
ray maps in closed form, in float64.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import jax
import numpy as np

from rig3r_jax.evaluation import baselines, points, pose, rig
from rig3r_jax.geometry import camera, recover
from rig3r_jax.schema import Batch, Predictions, Targets, Views

SETTINGS: dict[str, frozenset[str]] = {
    "none": frozenset(),
    "camera": frozenset({"camera_id"}),
    "time": frozenset({"time"}),
    "rig": frozenset({"rig"}),
    "camera+time": frozenset({"camera_id", "time"}),
    "camera+rig": frozenset({"camera_id", "rig"}),
    "time+rig": frozenset({"time", "rig"}),
    "all": frozenset({"camera_id", "time", "rig"}),
}
SUBSETS = ("same_time", "across_times", "near", "far")


@dataclasses.dataclass(frozen=True)
class EvaluationOptions:
    """What is measured and how; lengths in metres."""

    known_intrinsics: bool = (
        True  # recover cameras with the true intrinsics, else with the focal lengths the rays imply
    )
    min_baseline: float = pose.MIN_BASELINE  # true baselines below this have no direction
    near_baseline: float = 3.0  # divides the pairs into `near` and `far`
    same_time_seconds: float = 0.05  # images closer in time than this were taken together
    max_points: int = 512  # corresponding points a sample
    icp: bool = False  # refine the alignment of the points
    rig_angle_scale_deg: float = rig.ANGLE_SCALE_DEG
    rig_center_scale: float = rig.CENTER_SCALE  # mean depths


def blank_label(setting: str) -> str:
    """Name of the row that shows the metadata of `setting` and grey images."""
    return f"{setting}, images blanked"


def apply_setting(views: Views, setting: str, blank_images: bool = False) -> Views:
    """Views that show only the metadata of `setting`: what is hidden is overwritten too, so that nothing can leak.

    Hidden camera IDs and times become 0, hidden rig calibrations and intrinsics identities; blank images are mid grey.
    """
    if setting not in SETTINGS:
        raise ValueError(f"setting {setting!r} is unknown; choose from {', '.join(SETTINGS)}")
    shown, told = SETTINGS[setting], views.metadata
    has_camera_id = np.asarray(told.has_camera_id) & ("camera_id" in shown)
    has_time = np.asarray(told.has_time) & ("time" in shown)
    has_rig = np.asarray(told.has_rig) & ("rig" in shown)
    rig_from_camera, intrinsics = np.asarray(told.rig_from_camera), np.asarray(told.intrinsics)
    metadata = told.replace(
        camera_id=np.where(has_camera_id, told.camera_id, np.zeros_like(told.camera_id)),
        time=np.where(has_time, told.time, np.zeros_like(told.time)),
        rig_from_camera=np.where(has_rig[..., None, None], rig_from_camera, np.eye(4, dtype=rig_from_camera.dtype)),
        intrinsics=np.where(has_rig[..., None, None], intrinsics, np.eye(3, dtype=intrinsics.dtype)),
        has_camera_id=has_camera_id,
        has_time=has_time,
        has_rig=has_rig,
    )
    if not blank_images:
        return views.replace(metadata=metadata)
    images = np.asarray(views.images)
    return views.replace(images=np.full_like(images, 128 if images.dtype == np.uint8 else 0.5), metadata=metadata)


def evaluate(
    predict_fn: Callable[[Views], Predictions],
    batches: Iterable[Batch],
    settings: Sequence[str] = tuple(SETTINGS),
    blank_settings: Sequence[str] = (),
    with_baselines: bool = True,
    options: EvaluationOptions | None = None,
    gather: Callable[[dict], list[dict]] = lambda rows: [rows],
) -> dict[str, dict]:
    """Scores of every setting over numpy batches in which all metadata is present: {row name: scores}.

    Where several processes see different batches, `gather` returns what all of them measured, on each.

    `blank_settings` are evaluated with grey images in rows named by `blank_label`; `with_baselines` adds the rows of
    `baselines.BASELINES`, which know poses only (their other scores are NaN). A row holds the scores of all pairs (see
    `pose.summarize`), of points (`chamfer_m`; in mean depths `chamfer_relative`) and of rigs, and the pose scores again
    under each of SUBSETS. Rates are percent; the ARI is at most 1.
    """
    options = options or EvaluationOptions()
    unknown = [name for name in (*settings, *blank_settings) if name not in SETTINGS]
    if unknown:
        raise ValueError(f"settings {unknown} are unknown; choose from {', '.join(SETTINGS)}")
    shows = {name: (name, False) for name in settings} | {blank_label(name): (name, True) for name in blank_settings}
    rows = {label: _Row(options) for label in (*shows, *(baselines.BASELINES if with_baselines else ()))}
    for batch in batches:
        targets = jax.tree.map(np.asarray, batch.targets)
        image_mask = np.asarray(batch.views.image_mask)
        point_truth = None  # the same for every row, on the grid that the first prediction shows
        for label, (setting, blank_images) in shows.items():
            predictions = jax.tree.map(np.asarray, predict_fn(apply_setting(batch.views, setting, blank_images)))
            if point_truth is None:
                point_truth = _point_truth(targets, image_mask, predictions.points.shape[2:4], options.max_points)
            rows[label].add_cameras(predictions, targets, image_mask)
            rows[label].add_points(predictions.points, point_truth)
        for label, baseline in baselines.BASELINES.items() if with_baselines else ():
            rows[label].add_poses(baseline(targets), targets)
    parts = gather(rows)
    return {label: _Row.of([part[label] for part in parts]).scores() for label in rows}


class _Row:
    """Everything measured under one row name, sample by sample, until `scores` pools it."""

    def __init__(self, options: EvaluationOptions):
        self.options = options
        self.pairs: list[pose.PairErrors] = []
        self.same_time: list[np.ndarray] = []
        self.rigs: list[rig.RigScores] = []
        self.focal_errors: list[np.ndarray] = []
        self.accuracy: list[tuple[np.ndarray, float]] = []  # distances in metres and the sample's mean depth
        self.completeness: list[tuple[np.ndarray, float]] = []
        self.samples = 0

    @classmethod
    def of(cls, parts: Sequence["_Row"]) -> "_Row":
        """All that several rows measured."""
        whole = cls(parts[0].options)
        for part in parts:
            for name in ("pairs", "same_time", "rigs", "focal_errors", "accuracy", "completeness"):
                getattr(whole, name).extend(getattr(part, name))
            whole.samples += part.samples
        return whole

    def add_cameras(self, predictions: Predictions, targets: Targets, image_mask: np.ndarray) -> None:
        """Recovers cameras from both ray maps; adds pairs of images, rigs and focal errors of a batch."""
        intrinsics = targets.intrinsics if self.options.known_intrinsics else None
        pose_rays = (predictions.pose_directions, predictions.pose_center, image_mask)
        rig_rays = (predictions.rig_directions, predictions.rig_center, image_mask)
        rig_from_camera = recover.host_cameras_of(*rig_rays, intrinsics).a_from_camera
        self.add_poses(recover.host_cameras_of(*pose_rays, intrinsics).a_from_camera, targets)
        focals = _ray_focals(*pose_rays)
        true_focals = np.stack([targets.intrinsics[..., 0, 0], targets.intrinsics[..., 1, 1]], axis=-1)
        self.focal_errors.append(np.ravel(np.abs(focals / true_focals - 1)))
        for b in range(len(rig_from_camera)):
            self.rigs.append(
                rig.score_rig(
                    rig_from_camera[b],
                    targets.rig_from_camera[b],
                    targets.camera_index[b],
                    self.options.rig_angle_scale_deg,
                    self.options.rig_center_scale,
                )
            )

    def add_poses(self, reference_from_camera: np.ndarray, targets: Targets) -> None:
        """Adds the pairs of images of a batch."""
        errors = pose.relative_pose_errors(reference_from_camera, targets.reference_from_camera)
        time = targets.time.astype(np.float64)
        apart = np.take_along_axis(time, errors.j, axis=-1) - np.take_along_axis(time, errors.i, axis=-1)
        self.pairs.append(errors)
        self.same_time.append(np.ravel(np.abs(apart) < self.options.same_time_seconds))
        self.samples += len(time)

    def add_points(self, points_reference: np.ndarray, truth: list["_PointTruth"]) -> None:
        """Adds the distances between the aligned predicted points and the true points of a batch."""
        for predicted, sample in zip(points_reference, truth, strict=True):
            if len(sample.points_reference) < 3:
                continue
            predicted = predicted.reshape(-1, 3)[sample.chosen].astype(np.float64)
            predicted = points.align_points(predicted, sample.points_reference, self.options.icp)
            forth = points.nearest_distances(predicted, sample.points_reference)
            back = points.nearest_distances(sample.points_reference, predicted)
            self.accuracy.append((forth, sample.mean_depth))
            self.completeness.append((back, sample.mean_depth))

    def scores(self) -> dict:
        """All scores, flat; the pose scores of each subset of pairs nested under its name."""
        pairs = pose.concatenate(self.pairs)
        same_time = np.concatenate([np.zeros(0, bool), *self.same_time])
        near = pairs.baseline < self.options.near_baseline
        masks = dict(zip(SUBSETS, (same_time, ~same_time, near, ~near), strict=True))
        subsets = {name: pose.summarize(pairs, self.options.min_baseline, mask) for name, mask in masks.items()}
        everything = pose.summarize(pairs, self.options.min_baseline)
        return {**everything, **self._point_scores(), **self._rig_scores(), "samples": self.samples, **subsets}

    def _point_scores(self) -> dict[str, float | int]:
        metres = [_mean([d for d, _ in side]) for side in (self.accuracy, self.completeness)]
        relative = [_mean([d / depth for d, depth in side]) for side in (self.accuracy, self.completeness)]
        return {
            "accuracy_m": metres[0],
            "completeness_m": metres[1],
            "chamfer_m": sum(metres) / 2,
            "accuracy_relative": relative[0],
            "completeness_relative": relative[1],
            "chamfer_relative": sum(relative) / 2,
            "samples_with_points": len(self.accuracy),
        }

    def _rig_scores(self) -> dict[str, float]:
        pairs = pose.summarize(pose.concatenate([r.pairs for r in self.rigs]), self.options.min_baseline)
        matched, images = sum(r.matched_images for r in self.rigs), sum(r.images for r in self.rigs)
        return {
            "rig_id_accuracy": 100.0 * matched / images if images else float("nan"),
            "rig_ari": _mean([np.array([r.ari]) for r in self.rigs]),
            "camera_count_error": _mean([np.array([float(r.camera_count_error)]) for r in self.rigs]),
            "rig_mAA30": pairs["mAA30"],
            "rig_mAA30_unfolded": pairs["mAA30_unfolded"],
            "rig_RRA15": pairs["RRA15"],
            "rig_RTA15": pairs["RTA15"],
            # The median: a single image of parallel rays would own a mean. NaN where a grid is too small to show it.
            "focal_error_percent": 100.0 * float(np.median(np.concatenate(self.focal_errors)))
            if images
            else float("nan"),
        }


class _PointTruth(NamedTuple):
    """The true points of one sample that predictions are held against."""

    chosen: np.ndarray  # indices into the sample's predicted points, flat over (v hp wp)
    points_reference: np.ndarray  # (n 3) metres
    mean_depth: float  # metres


def _point_truth(targets: Targets, image_mask: np.ndarray, grid: tuple[int, int], max_points: int) -> list[_PointTruth]:
    """For each sample of a batch up to `max_points` random valid points of the predicted grid, always the same."""
    height, width = image_mask.shape[-2:]
    rows, columns = (np.asarray(camera.stride_pixels(s, n)) for s, n in zip((height, width), grid, strict=True))
    valid = targets.valid & image_mask
    grid_valid = valid[..., rows[:, None], columns]
    depth = np.where(grid_valid, targets.depth[..., rows[:, None], columns], 1.0).astype(np.float64)
    pixels = np.stack([*np.meshgrid(columns + 0.5, rows + 0.5), np.ones(grid)], axis=-1)  # (hp wp 3): u, v, 1
    points_camera = depth[..., None] * np.einsum(
        "bvij,hwj->bvhwi", np.linalg.inv(targets.intrinsics.astype(np.float64)), pixels
    )
    transform = targets.reference_from_camera.astype(np.float64)
    points_reference = np.einsum("bvij,bvhwj->bvhwi", transform[..., :3, :3], points_camera)
    points_reference += transform[:, :, None, None, :3, 3]
    truth = []
    for b in range(len(valid)):
        chosen = np.flatnonzero(grid_valid[b])
        if len(chosen) > max_points:
            chosen = np.sort(np.random.default_rng(0).choice(chosen, max_points, replace=False))
        mean_depth = float(np.mean(targets.depth[b][valid[b]], dtype=np.float64)) if len(chosen) else float("nan")
        truth.append(_PointTruth(chosen, points_reference[b].reshape(-1, 3)[chosen], mean_depth))
    return truth


def _ray_focals(directions: np.ndarray, center: np.ndarray, image_mask: np.ndarray) -> np.ndarray:
    """Focal lengths (b v 2) that the rays imply; NaN of grids too small to tell."""
    if not recover.tells_focal(*directions.shape[-3:-1]):
        return np.full((*directions.shape[:-3], 2), np.nan)
    intrinsics = recover.host_cameras_of(directions, center, image_mask).intrinsics
    return np.stack([intrinsics[..., 0, 0], intrinsics[..., 1, 1]], axis=-1)


def _mean(values: list[np.ndarray]) -> float:
    return float(np.mean(np.concatenate(values))) if values else float("nan")
