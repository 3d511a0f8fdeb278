"""Depth images of a camera beside the colour camera, brought to the pixels of the colour image."""

import dataclasses

import numpy as np
from jaxtyping import Float


@dataclasses.dataclass(frozen=True)
class Registration:
    """Where the depth camera is and what both see; intrinsics in pixels, the centre of the first pixel at 0.5."""

    depth_intrinsics: np.ndarray  # (3, 3) float64
    color_intrinsics: np.ndarray  # (3, 3) float64
    color_from_depth: np.ndarray  # (4, 4) float64, metres

    def register(self, depth: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
        """Depth along the colour camera's z axis at its pixels, of an image of the same size; metres, 0 where unknown.

        Every pixel of the depth image becomes a point that falls into one pixel of the colour image; of several points
        in one the nearest hides the others. Where the colour camera sees finer than the depth camera, a depth pixel is
        cut into so many points that no pixel between two of them stays empty.
        """
        rows, columns = np.nonzero(depth > 0)
        metres = depth[rows, columns].astype(np.float64)
        parts = self._parts
        registered = np.full(depth.shape, np.inf)
        for down, right in np.ndindex(parts, parts):
            pixels = np.stack([columns + (right + 0.5) / parts, rows + (down + 0.5) / parts], axis=-1)
            self._splat(pixels, metres, registered)
        registered[np.isinf(registered)] = 0
        return registered

    @property
    def _parts(self) -> int:
        """Points per side of a depth pixel."""
        finer = self.color_intrinsics[[0, 1], [0, 1]] / self.depth_intrinsics[[0, 1], [0, 1]]
        return max(1, int(np.ceil(finer.max() - 1e-6)))

    def _splat(self, pixels: np.ndarray, metres: np.ndarray, registered: np.ndarray) -> None:
        """Writes the nearest of the points at these positions of the depth image into the colour camera's pixels."""
        height, width = registered.shape
        rotation, translation = self.color_from_depth[:3, :3], self.color_from_depth[:3, 3]
        ray_of_pixel = self.color_intrinsics @ rotation @ np.linalg.inv(self.depth_intrinsics)
        rays = np.column_stack([pixels, np.ones(len(pixels))]) @ ray_of_pixel.T
        projected = rays * metres[:, None] + self.color_intrinsics @ translation  # u z, v z, z
        projected = projected[projected[:, 2] > 0]
        columns, rows = np.floor(projected[:, :2] / projected[:, 2:]).T
        inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
        index = rows[inside].astype(np.int64) * width + columns[inside].astype(np.int64)
        np.minimum.at(registered.reshape(-1), index, projected[inside, 2])  # 20 times faster than by rows and columns
