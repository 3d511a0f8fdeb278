"""Scores of a discovered rig: which images come from one physical camera, and how the cameras sit in the rig.

The discovery itself is `geometry.pose_clusters`. It knows neither the number of cameras, nor which image is of which,
nor the size of the noise. Host float64.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment

from rig3r_jax.evaluation import pose
from rig3r_jax.geometry import rigid
from rig3r_jax.geometry.pose_clusters import fit_places
from rig3r_jax.geometry.rig_discovery import MOST_CAMERAS

NO_CAMERA = -1  # label of an image whose prediction is not finite: never right


class RigScores(NamedTuple):
    """Scores of one sample, to be pooled by the caller."""

    matched_images: int  # images whose cluster is assigned to their true camera
    images: int
    ari: float
    camera_count_error: int  # absolute
    pairs: pose.PairErrors  # between discovered cameras, in the rig


def discovered_cameras(rig_from_camera: Float[np.ndarray, "v 4 4"], repeated: bool = True) -> Int[np.ndarray, "v"]:
    """Camera number of each image by its predicted place in the rig; `NO_CAMERA` where that is not finite.

    repeated: cameras took more than one image each, but for single ones that are missing, as times or file names tell a
        user. False: all images are of one time step, and so of different cameras.
    """
    labels = np.full(len(rig_from_camera), NO_CAMERA)
    finite = np.isfinite(rig_from_camera).all(axis=(1, 2))
    count = int(finite.sum())
    if not repeated or count < 2:
        labels[finite] = np.arange(count)
        return labels
    fits = fit_places(rigid.nearest_rigid(rig_from_camera[finite]), range(1, min(count, MOST_CAMERAS) + 1))
    labels[finite] = max(fits, key=lambda fit: fit.log_evidence).label
    return labels


def match_cameras(
    labels: Int[np.ndarray, "v"], camera_index: Int[np.ndarray, "v"]
) -> tuple[dict[int, int], Int[np.ndarray, "k m"]]:
    """One-to-one assignment {true camera: cluster} with most images in agreement (Hungarian); the table of counts.

    Images of `NO_CAMERA` are in no cluster.
    """
    camera_index, labels = camera_index[labels >= 0], labels[labels >= 0]
    clusters, rows = np.unique(labels, return_inverse=True)
    cameras, columns = np.unique(camera_index, return_inverse=True)
    table = np.zeros((len(clusters), len(cameras)), np.int64)
    np.add.at(table, (rows, columns), 1)
    chosen = linear_sum_assignment(table, maximize=True)
    # An assignment that no image supports is no match.
    return {int(cameras[c]): int(clusters[r]) for r, c in zip(*chosen, strict=True) if table[r, c] > 0}, table


def rig_id_accuracy(labels: Int[np.ndarray, "v"], camera_index: Int[np.ndarray, "v"]) -> float:
    """Fraction 0..1 of images whose cluster is assigned to their true camera; NaN for no images."""
    if not len(labels):
        return float("nan")
    return _matched_images(labels, camera_index, match_cameras(labels, camera_index)[0]) / len(labels)


def adjusted_rand_index(labels: Int[np.ndarray, "v"], camera_index: Int[np.ndarray, "v"]) -> float:
    """Agreement of two partitions over pairs: 0 chance, 1 equal (Hubert and Arabie 1985); NaN under two images.

    Images of `NO_CAMERA` count as clusters of their own.
    """
    if len(labels) < 2:
        return float("nan")
    labels = np.where(labels >= 0, labels, labels.max(initial=0) + 1 + np.arange(len(labels)))
    table = match_cameras(labels, camera_index)[1].astype(np.float64)

    def pairs(counts: np.ndarray) -> float:
        return float(np.sum(counts * (counts - 1)) / 2)

    both, rows, columns = pairs(table), pairs(table.sum(axis=1)), pairs(table.sum(axis=0))
    chance = rows * columns / (len(labels) * (len(labels) - 1) / 2)
    largest = (rows + columns) / 2
    return 1.0 if largest == chance else (both - chance) / (largest - chance)  # equal only for two trivial partitions


def mean_camera(rig_from_camera: Float[np.ndarray, "n 4 4"]) -> Float[np.ndarray, "4 4"]:
    """Chordal mean of the rotations (nearest rotation to their sum) and mean of the centres."""
    cameras = rig_from_camera.astype(np.float64)
    rotation = rigid.nearest_rotation(cameras[:, :3, :3].sum(axis=0))
    return rigid.from_rotation_translation(rotation, cameras[:, :3, 3].mean(axis=0))


def rig_pair_errors(
    rig_from_camera_predicted: Float[np.ndarray, "v 4 4"],
    labels: Int[np.ndarray, "v"],
    rig_from_camera_true: Float[np.ndarray, "v 4 4"],
    camera_index: Int[np.ndarray, "v"],
) -> pose.PairErrors:
    """Pose errors between mean cameras of the matched clusters, over all pairs of true cameras in the sample.

    A pair with a camera that no cluster was assigned to is charged 180 degrees of rotation and 90 of direction.
    """
    match, _ = match_cameras(labels, camera_index)
    cameras = [int(c) for c in np.unique(camera_index)]
    predicted = np.broadcast_to(np.eye(4), (len(cameras), 4, 4)).copy()
    true = np.stack([rig_from_camera_true[np.argmax(camera_index == c)] for c in cameras]).astype(np.float64)
    for n, camera in enumerate(cameras):
        if camera in match:
            members = rig_from_camera_predicted[labels == match[camera]]
            predicted[n] = mean_camera(members) if np.isfinite(members).all() else np.nan
    errors = pose.relative_pose_errors(predicted, true)
    matched = np.array([c in match for c in cameras])
    missing = ~(matched[errors.i] & matched[errors.j])
    return pose.PairErrors(
        errors.i,
        errors.j,
        np.where(missing, 180.0, errors.rotation_deg),
        np.where(missing, pose.NO_DIRECTION_DEG, errors.direction_deg),
        errors.baseline,
    )


def score_rig(
    rig_from_camera_predicted: Float[np.ndarray, "v 4 4"],
    rig_from_camera_true: Float[np.ndarray, "v 4 4"],
    camera_index: Int[np.ndarray, "v"],
) -> RigScores:
    """Discovers the rig of one sample and compares it with the true one.

    Of the truth the discovery has one bit: whether any camera took two of the images (`repeated`).
    """
    repeated = len(np.unique(camera_index)) < len(camera_index)
    labels = discovered_cameras(rig_from_camera_predicted, repeated)
    return RigScores(
        matched_images=_matched_images(labels, camera_index, match_cameras(labels, camera_index)[0]),
        images=len(labels),
        ari=adjusted_rand_index(labels, camera_index),
        camera_count_error=abs(len(np.unique(labels[labels >= 0])) - len(np.unique(camera_index))),
        pairs=rig_pair_errors(rig_from_camera_predicted, labels, rig_from_camera_true, camera_index),
    )


def _matched_images(labels: np.ndarray, camera_index: np.ndarray, match: dict[int, int]) -> int:
    return sum(match.get(int(c)) == int(label) for label, c in zip(labels, camera_index, strict=True))
