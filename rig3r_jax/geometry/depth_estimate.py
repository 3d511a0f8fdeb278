"""From pose encodings and depth maps, as VGGT predicts them of one sample, to a `schema.Estimate`; float64."""

import logging
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from rig3r_jax.geometry import rigid
from rig3r_jax.geometry.camera import Lens, Pinhole
from rig3r_jax.schema import Estimate

logger = logging.getLogger(__name__)
NARROWEST, WIDEST = np.radians([1.0, 179.0])  # angles of view that a pinhole can have; others are taken for these


def estimate_of_depth(
    encoding: Float[np.ndarray, "v 9"],
    depth: Float[np.ndarray, "v h w"],
    confidence: Float[np.ndarray, "v h w"],
    lenses: Sequence[Lens | None],
) -> Estimate:
    """Cameras and points of one sample, the world its first camera, lengths in the unit of translations and depths.

    Points lie on the rays of the given lenses, where there are any: at the depth predicted, along the camera's z axis;
    of a wide lens, which sees where no depth along z is, as far from the camera as the predicted pinhole puts them.

    Args:
        encoding: of camera_from_world, see `pose_encoding`; its angles of view are of the whole image as seen, padding
            included, whose centre is the principal point.
        depth: along the camera's z axis.
        confidence: of the depth, at least 1. It is no law of errors: VGGT was trained by C |e| - alpha log C where e
            is the error of the depth and, in its paper, that of the depth's gradient too, and neither alpha nor the
            factors of the public weights are stated with them. So the estimate's `error` is None.
        lenses: of the images as the model saw them, where they are known.
    """
    height, width = depth.shape[1:]
    encoding, depth = encoding.astype(np.float64), depth.astype(np.float64)
    pinholes = _pinholes(encoding[:, 7:], height, width)
    camera_from_world = rigid.from_rotation_translation(
        rigid.rotation_from_quat_xyzw(encoding[:, 3:7]), encoding[:, :3]
    )
    world_from_camera = camera_from_world[0] @ rigid.invert(camera_from_world)
    world_from_camera[0] = np.eye(4)
    u, v = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    pixels, used, points = np.stack([u, v], axis=-1), [], np.empty((*depth.shape, 3))
    for row, (stated, pinhole) in enumerate(zip(lenses, pinholes, strict=True)):
        lens = stated or pinhole
        rays = np.asarray(lens.rays(pixels), np.float64)
        along_z = pinhole.rays(pixels) if lens.wide else rays
        distances = depth[row] / along_z[..., 2]
        points[row] = rigid.apply(world_from_camera[row], distances[..., None] * rays)
        used.append(lens)
    return Estimate(world_from_camera, tuple(used), points, confidence.astype(np.float64))


def _pinholes(fov: Float[np.ndarray, "v 2"], height: int, width: int) -> list[Pinhole]:
    """Of vertical and horizontal angles of view; radians."""
    inside = np.clip(fov, NARROWEST, WIDEST)
    if odd := int((inside != fov).any(axis=1).sum()):
        low, high = np.degrees([NARROWEST, WIDEST])
        logger.warning(
            "%d of %d images: angles of view outside %g..%g degrees are held there", odd, len(fov), low, high
        )
    focal = 0.5 * np.array([height, width]) / np.tan(0.5 * inside)
    return [Pinhole(np.array([[fx, 0.0, 0.5 * width], [0.0, fy, 0.5 * height], [0.0, 0.0, 1.0]])) for fy, fx in focal]
