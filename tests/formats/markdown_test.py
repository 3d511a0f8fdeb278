"""Markdown tables: cells come back as they went in, and numbers say how sure they are."""

import math
import re

import numpy as np
import pytest

from rig3r_jax.formats import markdown


def cells_of(line):
    cells = re.split(r"(?<!\\)\|", line)[1:-1]
    return [re.sub(r"\\([*|])", r"\1", cell.strip()) for cell in cells]


def test_cells_survive_the_markup():
    titles, rows = ["name", "kind", "|a| of b*"], [["x|y", "*", "1"], ["", "k", "-"]]
    lines = markdown.table(titles, rows, left=2).splitlines()
    assert [cells_of(line) for line in lines] == [titles, ["---", "---", "---:"], *rows]
    assert cells_of(markdown.table(["a", "b"], []).splitlines()[1]) == ["---", "---:"]
    with pytest.raises(AssertionError, match="2 cells under 3 titles"):
        markdown.table(titles, [["1", "2"]])


def test_numbers_have_a_dash_for_nothing():
    assert markdown.number(1 / 3) == "0.3333" and markdown.number(2.0, "+.1f") == "+2.0"
    assert markdown.number(math.nan) == markdown.number(np.float64("nan"), ".0f") == "-"


def test_spread_is_that_of_the_sample():
    values = [1.0, 2.0, 4.0]
    mean, spread = markdown.mean_and_spread(values, 3, factor=100.0).split(" ± ")
    assert float(mean) == pytest.approx(700 / 3, abs=1e-3)
    assert float(spread) == pytest.approx(100 * math.sqrt(sum((x - 7 / 3) ** 2 for x in values) / 2), abs=1e-3)
    assert markdown.mean_and_spread([1.5], 1) == "1.5"
    assert markdown.mean_and_spread([], 1) == markdown.mean_and_spread([1.0, math.nan], 1) == "-"
