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
_CHUNK = 1024  # pairs of a tile and a primitive that are looked at together
_TINY = np.float32(1e-12)
_MISS = np.float32(1e30)  # metres, farther than all

Columns = Float32[np.ndarray, "11 n 1"]  # of `_own_frames`
Part = Float32[np.ndarray, "n k"]  # x, y or z of rays


@dataclasses.dataclass(frozen=True)
class Hits:
    """Nearest hits of the rays of some cameras, in tiles."""

    distance: Float32[np.ndarray, "t k"]  # metres along the ray; FAR at the sky
    index: Int32[np.ndarray, "t k"]  # of the primitive in the tables one after another, or GROUND or SKY
    own: Float32[np.ndarray, "11 p"]  # of each primitive: see `_own_frames`


def cast(
    tables: Sequence[Table],
    ground: tuple[float, ...],
    eyes: Sequence[Float[np.ndarray, "3"]],
    counts: Sequence[int],
    rays: Rays,
) -> Hits:
    """Where unit rays in the world end, of several eyes one after another, each with the primitives that it may see and
    a count of tiles."""
    distance = ground_distance(ground, np.repeat(eyes, counts, axis=0), rays)
    index = (np.int32(GROUND) + (distance >= FAR) * np.int32(SKY - GROUND)).astype(np.int32)
    distance = np.minimum(distance, np.float32(FAR))
    own = np.concatenate([_own_frames(table, eye) for table, eye in zip(tables, eyes, strict=True)], axis=1)
    first_tiles, first_primitives = np.cumsum([0, *counts[:-1]]), np.cumsum([0, *map(len, tables[:-1])])
    own_rays = np.split(rays, first_tiles[1:], axis=1)
    pairs = [candidates(*seen) for seen in zip(tables, eyes, own_rays, strict=True)]
    tiles = np.concatenate([first + tile for first, (tile, _, _) in zip(first_tiles, pairs, strict=True)])
    numbers = np.concatenate([first + number for first, (_, number, _) in zip(first_primitives, pairs, strict=True)])
    nearest = np.concatenate([least for _, _, least in pairs])
    kinds = np.concatenate([table.kind for table in tables])[numbers]
    farthest = distance.max(axis=1)  # hit of each tile so far
    for kind, enter in ((BOX, _enter_box), (TAPERED, _enter_tapered), (ROUND, _enter_round)):
        chosen = np.flatnonzero(kinds == kind)
        ranked = ranks(tiles[chosen]).astype(np.uint16)
        chosen = chosen[np.argsort(ranked, kind="stable")]  # the nearest of all tiles first
        for start in range(0, len(chosen), _CHUNK):
            chunk = chosen[start : start + _CHUNK]
            chunk = chunk[nearest[chunk] < farthest[tiles[chunk]]]
            if len(chunk):
                _meet(tiles[chunk], numbers[chunk], enter, own, rays, distance, index)
                farthest[tiles[chunk]] = distance[tiles[chunk]].max(axis=1)
    return Hits(distance, index, own)


def _meet(tiles, numbers, enter, own, rays, distance, index) -> None:
    """Shortens the distances of the rays of `tiles` that meet the primitives of `numbers`."""
    entry = enter(own[:, numbers, None], *(component[tiles] for component in rays))
    by_tile = np.argsort(tiles, kind="stable")
    turns = np.empty(len(tiles), np.int64)
    turns[by_tile] = ranks(tiles[by_tile])
    for turn in range(turns.max() + 1):  # a tile's primitives one after another
        rows = np.flatnonzero(turns == turn)
        closer = entry[rows] < distance[tiles[rows]]
        hit = closer.any(axis=1)
        rows, closer = rows[hit], closer[hit]
        touched, before = tiles[rows], index[tiles[rows]]
        distance[touched] = np.minimum(entry[rows], distance[touched])
        index[touched] = before + closer * (numbers[rows, None].astype(np.int32) - before)


def ground_distance(
    ground: tuple[float, ...], eyes: Float[np.ndarray, "t 3"], rays: Rays
) -> Float32[np.ndarray, "t k"]:
    """Distance along the rays of each eye to z = a x + b y + c x^2 + d x y + e y^2; at least _MISS if there is none."""
    a, b, c, d, e = ground
    x, y, z = eyes.T[..., None]
    above = (z - (a * x + b * y + c * x * x + d * x * y + e * y * y)).astype(np.float32)
    slope_x, slope_y = (a + 2 * c * x + d * y).astype(np.float32), (b + d * x + 2 * e * y).astype(np.float32)
    dx, dy, dz = rays
    toward = slope_x * dx + slope_y * dy - dz
    bend = dx * (np.float32(4 * c) * dx + np.float32(4 * d) * dy) + np.float32(4 * e) * dy * dy
    square = toward * toward + bend * above
    misses = square < 0
    below = toward + np.sqrt(np.maximum(square, 0, out=square), out=square)
    misses |= below <= _TINY
    distance = 2 * above / np.maximum(below, _TINY, out=below)
    return np.maximum(distance, misses * _MISS, out=distance)


def _own_frames(table: Table, eye: Float[np.ndarray, "3"]) -> Float32[np.ndarray, "11 p"]:
    """cos, sin of the yaw, 1 and 0 of rounds; the eye in each primitive's own frame; half sides, height, form."""
    yaw = np.where(table.kind == ROUND, 0.0, table.yaw)
    cos, sin = np.round(np.cos(yaw) * 2**30) / 2**30, np.round(np.sin(yaw) * 2**30) / 2**30
    x, y, z = (np.asarray(eye, np.float64) - table.foot).T
    columns = [cos, sin, cos * x + sin * y, cos * y - sin * x, z, *table.half.T, table.height, *table.form.T]
    return np.stack(columns).astype(np.float32)


def _enter_box(own: Columns, x: Part, y: Part, z: Part) -> Float32[np.ndarray, "n k"]:
    """Distance at which rays enter boxes; at least _MISS where they miss."""
    cos, sin, eye_x, eye_y, eye_z, half_x, half_y, height, *_ = own
    half_z = height * np.float32(0.5)
    enter, leave = _slab(eye_x, half_x, cos * x + sin * y)
    for place, half, step in ((eye_y, half_y, cos * y - sin * x), (eye_z - half_z, half_z, z)):
        near, far = _slab(place, half, step)
        enter, leave = np.maximum(enter, near, out=enter), np.minimum(leave, far, out=leave)
    return _valid(enter, leave)


def _slab(place, half, step):
    inverse = 1 / (step + _TINY)
    middle, reach = -place * inverse, half * np.abs(inverse)
    return middle - reach, np.add(middle, reach, out=reach)


def _valid(enter, leave):
    return np.maximum(enter, ((enter >= leave) | (enter <= _NEAR)) * _MISS, out=enter)


def _enter_tapered(own: Columns, x: Part, y: Part, z: Part) -> Float32[np.ndarray, "n k"]:
    """Distance at which rays enter tapered boxes: of the four sides that lean and the two ends."""
    cos, sin, eye_x, eye_y, eye_z, half_x, half_y, height, taper_x, taper_y, _ = own
    half_z = height * np.float32(0.5)
    enter, leave = _slab(eye_z - half_z, half_z, z)
    sides = (eye_x, half_x, taper_x, cos * x + sin * y), (eye_y, half_y, taper_y, cos * y - sin * x)
    for place, half, taper, step in sides:
        rise = taper * z + _TINY
        for sign in (np.float32(1), np.float32(-1)):
            speed = rise + step if sign > 0 else rise - step
            crossing = (half - sign * place - taper * eye_z) / speed  # of the side's plane
            inwards = np.copysign(np.float32(np.inf), -speed)  # or -inf where it leaves through the plane
            enter = np.maximum(enter, np.minimum(crossing, inwards), out=enter)
            leave = np.minimum(leave, np.maximum(crossing, inwards, out=crossing), out=leave)
    return _valid(enter, leave)


def _enter_round(own: Columns, x: Part, y: Part, z: Part) -> Float32[np.ndarray, "n k"]:
    """Distance at which rays enter rounds. The discriminant by the cross product keeps thin poles exact in float32."""
    _, _, eye_x, eye_y, eye_z, _, _, height, form_0, form_1, form_2 = own
    half_z = height * np.float32(0.5)
    enter, leave = _slab(eye_z - half_z, half_z, z)
    level = x * x + y * y
    away = eye_x * eye_x + eye_y * eye_y
    radius = form_0 + eye_z * (form_1 + eye_z * form_2)  # squared, at the eye's height
    widen = form_1 * np.float32(0.5) + form_2 * eye_z
    toward = eye_x * x + eye_y * y
    cross = eye_x * y - eye_y * x
    square = level * radius - cross * cross
    square += z * (z * (widen * widen + form_2 * (away - radius)) - 2 * toward * widen)
    root = np.sqrt(np.maximum(square, 0, out=square), out=square)  # 0 where the ray passes by: leaves as it enters
    inverse = 1 / np.maximum(level - form_2 * z * z, _TINY)
    middle = widen * z - toward
    near, far = (middle - root) * inverse, (middle + root) * inverse
    return _valid(np.maximum(enter, near, out=near), np.minimum(leave, far, out=far))
