"""Where predicted depths are wrong, pixel by pixel, on the images that have a true depth."""

import numpy as np
from jaxtyping import Float

from rig3r_jax.evaluation.systems.aligned import AlignedScene
from rig3r_jax.evaluation.systems.scene import DepthMap
from rig3r_jax.formats.colormap import colormap
from rig3r_jax.formats.html import escape, tag
from rig3r_jax.viz.panels import colorbar, depth_panel, depth_range, fit_for_display, png_data_uri

_WORST = 0.5  # of the true depth: the end of the colours
_MOST = 12  # images of a scene


def error_maps(scene: AlignedScene) -> str:
    """True depth, predicted depth and error of each image, or in a line why there is none; lengths are the truth's."""
    if scene.theirs.depths is None or scene.ours.depths is None:
        lack = scene.theirs if scene.theirs.depths is None else scene.ours
        return tag("p", escape(f"No error maps: {lack.source} has no depth maps."), class_="note")
    if scene.alignment is None or not np.isfinite(scene.alignment.scale):
        return tag("p", "No error maps: no alignment tells the unit of the depths.", class_="note")
    rows, left_out = [], 0
    for row, (ours, theirs) in enumerate(zip(scene.ours.depths, scene.theirs.depths, strict=True)):
        if ours is None or theirs is None:
            continue
        if (pair := ours.in_one_kind(theirs)) is None:
            left_out += 1
            continue
        rows.append((row, *_maps(*pair, scene.alignment.scale), relative_errors(*pair, scene.alignment.scale)))
    if not rows:
        return tag("p", "No error maps: no image has a depth of the same kind in both.", class_="note")
    step = -(-len(rows) // _MOST)
    bounds = depth_range(*(true for _, true, _, _ in rows))
    names = scene.theirs.names or [str(row) for row in range(len(scene.theirs))]
    figures = "".join(
        _figure(names[row], true, predicted, error, bounds) for row, true, predicted, error in rows[::step]
    )
    low, high = bounds
    bars = colorbar("depth", "depth, the truth's unit, logarithmic", (low, float(np.sqrt(low * high)), high))
    bars += colorbar("error", "error, share of the true depth", (0.0, _WORST / 2, _WORST))
    note = "From left to right: true depth, predicted depth, |predicted − true| / true."
    note += f" {len(rows[::step])} of {len(rows)} images." if step > 1 else ""
    note += f" {left_out} more have depths of another kind, without lenses: left out." if left_out else ""
    return tag("p", escape(note), class_="note") + tag("div", figures, class_="maps") + tag("div", bars, class_="bars")


def relative_errors(ours: DepthMap, theirs: DepthMap, scale: float) -> Float[np.ndarray, "h w"]:
    """|predicted - true| / true on the true grid, predictions times the scale; NaN where either is not known."""
    true, predicted = _maps(ours, theirs, scale)
    return np.abs(predicted - true) / true


def _maps(ours: DepthMap, theirs: DepthMap, scale: float) -> tuple[Float[np.ndarray, "h w"], Float[np.ndarray, "h w"]]:
    """True and predicted depth on the true grid; NaN where not known."""
    true = np.where(theirs.valid, theirs.depth, np.nan)
    depth, has_depth = ours.nearest(theirs.uv.reshape(-1, 2))
    predicted = np.where(has_depth, scale * depth, np.nan).reshape(true.shape)
    return true, predicted


def _figure(
    name: str,
    true: Float[np.ndarray, "h w"],
    predicted: Float[np.ndarray, "h w"],
    error: Float[np.ndarray, "h w"],
    bounds: tuple[float, float],
) -> str:
    mean = f", {np.nanmean(error):.1%}" if np.isfinite(error).any() else ""
    pictures = [depth_panel(true, bounds), depth_panel(predicted, bounds)]
    pictures.append(png_data_uri(colormap(fit_for_display(error) / _WORST, "error")))
    words = ("true depth", "predicted depth", "error")
    images = "".join(
        f'<img src="{picture}" alt="{escape(f"{word} of {name}")}">'
        for word, picture in zip(words, pictures, strict=True)
    )
    return tag("figure", images + tag("figcaption", escape(f"{name}{mean}")))
