"""Images, exact depths and what moves, of one camera at one time: cast all rays, then colour the hits by material."""

import dataclasses
import functools

import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8

from rig3r_jax.data.sources.procedural.sight import lit_pixels, sight
from rig3r_jax.data.sources.procedural.streets.casting import FAR, GROUND, SKY, Hits, cast
from rig3r_jax.data.sources.procedural.streets.culling import TILE
from rig3r_jax.data.sources.procedural.streets.ground import ground_color
from rig3r_jax.data.sources.procedural.streets.light import falling, haze, headlights, sky_color, veil
from rig3r_jax.data.sources.procedural.streets.materials import COLORS, Surface
from rig3r_jax.data.sources.procedural.streets.primitives import ROUND, Table
from rig3r_jax.data.sources.procedural.streets.textures import hashed
from rig3r_jax.data.sources.procedural.streets.world import World
from rig3r_jax.geometry.camera import Lens

_FINE = 2.0**22  # parts of 1 to which rays and rotations are rounded


@dataclasses.dataclass(frozen=True)
class Shot:
    """What a camera sees."""

    image: UInt8[np.ndarray, "h w 3"]
    depth: Float32[np.ndarray, "h w"]  # metres along the ray; 0: sky, or no light
    moving: Bool[np.ndarray, "h w"]


@dataclasses.dataclass(frozen=True)
class _TiledRays:
    """The rays of a lens, tile by tile (t k); the last tiles of a side repeat its last pixels."""

    rays: tuple[Float32[np.ndarray, "t k"], ...]  # unit; right, down, ahead
    angle: Float32[np.ndarray, "t k"]  # radians that a pixel covers
    pixels: np.ndarray  # (size, size): where each pixel is, in the flattened tiles


@functools.lru_cache(maxsize=64)
def _tiled_rays(lens: Lens, size: int) -> _TiledRays:
    seen = sight(lens, size)
    rays = seen.rays.astype(np.float64)
    length = np.sqrt((rays * rays).sum(axis=0))
    unit = np.round(rays / length * _FINE) / _FINE
    angle = 1 / (seen.focal.astype(np.float64) * length)
    side = -(-size // TILE) * TILE
    rows = np.minimum(np.arange(side), size - 1)
    number = (rows[:, None] * size + rows).reshape(side // TILE, TILE, side // TILE, TILE)
    number = number.swapaxes(1, 2).reshape(-1, TILE * TILE)
    pixels = np.empty(size * size, np.int64)
    pixels[number.ravel()[::-1]] = np.arange(number.size)[::-1]
    angle = np.round(angle * _FINE) / _FINE
    tiled = tuple(np.ascontiguousarray(part[number], np.float32) for part in (*unit, angle))
    return _TiledRays(tiled[:3], tiled[3], pixels.reshape(size, size))


def render(world: World, time: float, world_from_camera: Float[np.ndarray, "4 4"], lens: Lens, size: int) -> Shot:
    """What a camera sees of a world at one time, in a square image."""
    tiled = _tiled_rays(lens, size)
    turn = np.round(world_from_camera[:3, :3] * _FINE) / _FINE
    eye = np.round(world_from_camera[:3, 3] * 2**20) / 2**20
    right, down, ahead = tiled.rays
    rays = tuple(
        np.float32(row[0]) * right + np.float32(row[1]) * down + np.float32(row[2]) * ahead for row in turn
    )
    table, moving = world.at(time, eye)
    hits = cast(table, world.town.ground, eye, rays)
    color = _shade(world, time, table, hits, eye, rays, tiled.angle)
    grain = _grain(world, time, hits.index.shape) if world.light.grain else 0.0
    bytes_ = [np.rint(np.clip(channel + grain, 0, 1) * 255).astype(np.uint8) for channel in color]
    image = np.stack([channel.ravel()[tiled.pixels] for channel in bytes_], axis=-1)
    depth = np.where(hits.index == SKY, np.float32(0), hits.distance).ravel()[tiled.pixels]
    moves = np.append(moving, [False, False])[hits.index].ravel()[tiled.pixels]
    if not (lit := lit_pixels(lens, size)).all():
        image[~lit], depth[~lit], moves[~lit] = 0, 0, False
    return Shot(image, depth, moves)


def _grain(world: World, time: float, shape: tuple[int, ...]) -> Float32[np.ndarray, "t k"]:
    """Noise of the sensor, another one at each time."""
    number = np.arange(shape[0] * shape[1])
    noise = hashed(number, np.full_like(number, round(time * 1e4)), world.looks.seed) - np.float32(0.5)
    return np.float32(2 * world.light.grain) * noise.reshape(shape)


def _shade(world: World, time: float, table: Table, hits: Hits, eye, rays, angle) -> list[Float32[np.ndarray, "t k"]]:
    """Colour of every ray: sky, ground, then primitives by material."""
    index = hits.index.ravel()
    x, y, z = (component.ravel() for component in rays)
    distance, pixel = hits.distance.ravel(), hits.distance.ravel() * angle.ravel()
    color = [np.empty(len(index), np.float32) for _ in range(3)]
    sky, ground = np.flatnonzero(index == SKY), np.flatnonzero(index == GROUND)
    if len(sky):
        for channel, values in zip(color, sky_color(world.light, x[sky], y[sky], z[sky]), strict=True):
            channel[sky] = values
    if len(ground):
        reach = distance[ground]
        gx, gy = x[ground] * reach + np.float32(eye[0]), y[ground] * reach + np.float32(eye[1])
        width = pixel[ground] / np.maximum(np.sqrt(np.abs(z[ground])), np.float32(0.1))
        base, lamp = ground_color(world.town, world.looks, gx, gy, width)
        up = world.light.sun_direction[2]
        _light_up(world, time, color, ground, base, np.full(len(ground), up, np.float32), lamp, 0.0, gx, gy, reach)
    material = table.material.astype(np.int8)[np.maximum(index, 0)]
    material[index < 0] = -1
    for number in np.unique(material[material >= 0]) if len(table) else ():
        chosen = np.flatnonzero(material == number)
        reach = distance[chosen]
        surface, facing, places = _surface(
            table, index[chosen], eye, tuple(part[chosen] * reach for part in (x, y, z)), reach, pixel[chosen],
            world.light.sun_direction,
        )  # fmt: skip
        base, glow = COLORS[int(number)](surface)
        lamp = np.float32(0.35) * np.clip(1 - surface.q * np.float32(1 / 7), 0, 1)
        _light_up(world, time, color, chosen, base, facing, lamp, glow, *places, reach)
    if world.light.glare:
        glare = veil(world.light, x, y, z)
        color = [channel + glare * np.float32(part) for channel, part in zip(color, (1.0, 0.95, 0.85), strict=True)]
    return [channel.reshape(hits.index.shape) for channel in color]


def _light_up(world, time, color, chosen, base, facing, lamp, glow, gx, gy, reach) -> None:
    """Writes the colours of hits under all lights, behind the haze."""
    light = world.light
    if light.night:
        ahead, aside = world.before_vehicle(time, gx, gy)
        lamp = lamp + np.float32(1.1) * headlights(ahead, aside)
        lit = [channel + np.float32(own) * glow for channel, own in zip(
            (b * f for b, f in zip(base, falling(light, facing, lamp), strict=True)), light.lamps, strict=True)]  # fmt: skip
    else:
        lit = [b * f for b, f in zip(base, falling(light, facing, 0.0), strict=True)]
    for channel, values in zip(color, haze(light, reach, lit), strict=True):
        channel[chosen] = values


def _surface(table: Table, index, eye, ray, distance, pixel, sun) -> tuple[Surface, np.ndarray, tuple]:
    """Where hits lie on their primitives, how their normals face the sun, and their x and y in the world."""
    take = lambda column: column.astype(np.float32)[index]  # noqa: E731
    cos, sin = take(np.round(np.cos(table.yaw) * 2**30) / 2**30), take(np.round(np.sin(table.yaw) * 2**30) / 2**30)
    offset = (eye - table.foot).astype(np.float32)
    wx, wy, wz = (ray[i] + offset[:, i][index] for i in range(3))  # from the foot, in the world's axes
    px, py = cos * wx + sin * wy, cos * wy - sin * wx
    rx, ry, rz = ((cos * ray[0] + sin * ray[1]) / distance, (cos * ray[1] - sin * ray[0]) / distance, ray[2] / distance)
    half_x, half_y, height = take(table.half[:, 0]), take(table.half[:, 1]), take(table.height)
    form_0, form_1, form_2 = (take(column) for column in table.form.T)
    is_round = (table.kind == ROUND)[index]
    taper_x, taper_y = form_0 * ~is_round, form_1 * ~is_round
    beyond_x, beyond_y = np.abs(px) + taper_x * wz - half_x, np.abs(py) + taper_y * wz - half_y
    beyond_z = np.maximum(wz - height, -wz)
    upper = (beyond_z > beyond_x) & (beyond_z > beyond_y) & ~is_round
    end = (beyond_x >= beyond_y) & ~upper & ~is_round
    side = ~(upper | end | is_round)
    sign_z = np.where(wz > height * np.float32(0.5), np.float32(1), np.float32(-1))
    nx = end * np.copysign(np.float32(1), px) + is_round * px
    ny = side * np.copysign(np.float32(1), py) + is_round * py
    nz = upper * sign_z + end * taper_x + side * taper_y - is_round * (form_1 * np.float32(0.5) + form_2 * wz)
    inverse = 1 / np.sqrt(np.maximum(nx * nx + ny * ny + nz * nz, np.float32(1e-12)))
    nx, ny, nz = nx * inverse, ny * inverse, nz * inverse
    sun_x, sun_y, sun_z = (np.float32(part) for part in sun)
    facing = (cos * nx - sin * ny) * sun_x + (sin * nx + cos * ny) * sun_y + nz * sun_z
    level, upright = (upper | side).astype(np.float32), (~upper).astype(np.float32)
    p = px * level + py * (1 - level) + is_round * (py - px * np.float32(0.3))
    q = wz * upright + py * (1 - upright) + is_round * px * np.float32(0.5)
    slope = 1 / np.maximum(np.abs(nx * rx + ny * ry + nz * rz), np.float32(0.05))
    along_p, along_q = (rx * level + ry * (1 - level)) * slope, (rz * upright + ry * (1 - upright)) * slope
    width_p = pixel * np.sqrt(1 + along_p * along_p)
    width_q = pixel * np.sqrt(1 + along_q * along_q)
    surface = Surface(
        p, q, width_p, width_q, upper, end, np.where(end, half_y, half_x), height,
        tuple(take(table.color[:, i]) for i in range(3)), tuple(take(table.accent[:, i]) for i in range(3)),
        take(table.cell[:, 0]), take(table.cell[:, 1]), table.seed[index],
    )  # fmt: skip
    foot_x, foot_y = take(table.foot[:, 0]), take(table.foot[:, 1])
    return surface, facing, (wx + foot_x, wy + foot_y)
