"""Scores of a system's cameras: trajectories, scale, focal lengths, rigs, and whether covariances are right."""

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from rig3r_jax.evaluation import rig, trajectory
from rig3r_jax.evaluation.d2 import CENTRAL_LEVELS
from rig3r_jax.evaluation.error_samples import ErrorSamples, squared_distances
from rig3r_jax.evaluation.points import fit_similarity
from rig3r_jax.evaluation.pose import rate_sums
from rig3r_jax.evaluation.systems.measures import Measures
from rig3r_jax.evaluation.systems.options import SystemOptions
from rig3r_jax.evaluation.systems.scene import PosedScene
from rig3r_jax.geometry import rigid
from rig3r_jax.geometry.aligned import CameraAlignment, stretched

TRAJECTORY = ("ATE_m", "ATE_rot_deg", "RPE_m", "RPE_rot_deg")
RIG_RATES = ("mAA30", "mAA30_unfolded", "RRA15", "RTA15")  # of the cameras within the rig
RIG = ("rig_id_accuracy", "rig_ari", "camera_count_error", *(f"rig_{rate}" for rate in RIG_RATES))
UNCERTAINTY = ("d2_trans", "d2_rot", "d2_pose", *(f"coverage_{level}" for level in CENTRAL_LEVELS))


def add_trajectory(measures: Measures, true: PosedScene, moved: Float[np.ndarray, "v 4 4"]) -> None:
    """Absolute and relative errors (RMSE) of `moved`, the aligned cameras of the images of `true`.

    Relative ones are of each camera's motion from one image to its next, by time where it is known.
    """
    reason = "no finite alignment: the true centres coincide"
    for key, part in (("ATE_m", "trans"), ("ATE_rot_deg", "rot_deg")):
        errors = trajectory.absolute_errors(moved, true.world_from_camera, part)
        measures.add(key, trajectory.statistics(errors)["rmse"], 1.0, reason)
    for key, part in (("RPE_m", "trans"), ("RPE_rot_deg", "rot_deg")):
        tracks = [trajectory.relative_errors(moved[rows], true.world_from_camera[rows], part) for rows in _tracks(true)]
        errors = np.concatenate(tracks)
        rmse = trajectory.statistics(errors)["rmse"]
        measures.add(key, rmse, 1.0, reason if errors.size else "no camera took two images")


def add_scale(measures: Measures, predicted: PosedScene, true: PosedScene) -> None:
    """How far predicted lengths are off metres, in percent, by the least-squares similarity of the centres."""
    key = "scale_error_percent"
    unmetric = [scene.source for scene in (predicted, true) if not scene.is_metric]
    if unmetric:
        return measures.lack([key], f"{unmetric[0]} says that its unit is no metre")
    if len(true) < 3:
        return measures.lack([key], "fewer than 3 images in common")
    scale = fit_similarity(predicted.world_from_camera[:, :3, 3], true.world_from_camera[:, :3, 3]).scale
    off = abs(1.0 / scale - 1.0) if scale else np.nan
    return measures.add(key, 100.0 * off, 1.0, "the predicted or the true centres coincide")


def add_focals(measures: Measures, predicted: PosedScene, true: PosedScene) -> None:
    """Median over the images of the relative error of fx and fy, each in shares of its image's width and height."""
    key = "focal_error_percent"
    lack = [scene.source for scene in (predicted, true) if scene.focals is None]
    if lack:
        return measures.lack([key], f"{lack[0]} states no focal lengths")
    unsized = [scene.source for scene in (predicted, true) if scene.sizes is None]
    if len(unsized) == 1:
        return measures.lack([key], f"{unsized[0]} does not say of which size of images its focal lengths are")
    shares = [scene.focals if unsized else scene.focals / scene.sizes for scene in (predicted, true)]
    return measures.add(key, 100.0 * float(np.median(np.abs(shares[0] / shares[1] - 1.0))), 1.0, "no images in common")


def add_rig(measures: Measures, predicted: PosedScene, true: PosedScene, images: int, options: SystemOptions) -> None:
    """Which image is of which camera, and how the cameras sit in the rig.

    Both scenes hold the common images. `images` counts those of the truth: one that is not common has a wrong camera.
    """
    lack = [scene.source for scene in (predicted, true) if scene.cameras is None]
    if lack:
        return measures.lack(RIG, f"{lack[0]} names no cameras")
    labels, index = (np.unique(scene.cameras, return_inverse=True)[1] for scene in (predicted, true))
    if predicted.rig_from_camera is not None:  # of a network, whose rays may say nothing
        labels = np.where(np.isfinite(predicted.rig_from_camera).all(axis=(1, 2)), labels, rig.NO_CAMERA)
    matched = rig.rig_id_accuracy(labels, index) * len(labels)
    measures.add("rig_id_accuracy", 100.0 * matched, images, "no images")
    measures.add("rig_ari", rig.adjusted_rand_index(labels, index), 1.0, "fewer than two images in common")
    off = abs(len(np.unique(labels[labels >= 0])) - len(np.unique(index)))
    measures.add("camera_count_error", float(off), 1.0, "")
    keys = tuple(f"rig_{rate}" for rate in RIG_RATES)
    unplaced = [scene.source for scene in (predicted, true) if scene.rig_from_camera is None]
    if unplaced:
        return measures.lack(keys, f"{unplaced[0]} does not say where cameras sit in a rig")
    errors = rig.rig_pair_errors(predicted.rig_from_camera, labels, true.rig_from_camera, index)
    sums = rate_sums(errors, (15,), options.scores.min_baseline)
    for key, rate in zip(keys, RIG_RATES, strict=True):
        measures.add(key, *sums[rate], "no two cameras, or none with a baseline between them")
    return None


def add_uncertainty(
    measures: Measures, predicted: PosedScene, true: PosedScene, alignment: CameraAlignment | None
) -> None:
    """d2, squared errors over predicted covariances, and the shares of errors within 1, 2 and 3 sigma."""
    samples = uncertain_errors(predicted, true, alignment)
    if isinstance(samples, str):
        return measures.lack(UNCERTAINTY, samples)
    count = len(samples.residual)
    for name, squares in squared_distances(samples).items():
        measures.add(f"d2_{name}", float(squares.sum()), count, "")
    ratio = np.abs(samples.residual) / np.sqrt(samples.variance)
    for k, level in enumerate(CENTRAL_LEVELS, start=1):
        measures.add_rate(f"coverage_{level}", np.ravel(ratio < k), "")
    return None


def uncertain_errors(predicted: PosedScene, true: PosedScene, alignment: CameraAlignment | None) -> ErrorSamples | str:
    """Errors of poses (v, w) and what was predicted of them, in the truth's unit; the reason where there are none.

    Both trajectories are seen from the first image that they have in common, which covariances of relative poses hold
    exact; it is left out, and so are images without a covariance, or with one that is singular.
    """
    if predicted.covariances is None:
        return f"{predicted.source} states no covariances"
    if alignment is None or not np.isfinite(alignment.scale):
        return "no alignment tells the unit of the covariances"
    lengths = np.array([alignment.scale] * 3 + [1.0] * 3)
    covariance = predicted.covariances * np.outer(lengths, lengths)
    ours = _from_first(stretched(predicted.world_from_camera, alignment.scale))
    residual = tangent(rigid.invert(ours) @ _from_first(true.world_from_camera))
    usable = np.isfinite(covariance).all(axis=(1, 2))
    usable[usable] = np.linalg.eigvalsh(covariance[usable])[:, 0] > 0
    usable[0] = False
    if not usable.any():
        return "no image beside the first has a covariance with an inverse"
    return ErrorSamples(residual[usable], covariance[usable])


def tangent(a_from_b: Float[np.ndarray, "n 4 4"]) -> Float[np.ndarray, "n 6"]:
    """(v, w) with exp(v, w) the transform; float64 (the inverse left Jacobian, Barfoot 2017, eq. 7.37)."""
    w = Rotation.from_matrix(a_from_b[:, :3, :3]).as_rotvec()
    t = a_from_b[:, :3, 3]
    angle = np.linalg.norm(w, axis=1, keepdims=True)
    # 1/a^2 - (1 + cos a) / (2 a sin a) = 1/a^2 - cot(a/2) / (2 a); its limit at 0 is 1/12.
    small = angle < 1e-4
    safe = np.where(small, 1.0, angle)
    second = np.where(small, 1 / 12 + angle**2 / 720, 1 / safe**2 - 1 / (2 * safe * np.tan(safe / 2)))
    across = np.cross(w, t)
    return np.concatenate([t - across / 2 + second * np.cross(w, across), w], axis=1)


def _from_first(world_from_camera: Float[np.ndarray, "v 4 4"]) -> Float[np.ndarray, "v 4 4"]:
    return rigid.invert(world_from_camera[0]) @ world_from_camera


def _tracks(true: PosedScene) -> list[np.ndarray]:
    """Rows of each camera's images in the order of their times, else that of the file."""
    cameras = np.array(true.cameras) if true.cameras is not None else np.zeros(len(true))
    order = np.arange(len(true)) if true.times is None else np.argsort(true.times, kind="stable")
    return [order[cameras[order] == camera] for camera in np.unique(cameras)]
