"""Which points a camera has in its image."""

import numpy as np
from jaxtyping import Bool, Float

from rig3r_jax.geometry.camera import Lens

_SAME_RAY = 1 - 1e-4  # cosine between a point's ray and that of its pixel, where the lens's model holds there


def in_image(
    lens: Lens, size: tuple[int, int], points_camera: Float[np.ndarray, "p 3"]
) -> tuple[Float[np.ndarray, "p 2"], Bool[np.ndarray, " p"]]:
    """Pixels of points, and which of them are within the image: not behind the camera, nor where a lens's model folds
    back. What stands in between is not looked at.

    Args:
        lens: of the image.
        size: its height and width.
        points_camera: in the camera's frame.
    """
    height, width = size
    distances = np.linalg.norm(points_camera, axis=1)
    pixels = lens.project(points_camera)
    inside = ((pixels >= 0) & (pixels < [width, height])).all(axis=1) & (distances > 0)
    inside &= lens.wide | (points_camera[:, 2] > 0)
    rays = points_camera[inside] / distances[inside, None]
    inside[inside] = (lens.rays(pixels[inside]) * rays).sum(axis=1) > _SAME_RAY
    return pixels, inside
