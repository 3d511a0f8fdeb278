"""One self-contained page about a run: what it learnt, what of that is vision, and what it looks like."""

import dataclasses
import math
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8

from rig3r_jax.evaluation.pose import rotation_angle_deg
from rig3r_jax.evaluation.rows import CLOSED_FORM
from rig3r_jax.formats.atomic import write_atomically
from rig3r_jax.formats.html import DASH, escape, format_number, tag
from rig3r_jax.schema import Reconstruction
from rig3r_jax.viz.above import scene_from_above
from rig3r_jax.viz.charts import MAX_SERIES, Series, line_chart
from rig3r_jax.viz.histories import CHECKS
from rig3r_jax.viz.page import document
from rig3r_jax.viz.panels import view_panels
from rig3r_jax.viz.tables import comparisons, evaluation_tables, overview

_GROUP_RATIO = 50.0  # series whose typical values differ by more do not share a chart
_LOG_RATIO = 30.0  # positive values that span more get a logarithmic axis; a single line only from ten times that

Curves = dict[str, tuple[np.ndarray, np.ndarray]]  # name -> (steps, values)


@typing.no_type_check
@dataclasses.dataclass(frozen=True)
class ExampleView:
    """One scene to look at: what was reconstructed of v images, beside the truth where there is one.

    The world's y axis points down, as the first image's camera's does on a level vehicle. Depths may have any
    resolution of their own. The truth is in the reconstruction's world and length unit.
    """

    title: str
    images: UInt8[np.ndarray, "v h w 3"]  # as the network saw them
    reconstruction: Reconstruction
    world_from_camera_true: Float[np.ndarray, "v 4 4"] | None = None
    depth_true: Float[np.ndarray, "v ht wt"] | None = None
    valid: Bool[np.ndarray, "v ht wt"] | None = None  # pixels of depth_true that are known
    camera_labels: Sequence[str] = ()

    @property
    def unit(self) -> str:
        """The length unit, in short."""
        return {"metre": "m", "scene": "scene units"}[self.reconstruction.length_unit]


def build_report(
    path: str | Path,
    *,
    title: str,
    summary: Mapping[str, Any],
    metrics: Sequence[Mapping[str, Any]],
    evaluation: Mapping[str, Any],
    examples: Sequence[ExampleView],
    notes: Sequence[str] = (),
) -> None:
    """Writes the page to `path`; it needs no network and no other file.

    Args:
      summary: facts about the run, name to value, shown in this order.
      metrics: rows of metrics.jsonl: {"step": n, "loss/total": ..., ...}; keys with one prefix share charts. Of a step
        that occurs twice (after a resume) the later row counts.
      evaluation: what evaluation.json holds: {"sets": {set: {row: {metric: value, split: {metric: value}}}}}, percent.
      examples: scenes to show; may be empty.
      notes: remarks that a reader must see first, such as that a run overfits on purpose.

    Raises:
      ValueError: no metrics, a row without a step, an evaluation without sets, an example whose arrays disagree.
    """
    curves = _curves(path, metrics)
    sets = evaluation.get("sets")
    if not isinstance(sets, Mapping) or not any(sets.values()):
        raise ValueError(f'{path}: the evaluation has no rows under "sets"; run the evaluation before the report')
    scenes = "".join(_example(example) for example in examples)
    examples_html = f"<section><h2>Scenes</h2>{scenes}</section>" if examples else ""
    body = f"{_header(title, summary, notes)}{_results(evaluation)}{_training(curves)}{examples_html}{_terms()}"
    write_atomically(path, document(title, body).encode("utf-8"))


def _header(title: str, summary: Mapping[str, Any], notes: Sequence[str]) -> str:
    """Title, notes and facts."""
    parts = [tag("h1", escape(title))]
    if notes:
        parts.append(tag("ul", "".join(tag("li", escape(note)) for note in notes), class_="notes"))
    if summary:
        facts = [tag("dt", escape(name)) + tag("dd", escape(_fact(value))) for name, value in summary.items()]
        parts.append(tag("dl", "".join(tag("div", fact) for fact in facts), class_="summary"))
    return tag("header", "".join(parts))


def _fact(value: Any) -> Any:
    return format_number(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value


def _results(evaluation: Mapping[str, Any]) -> str:
    """The evaluation: reading aid first, then the numbers."""
    sets = evaluation["sets"]
    rows = {row for values in sets.values() for row in values}
    closed = f" (row <i>{escape(CLOSED_FORM)}</i>)" if CLOSED_FORM in rows else ""
    tables = []
    for index, (name, values) in enumerate(sets.items()):
        heading = tag("h3", escape(str(name).replace("_", " ").capitalize()))
        tables.append(heading + evaluation_tables(str(name), values, f"set{index}"))
    protocol = [
        f" {escape(str(key).replace('_', ' '))}: {escape(_fact(value))}."
        for key, value in evaluation.items()
        if key != "sets" and isinstance(value, (str, int, float))
    ]
    return f"""<section><h2>Evaluation</h2>
<p class="lead">One network, told more or less beside the images. What to know before comparing its rows:</p>
<ul class="read">
<li><b><i>all</i> is no proof of vision.</b> With rig calibration and times given, arithmetic without image or
network{closed} can score as well, and so can the network on blank images. Read <i>all</i> against those rows,
never alone.</li>
<li><b>Vision shows in <i>none</i> and in <i>time</i>.</b> Set <i>none</i> against <i>none, images blanked</i>: what
lies between them came out of the pixels. With times given, rotations and turns still have to be seen. A network that
met blank images only here, never in training, may do worse on them than it could: the gap is then too wide.</li>
<li><b>Folding hides the arrow of time.</b> RTA and mAA as usually reported count a translation and its opposite as
equal, so that forwards and backwards are one. The unfolded columns tell them apart; images alone often cannot.</li>
<li><b>Pairs differ.</b> Two cameras of one rig at the same time are a matter of calibration; across times it is motion.
A short baseline makes its direction hard to tell, a long one leaves little overlap.</li>
</ul>
{comparisons(sets)}{overview(sets)}{"".join(tables)}
<p class="note">Percent unless stated. Bold: the best of the network's rows. Dotted underline: a control that does no
worse. {DASH}: not defined, as without such pairs.{"".join(protocol)}</p></section>"""


def _curves(path: str | Path, metrics: Sequence[Mapping[str, Any]]) -> Curves:
    """{name: (steps, values)} of all numbers, one value per step."""
    if not len(metrics):
        raise ValueError(f"{path}: metrics is empty; give the rows of metrics.jsonl of a run that logged at least once")
    rows = {}
    for index, row in enumerate(metrics):
        step = row.get("step")
        if not _is_number(step) or not math.isfinite(step):
            raise ValueError(f"{path}: metrics row {index} has step {step!r}, must be a number; check metrics.jsonl")
        rows.setdefault(step, {}).update(row)
    steps = sorted(rows)
    names = dict.fromkeys(name for row in metrics for name in row)
    names = [name for name in names if name != "step" and not name.startswith(CHECKS)]
    curves = {}
    for name in names:
        logged = [step for step in steps if _is_number(rows[step].get(name))]
        if logged:
            curves[name] = (np.array(logged, np.float64), np.array([rows[step][name] for step in logged], np.float64))
    if not curves:
        raise ValueError(f"{path}: no metrics row holds a number beside its step; check metrics.jsonl")
    return curves


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool)


def _training(curves: Curves) -> str:
    """Charts of all curves: grouped by the prefix of their names, split where their values differ in magnitude."""
    groups = {}
    for name, (steps, values) in curves.items():
        prefix, _, rest = name.rpartition("/")
        groups.setdefault(prefix, []).append(Series(rest.replace("_", " "), steps, values))
    charts = []
    for prefix in sorted(groups, key=lambda name: (name != "loss", name == "", list(groups).index(name))):
        for part in _of_like_size(groups[prefix]) if prefix else [[one] for one in groups[prefix]]:
            alone = len(part) == 1
            title = (
                " · ".join(word for word in (prefix.replace("_", " "), part[0].name if alone else "") if word) or "run"
            )
            values = np.abs(np.concatenate([one.y for one in part]))
            positive = all(np.nanmin(np.where(np.isfinite(one.y), one.y, np.inf)) > 0 for one in part)
            finite = values[np.isfinite(values) & (values > 0)]
            span = finite.max() / finite.min() if len(finite) else 1.0
            log_y = bool(positive and span > _LOG_RATIO * (10.0 if alone else 1.0))
            charts.append(line_chart(part, title=title, log_y=log_y))
    note = "Thin: as logged. Bold: centred running mean over a fortieth of the run. Legends name the last value."
    return f'<section><h2>Training</h2><p class="note">{note}</p><div class="charts">{"".join(charts)}</div></section>'


def _of_like_size(series: list[Series]) -> list[list[Series]]:
    """Lists of at most `MAX_SERIES` whose typical magnitudes lie within `_GROUP_RATIO`, the largest first."""

    def typical(one: Series) -> float:
        values = np.abs(one.y)
        values = values[np.isfinite(values) & (values > 0)]
        return float(np.median(values)) if len(values) else 0.0

    parts = []
    for one in sorted(series, key=typical, reverse=True):
        if parts and len(parts[-1]) < MAX_SERIES and typical(one) * _GROUP_RATIO >= typical(parts[-1][0]):
            parts[-1].append(one)
        else:
            parts.append([one])
    return [sorted(part, key=series.index) for part in parts]


def _example(example: ExampleView) -> str:
    """One scene: from above, then view by view."""
    count, scene, points = len(example.images), example.reconstruction, example.reconstruction.points
    arrays = {
        "reconstruction": scene.images,
        "world_from_camera_true": example.world_from_camera_true,
        "depth_true": example.depth_true,
        "valid": example.valid,
        "camera_labels": example.camera_labels or None,
    }
    for name, values in arrays.items():
        if values is not None and len(values) != count:
            raise ValueError(f"example {example.title!r}: {name} has {len(values)} entries for {count} images")
    labels = [_label(example, view) for view in range(count)]
    chosen = np.zeros(0, bool) if points is None else points.confident()
    depth = confidence = None
    if points is not None:  # what a network says of padding means nothing
        depth, confidence = (np.where(points.on_image, values, np.nan) for values in (points.depth, points.confidence))
    above = scene_from_above(
        example.world_from_camera_true,
        scene.world_from_camera,
        np.zeros((0, 3)) if points is None else points.points_world[chosen],
        np.zeros((0, 3), np.uint8) if points is None else points.colors[chosen],
        labels,
        title="True and predicted cameras" if example.world_from_camera_true is not None else "Predicted cameras",
        unit=example.unit,
    )
    panels = view_panels(
        example.images,
        example.depth_true,
        depth,
        confidence,
        example.valid,
        labels,
        example.unit,
    )
    return f"<h3>{escape(example.title)}</h3>{above}{panels}"


def _label(example: ExampleView, view: int) -> str:
    """Number, camera, time and errors of one view, in plain text."""
    image, words = example.reconstruction.images[view], [str(view)]
    if example.camera_labels:
        words.append(str(example.camera_labels[view]))
    if image.time is not None:
        words.append(f"{format_number(round(image.time, 2))} s")
    if example.world_from_camera_true is None:
        return " · ".join(words)
    true, predicted = example.world_from_camera_true[view], image.world_from_camera
    angle_deg = float(rotation_angle_deg(true[None, :3, :3], predicted[None, :3, :3])[0])
    distance = float(np.linalg.norm(true[:3, 3] - predicted[:3, 3]))
    return f"{' · '.join(words)}\noff by {format_number(angle_deg, 2)}°, {format_number(distance, 2)} {example.unit}"


def _terms() -> str:
    """What the words in the tables mean."""
    terms = {
        "RRA@15": "share of image pairs whose relative rotation is within 15 degrees of the truth",
        "RTA@15": "share of pairs whose direction of translation is within 15 degrees; folded, unless marked: "
        "a direction and its opposite count as equal",
        "mAA@30": "mean over the thresholds 1, 2, … 30 degrees of the share of pairs whose larger error, of rotation "
        "and direction, lies below",
        "Pairs without direction": "pairs closer than the evaluation's least baseline; they count for rotation only",
        "Confidence": "at least 1; it weighs the pointmap loss, and grows where the network expects a small error",
        "Frames": "OpenCV axes: x right, y down, z forward; metres unless stated",
    }
    entries = "".join(f"<dt>{escape(term)}</dt><dd>{escape(text)}</dd>" for term, text in terms.items())
    return f'<section><h2>Terms</h2><dl class="terms">{entries}</dl></section>'
