"""What predicted pose uncertainty is good for: trajectories of overlapping windows, weighted by it and scored.

`trajectory_predictions` asks the head, `compare` sets its weights against those without it. How windows become one
trajectory, evaluation.pose_graph and .edge_weighting know.
"""

import dataclasses
import functools
import math
import typing
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int, PyTree
from scipy import sparse, stats
from scipy.sparse import csgraph

from rig3r_jax.data.windows import consecutive_windows
from rig3r_jax.evaluation.edge_weighting import (
    CHAINED,
    WEIGHTINGS,
    WeightingScore,
    WindowPredictions,
    compare_weightings,
)
from rig3r_jax.formats import markdown
from rig3r_jax.formats.json_file import plain
from rig3r_jax.geometry import residual, se3
from rig3r_jax.losses.pose_nll import NllOptions, window_errors
from rig3r_jax.uncertainty.features import WindowFeatures
from rig3r_jax.uncertainty.head import predicted_covariance

KERNELS = ("none", "huber")  # that are reported
BLIND = (CHAINED, "uniform", "constant", "predicted")  # rows that do not see the truth, so that one of them can win
_TIE = 1e-6  # of an ATE; where windows share one frame only, weights change nothing but the rounding
_AGREEMENT = 1e-3  # metres per metre from the first frame and per metre itself; entries of rotations
LEGEND = (
    "ATE (after se3 alignment) and RPE (from each frame to the next) are means over trajectories of root mean squares. "
    "ATE / constant: median over trajectories (quartiles). better: trajectories whose ATE is below the constant "
    "weighting's. wins: trajectories whose ATE is the lowest of the rows that do not see the truth; ties count for "
    "each. chained: no graph is solved. constant: one sigma per dimension, of the training residuals. oracle: each "
    "edge's own true error, which nobody can have. Windows carry the scale that fits them to the truth. p: of a "
    "two-sided sign test, ties left out."
)


@dataclasses.dataclass(frozen=True)
class Overall:
    """One weighting over all trajectories; see LEGEND. NaN where the constant weighting errs by nothing at all."""

    ate_m: float
    rpe_trans_m: float
    rpe_rot_deg: float
    ate_of_constant: float  # the median, between the quartiles
    ate_of_constant_p25: float
    ate_of_constant_p75: float
    better: int
    worse: int
    wins: int | None  # None: it sees the truth
    not_converged: int


@dataclasses.dataclass(frozen=True)
class Comparison:
    """All weightings of `trajectories` under one robust kernel; rows in the order CHAINED, *WEIGHTINGS."""

    kernel: str
    sigma: tuple[float, ...]  # of the constant weighting, metres and radians
    trajectories: dict[str, dict[str, WeightingScore]]
    overall: dict[str, Overall]

    @property
    def sign_test(self) -> float:
        """Two-sided p of as many trajectories or more on one side, were predicted weights worth no more nor less."""
        found = self.overall["predicted"]
        count = found.better + found.worse
        return float(stats.binomtest(found.better, count).pvalue) if count else math.nan

    def to_json(self) -> dict[str, typing.Any]:
        """Plain numbers, lists and dicts; null for what is NaN."""
        return plain(dataclasses.asdict(self) | {"sign_test": self.sign_test})


def covering_windows(name: str, frame_count: int, views: int, overlap: float = 0.5) -> Int[np.ndarray, "w v"]:
    """Frames of consecutive windows over a trajectory, neighbours sharing the fraction `overlap` or more.

    ValueError with `name` where it is shorter than a window, or where windows that do not overlap leave it in parts.
    """
    spans = consecutive_windows(frame_count, views, overlap)
    frames = spans[:, :1] + np.arange(views)
    check_covered(name, frames, frame_count)
    return frames


def check_covered(name: str, frames: Int[np.ndarray, "w v"], frame_count: int) -> None:
    """ValueError with `name` unless the windows join all frames of a trajectory to one graph."""
    views = frames.shape[1]
    if frame_count < views:
        raise ValueError(f"{name}: has {frame_count} frames, a window needs {views}; leave it out, or lower views")
    if frames.size and (frames.min() < 0 or frames.max() >= frame_count):
        raise ValueError(f"{name}: windows count frames {frames.min()}..{frames.max()} of {frame_count}; correct them")
    first = np.broadcast_to(frames[:, :1], frames.shape).ravel()
    links = sparse.csr_array((np.ones(frames.size), (first, frames.ravel())), shape=(frame_count, frame_count))
    parts, part = csgraph.connected_components(links, directed=False)
    if parts == 1:
        return
    stray = int(np.argmax(part != part[0]))
    left_out = frame_count - len(np.unique(frames))
    why = f"{left_out} frames are in no window" if left_out else "neighbouring windows share no frame"
    raise ValueError(
        f"{name}: its {len(frames)} windows fall into {parts} parts, frame {stray} is in another than frame 0: {why}; "
        "give windows that overlap and cover every frame, or each part as a trajectory"
    )


def trajectory_predictions(
    windows: WindowFeatures,
    frames: Int[np.ndarray, "w v"],
    world_from_camera_true: Float[np.ndarray, "n 4 4"],
    params: PyTree,
    nll: NllOptions,
    name: str = "trajectory",
) -> WindowPredictions:
    """The last refinement of overlapping windows with the head's covariances, ready for the pose graph; float64.

    Args:
        windows: of one trajectory, which they cover.
        frames: of each window, counted in the trajectory.
        world_from_camera_true: of the trajectory, metres.
        params: of the head.
        nll: how the head's numbers are read; `min_translation` is that of the windows' scale, as in training.
        name: of the trajectory, for errors.

    Raises:
        ValueError: the windows leave the trajectory in parts, or theirs is another truth than the trajectory's.
    """
    if frames.shape != (len(windows), windows.views):
        raise ValueError(f"{name}: frames of shape {frames.shape} for {len(windows)} windows of {windows.views} frames")
    check_covered(name, frames, len(world_from_camera_true))
    true = _rigid(world_from_camera_true)
    _check_truth(name, windows, frames, true)
    cameras = (windows.camera_from_world_predicted[-1:], windows.camera_from_world_true)
    with jax.enable_x64(True):
        wide = (jnp.asarray(x, jnp.float64) for x in cameras)
        first_from_camera = np.asarray(_scaled(*wide, nll.min_translation), np.float64)
    covariance = predicted_covariance(params, windows, nll)
    return WindowPredictions(frames.astype(np.int64), first_from_camera, covariance, true)


def compare(
    trajectories: Mapping[str, WindowPredictions], sigma: Float[np.ndarray, "6"], kernel: str = "none"
) -> Comparison:
    """Scores of every weighting on every trajectory, and over all of them.

    Args:
        trajectories: by name.
        sigma: of the constant weighting: `evaluation.edge_weighting.constant_sigma` of the TRAINING residuals.
        kernel: one of `evaluation.pose_graph.KERNELS`; `KERNELS` are reported.
    """
    if not trajectories:
        raise ValueError("there are no trajectories to compare weightings on; give at least one")
    scores = {}
    for name, predictions in trajectories.items():
        check_covered(name, predictions.windows, len(predictions.world_from_camera_true))
        try:
            scores[name] = compare_weightings(predictions, sigma, kernel)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    overall = {weighting: _overall(weighting, list(scores.values())) for weighting in (CHAINED, *WEIGHTINGS)}
    return Comparison(kernel, tuple(sigma.tolist()), scores, overall)


def format_comparisons(comparisons: Sequence[Comparison]) -> str:
    """Markdown: a row per kernel and weighting, what predicted weights gain or lose, and a legend."""
    titles = ["kernel", "weighting", "ATE m", "ATE / constant", "better", "wins", "RPE m", "RPE deg"]
    table, verdicts, first = [], [], []
    for comparison in comparisons:
        rows = [_cells(comparison, weighting) for weighting in comparison.overall]
        if rows == first:
            told = f"the same as under {comparisons[0].kernel}, since no edge is beyond the kernel's threshold"
            verdicts.append(f"* kernel {comparison.kernel}: {told}.")
            continue
        first = first or rows
        table += [[comparison.kernel, *cells] for cells in rows]
        verdicts.append(f"* {_verdict(comparison)}")
    return "\n".join([markdown.table(titles, table, left=2), "", *verdicts, "", LEGEND]) + "\n"


def _cells(comparison: Comparison, weighting: str) -> list[str]:
    found = comparison.overall[weighting]
    quartiles = f"{markdown.number(found.ate_of_constant_p25)} to {markdown.number(found.ate_of_constant_p75)}"
    return [
        weighting + (" (sees the truth)" if found.wins is None else ""),
        markdown.number(found.ate_m) + (f" ({found.not_converged} not converged)" if found.not_converged else ""),
        f"{markdown.number(found.ate_of_constant)} ({quartiles})",
        "-" if weighting == "constant" else str(found.better),
        "-" if found.wins is None else str(found.wins),
        markdown.number(found.rpe_trans_m),
        markdown.number(found.rpe_rot_deg),
    ]


def _overall(weighting: str, scores: Sequence[Mapping[str, WeightingScore]]) -> Overall:
    def means(field: str) -> float:
        return float(np.mean([getattr(row[weighting], field) for row in scores]))

    ratios = np.array([row[weighting].ate_of_constant for row in scores])
    quartiles = np.percentile(ratios, [25, 50, 75]).tolist()  # NaN where one is
    best = np.array([min(row[name].ate_m for name in BLIND) for row in scores])
    ates = np.array([row[weighting].ate_m for row in scores])
    return Overall(
        ate_m=means("ate_m"),
        rpe_trans_m=means("rpe_trans_m"),
        rpe_rot_deg=means("rpe_rot_deg"),
        ate_of_constant=quartiles[1],
        ate_of_constant_p25=quartiles[0],
        ate_of_constant_p75=quartiles[2],
        better=int(np.sum(ratios < 1 - _TIE)),
        worse=int(np.sum(ratios > 1 + _TIE)),
        wins=int(np.sum(ates <= best * (1 + _TIE))) if weighting in BLIND else None,
        not_converged=sum(not row[weighting].converged for row in scores),
    )


def _verdict(comparison: Comparison) -> str:
    found, count = comparison.overall["predicted"], len(comparison.trajectories)
    p = markdown.number(comparison.sign_test, ".2g")
    return (
        f"kernel {comparison.kernel}: with predicted weights the ATE is lower than with the constant ones on "
        f"{found.better} and higher on {found.worse} of {count} trajectories (p = {p}), "
        f"median {markdown.number(found.ate_of_constant)} of it."
    )


def _check_truth(name: str, windows: WindowFeatures, frames: np.ndarray, true: np.ndarray) -> None:
    """The windows' scale is fitted to their own truth, which must be that of the frames they are said to be of."""
    expected = np.linalg.inv(true[frames[:, :1]]) @ true[frames]
    camera_from_world = windows.camera_from_world_true.astype(np.float64)
    found = camera_from_world[:, :1] @ np.linalg.inv(camera_from_world)
    apart = np.linalg.norm(found[..., :3, 3] - expected[..., :3, 3], axis=-1)
    apart /= 1.0 + np.linalg.norm(expected[..., :3, 3], axis=-1)
    apart = np.maximum(apart, np.abs(found - expected)[..., :3, :3].max(axis=(-2, -1))).max(axis=-1)
    if (apart > _AGREEMENT).any():
        window = int(np.argmax(apart > _AGREEMENT))
        raise ValueError(
            f"{name}: window {windows.names[window]} has other true cameras than frames {frames[window].tolist()} of "
            f"the trajectory (off by {apart[window]:.3g}); give the frames that its features were computed of"
        )


@functools.partial(jax.jit, static_argnums=2)
def _scaled(predicted: jax.Array, true: jax.Array, min_translation: float) -> jax.Array:
    """first_from_camera (b v 4 4) of predicted camera_from_world (1 b v 4 4) in the windows' fitted lengths."""
    _, motion = window_errors(predicted, true, min_translation)
    first_from_camera = residual.relative_to_first(se3.through_quaternion(predicted[0]))
    return residual.scale_translation(first_from_camera, motion.scale.scale[0])


def _rigid(a_from_b: np.ndarray) -> np.ndarray:
    """In float64, rotations orthonormal to its rounding."""
    with jax.enable_x64(True):
        return np.asarray(_through_quaternion(jnp.asarray(a_from_b, jnp.float64)), np.float64)


_through_quaternion = jax.jit(se3.through_quaternion)
