"""Pictures of what the model saw and said: images, depth and confidence as embedded PNGs, grouped by view."""

import base64
import struct
import zlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, UInt8

from rig3r_jax.formats.colormap import COLORMAPS, colormap
from rig3r_jax.formats.html import escape, format_number, tag

SHOWN_PIXELS = 192  # longest side of a panel, about: smaller images are repeated, those over twice this averaged
_PER_BAND = 8  # views side by side
_FEW = 0.2  # below this share of known pixels a depth is LiDAR-like and its points are drawn larger


def encode_png(image: UInt8[np.ndarray, "h w c"]) -> bytes:
    """PNG of an RGB (c = 3) or RGBA (c = 4) image."""
    height, width, channels = image.shape
    if not height or not width or channels not in (3, 4):
        raise ValueError(
            f"image of shape {image.shape} is no PNG; give (height, width, 3 or 4) with at least one pixel"
        )
    above = np.concatenate([np.zeros_like(image[:1]), image[:-1]])
    rows = np.empty((height, 1 + width * channels), np.uint8)
    rows[:, 0] = 2  # filter "up": repeated rows become zeros
    rows[:, 1:] = (image - above).reshape(height, -1)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2 if channels == 3 else 6, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows.tobytes(), 9)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def png_data_uri(image: UInt8[np.ndarray, "h w c"]) -> str:
    """The image as a `data:` address for an `<img>` or SVG `<image>`."""
    return png_source(encode_png(image))


def png_source(png: bytes) -> str:
    """The file as a `data:` address."""
    return "data:image/png;base64," + base64.b64encode(png).decode("ascii")


def fit_for_display(values: np.ndarray, pixels: int = SHOWN_PIXELS) -> np.ndarray:
    """The image (h w ...) near `pixels` wide: small ones repeated (nearest), large ones averaged, NaN left out."""
    longest = max(values.shape[:2])
    if longest >= 2 * pixels:
        factor = longest // pixels
        height, width = (side // factor * factor for side in values.shape[:2])
        blocks = values[: max(height, 1), : max(width, 1)].astype(np.float64)
        blocks = blocks.reshape(height // factor, factor, width // factor, factor, *values.shape[2:])
        finite = np.isfinite(blocks)
        count = finite.sum((1, 3))
        mean = np.where(finite, blocks, 0.0).sum((1, 3)) / np.maximum(count, 1)
        mean = np.where(count > 0, mean, np.nan)
        return np.rint(mean).astype(np.uint8) if values.dtype == np.uint8 else mean
    factor = max(1, round(pixels / longest))
    return values.repeat(factor, axis=0).repeat(factor, axis=1)


def depth_range(*depths: Float[np.ndarray, "..."] | None) -> tuple[float, float]:
    """Common range of depths: 2nd to 98th percentile of the positive finite values; (nan, nan) without any."""
    values = [depth[np.isfinite(depth) & (depth > 0)] for depth in depths if depth is not None]
    values = np.concatenate(values) if values else np.zeros(0)
    if not len(values):
        return float("nan"), float("nan")
    low, high = (float(bound) for bound in np.percentile(values, [2, 98]))
    return (low, high) if high > low * 1.001 else (low / 1.5, high * 1.5)


def depth_panel(depth: Float[np.ndarray, "h w"], bounds: tuple[float, float]) -> str:
    """Data URI of a depth map, coloured on a logarithmic scale between the bounds; transparent where not positive."""
    measured = np.isfinite(depth) & (depth > 0)
    values = np.where(measured, depth, np.nan).astype(np.float64)
    if 0 < measured.mean() < _FEW:
        values = _spread(values)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.log(fit_for_display(values) / bounds[0]) / np.log(bounds[1] / bounds[0])
    return png_data_uri(colormap(share, "depth"))


def confidence_panel(confidence: Float[np.ndarray, "h w"], bounds: tuple[float, float]) -> str:
    """Data URI of a confidence map, coloured linearly between the bounds."""
    values = np.where(np.isfinite(confidence), confidence, np.nan).astype(np.float64)
    share = (fit_for_display(values) - bounds[0]) / max(bounds[1] - bounds[0], 1e-9)
    return png_data_uri(colormap(share, "confidence"))


def view_panels(
    images: UInt8[np.ndarray, "v h w 3"],
    depth_true: Float[np.ndarray, "v ht wt"] | None,
    depth_predicted: Float[np.ndarray, "v hp wp"] | None,
    confidence: Float[np.ndarray, "v hc wc"] | None,
    valid: Bool[np.ndarray, "v ht wt"] | None,
    labels: Sequence[str],
    unit: str = "m",
) -> str:
    """HTML with a column per view, at most eight abreast: input, true and predicted depth on one scale, confidence.

    `labels` are the captions of the columns, plain text, where a newline breaks the line. Rows that are None are left
    out; pixels that are not valid stay empty.
    """
    if len(labels) != len(images):
        raise ValueError(f"{len(labels)} labels for {len(images)} views; give one per view")
    if depth_true is not None and valid is not None:
        depth_true = np.where(valid, depth_true, np.nan)
    bounds = depth_range(depth_true) if depth_true is not None else depth_range(depth_predicted)
    if np.isnan(bounds[0]):
        bounds = depth_range(depth_predicted)
    sure = _bounds(confidence)
    rows = [("Input", "input image", [png_data_uri(fit_for_display(image)) for image in images])]
    for name, depths in (("Depth, true", depth_true), ("Depth, predicted", depth_predicted)):
        if depths is not None:
            rows.append((name, name.lower(), [depth_panel(depth, bounds) for depth in depths]))
    if confidence is not None:
        rows.append(("Confidence", "confidence", [confidence_panel(one, sure) for one in confidence]))
    count = len(images)
    per_band = -(-count // -(-count // _PER_BAND)) if count else 1
    bands = [_band(rows, labels, range(start, min(start + per_band, count))) for start in range(0, count, per_band)]
    bars = []
    if depth_true is not None or depth_predicted is not None:
        middle = float(np.sqrt(bounds[0] * bounds[1]))
        bars.append(colorbar("depth", f"Depth in {unit}, logarithmic", (bounds[0], middle, bounds[1])))
    if confidence is not None:
        bars.append(colorbar("confidence", "Confidence", (sure[0], sum(sure) / 2, sure[1])))
    return f'{"".join(bands)}<div class="bars">{"".join(bars)}</div>'


def _spread(values: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """Every known value drawn over its 3x3 neighbours, the nearest depth in front: LiDAR points become visible."""
    height, width = values.shape
    padded = np.pad(values, 1, constant_values=np.nan)
    shifted = [padded[i : i + height, j : j + width] for i in range(3) for j in range(3)]
    nearest = np.min(np.where(np.isnan(shifted), np.inf, shifted), axis=0)
    return np.where(np.isfinite(nearest), nearest, np.nan)


def _bounds(confidence: Float[np.ndarray, "v h w"] | None) -> tuple[float, float]:
    """2nd to 98th percentile of the confidence."""
    finite = np.zeros(0) if confidence is None else confidence[np.isfinite(confidence)]
    return tuple(float(bound) for bound in np.percentile(finite, [2, 98])) if len(finite) else (float("nan"),) * 2


def _band(rows: Sequence[tuple[str, str, list[str]]], labels: Sequence[str], views: Sequence[int]) -> str:
    """Some views side by side, with the names of the rows at the left."""
    cells = [tag("span")] + [tag("span", escape(labels[view]).replace("\n", "<br>"), class_="view") for view in views]
    for name, alt, sources in rows:
        cells.append(tag("span", escape(name), class_="rowname"))
        for view in views:
            text = f"{alt}, view {view}: {labels[view]}".replace("\n", ", ")
            cells.append(f'<img src="{sources[view]}" alt="{escape(text)}" loading="lazy">')
    band = tag("div", "".join(cells), class_="band", style=f"--views:{len(views)}")
    return tag("div", band, class_="scroll", tabindex=0, role="group", aria_label="views")


def colorbar(name: str, label: str, ticks: Sequence[float]) -> str:
    """The colours of a map over the numbers at its start, middle and end."""
    ramp = tag("div", class_="ramp", style=f"background:linear-gradient(90deg, {', '.join(COLORMAPS[name])})")
    numbers = tag("div", "".join(tag("span", format_number(tick, 3)) for tick in ticks), class_="numbers")
    return tag("div", tag("span", escape(label), class_="axis") + ramp + numbers, class_="bar")
