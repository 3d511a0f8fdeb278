"""A world of the second kind: a town, what stands and what moves in it, its light, and the vehicle that is driven.

`draw_world` draws one from a generator of random numbers: the map (`town`), a drive through it (`drives`, along
`paths`), what lines its streets (`furnish`, of `things` and `vehicles`), `traffic`, the ground's colours (`ground`) and
the `light`. Whatever stands or moves is made of `primitives`. `render` makes images of it.
"""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float

from rig3r_jax.data.sources.procedural.streets.casting import FAR
from rig3r_jax.data.sources.procedural.streets.drives import MANOEUVRES, Motion, draw_manoeuvre, draw_motion
from rig3r_jax.data.sources.procedural.streets.furnish import furnish
from rig3r_jax.data.sources.procedural.streets.ground import GroundLooks, draw_ground_looks
from rig3r_jax.data.sources.procedural.streets.light import Light, draw_light
from rig3r_jax.data.sources.procedural.streets.primitives import Table, concatenate
from rig3r_jax.data.sources.procedural.streets.town import Town, draw_town
from rig3r_jax.data.sources.procedural.streets.traffic import Traffic, draw_traffic

_WAY = 0.25  # seconds between points of the drive that things stay clear of


@dataclasses.dataclass(frozen=True)
class World:
    """Everything that a camera may see, at any time of the drive."""

    manoeuvre: str
    town: Town
    motion: Motion
    still: Table
    traffic: Traffic
    light: Light
    looks: GroundLooks

    def at(self, time: float, eye: Float[np.ndarray, "3"]) -> tuple[Table, Bool[np.ndarray, "p"]]:
        """All primitives that may be seen from a point, at one time, and which of them move."""
        moving = self.traffic.at(time, self.town)
        table = concatenate([self.still, moving])
        moves = np.arange(len(table)) >= len(self.still)
        away = np.hypot(*(table.foot - eye)[:, :2].T) - np.hypot(*table.half.T)
        near = away < FAR
        return table.rows(near), moves[near]

    def front(self, time: float) -> tuple[float, float, float, float]:
        """x, y of the vehicle's front on the ground, and cos, sin of its yaw; rounded, as all that is seen."""
        point, yaw = self.motion.track(time)
        cos, sin = round(float(np.cos(yaw)), 6), round(float(np.sin(yaw)), 6)
        return round(float(point[0]) + 1.8 * cos, 6), round(float(point[1]) + 1.8 * sin, 6), cos, sin


def draw_world(rng: np.random.Generator, seconds: float) -> World:
    """A random town, and a drive of at least `seconds` through it."""
    manoeuvre = draw_manoeuvre(rng)
    town = draw_town(rng, yard=MANOEUVRES[manoeuvre].in_yard)
    motion = draw_motion(rng, town, manoeuvre, seconds)
    times = np.arange(-_WAY, seconds + _WAY, _WAY)
    points, _ = motion.track(times)
    way = points[:, :2]
    looks = draw_ground_looks(rng)
    still = furnish(rng, town, way)
    traffic = draw_traffic(rng, town, motion, seconds)
    return World(manoeuvre, town, motion, still, traffic, draw_light(rng), looks)
