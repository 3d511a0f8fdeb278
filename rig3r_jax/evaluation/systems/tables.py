"""An evaluation of systems as text: Markdown, CSV, LaTeX, JSON. A number without a value is a dash with its reason."""

import collections
import csv
import dataclasses
import io
import math
import re
import typing
from collections.abc import Callable
from pathlib import Path

from rig3r_jax.evaluation.systems.align import ALIGNMENTS
from rig3r_jax.evaluation.systems.catalog import COUNT, DOWN, UP, Score, catalog
from rig3r_jax.evaluation.systems.options import MISSING, SystemOptions
from rig3r_jax.evaluation.systems.resample import Difference, Interval
from rig3r_jax.evaluation.systems.summary import Evaluation, SystemScores
from rig3r_jax.formats import markdown
from rig3r_jax.formats.atomic import write_atomically
from rig3r_jax.formats.json_file import plain, write_json

LEGEND = (
    "In brackets: 95% bootstrap intervals over scenes; there is none of fewer than 3. * direction errors in 0..180 "
    "degrees; without *, folded to 0..90. -: nothing to measure, for the reason below."
)
_GLANCE = ("RRA15", "RTA15", "mAA30", "mAA30_unfolded", "AUC30_vggt", "ATE_m")
_ARROWS = {UP: "↑", DOWN: "↓", "": ""}


@dataclasses.dataclass(frozen=True)
class TextRow:
    """A score of all systems, as people read it."""

    score: Score
    title: str  # with its unit and which way is better
    cells: list[str]  # under `columns_of`


def text_rows(evaluation: Evaluation) -> dict[str, list[TextRow]]:
    """The rows of every group in which any system has a number."""
    return {
        group: [TextRow(score, _title(score), _cells(evaluation, score)) for score in scores]
        for group, scores in _groups(evaluation).items()
    }


def to_markdown(evaluation: Evaluation) -> str:
    """A table per group, groups without any number left out and named with their reasons."""
    lines = [f"# {', '.join(system.name for system in evaluation.systems)} against {evaluation.truth}", ""]
    lines += [f"{line}  " for line in settings_of(evaluation)] + ["", markdown.escape(LEGEND), ""]
    lines += ["## at a glance", "", markdown.table(*glance(evaluation)), ""]
    titles = ["", *columns_of(evaluation)]
    for group, rows in text_rows(evaluation).items():
        lines += [f"## {group}", "", markdown.table(titles, [[row.title, *row.cells] for row in rows]), ""]
    if reasons := reasons_of(evaluation):
        lines += ["## not measured", "", *(f"- {markdown.escape(line)}" for line in reasons), ""]
    return "\n".join(lines)


def to_csv(evaluation: Evaluation) -> str:
    """A row per number and system, and per difference of two that are compared; empty for NaN."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["group", "score", "better", "system", "value", "low", "high", "p_value", "scenes", "reason"])
    for group, scores in catalog(evaluation.options).items():
        for score in scores:
            for system in evaluation.systems:
                number, reason = system.numbers[score.key], system.reasons.get(score.key, "")
                row = [_exact(number.value), _exact(number.low), _exact(number.high), "", number.scenes, reason]
                writer.writerow([group, score.key, score.better, system.name, *row])
            if evaluation.differences is not None:
                change = evaluation.differences[score.key]
                row = [_exact(x) for x in (change.value, change.low, change.high, change.p_value)]
                writer.writerow([group, score.key, score.better, columns_of(evaluation)[2], *row, change.scenes, ""])
    return buffer.getvalue()


def to_latex(evaluation: Evaluation) -> str:
    """One tabular of booktabs; numbers without intervals where there are none."""
    columns = columns_of(evaluation)
    lines = [f"% {_latex(line)}" for line in [*settings_of(evaluation), LEGEND]] + [
        "\\begin{tabular}{l" + "r" * len(columns) + "}",
        "\\toprule",
    ]
    lines += [" & ".join(["", *map(_latex, columns)]) + r" \\"]
    for group, scores in _groups(evaluation).items():
        lines += ["\\midrule", f"\\multicolumn{{{len(columns) + 1}}}{{l}}{{\\emph{{{_latex(group)}}}}} \\\\"]
        for score in scores:
            cells = [_latex(_title(score)), *map(_latex_number, _cells(evaluation, score))]
            lines.append(" & ".join(cells) + r" \\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", ""])


def to_json(evaluation: Evaluation) -> dict[str, typing.Any]:
    """Everything, scenes too; null for NaN, with a reason."""
    systems = []
    for system in evaluation.systems:
        scenes = {
            scene.name: {
                "matched_by": scene.matched_by,
                "overlap_told_by": scene.pairs.overlap_told_by,
                "formats": dict(zip(("predictions", "truth"), scene.formats, strict=True)),
                "scores": scene.measures.values,
                "reasons": {key: reason for key, reason in scene.measures.reasons.items() if reason},
            }
            for scene in system.scenes
        }
        numbers = {key: dataclasses.asdict(number) for key, number in system.numbers.items()}
        systems.append(
            {"name": system.name, "predictions": system.source, "scores": numbers, "reasons": system.reasons}
            | {"scenes": scenes, "scenes_missing": system.missing}
        )
    differences = evaluation.differences and {k: dataclasses.asdict(d) for k, d in evaluation.differences.items()}
    options = dataclasses.asdict(evaluation.options)
    what = {"truth": evaluation.truth, "protocol": evaluation.protocol or None}
    return plain({**what, "options": options, "systems": systems, "differences": differences})


def settings_of(evaluation: Evaluation) -> list[str]:
    """What was done, in words."""
    options, scenes = evaluation.options, len(evaluation.systems[0].scenes)
    ways = sorted({scene.matched_by for system in evaluation.systems for scene in system.scenes})
    lines = [
        f"{scenes} scene{'s' * (scenes != 1)}, images matched by {' and '.join(ways)}.",
        f"Alignment {options.align}: {ALIGNMENTS[options.align]}.",
        f"Missing images, {options.missing}: {MISSING[options.missing]}.",
        f"Pairs nearer than {options.scores.min_baseline:g} m have no direction.",
        f"Overlap of two images: {_overlaps(evaluation)}.",
        f"Of a scene of more than {options.max_images} images so many, spread evenly, make pairs.",
    ]
    if evaluation.protocol:
        lines.insert(0, f"Protocol {evaluation.protocol}.")
    for system in evaluation.systems:
        if system.missing:
            lines.append(f"{system.name} is scored without the scenes {', '.join(system.missing)}.")
    return lines


def _overlaps(evaluation: Evaluation) -> str:
    """By what it was told, of how many scenes each where there are several ways."""
    tables = [scene.pairs for scene in evaluation.systems[0].scenes]
    ways = collections.Counter(
        "not known" if table.overlap is None else f"by {table.overlap_told_by}" for table in tables
    )
    if len(ways) == 1:
        return next(iter(ways))
    return ", ".join(f"{way} ({count} scene{'s' * (count != 1)})" for way, count in ways.items())


def _groups(evaluation: Evaluation) -> dict[str, list[Score]]:
    """The groups in which any system has a number."""
    return {
        group: [score for score in scores if score.brief]
        for group, scores in catalog(evaluation.options).items()
        if any(score.key not in system.reasons for score in scores for system in evaluation.systems)
    }


def glance(evaluation: Evaluation) -> tuple[list[str], list[list[str]]]:
    """The scores that most ask for: titles, and a row per system that begins with its name."""
    scores = {score.key: score for group in catalog(evaluation.options).values() for score in group}
    columns = [scores[key] for key in _GLANCE]
    rows = [
        [system.name, *(_cell(score, system.numbers[score.key]) for score in columns)] for system in evaluation.systems
    ]
    return ["", *map(_title, columns)], rows


def columns_of(evaluation: Evaluation) -> list[str]:
    """Names of the systems, and of what compares two."""
    names = [system.name for system in evaluation.systems]
    return names if evaluation.differences is None else [*names, f"{names[1]} - {names[0]}", "p"]


def _title(score: Score) -> str:
    unit = score.unit.strip()
    return " ".join(filter(None, [score.title, f"({unit})" if unit else "", _ARROWS[score.better]]))


def _cells(evaluation: Evaluation, score: Score) -> list[str]:
    cells = [_cell(score, system.numbers[score.key]) for system in evaluation.systems]
    if evaluation.differences is not None:
        change = evaluation.differences[score.key]
        cells += [_cell(score, change, sign="+"), "" if score.unit == COUNT else markdown.number(change.p_value, ".3f")]
    return cells


def _cell(score: Score, number: Interval | Difference, sign: str = "") -> str:
    spec = f"{sign}.{score.places}f"
    value = markdown.number(number.value, spec)
    if math.isnan(number.low) or math.isnan(number.value):
        return value
    return f"{value} [{number.low:{spec}}, {number.high:{spec}}]"


def reasons_of(evaluation: Evaluation) -> list[str]:
    """A line per reason, with the systems and the scores that it keeps from being measured."""
    systems: dict[tuple[str, str], list[str]] = {}  # by scores and reason
    for system in evaluation.systems:
        for reason, titles in _unmeasured(system, evaluation.options).items():
            systems.setdefault((", ".join(titles), reason), []).append(system.name)
    every = len(evaluation.systems)
    return [
        f"{'all systems' if 1 < every == len(names) else ', '.join(names)}: {titles}: {reason}"
        for (titles, reason), names in systems.items()
    ]


def _unmeasured(system: SystemScores, options: SystemOptions) -> dict[str, list[str]]:
    """Titles of the scores that have no number, or of their whole groups, by reason."""
    by_reason: dict[str, list[str]] = {}
    for group, scores in catalog(options).items():
        unmeasured = [score for score in scores if score.key in system.reasons]
        for score in unmeasured:
            title = group if len(unmeasured) == len(scores) else score.title
            titles = by_reason.setdefault(system.reasons[score.key], [])
            titles += [title] if title not in titles else []
    return by_reason


def _exact(value: float) -> str:
    return "" if math.isnan(value) else repr(float(value))


def _latex(text: str) -> str:
    replaced = {"\\": r"\textbackslash{}", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "<": "$<$", "^": r"\^{}"}
    return "".join(replaced.get(c, f"\\{c}" if c in "%&_#${}" else c) for c in text)


def _latex_number(text: str) -> str:
    """With minus signs, not hyphens."""
    return re.sub(r"-(?=\d)", "$-$", text)


FORMATTERS: dict[str, tuple[str, Callable[[Evaluation], str]]] = {  # of --format: file, text
    "markdown": ("scores.md", to_markdown),
    "csv": ("scores.csv", to_csv),
    "latex": ("scores.tex", to_latex),
}


def write_evaluation(evaluation: Evaluation, folder: Path) -> None:
    """Writes the text of every form, and scores.json; the folder is made."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, form in FORMATTERS.values():
        write_atomically(folder / name, form(evaluation).encode())
    write_json(folder / "scores.json", to_json(evaluation))
