"""The scores of systems as HTML: tables by group, a plot of the parts of the pairs, and every scene by itself."""

import math

from rig3r_jax.evaluation.systems.catalog import DOWN, UP, Score
from rig3r_jax.evaluation.systems.pairs import ACROSS, SAME_CAMERA, SAME_STEP
from rig3r_jax.evaluation.systems.summary import Evaluation
from rig3r_jax.evaluation.systems.tables import columns_of, glance, text_rows
from rig3r_jax.formats.html import DASH, escape, tag
from rig3r_jax.viz.charts import dot_plot
from rig3r_jax.viz.systems.scenes import RANKED_BY

_MOST_SCENES = 200  # rows of the table of scenes
_SHADE = 45  # percent of colour in the cell of a rate of 100


def glance_table(evaluation: Evaluation) -> str:
    """The scores that most ask for, a row per system."""
    titles, rows = glance(evaluation)
    body = [
        tag("tr", tag("th", escape(name), scope="row") + "".join(_cell(text, False) for text in cells))
        for name, *cells in rows
    ]
    return _table(titles, body, "at a glance")


def group_tables(evaluation: Evaluation) -> str:
    """A table per group, closed; intervals are in small below their number, the best system is bold."""
    parts = []
    for group, rows in text_rows(evaluation).items():
        body = []
        for row in rows:
            best = _best(evaluation, row.score)
            cells = [_cell(text, column in best) for column, text in enumerate(row.cells)]
            body.append(tag("tr", tag("th", escape(row.title), scope="row") + "".join(cells)))
        heading = tag("summary", escape(group[0].upper() + group[1:]))
        parts.append(tag("details", heading + _table(["", *columns_of(evaluation)], body, group)))
    return "".join(parts)


def parts_plot(evaluation: Evaluation) -> str:
    """Dots of mAA30 of all pairs and of their parts, a row per system; "" where no system has it."""
    names = {"": "all pairs", **{f"{part}/": part for part in (SAME_CAMERA, SAME_STEP, ACROSS)}}
    rows = []
    for system in evaluation.systems:
        values = {words: system.numbers[f"{part}{RANKED_BY}"].value for part, words in names.items()}
        values = {words: value for words, value in values.items() if not math.isnan(value)}
        if values:
            rows.append((system.name, False, values))
    return dot_plot(rows, title="Systems at a glance", x_label="mAA30, percent: higher is better") if rows else ""


def scenes_table(evaluation: Evaluation) -> str:
    """mAA30 of each scene under each system, the worst scenes of the first system above; of many the worst alone."""
    rates = [
        {scene.name: scene.measures.values.get(RANKED_BY, math.nan) for scene in system.scenes}
        for system in evaluation.systems
    ]
    names = dict.fromkeys(name for of_system in rates for name in of_system)
    rank = {name: rate for name in names if not math.isnan(rate := rates[0].get(name, math.nan))}
    ordered = sorted(names, key=lambda name: (rank.get(name, math.inf), name))
    body = []
    for name in ordered[:_MOST_SCENES]:
        cells = "".join(_rate(of_system.get(name, math.nan)) for of_system in rates)
        body.append(tag("tr", tag("th", escape(name), scope="row") + cells))
    note = f" The {_MOST_SCENES} worst of {len(ordered)}." if len(ordered) > _MOST_SCENES else ""
    table = _table(["Scene", *(system.name for system in evaluation.systems)], body, "every scene")
    words = f"{RANKED_BY} of each scene, percent, the worst of {evaluation.systems[0].name} first.{note}"
    return tag("details", tag("summary", "Every scene") + tag("p", escape(words), class_="note") + table)


def _table(titles: list[str], body: list[str], caption: str) -> str:
    head = tag("thead", tag("tr", "".join(tag("th", escape(title), scope="col") for title in titles)))
    table = tag("table", tag("caption", escape(caption), class_="hidden") + head + tag("tbody", "".join(body)))
    return tag("div", table, class_="scroll", tabindex=0, role="group", aria_label=caption)


def _cell(text: str, best: bool) -> str:
    value, _, interval = text.partition(" [")
    if value == "-":
        return tag("td", DASH, class_="missing")
    number = value.replace("-", "−")
    content = tag("strong", number) if best else number
    if interval:
        content += tag("small", escape(interval.rstrip("]").replace(", ", " to ").replace("-", "−")), class_="interval")
    return tag("td", content, **({"class_": "best"} if best else {}))


def _best(evaluation: Evaluation, score: Score) -> set[int]:
    """Columns of the systems with the best number, of several that differ."""
    values = [system.numbers[score.key].value for system in evaluation.systems]
    numbers = [value for value in values if not math.isnan(value)]
    if score.better not in (UP, DOWN) or len(set(numbers)) < 2:
        return set()
    target = max(numbers) if score.better == UP else min(numbers)
    return {column for column, value in enumerate(values) if value == target}


def _rate(value: float) -> str:
    if math.isnan(value):
        return tag("td", DASH, class_="missing")
    shade = f"background:color-mix(in srgb,var(--s0) {_SHADE * value / 100:.0f}%,transparent)"
    return tag("td", f"{value:.1f}", style=shade)
