"""A rig refined over many time steps: one place per camera, one pose per step, from windows of predicted cameras.

The formulation of `fuse`, whose places of cameras in the rig are unknowns too: they begin where they are given. Places
that are calibrated hold; of a rig without any the first camera's does, and the first window's unit, which `fuse` finds
by the given places. Whatever only turns, shifts or stretches everything is held so; all else is solved for together.
"""

import dataclasses
import functools
import typing
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import sparse
from scipy.spatial.transform import Rotation

from rig3r_jax.geometry import least_squares, rigid, robust
from rig3r_jax.geometry.fusion.initial import State, closed_form, gauge_body
from rig3r_jax.geometry.fusion.optimum import System
from rig3r_jax.geometry.fusion.problem import Constraints, Problem, WindowPoses, problem_of
from rig3r_jax.geometry.fusion.residuals import BODY_STEP, WINDOW_STEP, moved, residuals
from rig3r_jax.geometry.rig_poses import lie_apart

_PLACE_STEP = 6
_MEDIAN = 2.313  # of the norm of whitened Gaussian errors of 6 dimensions
_DECREASE = 1e-9
_SIGMA_LENGTH, _SIGMA_DEG = 0.02, 1.0  # of predictions without covariances, up to a factor that is found


@typing.no_type_check
@dataclasses.dataclass(frozen=True)
class RefinedRig:
    """A rig and where it was.

    rig_from_camera, covariance: of every camera, in the frame of those that hold; of the tangent (v, w) in
        rig_from_camera exp(v, w), zeros for those.
    world_from_rig, rig_covariance: of every step, in the order of `steps`; zeros for the one that defines the world.
    scale: of every window, lengths here over its own.
    noise: how many times as large as assumed the errors of predictions without covariances are; 1 where all are stated.
    """

    rig_from_camera: Float[np.ndarray, "k 4 4"]
    covariance: Float[np.ndarray, "k 6 6"]
    steps: Int[np.ndarray, " s"]
    world_from_rig: Float[np.ndarray, "s 4 4"]
    rig_covariance: Float[np.ndarray, "s 6 6"]
    scale: Float[np.ndarray, " w"]
    noise: float
    iterations: int
    converged: bool


@dataclasses.dataclass(frozen=True)
class _State:
    poses: State
    places: Float[np.ndarray, "k 4 4"]


def refine_rig(
    windows: Sequence[WindowPoses],
    rig_from_camera: Float[np.ndarray, "k 4 4"],
    camera: Int[np.ndarray, " v"],
    step: Int[np.ndarray, " v"],
    held: Bool[np.ndarray, " k"] | None = None,
    kernel: str = "huber",
    max_iterations: int = 50,
) -> RefinedRig:
    """The places of the cameras and the poses of the rig that fit the windows' predictions best, robustly.

    Args:
        windows: as of `fuse`.
        rig_from_camera: given or discovered, to begin with; at least two cameras that are not in one place.
        camera, step: of every image, 0.. and >= 0.
        held: places that are calibrated, and come out as they are; two that lie apart hold the unit, too. None: the
            first.
        kernel: of `geometry.robust`.
        max_iterations: of the solver.

    Raises ValueError for input that `fuse` refuses, images without camera or step, and what predictions leave open.
    """
    camera, step = np.asarray(camera, np.int64), np.asarray(step, np.int64)
    if min(camera.min(), step.min()) < 0 or len(np.unique(camera)) != len(rig_from_camera):
        raise ValueError(
            f"every image must have a step and one of {len(rig_from_camera)} cameras, and every camera an image; leave "
            "the others out"
        )
    places = rigid.nearest_rigid(np.asarray(rig_from_camera, np.float64))
    robust.check_kernel(kernel, robust.THRESHOLD)
    problem = problem_of(windows, Constraints(len(camera), step, places[camera]), _SIGMA_LENGTH, _SIGMA_DEG)
    poses, _ = closed_form(problem)
    holds = np.arange(len(places)) == 0 if held is None or not held.any() else np.asarray(held, bool)
    system = _Refinement.of(problem, camera, holds, places)
    noise = system.noise(_State(poses, places))
    system = dataclasses.replace(system, information=system.information / noise[:, None, None] ** 2)
    try:
        state, _, iterations, converged = least_squares.minimised(
            functools.partial(system.linearised, kernel=kernel),
            system.moved,
            _State(poses, places),
            max_iterations,
            _DECREASE,
        )
        of_bodies, of_places = system.covariances(state)
    except RuntimeError as error:  # of the factorisation
        raise ValueError(
            f"the predictions leave some camera or step open ({error}); add steps that share cameras"
        ) from error
    first = np.unique(problem.body, return_index=True)[1]  # bodies are steps, in order of first appearance
    order = np.argsort(step[first])
    return RefinedRig(
        rig_from_camera=np.where(holds[:, None, None], places, state.places),  # without the solver's rounding
        covariance=of_places,
        steps=step[first][order],
        world_from_rig=state.poses.world_from_body[order],
        rig_covariance=of_bodies[order],
        scale=np.exp(state.poses.log_scale[:-1]),
        noise=float(noise.max()),
        iterations=iterations,
        converged=converged,
    )


@typing.no_type_check
@dataclasses.dataclass(frozen=True)
class _Refinement:
    """Unknowns are the steps of all windows, then bodies, then places; those that are `free`."""

    problem: Problem
    camera: Int[np.ndarray, " v"]
    information: Float[np.ndarray, "o 6 6"]
    free: Bool[np.ndarray, " n"]
    carrier: Int[np.ndarray, " b"]

    @classmethod
    def of(cls, problem: Problem, camera: np.ndarray, holds: np.ndarray, places: np.ndarray) -> "_Refinement":
        free_scale = np.ones(problem.window_count, bool)
        free_scale[0] = lie_apart(places[holds])
        fixed = problem.fixed.copy()
        if (gauge := gauge_body(problem)) is not None:
            fixed[gauge] = True
        system = System.of(problem, free_scale, fixed, robust.THRESHOLD)
        free_places = np.repeat(~holds, _PLACE_STEP)
        return cls(problem, camera, system.information, np.concatenate([system.free, free_places]), system.carrier)

    def noise(self, state: _State) -> Float[np.ndarray, " o"]:
        """Factor on the errors of every observation: by the median of those that are not stated, 1 of the others."""
        stated = self.problem.stated
        if stated.all():
            return np.ones(len(stated))
        residual, _ = self._jacobian(state)
        norms = np.sqrt(np.einsum("oi,oij,oj->o", residual, self.information, residual))
        return np.where(stated, 1.0, max(float(np.median(norms[~stated])) / _MEDIAN, 1e-3))

    def linearised(self, state: _State, kernel: str) -> tuple[float, np.ndarray, list[sparse.sparray]]:
        """Cost, gradient and matrices for the Hessian."""
        residual, matrix = self._jacobian(state)
        trust = self.information
        costs, gradients, curved = robust.quadratic(residual, trust, trust, kernel, robust.THRESHOLD)
        hessians = [(matrix.T @ (_blocks(one) @ matrix)).tocsc() for one in curved]
        return float(costs.sum()), matrix.T @ gradients.ravel(), hessians

    def moved(self, state: _State, step: Float[np.ndarray, " n"]) -> _State:
        """After a step of the free unknowns."""
        windows, bodies, places = self._parts(self._whole(step))
        turned = Rotation.from_rotvec(places[:, 3:]).as_matrix()
        moves = rigid.from_rotation_translation(turned, places[:, :3])
        return _State(moved(state.poses, windows, bodies, self.carrier), rigid.nearest_rigid(state.places @ moves))

    def covariances(self, state: _State) -> tuple[Float[np.ndarray, "b 6 6"], Float[np.ndarray, "k 6 6"]]:
        """Of the tangents of all bodies and places; of what the kernel does not outvote in full."""
        residual, matrix = self._jacobian(state)
        squares = np.einsum("oi,oij,oj->o", residual, self.information, residual)
        weights = np.where(squares <= robust.THRESHOLD**2, 1.0, robust.weight(squares, "huber", robust.THRESHOLD))
        hessian = (matrix.T @ (_blocks(weights[:, None, None] * self.information) @ matrix)).tocsc()
        factors, place = least_squares.factorized(hessian), np.cumsum(self.free) - 1
        covariances = np.zeros(((len(self.free) - self._window_columns) // 6, 6, 6))
        for number in range(len(covariances)):
            columns = self._window_columns + 6 * number + np.arange(6)
            if self.free[columns].all():
                units = np.zeros((hessian.shape[0], 6))
                units[place[columns], np.arange(6)] = 1.0
                covariances[number] = factors.solve(units)[place[columns]]
        bodies = len(self.problem.fixed)
        return covariances[:bodies], covariances[bodies:]

    @property
    def _window_columns(self) -> int:
        return (self.problem.window_count + 1) * WINDOW_STEP

    def _whole(self, step: np.ndarray) -> np.ndarray:
        whole = np.zeros(len(self.free))
        whole[self.free] = step
        return whole

    def _parts(self, whole: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        ends = self._window_columns, self._window_columns + BODY_STEP * len(self.problem.fixed)
        windows, bodies, places = np.split(whole, ends)
        return windows.reshape(-1, WINDOW_STEP), bodies.reshape(-1, BODY_STEP), places.reshape(-1, _PLACE_STEP)

    def _jacobian(self, state: _State) -> tuple[np.ndarray, sparse.sparray]:
        """Residuals, and their derivatives by the free unknowns."""
        problem = dataclasses.replace(self.problem, body_from_camera=state.places[self.camera])
        residual, by_window, by_body = residuals(problem, state.poses)
        # A step of the body reaches the camera through the adjoint of camera_from_body; one of the place does not.
        by_place = by_body @ rigid.adjoint(problem.body_from_camera[problem.image])
        body, place = problem.body[problem.image], self.camera[problem.image]
        start = self._window_columns + BODY_STEP * len(problem.fixed)
        columns = np.concatenate([
            (problem.window * WINDOW_STEP)[:, None] + np.arange(WINDOW_STEP),
            (self._window_columns + body * BODY_STEP)[:, None] + np.arange(BODY_STEP),
            (start + place * _PLACE_STEP)[:, None] + np.arange(_PLACE_STEP),
        ], axis=-1)  # fmt: skip
        values = np.concatenate([by_window, by_body, by_place], axis=-1)
        rows = 6 * np.arange(len(residual))[:, None, None] + np.arange(6)[:, None]
        rows, columns = (np.broadcast_to(index, values.shape).ravel() for index in (rows, columns[:, None, :]))
        shape = (6 * len(residual), len(self.free))
        return residual, sparse.csc_array((values.ravel(), (rows, columns)), shape=shape)[:, self.free].tocsr()


def _blocks(matrices: Float[np.ndarray, "m d d"]) -> sparse.sparray:
    return sparse.bsr_array((matrices, np.arange(len(matrices)), np.arange(len(matrices) + 1)))
