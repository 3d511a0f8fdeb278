"""Tables in Markdown and the numbers in their cells."""

import math
from collections.abc import Iterable, Sequence

import numpy as np

DASH = "-"  # in a cell: nothing to measure


def table(titles: Sequence[str], rows: Iterable[Sequence[str]], *, left: int = 1) -> str:
    """A table whose first `left` columns are text, to the left, and whose others are numbers, to the right."""
    lines = [_line(titles), "|" + "---|" * left + "---:|" * (len(titles) - left)]
    for row in rows:
        assert len(row) == len(titles), f"{len(row)} cells under {len(titles)} titles: {row}"
        lines.append(_line(row))
    return "\n".join(lines)


def escape(text: str) -> str:
    """Text whose * and | are read as themselves."""
    return text.replace("*", "\\*").replace("|", "\\|")


def number(value: float | int, spec: str = ".4g") -> str:
    """A number in a format of Python's; a dash for NaN."""
    return DASH if math.isnan(value) else format(value, spec)


def mean_and_spread(values: Sequence[float], places: int, factor: float = 1.0) -> str:
    """`mean ± spread` of values times a factor; the spread is the standard deviation (ddof 1), left out of one value.

    A dash where there are none, or one is not finite.
    """
    if not values or not np.isfinite(values).all():
        return DASH
    spread = f" ± {factor * np.std(values, ddof=1):.{places}f}" if len(values) > 1 else ""
    return f"{factor * np.mean(values):.{places}f}{spread}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(map(escape, cells)) + " |"
