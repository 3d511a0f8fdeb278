"""The points of a COLMAP model as the sparse depth of its images."""

import dataclasses

import numpy as np

from rig3r_jax.data.scene import RigCamera, SparseDepth
from rig3r_jax.formats.colmap import ColmapModel
from rig3r_jax.geometry import rigid


@dataclasses.dataclass(frozen=True)
class ModelDepth:
    """Points that are good enough, by image."""

    model: ColmapModel
    metres: float  # per unit of the model
    good: np.ndarray  # (n,) bool, of the model's points
    world_from_camera: dict[str, np.ndarray]  # in the model's unit, by image

    @classmethod
    def of(cls, model: ColmapModel, metres: float, largest_error: float, fewest_views: int) -> "ModelDepth":
        """Points with a mean reprojection error of at most `largest_error` pixels that as many images show."""
        views = np.zeros(len(model.points_world), np.int64)
        for seen in model.observations.values():
            views[np.unique(seen.points)] += 1
        # A model without errors (-1, or NaN) has not been adjusted: its points are taken.
        has_error = np.isfinite(model.errors) & (model.errors >= 0)
        good = (views >= fewest_views) & (~has_error | (model.errors <= largest_error))
        poses = {image.name: image.world_from_camera for image in model.reconstruction.images}
        return cls(model, metres, good, poses)

    def depth(self, name: str, camera: RigCamera) -> SparseDepth:
        """Where an image shows its points, and their distances, at most one per pixel, the nearest."""
        seen = self.model.observations[name]
        chosen = self.good[seen.points]
        pixels, points_world = seen.pixels[chosen], self.model.points_world[seen.points[chosen]]
        points_camera = rigid.apply(rigid.invert(self.world_from_camera[name]), points_world)
        depths = np.linalg.norm(points_camera, axis=1) * self.metres
        height, width = camera.size
        usable = ((pixels >= 0) & (pixels < [width, height])).all(axis=1) & (
            camera.lens.wide | (points_camera[:, 2] > 0)
        )
        pixels, depths = pixels[usable], depths[usable]
        order = np.lexsort((depths, *pixels.astype(np.int64).T))
        _, first = np.unique(pixels[order].astype(np.int64), axis=0, return_index=True)
        nearest = order[first]
        return SparseDepth(pixels[nearest].astype(np.float32), depths[nearest].astype(np.float32))

    def __str__(self) -> str:
        return f"{int(self.good.sum())} of {len(self.good)} points of the model"
