"""The evaluation as tables, and what its rows say about vision, in numbers taken from those rows."""

import math
from collections.abc import Mapping
from typing import Any

from rig3r_jax.evaluation.rows import CLOSED_FORM, FORWARD, SETTINGS, SUBSETS, UNTRAINED, blank_label, is_control
from rig3r_jax.formats.html import DASH, escape, format_number, tag
from rig3r_jax.viz.charts import dot_plot
from rig3r_jax.viz.switches import switches

HEADINGS = {
    "mAA30": "mAA@30",
    "mAA30_unfolded": "mAA@30 unfolded",
    "RRA5": "RRA@5",
    "RRA15": "RRA@15",
    "RTA5": "RTA@5",
    "RTA5_unfolded": "RTA@5 unfolded",
    "RTA15": "RTA@15",
    "RTA15_unfolded": "RTA@15 unfolded",
    "rig_id_accuracy": "rig ID accuracy",
    "rig_mAA30": "rig mAA@30",
    "ATE_m": "ATE, m",
    "pairs": "pairs",
    "pairs_without_direction": "pairs without direction",
}
_METADATA = {"camera_id": "camera IDs", "time": "times", "rig": "rig calibration"}
_HIGHER = ("mAA", "RRA", "RTA", "AUC", "rig_id_accuracy", "rig_mAA", "fscore", "ari", "ARI")
_LOWER = ("ATE_m", "chamfer", "accuracy", "completeness")

Row = Mapping[str, Any]


def row_description(row: str) -> str:
    """What the network is told in a row of this name; empty for the rows whose names say it."""
    if row == UNTRAINED:
        return "random weights"
    if row not in SETTINGS:
        return ""
    metadata = [words for key, words in _METADATA.items() if key in SETTINGS[row]]
    if len(metadata) < 2:
        return f"images and {metadata[0]}" if metadata else "images alone"
    return ", ".join(["images", *metadata])


def evaluation_tables(name: str, rows: Mapping[str, Row], identity: str) -> str:
    """One set's rows over all pairs, and over each split behind a switch; `identity` tells two sets' switches apart."""
    views = [("All pairs", dict(rows))]
    splits = [key for row in rows.values() for key, value in row.items() if isinstance(value, Mapping)]
    ordered = [key for key in SUBSETS if key in splits]
    for split in ordered + [key for key in dict.fromkeys(splits) if key not in SUBSETS]:
        label = _words(split).capitalize() if split in SUBSETS else _words(split)
        views.append((label, {row: values.get(split) or {} for row, values in rows.items()}))
    tables = {label: _table(scores, f"{_words(name)}, {label.lower()}") for label, scores in views}
    return switches(tables, identity, f"Pairs of {_words(name)}")


def overview(sets: Mapping[str, Mapping[str, Row]]) -> str:
    """Dot plot of mAA@30 of every row, one colour per set; empty where no row has it."""
    names = list(dict.fromkeys(row for rows in sets.values() for row in rows))
    plotted = []
    for row in [name for name in names if not is_control(name)] + [name for name in names if is_control(name)]:
        scores = {_words(name): rows.get(row, {}).get("mAA30") for name, rows in sets.items()}
        values = {name: value for name, value in scores.items() if _is_finite_number(value)}
        if values:
            plotted.append((row, is_control(row), values))
    if not plotted:
        return ""
    return dot_plot(
        plotted, title="Every row at a glance", x_label="mAA@30, folded, all pairs, percent · hollow: controls"
    )


def comparisons(sets: Mapping[str, Mapping[str, Row]]) -> str:
    """Table of the questions that two rows answer together, each as difference of this run's own numbers."""
    rows = {row for values in sets.values() for row in values}
    questions = [
        (f"What do the images add to <b>{escape(row)}</b>?", "mAA30", row, blank_label(row))
        for row in [*SETTINGS, *sorted(rows - set(SETTINGS))]
        if {row, blank_label(row)} <= rows
    ]
    fixed = [
        ("What do images alone add to <b>assuming forward motion</b>?", "mAA30", "none", FORWARD),
        ("Do times tell <b>the direction of travel</b>?", "RTA15_unfolded", "time", "none"),
        ("Does the calibration tell <b>rotations</b>?", "RRA15", "rig", "none"),
        ("Is <b>all</b> better than <b>no network at all</b>?", "mAA30", "all", CLOSED_FORM),
    ]
    body = []
    for question, metric, first, second in questions + [entry for entry in fixed if {entry[2], entry[3]} <= rows]:
        cells = []
        for values in sets.values():
            a, b = values.get(first, {}).get(metric), values.get(second, {}).get(metric)
            if not (_is_finite_number(a) and _is_finite_number(b)):
                cells.append(f"<td>{DASH}</td>")
                continue
            difference = ("+" if a >= b else "") + _percent(a - b)
            cells.append(f"<td><b>{difference}</b> <small>{_percent(a)} against {_percent(b)}</small></td>")
        what = f"<small>{HEADINGS[metric]}, {escape(first)} against {escape(second)}</small>"
        body.append(f'<tr><th scope="row">{question}{what}</th>{"".join(cells)}</tr>')
    if not body:
        return ""
    head = "".join(f'<th scope="col">{escape(_words(name))}</th>' for name in sets)
    head = tag("thead", tag("tr", tag("th", "Question", scope="col") + head))
    caption = tag("caption", "Differences between two rows, in percentage points", class_="hidden")
    table = tag("table", caption + head + tag("tbody", "".join(body)), class_="questions")
    return tag("div", table, class_="scroll", tabindex=0, role="group", aria_label="questions")


def _table(rows: Mapping[str, Row], caption: str) -> str:
    """HTML table; the network's best values bold, control values that reach them marked."""
    columns = [column for column in HEADINGS if any(column in row for row in rows.values())]
    others = dict.fromkeys(key for row in rows.values() for key, value in row.items() if not isinstance(value, Mapping))
    columns += [key for key in others if key not in HEADINGS]
    best = {column: _best(rows, column) for column in columns}
    groups = ((False, "The network, by what it is told beside the images"), (True, "Controls"))
    body = []
    for control, heading in groups:
        chosen = [name for name in rows if is_control(name) == control]
        if chosen:
            body.append(f'<tr class="group"><th colspan="{len(columns) + 1}" scope="colgroup">{heading}</th></tr>')
        for name in chosen:
            cells = "".join(_cell(column, rows[name].get(column), best[column], control) for column in columns)
            description = f"<small>{escape(row_description(name))}</small>" if row_description(name) else ""
            body.append(f'<tr><th scope="row">{escape(name)}{description}</th>{cells}</tr>')
    names = ["Row", *(HEADINGS.get(column, _words(column)) for column in columns)]
    head = tag("thead", tag("tr", "".join(tag("th", escape(name), scope="col") for name in names)))
    table = tag("table", tag("caption", escape(caption), class_="hidden") + head + tag("tbody", "".join(body)))
    return tag("div", table, class_="scroll", tabindex=0, role="group", aria_label=caption)


def _cell(column: str, value: Any, best: float | None, control: bool) -> str:
    if isinstance(value, str):
        return f"<td>{escape(value)}</td>"
    if not _is_finite_number(value):
        return f'<td class="missing">{DASH}</td>'
    text = _percent(value) if _sign(column) > 0 else format_number(value)
    if best is None or (value - best) * _sign(column) < -1e-9:
        return tag("td", text)
    if control:
        return tag("td", text + tag("span", " (no worse than the network)", class_="hidden"), class_="reaches")
    return tag("td", tag("strong", text), class_="best")


def _best(rows: Mapping[str, Row], column: str) -> float | None:
    """Best value of the network's rows, None where none is a number or the column has no better side."""
    values = [row[column] for name, row in rows.items() if not is_control(name) and _is_finite_number(row.get(column))]
    return None if not values or not _sign(column) else (max(values) if _sign(column) > 0 else min(values))


def _sign(column: str) -> int:
    """1 where more is better, -1 where less is, 0 where the name does not tell."""
    return 1 if column.startswith(_HIGHER) else -1 if column in _LOWER else 0


def _is_finite_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _percent(value: float) -> str:
    return f"{value:.1f}".replace("-", "−")


def _words(name: str) -> str:
    return str(name).replace("_", " ")
