"""A rig from above: its cameras, where each image put them, and how sure their places are, as an SVG file."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from rig3r_jax.formats.html import escape, format_number, tag
from rig3r_jax.viz.svg import nice_ticks

_SIDE, _MARGIN = 640, 90
_COLORS = ("#2667a8", "#d2601a", "#2a8464", "#7a5aa8", "#a97f14", "#bd4a70", "#4c7f8f", "#6b6b6b")
_REACH = 46.0  # drawing units that a camera's view is drawn far
_HALF_VIEW = 0.5  # of its width over its length
_SIGMAS = 2.0  # standard deviations of an ellipse's axes


def rig_from_above(
    rig_from_camera: Float[np.ndarray, "k 4 4"],
    covariance: Float[np.ndarray, "k 6 6"],
    predicted: Float[np.ndarray, "v 4 4"],
    camera: Int[np.ndarray, " v"],
    names: Sequence[str],
    unit: str,
) -> str:
    """SVG that looks down the y axis: x to the right, z up the page. Ellipses: 2 standard deviations of the means.

    covariance: of (v, w) in rig_from_camera exp(v, w). predicted, camera: of every image, drawn as dots.
    """
    flat = np.concatenate([rig_from_camera[:, [0, 2], 3], predicted[:, [0, 2], 3]])
    low, high = flat.min(axis=0), flat.max(axis=0)
    span = max(float((high - low).max()), 1e-9)
    middle, scale = (low + high) / 2, (_SIDE - 2 * _MARGIN) / span

    def to_page(points: np.ndarray) -> np.ndarray:
        return _SIDE / 2 + (points[..., [0, 2]] - middle) * scale * [1, -1]

    dots = "".join(
        tag("circle", cx=float(x), cy=float(y), r=1.8, fill=_COLORS[number % len(_COLORS)], fill_opacity="0.45")
        for (x, y), number in zip(to_page(predicted[:, :3, 3]), camera.tolist(), strict=True)
    )
    bodies = "".join(
        _camera(number, place, covariance[number], to_page(place[:3, 3]), scale, names[number])
        for number, place in enumerate(rig_from_camera)
    )
    length = nice_ticks(0.0, 0.3 * span, 3)[-1]
    bar = tag("path", d=f"M24 {_SIDE - 24}h{length * scale:.1f}", stroke="#5d666f", stroke_width=2)
    bar += tag("text", f"{format_number(length)} {escape(unit)}", x=24, y=_SIDE - 32, fill="#5d666f")
    ground = tag("rect", width=_SIDE, height=_SIDE, fill="#fbfaf7")
    title = f"<title>{escape(f'Rig of {len(names)} cameras from above')}</title>"
    return tag(
        "svg", title + ground + dots + bodies + bar, xmlns="http://www.w3.org/2000/svg", width=_SIDE, height=_SIDE,
        viewBox=f"0 0 {_SIDE} {_SIDE}", font_family="system-ui,Arial,sans-serif", font_size=13,
    )  # fmt: skip


def _camera(number: int, place: np.ndarray, covariance: np.ndarray, apex: np.ndarray, scale: float, name: str) -> str:
    color = _COLORS[number % len(_COLORS)]
    ahead = place[[0, 2], 2] * [1, -1]  # its z axis on the page: short where it looks up or down
    side = np.array([-ahead[1], ahead[0]]) * _HALF_VIEW
    corners = apex + _REACH * np.stack([ahead + side, ahead - side])
    view = f"M{apex[0]:.1f} {apex[1]:.1f}" + "".join(f"L{x:.1f} {y:.1f}" for x, y in corners) + "Z"
    shapes = tag("path", d=view, fill=color, fill_opacity="0.14", stroke=color)
    shapes += tag("circle", cx=float(apex[0]), cy=float(apex[1]), r=3.0, fill=color) + _ellipse(
        place, covariance, apex, scale, color)  # fmt: skip
    direction = ahead / max(float(np.linalg.norm(ahead)), 1e-6)
    x, y = apex + (_REACH + 16) * direction
    return shapes + tag("text", escape(name), x=float(x), y=float(y) + 4.0, text_anchor="middle", fill=color)


def _ellipse(place: np.ndarray, covariance: np.ndarray, apex: np.ndarray, scale: float, color: str) -> str:
    """Nothing where the covariance is not known."""
    if not np.isfinite(covariance).all():
        return ""
    turn = np.diag([1.0, -1.0]) @ place[[0, 2], :3]
    values, vectors = np.linalg.eigh(turn @ covariance[:3, :3] @ turn.T)
    rx, ry = _SIGMAS * scale * np.sqrt(np.maximum(values, 0.0))
    degrees = np.degrees(np.arctan2(vectors[1, 0], vectors[0, 0]))
    where = f"translate({apex[0]:.2f} {apex[1]:.2f}) rotate({degrees:.1f})"
    return tag("ellipse", rx=float(rx), ry=float(ry), transform=where, fill="none", stroke=color, stroke_width="1.6")
