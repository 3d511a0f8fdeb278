"""Rig discovery: which images come from one physical camera, and how the cameras sit in the rig; host float64.

Images of one camera repeat one place in the rig, however near the next camera is: the centres of a stereo pair 6 cm
apart lie 0.004 mean depths apart in a scene 15 m deep. So the images are clustered, nearest first, and the tree is cut
where the distance between what is merged leaps by `GAP` or more for the first time: from the scatter of one camera's
images to the distance between two cameras. Without such a leap only images beyond the fixed scales are of two cameras.
Neither the number of cameras, nor which image is of which, nor the size of the noise is told; one bit is, whether
cameras took more than one image each (`repeated`), which times or file names tell a user.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.cluster.hierarchy import cut_tree, fcluster, linkage
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import squareform

from rig3r_jax.evaluation import pose
from rig3r_jax.evaluation.options import ScoreOptions
from rig3r_jax.geometry import rigid

ANGLE_SCALE_DEG = ScoreOptions.rig_angle_scale_deg
CENTER_SCALE = ScoreOptions.rig_center_scale  # mean depths, for predictions
GAP = ScoreOptions.rig_gap  # which noise alone seldom has
ROUNDING = 1e-4  # of both scales: nearer images differ by the rounding of float32


class RigScores(NamedTuple):
    """Scores of one sample, to be pooled by the caller."""

    matched_images: int  # images whose cluster is assigned to their true camera
    images: int
    ari: float
    camera_count_error: int  # absolute
    pairs: pose.PairErrors  # between discovered cameras, in the rig


def camera_distance(
    rig_from_camera: Float[np.ndarray, "v 4 4"], angle_scale_deg: float, center_scale: float
) -> Float[np.ndarray, "v v"]:
    """Root of (geodesic angle / angle scale)^2 + (centre distance / centre scale)^2; 1 is one camera's worth."""
    rig_from_camera = np.where(np.isfinite(rig_from_camera), rig_from_camera, np.nan)
    rotation, center = rig_from_camera[:, :3, :3], rig_from_camera[:, :3, 3].astype(np.float64)
    shape = (len(rotation), len(rotation), 3, 3)
    angle = pose.rotation_angle_deg(np.broadcast_to(rotation[:, None], shape), np.broadcast_to(rotation[None], shape))
    return np.hypot(angle / angle_scale_deg, np.linalg.norm(center[:, None] - center[None], axis=-1) / center_scale)


def discover_rig(
    rig_from_camera: Float[np.ndarray, "v 4 4"],
    angle_scale_deg: float = ANGLE_SCALE_DEG,
    center_scale: float = CENTER_SCALE,
    method: str = "average",
    *,
    gap: float = GAP,
    repeated: bool = True,
    camera_count: int | None = None,
) -> Int[np.ndarray, "v"]:
    """Camera number of each image, 0.. in order of first appearance.

    Args:
        rig_from_camera: an image that is not finite is a camera of its own.
        angle_scale_deg, center_scale: images farther apart than this are two cameras in any case.
        method: of the agglomerative clustering of `camera_distance`, as in scipy.cluster.hierarchy.linkage.
        gap: least ratio of the distance between two cameras to that between images of one; `math.inf` leaves the
            fixed scales alone.
        repeated: cameras took more than one image each, but for single ones that are missing. False: no two images are
            of one camera, as in a single step of a rig. Without a scatter to compare with, all that differ by more than
            rounding are then two cameras.
        camera_count: the number of cameras where it is known; None: it is discovered too.

    Raises ValueError for a camera_count that the images cannot have.
    """
    images = len(rig_from_camera)
    if camera_count is not None and not min(1, images) <= camera_count <= images:
        raise ValueError(f"camera_count is {camera_count}; {images} images are of 1 to {images} cameras")
    if images < 2:
        return np.zeros(images, np.int64)
    distance = camera_distance(rig_from_camera, angle_scale_deg, center_scale)
    distance = np.nan_to_num(distance, nan=1e9, posinf=1e9)
    np.fill_diagonal(distance, 0.0)
    tree = linkage(squareform((distance + distance.T) / 2, checks=False), method=method)
    if camera_count is not None:
        labels = cut_tree(tree, n_clusters=camera_count)[:, 0]
    else:
        labels = fcluster(tree, t=_cut(tree[:, 2], gap, repeated), criterion="distance")
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse]


def _cut(heights: Float[np.ndarray, "m"], gap: float, repeated: bool) -> float:
    """Where to cut a tree: inside the lowest gap of its merges' heights below 1, or at 1 where none is `gap` wide.

    The early merges are left out, since the nearest of many images are near by chance.
    """
    images = len(heights) + 1
    most_cameras = (images + 1) // 2 if repeated else images
    levels = np.clip([ROUNDING, *heights], ROUNDING, 1.0)[images - most_cameras :]
    wide = np.flatnonzero(levels[1:] >= gap * levels[:-1])
    if not len(wide):
        return 1.0
    # The geometric mean: as many times above the scatter as below the distance of cameras.
    return float(np.sqrt(levels[wide[0]] * levels[wide[0] + 1]))


def match_cameras(
    labels: Int[np.ndarray, "v"], camera_index: Int[np.ndarray, "v"]
) -> tuple[dict[int, int], Int[np.ndarray, "k m"]]:
    """One-to-one assignment {true camera: cluster} with most images in agreement (Hungarian); the table of counts."""
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
    """Agreement of two partitions over pairs: 0 chance, 1 equal (Hubert and Arabie 1985); NaN under two images."""
    if len(labels) < 2:
        return float("nan")
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
    angle_scale_deg: float = ANGLE_SCALE_DEG,
    center_scale: float = CENTER_SCALE,
    gap: float = GAP,
    camera_count: int | None = None,
) -> RigScores:
    """Discovers the rig of one sample and compares it with the true one; scales, gap and count as in `discover_rig`.

    Of the truth the discovery is told one bit: whether any camera took two of the images (`repeated`).
    """
    repeated = len(np.unique(camera_index)) < len(camera_index)
    labels = discover_rig(
        rig_from_camera_predicted, angle_scale_deg, center_scale, gap=gap, repeated=repeated, camera_count=camera_count
    )
    return RigScores(
        matched_images=_matched_images(labels, camera_index, match_cameras(labels, camera_index)[0]),
        images=len(labels),
        ari=adjusted_rand_index(labels, camera_index),
        camera_count_error=abs(len(np.unique(labels)) - len(np.unique(camera_index))),
        pairs=rig_pair_errors(rig_from_camera_predicted, labels, rig_from_camera_true, camera_index),
    )


def _matched_images(labels: np.ndarray, camera_index: np.ndarray, match: dict[int, int]) -> int:
    return sum(match.get(int(c)) == int(label) for label, c in zip(labels, camera_index, strict=True))
