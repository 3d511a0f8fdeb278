"""Vehicles and people that move, straight along the map and evenly, out of the driven vehicle's way."""

import dataclasses

import numpy as np
from jaxtyping import Float, Int

from rig3r_jax.data.sources.procedural.streets import vehicles
from rig3r_jax.data.sources.procedural.streets.drives import Motion
from rig3r_jax.data.sources.procedural.streets.primitives import Table, tabulate
from rig3r_jax.data.sources.procedural.streets.town import HALF_WIDTH, LANE, WALK, Town

_VEHICLES, _PEOPLE = 9, 12  # that are drawn; those in the way do not drive
_APART = {True: 4.6, False: 2.8}  # metres from the driven vehicle's middle that vehicles, and people, keep
_ORIGIN = (0.0, 0.0, 0.0)
_NEAR = 70.0  # metres from the drive's middle


@dataclasses.dataclass(frozen=True)
class Traffic:
    """Movers, and the primitives that they are made of."""

    start: Float[np.ndarray, "m 2"]  # of the map, at time 0
    velocity: Float[np.ndarray, "m 2"]  # of the map, metres per second
    parts: Table  # in their movers' own frames: x ahead, on the ground
    owner: Int[np.ndarray, "p"]  # the mover of each primitive

    def at(self, time: float, town: Town) -> Table:
        """All primitives at one time, world."""
        u, v = (self.start + self.velocity * time).T
        yaw = town.yaw(u, self.velocity)
        return self.parts.moved(town.to_world(u, v)[self.owner], yaw[self.owner])


def draw_traffic(rng: np.random.Generator, town: Town, motion: Motion, seconds: float) -> Traffic:
    """Vehicles in the lanes and people on the sidewalks of a town, or both all over a yard."""
    times = np.arange(0, seconds, 0.1)
    driven, _ = motion.track(times)
    middle = driven[len(times) // 2]
    starts, velocities, movers = [], [], []
    for number in range(_VEHICLES + _PEOPLE):
        is_vehicle = number < _VEHICLES
        middle_uv = np.array([middle[0], middle[1] - town.lateral(middle[0])])
        place, velocity = (_in_yard if town.yard else _on_street)(rng, town, middle_uv, is_vehicle)
        place = place - velocity * seconds / 2
        u, v = (place + times[:, None] * velocity).T
        apart = np.hypot(*(town.to_world(u, v) - driven)[:, :2].T)
        crowded = any(
            np.hypot(*(place - other + times[:, None] * (velocity - speed)).T).min() < 6.0
            for other, speed in zip(starts, velocities, strict=True)
        )
        if apart.min() > _APART[is_vehicle] and not (is_vehicle and crowded):
            starts.append(place)
            velocities.append(velocity)
            movers.append(vehicles.vehicle(rng, _ORIGIN, 0.0) if is_vehicle else vehicles.person(rng, _ORIGIN))
    parts = tabulate([part for mover in movers for part in mover])
    owner = np.repeat(np.arange(len(movers)), [len(mover) for mover in movers])
    return Traffic(np.array(starts).reshape(-1, 2), np.array(velocities).reshape(-1, 2), parts, owner)


def _on_street(
    rng: np.random.Generator, town: Town, middle: np.ndarray, is_vehicle: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Place at half time, and velocity, of the map: in a lane or on a sidewalk near `middle`."""
    axis, sign = int(rng.integers(2)), float(rng.choice([-1, 1]))
    block = town.block[1 - axis]
    place = middle + rng.uniform(-_NEAR, _NEAR, 2)
    street = np.rint((middle[1 - axis] + rng.uniform(-0.7, 0.7) * block) / block) * block
    side = sign if axis == 1 else -sign  # the right of the direction
    away = LANE if is_vehicle else HALF_WIDTH + rng.uniform(0.8, WALK - 0.3)
    place[1 - axis] = street + side * away
    velocity = np.zeros(2)
    velocity[axis] = sign * (rng.uniform(3, 11) if is_vehicle else rng.uniform(0.8, 1.7))
    return place, velocity


def _in_yard(
    rng: np.random.Generator, town: Town, middle: np.ndarray, is_vehicle: bool
) -> tuple[np.ndarray, np.ndarray]:
    """The same, anywhere in a yard, however far from `middle`."""
    place = rng.uniform(-0.9, 0.9, 2) * town.yard
    speed, turn = (rng.uniform(1.0, 4.0) if is_vehicle else rng.uniform(0.7, 1.6)), rng.uniform(0, 2 * np.pi)
    return place, speed * np.array([np.cos(turn), np.sin(turn)])
