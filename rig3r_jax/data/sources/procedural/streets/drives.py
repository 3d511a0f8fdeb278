"""How a vehicle moves through a town: manoeuvres of five kinds, from parking at a walk to a street at 20 m/s."""

import dataclasses
import math
import typing
from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

from rig3r_jax.data.sources.procedural.streets.paths import Pace, Path, join_legs, ride, smooth_leg
from rig3r_jax.data.sources.procedural.streets.town import LANE, Numbers, Town

_PITCH, _ROLL = math.radians(0.45), math.radians(0.6)  # of the body, per m/s^2 along and across
_MOST_TILT = math.radians(3.0)
_BUMP = math.radians(0.35)  # of the road's unevenness
_TICK = 0.05  # seconds, of differences that tell accelerations
_CANDIDATES = 8  # starts of a drive, of which the one in which it turns most is taken


@dataclasses.dataclass(frozen=True)
class Motion:
    """Where the vehicle is at any time: `start` seconds of its ride are its time 0."""

    town: Town
    path: Path  # x, y of the world
    times: Float[np.ndarray, "t"]
    distances: Float[np.ndarray, "t"]  # metres along the path
    start: float
    bumps: Float[np.ndarray, "4 2"]  # of pitch and roll: cycles per metre (two), phases

    def track(self, time: Numbers) -> tuple[Float[np.ndarray, "*b 3"], Numbers]:
        """Points of the ground under the vehicle's centre and yaws, world."""
        along = np.interp(time + self.start, self.times, self.distances)
        places = self.path.distances
        x, y, yaw = (np.interp(along, places, values) for values in (*self.path.points.T, self.path.headings))
        return np.stack([x, y, self.town.height(x, y)], axis=-1), yaw

    def world_from_vehicle(self, time: Numbers) -> Float[np.ndarray, "*b 4 4"]:
        """Poses of the vehicle's frame (x right, y down, z forward, on the ground): it lies on the ground's slope,
        dives as it brakes, leans out of curves, and shakes a little on the road."""
        time = np.asarray(time, np.float64)
        (before, _), (point, yaw), (after, _) = (self.track(time + shift) for shift in (-_TICK, 0.0, _TICK))
        acceleration = ((after - point) - (point - before)) / _TICK**2
        ahead, aside = np.stack([np.cos(yaw), np.sin(yaw)], -1), np.stack([-np.sin(yaw), np.cos(yaw)], -1)
        along = np.interp(time + self.start, self.times, self.distances)
        waves = np.sin(2 * np.pi * along[..., None, None] * self.bumps[:2] + self.bumps[2:]).sum(axis=-2)
        dive = _PITCH * np.sum(acceleration[..., :2] * ahead, axis=-1)
        lean = _ROLL * np.sum(acceleration[..., :2] * aside, axis=-1)
        rise = np.clip(dive, -_MOST_TILT, _MOST_TILT) + _BUMP * waves[..., 0]  # of the nose
        tilt = np.clip(lean, -_MOST_TILT, _MOST_TILT) + _BUMP * waves[..., 1]  # of the left side, up
        gradient = self.town.gradient(point[..., 0], point[..., 1])
        rise = rise + np.sum(gradient * ahead, axis=-1)
        tilt = tilt + np.sum(gradient * aside, axis=-1)
        forward = _unit(np.concatenate([ahead, rise[..., None]], axis=-1))
        left = np.concatenate([aside, tilt[..., None]], axis=-1)
        down = _unit(np.cross(left, forward))
        poses = np.zeros((*time.shape, 4, 4))
        poses[..., :3, 0], poses[..., :3, 1], poses[..., :3, 2] = np.cross(down, forward), down, forward
        poses[..., :3, 3], poses[..., 3, 3] = point, 1.0
        return poses


def _unit(vectors: Float[np.ndarray, "*b 3"]) -> Float[np.ndarray, "*b 3"]:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def _lane_walk(rng: np.random.Generator, town: Town, length: float, turning: float) -> Float[np.ndarray, "k 2"]:
    """Corners of a way along the lanes of a grid of streets, of `length` metres at least; at each junction it turns, to
    either side, with a chance of `turning`."""
    side = rng.choice([-1.0, 1.0])  # 1: the town drives on the right
    direction, junction = np.array([1, 0]), np.array([0, 0])

    def lane(along: Int[np.ndarray, "2"]) -> Float[np.ndarray, "2"]:
        """From a street's middle to the lane in which one drives `along` it."""
        return side * LANE * np.array([along[1], -along[0]])

    block = np.array(town.block)
    points = [junction * block - direction * block * rng.uniform(0.45, 0.9) + lane(direction)]
    driven = 0.0
    while driven < length:
        if rng.uniform() < turning:
            turned = rng.choice([-1, 1]) * np.array([-direction[1], direction[0]])
            points.append(junction * block + lane(direction) + lane(turned))
            direction = turned
        driven += float(np.abs(direction) @ block)
        junction = junction + direction
    points.append(junction * block + lane(direction))
    return np.array(points)


def _turns(rng: np.random.Generator, town: Town, seconds: float) -> tuple[Path, Pace]:
    """Around the corners of junctions; some vehicles wait there first."""
    pace = Pace(rng.uniform(4, 10), rng.uniform(1.8, 3), rng.uniform(2.5, 5), rng.uniform(3.0, 5.0))
    points = _lane_walk(rng, town, pace.speed * seconds, turning=0.95)
    path = join_legs([(town.to_world(*smooth_leg(points, rng.uniform(22, 32)).T)[:, :2], 1.0)])
    if rng.uniform() < 0.2:
        corner = path.distances[np.argmin(np.hypot(*(path.points - town.point(*points[1])[:2]).T))]
        pace = dataclasses.replace(pace, stops=((max(corner - rng.uniform(9, 13), 0.5), rng.uniform(0.6, 1.5)),))
    return path, pace


def _street(rng: np.random.Generator, town: Town, seconds: float) -> tuple[Path, Pace]:
    """Along a street, fast, with changes of lane, and hard braking now and then."""
    pace = Pace(rng.uniform(8, 20), 2.5, rng.uniform(3, 7), 5.0)
    points = _lane_walk(rng, town, pace.speed * seconds, turning=0.0)
    u, v = [points[0, 0]], [points[0, 1]]
    while u[-1] < points[-1, 0]:
        u.append(u[-1] + rng.uniform(14, 40))
        v.append(-v[-1] if rng.uniform() < 0.5 else v[-1])
    path = join_legs([(town.to_world(*smooth_leg(np.stack([u, v], axis=-1), 20.0).T)[:, :2], 1.0)])
    if rng.uniform() < 0.4:
        pace = dataclasses.replace(pace, stops=((path.distances[-1] * rng.uniform(0.3, 0.8), rng.uniform(0.6, 1.5)),))
    return path, pace


def _slalom(rng: np.random.Generator, town: Town, seconds: float) -> tuple[Path, Pace]:
    """Left and right around things that stand in the way."""
    pace = Pace(rng.uniform(4, 8), 2.5, 4.0, 5.5)
    count = max(int(pace.speed * seconds / 6.5), 4)
    swings = np.where(np.arange(count) % 2, 1.0, -1.0) * rng.uniform(2.2, 4.2, count)
    u = np.cumsum(rng.uniform(6.0, 9.0, count)) - 30.0
    return join_legs([(smooth_leg(np.stack([u, swings], axis=-1), 7.0), 1.0)]), pace


def _arc(rng: np.random.Generator, pose: np.ndarray, gear: float, turn: float, metres: float) -> np.ndarray:
    """Points of a leg that begins at a pose (u, v, heading) and turns by `turn` over `metres`, gently at both ends.

    `pose` becomes that of the leg's end.
    """
    share = np.linspace(0, 1, max(int(metres / 0.1), 8))
    heading = pose[2] + gear * turn * (3 * share**2 - 2 * share**3)
    steps = gear * metres / len(share) * np.stack([np.cos(heading), np.sin(heading)], axis=-1)
    points = pose[:2] + np.concatenate([np.zeros((1, 2)), np.cumsum(steps, axis=0)[:-1]])
    pose[:2], pose[2] = points[-1], heading[-1]
    return points


def _parking(rng: np.random.Generator, town: Town, seconds: float) -> tuple[Path, Pace]:
    """Into gaps and out of them, in several moves, forwards and backwards."""
    pace = Pace(rng.uniform(1.8, 3.5), 2.0, 2.5, 3.0)
    pose, legs, driven = np.array([0.0, 0.0, rng.uniform(-np.pi, np.pi)]), [], 0.0
    gear, side = rng.choice([-1.0, 1.0]), rng.choice([-1.0, 1.0])
    while driven < pace.speed * seconds or len(legs) < 2:
        turn, metres = side * rng.uniform(0.9, 1.9), rng.uniform(4, 7)
        legs.append((_arc(rng, pose, gear, turn, max(metres, 4.2 * abs(turn))), gear))
        driven += metres
        gear = -gear
        side = side if rng.uniform() < 0.35 else -side
        if abs(pose[:2]).max() > 12:
            side = side if rng.uniform() < 0.5 else -side
    return join_legs(legs), pace


def _yard(rng: np.random.Generator, town: Town, seconds: float) -> tuple[Path, Pace]:
    """Winding between the rows of a yard, all of whose turns are close to each other."""
    pace = Pace(rng.uniform(2.5, 6.0), 2.0, 3.0, 4.0)
    pose, points, driven = np.array([0.0, 0.0, rng.uniform(-np.pi, np.pi)]), [], 0.0
    side = rng.choice([-1.0, 1.0])
    while driven < pace.speed * seconds + 12:
        metres = rng.uniform(7, 14)
        home = np.arctan2(-pose[1], -pose[0])
        far = np.hypot(*pose[:2]) > 14
        turn = side * rng.uniform(0.9, 2.6)
        if far:  # back to the middle
            turn = (home - pose[2] + np.pi) % (2 * np.pi) - np.pi
        points.append(_arc(rng, pose, 1.0, turn, max(metres, 4.5 * abs(turn))))
        driven += metres
        side = -side if rng.uniform() < 0.5 else side
    return join_legs([(smooth_leg(np.concatenate(points), 3.0), 1.0)]), pace


class Manoeuvre(typing.NamedTuple):
    """What a town's vehicle may do."""

    in_yard: bool  # or on streets
    share: float  # of all drives
    draw: Callable[[np.random.Generator, Town, float], tuple[Path, Pace]]  # for a drive of that many seconds


MANOEUVRES = {
    "turns": Manoeuvre(False, 0.33, _turns),
    "street": Manoeuvre(False, 0.1, _street),
    "slalom": Manoeuvre(True, 0.07, _slalom),
    "parking": Manoeuvre(True, 0.2, _parking),
    "yard": Manoeuvre(True, 0.3, _yard),
}


def draw_manoeuvre(rng: np.random.Generator) -> str:
    """One of MANOEUVRES."""
    shares = np.array([manoeuvre.share for manoeuvre in MANOEUVRES.values()])
    return str(rng.choice(list(MANOEUVRES), p=shares / shares.sum()))


def draw_motion(rng: np.random.Generator, town: Town, manoeuvre: str, seconds: float) -> Motion:
    """A drive of at least `seconds` seconds, which begins anywhere in a longer one."""
    path, pace = MANOEUVRES[manoeuvre].draw(rng, town, seconds + 8.0)
    times, distances = ride(path, pace)
    latest = times[-1] - seconds - 2 * _TICK
    starts = rng.uniform(_TICK, max(latest, 2 * _TICK), _CANDIDATES)
    headings = path.headings[np.searchsorted(path.distances[:-1], distances)]
    turned = [np.abs(np.diff(headings[(times >= s) & (times <= s + seconds)])).sum() for s in starts]
    start = float(starts[np.argmax(turned)])
    bumps = np.concatenate([rng.uniform(0.05, 0.3, (2, 2)), rng.uniform(0, 2 * np.pi, (2, 2))])
    return Motion(town, path, times, distances, start, bumps)
