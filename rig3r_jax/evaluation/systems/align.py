"""What brings a system's cameras into the world and the unit of the true ones, as is asked for; host float64."""

import numpy as np
from jaxtyping import Bool, Float

from rig3r_jax.evaluation.points import fit_similarity
from rig3r_jax.geometry import rigid
from rig3r_jax.geometry.aligned import CameraAlignment, camera_alignment

ALIGNMENTS = {
    "none": "as written: same world, same unit",
    "first": "the first image that both have coincides; no scale",
    "se3": "rotation and translation, least squares over the centres (as evo -a)",
    "sim3": "rotation, translation and scale, least squares over the centres (as evo -as)",
    "robust": "the same of the images that agree: cameras that are far off pull nothing",
}
LEAST = {"none": 0, "first": 1, "se3": 3, "sim3": 3, "robust": 3}  # images
_DRAWS = 500
_INLIER = 2.5  # of the median residual over 0.6745, the usual bound of a robust fit (Rousseeuw and Leroy 1987)


def align(
    world_from_camera_predicted: Float[np.ndarray, "v 4 4"],
    world_from_camera_true: Float[np.ndarray, "v 4 4"],
    alignment: str,
    seed: int = 0,
) -> CameraAlignment | None:
    """The alignment of the same cameras; None where there are too few (`LEAST`).

    Its scale is NaN where all true centres coincide and scale is asked for, since any trajectory would fit.
    """
    if alignment not in ALIGNMENTS:
        raise ValueError(f"align {alignment!r} is unknown; choose from {', '.join(ALIGNMENTS)}")
    predicted, true = world_from_camera_predicted, world_from_camera_true
    if len(true) < LEAST[alignment]:
        return None
    if alignment == "none":
        return CameraAlignment(1.0, np.eye(4))
    if alignment == "first":
        return CameraAlignment(1.0, true[0] @ rigid.invert(predicted[0]))
    if alignment == "robust":
        rows = _agreeing(predicted, true, seed)
        return camera_alignment(predicted[rows], true[rows], with_scale=True)
    fit = fit_similarity(predicted[:, :3, 3], true[:, :3, 3], with_scale=alignment == "sim3")
    return CameraAlignment(fit.scale, rigid.from_rotation_translation(fit.rotation, fit.translation))


def _agreeing(
    predicted: Float[np.ndarray, "v 4 4"], true: Float[np.ndarray, "v 4 4"], seed: int
) -> Bool[np.ndarray, " v"]:
    """The images within the bound of the alignment of two images with the least median residual of all centres."""
    views = len(true)
    first, second = np.triu_indices(views, k=1)
    if len(first) > _DRAWS:
        chosen = np.random.default_rng(seed).choice(len(first), _DRAWS, replace=False)
        first, second = first[chosen], second[chosen]
    best, best_median = np.zeros(views), np.inf
    for pair in np.stack([first, second], axis=1):
        alignment = camera_alignment(predicted[pair], true[pair], with_scale=True)
        residuals = np.linalg.norm(alignment.poses(predicted)[:, :3, 3] - true[:, :3, 3], axis=1)
        median = np.median(residuals)
        if median < best_median:
            best, best_median = residuals, median
    rows = best <= _INLIER * best_median / 0.6745
    return rows if rows.sum() >= 3 else best <= np.sort(best)[2]
