"""A scene from above: coloured points as an embedded picture, true and predicted cameras as frusta over it."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Float, UInt8

from rig3r_jax.formats.html import escape, format_number, tag
from rig3r_jax.viz.charts import figure_caption
from rig3r_jax.viz.panels import png_data_uri
from rig3r_jax.viz.svg import nice_ticks

_WIDTH, _HEIGHT = 1000, 560
_RASTER = 1.25  # picture pixels of the points per unit of the drawing
_CORNERS = np.array([[-0.6, -0.45, 1.0], [0.6, -0.45, 1.0], [0.6, 0.45, 1.0], [-0.6, 0.45, 1.0]])  # camera frame

ToPage = Callable[[np.ndarray], np.ndarray]  # positions in the world (n 3) to places on the drawing (n 2)


def scene_from_above(
    world_from_camera_true: Float[np.ndarray, "v 4 4"] | None,
    world_from_camera_predicted: Float[np.ndarray, "v 4 4"] | None,
    points_world: Float[np.ndarray, "n 3"],
    colors: UInt8[np.ndarray, "n 3"],
    labels: Sequence[str],
    *,
    title: str,
    unit: str = "m",
) -> str:
    """A `<figure>` that looks down the world's y axis (which points down): x to the right, z upwards on the page.

    The frame is any whose y points down, as the first image's camera does on a level vehicle. The section shown holds
    the true cameras (the predicted ones where none are true) and most points near them; cameras outside and
    without a finite pose are counted in the caption. Dotted lines join a true camera with its prediction.
    """
    cameras = {"true": world_from_camera_true, "predicted": world_from_camera_predicted}
    cameras = {kind: np.asarray(matrices, np.float64) for kind, matrices in cameras.items() if matrices is not None}
    if not cameras:
        raise ValueError(f"scene {title!r} has neither true nor predicted cameras; give at least one of them")
    points = np.asarray(points_world, np.float64)
    finite = np.isfinite(points).all(-1)
    points, colors = points[finite], colors[finite]
    center, scale = _section(cameras, points)  # drawing units per length unit

    def to_page(positions: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 2"]:
        offset = (positions[..., [0, 2]] - center) * scale
        return np.stack([_WIDTH / 2 + offset[..., 0], _HEIGHT / 2 - offset[..., 1]], axis=-1)

    shapes, outside, without_pose = [], 0, 0
    for kind, matrices in cameras.items():
        for view, matrix in enumerate(matrices):
            drawn = _frustum(kind, matrix, to_page, _size(matrices, scale) / scale, view, labels[view])
            has_pose = bool(np.isfinite(matrix).all())
            outside += drawn is None and has_pose
            without_pose += not has_pose
            shapes.append(drawn or "")
    pairs = _pairs(cameras, to_page)
    source = png_data_uri(_picture(points, colors, to_page))
    note = f" {outside} camera{'s lie' if outside > 1 else ' lies'} outside the section." if outside else ""
    note += f" {without_pose} camera{'s have' if without_pose > 1 else ' has'} no pose." if without_pose else ""
    described = f"{title}: {len(points)} points and {sum(map(len, cameras.values()))} cameras from above.{note}"
    layers = [
        _grid(center, scale),
        tag("image", href=source, width=_WIDTH, height=_HEIGHT),
        pairs,
        *shapes,
        _scale_bar(scale, unit),
    ]
    view = f"0 0 {_WIDTH} {_HEIGHT}"
    drawing = tag("svg", "".join(layers), viewBox=view, class_="above", role="img", aria_label=described)
    legend = figure_caption(title, [(kind, f"{kind} cameras", "") for kind in cameras])
    scroll = tag("div", drawing, class_="scroll", tabindex=0, role="group", aria_label=title)
    return tag(
        "figure",
        legend + scroll + tag("p", escape(f"Seen from above; numbers are views.{note}"), class_="note"),
        class_="chart wide",
    )


def _section(
    cameras: Mapping[str, Float[np.ndarray, "v 4 4"]], points: Float[np.ndarray, "n 3"]
) -> tuple[Float[np.ndarray, "2"], float]:
    """Centre (x, z) and scale of the drawing."""
    centers = cameras.get("true", cameras.get("predicted"))[:, [0, 2], 3]
    centers = centers[np.isfinite(centers).all(-1)]
    if not len(centers):
        centers = np.zeros((1, 2))
    middle = (centers.min(0) + centers.max(0)) / 2
    radius = float(np.linalg.norm(centers - middle, axis=-1).max())
    if len(points):
        distance = np.linalg.norm(points[:, [0, 2]] - middle, axis=-1)
        near = float(np.percentile(distance, 70))
        near = min(near, 5.0 * radius) if radius > 0.05 * near else near
        inside = points[distance <= max(near, radius)][:, [0, 2]]
        if len(inside):
            centers = np.concatenate([centers, np.percentile(inside, [1, 99], axis=0)])
    low, high = centers.min(0), centers.max(0)
    span = np.maximum(high - low, max(1e-3, 0.1 * float((high - low).max())))
    return (low + high) / 2, float(min((_WIDTH - 110) / span[0], (_HEIGHT - 110) / span[1]))


def _size(matrices: Float[np.ndarray, "v 4 4"], scale: float) -> float:
    """Depth of the frusta in drawing units: small where cameras stand close together."""
    centers = matrices[np.isfinite(matrices).all((1, 2))][:, [0, 2], 3]
    if len(centers) < 2:
        return 30.0
    distance = np.linalg.norm(centers[:, None] - centers[None], axis=-1) + np.where(np.eye(len(centers)), np.inf, 0.0)
    spacing = float(np.median(distance.min(0))) * scale
    return min(30.0, max(16.0, spacing))


def _frustum(
    kind: str, world_from_camera: Float[np.ndarray, "4 4"], to_page: ToPage, depth: float, view: int, label: str
) -> str | None:
    """SVG group of one camera, None where it lies outside the section."""
    center = world_from_camera[:3, 3]
    corners = center + depth * _CORNERS @ world_from_camera[:3, :3].T
    apex, page = to_page(center), to_page(corners)
    if not np.isfinite(page).all() or not (0 <= apex[0] <= _WIDTH and 0 <= apex[1] <= _HEIGHT):
        return None
    outline = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in page) + "Z"
    rays = "".join(f"M{apex[0]:.1f} {apex[1]:.1f}L{x:.1f} {y:.1f}" for x, y in page)
    side = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in [apex, *_widest(apex, page)]) + "Z"
    ahead = page.mean(0) - apex  # numbers stand before the cameras, where those of a rig are farthest apart
    length = float(np.linalg.norm(ahead))
    spot = apex + ahead * (1.0 + 10.0 / length if length > 2 else 0.0)
    shapes = [
        tag("title", escape(f"view {view}, {kind}: {label}")),
        tag("path", class_="face", d=side),
        tag("path", class_="edge", d=rays + outline),
        tag("circle", cx=float(apex[0]), cy=float(apex[1]), r=2.6),
    ]
    if kind == "true":
        shapes.append(tag("text", str(view), x=float(spot[0]), y=float(spot[1]) + 3.5, text_anchor="middle"))
    return tag("g", "".join(shapes), class_=f"camera {kind}")


def _widest(apex: Float[np.ndarray, "2"], page: Float[np.ndarray, "4 2"]) -> tuple[np.ndarray, np.ndarray]:
    """The two corners that span the largest angle at the apex: the outline of a level camera from above."""
    offsets = page - apex
    crosses = np.abs(offsets[:, None, 0] * offsets[None, :, 1] - offsets[:, None, 1] * offsets[None, :, 0])
    first, second = np.unravel_index(int(crosses.argmax()), crosses.shape)
    return page[first], page[second]


def _pairs(cameras: Mapping[str, Float[np.ndarray, "v 4 4"]], to_page: ToPage) -> str:
    """Dotted lines from each true camera centre to its prediction."""
    if len(cameras) < 2:
        return ""
    ends = [to_page(cameras[kind][:, :3, 3]) for kind in ("true", "predicted")]
    return "".join(
        tag("line", class_="pair", x1=float(a[0]), y1=float(a[1]), x2=float(b[0]), y2=float(b[1]))
        for a, b in zip(*ends, strict=True)
        if np.isfinite([a, b]).all() and np.abs([a, b]).max() < 1e4
    )


def _picture(
    points: Float[np.ndarray, "n 3"], colors: UInt8[np.ndarray, "n 3"], to_page: ToPage
) -> UInt8[np.ndarray, "h w 4"]:
    """RGBA picture of the points, the highest on top; larger spots where there are few."""
    width, height = int(_WIDTH * _RASTER), int(_HEIGHT * _RASTER)
    picture = np.zeros((height, width, 4), np.uint8)
    order = np.argsort(-points[:, 1], kind="stable")  # y points down: the lowest are painted first
    pixels = to_page(points[order]) * _RASTER
    inside = (pixels > -1e6).all(-1) & (pixels < 1e6).all(-1)
    pixels, shades = np.floor(pixels[inside]).astype(int), colors[order][inside]
    visible = ((pixels >= 0) & (pixels < (width, height))).all(-1).sum()
    size = int(np.clip(np.sqrt(0.3 * width * height / max(visible, 1)), 2, 5))
    rows, columns = (offset.ravel() - size // 2 for offset in np.mgrid[:size, :size])
    x, y = (pixels[:, :1] + columns).ravel(), (pixels[:, 1:] + rows).ravel()  # point by point, so that the order stays
    keep = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    picture[y[keep], x[keep], :3] = shades.repeat(size * size, axis=0)[keep]
    picture[y[keep], x[keep], 3] = 255
    return picture


def _grid(center: Float[np.ndarray, "2"], scale: float) -> str:
    """Fine lines at round coordinates."""
    half = np.array([_WIDTH, _HEIGHT]) / 2 / scale
    parts = []
    for x in nice_ticks(center[0] - half[0], center[0] + half[0], 6):
        at = _WIDTH / 2 + (x - center[0]) * scale
        parts.append(tag("line", class_="grid", x1=float(at), x2=float(at), y1=0, y2=_HEIGHT))
    for z in nice_ticks(center[1] - half[1], center[1] + half[1], 5):
        at = _HEIGHT / 2 - (z - center[1]) * scale
        parts.append(tag("line", class_="grid", x1=0, x2=_WIDTH, y1=float(at), y2=float(at)))
    return "".join(parts)


def _scale_bar(scale: float, unit: str) -> str:
    """A bar of a round length in the lower left corner."""
    length = nice_ticks(0.0, 0.2 * _WIDTH / scale, 4)[-1]
    end, y = 24 + length * scale, _HEIGHT - 22
    words = f"{format_number(length)} {escape(unit)}"
    text = tag("text", words, x=(24 + end) / 2, y=y - 8, text_anchor="middle")
    return tag("g", tag("path", d=f"M24 {y - 5}V{y}H{end:.1f}V{y - 5}") + text, class_="scalebar")
