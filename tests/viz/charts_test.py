"""Charts: ticks, running means, and SVG that parses and keeps its drawing inside the frame."""

import json
import math
import re
import xml.etree.ElementTree as ElementTree

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from rig3r_jax.formats.html import format_number
from rig3r_jax.viz.charts import Series, dot_plot, line_chart, smooth
from rig3r_jax.viz.svg import log_ticks, nice_ticks


def _parse(markup):
    return ElementTree.fromstring(markup.replace("&nbsp;", " "))


@hypothesis.given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e6))
def test_nice_ticks_are_round_even_and_inside(low, span):
    hypothesis.assume(low + span > low and span > 1e-9 * abs(low))
    ticks = nice_ticks(low, low + span, 5)
    assert 2 <= len(ticks) <= 10
    margin = 1e-6 * span + 1e-9 * abs(low)
    assert low - margin <= ticks[0] and ticks[-1] <= low + span + margin
    steps = np.diff(ticks)
    np.testing.assert_allclose(steps, steps[0], rtol=1e-3, atol=1e-9 * abs(low))
    leading = steps[0] / 10 ** math.floor(math.log10(steps[0]) + 1e-3)
    assert min(abs(leading - round_step) for round_step in (1, 2, 5)) < 1e-2


@hypothesis.given(st.floats(1e-8, 1e8), st.floats(1.2, 1e8))
def test_log_ticks_lie_inside(low, ratio):
    ticks = log_ticks(low, low * ratio)
    assert len(ticks) <= 14 and ticks == sorted(ticks)
    assert all(low * 0.99 <= tick <= low * ratio * 1.01 for tick in ticks)


@pytest.mark.parametrize(
    "value, text",
    [(0, "0"), (None, "–"), (math.nan, "–"), (math.inf, "–"),
     (0.12346, "0.1235"), (-2.5, "−2.5"), (10400, "10\u202f400"),
     (2e-5, "2e−5"), (0.001, "0.001"), (1234.5678, "1\u202f235"), (np.float32(0.5), "0.5")],
)  # fmt: skip
def test_format_number(value, text):
    assert format_number(value) == text


def test_smooth_keeps_lines_straight_and_leaves_out_nan():
    line = np.arange(50.0) * 3 - 7
    np.testing.assert_allclose(smooth(line, 9), line)
    rng = np.random.default_rng(0)
    values = rng.normal(size=40)
    values[[3, 4, 20]] = np.nan
    expected = []
    for index in range(40):
        half = min(3, index, 39 - index)
        expected.append(np.nanmean(values[index - half : index + half + 1]))
    np.testing.assert_allclose(smooth(values, 7), expected)
    assert np.isnan(smooth(np.full(5, np.nan), 3)).all()


def _series(x, y):
    return Series("a", np.array(x, float), np.array(y, float))


def _coordinates(path):
    return np.array(re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", path), float)


@pytest.mark.parametrize("log_y", [False, True])
@pytest.mark.parametrize("count", [2, 59, 3000])
def test_lines_stay_inside_the_drawing(log_y, count):
    steps = np.arange(float(count))
    values = np.exp(-steps / count * 8) * 10
    figure = _parse(line_chart([Series("a", steps, values), Series("b", steps, values * 2)], title="t", log_y=log_y))
    drawing = figure.find("svg")
    _, _, width, height = map(float, drawing.get("viewBox").split())
    paths = [path for path in drawing.findall("path") if "line" in path.get("class")]
    assert len(paths) == (4 if count >= 60 else 2)
    for path in paths:
        points = _coordinates(path.get("d"))
        assert len(points) <= 500
        assert (points >= 0).all() and (points <= (width, height)).all()
        assert (np.diff(points[:, 0]) >= 0).all() and (np.diff(points[:, 1]) >= 0).all()  # falls
    data = json.loads(drawing.get("data-chart"))
    assert [one["n"] for one in data["series"]] == ["a", "b"] and data["x"] == [0.0, count - 1.0]


def test_spikes_survive_thinning():
    values = np.ones(20000)
    values[12345] = 50.0
    figure = line_chart([_series(range(20000), values)], title="t")
    assert 50.0 in json.loads(_parse(figure).find("svg").get("data-chart"))["series"][0]["y"]


def test_gaps_single_points_and_nothing_at_all():
    path = _parse(line_chart([_series(range(5), [1, 2, math.nan, 4, 5])], title="t")).find("svg/path").get("d")
    assert path.count("M") == 2 and path.count("L") == 2
    assert _parse(line_chart([_series([3], [2.0])], title="t")).find("svg/circle") is not None
    assert "No finite value" in line_chart([_series([1, 2], [math.nan, math.inf])], title="t")
    assert "No finite value" in line_chart([_series([1, 2], [0.0, -1.0])], title="t", log_y=True)
    with pytest.raises(ValueError, match="0 series"):
        line_chart([], title="t")


def test_dot_plot_places_dots_by_value():
    rows = [("none", False, {"same": 0.0, "other": 100.0}), ("blank <b>", True, {"same": 50.0, "other": math.nan})]
    figure = _parse(dot_plot(rows, title="t", x_label="percent"))
    dots = [dot for dot in figure.iter("circle")]
    assert [dot.get("class") for dot in dots] == ["dot s0", "dot s1", "dot s0 baseline"]
    first, last, middle = (float(dot.get("cx")) for dot in dots)
    assert first < last and abs(middle - (first + last) / 2) < 0.2
    assert "blank <b>" in [text.text for text in figure.iter("text")]
