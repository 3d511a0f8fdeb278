"""Ticks of axes and paths, shared by everything that is drawn."""

import math
from collections.abc import Sequence


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` multiples of 1, 2 or 5 times a power of ten that lie in [low, high]."""
    span = high - low
    if not (math.isfinite(span) and span > 0):
        return [low] if math.isfinite(low) else []
    rough = span / max(count, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    factor = next(
        factor for factor, until in ((1, 1.414), (2, 3.162), (5, 7.071), (10, 10.1)) if rough / power <= until
    )
    step = factor * power
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [float(f"{index * step:.12g}") for index in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Ticks of a logarithmic axis over [low, high], both positive: powers of ten; 2 and 5 too where few fit."""
    decades = math.log10(high / low)
    every = max(1, math.ceil(decades / 6))
    factors = (1, 2, 5) if decades < 2.5 else (1,)
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    ticks = [factor * 10.0**power for power in range(first, last + 1, every) for factor in factors]
    ticks = [tick for tick in ticks if low * 0.999 <= tick <= high * 1.001]
    return ticks if len(ticks) >= 2 else nice_ticks(low, high, 4)


def path_data(points: Sequence[tuple[float, float]]) -> str:
    """The `d` of an SVG path through the points; it breaks where a coordinate is NaN."""
    words, pen = [], "M"
    for x, y in points:
        if math.isnan(x) or math.isnan(y):
            pen = "M"
            continue
        words.append(f"{pen}{x:.1f} {y:.1f}")
        pen = "L"
    return "".join(words)
