"""Vehicles and people, who may stand or move."""

import numpy as np

from rig3r_jax.data.sources.procedural.streets.primitives import CLOTH, GLASS, PAINT, PLAIN, SIGN, box, ellipsoid
from rig3r_jax.data.sources.procedural.streets.things import Thing, draw_seed, shifted, tint


def vehicle(rng: np.random.Generator, foot, yaw: float) -> Thing:
    """A car, a van or a truck, whose middle stands at `foot`."""
    paint, seed, kind = tint(rng, 0.08, 0.85, 0.7 if rng.uniform() < 0.3 else 0.12), draw_seed(rng), rng.uniform()
    rear = (0.7, 0.06, 0.05)
    looks = {"accent": rear, "seed": seed}
    if kind < 0.7:
        half, height = (rng.uniform(1.9, 2.35), rng.uniform(0.82, 0.94)), rng.uniform(0.72, 0.86)
        cabin = rng.uniform(0.5, 0.68)
        body = box(shifted(foot, yaw, 0.0, 0.0, 0.16), yaw, half, height, PAINT, paint, **looks)
        top = shifted(foot, yaw, rng.uniform(-0.5, -0.1), 0.0, 0.16 + height)
        lean = rng.uniform(0.5, 0.95), 0.22
        sides = (half[0] * rng.uniform(0.55, 0.75), half[1] - 0.05)
        return [body, box(top, yaw, sides, cabin, GLASS, paint, taper=lean, seed=seed)]
    half, height = (rng.uniform(2.3, 2.9), rng.uniform(0.95, 1.05)), rng.uniform(1.7, 2.1)
    if kind < 0.88:
        body = box(shifted(foot, yaw, -0.3, 0.0, 0.2), yaw, (half[0] - 0.3, half[1]), height, PAINT, paint, **looks)
        nose = box(
            shifted(foot, yaw, half[0] - 0.6, 0.0, 0.2),
            yaw,
            (0.7, half[1] - 0.02),
            height * 0.55,
            PAINT,
            paint,
            taper=(0.25, 0.0),
            **looks,
        )
        return [body, nose]
    long, cargo = rng.uniform(2.6, 3.6), rng.uniform(2.4, 3.0)
    body = box(
        shifted(foot, yaw, -0.9, 0.0, 0.7),
        yaw,
        (long - 0.9, 1.2),
        cargo,
        SIGN,
        tint(rng, 0.4, 0.85, 0.2),
        accent=tint(rng, 0.3, 0.9, 0.35),
        cell=(1.6, 1.1),
        seed=seed,
    )
    frame = box(shifted(foot, yaw, 0.0, 0.0, 0.2), yaw, (long, 1.0), 0.6, PAINT, (0.12, 0.12, 0.13), **looks)
    cab = box(
        shifted(foot, yaw, long - 0.75, 0.0, 0.5),
        yaw,
        (0.8, 1.15),
        cargo * 0.75,
        GLASS,
        paint,
        taper=(0.12, 0.05),
        seed=seed,
    )
    return [body, frame, cab]


def person(rng: np.random.Generator, foot) -> Thing:
    """Legs and a coat, a head."""
    tall, coat = rng.uniform(1.45, 1.75), tint(rng, 0.1, 0.8, 0.45)
    skin = tuple(np.array([0.75, 0.55, 0.43]) * rng.uniform(0.5, 1.1))
    body = ellipsoid(
        foot, rng.uniform(0.22, 0.3), 0.9 * tall, CLOTH, coat, accent=tint(rng, 0.08, 0.5, 0.5), seed=draw_seed(rng)
    )
    return [body, ellipsoid(shifted(foot, 0.0, 0.0, 0.0, 0.86 * tall), 0.115, 0.27, PLAIN, skin)]
