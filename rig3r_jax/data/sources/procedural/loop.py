"""Drives that come back: a road that closes on itself, driven for more than a lap."""

import numpy as np
from scipy.interpolate import CubicSpline

from rig3r_jax.data.sources.procedural.scenes import Drive, rig_of
from rig3r_jax.data.sources.procedural.source import Procedural
from rig3r_jax.data.sources.procedural.worlds import Road, drive, line_road

_SPEED = 6.0  # metres per second
_BENDS = {2: 0.18, 3: 0.1, 5: 0.03}  # waves around the lap, of its radius: at most
_BEFORE, _BEHIND = 160, 261  # metres of road before the start and behind the end, as of other worlds
_STREAM = 7  # second word of the seed, apart from those of the source's splits and rigs


def loop_drive(source: Procedural, laps: float, index: int = 0) -> Drive:
    """`source.steps` time steps of one of its rigs on a closed road of which they are `laps` laps.

    ValueError for a lap that is shorter than 100 m: its bends would be too sharp for a vehicle.
    """
    rng = np.random.default_rng([source.seed, _STREAM, index])
    times = np.arange(source.steps) * source.interval
    length = _SPEED * float(times[-1])
    if length < 100 * laps:
        raise ValueError(f"{laps:g} laps in {length:.0f} m are shorter than 100 m each; take more time steps")
    world = line_road(rng, closed_road(rng, length / laps, length), length, _SPEED, float(rng.choice([-1.0, 1.0])))
    rig = rig_of(source, "train", index)
    return Drive(rig, world, times, drive(rng, world, times) @ rig.vehicle_from_rig)


def closed_road(rng: np.random.Generator, lap: float, length: float) -> Road:
    """A road that is in the same place every `lap` metres, as far as a drive of `length` metres sees."""
    angle = np.linspace(0, 2 * np.pi, 4096, endpoint=False)
    radius = 1.0 + sum(most * rng.uniform(0.3, 1) * np.cos(waves * angle + rng.uniform(0, 2 * np.pi))
                       for waves, most in _BENDS.items())  # fmt: skip
    around = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    around = np.concatenate([around, around[:1]])
    along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(around, axis=0), axis=1))])
    curve = CubicSpline(along * lap / along[-1], around * lap / along[-1], bc_type="periodic")
    distances = np.arange(-float(_BEFORE), length + _BEHIND)
    points, tangent = curve(distances % lap), curve(distances % lap, 1)
    headings = np.unwrap(np.arctan2(tangent[:, 1], tangent[:, 0]))
    turn = headings[_BEFORE]
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])  # row vectors: by -turn
    return Road(distances, (points - points[_BEFORE]) @ rotation, headings - turn)
