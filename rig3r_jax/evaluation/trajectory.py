"""Errors of trajectories, absolute (ATE/APE) and relative (RPE), as the evo package defines them; host float64.

An estimated and a true trajectory are arrays of world_from_camera of the same frames in the same order; other
numbers of frames are a ValueError. The relative error composes world_from_camera matrices, the textbook definition:
that of camera_from_world ones is another number.
Source: Sturm et al. 2012, "A benchmark for the evaluation of RGB-D SLAM systems", section V.
"""

import dataclasses

import numpy as np
from jaxtyping import Float

from rig3r_jax.evaluation.points import SimilarityFit, fit_similarity
from rig3r_jax.evaluation.pose import rotation_angle_deg
from rig3r_jax.geometry import rigid

ALIGNMENTS = ("none", "se3", "sim3", "scale_only", "origin")
PARTS = ("trans", "rot_deg", "full")


@dataclasses.dataclass(frozen=True)
class Aligned:
    """An estimated trajectory in the world of the true one."""

    world_from_camera: Float[np.ndarray, "n 4 4"]
    fit: SimilarityFit | None  # of the centres; None without one ("none", "origin")


def align_trajectory(
    world_from_camera_estimated: Float[np.ndarray, "n 4 4"],
    world_from_camera_true: Float[np.ndarray, "m 4 4"],
    alignment: str,
) -> Aligned:
    """Moves the estimate onto the truth.

    Args:
        world_from_camera_estimated: any length unit.
        world_from_camera_true: metres.
        alignment: "none"; "se3" and "sim3": least squares over the centres, without and with scale; "scale_only": the
            estimate's centres times the scale of "sim3", nothing else; "origin": the first cameras coincide.

    Raises ValueError for trajectories that do not correspond, and for fits of fewer than 3 frames. The centres of a
    straight trajectory leave the rotation about it open: of its errors, only those of translations mean anything.
    """
    estimated, true = _checked(world_from_camera_estimated, world_from_camera_true)
    if alignment not in ALIGNMENTS:
        raise ValueError(f"alignment {alignment!r} is unknown; choose from {', '.join(ALIGNMENTS)}")
    if alignment == "none":
        return Aligned(estimated, None)
    if alignment == "origin":
        return Aligned(true[0] @ rigid.invert(estimated[0]) @ estimated, None)
    fit = fit_similarity(estimated[:, :3, 3], true[:, :3, 3], with_scale=alignment != "se3")
    moved = estimated.copy()
    if alignment == "scale_only":
        moved[:, :3, 3] *= fit.scale
    else:
        moved[:, :3, 3] = fit.apply(estimated[:, :3, 3])
        moved[:, :3, :3] = fit.rotation @ estimated[:, :3, :3]
    return Aligned(moved, fit)


def absolute_errors(
    world_from_camera_estimated: Float[np.ndarray, "n 4 4"],
    world_from_camera_true: Float[np.ndarray, "m 4 4"],
    part: str = "trans",
) -> Float[np.ndarray, "n"]:
    """Error of every camera of an aligned estimate: "trans" metres, "rot_deg" 0..180, "full" |inv(true) est - I|_F."""
    estimated, true = _checked(world_from_camera_estimated, world_from_camera_true)
    if part == "trans":  # without the rotations, whose rounding has no place in it
        return np.linalg.norm(estimated[:, :3, 3] - true[:, :3, 3], axis=-1)
    return _size(rigid.invert(true) @ estimated, part)


def relative_errors(
    world_from_camera_estimated: Float[np.ndarray, "n 4 4"],
    world_from_camera_true: Float[np.ndarray, "m 4 4"],
    part: str = "trans",
    delta: int = 1,
    all_pairs: bool = False,
) -> Float[np.ndarray, "p"]:
    """Errors of the motions i -> i + delta: of every i with `all_pairs`, else of i = 0, delta, 2 delta...

    Empty when no two frames are `delta` apart.
    """
    if delta < 1:
        raise ValueError(f"delta is {delta}; it counts frames, from 1 on")
    estimated, true = _checked(world_from_camera_estimated, world_from_camera_true)
    first = np.arange(0, len(true) - delta, 1 if all_pairs else delta)
    motion_estimated, motion_true = (rigid.invert(x[first]) @ x[first + delta] for x in (estimated, true))
    return _size(rigid.invert(motion_true) @ motion_estimated, part)


def statistics(errors: Float[np.ndarray, "n"]) -> dict[str, float]:
    """rmse, mean, median, std (of the population), min, max and sse (sum of squares); all NaN of no errors."""
    if not errors.size:
        return dict.fromkeys(("rmse", "mean", "median", "std", "min", "max", "sse"), float("nan"))
    squares = errors.astype(np.float64) ** 2
    return {
        "rmse": float(np.sqrt(squares.mean())),
        "mean": float(errors.mean()),
        "median": float(np.median(errors)),
        "std": float(errors.std()),
        "min": float(errors.min()),
        "max": float(errors.max()),
        "sse": float(squares.sum()),
    }


def _checked(estimated: np.ndarray, true: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if len(estimated) != len(true):
        raise ValueError(f"{len(estimated)} estimated and {len(true)} true cameras; give those of the same frames")
    if not len(true):
        raise ValueError("a trajectory without cameras has no errors; give at least one frame")
    return estimated.astype(np.float64), true.astype(np.float64)


def _size(error: np.ndarray, part: str) -> np.ndarray:
    """How far transforms are from the identity."""
    if part == "trans":
        return np.linalg.norm(error[:, :3, 3], axis=-1)
    if part == "rot_deg":
        return rotation_angle_deg(error[:, :3, :3], np.broadcast_to(np.eye(3), (len(error), 3, 3)))
    if part == "full":
        return np.linalg.norm(error - np.eye(4), axis=(-2, -1))
    raise ValueError(f"part {part!r} is unknown; choose from {', '.join(PARTS)}")
