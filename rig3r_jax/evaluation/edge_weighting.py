"""What predicted uncertainty is worth: one pose graph under several weightings of its edges, scored by its trajectory.

The weightings, from the least that is known of the errors to the most:

    uniform     the identity: a metre counts as a radian, every edge as any other
    constant    one sigma per dimension for all edges, fitted to residuals of another split (the fair baseline)
    predicted   the covariance that the network gave to each edge
    oracle      inverse squares of each edge's own true errors, floored. Not available in practice; it shows roughly
                how much weights could do at most, though it is no bound in the strict sense

Every one solves the same measurements from the same guess ("chained", a row of its own), with the same robust kernel
on the same residuals: `optimize` discounts by residuals in units of the constant sigma under all four.
"""

import dataclasses
import typing

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from rig3r_jax.evaluation.error_samples import ErrorSamples, squared_distances
from rig3r_jax.evaluation.pose_graph import (
    Edges,
    PoseGraph,
    chain,
    connected_parts,
    marginal_covariances,
    optimize,
    star_edges,
)
from rig3r_jax.evaluation.trajectory import absolute_errors, align_trajectory, relative_errors, statistics
from rig3r_jax.geometry import residual, rigid, se3
from rig3r_jax.geometry.robust import THRESHOLD

WEIGHTINGS = ("uniform", "constant", "predicted", "oracle")
CHAINED = "chained"
ORACLE_FLOOR = 0.1  # of the constant sigma; an error that happens to be zero would else have infinite weight


@dataclasses.dataclass(frozen=True)
class WeightingScore:
    """Root mean squares over the frames of the graph; NaN for the cost of "chained", which nothing was solved for."""

    ate_m: float  # after "se3" alignment
    ate_sim3_m: float  # after "sim3" alignment
    ate_of_constant: float  # ate_m as a multiple of the constant weighting's
    rpe_trans_m: float  # of each of the graph's frames to the next one, in order
    rpe_rot_deg: float
    cost: float
    iterations: int
    converged: bool


@typing.no_type_check
@dataclasses.dataclass(frozen=True)
class WeightedTrajectory:
    """A trajectory solved with predicted weights and no robust kernel; the world is the first camera."""

    world_from_camera: Float[np.ndarray, "n 4 4"]
    covariance: Float[np.ndarray, "n 6 6"]  # of every camera's tangent, the first camera exact
    edges: Edges
    ate_m: float  # after se3 alignment
    rpe_trans_m: float
    rpe_rot_deg: float
    d2: dict[str, float]  # see `solve_predicted`
    converged: bool


@typing.no_type_check
@dataclasses.dataclass(frozen=True)
class WindowPredictions:
    """What a network said of overlapping windows of one trajectory, and the truth.

    windows: frames of each window, counted in `world_from_camera_true`; frames in no window are left out.
    first_from_camera: predicted, lengths already times the window's scale (`geometry.residual.scale_translation`).
    covariance: predicted, of the residuals of frames 1..: whole matrices, or the variances of (v, w).
    """

    windows: Int[np.ndarray, "w v"]
    first_from_camera: Float[np.ndarray, "w v 4 4"]
    covariance: Float[np.ndarray, "w v-1 6 6"] | Float[np.ndarray, "w v-1 6"]
    world_from_camera_true: Float[np.ndarray, "n 4 4"]

    def residual(self) -> Float[np.ndarray, "w v-1 6"]:
        """Log(inverse(true) predicted) of frames 1.. of each window."""
        camera_from_world_true = rigid.invert(self.world_from_camera_true)
        with jax.enable_x64(True):
            first_from_camera_true = residual.relative_to_first(jnp.asarray(camera_from_world_true[self.windows]))
            predicted = jnp.asarray(self.first_from_camera.astype(np.float64))
            tangents = residual.scaled_residual(predicted, first_from_camera_true, jnp.ones(len(self.windows)))
            return np.asarray(tangents[:, 1:], np.float64)


def check_covered(name: str, frames: Int[np.ndarray, "w v"], frame_count: int) -> None:
    """ValueError with `name` unless the windows join all frames of a trajectory to one graph."""
    views = frames.shape[1]
    if frame_count < views:
        raise ValueError(f"{name}: has {frame_count} frames, a window needs {views}; leave it out, or lower views")
    if frames.size and (frames.min() < 0 or frames.max() >= frame_count):
        raise ValueError(f"{name}: windows count frames {frames.min()}..{frames.max()} of {frame_count}; correct them")
    first = np.broadcast_to(frames[:, :1], frames.shape)
    parts, part = connected_parts(frame_count, np.stack([first, frames], axis=-1).reshape(-1, 2))
    if parts == 1:
        return
    stray = int(np.argmax(part != part[0]))
    left_out = frame_count - len(np.unique(frames))
    why = f"{left_out} frames are in no window" if left_out else "neighbouring windows share no frame"
    raise ValueError(
        f"{name}: its {len(frames)} windows fall into {parts} parts, frame {stray} is in another than frame 0: {why}; "
        "give windows that overlap and cover every frame, or each part as a trajectory"
    )


def constant_sigma(residuals: Float[np.ndarray, "*b 6"]) -> Float[np.ndarray, "6"]:
    """The zero-mean Gaussian's maximum likelihood sigma of each dimension, metres and radians."""
    rows = residuals.reshape(-1, 6).astype(np.float64)
    sigma = np.sqrt(np.mean(rows**2, axis=0)) if len(rows) else np.full(6, np.nan)
    if not (np.isfinite(sigma) & (sigma > 0)).all():
        raise ValueError(
            f"sigma of {len(rows)} residuals is {sigma.tolist()}; give finite residuals that are not all 0"
        )
    return sigma


def information_of(
    weighting: str, predictions: WindowPredictions, sigma: Float[np.ndarray, "6"], oracle_floor: float = ORACLE_FLOOR
) -> Float[np.ndarray, "w e 6 6"]:
    """Information of each edge under a weighting of `WEIGHTINGS`; `sigma` is that of `constant_sigma`."""
    shape = (len(predictions.windows), predictions.windows.shape[1] - 1, 6)
    if weighting == "predicted":
        covariance = predictions.covariance.astype(np.float64)
        if covariance.shape != (*shape, 6):
            return _diagonal(covariance)
        if not np.isfinite(covariance).all() or (np.linalg.det(covariance) == 0).any():
            raise ValueError("a predicted covariance is not finite or singular; bound its variances on both sides")
        return np.linalg.inv(covariance)
    variances = {
        "uniform": lambda: np.ones(shape),
        "constant": lambda: np.broadcast_to(sigma**2, shape),
        "oracle": lambda: np.maximum(predictions.residual() ** 2, (oracle_floor * sigma) ** 2),
    }
    if weighting not in variances:
        raise ValueError(f"weighting {weighting!r} is unknown; choose from {', '.join(WEIGHTINGS)}")
    return _diagonal(variances[weighting]())


def compare_weightings(
    predictions: WindowPredictions,
    sigma: Float[np.ndarray, "6"],
    kernel: str = "none",
    threshold: float = THRESHOLD,
    oracle_floor: float = ORACLE_FLOOR,
) -> dict[str, WeightingScore]:
    """Scores of "chained" and of every weighting; `sigma` by `constant_sigma` of residuals of ANOTHER split."""
    frames, windows = np.unique(predictions.windows, return_inverse=True)
    if frames.size and (frames[0] < 0 or frames[-1] >= len(predictions.world_from_camera_true)):
        raise ValueError(f"windows count frames {frames[0]}..{frames[-1]} of {len(predictions.world_from_camera_true)}")
    windows = windows.reshape(predictions.windows.shape)
    true = predictions.world_from_camera_true.astype(np.float64)[frames]
    solved, common = {}, _diagonal(sigma**2)
    for weighting in WEIGHTINGS:
        information = information_of(weighting, predictions, sigma, oracle_floor)
        edges = star_edges(windows, predictions.first_from_camera, information)
        guess = chain(len(frames), edges)
        solved.setdefault(CHAINED, (guess, float("nan"), 0, True))
        best = optimize(PoseGraph(guess, edges), kernel, threshold, common)
        solved[weighting] = (best.world_from_camera, best.cost, best.iterations, best.converged)
    ates = {name: _ate(cameras, true, "se3") for name, (cameras, *_) in solved.items()}
    scores = {}
    for name, (cameras, cost, iterations, converged) in solved.items():
        scores[name] = WeightingScore(
            ate_m=ates[name],
            ate_sim3_m=_ate(cameras, true, "sim3"),
            ate_of_constant=ates[name] / ates["constant"] if ates["constant"] > 0 else float("nan"),
            **_relative(cameras, true),
            cost=cost,
            iterations=iterations,
            converged=converged,
        )
    return scores


def solve_predicted(name: str, predictions: WindowPredictions) -> WeightedTrajectory:
    """The trajectory that fits predictions of their own covariance best.

    `d2`: mean squares of its errors (first cameras coincide) over its covariances; 3 is calibrated for trans and rot, 6
    for pose. Overlapping windows see the same images, so their errors are not as independent as the graph takes them to
    be: expect more. ValueError with `name` for windows that do not join all frames, and for what has no solution.
    """
    true = predictions.world_from_camera_true.astype(np.float64)
    check_covered(name, predictions.windows, len(true))
    try:
        information = information_of("predicted", predictions, np.ones(6))
        edges = star_edges(predictions.windows, predictions.first_from_camera, information)
        best = optimize(PoseGraph(chain(len(true), edges), edges))
        cameras = best.world_from_camera
        covariance = marginal_covariances(PoseGraph(cameras, edges))
        ate_m = _ate(cameras, true, "se3")
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    first_from_camera_true = rigid.invert(true[0]) @ true
    with jax.enable_x64(True):
        true_in_estimated = rigid.invert(cameras[1:]) @ first_from_camera_true[1:]
        errors = np.asarray(se3.log(jnp.asarray(true_in_estimated)), np.float64)
    squares = squared_distances(ErrorSamples(errors, covariance[1:]))
    d2 = {part: float(np.mean(values)) for part, values in squares.items()}
    return WeightedTrajectory(
        cameras, covariance, edges, ate_m, **_relative(cameras, true), d2=d2, converged=best.converged
    )


def _ate(cameras: np.ndarray, true: np.ndarray, alignment: str) -> float:
    aligned = align_trajectory(cameras, true, alignment).world_from_camera
    return statistics(absolute_errors(aligned, true))["rmse"]


def _relative(cameras: np.ndarray, true: np.ndarray) -> dict[str, float]:
    return {
        "rpe_trans_m": statistics(relative_errors(cameras, true))["rmse"],
        "rpe_rot_deg": statistics(relative_errors(cameras, true, "rot_deg"))["rmse"],
    }


def _diagonal(variances: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):  # the graph refuses an infinite weight and names its edge
        return np.eye(6) / variances[..., None, :]
