"""LiDAR points as the sparse depth of a camera."""

import numpy as np
from jaxtyping import Bool, Float

from rig3r_jax.data.image_bytes import MAX_SIDE
from rig3r_jax.data.scene import BadRecord, RigCamera, SparseDepth
from rig3r_jax.geometry import rigid

_MIN_DEPTH = 0.5  # metres; nearer returns are of the vehicle itself or of dirt on the lens
# The LiDAR on the roof sees over what hides a point from a camera. A point is taken as hidden if it is this many
# times as far as the nearest one in its cell (pixels) or one of the eight cells around.
_HIDDEN_RATIO, _HIDDEN_CELL = 1.5, 8
_SAME_RAY = 1e-2  # between the unit vectors of a point and of its pixel; farther apart the lens's polynomial folds back


def project_points(
    points_world: Float[np.ndarray, "n 3"],
    world_from_camera: Float[np.ndarray, "4 4"],
    camera: RigCamera,
    moving: Bool[np.ndarray, " n"] | None = None,
) -> SparseDepth:
    """The points that a camera sees, at most one per pixel; metres, pixels.

    Of points in one pixel the nearest stays; points that nearer ones around them seem to hide are left out. `moving`
    tells which points lie on what moves (None: not known).
    """
    height, width = camera.size
    if max(height, width) > MAX_SIDE:  # by which a calibration can lie, and memory is taken
        raise BadRecord(f"camera {camera.name}: image size {camera.size} must be at most {MAX_SIDE} a side; correct it")
    points_camera = rigid.apply(rigid.invert(world_from_camera), points_world)
    depths = np.linalg.norm(points_camera, axis=-1)
    ahead = depths > _MIN_DEPTH if camera.lens.wide else points_camera[:, 2] > _MIN_DEPTH
    numbers = np.flatnonzero(ahead)
    pixels = camera.lens.project(points_camera[numbers])
    inside = ((pixels >= 0) & (pixels < [width, height])).all(axis=1)
    numbers, pixels = numbers[inside], pixels[inside]
    if camera.lens.kind != "pinhole":
        rays = points_camera[numbers] / depths[numbers, None]
        one_to_one = np.linalg.norm(camera.lens.rays(pixels) - rays, axis=-1) < _SAME_RAY
        numbers, pixels = numbers[one_to_one], pixels[one_to_one]
    seen = ~_hidden(pixels, depths[numbers], camera.size)
    numbers, pixels = numbers[seen], pixels[seen]
    depths = depths[numbers]
    columns, rows = pixels.astype(np.int64).T
    order = np.lexsort((depths, columns, rows))  # by pixel, then from near to far
    _, first = np.unique((rows * width + columns)[order], return_index=True)
    nearest = order[first]
    # float32 may round a position onto the far border
    pixels = np.minimum(pixels[nearest].astype(np.float32), np.nextafter(np.float32([width, height]), np.float32(0)))
    on_moving = None if moving is None else moving[numbers[nearest]]
    return SparseDepth(pixels, depths[nearest].astype(np.float32), on_moving)


def _hidden(pixels: np.ndarray, depths: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    rows, columns = (pixels[:, ::-1] // _HIDDEN_CELL).astype(np.int64).T + 1  # with a border of empty cells
    nearest = np.full((size[0] // _HIDDEN_CELL + 3, size[1] // _HIDDEN_CELL + 3), np.inf)
    np.minimum.at(nearest, (rows, columns), depths)
    around = np.min([nearest[rows + i, columns + j] for i in (-1, 0, 1) for j in (-1, 0, 1)], axis=0)
    return depths > _HIDDEN_RATIO * around
