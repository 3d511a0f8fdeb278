"""Colours of the ground: streets with their marks, kerbs, sidewalks and grass, or a yard with bays."""

import dataclasses
from collections.abc import Callable

import numpy as np

from rig3r_jax.data.sources.procedural.streets.materials import mix, scaled
from rig3r_jax.data.sources.procedural.streets.primitives import Color
from rig3r_jax.data.sources.procedural.streets.textures import Channels, Values, band, cells, clipped, noise, stripes
from rig3r_jax.data.sources.procedural.streets.town import BAY, HALF_WIDTH, LANE, ROWS, WALK, Town

_WHITE, _KERB = (0.85, 0.85, 0.82), (0.7, 0.7, 0.68)
_ZEBRA = HALF_WIDTH + 2.2  # metres from the middle of a junction to that of its crossings
_PARKING = HALF_WIDTH - 2.1  # metres from a street's middle to the line of its parking strip
_LAMPS = 24.0  # metres between the lamps of a street


@dataclasses.dataclass(frozen=True)
class GroundLooks:
    """Colours of the ground, and the seed of its patterns."""

    asphalt: Color
    slabs: Color
    soil: Color
    dry: Color
    seed: int


def draw_ground_looks(rng: np.random.Generator) -> GroundLooks:
    """Those of a random town."""
    shades = rng.uniform(0.8, 1.2, 3)
    asphalt = np.array([0.3, 0.3, 0.31]) * rng.uniform(0.7, 1.3)
    slabs = np.array([0.56, 0.54, 0.51]) * rng.uniform(0.8, 1.15) * (1 + 0.1 * rng.uniform(-1, 1, 3))
    soil, dry = np.array([0.27, 0.38, 0.15]) * shades, np.array([0.5, 0.43, 0.28]) * shades
    colors = (tuple(color.tolist()) for color in (asphalt, slabs, soil, dry))
    return GroundLooks(*colors, seed=int(rng.integers(1, 1 << 14)))


def ground_color(town: Town, looks: GroundLooks, x: Values, y: Values, width: Values) -> tuple[Channels, Values]:
    """Colour of the ground at places of the world, and how near a lamp they are (0..1); `width` is that of a pixel."""
    u, v = x, y - town.lateral(x)
    color = _yard_color(town, looks, u, v, width) if town.yard else _street_color(town, looks, u, v, width)
    if town.yard:
        along, across = u - np.rint(u / ROWS) * ROWS, v - np.rint(v / ROWS) * ROWS
        lamp = clipped(1 - (along * along + across * across) * np.float32(1 / 60))
    else:
        away_u, away_v = _from_streets(town, u, v)
        along = np.where(away_v < away_u, u, v)
        away = np.minimum(away_u, away_v)
        along = along - np.rint(along / np.float32(_LAMPS)) * np.float32(_LAMPS)
        lamp = clipped(1 - (along * along + away * away) * np.float32(1 / 110))
    return color, lamp


def _from_streets(town: Town, u: Values, v: Values) -> tuple[Values, Values]:
    """Metres to the middle of the nearest street along v, and along u."""
    block_u, block_v = (np.float32(side) for side in town.block)
    return np.abs(u - np.rint(u / block_u) * block_u), np.abs(v - np.rint(v / block_v) * block_v)


def _asphalt(looks: GroundLooks, u: Values, v: Values, width: Values) -> Channels:
    """Grains, stains, and patches that were mended, whose cracks are sealed."""
    fine, rough = noise(u, v, width, 0.03, looks.seed), noise(u, v, width, 0.4, looks.seed + 1)
    patch = cells(u, v + 0.3 * u, 5.2, 3.1, width, looks.seed)
    mended = np.clip(patch * 8 - np.float32(2.6), -0.5, 1)
    seal = clipped(1 - np.abs(rough + np.float32(0.15) * fine - np.float32(0.25)) * 14)
    shade = 1 + np.float32(0.3) * fine + np.float32(0.22) * rough - np.float32(0.28) * mended - np.float32(0.4) * seal
    return scaled(looks.asphalt, shade)


def _soil(looks: GroundLooks, u: Values, v: Values, width: Values) -> Channels:
    clumps, fine = noise(u, v, width, 0.25, looks.seed + 2), noise(v, u, width, 0.04, looks.seed + 3)
    soil = mix(looks.soil, looks.dry, clipped(np.float32(0.4) + clumps))
    return scaled(soil, 1 + np.float32(0.45) * fine)


def _slabs(looks: GroundLooks, u: Values, v: Values, width: Values) -> Channels:
    """A sidewalk of square slabs with joints."""
    own = cells(u, v, 0.8, 0.8, width, looks.seed + 4)
    joints = np.maximum(stripes(u, 0.8, 0.025, width), stripes(v, 0.8, 0.025, width))
    shade = 1 + np.float32(0.3) * own + np.float32(0.2) * noise(u, v, width, 0.03, looks.seed + 5)
    return scaled(looks.slabs, shade - np.float32(0.35) * joints)


def _street_color(town: Town, looks: GroundLooks, u: Values, v: Values, width: Values) -> Channels:
    away_u, away_v = _from_streets(town, u, v)
    away = np.minimum(away_u, away_v)
    other = np.maximum(away_u, away_v)  # from the street that crosses
    along = np.where(away_v < away_u, u, v)
    road = band(away, HALF_WIDTH, width)

    def marks(width: Values, away: Values, other: Values, along: Values) -> Values:
        dashes = band(away, 0.08, width) * stripes(along, 6.0, 1.4, width)
        edges = band(away - np.float32(_PARKING), 0.06, width) * stripes(along, 12.0, 5.2, width)
        zebra = band(other - np.float32(_ZEBRA), 1.3, width) * stripes(away, 1.2, 0.3, width)
        stop = band(other - np.float32(_ZEBRA + 2.4), 0.2, width) * band(away - np.float32(LANE), LANE - 0.2, width)
        clear = 1 - band(other, _ZEBRA + 2.6, width)
        outside = 1 - band(other, HALF_WIDTH + 0.4, width)  # of junctions
        return np.maximum(np.maximum((dashes + edges) * clear, stop), zebra) * outside

    def beside(u: Values, v: Values, width: Values, away: Values) -> Channels:
        kerb = band(away - np.float32(HALF_WIDTH + 0.1), 0.1, width)
        walk = band(away, HALF_WIDTH + WALK, width)
        return mix(_soil(looks, u, v, width), mix(_slabs(looks, u, v, width), _KERB, kerb), walk)

    return _joined(looks, u, v, width, road, (marks, away, other, along), (beside, away))


def _yard_color(town: Town, looks: GroundLooks, u: Values, v: Values, width: Values) -> Channels:
    half_u, half_v = town.yard

    def marks(width: Values, u: Values, v: Values) -> Values:
        row = np.abs(v - np.rint(v / np.float32(ROWS)) * np.float32(ROWS))
        lines = stripes(u, BAY, 0.06, width) * band(row, 5.0, width)
        middle = band(row, 0.06, width)
        arrows = band(row - np.float32(ROWS / 2), 0.15, width) * stripes(u, 9.0, 1.2, width)
        return np.maximum(np.maximum(lines, middle), arrows)

    def beside(u: Values, v: Values, width: Values) -> Channels:
        walk = band(u, half_u + WALK, width) * band(v, half_v + WALK, width)
        return mix(_soil(looks, u, v, width), _slabs(looks, u, v, width), walk)

    inside = band(u, half_u, width) * band(v, half_v, width)
    return _joined(looks, u, v, width, inside, (marks, u, v), (beside,))


# A function of pixels of the ground, and what it is given of them beside their width, or beside their place and width.
Part = tuple[Callable[..., Values | Channels], *tuple[Values, ...]]


def _joined(
    looks: GroundLooks, u: Values, v: Values, width: Values, road: Values, marks: Part, beside: Part
) -> Channels:
    """Asphalt with `marks` where `road` is 1, what is `beside` where it is 0. Either is computed only where it is
    seen."""
    color = [np.empty_like(u) for _ in range(3)]
    seen, hidden = np.flatnonzero(road > 0), np.flatnonzero(road < 1)
    elsewhere = beside[0](*(own.take(hidden) for own in (u, v, width, *beside[1:])))
    for channel, values in zip(color, elsewhere, strict=True):
        channel[hidden] = values
    part = [values.take(seen) for values in (u, v, width)]
    worn = clipped(np.float32(0.9) + np.float32(0.5) * noise(*part, 0.1, looks.seed + 6))
    worn *= marks[0](part[2], *(own.take(seen) for own in marks[1:]))
    asphalt = mix(_asphalt(looks, *part), _WHITE, worn)
    share = road.take(seen)
    edge = np.flatnonzero(share < 1)
    for channel, values in zip(color, asphalt, strict=True):
        values[edge] += (channel.take(seen[edge]) - values[edge]) * (1 - share[edge])
        channel[seen] = values
    return tuple(color)
