"""Colours of surfaces by their material, before light falls on them. One function a material."""

from collections.abc import Callable

import numpy as np

from rig3r_jax.data.sources.procedural.streets import primitives
from rig3r_jax.data.sources.procedural.streets.surface import Surface
from rig3r_jax.data.sources.procedural.streets.textures import (
    Channels,
    Values,
    band,
    cells,
    clipped,
    noise,
    stripes,
    visible,
)

_WHITE, _DARK = (0.86, 0.86, 0.83), (0.05, 0.05, 0.06)


def mix(a: Channels, b: Channels, share: Values) -> Channels:
    """a where the share is 0, b where it is 1."""
    mixed = []
    for x, y in zip(a, b, strict=True):
        step = np.asarray(y, np.float32) - x
        step *= share
        step += x
        mixed.append(step)
    return tuple(mixed)


def scaled(color: Channels, factor: Values) -> Channels:
    """Brighter or darker."""
    return tuple(channel * factor for channel in color)


def _grain(s: Surface, texel: float, strength: float) -> Values:
    return 1 + np.float32(strength) * noise(s.p, s.q, s.width * np.float32(0.7), texel, s.seed)


def _facade(s: Surface) -> tuple[Channels, Values]:
    """Plaster or brick with windows in frames, a ground floor, a cornice; each window of its own brightness."""
    window = stripes(s.p - s.cell[0] / 2, s.cell[0], s.cell[0] * np.float32(0.3), s.width_p)
    middle = s.cell[1] * np.float32(0.55)
    window *= stripes(s.q - middle, s.cell[1], s.cell[1] * np.float32(0.27), s.width_q)
    frame = stripes(s.p - s.cell[0] / 2, s.cell[0], s.cell[0] * np.float32(0.36), s.width_p)
    frame *= stripes(s.q - middle, s.cell[1], s.cell[1] * np.float32(0.33), s.width_q)
    frame *= 1 - s.some(1, of=3)
    bright = cells(s.p, s.q - middle + s.cell[1] / 2, s.cell[0], s.cell[1], s.width, s.seed)
    courses = stripes(s.q, 0.35, 0.04, s.width_q) * visible(s.width, 0.5) * s.some(1, of=2)
    wall = scaled(s.color, _grain(s, 0.04, 0.3) * (1 - np.float32(0.3) * courses))
    trim = np.maximum(band(s.q - s.height, 0.3, s.width_q), band(s.q, s.cell[1], s.width_q) * s.some(2, of=5))
    wall = mix(wall, s.accent, trim * np.float32(0.8))
    wall = mix(wall, (0.8, 0.79, 0.76), frame)
    glass = clipped(np.float32(0.25) + np.float32(0.5) * bright)
    color = mix(wall, (glass * np.float32(0.9), glass, glass * np.float32(1.1)), window)
    glow = window * (bright > np.float32(0.12))
    roof = scaled(s.accent, np.float32(0.6) * _grain(s, 0.1, 0.3))
    return mix(color, roof, s.upper), glow * (1 - s.upper)


def _tiles(s: Surface) -> tuple[Channels, Values | float]:
    rows = stripes(s.q, 0.4, 0.06, s.width_q) * np.float32(0.35)
    own = cells(s.p, s.q, 0.6, 0.4, s.width, s.seed) * np.float32(0.4)
    return scaled(s.color, _grain(s, 0.08, 0.3) + own - rows), 0.0


def _plain(s: Surface) -> tuple[Channels, Values | float]:
    return scaled(s.color, _grain(s, 0.03, 0.3)), 0.0


def _rock(s: Surface) -> tuple[Channels, Values | float]:
    """Far hills: woods and meadows."""
    woods = clipped(np.float32(0.5) + 2 * noise(s.p, s.q, s.width, 0.7, s.seed))
    return scaled(mix(s.color, s.accent, woods), _grain(s, 0.3, 0.4)), 0.0


def _paint(s: Surface) -> tuple[Channels, Values]:
    """A vehicle's body: wheels, lights at both ends (red behind), a dark sill, seams of doors."""
    side = 1 - s.upper
    end = s.end
    wheels = band(np.abs(s.p) - np.float32(0.6) * s.reach, 0.33, s.width_p) * band(s.q, 0.42, s.width_q) * (side - end)
    sill = band(s.q, 0.14, s.width_q) * side
    seam = (band(s.p, 0.025, s.width_p) + band(s.p - np.float32(0.95), 0.025, s.width_p)) * (side - end)
    lamp = band(np.abs(s.p) - np.float32(0.74) * s.reach, 0.16, s.width_p)
    lamp *= band(s.q - np.float32(0.62) * s.height, 0.1, s.width_q) * end
    plate = band(s.p, 0.26, s.width_p) * band(s.q - np.float32(0.35) * s.height, 0.06, s.width_q) * end
    color = scaled(s.color, _grain(s, 0.05, 0.08) * (1 - np.float32(0.5) * seam))
    color = mix(color, _DARK, np.maximum(np.maximum(wheels, sill), 0))
    color = mix(color, _WHITE, plate)
    return mix(color, s.accent, lamp), lamp


def _glass(s: Surface) -> tuple[Channels, Values | float]:
    """A cabin: panes between pillars, a painted roof."""
    panes = band(s.p, s.reach * np.float32(0.86), s.width_p) * band(
        s.q - s.height / 2, s.height * np.float32(0.4), s.width_q
    )
    panes *= 1 - band(s.p, 0.05, s.width_p) * (1 - s.end)
    panes *= 1 - s.upper
    sheen = np.float32(0.13) + np.float32(0.08) * noise(s.p, s.q, s.width_p, 0.05, s.seed)
    return mix(s.color, (sheen, sheen * np.float32(1.1), sheen * np.float32(1.3)), panes), 0.0


def _foliage(s: Surface) -> tuple[Channels, Values | float]:
    width = s.width * np.float32(0.7)
    clumps = noise(s.p, s.q, width, 0.05, s.seed)
    leaves = noise(s.q, s.p, width, 0.015, s.seed + 7)
    return scaled(s.color, np.maximum(1 + np.float32(0.75) * clumps + np.float32(0.4) * leaves, np.float32(0.15))), 0.0


def _fence(s: Surface) -> tuple[Channels, Values | float]:
    """Boards with gaps, or bricks: by the seed."""
    gaps = stripes(s.p, s.cell[0], s.cell[0] * np.float32(0.12), s.width_p)
    rails = stripes(s.q - s.height * np.float32(0.25), s.height * np.float32(0.5), 0.05, s.width_q)
    own = cells(s.p, s.q, s.cell[0], 4.0, s.width_p, s.seed)
    boards = scaled(s.color, _grain(s, 0.03, 0.3) + own * np.float32(0.5))
    return mix(mix(boards, s.accent, rails * np.float32(0.7)), _DARK, gaps * np.float32(0.85)), 0.0


def _sign(s: Surface) -> tuple[Channels, Values | float]:
    """A board with random blocks in two colours, and a border."""
    blocks = clipped(np.float32(0.5) + 3 * cells(s.p + 9, s.q, s.cell[0], s.cell[1], s.width, s.seed))
    border = 1 - band(s.p, s.reach * np.float32(0.88), s.width_p) * band(
        s.q - s.height / 2, s.height * np.float32(0.42), s.width_q
    )
    return mix(mix(s.color, s.accent, blocks), _WHITE, border), 0.0


def _glow(s: Surface) -> tuple[Channels, Values | float]:
    return s.color, 1.0


def _cloth(s: Surface) -> tuple[Channels, Values | float]:
    """Clothes of two colours, with folds."""
    lower = band(s.q, s.height * np.float32(0.45), s.width_q)
    return scaled(mix(s.color, s.accent, lower), _grain(s, 0.02, 0.35)), 0.0


COLORS: dict[int, Callable[[Surface], tuple[Channels, Values | float]]] = {  # colour, and how much it shines at night
    primitives.FACADE: _facade,
    primitives.TILES: _tiles,
    primitives.PLAIN: _plain,
    primitives.PAINT: _paint,
    primitives.GLASS: _glass,
    primitives.FOLIAGE: _foliage,
    primitives.FENCE: _fence,
    primitives.SIGN: _sign,
    primitives.GLOW: _glow,
    primitives.CLOTH: _cloth,
    primitives.ROCK: _rock,
}
assert set(COLORS) == set(range(len(primitives.MATERIALS)))
