"""Colours of the procedural world: patterns fixed in the world, faded where they are finer than a pixel.

Arrays are (f n), one number per ray; a colour is a tuple of three such arrays. (p, q) are metres on a surface.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from rig3r_jax.data.sources.procedural import worlds

FAR = 200.0  # metres along the camera's axis, of a wide lens along the ray; what lies behind is sky
BUILDINGS = range(0, worlds.BUILDINGS)
BODIES = range(BUILDINGS.stop, BUILDINGS.stop + worlds.CARS)
CABINS = range(BODIES.stop, BODIES.stop + worlds.CARS)
BOXES = range(0, CABINS.stop)
POLES = range(BOXES.stop, BOXES.stop + worlds.POLES + worlds.TREES)
CROWNS = range(POLES.stop, POLES.stop + worlds.TREES)
GROUND, SKY = CROWNS.stop, CROWNS.stop + 1
_GLASS = (0.13, 0.16, 0.2)
_WHITE = (0.88, 0.88, 0.85)

Color = tuple[Array | float, Array | float, Array | float]


class Hits(NamedTuple):
    """The nearest hit of each ray."""

    index: Int[Array, "f n"]  # of the primitive, or GROUND or SKY
    point: Color  # x, y, z of the hit, world
    ray: Color  # unit direction, world
    distance: Float[Array, "f n"]  # metres from the camera
    pixel: Float[Array, "f n"]  # metres that a pixel covers there, seen face on
    road: tuple[Array, Array, Array, Array]  # distance along, offset to the left, direction x and y


class Surface(NamedTuple):
    """Where on its primitive a ray hits."""

    p: Array
    q: Array
    width_p: Array  # metres along p that a pixel covers
    width_q: Array
    normal: Color  # world
    seed: Array
    local: Color  # hit in the primitive's own frame
    half: Color
    is_top: Array  # upper or lower face of a box
    is_end: Array  # face of a box that looks along its own x axis


def _hash(i: Array, j: Array, seed: Array) -> Array:
    """Uniform numbers in [0, 1) from integers."""
    bits = i.astype(jnp.uint32) * jnp.uint32(0x8DA6B343) ^ j.astype(jnp.uint32) * jnp.uint32(0xD8163841)
    bits = (bits ^ seed.astype(jnp.uint32) * jnp.uint32(0xCB1AB31F)) * jnp.uint32(0x9E3779B1)
    bits = (bits ^ (bits >> 15)) * jnp.uint32(0x85EBCA6B)
    return (bits >> 8).astype(jnp.float32) * (1 / (1 << 24))


def _noise(p: Array, q: Array, seed: Array) -> Array:
    """Smooth noise of mean 0.5 on a grid of spacing 1."""
    p0, q0 = jnp.floor(p), jnp.floor(q)
    i, j = p0.astype(jnp.int32), q0.astype(jnp.int32)
    a, b = p - p0, q - q0
    a, b = a * a * (3 - 2 * a), b * b * (3 - 2 * b)
    low = _hash(i, j, seed) * (1 - a) + _hash(i + 1, j, seed) * a
    high = _hash(i, j + 1, seed) * (1 - a) + _hash(i + 1, j + 1, seed) * a
    return low * (1 - b) + high * b


def _visible(width: Array, period: Array | float) -> Array:
    """How much of a pattern of this period survives pixels of this width: 1 to 0."""
    return jnp.clip(1.6 - 2.2 * width / period, 0, 1)


def _band(offset: Array, half: Array | float, width: Array) -> Array:
    """Share of a pixel of the given width, centred at offset, that lies within +-half."""
    width = jnp.maximum(width, 1e-4)
    inside = jnp.minimum(offset + width / 2, half) - jnp.maximum(offset - width / 2, -half)
    return jnp.clip(inside / width, 0, 1)


def _stripes(offset: Array, period: Array | float, half: Array | float, width: Array) -> Array:
    """Repeated bands; their mean where they are too fine."""
    phase = offset / period
    inside = _band((phase - jnp.round(phase)) * period, half, width)
    mean = 2 * half / period
    return mean + (inside - mean) * _visible(width, period)


def _mix(a: Color, b: Color, share: Array | float) -> Color:
    return tuple(x + (y - x) * share for x, y in zip(a, b, strict=True))


def _scale(color: Color, factor: Array) -> Color:
    return tuple(x * factor for x in color)


def _within(index: Array, numbers: range) -> Array:
    return (index >= numbers.start) & (index < numbers.stop)


def _surface(hits: Hits, look: dict[str, Array]) -> Surface:
    """Coordinates on the hit surface, and how far a pixel reaches along them (by the ray's slope to the surface)."""
    x, y, z = hits.point
    cos, sin = look["cos"], look["sin"]
    ox, oy, lz = x - look["center_x"], y - look["center_y"], z - look["center_z"]
    lx, ly = cos * ox + sin * oy, cos * oy - sin * ox
    rx, ry = cos * hits.ray[0] + sin * hits.ray[1], cos * hits.ray[1] - sin * hits.ray[0]
    rz = hits.ray[2]
    ground, round_ = hits.index == GROUND, _within(hits.index, range(POLES.start, CROWNS.stop))
    crown = _within(hits.index, CROWNS)
    ax, ay, az = jnp.abs(lx) / look["half_x"], jnp.abs(ly) / look["half_y"], jnp.abs(lz) / look["half_z"]
    is_top = (az > ax) & (az > ay)
    is_end = (ax > ay) & ~is_top
    flat = is_top | ground
    nx = jnp.where(flat, 0.0, jnp.where(is_end, jnp.sign(lx), 0.0))
    ny = jnp.where(flat | is_end, 0.0, jnp.sign(ly))
    nz = jnp.where(ground, 1.0, jnp.where(is_top, jnp.sign(lz), 0.0))
    bend = (lx / look["half_x"] ** 2, ly / look["half_y"] ** 2, jnp.where(crown, lz / look["half_z"] ** 2, 0.0))
    length = jnp.sqrt(bend[0] ** 2 + bend[1] ** 2 + bend[2] ** 2 + 1e-12)
    nx, ny, nz = (jnp.where(round_, b / length, n) for b, n in zip(bend, (nx, ny, nz), strict=True))
    slope = 1 / jnp.maximum(jnp.abs(nx * rx + ny * ry + nz * rz), 0.02)
    p = jnp.where(ground, x, jnp.where(flat, lx, jnp.where(is_end, ly, lx)))
    q = jnp.where(ground, y, jnp.where(flat, ly, z))
    p = jnp.where(crown, lx + ly, jnp.where(round_, 0.0, p))
    along_p = jnp.where(ground, hits.ray[0], jnp.where(flat, rx, jnp.where(is_end, ry, rx))) * slope
    along_q = jnp.where(ground, hits.ray[1], jnp.where(flat, ry, rz)) * slope
    width_p = hits.pixel * jnp.sqrt(1 + jnp.where(round_, 0.0, along_p) ** 2)
    width_q = hits.pixel * jnp.sqrt(1 + jnp.where(round_, 0.0, along_q) ** 2)
    face = jnp.where(flat, 0.0, jnp.where(is_end, 2.0, 4.0) + (lx * nx + ly * ny > 0))
    return Surface(
        p, q, width_p, width_q, (cos * nx - sin * ny, sin * nx + cos * ny, nz),
        look["seed"] + jnp.where(_within(hits.index, BOXES), face, 0.0), (lx, ly, lz),
        (look["half_x"], look["half_y"], look["half_z"]), is_top, is_end,
    )  # fmt: skip


def _octaves(hits: Hits, surface: Surface) -> list[Array]:
    """Noise at three scales, mean 0; on the sky it draws clouds."""
    index, (rx, ry, rz) = hits.index, hits.ray
    sky = index == SKY
    base = jnp.where(index == GROUND, 6.0, jnp.where(_within(index, CROWNS), 1.6, 4.0))
    base = jnp.where(sky, 1.0, base)
    height = jnp.maximum(rz, 0.0) + 0.12
    p, q = jnp.where(sky, rx / height, surface.p), jnp.where(sky, ry / height, surface.q)
    width = jnp.where(sky, 0.0, 0.6 * jnp.maximum(surface.width_p, surface.width_q))
    octaves = []
    for level in range(3):
        spacing = base / 4.0**level
        noise = _noise(p / spacing, q / spacing, surface.seed + 101.0 * level) - 0.5
        octaves.append(noise * _visible(width, 2 * spacing))
    return octaves


def _ground_color(hits: Hits, surface: Surface, noise: list[Array], patch: Array, light: dict) -> Color:
    """Road with patches and marks, sidewalk with slabs, soil of two kinds."""
    along, left, cos, sin = hits.road
    slope = 1 / jnp.maximum(jnp.abs(hits.ray[2]), 0.02)
    ahead, aside = cos * hits.ray[0] + sin * hits.ray[1], cos * hits.ray[1] - sin * hits.ray[0]
    width_along, width_left = (hits.pixel * jnp.sqrt(1 + (part * slope) ** 2) for part in (ahead, aside))
    away = jnp.abs(left)
    asphalt, sidewalk, soil, other_soil = (tuple(row) for row in light["grounds"])
    asphalt = _scale(asphalt, 1 + 0.5 * noise[1] + 0.35 * noise[2] + 0.35 * patch)
    sidewalk = _scale(sidewalk, 1 + 0.25 * noise[1] + 0.25 * noise[2] + 0.35 * patch)
    soil = _mix(soil, other_soil, jnp.clip(0.5 + 4 * noise[0], 0, 1))
    soil = _scale(soil, 1 + 0.8 * noise[1] + 0.7 * noise[2])
    dashes = _band(left, 0.1, width_left) * _stripes(along, 8.0, 2.0, width_along)
    marks = jnp.maximum(dashes, _band(away - 3.55, 0.07, width_left))
    for place in light["crossings"]:
        zebra = _band(along - place, 1.7, width_along) * _band(left, 3.4, width_left)
        marks = jnp.maximum(marks, zebra * _stripes(left, 1.1, 0.28, width_left))
    road = _mix(asphalt, _WHITE, marks)
    kerb = _band(away - worlds.ROAD_HALF_WIDTH - 0.12, 0.12, width_left)
    walk = _mix(sidewalk, (0.75, 0.75, 0.73), kerb)
    edge = worlds.ROAD_HALF_WIDTH + worlds.SIDEWALK_WIDTH
    color = _mix(soil, walk, _band(left, edge, width_left))
    return _mix(color, road, _band(left, worlds.ROAD_HALF_WIDTH, width_left))


def _building_color(surface: Surface, look: dict, noise: list[Array], patch: Array, light: dict, base: Color) -> Color:
    """Plaster with a ground floor of another colour and a grid of windows, each of its own brightness."""
    accent = (look["accent_red"], look["accent_green"], look["accent_blue"])
    grain = 1 + 0.35 * noise[0] + 0.4 * noise[1] + 0.35 * noise[2]
    top = 2 * surface.half[2]
    cornice = _band(surface.q - top, 0.35, surface.width_q)
    cell_p, cell_q = look["cell_p"], look["cell_q"]
    ground_floor = _band(surface.q, cell_q, surface.width_q) * (top > 1.6 * cell_q)
    wall = _mix(base, accent, jnp.maximum(ground_floor, cornice))
    window = _stripes(surface.p - cell_p / 2, cell_p, look["fill_p"] * cell_p / 2, surface.width_p)
    window *= _stripes(surface.q - cell_q / 2, cell_q, look["fill_q"] * cell_q / 2, surface.width_q)
    bright = jnp.clip(0.3 + 1.0 * patch, 0, 1)
    glass = _mix(_GLASS, tuple(light["horizon"]), bright)
    side = _mix(_scale(wall, grain), glass, window * (top > 3.2))
    roof = _scale(_mix(accent, (0.4, 0.38, 0.37), 0.6), grain)
    return tuple(jnp.where(surface.is_top, a, b) for a, b in zip(roof, side, strict=True))


def _car_color(surface: Surface, is_cabin: Array, base: Color) -> Color:
    """Paint, windows around the cabin, lights at both ends, dark below."""
    lx, ly, lz = surface.local
    hx, hy, hz = surface.half
    across, reach = jnp.where(surface.is_end, ly, lx), jnp.where(surface.is_end, hy, hx)
    pane = _band(across, 0.88 * reach, surface.width_p) * _band(lz, 0.75 * hz, surface.width_q)
    pane *= 1 - jnp.where(surface.is_end, 0.0, _band(across, 0.05, surface.width_p))
    cabin = _mix(base, _GLASS, jnp.where(surface.is_top, 0.0, pane))
    lamp = _band(jnp.abs(ly) - 0.75 * hy, 0.2 * hy, surface.width_p) * _band(lz - 0.3 * hz, 0.3 * hz, surface.width_q)
    lit = tuple(jnp.where(lx > 0, a, b) for a, b in zip((1.0, 0.95, 0.8), (0.75, 0.05, 0.05), strict=True))
    body = _mix(base, lit, jnp.where(surface.is_end, lamp, 0.0))
    wheels = sum(_band(lx - place * hx, 0.3, surface.width_p) for place in (-0.62, 0.62)) * (lz < 0.2 * hz)
    low = jnp.where(surface.is_top, 0.0, _band(lz + hz, 0.3 * hz, surface.width_q))
    dark = jnp.maximum(low, jnp.where(surface.is_end | surface.is_top, 0.0, wheels))
    body = _mix(body, (0.06, 0.06, 0.06), dark)
    return tuple(jnp.where(is_cabin, a, b) for a, b in zip(cabin, body, strict=True))


def _sky_color(hits: Hits, noise: list[Array], light: dict) -> Color:
    """From the horizon's colour to the zenith's, clouds, and a sun with its glow."""
    rx, ry, rz = hits.ray
    up = jnp.clip(rz, 0, 1)
    sky = _mix(tuple(light["horizon"]), tuple(light["zenith"]), jnp.sqrt(up))
    clouds = jnp.clip(3 * (noise[0] + 0.4 * noise[1] - 0.05), 0, 1) * jnp.clip(4 * up, 0, 1)
    sky = _mix(sky, (0.95, 0.95, 0.96), 0.7 * clouds)
    sx, sy, sz = light["sun_direction"]
    off = 1 - (rx * sx + ry * sy + rz * sz)
    sun = light["sun"][0] * (0.5 * jnp.exp(-off * 18) + jnp.exp(-((off / 0.006) ** 2)))
    return _mix(sky, (1.0, 0.98, 0.9), jnp.clip(sun, 0, 1))


def shade(hits: Hits, columns: dict[str, Array], light: dict[str, Array]) -> Color:
    """Red, green and blue of every hit, about 0 to 1."""
    index = hits.index
    row = jnp.minimum(index, CROWNS.stop - 1)
    look = {name: jnp.take_along_axis(column, row, axis=1) if column.ndim == 2 else column[row]
            for name, column in columns.items()}  # fmt: skip
    surface = _surface(hits, look)
    noise = _octaves(hits, surface)
    base = (look["red"], look["green"], look["blue"])
    ground, building, cabin = index == GROUND, _within(index, BUILDINGS), _within(index, CABINS)

    # One hash serves windows, asphalt patches and slabs: a brightness per cell, mean 0.
    along, left = hits.road[0], hits.road[1]
    on_road = jnp.abs(left) < worlds.ROAD_HALF_WIDTH
    cell_p = jnp.where(ground, jnp.where(on_road, 4.5, 1.25), look["cell_p"])
    cell_q = jnp.where(ground, jnp.where(on_road, worlds.LANE_CENTER, 1.25), look["cell_q"])
    i, j = (jnp.floor(jnp.where(ground, a, b) / cell).astype(jnp.int32)
            for a, b, cell in ((along, surface.p, cell_p), (left, surface.q, cell_q)))  # fmt: skip
    patch = _hash(i, j, surface.seed + 7.0) - 0.5
    patch *= _visible(0.7 * jnp.maximum(surface.width_p, surface.width_q), jnp.minimum(cell_p, cell_q))

    color = _scale(base, 1 + 0.5 * noise[0] + 0.6 * noise[1] + 0.6 * noise[2])  # poles, trunks and crowns
    choices = (
        (ground, _ground_color(hits, surface, noise, patch, light)),
        (building, _building_color(surface, look, noise, patch, light, base)),
        (_within(index, range(BODIES.start, CABINS.stop)), _car_color(surface, cabin, base)),
    )
    for chosen, other in choices:
        color = tuple(jnp.where(chosen, a, b) for a, b in zip(other, color, strict=True))
    facing = sum(n * s for n, s in zip(surface.normal, light["sun_direction"], strict=True))
    dim = jnp.where(ground | ~building, 1.0, 1 - 0.25 * jnp.exp(-jnp.abs(hits.point[2])))  # the foot of a wall
    lit = [(light["ambient"][c] + light["sun"][c] * jnp.maximum(facing, 0)) * dim for c in range(3)]
    haze = jnp.minimum((hits.distance / FAR) ** 2, 1.0)
    color = _mix(tuple(c * s for c, s in zip(color, lit, strict=True)), tuple(light["horizon"]), haze)
    sky = _sky_color(hits, noise, light)
    return tuple(jnp.where(index == SKY, a, b) for a, b in zip(sky, color, strict=True))
