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
from jaxtyping import Bool, Float, Float32, Int, UInt8

from rig3r_jax.data.sources.procedural.sight import lit_pixels, sight
from rig3r_jax.data.sources.procedural.streets.casting import SKY, Hits, cast
from rig3r_jax.data.sources.procedural.streets.culling import GROUP, TILE, Rays
from rig3r_jax.data.sources.procedural.streets.ground import ground_color
from rig3r_jax.data.sources.procedural.streets.light import falling, haze, headlights, sky_color, veil
from rig3r_jax.data.sources.procedural.streets.materials import COLORS
from rig3r_jax.data.sources.procedural.streets.primitives import MATERIALS, ROUND, Table, concatenate, rounded
from rig3r_jax.data.sources.procedural.streets.surface import Surface
from rig3r_jax.data.sources.procedural.streets.textures import Channels, Values, clipped, hashed
from rig3r_jax.data.sources.procedural.streets.world import World
from rig3r_jax.geometry.camera import Lens

_FINE = 2.0**22  # parts of 1 to which rays and rotations are rounded
_FINEST_PIXEL = np.float32(1e-4)  # metres
_GRAINS = 2**18  # of the sensor's noise
_PIXELS = 131_072  # that are rendered at once: enough to outweigh numpy's calls, few enough for caches


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
    return _TiledRays(np.stack(tiled[:3]), tiled[3], pixels.reshape(size, size))


def render(world: World, views: Sequence[View], size: int) -> Iterator[Shot]:
    """What cameras see of a world, in square images, one after another."""
    together = max(_PIXELS // size**2, 1)
    for start in range(0, len(views), together):
        yield from _render_together(world, views[start : start + together], size)


def _render_together(world: World, views: Sequence[View], size: int) -> Iterator[Shot]:
    tiled = [_tiled_rays(view.lens, size) for view in views]
    eyes = [rounded(view.world_from_camera[:3, 3]) for view in views]
    rays = np.concatenate(
        [_turned(own.rays, view.world_from_camera) for own, view in zip(tiled, views, strict=True)], axis=1
    )
    tables, moves = zip(*(world.at(view.time, eye) for view, eye in zip(views, eyes, strict=True)), strict=True)
    hits = cast(tables, world.town.ground, eyes, [len(own.angle) for own in tiled], rays)
    index = hits.index.ravel()
    moving = np.append(np.concatenate(moves), [False, False]).take(index)
    depth = hits.distance.ravel() * (index != SKY)
    angle = np.concatenate([own.angle.ravel() for own in tiled])
    frame = np.repeat(np.arange(len(views)), [own.angle.size for own in tiled])
    color, places = _Shading(world, views, eyes, rays.reshape(3, -1), angle, frame, hits, concatenate(tables)).colors()
    first = 0
    for view, own in zip(views, tiled, strict=True):
        pixels = own.pixels + first
        first += own.angle.size
        image = np.stack([channel.take(places.take(pixels)) for channel in color])
        image += _grain(world, view.time, size)
        np.minimum(np.maximum(image, np.float32(0), out=image), np.float32(255), out=image)
        image = np.moveaxis(np.rint(image, out=image).astype(np.uint8), 0, -1)
        shot = Shot(image, depth.take(pixels), moving.take(pixels))
        lit = lit_pixels(view.lens, size)
        if not lit.all():
            shot.image[~lit], shot.depth[~lit], shot.moving[~lit] = 0, 0, False
        yield shot


def _grain(world: World, time: float, size: int) -> Float32[np.ndarray, "size size"]:
    """The sensor's noise, another one at each time."""
    (start,) = hashed(np.array([round(time * 1e4)]), np.zeros(1, int), world.looks.seed) * _GRAINS
    grains = np.arange(int(start), int(start) + size * size).reshape(size, size)
    return _white_noise().take(grains, mode="wrap") * np.float32(2 * 255 * world.light.grain)


@functools.cache
def _white_noise() -> Float32[np.ndarray, "grains"]:
    """Numbers within +-0.5."""
    return hashed(np.arange(_GRAINS), np.zeros(_GRAINS, int), 0) - np.float32(0.5)


def _turned(rays: Rays, world_from_camera: Float[np.ndarray, "4 4"]) -> Rays:
    """Rays in the world; sums written out, as matrix products differ between machines."""
    turn = (np.round(world_from_camera[:3, :3] * _FINE) / _FINE).astype(np.float32)
    right, down, ahead = rays
    return np.stack([row[0] * right + row[1] * down + row[2] * ahead for row in turn])


class _Shading:
    """Colours of the rays of some views, by kinds of surfaces: all of the sky, of the ground, of each material."""

    def __init__(self, world: World, views: Sequence[View], eyes, ray: Float32[np.ndarray, "3 n"], angle: Values,
                 frame: Int[np.ndarray, "n"], hits: Hits, table: Table) -> None:  # fmt: skip
        """`ray`: world; `frame`: numbers of the views; `table`: of all views, one after another."""
        self._world, self._light, self._table, self._own = world, world.light, table, hits.own
        self._views, self._eyes = views, np.array(eyes, np.float32).T
        kinds = np.append(2 + 2 * table.material + (table.kind == ROUND), [0, 1]).astype(np.uint8)  # last: SKY, GROUND
        kinds = kinds.take(hits.index.ravel())
        self._order = np.argsort(kinds, kind="stable")
        self._ends = np.cumsum(np.bincount(kinds, minlength=2 + 2 * len(MATERIALS)))
        self._index, self._distance = hits.index.ravel().take(self._order), hits.distance.ravel().take(self._order)
        self._ray = tuple(part.take(self._order) for part in ray)
        self._pixel = np.maximum(self._distance * angle.take(self._order), _FINEST_PIXEL)
        self._frame = frame.take(self._order)

    def colors(self) -> tuple[list[Values], Int[np.ndarray, "n"]]:
        """Red, green and blue, 0..255 or beyond, in the order of the kinds, and each ray's place in it."""
        total, sky = len(self._order), slice(0, self._ends[0])
        color = [np.empty(total, np.float32) for _ in range(3)]
        facing, lamp, glow = (np.zeros(total, np.float32) for _ in range(3))
        _write(color, sky, sky_color(self._light, *(part[sky] for part in self._ray)))
        ground = slice(self._ends[0], self._ends[1])
        base, lamp[ground] = self._ground(ground)
        _write(color, ground, base)
        facing[ground] = self._light.sun_direction[2]
        for kind in np.flatnonzero(np.diff(self._ends[1:])):
            chosen = slice(self._ends[1 + kind], self._ends[2 + kind])
            surface = Surface(self._table, self._own, self._index[chosen], tuple(part[chosen] for part in self._ray),
                              self._distance[chosen], self._pixel[chosen], self._light.sun_direction)  # fmt: skip
            base, glow[chosen] = COLORS[kind // 2](surface)
            _write(color, chosen, base)
            facing[chosen] = surface.facing
            if self._light.night:
                lamp[chosen] = np.float32(0.35) * clipped(1 - surface.q * np.float32(1 / 7))
        solid = slice(self._ends[0], total)
        self._shine([channel[solid] for channel in color], solid, facing[solid], lamp[solid], glow[solid])
        places = np.empty(total, np.int64)
        places[self._order] = np.arange(total)
        return self._through_lens(color), places

    def _place(self, chosen: slice) -> tuple[Values, Values]:
        """x and y of hits, world."""
        frame, distance = self._frame[chosen], self._distance[chosen]
        return tuple(self._eyes[i].take(frame) + self._ray[i][chosen] * distance for i in (0, 1))

    def _ground(self, chosen: slice) -> tuple[Channels, Values]:
        width = self._pixel[chosen] / np.maximum(np.sqrt(np.abs(self._ray[2][chosen])), np.float32(0.1))
        return ground_color(self._world.town, self._world.looks, *self._place(chosen), width)

    def _shine(self, base: list[Values], chosen: slice, facing: Values, lamp: Values, glow: Values) -> None:
        """Turns colours of surfaces into those under all lights, behind the haze."""
        if self._light.night:
            frame, (x, y) = self._frame[chosen], self._place(chosen)
            fronts = np.array([self._world.front(view.time) for view in self._views], np.float32).T
            front_x, front_y, cos, sin = (column.take(frame) for column in fronts)
            x, y = x - front_x, y - front_y
            lamp = lamp + np.float32(1.1) * headlights(cos * x + sin * y, cos * y - sin * x)
        for channel, fall, shine in zip(base, falling(self._light, facing, lamp), self._light.lamps, strict=True):
            channel *= fall
            if self._light.night:
                channel += np.float32(shine) * glow
        haze(self._light, self._distance[chosen], base)

    def _through_lens(self, color: list[Values]) -> list[Values]:
        """In 0..255, with the sun's glare."""
        glare = veil(self._light, *self._ray) if self._light.glare else np.float32(0)
        for channel, part in zip(color, (255.0, 0.95 * 255, 0.85 * 255), strict=True):
            channel *= np.float32(255)
            channel += glare * np.float32(part)
        return color


def _write(color: list[Float32[np.ndarray, "m"]], chosen: slice, values: Channels) -> None:
    for channel, own in zip(color, values, strict=True):
        channel[chosen] = own
