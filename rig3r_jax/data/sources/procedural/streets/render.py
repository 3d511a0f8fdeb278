"""Images, exact depths and what moves, of cameras at their times: how a `world.World` becomes an image.

1. `_tiled_rays`: a lens gives the ray of each pixel, in tiles of 8 x 8; `_turned` brings them into the world.
2. `World.at`: the primitives that may be seen at the view's time. `culling` pairs each tile with those it may show.
3. `casting.cast`: the nearest hit of each ray. Its distance is the depth; its primitive tells whether it moves.
4. `_Shading`: where a ray hits (`surface`), which colour is there (`materials`, `ground`, by patterns of `textures`),
   which light falls on it (`light`), and what the lens and the sensor add.
"""

import dataclasses
import functools
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8

from rig3r_jax.data.sources.procedural.sight import lit_pixels, sight
from rig3r_jax.data.sources.procedural.streets.casting import GROUND, SKY, Hits, cast
from rig3r_jax.data.sources.procedural.streets.culling import GROUP, TILE, Rays
from rig3r_jax.data.sources.procedural.streets.ground import ground_color
from rig3r_jax.data.sources.procedural.streets.light import falling, haze, headlights, sky_color, veil
from rig3r_jax.data.sources.procedural.streets.materials import COLORS
from rig3r_jax.data.sources.procedural.streets.primitives import Table, concatenate, rounded
from rig3r_jax.data.sources.procedural.streets.surface import Surface
from rig3r_jax.data.sources.procedural.streets.textures import Channels, Values, clipped, hashed
from rig3r_jax.data.sources.procedural.streets.world import World
from rig3r_jax.geometry.camera import Lens

_FINE = 2.0**22  # parts of 1 to which rays and rotations are rounded
_PIXELS = 65_536  # that are rendered at once: enough to outweigh numpy's calls, few enough for a core's cache


@dataclasses.dataclass(frozen=True)
class View:
    """A camera at one time."""

    time: float  # seconds
    world_from_camera: Float[np.ndarray, "4 4"]
    lens: Lens


@dataclasses.dataclass(frozen=True)
class Shot:
    """What a camera sees."""

    image: UInt8[np.ndarray, "h w 3"]
    depth: Float32[np.ndarray, "h w"]  # metres along the ray; 0: sky, or no light
    moving: Bool[np.ndarray, "h w"]


@dataclasses.dataclass(frozen=True)
class _TiledRays:
    """The rays of a lens by tiles (t k), group after group of tiles; beyond an image's border pixels repeat."""

    rays: Rays  # unit; right, down, ahead
    angle: Float32[np.ndarray, "t k"]  # radians that a pixel covers
    pixels: np.ndarray  # (size, size): where each pixel is, in the flattened tiles


@functools.lru_cache(maxsize=64)
def _tiled_rays(lens: Lens, size: int) -> _TiledRays:
    seen = sight(lens, size)
    rays = seen.rays.astype(np.float64)
    length = np.sqrt((rays * rays).sum(axis=0))
    angle = 1 / (seen.focal.astype(np.float64) * length)
    wide = round(GROUP**0.5)
    side = -(-size // (wide * TILE)) * wide * TILE
    rows = np.minimum(np.arange(side), size - 1)
    number = (rows[:, None] * size + rows).reshape(-1, wide, TILE, side // (wide * TILE), wide, TILE)
    number = number.transpose(0, 3, 1, 4, 2, 5).reshape(-1, TILE * TILE)
    pixels = np.empty(size * size, np.int64)
    pixels[number.ravel()[::-1]] = np.arange(number.size)[::-1]
    tiled = [
        np.ascontiguousarray((np.round(part * _FINE) / _FINE)[number], np.float32) for part in (*(rays / length), angle)
    ]
    return _TiledRays(tuple(tiled[:3]), tiled[3], pixels.reshape(size, size))


def render(world: World, views: Sequence[View], size: int) -> Iterator[Shot]:
    """What cameras see of a world, in square images, one after another."""
    together = max(_PIXELS // size**2, 1)
    for start in range(0, len(views), together):
        yield from _render_together(world, views[start : start + together], size)


def _render_together(world: World, views: Sequence[View], size: int) -> Iterator[Shot]:
    tiled = [_tiled_rays(view.lens, size) for view in views]
    eyes = [rounded(view.world_from_camera[:3, 3]) for view in views]
    rays = [_turned(own.rays, view.world_from_camera) for own, view in zip(tiled, views, strict=True)]
    tables, moves = zip(*(world.at(view.time, eye) for view, eye in zip(views, eyes, strict=True)), strict=True)
    hits = cast(tables, world.town.ground, eyes, rays)
    flat = tuple(
        np.concatenate([component.ravel() for component in components]) for components in zip(*rays, strict=True)
    )
    angle = np.concatenate([own.angle.ravel() for own in tiled])
    color = _Shading(world, views, eyes, [own.angle.size for own in tiled], flat).colors(
        hits, concatenate(tables), angle
    )
    moving = np.append(np.concatenate(moves), [False, False]).take(hits.index.ravel())
    depth = hits.distance.ravel() * (hits.index.ravel() != SKY)
    bytes_ = [np.rint(clipped(channel) * np.float32(255)).astype(np.uint8) for channel in color]
    first = 0
    for view, own in zip(views, tiled, strict=True):
        pixels = own.pixels + first
        first += own.angle.size
        image, lit = np.stack([channel.take(pixels) for channel in bytes_], axis=-1), lit_pixels(view.lens, size)
        shot = Shot(image, depth.take(pixels), moving.take(pixels))
        if not lit.all():
            shot.image[~lit], shot.depth[~lit], shot.moving[~lit] = 0, 0, False
        yield shot


def _turned(rays: Rays, world_from_camera: Float[np.ndarray, "4 4"]) -> Rays:
    """Rays in the world; sums written out, as matrix products differ between machines."""
    turn = (np.round(world_from_camera[:3, :3] * _FINE) / _FINE).astype(np.float32)
    right, down, ahead = rays
    return tuple(row[0] * right + row[1] * down + row[2] * ahead for row in turn)


class _Shading:
    """Colours of the rays of some views, flattened to (n)."""

    def __init__(self, world: World, views: Sequence[View], eyes, counts: Sequence[int], ray: Channels) -> None:
        """`counts`: rays of each view, world."""
        self._world, self._light, self._ray = world, world.light, ray
        self._frame = np.repeat(np.arange(len(views)), counts)
        self._number = np.concatenate([np.arange(count, dtype=np.int32) for count in counts])  # within the view
        self._times = [round(view.time * 1e4) for view in views]
        self._eyes = np.array(eyes, np.float32).T
        self._fronts = np.array([world.front(view.time) for view in views], np.float32).T

    def colors(self, hits: Hits, table: Table, angle: Values) -> list[Values]:
        """Red, green, blue: of the sky, of the ground, then of primitives by material."""
        index, distance = hits.index.ravel(), hits.distance.ravel()
        pixel = distance * angle
        color = [np.empty(len(index), np.float32) for _ in range(3)]
        material = np.append(table.material, [-1, -1]).astype(np.int8).take(index)
        sky, ground = np.flatnonzero(index == SKY), np.flatnonzero(index == GROUND)
        self._write(color, sky, sky_color(self._light, *(part.take(sky) for part in self._ray)))
        self._write(color, ground, self._ground(ground, distance.take(ground), pixel.take(ground)))
        for number, color_of in COLORS.items():
            chosen = np.flatnonzero(material == number)
            if not len(chosen):
                continue
            ray, reach = tuple(part.take(chosen) for part in self._ray), distance.take(chosen)
            surface = Surface(table, hits.own, index.take(chosen), ray, reach, pixel.take(chosen))
            base, glow = color_of(surface)
            facing = surface.facing(self._light.sun_direction)
            lamp = np.float32(0.35) * clipped(1 - surface.q * np.float32(1 / 7)) if self._light.night else 0.0
            self._write(color, chosen, self._lit(chosen, ray, reach, base, facing, lamp, glow))
        return self._through_lens(color)

    @staticmethod
    def _write(color: list[np.ndarray], chosen: np.ndarray, values: Channels) -> None:
        for channel, own in zip(color, values, strict=True):
            channel[chosen] = own

    def _place(self, chosen: np.ndarray, ray: Channels, reach: Values) -> tuple[Values, Values]:
        """x and y of hits, world."""
        frame = self._frame.take(chosen)
        return tuple(self._eyes[i].take(frame) + ray[i] * reach for i in (0, 1))

    def _ground(self, chosen: np.ndarray, reach: Values, pixel: Values) -> Channels:
        ray = tuple(part.take(chosen) for part in self._ray)
        width = pixel / np.maximum(np.sqrt(np.abs(ray[2])), np.float32(0.1))
        base, lamp = ground_color(self._world.town, self._world.looks, *self._place(chosen, ray, reach), width)
        return self._lit(chosen, ray, reach, base, np.float32(self._light.sun_direction[2]), lamp, 0.0)

    def _lit(self, chosen, ray, reach, base: Channels, facing, lamp, glow) -> Channels:
        """Surfaces of colour `base` under all lights, behind the haze."""
        if not self._light.night:
            falls = falling(self._light, facing, 0.0)
            return haze(self._light, reach, tuple(own * light for own, light in zip(base, falls, strict=True)))
        frame = self._frame.take(chosen)
        x, y = self._place(chosen, ray, reach)
        front_x, front_y, cos, sin = (column.take(frame) for column in self._fronts)
        x, y = x - front_x, y - front_y
        lamp = lamp + np.float32(1.1) * headlights(cos * x + sin * y, cos * y - sin * x)
        falls = falling(self._light, facing, lamp)
        lamps = self._light.lamps
        lit = (own * fall + np.float32(shine) * glow for own, fall, shine in zip(base, falls, lamps, strict=True))
        return haze(self._light, reach, tuple(lit))

    def _through_lens(self, color: list[Values]) -> list[Values]:
        """With the sun's glare, and the sensor's noise, another one at each time."""
        if self._light.glare:
            glare = veil(self._light, *self._ray)
            color = [channel + glare * np.float32(part) for channel, part in zip(color, (1.0, 0.95, 0.85), strict=True)]
        noise = hashed(self._number, np.array(self._times, np.int32).take(self._frame), self._world.looks.seed)
        grain = (noise - np.float32(0.5)) * np.float32(2 * self._light.grain)
        return [channel + grain for channel in color]
