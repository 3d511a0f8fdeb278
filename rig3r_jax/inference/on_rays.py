"""Points moved onto the rays of their own pixels: a network's point maps and its cameras agree only roughly."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from rig3r_jax.geometry import rigid
from rig3r_jax.geometry.camera import Lens
from rig3r_jax.schema import PointMaps


def on_rays(points: PointMaps, lenses: Sequence[Lens], world_from_camera: Float[np.ndarray, "v 4 4"]) -> PointMaps:
    """The same depths, each on the ray of its pixel: what projects into its own image falls on the pixel it is from.

    Points of pixels that see nothing (`Lens.sees`) stay where they are.

    Args:
        points: of each image; their depths are along the camera's z axis, of a wide lens along the ray.
        lenses: of the original images.
        world_from_camera: of the images, in the points' length unit.
    """
    points_world = points.points_world.copy()
    for row, (lens, pose) in enumerate(zip(lenses, world_from_camera, strict=True)):
        rays = np.asarray(lens.rays(points.pixels[row]), np.float64)
        along = np.ones(rays.shape[:-1]) if lens.wide else rays[..., 2]
        has_ray = np.asarray(lens.sees(points.pixels[row])) & (along > 0)
        distances = points.depth[row] / np.where(has_ray, along, 1.0)
        points_world[row] = np.where(
            has_ray[..., None], rigid.apply(pose, distances[..., None] * rays), points_world[row]
        )
    return dataclasses.replace(points, points_world=points_world)
