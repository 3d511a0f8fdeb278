"""How much of what one image shows another one shows too, by true depth or, without it, by cameras and lenses."""

import dataclasses
import math

import numpy as np
from jaxtyping import Bool, Float

from rig3r_jax.evaluation.systems.scene import DepthMap, PosedScene
from rig3r_jax.geometry import rigid
from rig3r_jax.geometry.camera import Lens
from rig3r_jax.geometry.visible import in_image

SAME_DEPTH = 0.1  # of a point's distance, that the depth of the other image may be off it
_POINTS = 256  # of an image, that are looked for in the others
_PROJECTIONS = 20_000_000  # of a scene at most: of many images fewer points are looked for
_LEAST_POINTS = 16


@dataclasses.dataclass(frozen=True)
class Overlaps:
    """Of the pairs i < j of a scene, in the order of `np.triu_indices`."""

    percent: Float[np.ndarray, " p"] | None  # None: the scene does not tell
    told_by: str  # in words; of None the reason


def pair_overlaps(scene: PosedScene, view_range: float) -> Overlaps:
    """Of each two images the share of one's pixels that the other shows too, in percent, the lesser of both ways.

    Pixels are those of known depth, where every image has a depth map, and all of them otherwise, with the points at
    `view_range` along their rays (in the scene's unit of length). A point is shown where it lies within the other image
    and, by depth, is not hidden there: where the depth at its place is known, it is off by `SAME_DEPTH` at most.
    `_POINTS` of each image are taken, spread evenly; fewer of so many images that these exceed `_PROJECTIONS`.
    """
    if scene.lenses is None:
        return Overlaps(None, f"{scene.source} states no lenses")
    if scene.sizes is None:
        return Overlaps(None, f"{scene.source} does not say of which size of images its lenses are")
    views = len(scene)
    by_depth = scene.depths is not None and all(depth is not None and depth.valid.any() for depth in scene.depths)
    most = max(_LEAST_POINTS, min(_POINTS, _PROJECTIONS // max(views, 1) ** 2))
    points_world = []
    for row, (lens, size) in enumerate(zip(scene.lenses, scene.sizes, strict=True)):
        points = _by_depth(lens, size, scene.depths[row], most) if by_depth else _by_range(lens, size, view_range, most)
        points_world.append(rigid.apply(scene.world_from_camera[row], points))
    counts = np.array([len(points) for points in points_world])
    if not counts.all():
        return Overlaps(None, f"{scene.source}: no pixel of image {int(np.argmin(counts))} has a ray by its lens")
    everything, starts = np.concatenate(points_world), np.cumsum([0, *counts[:-1]])
    shares = np.zeros((views, views))  # of the points of one image in another
    for row, (lens, size) in enumerate(zip(scene.lenses, scene.sizes, strict=True)):
        points_camera = rigid.apply(rigid.invert(scene.world_from_camera[row]), everything)
        visible = _visible(lens, size, points_camera, scene.depths[row] if by_depth else None)
        shares[:, row] = np.add.reduceat(visible, starts, dtype=np.int64) / counts
    i, j = np.triu_indices(views, k=1)
    told_by = "true depth" if by_depth else f"cameras and lenses, at {view_range:g} m"
    return Overlaps(100.0 * np.minimum(shares, shares.T)[i, j], told_by)


def _by_depth(lens: Lens, size: np.ndarray, depth: DepthMap, most: int) -> Float[np.ndarray, "p 3"]:
    """Points of the image's known depths, at most `most`, in its camera's frame."""
    rows = np.flatnonzero(depth.valid)
    rows = rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(int)]
    rays = lens.rays(depth.uv.reshape(-1, 2)[rows] * size)
    distances = depth.depth.reshape(-1)[rows]
    if not depth.along_ray:
        distances = distances / rays[:, 2]
    return _finite(rays * distances[:, None])


def _by_range(lens: Lens, size: np.ndarray, view_range: float, most: int) -> Float[np.ndarray, "p 3"]:
    """Points at one distance along the rays of a grid of pixels, without those to which the lens gives no ray."""
    side = math.isqrt(most)
    u, v = ((np.arange(side) + 0.5) * length / side for length in size)
    pixels = np.stack(np.meshgrid(u, v), axis=-1).reshape(-1, 2)
    return _finite(lens.rays(pixels[np.asarray(lens.sees(pixels))]) * view_range)


def _finite(points: Float[np.ndarray, "p 3"]) -> Float[np.ndarray, "m 3"]:
    points = np.asarray(points, np.float64)
    return points[np.isfinite(points).all(axis=1)]


def _visible(
    lens: Lens, size: np.ndarray, points_camera: Float[np.ndarray, "p 3"], depth: DepthMap | None
) -> Bool[np.ndarray, " p"]:
    """Which points are within the image and, where a depth is known at their place, not hidden there."""
    pixels, visible = in_image(lens, (int(size[1]), int(size[0])), points_camera)
    if depth is None:
        return visible
    inside = np.flatnonzero(visible)
    stated, has_depth = depth.nearest(pixels[inside] / size)
    points = points_camera[inside]
    expected = np.linalg.norm(points, axis=1) if depth.along_ray else points[:, 2]
    visible[inside] = ~has_depth | (np.abs(stated - expected) < SAME_DEPTH * np.abs(expected))
    return visible
