"""Patterns fixed on surfaces, filtered to the size of a pixel: noise from a table, bands, stripes, and random cells.

(p, q) are metres on a surface, `width` the metres that a pixel covers there. As in `casting`, only arithmetic that
every machine rounds alike.
"""

import functools

import numpy as np
from jaxtyping import Float32, Int, Int8

_SIDE = 256  # texels of the noise's period
_LEVELS = 9  # of which each next one has half as many
_OCTAVES = ((4, 0.3), (16, 0.3), (64, 0.25), (256, 0.15))  # cells of a period, and shares, of the noise

Values = Float32[np.ndarray, "n"]
Size = Values | np.float32 | float  # one for all, or one each
Channels = tuple[Size, ...]  # red, green and blue; or x, y and z


def clipped(values: Values) -> Values:
    """Within 0..1; numpy's own clip takes several times as long on some thousand numbers."""
    positive = np.maximum(values, np.float32(0))
    return np.minimum(positive, np.float32(1), out=positive)


def hashed(i: Int[np.ndarray, "n"], j: Int[np.ndarray, "n"], seed: Int[np.ndarray, "n"] | int) -> Values:
    """Numbers in [0, 1) of pairs of integers."""
    bits = i.astype(np.uint32) * np.uint32(0x8DA6B343) ^ j.astype(np.uint32) * np.uint32(0xD8163841)
    bits = (bits ^ np.asarray(seed).astype(np.uint32) * np.uint32(0xCB1AB31F)) * np.uint32(0x9E3779B1)
    bits = (bits ^ (bits >> np.uint32(15))) * np.uint32(0x85EBCA6B)
    bits ^= bits >> np.uint32(13)
    return (bits >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)


@functools.cache
def _noise_levels() -> Int8[np.ndarray, "texels"]:
    """The noise times 100, mean 0, and its means over 2, 4, .. texels; each level fills a square of full size."""
    noise = np.zeros((_SIDE, _SIDE), np.float32)
    for cells, share in _OCTAVES:
        grid = np.arange(cells)
        corners = hashed(np.repeat(grid, cells), np.tile(grid, cells), cells).reshape(cells, cells)
        place = np.arange(_SIDE, dtype=np.float32) * np.float32(cells / _SIDE)
        low, part = place.astype(np.int64), place - np.floor(place)
        part = part * part * (3 - 2 * part)
        high = (low + 1) % cells
        rows = corners[low] * (1 - part[:, None]) + corners[high] * part[:, None]
        noise += np.float32(share) * (rows[:, low] * (1 - part) + rows[:, high] * part)
    noise = (noise - np.float32(0.5)) * np.float32(3.2)
    levels = [noise]
    for _ in range(_LEVELS - 1):
        last = levels[-1]
        levels.append((last[::2, ::2] + last[1::2, ::2] + (last[::2, 1::2] + last[1::2, 1::2])) * np.float32(0.25))
    full = [np.repeat(np.repeat(level, _SIDE // len(level), 0), _SIDE // len(level), 1) for level in levels]
    return np.rint(np.clip(np.stack(full), -1.27, 1.27) * 100).astype(np.int8).ravel()


def noise(p: Values, q: Values, width: Values, texel: float, seed: Int[np.ndarray, "n"] | int) -> Values:
    """Rough noise of all scales from `texel` metres up to 256 times that, mean 0, about +-1."""
    scale, shift = np.float32(1 / texel), np.asarray(seed).astype(np.int32)
    texels = width * scale
    np.minimum(np.maximum(texels, np.float32(1), out=texels), np.float32(2 ** (_LEVELS - 1)), out=texels)
    flat = (texels.view(np.int32) >> 7) & 0xFF0000  # the exponent of 2, and 127
    flat -= 127 << 16
    flat |= (_texels(p, scale, shift * 57) << 8) & 0xFF00
    flat |= _texels(q, scale, shift * 101) & 0xFF
    return _noise_levels().take(flat) * np.float32(0.01)


def _texels(along: Values, scale: np.float32, shift: Int[np.ndarray, "n"] | np.int32) -> Int[np.ndarray, "n"]:
    place = along * scale
    number = np.floor(place, out=place).astype(np.int32)
    number += shift
    return number


def visible(width: Values, period: Size) -> Values:
    """How much of a pattern of this period survives pixels of this width: 1 to 0."""
    return clipped(np.float32(1.6) - width * (np.float32(2.2) / np.float32(period)))


def band(offset: Values, half: Size, width: Values) -> Values:
    """Share of a pixel centred at offset that lies within +-half."""
    half = np.float32(half)
    share = half - np.abs(offset)
    share /= width
    share += np.float32(0.5)
    np.minimum(np.maximum(share, np.float32(0), out=share), np.minimum(2 * half / width, np.float32(1)), out=share)
    return share


def stripes(offset: Values, period: Size, half: Size, width: Values) -> Values:
    """Bands about every multiple of `period`; their mean where they are too fine."""
    period, half = np.float32(period), np.float32(half)
    away = offset / period
    away = (away - np.rint(away)) * period
    mean = 2 * half / period
    share = band(away, half, width)
    share -= mean
    share *= visible(width, period)
    share += mean
    return share


def cells(p: Values, q: Values, size_p: Size, size_q: Size, width: Values, seed: Int[np.ndarray, "n"] | int) -> Values:
    """A random number in +-0.5 for each cell of a grid; 0 where cells are too fine."""
    size_p, size_q = np.float32(size_p), np.float32(size_q)
    i, j = np.floor(p / size_p).astype(np.int32), np.floor(q / size_q).astype(np.int32)
    return (hashed(i, j, seed) - np.float32(0.5)) * visible(width * np.float32(0.7), np.minimum(size_p, size_q))
