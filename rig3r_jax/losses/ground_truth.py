"""Targets in the form of the model's output: normalised points, ray maps and centres."""

import typing

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float

from rig3r_jax.geometry.camera import cell_pixels, stride_pixels
from rig3r_jax.geometry.depth import along_axis
from rig3r_jax.geometry.lenses import batch_lens
from rig3r_jax.geometry.raymap import points_at, raymap
from rig3r_jax.schema import Predictions, Targets


@typing.no_type_check
@struct.dataclass
class GroundTruth:
    """What Predictions should be. Lengths are divided by z-bar; a sample without valid depth has no z-bar and
    `has_scale` false."""

    points: Float[Array, "b v hp wp 3"]  # reference frame; meaningful where points_valid
    points_valid: Bool[Array, "b v hp wp"]
    pose_directions: Float[Array, "b v hr wr 3"]
    pose_center: Float[Array, "b v 3"]
    rig_directions: Float[Array, "b v hr wr 3"]
    rig_center: Float[Array, "b v 3"]
    ray_mask: Bool[Array, "b v hr wr"]  # rays that look at a pixel of the image, not at padding
    scale: Float[Array, "b"]  # z-bar in metres; 1 where there is none
    has_scale: Bool[Array, "b"]


def mean_depth(
    depth: Float[Array, "b v h w"], valid: Bool[Array, "b v h w"]
) -> tuple[Float[Array, "b"], Bool[Array, "b"]]:
    """z-bar: mean over the valid pixels of all views of the depth along the own camera's axis, and where it exists.

    `depth` is what `geometry.depth.along_axis` gives: of a lens that sees 180 degrees and more, which has no depth
    along its axis for all that it sees, the distance.
    """
    count = valid.sum(axis=(1, 2, 3))
    total = jnp.where(valid, depth, 0.0).sum(axis=(1, 2, 3))
    return jnp.where(count > 0, total / jnp.maximum(count, 1), 1.0), count > 0


def ground_truth(
    targets: Targets, image_mask: Bool[Array, "b v h w"], points_grid: tuple[int, int], rays_grid: tuple[int, int]
) -> GroundTruth:
    """Computes the ground truth on the model's grids.

    Args:
        targets: depth, poses and calibration of every view.
        image_mask: false on padding.
        points_grid: rows and columns of `Predictions.points`; points stand at the pixels of `stride_pixels`.
        rays_grid: rows and columns of `Predictions.pose_directions`; rays pass through the centres of equal cells.
    """
    height, width = targets.depth.shape[-2:]
    valid = targets.valid & image_mask
    lenses = batch_lens(targets.intrinsics, targets.distortion)
    scale, has_scale = mean_depth(along_axis(targets.depth, lenses), valid)
    at_rows, at_columns = stride_pixels(height, points_grid[0]), stride_pixels(width, points_grid[1])

    def at_points(x):
        return jnp.take(jnp.take(x, at_rows, axis=2), at_columns, axis=3)

    # NaN must not reach the arithmetic: 0 * NaN is NaN in the gradient.
    distance = jnp.where(at_points(valid), at_points(targets.depth), 1.0)
    pixels = jnp.stack(jnp.meshgrid(at_columns, at_rows), axis=-1).astype(distance.dtype) + 0.5
    points = points_at(distance, pixels, lenses, targets.reference_from_camera) / scale[:, None, None, None, None]
    pose_directions, pose_center = raymap(targets.reference_from_camera, lenses, height, width, *rays_grid)
    rig_directions, rig_center = raymap(targets.rig_from_camera, lenses, height, width, *rays_grid)
    rows, columns = cell_pixels(height, rays_grid[0]), cell_pixels(width, rays_grid[1])
    return GroundTruth(
        points=points,
        points_valid=at_points(valid),
        pose_directions=pose_directions,
        pose_center=pose_center / scale[:, None, None],
        rig_directions=rig_directions,
        rig_center=rig_center / scale[:, None, None],
        ray_mask=jnp.take(jnp.take(image_mask, rows, axis=2), columns, axis=3),
        scale=scale,
        has_scale=has_scale,
    )


def ground_truth_for(predictions: Predictions, targets: Targets, image_mask: Bool[Array, "b v h w"]) -> GroundTruth:
    """`ground_truth` on the grids of `predictions`."""
    return ground_truth(targets, image_mask, predictions.points.shape[2:4], predictions.pose_directions.shape[2:4])
