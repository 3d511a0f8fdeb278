"""Fewer points of an estimate: of every few along rows and columns one, at pixels that its grid still tells."""

import dataclasses

import numpy as np
from jaxtyping import Float

from rig3r_jax.geometry.camera import cell_pixels, stride_pixels
from rig3r_jax.schema import Estimate

_DISTANCES = 16  # along each side of the grid, that an image is compared by


def thinning(grid: tuple[int, int], size: tuple[int, int], most: int) -> int:
    """The least n for which every n-th point of rows and columns leaves `most` or fewer of an image; where there is no
    such one, the largest that there is.

    A grid tells its pixels by `stride_pixels`, so n divides both sides, and the middle of n of its cells is a point:
    where points are more than a pixel apart, n is odd.

    Args:
        grid: rows and columns of points.
        size: height and width of what the model sees, pixels.
        most: points of an image that are wanted at most.
    """
    fitting = [
        n
        for n in range(1, min(grid) + 1)
        if all(count % n == 0 and _tells(side, count, n) for side, count in zip(size, grid, strict=True))
    ]
    return next((n for n in fitting if grid[0] * grid[1] <= most * n * n), fitting[-1])


def thinned(estimate: Estimate, n: int) -> Estimate:
    """Every n-th point, the one that `thinning` means."""
    if n == 1:
        return estimate
    middle = slice(n // 2, None, n)
    fields = ("points", "confidence", "error")
    values = {name: getattr(estimate, name) for name in fields}
    # Copies: a view would hold all of the points.
    kept = {name: value[:, middle, middle].copy() for name, value in values.items() if value is not None}
    return dataclasses.replace(estimate, **kept)


def distances_of(estimate: Estimate) -> Float[np.ndarray, "v m"]:
    """Of points of each image from its camera, on a coarse grid that is the same for all passes of a model."""
    rows, columns = (cell_pixels(count, min(count, _DISTANCES)) for count in estimate.points.shape[1:3])
    points = estimate.points[:, rows[:, None], columns].reshape(len(estimate.points), -1, 3)
    away = points - estimate.world_from_camera[:, None, :3, 3]
    return np.linalg.norm(away, axis=-1).astype(np.float32)


def _tells(side: int, count: int, n: int) -> bool:
    return bool((stride_pixels(side, count // n) == stride_pixels(side, count)[n // 2 :: n]).all())
