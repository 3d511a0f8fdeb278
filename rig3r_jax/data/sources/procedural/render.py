"""Ray caster: images and exact depths of a procedural world, compiled once whatever the rig and its lenses.

`depth` here counts in lengths of the ray (see `sight.Sight`). Arrays of a tile of rays are (f n): frames by pixels. All
nearest hits are found first; then one shading pass colours the winners.
"""

import typing
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float, Float16, UInt8

from rig3r_jax.data.sources.procedural import worlds
from rig3r_jax.data.sources.procedural.shading import BOXES, CROWNS, FAR, GROUND, POLES, SKY, Hits, shade
from rig3r_jax.data.sources.procedural.sight import PinholeRays, Rays, lit_pixels, rays_of_tile
from rig3r_jax.geometry.camera import Lens

FRAMES_PER_CALL = 8
_TILE = 4096  # pixels of each frame that are traced together, whatever the image's size: one compilation serves all
_NEAR = 0.05  # metres
_UNROLL = 4


@typing.no_type_check
@struct.dataclass
class Place:
    """What stands still in a world, and the sizes and looks of everything."""

    half: Float[Array, "p 3"]  # boxes, poles, crowns: half sizes or radii, metres
    poles: Float[Array, "poles 3"]  # centers, world
    crowns: Float[Array, "crowns 3"]
    looks: Float[Array, "p 11"]  # color, accent, cell, fill, seed
    knots: Float[Array, "knots 2"]  # of the road, world
    knot_distances: Float[Array, "knots"]
    light: dict[str, Array]  # the fields of worlds.Light


@typing.no_type_check
@struct.dataclass
class Shots:
    """The frames to render: cameras, and where the boxes are at that time."""

    center: Float[Array, "f 3"]  # of the camera, world
    rotation: Float[Array, "f 3 3"]  # world from camera
    boxes: Float[Array, "f boxes 3"]  # centers, world
    yaw: Float[Array, "f boxes"]


def _nearest_box(shots: Shots, place: Place, direction: tuple, depth: Array, index: Array) -> tuple[Array, Array]:
    """Slab test of every box in its own turned frame."""
    dx, dy, dz = direction
    inverse_z = 1 / jnp.where(jnp.abs(dz) < 1e-9, 1e-9, dz)
    cos, sin = jnp.cos(shots.yaw), jnp.sin(shots.yaw)
    offset = shots.center[:, None] - shots.boxes
    along = cos * offset[..., 0] + sin * offset[..., 1]
    across = cos * offset[..., 1] - sin * offset[..., 0]

    def visit(carry, box):
        depth, index = carry
        number, half, cos, sin, along, across, above = box
        lx, ly = cos * dx + sin * dy, cos * dy - sin * dx
        inverse_x = 1 / jnp.where(jnp.abs(lx) < 1e-9, 1e-9, lx)
        inverse_y = 1 / jnp.where(jnp.abs(ly) < 1e-9, 1e-9, ly)
        middle_x, middle_y, middle_z = -along * inverse_x, -across * inverse_y, -above * inverse_z
        reach_x, reach_y = half[0] * jnp.abs(inverse_x), half[1] * jnp.abs(inverse_y)
        reach_z = half[2] * jnp.abs(inverse_z)
        enter = jnp.maximum(jnp.maximum(middle_x - reach_x, middle_y - reach_y), middle_z - reach_z)
        leave = jnp.minimum(jnp.minimum(middle_x + reach_x, middle_y + reach_y), middle_z + reach_z)
        hit = (enter < leave) & (enter > _NEAR) & (enter < depth)
        return (jnp.where(hit, enter, depth), jnp.where(hit, number, index)), None

    by_box = [column.T[..., None] for column in (cos, sin, along, across, offset[..., 2])]
    items = (jnp.arange(BOXES.stop), place.half[: BOXES.stop], *by_box)
    return jax.lax.scan(visit, (depth, index), items, unroll=_UNROLL)[0]


def _nearest_pole(shots: Shots, place: Place, direction: tuple, depth: Array, index: Array) -> tuple[Array, Array]:
    """Upright cylinders without caps. The discriminant by the cross product keeps thin poles exact in float32."""
    dx, dy, dz = direction
    squared = jnp.maximum(dx * dx + dy * dy, 1e-12)
    inverse = 1 / squared
    offset = shots.center[:, None] - place.poles

    def visit(carry, pole):
        depth, index = carry
        number, half, ox, oy, above = pole
        cross = ox * dy - oy * dx
        discriminant = half[0] * half[0] * squared - cross * cross
        enter = -(ox * dx + oy * dy + jnp.sqrt(jnp.maximum(discriminant, 0))) * inverse
        hit = (discriminant > 0) & (enter > _NEAR) & (enter < depth) & (jnp.abs(above + enter * dz) < half[2])
        return (jnp.where(hit, enter, depth), jnp.where(hit, number, index)), None

    by_pole = [offset[..., i].T[..., None] for i in range(3)]
    items = (jnp.arange(POLES.start, POLES.stop), place.half[POLES.start : POLES.stop], *by_pole)
    return jax.lax.scan(visit, (depth, index), items, unroll=_UNROLL)[0]


def _nearest_crown(shots: Shots, place: Place, direction: tuple, depth: Array, index: Array) -> tuple[Array, Array]:
    """Ellipsoids, as unit spheres of a scaled space."""
    dx, dy, dz = direction
    offset = (shots.center[:, None] - place.crowns) / place.half[CROWNS.start : CROWNS.stop]

    def visit(carry, crown):
        depth, index = carry
        number, half, ox, oy, oz, beyond = crown
        sx, sy, sz = dx / half[0], dy / half[1], dz / half[2]
        squared = sx * sx + sy * sy + sz * sz
        toward = ox * sx + oy * sy + oz * sz
        discriminant = toward * toward - squared * beyond
        enter = -(toward + jnp.sqrt(jnp.maximum(discriminant, 0))) / squared
        hit = (discriminant > 0) & (enter > _NEAR) & (enter < depth)
        return (jnp.where(hit, enter, depth), jnp.where(hit, number, index)), None

    columns = (*jnp.moveaxis(offset, -1, 0), jnp.sum(offset * offset, axis=-1) - 1)
    by_crown = [column.T[..., None] for column in columns]
    items = (jnp.arange(CROWNS.start, CROWNS.stop), place.half[CROWNS.start : CROWNS.stop], *by_crown)
    return jax.lax.scan(visit, (depth, index), items, unroll=_UNROLL)[0]


def _road_coordinates(place: Place, x: Array, y: Array) -> tuple[Array, Array, Array, Array]:
    """Distance along the road's polyline, offset to its left, and the unit direction of the nearest piece."""
    start, end = place.knots[:-1], place.knots[1:]
    length = jnp.hypot(end[:, 0] - start[:, 0], end[:, 1] - start[:, 1])
    ahead = (end - start) / length[:, None]

    def visit(carry, piece):
        nearest, chosen = carry
        number, (x0, y0), (ax, ay), length = piece
        along, left = ax * (x - x0) + ay * (y - y0), ax * (y - y0) - ay * (x - x0)
        squared = (along - jnp.clip(along, 0, length)) ** 2 + left * left
        closer = squared < nearest
        return (jnp.where(closer, squared, nearest), jnp.where(closer, number, chosen)), None

    begin = (jnp.full_like(x, jnp.inf), jnp.zeros(x.shape, jnp.int32))
    items = (jnp.arange(len(length)), start, ahead, length)
    squared, chosen = jax.lax.scan(visit, begin, items, unroll=_UNROLL)[0]
    cos, sin, x0, y0 = ahead[chosen, 0], ahead[chosen, 1], start[chosen, 0], start[chosen, 1]
    distance = place.knot_distances[chosen] + jnp.clip(cos * (x - x0) + sin * (y - y0), 0, length[chosen])
    return distance, jnp.sign(cos * (y - y0) - sin * (x - x0)) * jnp.sqrt(squared), cos, sin


@jax.jit
def render_tile(
    shots: Shots, place: Place, rays: PinholeRays | Rays
) -> tuple[UInt8[Array, "f n"], UInt8[Array, "f n"], UInt8[Array, "f n"], Float16[Array, "f n"]]:
    """Red, green, blue and depth (metres along the ray, 0 at the sky) of as many pixels of every frame.

    The channels stay apart: XLA on CPU would shade anew for each of three interleaved ones, element by element.
    """
    (right, down, ahead), focal = rays.of_frames()
    rotation = shots.rotation[..., None]
    direction = tuple(
        rotation[:, i, 0] * right + rotation[:, i, 1] * down + rotation[:, i, 2] * ahead for i in range(3)
    )
    below = direction[2] < -1e-6
    depth = jnp.where(below, -shots.center[:, 2:] / jnp.where(below, direction[2], -1.0), jnp.inf)
    index = jnp.full(depth.shape, GROUND, jnp.int32)
    for nearest in (_nearest_box, _nearest_pole, _nearest_crown):
        depth, index = nearest(shots, place, direction, depth, index)
    index = jnp.where(depth < FAR, index, SKY)
    reach = jnp.minimum(depth, FAR)
    point = tuple(shots.center[:, i, None] + reach * direction[i] for i in range(3))
    stretch = jnp.sqrt(ahead * ahead + right * right + down * down)
    hits = Hits(
        index=index,
        point=point,
        ray=tuple(component / stretch for component in direction),
        distance=reach * stretch,
        pixel=reach / focal,
        road=_road_coordinates(place, point[0], point[1]),
    )
    colors = shade(hits, _surface_columns(shots, place), place.light)
    red, green, blue = (jnp.round(jnp.clip(channel, 0, 1) * 255).astype(jnp.uint8) for channel in colors)
    return red, green, blue, jnp.where(index == SKY, 0, depth * stretch).astype(jnp.float16)


def _surface_columns(shots: Shots, place: Place) -> dict[str, Array]:
    """Center, turn, half size and looks of every primitive, as columns (f p) or (p) to be looked up by index."""
    frames = shots.center.shape[0]
    fixed = jnp.concatenate([place.poles, place.crowns])
    center = jnp.concatenate([shots.boxes, jnp.broadcast_to(fixed, (frames, *fixed.shape))], axis=1)
    yaw = jnp.pad(shots.yaw, ((0, 0), (0, len(fixed))))
    columns = {name: center[..., i] for i, name in enumerate(("center_x", "center_y", "center_z"))}
    columns |= {name: place.half[:, i] for i, name in enumerate(("half_x", "half_y", "half_z"))}
    names = ("red", "green", "blue", "accent_red", "accent_green", "accent_blue")
    names += ("cell_p", "cell_q", "fill_p", "fill_q", "seed")
    columns |= {name: place.looks[:, i] for i, name in enumerate(names)}
    return columns | {"cos": jnp.cos(yaw), "sin": jnp.sin(yaw)}


def _float32(tree: typing.Any) -> typing.Any:
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), tree)


def place_of(world: worlds.World) -> Place:
    """The world's tables as the renderer wants them."""
    _, cars_half, _ = worlds.car_boxes(world, np.zeros(1))
    looks = world.looks
    knots, distances = worlds.road_knots(world.road, world.length)
    half = np.concatenate([world.buildings_half, cars_half, world.poles_half, world.crowns_half])
    table = np.concatenate([looks.color, looks.accent, looks.cell, looks.fill, looks.seed[:, None]], axis=-1)
    light = {field: getattr(world.light, field) for field in world.light.__dataclass_fields__}
    return _float32(Place(half, world.poles_center, world.crowns_center, table, knots, distances, light))


def render_frames(
    world: worlds.World,
    times: Float[np.ndarray, "frames"],
    world_from_camera: Float[np.ndarray, "frames 4 4"],
    lenses: Sequence[Lens],
    image_size: int,
) -> tuple[UInt8[np.ndarray, "frames h w 3"], Float16[np.ndarray, "frames h w"]]:
    """RGB images and depths of any number of frames, each with its lens, FRAMES_PER_CALL at a time.

    Black and of depth 0 where no light reaches the pixel.
    """
    cars, _, cars_yaw = worlds.car_boxes(world, times)
    still = np.broadcast_to(world.buildings_center, (len(times), *world.buildings_center.shape))
    still_yaw = np.broadcast_to(world.buildings_yaw, (len(times), len(world.buildings_yaw)))
    shots = _float32(
        Shots(
            world_from_camera[:, :3, 3],
            world_from_camera[:, :3, :3],
            np.concatenate([still, cars], axis=1),
            np.concatenate([still_yaw, cars_yaw], axis=1),
        )
    )
    place, count = place_of(world), image_size * image_size
    tiles = np.minimum(np.arange(-(-count // _TILE) * _TILE), count - 1).reshape(-1, _TILE)
    pending = []
    for start in range(0, len(times), FRAMES_PER_CALL):
        rows = np.minimum(np.arange(start, start + FRAMES_PER_CALL), len(times) - 1)  # the last call repeats a frame
        some = Shots(**{name: getattr(shots, name)[rows] for name in Shots.__dataclass_fields__})
        pending.append(
            [render_tile(some, place, rays_of_tile([lenses[row] for row in rows], image_size, tile)) for tile in tiles]
        )
    *channels, depths = (
        np.concatenate([np.concatenate([np.asarray(tile[i]) for tile in tiles], axis=1) for tiles in pending])
        for i in range(4)
    )
    shape = (len(times), image_size, image_size)
    images = np.stack(channels, axis=-1)[: len(times), :count].reshape(*shape, 3)
    depths = depths[: len(times), :count].reshape(shape)
    dark = ~np.stack([lit_pixels(lens, image_size) for lens in lenses])
    images[dark], depths[dark] = 0, 0
    return images, depths
