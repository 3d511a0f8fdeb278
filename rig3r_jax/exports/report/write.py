"""report.html: cameras, images and points of a reconstruction on one page that needs no network and no other file."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rig3r_jax.exports.choose import ChosenPoints
from rig3r_jax.exports.job import Job
from rig3r_jax.exports.report.controls import controls
from rig3r_jax.exports.report.pack import Json, pack_scene
from rig3r_jax.exports.report.tables import UNITS, camera_table, image_table
from rig3r_jax.exports.thumbnails import Thumbnails, thumbnails_of
from rig3r_jax.formats.atomic import write_atomically
from rig3r_jax.formats.html import document, escape, format_number, tag
from rig3r_jax.schema import PointMaps, Reconstruction

_SCRIPTS = ("orbit.js", "draw.js", "report.js")
_SCALES = {
    "given": "metres by a scale that was given",
    "given poses": "metres by poses that were given",
    "rig baselines": "metres by the baselines of the rig",
    "none": "in units of the scene: no metric scale is known",
}
_WORDS = {
    "Confidence": "the model's own, at least 1; larger is surer. It orders the points of one reconstruction; it is no "
    "probability and no length. “surest 70 %” hides the three tenths that the model trusts least",
    "Expected error": "how far a point is expected to lie from the truth by the law that the model’s confidence was "
    "trained with; the median of all points",
    "σ": "standard deviation that the covariance of a pose states: the root mean square of how far the centre is off, "
    "in the length unit, and of the angle by which the direction is off, in degrees; of the camera that defines the "
    "world it is 0. – : not known",
    "From": "given: held as the user gave it. Predicted: as a model said it. Fitted: to what models said of several "
    "images",
    "Frames": "OpenCV's axes: x right, y down, z forward. Centres are places of the cameras in the world",
    "Pixels": "fx, fy, cx, cy are in pixels of the original image, upright; centres of pixels lie at +0.5",
}


def write(job: Job, path: Path) -> Sequence[str]:
    """Writes the page of an export."""
    points = job.chosen and job.chosen.draw(job.options.report_budget, job.options.seed)
    thumbnails = thumbnails_of(job.reconstruction, job.out)
    write_atomically(path, _page(job.reconstruction, points, thumbnails, job.options.frustum).encode("utf-8"))
    counted = [points.counted()] if points is not None else []
    return counted + ([thumbnails.note()] if thumbnails.missing else [])


def _page(
    reconstruction: Reconstruction, points: ChosenPoints | None, thumbnails: Thumbnails, frustum: float | None
) -> str:
    points = points if points is not None and len(points) else None
    scene = pack_scene(reconstruction, points, frustum)
    body = "".join(
        [
            _header(reconstruction, points, thumbnails, scene),
            controls(scene),
            tag("section", tag("h2", "Cameras") + camera_table(reconstruction)) if reconstruction.cameras else "",
            tag("section", tag("h2", "Images") + image_table(reconstruction, thumbnails)),
            _terms(reconstruction),
            tag("script", _json_in_html(scene), type="application/json", id="scene"),
        ]
    )
    here = Path(__file__).parent
    style, *scripts = ((here / name).read_text(encoding="utf-8") for name in ("report.css", *_SCRIPTS))
    return document("Reconstruction", body, style=style, script="'use strict';\n" + "".join(scripts))


def _json_in_html(content: Json) -> str:
    """JSON that no name in it can end: `<` stands only escaped."""
    return json.dumps(content, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _header(reconstruction: Reconstruction, points: ChosenPoints | None, thumbnails: Thumbnails, scene: Json) -> str:
    unit, scale = UNITS[reconstruction.length_unit], reconstruction.scale
    source = _SCALES[scale.source] if scale else f"in {unit}; where the scale is from is not stated"
    facts = {
        "Images": format_number(len(reconstruction.images)),
        "Cameras": format_number(len(reconstruction.cameras)) if reconstruction.cameras else "not known",
        "Time steps": format_number(len(scene["steps"])),
        "Points": points.counted() if points is not None else "none",
        **_expected_error(reconstruction.points, unit),
        "Lengths": source,
        "World": reconstruction.frame,
    }
    entries = "".join(tag("div", tag("dt", escape(name)) + tag("dd", escape(fact))) for name, fact in facts.items())
    note = tag("ul", tag("li", escape(thumbnails.note())), class_="notes") if thumbnails.missing else ""
    return tag("header", tag("h1", "Reconstruction") + note + tag("dl", entries, class_="summary"))


def _expected_error(points: PointMaps | None, unit: str) -> dict[str, str]:
    """A fact about the points, where the model has a law of their error."""
    if points is None or points.error is None:
        return {}
    errors = points.error[points.on_image & np.isfinite(points.error)]
    return {"Expected error": f"{format_number(float(np.median(errors)), 3)} {unit}"} if len(errors) else {}


def _terms(reconstruction: Reconstruction) -> str:
    absent = set()
    if all(image.covariance is None for image in reconstruction.images):
        absent.add("σ")
    if not _expected_error(reconstruction.points, ""):
        absent.add("Expected error")
    words = {term: text for term, text in _WORDS.items() if term not in absent}
    entries = "".join(tag("dt", escape(term)) + tag("dd", escape(text)) for term, text in words.items())
    return tag("section", tag("h2", "Terms") + tag("dl", entries, class_="terms"))
