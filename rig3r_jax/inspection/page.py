"""A scan as a table for the terminal and as one HTML page with pictures."""

import base64
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from rig3r_jax.formats.atomic import write_atomically
from rig3r_jax.formats.colormap import colormap
from rig3r_jax.formats.html import escape, tag
from rig3r_jax.formats.markdown import number, table
from rig3r_jax.inspection.claims import Claims, Shot
from rig3r_jax.inspection.evidence import Matched, angles
from rig3r_jax.inspection.findings import Finding
from rig3r_jax.inspection.judgement import EPIPOLAR_BAND
from rig3r_jax.inspection.scan import Looked, Scan
from rig3r_jax.viz.page import document
from rig3r_jax.viz.panels import depth_range

TITLES = ("scene", "what", "value", "unit", "expected", "fault")
_PAIRS_SHOWN, _LINES = 3, 60  # of a scene, of a pair
_WIDTH = 560  # pixels of one image of a picture
_MOST = 60_000  # points that are drawn
_FEW = 30_000  # points, as LiDAR has them, that are drawn larger
_GOOD, _BAD = (90, 170, 60), (220, 60, 40)  # RGB


def table_of(scan: Scan) -> str:
    """All findings, and below the table what is wrong, in words."""
    rows = [
        (
            finding.scene,
            finding.what,
            number(finding.value),
            finding.unit,
            finding.band,
            "FAULT" if finding.fault else "",
        )
        for finding in scan.findings
    ]
    lines = [table(TITLES, rows, left=2)] if rows else []
    notes = (f"{one.scene}, {one.what}: {one.words}" for one in scan.findings if one.words and not one.fault)
    lines += [f"note: {text}" for text in dict.fromkeys(notes)]
    lines += [f"FAULT: {text}" for text in scan.faults]
    return "\n".join(lines)


def write_page(path: Path, scan: Scan, title: str) -> None:
    """Writes one HTML file that needs no other: every finding, and of every scene its matches and its depth."""
    faults = "".join(tag("li", escape(fault)) for fault in scan.faults)
    body = tag("h1", escape(title)) + tag("p", escape(scan.summary))
    body += tag("ul", faults, class_="notes") if faults else ""
    body += "".join(_section(looked) for looked in scan.scenes)
    if scan.splits:
        body += tag("section", tag("h2", "Splits") + _html_table(scan.splits))
    write_atomically(path, document(title, body).encode())


def _section(looked: Looked) -> str:
    claims = looked.claims
    heading = tag("h2", escape(f"{looked.split}/{claims.scene}")) + tag("p", escape(str(looked)))
    # The worst pairs and, to compare, the one with the most matches.
    by_angle = sorted(looked.matched, key=lambda one: -np.median(angles(claims, one)))
    most = sorted(looked.matched, key=lambda one: -len(one.pixels_a))
    chosen = list(dict.fromkeys([*by_angle[: _PAIRS_SHOWN - 1], *most[:1]]))
    figures = "".join(_figure(_draw_pair(claims, one), _caption(claims, one)) for one in chosen)
    for shot in _with_depth(claims):
        figures += _figure(_draw_depth(shot), f"depth over {claims.cameras[shot.camera]}, step {shot.step}")
    return tag("section", heading + _html_table(looked.findings) + figures)


def _caption(claims: Claims, one: Matched) -> str:
    angle = float(np.median(angles(claims, one)))
    return f"{claims.name(one.pair)}: {len(one.pixels_a)} matches, {angle:.3g} degrees off in the median"


def _with_depth(claims: Claims) -> list[Shot]:
    """The first shot of each camera that has depth."""
    of_camera = {shot.camera: shot for shot in reversed(claims.shots) if len(shot.depths[1])}
    return [of_camera[camera] for camera in sorted(of_camera)][:6]


def _html_table(findings: Sequence[Finding]) -> str:
    head = tag("tr", "".join(tag("th", escape(title)) for title in ("what", "value", "unit", "expected", "")))
    rows = ""
    for one in findings:
        cells = (one.what, number(one.value), one.unit, one.band, f"{'FAULT: ' if one.fault else ''}{one.words}")
        rows += tag("tr", tag("th", escape(cells[0])) + "".join(tag("td", escape(cell)) for cell in cells[1:]))
    return tag("div", tag("table", tag("thead", head) + tag("tbody", rows)), class_="scroll")


def _figure(picture: UInt8[np.ndarray, "h w 3"], caption: str) -> str:
    data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()
    source = f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"
    image = f'<img alt="{escape(caption)}" style="max-width:100%" src="{source}">'
    return tag("figure", image + tag("figcaption", escape(caption)))


def _draw_pair(claims: Claims, one: Matched) -> UInt8[np.ndarray, "h w 3"]:
    """Both images side by side, a line for every match; red where it is beyond the band."""
    shots = claims.shots[one.pair.a], claims.shots[one.pair.b]
    images, scales = zip(*(_shown(shot.image) for shot in shots), strict=True)
    height = max(image.shape[0] for image in images)
    canvas = np.zeros((height, sum(image.shape[1] for image in images), 3), np.uint8)
    canvas[: images[0].shape[0], : images[0].shape[1]] = images[0]
    canvas[: images[1].shape[0], images[0].shape[1] :] = images[1]
    off = angles(claims, one)
    for index in np.unique(np.linspace(0, len(off) - 1, min(_LINES, len(off))).astype(int)):
        a = one.pixels_a[index] * scales[0]
        b = one.pixels_b[index] * scales[1] + (images[0].shape[1], 0)
        color = _GOOD if off[index] < EPIPOLAR_BAND else _BAD
        cv2.line(canvas, *(tuple(int(x) for x in point) for point in (a, b)), color, 1, cv2.LINE_AA)
    return canvas


def _draw_depth(shot: Shot) -> UInt8[np.ndarray, "h w 3"]:
    """Known depths over the darkened image, light: near."""
    image, scale = _shown(shot.image)
    canvas = (image * 0.6).astype(np.uint8)
    pixels, distances = shot.depths
    every = max(1, len(pixels) // _MOST)
    pixels, distances = pixels[::every], distances[::every]
    low, high = np.log(depth_range(distances))
    colors = colormap((np.log(distances) - low) / max(high - low, 1e-9), "depth")[:, :3]
    columns, rows = (pixels * scale).astype(int).T
    inside = (columns >= 0) & (columns < canvas.shape[1]) & (rows >= 0) & (rows < canvas.shape[0])
    order = np.argsort(-distances[inside])  # the nearest is drawn last
    columns, rows, colors = columns[inside][order], rows[inside][order], colors[inside][order]
    if len(distances) > _FEW:
        canvas[rows, columns] = colors
        return canvas
    for column, row, color in zip(columns.tolist(), rows.tolist(), colors.tolist(), strict=True):
        cv2.circle(canvas, (column, row), 1, color, -1)
    return canvas


def _shown(image: UInt8[np.ndarray, "h w 3"]) -> tuple[UInt8[np.ndarray, "hs ws 3"], float]:
    scale = _WIDTH / image.shape[1]
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=interpolation), scale
