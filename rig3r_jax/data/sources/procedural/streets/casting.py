"""The nearest hit of every ray of an image, exactly: tiles of rays against the primitives that they may meet.

Only additions, products, quotients and square roots of float32 touch what is seen, each rounded as IEEE 754 says, so
that every machine finds the same hits.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Float32, Int32

from rig3r_jax.data.sources.procedural.streets.culling import Rays, candidates, ranks
from rig3r_jax.data.sources.procedural.streets.primitives import BOX, ROUND, TAPERED, Table

FAR = 220.0  # metres; what is farther is sky
GROUND, SKY = -1, -2  # in place of a primitive's number
_NEAR = np.float32(0.05)  # metres
_ROUND = 6  # primitives of a tile that are met before farther ones are looked at
_CHUNK = 384  # tiles that are met at once: their arrays stay in a core's cache
_TINY = np.float32(1e-12)

Columns = Float32[np.ndarray, "9 n 1"]  # of `_own_frames` but cos and sin


@dataclasses.dataclass(frozen=True)
class Hits:
    """Nearest hits of the rays of some cameras, in tiles."""

    distance: Float32[np.ndarray, "t k"]  # metres along the ray; FAR at the sky
    index: Int32[np.ndarray, "t k"]  # of the primitive in the tables one after another, or GROUND or SKY
    own: Float32[np.ndarray, "11 p"]  # of each primitive: see `_own_frames`


def cast(
    tables: Sequence[Table], ground: tuple[float, ...], eyes: Sequence[Float[np.ndarray, "3"]], rays: Sequence[Rays]
) -> Hits:
    """Where unit rays (x, y, z) in the world end, of several eyes, each with what it may see."""
    all_rays = tuple(np.concatenate(components) for components in zip(*rays, strict=True))
    counts = [len(x) for x, _, _ in rays]
    distance = ground_distance(ground, np.repeat(eyes, counts, axis=0), all_rays)
    index = (np.int32(GROUND) + (distance >= FAR) * np.int32(SKY - GROUND)).astype(np.int32)
    distance = np.minimum(distance, np.float32(FAR))
    own = np.concatenate([_own_frames(table, eye) for table, eye in zip(tables, eyes, strict=True)], axis=1)
    first_tiles, first_primitives = np.cumsum([0, *counts[:-1]]), np.cumsum([0, *map(len, tables[:-1])])
    pairs = [candidates(*seen) for seen in zip(tables, eyes, rays, strict=True)]
    tiles = np.concatenate([first + tile for first, (tile, _, _) in zip(first_tiles, pairs, strict=True)])
    numbers = np.concatenate([first + number for first, (_, number, _) in zip(first_primitives, pairs, strict=True)])
    nearest = np.concatenate([least for _, _, least in pairs])
    kinds = np.concatenate([table.kind for table in tables])[numbers]
    for kind, enter in ((BOX, _enter_box), (TAPERED, _enter_tapered), (ROUND, _enter_round)):
        chosen = np.flatnonzero(kinds == kind)
        if not len(chosen):
            continue
        rounds = ranks(tiles[chosen]) // _ROUND
        for number in range(rounds.max() + 1):
            near = chosen[rounds == number]
            near = near[nearest[near] < distance.max(axis=1)[tiles[near]]]  # than the farthest hit so far
            for start in range(0, len(near), _CHUNK):
                chunk = near[start : start + _CHUNK]
                _meet(tiles[chunk], numbers[chunk], enter, own, all_rays, distance, index)
    return Hits(distance, index, own)


def _meet(tiles, numbers, enter, own, rays, distance, index) -> None:
    """Shortens the distances of the rays of `tiles` that meet the primitives of `numbers`, one for each tile."""
    columns = own[:, numbers, None]
    cos, sin = columns[:2]
    x, y, z = (component[tiles] for component in rays)
    entry = enter(columns[2:], cos * x + sin * y, cos * y - sin * x, z)
    starts = np.flatnonzero(np.concatenate([[True], tiles[1:] != tiles[:-1]]))
    touched = tiles[starts]
    nearest = np.minimum(np.minimum.reduceat(entry, starts, axis=0), distance[touched])
    lengths = np.diff(np.append(starts, len(tiles)))
    hit = np.flatnonzero((entry == np.repeat(nearest, lengths, axis=0)) & (entry < distance[tiles]))
    rows, pixels = hit // entry.shape[1], hit % entry.shape[1]
    index[tiles[rows], pixels] = numbers[rows]
    distance[touched] = nearest


def ground_distance(
    ground: tuple[float, ...], eyes: Float[np.ndarray, "t 3"], rays: Rays
) -> Float32[np.ndarray, "t k"]:
    """Distance along the rays of each eye to z = a x + b y + c x^2 + d x y + e y^2; inf where they miss it."""
    a, b, c, d, e = ground
    x, y, z = eyes.T[..., None]
    above = (z - (a * x + b * y + c * x * x + d * x * y + e * y * y)).astype(np.float32)
    slope_x, slope_y = (a + 2 * c * x + d * y).astype(np.float32), (b + d * x + 2 * e * y).astype(np.float32)
    dx, dy, dz = rays
    toward = slope_x * dx + slope_y * dy - dz
    bend = dx * (np.float32(c) * dx + np.float32(d) * dy) + np.float32(e) * dy * dy
    square = toward * toward + 4 * bend * above
    below = toward + np.sqrt(np.maximum(square, 0))
    misses = (square < 0) | (below <= _TINY)
    below[misses] = _TINY
    distance = 2 * above / below
    distance[misses] = np.inf
    return distance


def _own_frames(table: Table, eye: Float[np.ndarray, "3"]) -> Float32[np.ndarray, "11 p"]:
    """cos, sin of the yaw; the eye in each primitive's own frame; half sides, height, form."""
    cos, sin = np.round(np.cos(table.yaw) * 2**30) / 2**30, np.round(np.sin(table.yaw) * 2**30) / 2**30
    x, y, z = (np.asarray(eye, np.float64) - table.foot).T
    columns = [cos, sin, cos * x + sin * y, cos * y - sin * x, z, *table.half.T, table.height, *table.form.T]
    return np.stack(columns).astype(np.float32)


def _enter_box(own: Columns, dx, dy, dz) -> Float32[np.ndarray, "n k"]:
    """Distance at which rays enter boxes; inf where they miss."""
    x, y, z, half_x, half_y, height, *_ = own
    half_z = height * np.float32(0.5)
    enter, leave = _slab(x, half_x, dx)
    for place, half, step in ((y, half_y, dy), (z - half_z, half_z, dz)):
        near, far = _slab(place, half, step)
        enter, leave = np.maximum(enter, near), np.minimum(leave, far)
    return _valid(enter, leave)


def _slab(place, half, step):
    inverse = 1 / _away_from_zero(step)
    middle, reach = -place * inverse, half * np.abs(inverse)
    return middle - reach, middle + reach


def _away_from_zero(step):
    return step + np.copysign(_TINY, step)


def _valid(enter, leave):
    enter[(enter >= leave) | (enter <= _NEAR)] = np.inf
    return enter


def _enter_tapered(own: Columns, dx, dy, dz):
    """Distance at which rays enter tapered boxes: of the four sides that lean and the two ends."""
    x, y, z, half_x, half_y, height, taper_x, taper_y, _ = own
    half_z = height * np.float32(0.5)
    enter, leave = _slab(z - half_z, half_z, dz)
    for place, half, taper, step in ((x, half_x, taper_x, dx), (y, half_y, taper_y, dy)):
        rise = taper * dz
        for sign in (np.float32(1), np.float32(-1)):
            over = sign * place + taper * z - half  # beyond the side's plane, in metres along x or y
            speed = _away_from_zero(sign * step + rise)
            crossing = -over / speed
            enter = np.maximum(enter, np.where(speed < 0, crossing, -np.inf))
            leave = np.minimum(leave, np.where(speed > 0, crossing, np.inf))
    return _valid(enter, leave)


def _enter_round(own: Columns, dx, dy, dz):
    """Distance at which rays enter rounds. The discriminant by the cross product keeps thin poles exact in float32."""
    x, y, z, _, _, height, form_0, form_1, form_2 = own
    half_z = height * np.float32(0.5)
    enter, leave = _slab(z - half_z, half_z, dz)
    level = dx * dx + dy * dy
    away = x * x + y * y
    radius = form_0 + z * (form_1 + z * form_2)  # squared, at the eye's height
    widen = form_1 * np.float32(0.5) + form_2 * z
    toward = x * dx + y * dy
    cross = x * dy - y * dx
    square = (
        level * radius - cross * cross + dz * (dz * (widen * widen + form_2 * (away - radius)) - 2 * toward * widen)
    )
    root = np.sqrt(np.maximum(square, 0))
    divisor = np.maximum(level - form_2 * dz * dz, _TINY)
    middle = widen * dz - toward
    enter, leave = np.maximum(enter, (middle - root) / divisor), np.minimum(leave, (middle + root) / divisor)
    leave[square <= 0] = -np.inf
    return _valid(enter, leave)
