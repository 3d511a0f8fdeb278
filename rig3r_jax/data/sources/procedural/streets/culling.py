"""Which primitives each tile of an image may show: by the directions that both span, seen from the camera.

Directions are a bearing (radians about the vertical) and a slope (metres up per metre away, seen from above). Upright
primitives span a range of each, tight enough for any lens, and all that counts are the rays through pixel centres.
"""

import numpy as np
from jaxtyping import Bool, Float, Float32, Int

from rig3r_jax.data.sources.procedural.streets.primitives import ROUND, Table

Rays = Float32[np.ndarray, "3 t k"]  # x, y, z of those of t tiles

TILE = 8  # pixels, of the sides of a tile
GROUP = 16  # tiles
_MARGIN = 1e-3  # radians, and parts of a slope: more than float32 rounds
_STEEP = 1e-4  # metres away per metre up, below which rays look straight up or down


def tile_spans(rays: Rays) -> tuple[Float32[np.ndarray, "t"], ...]:
    """Of the rays (x, y, z) of each tile: middle and half width of the bearings, lowest and highest slope."""
    x, y, z = rays
    level = np.maximum(np.sqrt(x * x + y * y), _STEEP)
    slope = z / level
    middle_x, middle_y = x.sum(axis=1, keepdims=True), y.sum(axis=1, keepdims=True)
    ahead, aside = x * middle_x + y * middle_y, np.abs(y * middle_x - x * middle_y)
    wide = (ahead <= aside * 0.1).any(axis=1)
    half = np.where(wide, np.pi, np.arctan((aside / np.where(ahead > 0, ahead, 1.0)).max(axis=1)))
    return np.arctan2(middle_y, middle_x)[:, 0], half.astype(np.float32), slope.min(axis=1), slope.max(axis=1)


def primitive_spans(table: Table, eye: Float[np.ndarray, "3"]) -> tuple[Float[np.ndarray, "p"], ...]:
    """The same of each primitive, and its least distance from the eye, seen from above."""
    offset = table.foot - eye
    cos, sin = np.cos(table.yaw), np.sin(table.yaw)
    half_x, half_y = table.half.T
    x, y = cos * offset[:, 0] + sin * offset[:, 1], cos * offset[:, 1] - sin * offset[:, 0]  # own axes
    away = np.hypot(x, y)
    round_ = table.kind == ROUND
    near = np.hypot(np.maximum(np.abs(x) - half_x, 0), np.maximum(np.abs(y) - half_y, 0))
    near = np.where(round_, np.maximum(away - half_x, 0), near)
    far = away + np.hypot(half_x, half_y)
    ahead = x[:, None] * (x[:, None] + half_x[:, None] * [-1, -1, 1, 1]) + y[:, None] * (
        y[:, None] + half_y[:, None] * [-1, 1, -1, 1]
    )
    aside = x[:, None] * (y[:, None] + half_y[:, None] * [-1, 1, -1, 1]) - y[:, None] * (
        x[:, None] + half_x[:, None] * [-1, -1, 1, 1]
    )
    half = np.abs(np.arctan2(aside, ahead)).max(axis=1)
    half = np.where(round_, np.arcsin(np.minimum(half_x / np.maximum(away, half_x), 1.0)), half)
    half = np.where(near <= 0, np.pi, half)
    closest = np.maximum(near, _STEEP)
    low, high = offset[:, 2], offset[:, 2] + table.height
    lowest = np.where(low < 0, low / closest, low / far)
    highest = np.where(high > 0, high / closest, high / far)
    return np.arctan2(offset[:, 1], offset[:, 0]), half, lowest, highest, near


def candidates(
    table: Table, eye: Float[np.ndarray, "3"], rays: Rays
) -> tuple[Int[np.ndarray, "n"], Int[np.ndarray, "n"], Float[np.ndarray, "n"]]:
    """Pairs of a tile and a primitive that one of its rays may meet, and the primitives' least distances seen from
    above: by tile, and of each tile from near to far. Tiles come in runs of GROUP, whose joint spans are tried first.
    """
    tiles = [column.reshape(-1, GROUP) for column in tile_spans(rays)]
    groups = _joint_spans(*tiles)
    seen = np.flatnonzero(_in_view(table, eye, *(column[None] for column in groups[:2])))
    bearing, half, lowest, highest, near = primitive_spans(table.rows(seen), eye)
    order = np.argsort(near, kind="stable")
    spans = [column[order].astype(np.float32) for column in (bearing, half + _MARGIN, lowest, highest)]
    spans[2] -= _MARGIN * (1 + np.abs(spans[2]))
    spans[3] += _MARGIN * (1 + np.abs(spans[3]))
    groups, members = np.nonzero(_overlap([column[:, None] for column in groups], spans))
    tile = [column[groups] for column in tiles]
    rows, places = np.nonzero(_overlap(tile, [column[members, None] for column in spans]))
    tiles, numbers = groups[rows] * GROUP + places, members[rows]
    by_tile = np.argsort(tiles.astype(np.min_scalar_type(rays.shape[1])), kind="stable")
    numbers = order[numbers[by_tile]]
    return tiles[by_tile], seen[numbers], near[numbers]


def _in_view(table: Table, eye: Float[np.ndarray, "3"], bearing, half) -> Bool[np.ndarray, "p"]:
    """Which primitives may reach into the sector of the bearings of all groups (1 g)."""
    middle, reach = _joint_bearings(bearing, half + np.float32(_MARGIN))
    x, y = (table.foot - eye)[:, :2].T
    radius = np.hypot(*table.half.T)
    if reach >= np.pi:
        return np.ones(len(table), bool)
    right = np.sin(middle - reach) * x - np.cos(middle - reach) * y <= radius  # not beyond the sector's right edge
    left = np.cos(middle + reach) * y - np.sin(middle + reach) * x <= radius
    return right & left if reach < np.pi / 2 else right | left


def _joint_spans(bearing, half, lowest, highest) -> tuple[Float32[np.ndarray, "g"], ...]:
    """Spans of groups of tiles, of the spans (g GROUP) of their tiles."""
    return *_joint_bearings(bearing, half), lowest.min(axis=1), highest.max(axis=1)


def _joint_bearings(bearing, half) -> tuple[Float32[np.ndarray, "g"], Float32[np.ndarray, "g"]]:
    """Middle and half width of bearings that hold all of each row."""
    middle = np.arctan2(np.sin(bearing).sum(axis=1), np.cos(bearing).sum(axis=1))
    turn = np.abs(bearing - middle[:, None])
    return middle, (np.minimum(turn, np.float32(2 * np.pi) - turn) + half).max(axis=1)


def _overlap(tile, spans) -> Bool[np.ndarray, "..."]:
    """Whether the spans of rays and of primitives, which broadcast, meet."""
    turn = np.abs(tile[0] - spans[0])
    turn = np.minimum(turn, np.float32(2 * np.pi) - turn)
    return (turn <= tile[1] + spans[1]) & (tile[2] <= spans[3]) & (tile[3] >= spans[2])


def ranks(tile: Int[np.ndarray, "n"]) -> Int[np.ndarray, "n"]:
    """Of ascending numbers, how many equal ones come before each."""
    first = np.concatenate([[True], tile[1:] != tile[:-1]])
    starts = np.flatnonzero(first)
    return np.arange(len(tile)) - np.repeat(starts, np.diff(np.append(starts, len(tile))))
