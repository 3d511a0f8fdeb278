"""Which cameras of a rig see the same things, if those are far away."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool

from rig3r_jax.data.scene import RigCamera

_GRID = (5, 17)  # rows and columns of rays that are looked for in the other image
_SAME_RAY = 1 - 1e-4  # cosine between a ray and that of its image, where the lens's model holds there


def overlapping_cameras(cameras: Sequence[RigCamera]) -> Bool[np.ndarray, "c c"]:
    """Whether each camera sees a direction that another one sees, whatever their lenses; parallax is left out."""
    seen = np.array([[_sees(camera, other) for other in cameras] for camera in cameras])
    return seen | seen.T


def _sees(camera: RigCamera, other: RigCamera) -> bool:
    """Whether any of a grid of rays of `other` meets the image of `camera`."""
    height, width = other.size
    rows, columns = (np.linspace(0, side, count) for side, count in zip((height, width), _GRID, strict=True))
    pixels = np.stack(np.meshgrid(columns, rows), axis=-1).reshape(-1, 2)
    camera_from_other = camera.rig_from_camera[:3, :3].T @ other.rig_from_camera[:3, :3]
    rays = other.lens.rays(pixels) @ camera_from_other.T
    images = camera.lens.project(rays)
    inside = ((images >= 0) & (images <= camera.size[::-1])).all(axis=-1)
    return bool((inside & ((camera.lens.rays(images) * rays).sum(axis=-1) > _SAME_RAY)).any())
