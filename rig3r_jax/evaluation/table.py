"""The evaluation as text: fixed width for the terminal, Markdown for reports."""

import math
from collections.abc import Sequence

from rig3r_jax.evaluation.auc import LIMITS, PROTOCOLS
from rig3r_jax.evaluation.contrasts import RATES, change_cells
from rig3r_jax.evaluation.rows import ACROSS_TIMES, AUC, FAR, NEAR, SAME_TIME
from rig3r_jax.formats import markdown

# Column title -> key of a row's scores. A trailing * marks errors of direction in 0..180 degrees, not folded to 0..90.
POSE_COLUMNS = {
    "RRA5": "RRA5",
    "RRA15": "RRA15",
    "RTA5": "RTA5",
    "RTA5*": "RTA5_unfolded",
    "RTA15": "RTA15",
    "RTA15*": "RTA15_unfolded",
    "mAA30": "mAA30",
    "mAA30*": "mAA30_unfolded",
    "pairs": "pairs",
    "no dir.": "pairs_without_direction",
}
SUBSET_COLUMNS = {title: POSE_COLUMNS[title] for title in ("RRA15", "RTA15", "RTA15*", "mAA30", "mAA30*", "pairs")}
POINT_AND_RIG_COLUMNS = {
    "acc. m": "accuracy_m",
    "compl. m": "completeness_m",
    "chamfer m": "chamfer_m",
    "chamfer rel.": "chamfer_relative",
    "rig ID": "rig_id_accuracy",
    "ARI": "rig_ari",
    "cameras off": "camera_count_error",
    "rig mAA30": "rig_mAA30",
    "rig mAA30*": "rig_mAA30_unfolded",
    "focal %": "focal_error_percent",
}
# Blocks of a table: title -> groups of columns; a group is (its title, the key its scores are nested under, columns).
BLOCKS = {
    "at a glance": [
        ("", "", {title: POSE_COLUMNS[title] for title in ("RRA15", "RTA15", "RTA15*", "mAA30", "mAA30*")}),
        ("", SAME_TIME, {"mAA30 same time": "mAA30"}),
        ("", ACROSS_TIMES, {"mAA30 across times": "mAA30"}),
        ("", NEAR, {"mAA30 near": "mAA30"}),
        ("", FAR, {"mAA30 far": "mAA30"}),
    ],
    "all pairs of images": [("", "", POSE_COLUMNS)],
    "by time": [("same time", SAME_TIME, SUBSET_COLUMNS), ("across times", ACROSS_TIMES, SUBSET_COLUMNS)],
    "by true baseline": [("near", NEAR, SUBSET_COLUMNS), ("far", FAR, SUBSET_COLUMNS)],
    "AUC, and the cameras' centres": [
        *((f"AUC of {name}", AUC, {f"@{t}": f"AUC{t}_{name}" for t in LIMITS}) for name in PROTOCOLS),
        ("", "", {"ATE m": "ATE_m"}),
    ],
    "points and rigs": [("", "", POINT_AND_RIG_COLUMNS)],
}
LEGEND = (
    "RRA, RTA, mAA, AUC, rig ID in percent. * direction error in 0..180 degrees; without *, folded to 0..90.\n"
    "no dir.: pairs too close to have a direction. rel.: in mean depths. cameras off: mean error of their number.\n"
    "-: nothing to measure. Differences: one row less another one, in brackets 95% bootstrap intervals over samples,\n"
    "where each is of a world of its own; p of mAA30, by swapping the rows of samples."
)
DIFFERENCES = "differences"
_PLACES = {"ATE_m": 3, "accuracy_m": 3, "completeness_m": 3, "chamfer_m": 3, "chamfer_relative": 4, "rig_ari": 2}
_COUNTS = ("pairs", "pairs_without_direction")


def format_table(evaluation: dict) -> str:
    """Fixed-width table of every set and row of `{"sets": {set: {row: scores}}}`, with a legend at the end."""
    lines = []
    for set_name, rows in _sets(evaluation).items():
        label_width = max(len(label) for label in (*rows, "row"))
        for title, groups in BLOCKS.items():
            header = [_cells(groups, titles=True)] + [_cells(groups, scores) for scores in rows.values()]
            widths = [max(len(line[n]) for line in header) + 2 for n in range(len(header[0]))]
            lines.append(f"{set_name}: {title}")
            lines += [_group_line(groups, widths, label_width)] if any(group for group, _, _ in groups) else []
            for label, cells in zip(("row", *rows), header, strict=True):
                padded = "".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
                lines.append(label.ljust(label_width) + padded)
            lines.append("")
        if differences := _differences(evaluation, set_name):
            titles, *body = [["row less row", *RATES, "p"], *differences]
            widths = [max(map(len, column)) + 2 for column in zip(titles, *body, strict=True)]
            lines.append(f"{set_name}: {DIFFERENCES}")
            for label, *numbers in (titles, *body):
                padded = "".join(cell.rjust(width) for cell, width in zip(numbers, widths[1:], strict=True))
                lines.append(label.ljust(widths[0]) + padded)
            lines.append("")
    return "\n".join([*lines, LEGEND]) + "\n"


def format_markdown(evaluation: dict) -> str:
    """The same blocks as Markdown tables under one heading per set."""
    lines = []
    for set_name, rows in _sets(evaluation).items():
        lines += [f"## {set_name}", ""]
        for title, groups in BLOCKS.items():
            titles = [f"{group} {column}".strip() for group, _, columns in groups for column in columns]
            body = [[label, *_cells(groups, scores)] for label, scores in rows.items()]
            lines += [f"### {title}", "", markdown.table(["row", *titles], body), ""]
        if differences := _differences(evaluation, set_name):
            lines += [f"### {DIFFERENCES}", "", markdown.table(["row less row", *RATES, "p"], differences), ""]
    return "\n".join([*lines, markdown.escape(LEGEND)]) + "\n"


def _differences(evaluation: dict, set_name: str) -> list[list[str]]:
    """Title and cells of every difference between rows of a set."""
    differences = evaluation.get(DIFFERENCES, {}).get(set_name, {})
    return [[title, *change_cells(rates)] for title, rates in differences.items()]


def _sets(evaluation: dict) -> dict:
    if not isinstance(evaluation.get("sets"), dict):
        raise ValueError(f"evaluation has the keys {list(evaluation)}; expected {{'sets': {{set: {{row: scores}}}}}}")
    return evaluation["sets"]


def _cells(groups: Sequence[tuple], scores: dict | None = None, titles: bool = False) -> list[str]:
    """One line of cells over all groups: the columns' titles, or the scores under the columns' keys."""
    cells = []
    for _, nested_under, columns in groups:
        source = {} if titles else scores.get(nested_under, {}) if nested_under else scores
        cells += [title if titles else _number(key, source.get(key, math.nan)) for title, key in columns.items()]
    return cells


def _number(key: str, value: float | int) -> str:
    return markdown.number(value, ".0f" if key in _COUNTS else f".{_PLACES.get(key, 1)}f")


def _group_line(groups: Sequence[tuple], widths: Sequence[int], label_width: int) -> str:
    line, start = " " * label_width, 0
    for title, _, columns in groups:
        width = sum(widths[start : start + len(columns)])
        line += f"  {f' {title} '.center(width - 2, '-')}"
        start += len(columns)
    return line
