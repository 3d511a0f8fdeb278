"""Cameras drawn into a scene: the pyramid (of a wide lens a cone) of what an image sees."""

import dataclasses
import itertools
import typing

import numpy as np
from jaxtyping import Float, Int, UInt8

from rig3r_jax.geometry import rigid
from rig3r_jax.geometry.camera import Lens, Pinhole
from rig3r_jax.schema import PosedImage, Reconstruction

GL_FROM_CV = np.diag([1.0, -1.0, -1.0, 1.0])  # y up and z backwards: axes of glTF, USD and OpenGL
_PER_SIDE, _PER_BENT_SIDE = 1, 12  # vertices: sides are straight for a pinhole, bent for other lenses
_SHARE = 0.05  # of the scene's size
_OF_DEPTH, _OF_SPAN = 0.2, 0.008
_COLORS = np.array(
    [
        (31, 119, 180), (255, 127, 14), (44, 160, 44), (214, 39, 40), (148, 103, 189),
        (140, 86, 75), (227, 119, 194), (127, 127, 127), (188, 189, 34), (23, 190, 207),
    ],
    np.uint8,
)  # fmt: skip


@typing.no_type_check
@dataclasses.dataclass(frozen=True)
class Frustum:
    """Vertex 0 is the camera's centre; the others go round the image's sides from its upper left corner, clockwise."""

    vertices_world: Float[np.ndarray, "n 3"]  # length unit
    faces: Int[np.ndarray, "m 3"]  # the sides, from the centre
    color: UInt8[np.ndarray, "3"]  # by physical camera

    @property
    def corners(self) -> list[int]:
        """Vertices: upper left, upper right, lower right, lower left corner of the image."""
        count = len(self.vertices_world) - 1
        return list(range(1, count + 1, count // 4))

    @property
    def lines(self) -> list[list[int]]:
        """What to draw, as vertices: the image's sides, closed, and a line from the centre to each corner."""
        return [[*range(1, len(self.vertices_world)), 1], *([0, corner] for corner in self.corners)]

    @property
    def segments(self) -> Int[np.ndarray, "s 2"]:
        """The same as single segments."""
        return np.array([ends for line in self.lines for ends in itertools.pairwise(line)])


def frusta_of(reconstruction: Reconstruction, length: float | None) -> list[Frustum]:
    """Those of all images; `length` None: by the size of the scene."""
    length = length or suitable_length(reconstruction)
    colors = camera_colors(reconstruction)
    return [_frustum(image, length, color) for image, color in zip(reconstruction.images, colors, strict=True)]


def camera_colors(reconstruction: Reconstruction) -> UInt8[np.ndarray, "v 3"]:
    """A colour per image, by its physical camera; those of no known camera share one."""
    numbers = {camera.id: number for number, camera in enumerate(reconstruction.cameras)}
    return np.stack([_COLORS[numbers.get(image.camera, -1) % 10] for image in reconstruction.images])


def picture_corners(image: PosedImage, frustum: Frustum) -> Float[np.ndarray, "4 3"]:
    """Where to draw the image in the frustum: corners in the world, upper left one first, clockwise.

    The frustum's end, of a pinhole exactly; of a bent one the rectangle about it in the middle of its depth.
    """
    ends = rigid.apply(rigid.invert(image.world_from_camera), frustum.vertices_world[1:])
    (left, top, _), (right, bottom, _) = ends.min(axis=0), ends.max(axis=0)
    z = (ends[:, 2].min() + ends[:, 2].max()) / 2
    corners = np.array([[left, top, z], [right, top, z], [right, bottom, z], [left, bottom, z]])
    return rigid.apply(image.world_from_camera, corners)


def _frustum(image: PosedImage, length: float, color: UInt8[np.ndarray, "3"]) -> Frustum:
    per_side = _PER_SIDE if image.lens.kind == Pinhole.kind else _PER_BENT_SIDE
    corners = np.array([[0, 0], [image.width, 0], [image.width, image.height], [0, image.height]], np.float64)
    steps = np.arange(per_side)[:, None] / per_side
    sides = [corner + steps * (after - corner) for corner, after in zip(corners, np.roll(corners, -1, 0), strict=True)]
    rays = image.lens.rays(_in_reach(image.lens, np.concatenate(sides)))
    if not image.lens.wide:
        rays = rays / rays[:, 2:]  # a flat end; wide lenses end on a sphere
    points = rigid.apply(image.world_from_camera, np.concatenate([np.zeros((1, 3)), length * rays]))
    count = len(points) - 1
    around = np.arange(count)
    faces = np.stack([np.zeros(count, np.int64), around + 1, (around + 1) % count + 1], axis=-1)
    return Frustum(points, faces, color)


def _in_reach(lens: Lens, pixels: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n 2"]:
    """The pixels, those that no ray reaches moved towards the principal point until one does."""
    seen = lens.sees(pixels)[:, None]
    if seen.all():
        return pixels
    center = lens.intrinsics[:2, 2]
    low, high = np.zeros((len(pixels), 1)), np.ones((len(pixels), 1))
    for _ in range(30):
        middle = (low + high) / 2
        inside = lens.sees(center + middle * (pixels - center))[:, None]
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    return np.where(seen, pixels, center + low * (pixels - center))


def suitable_length(reconstruction: Reconstruction) -> float:
    """A small share of the larger one of the span of the cameras and the middle depth of the points."""
    return _SHARE * (max(_span(reconstruction), _middle_depth(reconstruction)) or 1.0)


def shown_length(reconstruction: Reconstruction) -> float:
    """The same for what people can magnify: along a way much longer than what the cameras see, no longer than a share
    of the middle depth."""
    length, depth = suitable_length(reconstruction), _middle_depth(reconstruction)
    return min(length, max(_OF_DEPTH * depth, _OF_SPAN * _span(reconstruction))) if depth else length


def _span(reconstruction: Reconstruction) -> float:
    return float(np.linalg.norm(np.ptp(reconstruction.world_from_camera[:, :3, 3], axis=0)))


def _middle_depth(reconstruction: Reconstruction) -> float:
    """Of the points; 0 without any."""
    points = reconstruction.points
    if points is None:
        return 0.0
    depths = points.depth[points.on_image & np.isfinite(points.depth) & (points.depth > 0)]
    return float(np.median(depths)) if len(depths) else 0.0
