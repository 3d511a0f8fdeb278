"""Which images were taken together: one step of the rig, which holds an image of each camera at most."""

import numpy as np
from jaxtyping import Bool, Float, Int


def same_step(
    time: Float[np.ndarray, "*b v"], camera_index: Int[np.ndarray, "*b v"] | None, tolerance: float
) -> Bool[np.ndarray, "*b p"]:
    """Whether the pairs i < j (in the order of `np.triu_indices`) of each sample's images are of one rig step.

    They are when two cameras took them less than `tolerance` seconds apart, and less than half the shortest interval
    of either camera in the sample: the next frame of a fast camera is of another step however short the interval.
    Two frames of one camera never are, whatever their clock says. Without `camera_index` each image is a camera's own.
    """
    seconds = np.asarray(time, np.float64)
    views = seconds.shape[-1]
    cameras = np.arange(views) if camera_index is None else np.asarray(camera_index)
    i, j = np.triu_indices(views, k=1)
    one_camera = np.broadcast_to(cameras[..., i] == cameras[..., j], (*seconds.shape[:-1], len(i)))
    apart = np.abs(seconds[..., j] - seconds[..., i])
    # Equal times of one camera were rounded: they tell no interval.
    interval = np.full((*seconds.shape, views), np.inf)
    interval[..., i, j] = interval[..., j, i] = np.where(one_camera & (apart > 0), apart, np.inf)
    shortest = interval.min(axis=-1)  # of each image's distances to its own camera's other frames
    shortest = np.min(np.where(cameras[..., :, None] == cameras[..., None, :], shortest[..., None, :], np.inf), axis=-1)
    return ~one_camera & (apart < np.minimum(tolerance, np.minimum(shortest[..., i], shortest[..., j]) / 2))
