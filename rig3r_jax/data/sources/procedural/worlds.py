"""Random places to drive through: a winding road, buildings, cars, poles, trees and a sky, as plain numpy tables.

The world frame has z up and the ground at z = 0; the road passes the origin along +x. Lateral offsets are to the left.
"""

import dataclasses
import math

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

ROAD_HALF_WIDTH = 5.5  # metres: one lane to each side, then a parking strip
SIDEWALK_WIDTH = 2.5
LANE_CENTER = 1.75
ROAD_KNOTS = 48  # corners of the polyline that the renderer draws as the road
BUILDINGS, CARS, POLES, TREES = 46, 9, 12, 16
BOXES = BUILDINGS + 2 * CARS  # a car is a body and a cabin
_SPEED = (5.0, 10.0)  # metres per second
_SIDE_ACCELERATION = 4.0  # metres per second squared, not passed in bends
_UNUSED_Z = -1000.0  # unused primitives lie here, hidden by the ground
_BEHIND, _AHEAD = 45.0, 80.0  # metres of road that are lined with things, before the start and past the end
_CLEARANCE = ROAD_HALF_WIDTH + 0.7  # metres between the road's middle and any building


@dataclasses.dataclass(frozen=True)
class Road:
    """The middle of the road, every metre; straight before the first and after the last point."""

    distances: np.ndarray  # (n,) metres along the road, 0 at the origin
    points_world: np.ndarray  # (n, 2)
    headings: np.ndarray  # (n,) radians, anticlockwise from +x

    def at(
        self, distance: Float[np.ndarray, "*b"], lateral: Float[np.ndarray, "*b"]
    ) -> tuple[Float[np.ndarray, "*b 2"], Float[np.ndarray, "*b"]]:
        """Point (x, y) and heading of the road at a distance along it and an offset to its left."""
        heading = np.interp(distance, self.distances, self.headings)
        x, y = (np.interp(distance, self.distances, self.points_world[:, i]) for i in (0, 1))
        beyond = distance - np.clip(distance, self.distances[0], self.distances[-1])
        x = x + beyond * np.cos(heading) - lateral * np.sin(heading)
        y = y + beyond * np.sin(heading) + lateral * np.cos(heading)
        return np.stack([x, y], axis=-1), heading


@dataclasses.dataclass(frozen=True)
class Looks:
    """Colours and texture of things, one row each."""

    color: np.ndarray  # (n, 3) in 0..1
    accent: np.ndarray  # (n, 3)
    cell: np.ndarray  # (n, 2) metres, the grid of windows
    fill: np.ndarray  # (n, 2) share of a cell that is window
    seed: np.ndarray  # (n,) of the texture


@dataclasses.dataclass(frozen=True)
class Cars:
    """Vehicles that keep their lane. Speed 0 is parked, below 0 comes towards us."""

    start: np.ndarray  # (n,) metres along the road at time 0
    lateral: np.ndarray  # (n,) metres
    speed: np.ndarray  # (n,) metres per second
    half: np.ndarray  # (n, 3) metres, half of length, width and height
    used: np.ndarray  # (n,) bool


@dataclasses.dataclass(frozen=True)
class Light:
    """Sun, sky and the colours of the ground."""

    sun_direction: np.ndarray  # (3,) unit, towards the sun
    sun: np.ndarray  # (3,) colour times strength
    ambient: np.ndarray  # (3,)
    zenith: np.ndarray  # (3,)
    horizon: np.ndarray  # (3,)
    grounds: np.ndarray  # (4, 3): asphalt, sidewalk, and two kinds of soil
    crossings: np.ndarray  # (2,) metres along the road


@dataclasses.dataclass(frozen=True)
class World:
    """One place. Centres and half sizes in metres; boxes stand upright, turned about z by their yaw."""

    road: Road
    length: float  # metres that a drive may take
    speed: float  # metres per second, the mean of a drive
    side: float  # of the lane that we drive in: -1 right, +1 left
    buildings_center: np.ndarray  # (BUILDINGS, 3)
    buildings_half: np.ndarray  # (BUILDINGS, 3)
    buildings_yaw: np.ndarray  # (BUILDINGS,)
    cars: Cars
    poles_center: np.ndarray  # (POLES + TREES, 3); lamp posts, then tree trunks
    poles_half: np.ndarray  # (POLES + TREES, 3); radius, radius, half height
    crowns_center: np.ndarray  # (TREES, 3)
    crowns_half: np.ndarray  # (TREES, 3); radii
    looks: Looks  # of buildings, car bodies, car cabins, poles and trunks, crowns, in this order
    light: Light


def draw_road(rng: np.random.Generator, length: float) -> Road:
    """A road with a turn about every 60 m of `length`: gentle bends and sharp corners, to either side."""
    distances = np.arange(-160.0, length + 261.0)
    curvature = np.zeros_like(distances)
    sign = rng.choice([-1.0, 1.0])
    for center in np.arange(rng.uniform(0, 40), max(length, 41.0), 60.0):
        sharp = rng.uniform() < 0.4
        angle = math.radians(rng.uniform(45, 90) if sharp else rng.uniform(0, 40))
        extent = angle * rng.uniform(24, 36) if sharp else rng.uniform(30, 60)
        phase = np.clip((distances - center) / extent, -0.5, 0.5)
        curvature += sign * angle / extent * (1 + np.cos(2 * np.pi * phase))
        sign = -sign
    headings = np.cumsum(curvature)
    middle = headings - curvature / 2  # of the metre that ends here
    points = np.cumsum(np.stack([np.cos(middle), np.sin(middle)], axis=-1), axis=0)
    origin = int(np.searchsorted(distances, 0.0))
    turn = headings[origin]
    rotation = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])  # row vectors: by -turn
    return Road(distances, (points - points[origin]) @ rotation, headings - turn)


def road_knots(road: Road, length: float) -> tuple[Float[np.ndarray, "knots 2"], Float[np.ndarray, "knots"]]:
    """Polyline along the road, with its distances; the first and last pieces reach the horizon."""
    distances = np.linspace(-70.0, length + 110.0, ROAD_KNOTS)
    distances[0], distances[-1] = -500.0, length + 500.0
    return road.at(distances, np.zeros_like(distances))[0], distances


def _clear_of_road(road: Road, center: np.ndarray, half: np.ndarray, yaw: np.ndarray) -> np.ndarray:
    """Which upright boxes leave the road free, over its whole length."""
    offset = road.points_world[None, :, :] - center[:, None, :2]
    cos, sin = np.cos(yaw)[:, None], np.sin(yaw)[:, None]
    along, across = cos * offset[..., 0] + sin * offset[..., 1], cos * offset[..., 1] - sin * offset[..., 0]
    outside = np.hypot(np.maximum(abs(along) - half[:, :1], 0), np.maximum(abs(across) - half[:, 1:2], 0))
    return outside.min(axis=1) > _CLEARANCE


def _draw_buildings(rng: np.random.Generator, road: Road, length: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two rows of buildings on each side of the road and a few towers far off: center, half, yaw."""
    distance, lateral, half = [], [], []
    for side in (-1.0, 1.0):
        for count, setback, depth, height in ((14, (0.3, 5), (3, 6), (2, 7)), (7, (16, 32), (5, 9), (4, 15))):
            spacing = (_BEHIND + _AHEAD + length) / count
            distance.append(-_BEHIND + spacing * (np.arange(count) + rng.uniform(0.3, 0.7, count)))
            size = np.stack([spacing * rng.uniform(0.25, 0.52, count), rng.uniform(*depth, count)], axis=-1)
            half.append(np.concatenate([size, rng.uniform(*height, (count, 1))], axis=-1))
            gap = ROAD_HALF_WIDTH + SIDEWALK_WIDTH + rng.uniform(*setback, count)
            lateral.append(side * (gap + half[-1][:, 1]))
    towers = BUILDINGS - 42
    distance.append(rng.uniform(-110, length + 170, towers))
    lateral.append(rng.choice([-1.0, 1.0], towers) * rng.uniform(50, 120, towers))
    half.append(rng.uniform((6, 6, 10), (12, 12, 28), (towers, 3)))
    half_sizes = np.concatenate(half)
    points, heading = road.at(np.concatenate(distance), np.concatenate(lateral))
    yaw = heading + rng.normal(0, math.radians(4), BUILDINGS)
    half_sizes[:, 2] = np.where(rng.uniform(size=BUILDINGS) < 0.12, rng.uniform(0.5, 1.2, BUILDINGS), half_sizes[:, 2])
    center = np.concatenate([points, half_sizes[:, 2:]], axis=-1)
    center[~_clear_of_road(road, center, half_sizes, yaw), 2] = _UNUSED_Z
    return center, half_sizes, yaw


def _draw_cars(rng: np.random.Generator, side: float, length: float, own_speed: float) -> Cars:
    """Up to four moving cars (ahead, behind, two oncoming), the others parked at the kerb."""
    moving = 4
    half = rng.uniform((2.0, 0.82, 0.68), (2.4, 0.95, 0.85), (CARS, 3))
    half = half * np.where(rng.uniform(size=(CARS, 1)) < 0.15, (1.2, 1.08, 1.4), 1.0)  # vans
    start = rng.uniform(-25, length + 50, CARS)
    start[:moving] = rng.uniform(14, 28), rng.uniform(-24, -13), *rng.uniform(15, length + 60, 2)
    lateral = rng.choice([-1.0, 1.0], CARS) * rng.uniform(4.55, 4.7, CARS)
    lateral[:moving] = side * LANE_CENTER * np.array([1, 1, -1, -1])
    speed = np.zeros(CARS)
    speed[:moving] = own_speed * rng.uniform(1.0, 1.1), own_speed * rng.uniform(0.9, 1.0), *rng.uniform(-10, -4, 2)
    used = rng.uniform(size=CARS) < np.where(np.arange(CARS) < moving, 0.7, 0.9)
    return Cars(start, lateral, speed, half, used)


def _draw_poles_and_trees(rng: np.random.Generator, road: Road, length: float) -> tuple[np.ndarray, ...]:
    """Lamp posts and trees on the sidewalks: centers and half sizes of poles with trunks, then of crowns."""
    count = POLES + TREES
    places = -_BEHIND + (_BEHIND + _AHEAD + length) * (rng.permutation(count) + rng.uniform(size=count)) / count
    beside = ROAD_HALF_WIDTH + np.where(np.arange(count) < POLES, 0.5, rng.uniform(1.0, 2.3, count))
    points, _ = road.at(places, rng.choice([-1.0, 1.0], count) * beside)
    lamp = np.arange(count) < POLES
    radius = np.where(lamp, rng.uniform(0.07, 0.12, count), rng.uniform(0.12, 0.22, count))
    half_height = np.where(lamp, rng.uniform(2.5, 4, count), rng.uniform(1.5, 2.2, count))
    near_other_road = np.hypot(*(points[:, None] - road.points_world[None]).T).min(axis=0) < ROAD_HALF_WIDTH + 0.3
    center = np.concatenate([points, np.where(near_other_road, _UNUSED_Z, half_height)[:, None]], axis=-1)
    half = np.stack([radius, radius, half_height], axis=-1)
    crowns_half = rng.uniform((1.2, 1.2, 1.3), (2.1, 2.1, 2.4), (TREES, 3))
    crowns_center = center[POLES:] + np.stack([np.zeros(TREES), np.zeros(TREES), half_height[POLES:]], axis=-1)
    crowns_center[:, 2] += 0.8 * crowns_half[:, 2]
    return center, half, crowns_center, crowns_half


def _tint(rng: np.random.Generator, count: int, low: float, high: float, saturation: float) -> np.ndarray:
    """Random colours of a brightness in low..high."""
    return np.clip(rng.uniform(low, high, (count, 1)) * (1 + saturation * rng.uniform(-1, 1, (count, 3))), 0, 1)


def _draw_looks(rng: np.random.Generator) -> Looks:
    buildings, cars = _tint(rng, BUILDINGS, 0.3, 0.85, 0.3), _tint(rng, CARS, 0.08, 0.9, 0.6)
    posts, bark = _tint(rng, POLES, 0.25, 0.5, 0.1), (0.32, 0.24, 0.17) * _tint(rng, TREES, 0.7, 1.0, 0.0)
    leaves = (0.3, 0.46, 0.18) * _tint(rng, TREES, 0.6, 1.0, 0.3)
    color = np.concatenate([buildings, cars, cars, posts, bark, leaves])
    count = len(color)
    cell, fill = rng.uniform((2.0, 2.8), (4.2, 3.6), (count, 2)), rng.uniform((0.35, 0.35), (0.8, 0.65), (count, 2))
    fill[rng.uniform(size=count) < 0.12] = 0.0  # blind walls
    accent = _tint(rng, count, 0.15, 0.8, 0.5)
    return Looks(color, accent, cell, fill, rng.integers(0, 1 << 20, count).astype(np.float64))


def _draw_light(rng: np.random.Generator, length: float) -> Light:
    azimuth, elevation = rng.uniform(0, 2 * math.pi), math.radians(rng.uniform(15, 65))
    flat = math.cos(elevation)
    strength, warmth = rng.uniform(0.35, 0.8), rng.uniform(0.0, 0.2)
    gray = rng.uniform(0.0, 0.8)  # of the sky
    zenith = (1 - gray) * np.array([0.25, 0.45, 0.8]) + gray * np.array([0.6, 0.63, 0.68])
    horizon = rng.uniform(0.75, 0.95) * np.array([0.9, 0.95, 1.0])
    soils = np.array([[0.35, 0.45, 0.2], [0.5, 0.42, 0.3], [0.55, 0.55, 0.52], [0.25, 0.35, 0.15]])
    soils = soils[rng.permutation(4)[:2]] * rng.uniform(0.8, 1.2, (2, 3))
    grounds = np.concatenate([_tint(rng, 1, 0.22, 0.42, 0.05), _tint(rng, 1, 0.5, 0.72, 0.08), soils])
    return Light(
        sun_direction=np.array([flat * math.cos(azimuth), flat * math.sin(azimuth), math.sin(elevation)]),
        sun=strength * np.array([1, 1 - 0.4 * warmth, 1 - warmth]),
        ambient=rng.uniform(0.45, 0.62) * np.array([0.97, 1.0, 1.05]),
        zenith=zenith * rng.uniform(0.85, 1.1),
        horizon=horizon,
        grounds=grounds,
        crossings=rng.uniform(-30, length + 60, 2),
    )


def draw_world(rng: np.random.Generator, duration: float) -> World:
    """A random place for a drive of up to `duration` seconds that starts at the origin."""
    speed, side = rng.uniform(*_SPEED), float(rng.choice([-1.0, 1.0]))
    length = speed * duration
    road = draw_road(rng, length)
    on_the_way = (road.distances >= 0) & (road.distances <= length + 1)
    bend = np.abs(np.gradient(road.headings, road.distances))[on_the_way].max()
    speed = float(np.clip(math.sqrt(_SIDE_ACCELERATION / max(bend, 1e-6)), _SPEED[0], speed))
    return line_road(rng, road, length, speed, side)


def line_road(rng: np.random.Generator, road: Road, length: float, speed: float, side: float) -> World:
    """A road of `length` metres lined with things, and others that drive on it; see `World` of speed and side."""
    buildings = _draw_buildings(rng, road, length)
    cars = _draw_cars(rng, side, length, speed)
    poles = _draw_poles_and_trees(rng, road, length)
    looks, light = _draw_looks(rng), _draw_light(rng, length)
    return World(road, length, speed, side, *buildings, cars, *poles, looks, light)


def drive(rng: np.random.Generator, world: World, times: Float[np.ndarray, "steps"]) -> Float[np.ndarray, "steps 4 4"]:
    """world_from_vehicle along the lane at nearly constant speed, with a little sway and pitch."""
    pace, phase = rng.uniform(0.4, 0.8), rng.uniform(0, 2 * np.pi, 4)
    change = 0.07 * world.speed / pace  # metres by which the speed's slow change moves us
    distance = world.speed * times + change * (np.sin(pace * times + phase[0]) - np.sin(phase[0]))
    sway, wavelength = rng.uniform(0, 0.25), rng.uniform(30, 60)
    turn = 2 * np.pi * distance / wavelength + phase[1]
    points, heading = world.road.at(distance, world.side * LANE_CENTER + sway * np.sin(turn))
    heading = heading + np.arctan(sway * 2 * np.pi / wavelength * np.cos(turn))
    tilts = np.radians(0.5) * np.sin(3.1 * times[:, None] + phase[2:])  # pitch and roll of the suspension
    world_from_vehicle = np.tile(np.eye(4), (len(times), 1, 1))
    cos, sin, zero = np.cos(heading), np.sin(heading), np.zeros_like(heading)
    columns = np.stack([sin, -cos, zero, zero, zero, zero - 1, cos, sin, zero], axis=-1)
    level = columns.reshape(-1, 3, 3).swapaxes(1, 2)
    world_from_vehicle[:, :3, :3] = level @ Rotation.from_euler("XZ", tilts).as_matrix()
    world_from_vehicle[:, :2, 3] = points
    return world_from_vehicle


def car_boxes(
    world: World, times: Float[np.ndarray, "steps"]
) -> tuple[Float[np.ndarray, "steps cars 3"], Float[np.ndarray, "cars 3"], Float[np.ndarray, "steps cars"]]:
    """Center, half size and yaw of every car's body (the first half of the rows), then of every cabin."""
    cars = world.cars
    distance = cars.start + cars.speed * times[:, None]
    points, heading = world.road.at(distance, np.broadcast_to(cars.lateral, distance.shape))
    heading = heading + np.where(cars.lateral * world.side < 0, np.pi, 0.0)
    body = cars.half * (1.0, 1.0, 0.5)
    cabin = cars.half * (0.58, 0.9, 0.42)
    body_z, cabin_z = 0.2 + body[:, 2], 0.2 + 2 * body[:, 2] + cabin[:, 2]
    back = 0.12 * cars.half[:, 0]
    cabin_points = points - back[:, None] * np.stack([np.cos(heading), np.sin(heading)], axis=-1)
    z = np.where(np.tile(cars.used, 2), np.concatenate([body_z, cabin_z]), _UNUSED_Z)
    flat = np.concatenate([points, cabin_points], axis=1)
    center = np.concatenate([flat, np.broadcast_to(z[:, None], (*flat.shape[:2], 1))], axis=-1)
    return center, np.concatenate([body, cabin]), np.tile(heading, (1, 2))
