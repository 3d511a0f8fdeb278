"""An estimated trajectory with its predicted uncertainty beside the true one, as PNG."""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from rig3r_jax.viz.figures import COLORS, INK, QUIET, figure

MARKED = 10  # frames with an ellipse
_ABOVE = [0, 2]  # x to the right, z forward
_VISIBLE = 0.03  # of the drawing, for the largest sigma of an ellipse


def write_trajectory_chart(
    path: str | Path,
    title: str,
    times: Float[np.ndarray, " n"],
    first_from_camera_true: Float[np.ndarray, "n 4 4"],
    first_from_camera_estimated: Float[np.ndarray, "n 4 4"],
    covariance: Float[np.ndarray, "n 6 6"],
) -> None:
    """Draws both paths from above with ellipses of one sigma, and how far apart they are beside the sigma.

    Ellipses too small to be seen are drawn larger; the legend says how many times.

    Args:
        path: of the PNG.
        title: in the top left corner.
        times: seconds.
        first_from_camera_true: in the frame of the first camera, metres; its y axis points down.
        first_from_camera_estimated: likewise. The first cameras coincide: only there are the covariances of what is
            seen.
        covariance: of the tangents (v, w) in first_from_camera_estimated exp(v, w).
    """
    centers_true, centers = (
        x[:, :3, 3].astype(np.float64) for x in (first_from_camera_true, first_from_camera_estimated)
    )
    turns = first_from_camera_estimated[:, :3, :3].astype(np.float64)
    spread = turns @ covariance[:, :3, :3] @ np.swapaxes(turns, -1, -2)  # of the centres, in the first camera's frame
    with figure(Path(path), title, 2, panel_size=(5.8, 4.8)) as (above, apart):
        _draw_above(above, centers_true, centers, spread)
        seconds = times - times[0]
        distance = np.linalg.norm(centers - centers_true, axis=-1)
        sigma = np.sqrt(np.maximum(np.trace(spread, axis1=-2, axis2=-1), 0.0))
        apart.plot(seconds, distance, color=COLORS[1], lw=1.6, label="distance of the estimate from the truth")
        apart.plot(seconds, sigma, color=COLORS[0], lw=1.6, ls="--", label="sigma of it, by the graph's covariances")
        apart.set(title="First cameras coincide: error of the others", xlabel="seconds", ylabel="metres")
        apart.set(ylim=(0.0, 1.2 * max(distance.max(), sigma.max(), 1e-9)))
        apart.legend(loc="upper left")


def _draw_above(ax: Any, centers_true: np.ndarray, centers: np.ndarray, spread: np.ndarray) -> None:
    from matplotlib.patches import Ellipse

    true, estimated = centers_true[:, _ABOVE], centers[:, _ABOVE]
    ax.plot(*true.T, color=INK, lw=1.4, label="true")
    ax.plot(*estimated.T, color=COLORS[1], lw=1.6, label="estimated")
    frames = np.unique(np.linspace(0, len(centers) - 1, MARKED + 1).round().astype(int))[1:]  # the first is exact
    values, vectors = np.linalg.eigh(spread[frames][:, _ABOVE][:, :, _ABOVE])
    sigmas = np.sqrt(np.maximum(values, 0.0))
    factor = _enlargement(float(sigmas.max()), float(np.ptp(true, axis=0).max()))
    label = "one sigma (holds 39%)" if factor == 1 else f"one sigma, {factor} times as large"
    for frame, sigma, axes in zip(frames, sigmas, vectors, strict=True):
        angle = np.degrees(np.arctan2(axes[1, 0], axes[0, 0]))
        ellipse = Ellipse(estimated[frame], *(2.0 * factor * sigma), angle=angle, ec=COLORS[0], lw=1.0)
        ellipse.set(facecolor=(*_rgb(COLORS[0]), 0.18), label=label if frame == frames[0] else None)
        ax.add_patch(ellipse)
        same = "same frame" if frame == frames[0] else None
        ax.plot(*np.stack([true[frame], estimated[frame]]).T, color=QUIET, lw=1.0, marker=".", ms=4, label=same)
    ax.plot(*estimated[0], color=INK, ls="none", marker="s", ms=5, label="first frame")
    ax.autoscale_view()
    ax.set_aspect("equal", adjustable="datalim")
    ax.set(title="From above the first camera", xlabel="to its right, m", ylabel="ahead of it, m")
    ax.legend(loc="best")


def _enlargement(sigma: float, extent: float) -> int:
    """What makes ellipses of the largest `sigma` visible in a drawing of this extent, both in metres."""
    for factor in (1, 2, 5, 10, 20, 50):
        if factor * sigma >= _VISIBLE * extent:
            return factor
    return 100


def _rgb(color: str) -> tuple[float, ...]:
    return tuple(int(color[at : at + 2], 16) / 255 for at in (1, 3, 5))
