"""Windows of predicted cameras joined into one reconstruction, under all that is known of rigs, poses and scale.

One formulation for every case. Unknown are a similarity per window (its frame and length unit in the world) and a pose
per body: a known rig at one step, or a single image. Measured are the predicted cameras of every window, with their
covariances; given poses hold exactly, or are measurements too. Solved are both together, robustly.
"""

import dataclasses
import typing
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from rig3r_jax.geometry import rigid, robust
from rig3r_jax.geometry.fusion.initial import State, closed_form, gauge_body
from rig3r_jax.geometry.fusion.optimum import System
from rig3r_jax.geometry.fusion.problem import Constraints, Problem, WindowPoses, problem_of
from rig3r_jax.geometry.fusion.scales import NONE

_MEDIAN = 2.313  # of the norm of whitened Gaussian errors of 6 dimensions


@dataclasses.dataclass(frozen=True)
class FuseOptions:
    """How it is solved.

    kernel, threshold: see `geometry.robust`; a prediction more than `threshold` standard deviations off is discounted.
    max_iterations: 0: the closed form alone.
    sigma_length, sigma_deg: errors, along and about each axis, of predictions without a covariance: in the window's
        unit, which models of this package and VGGT choose near the mean depth, and degrees. Only their ratio counts
        where predictions are worse: their common size is found from the residuals, and never goes below.
    """

    kernel: str = "cauchy"
    threshold: float = robust.THRESHOLD
    max_iterations: int = 100
    sigma_length: float = 0.02
    sigma_deg: float = 1.0


@typing.no_type_check
@dataclasses.dataclass(frozen=True)
class Fused:
    """One reconstruction. A point p of window w lies at world_from_window[w] applied to scale[w] p.

    covariance: of the tangent (v, w) in world_from_camera exp(v, w), of what the kernel did not outvote; zeros for what
        is held or defines the world. None where a window stated none, and of the closed form alone.
    log_scale_sigma: standard deviation of log(scale); None likewise.
    weights, residuals: per window, of its images in its order: the factor on each prediction's pull (1 in full, near 0
        outvoted), and how many standard deviations it is off.
    scale_source: "given poses", "given scale", "rig baselines", or "none": then window 0 has scale 1.
    noise: how many times `sigma_length` and `sigma_deg` the errors of predictions without covariance are; None: all
        state theirs.
    """

    world_from_camera: Float[np.ndarray, "v 4 4"]
    world_from_window: Float[np.ndarray, "w 4 4"]
    scale: Float[np.ndarray, " w"]
    covariance: Float[np.ndarray, "v 6 6"] | None
    log_scale_sigma: Float[np.ndarray, " w"] | None
    weights: tuple[Float[np.ndarray, " n"], ...]
    residuals: tuple[Float[np.ndarray, " n"], ...]
    scale_source: str
    noise: float | None
    cost: float
    iterations: int
    converged: bool

    @property
    def metric(self) -> bool:
        """Whether lengths are those of what was given, metres, and not of window 0."""
        return self.scale_source != NONE


def fuse(windows: Sequence[WindowPoses], constraints: Constraints, options: FuseOptions | None = None) -> Fused:
    """The reconstruction that fits predictions and constraints best.

    The world is that of the given poses; without any it is the camera of image 0.

    Raises:
        ValueError: input that cannot be used, windows that nothing joins, lengths that nothing tells.
    """
    options = options or FuseOptions()
    robust.check_kernel(options.kernel, options.threshold)
    problem = problem_of(windows, constraints, options.sigma_length, options.sigma_deg)
    state, source = closed_form(problem)
    free_scale = ~np.isfinite(problem.log_scale[:-1])
    free_scale[0] &= source != NONE
    fixed = problem.fixed.copy()
    if (gauge := gauge_body(problem)) is not None:
        fixed[gauge] = True
    system = System.of(problem, free_scale, fixed, options.threshold)
    noise = _noise(system.norms(state), problem)
    system = system.with_noise(noise or 1.0)
    cost, iterations, converged, covariance, sigmas = np.nan, 0, True, None, None
    if options.max_iterations:
        try:
            state, cost, iterations, converged = system.minimised(state, options.kernel, options.max_iterations)
            if problem.stated.all():
                covariance, sigmas = _uncertainty(system, state, options.kernel)
        except RuntimeError as error:  # of the factorisation
            raise ValueError(f"the windows leave some pose or scale open ({error}); let them overlap more") from error
    norms = system.norms(state)
    weights = system.weights(norms, options.kernel)
    return Fused(
        world_from_camera=_cameras(problem, state, constraints),
        world_from_window=state.world_from_window[:-1],
        scale=np.exp(state.log_scale[:-1]),
        covariance=covariance,
        log_scale_sigma=sigmas,
        weights=tuple(weights[problem.of_window(number)] for number in range(len(windows))),
        residuals=tuple(norms[problem.of_window(number)] for number in range(len(windows))),
        scale_source=source,
        noise=noise,
        cost=cost,
        iterations=iterations,
        converged=converged,
    )


def _noise(norms: Float[np.ndarray, " o"], problem: Problem) -> float | None:
    """The size of unstated errors in units of the default's, at least 1; None where all are stated."""
    if problem.stated.all():
        return None
    return max(1.0, float(np.median(norms[~problem.stated])) / _MEDIAN)


def _uncertainty(
    system: System, state: State, kernel: str
) -> tuple[Float[np.ndarray, "v 6 6"], Float[np.ndarray, " w"]]:
    """Covariances of the images' tangents, and sigmas of the scales, of the observations that are within the threshold
    in full: their kernel's weight is part of the estimator, not of the errors."""
    problem, norms = system.problem, system.norms(state)
    weights = np.where(norms <= system.threshold, 1.0, system.weights(norms, kernel))
    of_body, sigmas = system.marginals(state, weights)
    carried = rigid.adjoint(rigid.invert(problem.body_from_camera))
    return carried @ of_body[problem.body] @ np.swapaxes(carried, -1, -2), sigmas


def _cameras(problem: Problem, state: State, constraints: Constraints) -> Float[np.ndarray, "v 4 4"]:
    """Of all images; held poses as they were given."""
    world_from_camera = state.world_from_body[problem.body] @ problem.body_from_camera
    if constraints.held:
        world_from_camera[problem.posed] = problem.world_from_posed
    return world_from_camera
