"""A head's predictions for overlapping windows of a trajectory, for `evaluation.edge_weighting` to solve and score."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, PyTree

from rig3r_jax.data.windows import consecutive_windows
from rig3r_jax.evaluation.edge_weighting import WindowPredictions, check_covered
from rig3r_jax.geometry import residual, rigid, se3
from rig3r_jax.losses.pose_nll import NllOptions, window_errors
from rig3r_jax.uncertainty.features import WindowFeatures
from rig3r_jax.uncertainty.head import predicted_covariance

_AGREEMENT = 1e-3  # metres per metre from the first frame and per metre itself; entries of rotations


def covering_windows(name: str, frame_count: int, views: int, overlap: float = 0.5) -> Int[np.ndarray, "w v"]:
    """Frames of consecutive windows over a trajectory, neighbours sharing the fraction `overlap` or more.

    ValueError with `name` where it is shorter than a window, or where windows that do not overlap leave it in parts.
    """
    spans = consecutive_windows(frame_count, views, overlap)
    frames = spans[:, :1] + np.arange(views)
    check_covered(name, frames, frame_count)
    return frames


def trajectory_predictions(
    windows: WindowFeatures,
    frames: Int[np.ndarray, "w v"],
    world_from_camera_true: Float[np.ndarray, "n 4 4"],
    params: PyTree,
    nll: NllOptions,
    name: str = "trajectory",
) -> WindowPredictions:
    """The last refinement of overlapping windows with the head's covariances, ready for the pose graph; float64.

    Args:
        windows: of one trajectory, which they cover.
        frames: of each window, counted in the trajectory.
        world_from_camera_true: of the trajectory, metres.
        params: of the head.
        nll: how the head's numbers are read; `min_translation` is that of the windows' scale, as in training.
        name: of the trajectory, for errors.

    Raises:
        ValueError: the windows leave the trajectory in parts, or theirs is another truth than the trajectory's.
    """
    if frames.shape != (len(windows), windows.views):
        raise ValueError(f"{name}: frames of shape {frames.shape} for {len(windows)} windows of {windows.views} frames")
    check_covered(name, frames, len(world_from_camera_true))
    true = rigid.nearest_rigid(world_from_camera_true)
    _check_truth(name, windows, frames, true)
    cameras = (windows.camera_from_world_predicted[-1:], windows.camera_from_world_true)
    with jax.enable_x64(True):
        wide = (jnp.asarray(x, jnp.float64) for x in cameras)
        first_from_camera = np.asarray(_scaled(*wide, nll.min_translation), np.float64)
    covariance = predicted_covariance(params, windows, nll)
    return WindowPredictions(frames.astype(np.int64), first_from_camera, covariance, true)


def _check_truth(name: str, windows: WindowFeatures, frames: np.ndarray, true: np.ndarray) -> None:
    """The windows' scale is fitted to their own truth, which must be that of the frames they are said to be of."""
    expected = rigid.invert(true[frames[:, :1]]) @ true[frames]
    camera_from_world = windows.camera_from_world_true.astype(np.float64)
    first_from_camera = camera_from_world[:, :1] @ rigid.invert(camera_from_world)
    apart = np.linalg.norm(first_from_camera[..., :3, 3] - expected[..., :3, 3], axis=-1)
    apart /= 1.0 + np.linalg.norm(expected[..., :3, 3], axis=-1)
    apart = np.maximum(apart, np.abs(first_from_camera - expected)[..., :3, :3].max(axis=(-2, -1))).max(axis=-1)
    if (apart > _AGREEMENT).any():
        window = int(np.argmax(apart > _AGREEMENT))
        raise ValueError(
            f"{name}: window {windows.names[window]} has other true cameras than frames {frames[window].tolist()} of "
            f"the trajectory (off by {apart[window]:.3g}); give the frames that its features were computed of"
        )


@functools.partial(jax.jit, static_argnums=2)
def _scaled(predicted: jax.Array, true: jax.Array, min_translation: float) -> jax.Array:
    """first_from_camera (b v 4 4) of predicted camera_from_world (1 b v 4 4) in the windows' fitted lengths."""
    _, motion = window_errors(predicted, true, min_translation)
    first_from_camera = residual.relative_to_first(se3.through_quaternion(predicted[0]))
    return residual.scale_translation(first_from_camera, motion.scale.scale[0])
