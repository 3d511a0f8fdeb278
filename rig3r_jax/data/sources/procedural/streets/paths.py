"""Smooth paths along waypoints, and how fast a vehicle takes them: limited in curves, accelerations and their change.

A path may change its gear: its vehicle then stops, and goes on backwards, its heading as it was.
"""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

_SPACING = 0.1  # metres between the points of a path
_TICK = 0.02  # seconds between the points of a ride
_SLOWEST = 0.15  # metres per second, below which a speed counts as a stop
_EASE = 0.5  # seconds over which accelerations change
_CHANGE = 0.8  # seconds to change gear, in which the vehicle stands


@dataclasses.dataclass(frozen=True)
class Path:
    """Points every 0.1 m of the way, forwards and backwards."""

    points: Float[np.ndarray, "n 2"]  # metres
    headings: Float[np.ndarray, "n"]  # radians, continuous, of the vehicle's front
    gear: Float[np.ndarray, "n"]  # 1 forwards, -1 backwards

    @functools.cached_property
    def distances(self) -> Float[np.ndarray, "n"]:
        """Metres driven, whatever the gear."""
        steps = np.hypot(*np.diff(self.points, axis=0).T)
        return np.concatenate([[0.0], np.cumsum(steps)])

    @property
    def curvature(self) -> Float[np.ndarray, "n"]:
        """Change of heading per metre driven, at most that of a turn on the spot."""
        along = self.distances
        return np.gradient(self.headings, along + 1e-3 * np.arange(len(along)))


def smooth_leg(waypoints: Float[np.ndarray, "k 2"], rounding: float) -> Float[np.ndarray, "n 2"]:
    """The polyline through waypoints as a B-spline of degree three whose corners are rounded over `rounding` metres."""
    steps = np.hypot(*np.diff(waypoints, axis=0).T)
    along = np.concatenate([[0.0], np.cumsum(steps)])
    count = max(int(along[-1] / _SPACING), 8)
    places = np.linspace(0, along[-1], count)
    points = np.stack([np.interp(places, along, waypoints[:, i]) for i in (0, 1)], axis=-1)
    width = max(int(rounding / 3 / _SPACING), 1)
    for _ in range(3):
        points = np.stack([_box(points[:, i], width) for i in (0, 1)], axis=-1)
    return points


def join_legs(legs: Sequence[tuple[Float[np.ndarray, "_ 2"], float]]) -> Path:
    """A path of legs (points, gear), each of which begins where the one before ends."""
    points, headings, gears = [], [], []
    for leg, gear in legs:
        steps = np.gradient(leg, axis=0)
        heading = np.unwrap(np.arctan2(gear * steps[:, 1], gear * steps[:, 0]))
        if headings:
            turns = np.round((heading[0] - headings[-1][-1]) / (2 * np.pi))
            heading = heading - turns * 2 * np.pi
        points.append(leg)
        headings.append(heading)
        gears.append(np.full(len(leg), gear))
    return Path(np.concatenate(points), np.concatenate(headings), np.concatenate(gears))


@dataclasses.dataclass(frozen=True)
class Pace:
    """How a driver takes a path: m/s, m/s^2, rad/s."""

    speed: float
    speeding_up: float = 2.2
    braking: float = 3.5
    sideways: float = 4.0
    turning: float = np.radians(30.0)
    stops: tuple[tuple[float, float], ...] = ()  # metres along the path, and seconds to wait there


def ride(path: Path, pace: Pace) -> tuple[Float[np.ndarray, "t"], Float[np.ndarray, "t"]]:
    """Times, every 0.02 s from 0, and the distances along a path at those times."""
    along = path.distances
    bend = np.abs(path.curvature) + 1e-6
    limit = np.minimum(np.minimum(pace.speed, np.sqrt(pace.sideways / bend)), pace.turning / bend)
    stops = [(float(along[i]), _CHANGE) for i in np.flatnonzero(np.diff(path.gear))] + list(pace.stops)
    for place, _ in stops:
        limit[np.argmin(np.abs(along - place))] = 0.0
    squared, step = limit**2, np.diff(along)
    for i in range(1, len(along)):
        squared[i] = min(squared[i], squared[i - 1] + 2 * pace.speeding_up * step[i - 1])
    for i in range(len(along) - 1, 0, -1):
        squared[i - 1] = min(squared[i - 1], squared[i] + 2 * pace.braking * step[i - 1])
    speed = np.maximum(np.sqrt(squared), _SLOWEST)
    arrival = np.concatenate([[0.0], np.cumsum(step / ((speed[1:] + speed[:-1]) / 2))])
    wait = np.zeros(len(along))
    for place, seconds in stops:
        wait[np.argmin(np.abs(along - place))] += seconds
    leave = np.cumsum(wait)
    knots = np.stack([arrival + leave - wait, arrival + leave], axis=-1).ravel()
    times = np.arange(0, knots[-1], _TICK)
    distance = np.interp(times, knots, np.repeat(along, 2))
    width = int(_EASE / _TICK)
    return times, _box(distance, width)


def _box(values: Float[np.ndarray, "n"], width: int) -> Float[np.ndarray, "n"]:
    """Means of `width` neighbours (an odd number), the ends kept by reflection through them."""
    half = min(width // 2, len(values) - 1)
    if half < 1:
        return values
    before = 2 * values[0] - values[half:0:-1]
    after = 2 * values[-1] - values[-2 : -half - 2 : -1]
    sums = np.cumsum(np.concatenate([[0.0], before, values, after]))
    return (sums[2 * half + 1 :] - sums[: -2 * half - 1]) / (2 * half + 1)
