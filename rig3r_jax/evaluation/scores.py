"""The scores of anybody's predictions: poses, rigs, focal lengths and points of many samples, pooled before any rate.

Rates and distances are taken over all pairs, points and images of all samples, never means of means. What is defined
per sample is a mean over samples: ARI, error in the number of cameras, ATE, the AUC of some protocols. Host float64,
plain numpy. Pairs and trajectories are scored by the functions that score files (`systems`).
"""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from rig3r_jax.evaluation import points, pose, rig, steps, trajectory
from rig3r_jax.evaluation.contrasts import sample_sums
from rig3r_jax.evaluation.options import ScoreOptions
from rig3r_jax.evaluation.rows import AUC, SUBSETS
from rig3r_jax.evaluation.systems.align import align
from rig3r_jax.evaluation.systems.pairs import AUCS, auc_sums


@dataclasses.dataclass
class Scorer:
    """Everything measured of one system, sample by sample, until `scores` pools it.

    Predictions may have any world frame and any scale; the truth is in metres. What is not added is NaN in the scores.
    """

    options: ScoreOptions = ScoreOptions()
    pairs: list[pose.PairErrors] = dataclasses.field(default_factory=list)
    together: list[np.ndarray] = dataclasses.field(default_factory=list)  # which pairs are of one rig step
    timed: list[np.ndarray] = dataclasses.field(default_factory=list)  # of which pairs that is known
    ate: list[float] = dataclasses.field(default_factory=list)  # metres, of each sample
    aucs: list[dict[str, tuple[float, int]]] = dataclasses.field(default_factory=list)  # sums and counts of each sample
    rigs: list[rig.RigScores] = dataclasses.field(default_factory=list)
    focal_errors: list[np.ndarray] = dataclasses.field(default_factory=list)
    accuracy: list[tuple[np.ndarray, float]] = dataclasses.field(default_factory=list)  # metres, sample's mean depth
    completeness: list[tuple[np.ndarray, float]] = dataclasses.field(default_factory=list)

    @classmethod
    def merged(cls, parts: Sequence["Scorer"]) -> "Scorer":
        """All that several scorers of the same options measured, in their order."""
        lists = [field.name for field in dataclasses.fields(cls) if field.name != "options"]
        return cls(parts[0].options, **{name: sum((getattr(part, name) for part in parts), []) for name in lists})

    def add_poses(
        self,
        world_from_camera_predicted: Float[np.ndarray, "*b v 4 4"],
        world_from_camera_true: Float[np.ndarray, "*b v 4 4"],
        time: Float[np.ndarray, "*b v"] | None = None,
        camera_index: Int[np.ndarray, "*b v"] | None = None,
    ) -> None:
        """Adds the pairs of images of every sample; without `time` (seconds) none is of one time or across times.

        Of one time are those of one rig step (see `steps.same_step`, also for what `camera_index` says of it).
        """
        errors = pose.relative_pose_errors(world_from_camera_predicted, world_from_camera_true)
        together = np.zeros(errors.baseline.shape, bool)
        if time is not None:
            together = steps.same_step(time, camera_index, self.options.same_time_seconds)
        self.pairs.append(errors)
        self.together.append(np.ravel(together))
        self.timed.append(np.full(together.size, time is not None))
        views = world_from_camera_true.shape[-3:]
        samples = (
            x.astype(np.float64).reshape(-1, *views) for x in (world_from_camera_predicted, world_from_camera_true)
        )
        for predicted, true in zip(*samples, strict=True):
            self.ate.append(_absolute_error(predicted, true))
            self.aucs.append(auc_sums(predicted, true, self.options.min_baseline))

    def add_rigs(
        self,
        rig_from_camera_predicted: Float[np.ndarray, "*b v 4 4"],
        rig_from_camera_true: Float[np.ndarray, "*b v 4 4"],
        camera_index: Int[np.ndarray, "*b v"],
    ) -> None:
        """Discovers the rig of every sample from where its images seem to sit in it, and adds how right that is."""
        views = camera_index.shape[-1]
        predicted, true = (x.reshape(-1, views, 4, 4) for x in (rig_from_camera_predicted, rig_from_camera_true))
        for sample in zip(predicted, true, camera_index.reshape(-1, views), strict=True):
            self.rigs.append(rig.score_rig(*sample))

    def add_focals(self, predicted: Float[np.ndarray, "*b 2"], true: Float[np.ndarray, "*b 2"]) -> None:
        """Adds the relative errors of (fx, fy), pixels."""
        self.focal_errors.append(np.ravel(np.abs(predicted / true - 1)))

    def add_points(
        self, predicted: Float[np.ndarray, "n 3"], true: Float[np.ndarray, "n 3"], mean_depth: float = math.nan
    ) -> None:
        """Adds the distances of one sample's corresponding points after the best similarity; none of fewer than 3.

        `mean_depth` (metres) is the unit of the scores named relative; NaN where it is not known.
        """
        if len(true) < 3:
            return
        aligned = points.align_points(predicted.astype(np.float64), true, self.options.icp)
        self.accuracy.append((points.nearest_distances(aligned, true), mean_depth))
        self.completeness.append((points.nearest_distances(true, aligned), mean_depth))

    def sample_sums(self) -> dict[str, Float[np.ndarray, "s 2"]]:
        """See `contrasts.sample_sums`."""
        return sample_sums(self.pairs, self.options.min_baseline)

    def scores(self) -> dict:
        """All scores, flat; the pose scores of each subset of pairs nested under its name, and the AUCs under `AUC`.

        Rates are percent.
        """
        pairs = pose.concatenate(self.pairs)
        together, timed = (np.concatenate([np.zeros(0, bool), *part]) for part in (self.together, self.timed))
        near = pairs.baseline < self.options.near_baseline
        masks = dict(zip(SUBSETS, (together, timed & ~together, near, ~near), strict=True))
        subsets = {name: pose.summarize(pairs, self.options.min_baseline, mask) for name, mask in masks.items()}
        everything = pose.summarize(pairs, self.options.min_baseline)
        samples = sum(math.prod(errors.baseline.shape[:-1]) for errors in self.pairs)
        rows = {**everything, "ATE_m": _mean_finite(self.ate), **self._point_scores(), **self._rig_scores()}
        return {**rows, "samples": samples, **subsets, AUC: self._auc_scores()}

    def _auc_scores(self) -> dict[str, float]:
        totals = {key: np.sum([sums[key] for sums in self.aucs], axis=0) for key in AUCS if self.aucs}
        return {key: totals[key][0] / totals[key][1] if key in totals and totals[key][1] else math.nan for key in AUCS}

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
            "rig_id_accuracy": 100.0 * matched / images if images else math.nan,
            "rig_ari": _mean([np.array([r.ari]) for r in self.rigs]),
            "camera_count_error": _mean([np.array([float(r.camera_count_error)]) for r in self.rigs]),
            "rig_mAA30": pairs["mAA30"],
            "rig_mAA30_unfolded": pairs["mAA30_unfolded"],
            "rig_RRA15": pairs["RRA15"],
            "rig_RTA15": pairs["RTA15"],
            # The median: a single image of parallel rays would own a mean. NaN where a grid is too small to show it.
            "focal_error_percent": 100.0 * float(np.median(np.concatenate(self.focal_errors)))
            if sum(map(len, self.focal_errors))
            else math.nan,
        }


def _mean(values: list[np.ndarray]) -> float:
    return float(np.mean(np.concatenate(values))) if values else math.nan


def _mean_finite(values: Sequence[float]) -> float:
    """NaN where none is finite: the trajectories of all samples stand still, or are of fewer than 3 images."""
    finite = [value for value in values if math.isfinite(value)]
    return float(np.mean(finite)) if finite else math.nan


def _absolute_error(predicted: Float[np.ndarray, "v 4 4"], true: Float[np.ndarray, "v 4 4"]) -> float:
    """Root mean square distance of the cameras after the least-squares similarity, in metres, of those with a pose."""
    posed = np.isfinite(predicted).all(axis=(1, 2))
    alignment = align(predicted[posed], true[posed], "sim3")
    if alignment is None:
        return math.nan
    errors = trajectory.absolute_errors(alignment.poses(predicted[posed]), true[posed])
    return trajectory.statistics(errors)["rmse"]


SCORER_KINDS = (Scorer, ScoreOptions, pose.PairErrors, rig.RigScores)  # what a Scorer is made of beside numbers
