"""Things of a town that stand still, as lists of primitives: houses, trees, fences, kerbs, signs, lamps."""

import math

import numpy as np

from rig3r_jax.data.sources.procedural.streets.primitives import (
    FACADE,
    FENCE,
    FOLIAGE,
    GLOW,
    PLAIN,
    SIGN,
    TILES,
    Primitive,
    box,
    cylinder,
    ellipsoid,
    spire,
)

Thing = list[Primitive]
Place = tuple[float, float, float]
_BURIED = 0.4  # metres by which what is long reaches into the ground, which slopes


def tint(rng: np.random.Generator, low: float, high: float, saturation: float) -> tuple[float, float, float]:
    """A random colour of a brightness in low..high."""
    brightness = rng.uniform(low, high)
    return tuple(min(max(brightness * (1 + saturation * part), 0.02), 0.95) for part in rng.uniform(-1, 1, 3).tolist())


def draw_seed(rng: np.random.Generator) -> int:
    return int(rng.integers(1, 1 << 14))


def shifted(foot: Place, yaw: float, along: float, across: float, up: float = 0.0) -> tuple[float, float, float]:
    """A place beside one: metres along its yaw, to its left and up."""
    cos, sin = math.cos(yaw), math.sin(yaw)
    return foot[0] + cos * along - sin * across, foot[1] + sin * along + cos * across, foot[2] + up


def house(rng: np.random.Generator, foot, yaw: float, half, height: float) -> Thing:
    """Walls with windows; a gable, a hip or a flat roof, a chimney, a porch or steps before the door."""
    cell = (rng.uniform(2.0, 3.4), rng.uniform(2.7, 3.3))
    looks = {"accent": tint(rng, 0.25, 0.75, 0.4), "cell": cell, "seed": draw_seed(rng)}
    wall = tint(rng, 0.35, 0.85, 0.16)
    base = shifted(foot, yaw, 0.0, 0.0, -_BURIED)
    parts = [box(base, yaw, half, height + _BURIED, FACADE, wall, **looks)]
    top = shifted(foot, yaw, 0.0, 0.0, height)
    tiles = (
        tuple(np.array([0.45, 0.24, 0.17]) * rng.uniform(0.6, 1.3)) if rng.uniform() < 0.6 else tint(rng, 0.2, 0.4, 0.1)
    )
    eaves = (half[0] + 0.35, half[1] + 0.45)
    if height < 12 and rng.uniform() < 0.75:
        rise = eaves[1] * rng.uniform(0.5, 0.95)
        taper = (eaves[0] * 0.5 / rise if rng.uniform() < 0.35 else 0.0, eaves[1] / rise)
        parts.append(box(top, yaw, eaves, rise, TILES, tiles, taper=taper, seed=draw_seed(rng)))
        place = shifted(top, yaw, rng.uniform(-0.6, 0.6) * half[0], rng.uniform(0.2, 0.5) * half[1])
        parts.append(box(place, yaw, (0.35, 0.35), rise + 0.6, FENCE, (0.5, 0.3, 0.24), cell=(0.3, 1.0)))
    else:
        place = shifted(top, yaw, rng.uniform(-0.4, 0.4) * half[0], rng.uniform(-0.4, 0.4) * half[1])
        parts.append(
            box(
                place,
                yaw,
                (rng.uniform(1, 2.2), rng.uniform(1, 2)),
                rng.uniform(1, 2.4),
                PLAIN,
                tint(rng, 0.3, 0.6, 0.1),
            )
        )
    if rng.uniform() < 0.5:
        front = shifted(foot, yaw, rng.uniform(-0.7, 0.7) * half[0], half[1] + 0.8, -_BURIED)
        parts.append(
            box(
                front,
                yaw,
                (rng.uniform(1, 1.8), 0.9),
                _BURIED + rng.choice([0.35, 2.6]),
                PLAIN,
                tint(rng, 0.3, 0.8, 0.2),
                seed=draw_seed(rng),
            )
        )
    return parts


def tree(rng: np.random.Generator, foot) -> Thing:
    """A broad crown of two or three parts, or a narrow one; or a bush."""
    leaf = np.array([0.27, 0.42, 0.15]) * rng.uniform(0.6, 1.25) * (1 + 0.25 * rng.uniform(-1, 1, 3))
    bark = tuple(np.array([0.33, 0.26, 0.2]) * rng.uniform(0.7, 1.2))
    kind, seed = rng.uniform(), draw_seed(rng)
    if kind < 0.2:
        size = rng.uniform(0.5, 1.1)
        return [ellipsoid(shifted(foot, 0.0, 0.0, 0.0, -0.3 * size), size, 1.8 * size, FOLIAGE, tuple(leaf), seed=seed)]
    if kind < 0.4:
        trunk, height = rng.uniform(0.6, 1.3), rng.uniform(4, 8)
        crown = spire(
            shifted(foot, 0.0, 0.0, 0.0, trunk), rng.uniform(0.9, 1.7), height, FOLIAGE, tuple(0.8 * leaf), seed=seed
        )
        return [cylinder(shifted(foot, 0.0, 0.0, 0.0, -0.2), 0.14, trunk + 0.4, PLAIN, bark), crown]
    trunk, size = rng.uniform(1.9, 3.0), rng.uniform(1.3, 2.3)
    parts = [cylinder(shifted(foot, 0.0, 0.0, 0.0, -0.2), rng.uniform(0.12, 0.24), trunk + 1.2, PLAIN, bark, seed=seed)]
    for number in range(int(rng.integers(1, 4))):
        off = (0.0, 0.0) if number == 0 else rng.uniform(-0.6, 0.6, 2) * size
        lift = trunk + (0.0 if number == 0 else rng.uniform(0.2, 0.9) * size)
        own = size * (1.0 if number == 0 else rng.uniform(0.6, 0.85))
        parts.append(
            ellipsoid(
                shifted(foot, 0.0, *off, lift),
                own,
                1.9 * own,
                FOLIAGE,
                tuple(leaf * rng.uniform(0.85, 1.15)),
                seed=seed + number,
            )
        )
    return parts


def fence(rng: np.random.Generator, foot, yaw: float, half_length: float) -> Thing:
    """Boards or a wall, or a hedge."""
    height, kind = rng.uniform(0.8, 1.9), rng.uniform()
    base = shifted(foot, yaw, 0.0, 0.0, -_BURIED)
    if kind < 0.35:
        leaf = tuple(np.array([0.2, 0.34, 0.13]) * rng.uniform(0.7, 1.2))
        return [
            box(base, yaw, (half_length, 0.4), height + _BURIED, FOLIAGE, leaf, taper=(0.1, 0.1), seed=draw_seed(rng))
        ]
    looks = {"cell": (rng.uniform(0.14, 0.5), 1.0), "accent": tint(rng, 0.2, 0.7, 0.3), "seed": draw_seed(rng)}
    return [box(base, yaw, (half_length, 0.08), height + _BURIED, FENCE, tint(rng, 0.25, 0.8, 0.35), **looks)]


def kerb(rng: np.random.Generator, foot, yaw: float, half_length: float) -> Thing:
    """A row of kerb stones, 12 cm high."""
    base = shifted(foot, yaw, 0.0, 0.0, -0.2)
    return [
        box(
            base,
            yaw,
            (half_length, 0.12),
            0.32,
            FENCE,
            tint(rng, 0.5, 0.66, 0.04),
            cell=(1.0, 1.0),
            accent=(0.6, 0.6, 0.6),
            seed=draw_seed(rng),
        )
    ]


def sign(rng: np.random.Generator, foot, yaw: float) -> Thing:
    """A board on a post, a traffic light, or a large hoarding."""
    kind = rng.uniform()
    grey = tint(rng, 0.3, 0.5, 0.05)
    if kind < 0.6:
        size = rng.uniform(0.3, 0.5)
        board = box(
            shifted(foot, yaw, 0.0, 0.0, 2.0),
            yaw,
            (size, 0.03),
            2 * size,
            SIGN,
            tint(rng, 0.2, 0.9, 0.9),
            accent=tint(rng, 0.2, 0.9, 0.9),
            cell=(0.25, 0.25),
            seed=draw_seed(rng),
        )
        return [cylinder(foot, 0.04, 2.1, PLAIN, grey), board]
    if kind < 0.8:
        lights = box(
            shifted(foot, yaw, 0.0, 0.0, 2.4),
            yaw,
            (0.16, 0.16),
            0.85,
            SIGN,
            (0.06, 0.06, 0.07),
            accent=(0.7, 0.25, 0.1),
            cell=(0.3, 0.28),
            seed=draw_seed(rng),
        )
        return [cylinder(foot, 0.06, 2.5, PLAIN, grey), lights]
    half = (rng.uniform(1.2, 2.6), 0.12)
    board = box(
        shifted(foot, yaw, 0.0, 0.0, 1.0),
        yaw,
        half,
        rng.uniform(1.4, 2.6),
        SIGN,
        tint(rng, 0.2, 0.9, 0.7),
        accent=tint(rng, 0.2, 0.9, 0.7),
        cell=(rng.uniform(0.4, 0.9), rng.uniform(0.4, 0.8)),
        seed=draw_seed(rng),
    )
    posts = [cylinder(shifted(foot, yaw, side * half[0] * 0.7, 0.0), 0.07, 1.1, PLAIN, grey) for side in (-1, 1)]
    return [board, *posts]


def lamp(rng: np.random.Generator, foot, yaw: float) -> Thing:
    """A post with an arm over the street, to its left."""
    height, grey = rng.uniform(4.5, 6.5), tint(rng, 0.25, 0.5, 0.05)
    head = shifted(foot, yaw, 0.0, 0.9, height - 0.12)
    return [
        cylinder(shifted(foot, 0.0, 0.0, 0.0, -0.2), 0.08, height + 0.2, PLAIN, grey),
        box(shifted(foot, yaw, 0.0, 0.5, height - 0.04), yaw, (0.05, 0.6), 0.08, PLAIN, grey),
        box(head, yaw, (0.16, 0.35), 0.12, GLOW, (0.75, 0.74, 0.7)),
    ]


def small(rng: np.random.Generator, foot, yaw: float) -> Thing:
    """What stands about: a bin, a box, a bollard, a cone, a hydrant, a pallet of crates."""
    kind, color = rng.integers(0, 4), tint(rng, 0.15, 0.8, 0.7)
    if kind == 0:
        return [
            box(
                foot,
                yaw,
                (0.3, 0.35),
                1.05,
                SIGN,
                color,
                accent=tint(rng, 0.1, 0.5, 0.3),
                cell=(0.3, 0.35),
                seed=draw_seed(rng),
            )
        ]
    if kind == 1:
        return [cylinder(foot, 0.09, 0.95, PLAIN, color)]
    if kind == 2:
        return [spire(foot, 0.24, 0.8, PLAIN, (0.9, 0.35, 0.1))]
    return [
        box(
            foot,
            yaw,
            rng.uniform(0.4, 1.1, 2),
            rng.uniform(0.4, 1.3),
            FENCE,
            color,
            cell=(0.2, 1.0),
            accent=tint(rng, 0.3, 0.7, 0.3),
            seed=draw_seed(rng),
        )
    ]
