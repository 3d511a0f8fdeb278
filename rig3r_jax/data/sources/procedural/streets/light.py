"""Light of a world: sun, overcast sky, dusk or night with lamps and headlights; the sky itself, haze and glare."""

import dataclasses
import math
from collections.abc import Iterator

import numpy as np

from rig3r_jax.data.sources.procedural.streets.casting import FAR
from rig3r_jax.data.sources.procedural.streets.primitives import rounded
from rig3r_jax.data.sources.procedural.streets.textures import Channels, Values, clipped, noise

HOURS = {"sun": 0.45, "overcast": 0.2, "low sun": 0.15, "night": 0.2}  # what light there is, and how often
_REACH = 40.0  # metres that headlights reach


@dataclasses.dataclass(frozen=True)
class Light:
    """Colours are RGB in 0..1 or beyond; one direction for all."""

    night: bool
    sun_direction: tuple[float, float, float]  # unit, towards the sun
    sun: tuple[float, float, float]
    ambient: tuple[float, float, float]
    zenith: tuple[float, float, float]
    horizon: tuple[float, float, float]
    glare: float  # of the sun on the lens
    lamps: tuple[float, float, float]  # colour of street lamps and windows at night
    grain: float  # of the sensor
    clouds: int  # seed


def draw_light(rng: np.random.Generator) -> Light:
    """Any hour and weather."""
    hour = str(rng.choice(list(HOURS), p=list(HOURS.values())))
    low, high = {"sun": (25, 65), "overcast": (30, 60), "low sun": (6, 14), "night": (20, 40)}[hour]
    azimuth, elevation = rng.uniform(0, 2 * math.pi), math.radians(rng.uniform(low, high))
    strength = {"sun": rng.uniform(0.5, 0.75), "overcast": 0.06, "low sun": rng.uniform(0.6, 0.9), "night": 0.05}[hour]
    warmth = {"sun": 0.12, "overcast": 0.0, "low sun": 0.45, "night": -0.1}[hour]
    gray = rng.uniform(0.0, 0.4) if hour != "overcast" else rng.uniform(0.85, 1.0)
    blue, gray_sky = np.array([0.26, 0.46, 0.8]), np.array([0.62, 0.65, 0.7])
    day = {"sun": 1.0, "overcast": 0.95, "low sun": 0.75, "night": 0.05}[hour] * rng.uniform(0.85, 1.1)
    ambient = {"sun": 0.5, "overcast": 0.75, "low sun": 0.42, "night": 0.16}[hour] * rng.uniform(0.85, 1.15)
    horizon = day * np.array([0.88, 0.92, 0.97]) * (1 - warmth * np.array([-0.05, 0.25, 0.6]))
    flat = math.cos(elevation)
    return Light(
        night=hour == "night",
        sun_direction=_plain([flat * math.cos(azimuth), flat * math.sin(azimuth), math.sin(elevation)]),
        sun=_plain(strength * np.array([1.0, 1 - 0.4 * warmth, 1 - warmth])),
        ambient=_plain(ambient * np.array([0.96, 1.0, 1.06])),
        zenith=_plain(day * ((1 - gray) * blue + gray * gray_sky)),
        horizon=_plain(horizon),
        glare={"sun": 0.25, "overcast": 0.0, "low sun": 0.75, "night": 0.0}[hour] * rng.uniform(0.6, 1.2),
        lamps=_plain(np.array([1.0, 0.8, 0.5]) * rng.uniform(0.55, 0.9)),
        grain=0.035 if hour == "night" else 0.008,
        clouds=int(rng.integers(1 << 16)),
    )


def _plain(values) -> tuple[float, float, float]:
    """Three Python numbers, rounded, so that a machine's last digits change nothing."""
    return tuple(rounded(np.asarray(values, np.float64)).tolist())


def sky_color(light: Light, x: Values, y: Values, z: Values) -> Channels:
    """From the horizon's colour to the zenith's, with clouds, of unit directions."""
    up = clipped(z)
    share = np.sqrt(up)
    height = up + np.float32(0.15)
    blur = np.float32(0.02) / (height * height)
    cloud = clipped(3 * noise(x / height, y / height, blur, 0.02, light.clouds) - np.float32(0.2))
    cloud *= np.float32(0.05 if light.night else 0.7) * np.minimum(5 * up, 1)
    return tuple(
        sky + (np.float32(0.93) - sky) * cloud
        for sky in (np.float32(a) + np.float32(b - a) * share for a, b in zip(light.horizon, light.zenith, strict=True))
    )


def falling(light: Light, facing: Values, lamp: Values) -> Iterator[Values]:
    """Red, green and blue light on surfaces whose normal and the sun have the cosine `facing`, under lamps of that
    strength, which are lit at night."""
    lit = np.maximum(facing, 0)
    for ambient, sun, own in zip(light.ambient, light.sun, light.lamps, strict=True):
        falls = lit * np.float32(sun)
        falls += np.float32(ambient)
        if light.night:
            falls += np.float32(own) * lamp
        yield falls


def headlights(ahead: Values, aside: Values) -> Values:
    """Strength of a vehicle's own headlights at places on its road: metres ahead and aside of it."""
    reach = clipped(1 - ahead * np.float32(1 / _REACH)) * clipped(ahead - 1)
    beam = clipped(np.float32(1.2) - np.abs(aside) / (np.float32(1.5) + np.float32(0.5) * np.maximum(ahead, 0)))
    return reach * beam


def haze(light: Light, distance: Values, color: list[Values]) -> None:
    """Gives far things the horizon's colour."""
    share = distance * np.float32(1 / FAR)
    share *= share * share
    for channel, horizon in zip(color, light.horizon, strict=True):
        channel += (np.float32(horizon) - channel) * share


def veil(light: Light, x: Values, y: Values, z: Values) -> Values:
    """Brightness that the sun adds where rays go near it: its disc, and what the lens scatters."""
    sun_x, sun_y, sun_z = (np.float32(part) for part in light.sun_direction)
    off = 1 - (x * sun_x + y * sun_y + z * sun_z)
    scatter = 1 / (1 + np.float32(14) * off)
    return np.float32(light.glare) * (scatter * scatter + 4 / (1 + np.float32(2500) * off))
