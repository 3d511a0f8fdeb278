"""Charts as hand-written SVG: they take their colours from the page's CSS variables and scale with its width."""

import dataclasses
import json
import math
import typing
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Float

from rig3r_jax.formats.html import escape, format_number, tag
from rig3r_jax.viz.svg import log_ticks, nice_ticks, path_data

MAX_SERIES = 6  # as many colours as the page defines
_MAX_POINTS = 500  # drawn per line; more cannot be told apart
_SMOOTH_FROM = 60  # lines with fewer points are drawn as they are

Line = dict[str, typing.Any]  # a series as it is drawn: name, x, y, bold, last


@typing.no_type_check
@dataclasses.dataclass(frozen=True)
class Series:
    """One line: `y` over `x` in increasing order; NaN leaves a gap."""

    name: str
    x: Float[np.ndarray, "n"]
    y: Float[np.ndarray, "n"]


def line_chart(
    series: Sequence[Series],
    *,
    title: str,
    x_label: str = "step",
    y_label: str = "",
    log_y: bool = False,
    width: int = 490,
    height: int = 230,
) -> str:
    """A `<figure>` with up to six lines, a legend that names the last values, and a read-out under the pointer.

    Long series are drawn thin as logged and bold as a running mean. On a logarithmic axis values that are not positive
    leave gaps. ValueError for no series or more than `MAX_SERIES`.
    """
    if not 1 <= len(series) <= MAX_SERIES:
        raise ValueError(f"chart {title!r}: {len(series)} series, must be 1 to {MAX_SERIES}; split it into several")
    lines = [_prepare(one, log_y) for one in series]
    x_all = np.concatenate([line["x"] for line in lines])
    y_all = np.concatenate([line["y"] for line in lines])
    x_all, y_all = x_all[np.isfinite(x_all)], y_all[np.isfinite(y_all)]
    keys = [(f"s{index}", line["name"], format_number(line["last"], 3)) for index, line in enumerate(lines)]
    caption = figure_caption(title, keys)
    if not len(y_all) or not len(x_all):
        return tag("figure", caption + tag("p", "No finite value was logged.", class_="empty"), class_="chart")
    box = (46.0, 8.0, width - 10.0, height - 36.0)  # left, top, right, bottom of the plot
    x_range, y_range = _padded(x_all.min(), x_all.max(), False), _padded(y_all.min(), y_all.max(), log_y)
    y_range = y_range if log_y else _from_zero(*y_range)
    to_x = _axis(*x_range, box[0], box[2], False)
    to_y = _axis(*y_range, box[3], box[1], log_y)
    parts = [_grid(box, to_x, to_y, x_range, y_range, log_y, x_label, y_label)]
    for index, line in enumerate(lines):
        parts.append(_draw_line(index, line, to_x, to_y))
    described = "; ".join(f"{line['name']} ends at {format_number(line['last'])}" for line in lines)
    data = {
        "box": box,
        "x": x_range,
        "series": [{"n": line["name"], "x": _rounded(line["x"]), "y": _rounded(line["y"])} for line in lines],
    }
    parts.append(tag("line", class_="cursor", y1=box[1], y2=box[3]))
    drawing = tag(
        "svg",
        "".join(parts),
        viewBox=f"0 0 {width} {height}",
        role="img",
        aria_label=f"{title}: {described}",
        data_chart=json.dumps(data, separators=(",", ":")),
    )
    return tag("figure", caption + drawing + '<p class="readout" aria-hidden="true">&nbsp;</p>', class_="chart")


def dot_plot(
    rows: Sequence[tuple[str, bool, Mapping[str, float]]],
    *,
    title: str,
    x_label: str,
    width: int = 1000,
    top: float = 100.0,
) -> str:
    """A `<figure>` with one line per row and one dot per value, from 0 to `top`.

    Each row is (label, is a control, {series: value}); controls are drawn hollow. Values that are not finite stay out.
    """
    names = list(dict.fromkeys(name for _, _, values in rows for name in values))[:MAX_SERIES]
    left, right, step = 6.8 * min(44, max((len(label) for label, _, _ in rows), default=0)) + 20, width - 20.0, 25.0
    bottom = 8 + step * len(rows)
    to_x = _axis(0.0, top, left, right, False)
    parts, described = [], []
    for tick in nice_ticks(0.0, top, 5):
        parts.append(tag("line", class_="grid", x1=to_x(tick), x2=to_x(tick), y1=6, y2=bottom))
        parts.append(tag("text", format_number(tick), class_="tick", x=to_x(tick), y=bottom + 17, text_anchor="middle"))
    for index, (label, control, values) in enumerate(rows):
        y = 6 + step * (index + 0.5)
        finite = {name: values[name] for name in names if name in values and math.isfinite(values[name])}
        kind = " baseline" if control else ""
        text = escape(label if len(label) <= 44 else label[:43] + "…")
        parts.append(tag("text", text, class_="row" + kind, x=left - 12, y=y + 4, text_anchor="end"))
        parts.append(tag("line", class_="rail", x1=left, x2=right, y1=y, y2=y))
        if len(finite) > 1:
            ends = to_x(min(finite.values())), to_x(max(finite.values()))
            parts.append(tag("line", class_="span", x1=ends[0], x2=ends[1], y1=y, y2=y))
        for name, value in finite.items():
            tip = f"{label}, {name}: {format_number(value, 3)}"
            described.append(tip)
            colour = f"dot s{names.index(name)}{kind}"
            parts.append(tag("circle", tag("title", escape(tip)), class_=colour, cx=to_x(value), cy=y, r=5.5))
    middle = (left + right) / 2
    parts.append(tag("text", escape(x_label), class_="axis", x=middle, y=bottom + 36, text_anchor="middle"))
    caption = figure_caption(title, [(f"s{index}", name, "") for index, name in enumerate(names)])
    view, words = f"0 0 {width} {bottom + 42:.0f}", "; ".join(described)
    drawing = tag("svg", "".join(parts), viewBox=view, class_="fixed", role="img", aria_label=words)
    scroll = tag("div", drawing, class_="scroll", tabindex=0, role="group", aria_label=title)
    return tag("figure", caption + scroll, class_="chart wide")


def figure_caption(title: str, keys: Sequence[tuple[str, str, str]]) -> str:
    """Title and legend of a figure; each key is (colour class, name, value to show behind it)."""
    legend = ""
    for colour, name, value in keys:
        legend += tag(
            "span", tag("i", class_=colour) + escape(name) + (f" <b>{escape(value)}</b>" if value else ""), class_="key"
        )
    return tag("figcaption", tag("strong", escape(title)) + tag("span", legend, class_="legend"))


def smooth(values: Float[np.ndarray, "n"], window: int) -> Float[np.ndarray, "n"]:
    """Centred running mean over `window` values (odd), NaN left out; narrower at both ends, so that nothing shifts."""
    finite = np.isfinite(values)
    sums = np.concatenate([[0.0], np.cumsum(np.where(finite, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(finite)])
    index = np.arange(len(values))
    half = np.minimum(window // 2, np.minimum(index, len(values) - 1 - index))
    total, count = sums[index + half + 1] - sums[index - half], counts[index + half + 1] - counts[index - half]
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _prepare(series: Series, log_y: bool) -> Line:
    """Cleaned line: gaps as NaN, thinned, with its running mean and the value for the legend."""
    x, y = np.asarray(series.x, np.float64), np.asarray(series.y, np.float64)
    y = np.where(np.isfinite(y) & ((y > 0) | (not log_y)), y, np.nan)
    window = max(3, len(y) // 40) | 1
    bold = smooth(y, window) if len(y) >= _SMOOTH_FROM else None
    finite = np.flatnonzero(np.isfinite(y))
    last = np.nan if not len(finite) else float(np.mean(y[finite][-window:]) if bold is not None else y[finite[-1]])
    keep = np.arange(len(y))
    if len(y) > _MAX_POINTS:  # of every bucket the lowest and the highest, so that spikes stay
        buckets = np.array_split(keep, _MAX_POINTS // 2)
        filled = np.where(np.isnan(y), 0.0, y)
        lows, highs = (
            [part[filled[part].argmin()] for part in buckets],
            [part[filled[part].argmax()] for part in buckets],
        )
        keep = np.unique(lows + highs)
    return {"name": series.name, "x": x[keep], "y": y[keep], "bold": None if bold is None else bold[keep], "last": last}


def _padded(low: float, high: float, log: bool) -> tuple[float, float]:
    """The range of an axis, never of zero width."""
    low, high = float(low), float(high)
    if log:
        return (low / 1.5, high * 1.5) if high / low < 1.2 else (low, high)
    if high - low <= 1e-12 * max(abs(low), abs(high)):
        margin = 0.5 * abs(low) or 1.0
        return low - margin, high + margin
    return low, high


def _from_zero(low: float, high: float) -> tuple[float, float]:
    """The range, down to zero where that costs little room."""
    return (0.0, high) if 0 < low < 0.4 * high else (low, high)


def _axis(low: float, high: float, start: float, end: float, log: bool) -> Callable[[float], float]:
    """Function from a value to its position."""
    scale = math.log if log else float
    low, high = scale(low), scale(high)
    slope = (end - start) / (high - low)
    return lambda value: start + (scale(value) - low) * slope if math.isfinite(value) else math.nan


def _grid(
    box: tuple[float, float, float, float],
    to_x: Callable[[float], float],
    to_y: Callable[[float], float],
    x_range: tuple[float, float],
    y_range: tuple[float, float],
    log_y: bool,
    x_label: str,
    y_label: str,
) -> str:
    """Grid lines, ticks and names of the axes."""
    left, top, right, bottom = box
    parts = []
    for tick in log_ticks(*y_range) if log_y else nice_ticks(*y_range, 4):
        y = to_y(tick)
        parts.append(tag("line", class_="grid", x1=left, x2=right, y1=y, y2=y))
        parts.append(tag("text", format_number(tick, 3), class_="tick", x=left - 7, y=y + 3.5, text_anchor="end"))
    for tick in nice_ticks(*x_range, 5):
        parts.append(tag("text", format_number(tick), class_="tick", x=to_x(tick), y=bottom + 16, text_anchor="middle"))
    parts.append(tag("line", class_="base", x1=left, x2=right, y1=bottom, y2=bottom))
    parts.append(tag("text", escape(x_label), class_="axis", x=right, y=bottom + 32, text_anchor="end"))
    note = " · ".join(word for word in (y_label, "logarithmic" if log_y else "") if word)
    parts.append(tag("text", escape(note), class_="axis", x=left, y=bottom + 32))
    return "".join(parts)


def _draw_line(index: int, line: Line, to_x: Callable[[float], float], to_y: Callable[[float], float]) -> str:
    """Thin line as logged and bold running mean, or one bold line; single points become dots."""
    points = [(to_x(x), to_y(y)) for x, y in zip(line["x"], line["y"], strict=True)]
    if np.isfinite(line["y"]).sum() == 1:
        x, y = next(point for point in points if not math.isnan(point[1]))
        return tag("circle", class_=f"dot s{index}", cx=x, cy=y, r=4)
    if line["bold"] is None:
        return tag("path", class_=f"line s{index}", d=path_data(points))
    bold = [(to_x(x), to_y(y)) for x, y in zip(line["x"], line["bold"], strict=True)]
    raw = tag("path", class_=f"line raw s{index}", d=path_data(points))
    return raw + tag("path", class_=f"line s{index}", d=path_data(bold))


def _rounded(values: Float[np.ndarray, "n"]) -> list[float | None]:
    """Seven significant digits, None for NaN: what JSON can hold and a reader can use."""
    return [None if math.isnan(value) else float(f"{value:.7g}") for value in values]
