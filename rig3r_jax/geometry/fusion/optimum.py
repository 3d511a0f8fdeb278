"""The windows and poses that fit all measurements best, and how sure they are; host float64.

Minimised is 1/2 sum rho(r^T information r) over the observations (`residuals`) and the scale links, rho the robust
kernel, by `geometry.least_squares`.
"""

import dataclasses
import typing

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import sparse

from rig3r_jax.geometry import least_squares, robust
from rig3r_jax.geometry.fusion.initial import State
from rig3r_jax.geometry.fusion.problem import Problem
from rig3r_jax.geometry.fusion.residuals import BODY_STEP, WINDOW_STEP, moved, residuals

_EXACT = 1e-5  # standard deviation, units and radians, of an image that is the origin of its window's frame
_DECREASE = 1e-7  # of the cost, a small part of its own standard deviation: where the solution has converged
_ROUGH, _ROUGH_ITERATIONS = 1e-3, 12  # of a stage that only leads to the next one
_CHUNK = 4_000_000  # numbers of a block of right-hand sides


@typing.no_type_check
@dataclasses.dataclass(frozen=True)
class System:
    """A problem with the weights of its observations and the unknowns that are free.

    information: of every observation, in its window's unit.
    free: of the steps of all windows, then of all bodies.
    carrier: the window that a body moves with (see `residuals.moved`); -1 where it is held.
    """

    problem: Problem
    information: Float[np.ndarray, "o 6 6"]
    free: Bool[np.ndarray, " n"]
    carrier: Int[np.ndarray, " b"]
    threshold: float

    @classmethod
    def of(cls, problem: Problem, free_scale: Bool[np.ndarray, " w"], fixed: Bool[np.ndarray, " b"], threshold: float):
        """`free_scale`: windows whose scale is found; `fixed`: bodies that stay where they are."""
        window_free = np.ones((problem.window_count + 1, WINDOW_STEP), bool)
        window_free[:-1, 6] = free_scale
        window_free[-1] = False
        body_free = np.repeat(~fixed[:, None], BODY_STEP, axis=1)
        covariance = np.where(problem.exact[:, None, None], _EXACT**2 * np.eye(6), problem.covariance)
        free = np.concatenate([window_free.ravel(), body_free.ravel()])
        carrier = np.full(len(fixed), -1)
        carrier[problem.body[problem.image[::-1]]] = problem.window[::-1]  # the first that sees it
        carrier[fixed] = -1
        return cls(problem, np.linalg.inv(covariance), free, carrier, threshold)

    def with_noise(self, factor: float) -> "System":
        """With the observations of unstated covariance `factor` times as noisy."""
        shrink = np.where(self.problem.stated, 1.0, factor**-2.0)
        return dataclasses.replace(self, information=shrink[:, None, None] * self.information)

    def norms(self, state: State) -> Float[np.ndarray, " o"]:
        """Size of every whitened residual, in standard deviations."""
        residual, *_ = residuals(self.problem, state)
        return np.sqrt(np.einsum("oi,oij,oj->o", residual, self.information, residual))

    def weights(self, norms: Float[np.ndarray, " o"], kernel: str) -> Float[np.ndarray, " o"]:
        """The factor by which the kernel lowers the pull of every observation, 1 where it does not."""
        return np.where(self.problem.exact, 1.0, robust.weight(norms**2, kernel, self.threshold))

    def minimised(self, state: State, kernel: str, max_iterations: int) -> tuple[State, float, int, bool]:
        """(state, cost, iterations, whether it ended at an optimum)."""
        left, cost, converged = max_iterations, np.nan, True
        *earlier, last = robust.STAGES[kernel]
        for stage in (*earlier, last):
            decrease, most = (_DECREASE, left) if stage == last else (_ROUGH, min(left, _ROUGH_ITERATIONS))
            state, cost, used, converged = least_squares.minimised(
                lambda there, stage=stage: self._linearised(there, stage), self._moved, state, most, decrease
            )
            left -= used
        return state, cost, max_iterations - left, converged

    def marginals(
        self, state: State, weights: Float[np.ndarray, " o"]
    ) -> tuple[Float[np.ndarray, "b 6 6"], Float[np.ndarray, " w"]]:
        """Covariance of every body's tangent (v, w) and standard deviation of every window's log scale.

        Zeros for what is held. Bodies meet only through windows, so that their part of the Hessian is of blocks: the
        windows' own part is solved for (Schur complement), and theirs follows (Triggs et al. 2000, section 6.1).
        """
        matrix = self._jacobian(state)[1]
        information = weights[:, None, None] * self.information
        hessian = (matrix.T @ (_blocks(information) @ matrix) + self._link_hessian()).tocsr()
        count = int(self.free[: self._window_columns].sum())
        bodies = np.flatnonzero(self.free[self._window_columns :].reshape(-1, BODY_STEP)[:, 0])
        own = hessian[count:, count:].tobsr((BODY_STEP, BODY_STEP))
        inverses = np.linalg.inv(own.data[np.argsort(own.indices)]) if len(bodies) else np.zeros((0, 6, 6))
        inverse = _blocks(inverses) if len(bodies) else sparse.csr_array((0, 0))
        carried = (inverse @ hessian[count:, :count]).tocsr()  # bodies x windows
        schur = hessian[:count, :count] - hessian[:count, count:] @ carried
        factors = least_squares.factorized(schur)
        covariances = np.zeros((len(self.problem.fixed), BODY_STEP, BODY_STEP))
        at_once = max(1, _CHUNK // (BODY_STEP * count))
        for start in range(0, len(bodies), at_once):
            rows = carried[BODY_STEP * start : BODY_STEP * (start + at_once)].toarray()
            solved = factors.solve(np.ascontiguousarray(rows.T)).T
            pieces = (x.reshape(-1, BODY_STEP, count) for x in (rows, solved))
            added = np.einsum("bik,bjk->bij", *pieces)
            covariances[bodies[start : start + at_once]] = inverses[start : start + at_once] + added
        return 0.5 * (covariances + np.swapaxes(covariances, -1, -2)), self._scale_sigmas(factors, count)

    def _scale_sigmas(self, factors, count: int) -> Float[np.ndarray, " w"]:
        place = np.cumsum(self.free) - 1
        columns = np.arange(self.problem.window_count) * WINDOW_STEP + 6
        sigmas = np.zeros(self.problem.window_count)
        for window in np.flatnonzero(self.free[columns]).tolist():
            unit = np.zeros(count)
            unit[place[columns[window]]] = 1.0
            sigmas[window] = np.sqrt(factors.solve(unit)[place[columns[window]]])
        return sigmas

    @property
    def _window_columns(self) -> int:
        return (self.problem.window_count + 1) * WINDOW_STEP

    def _moved(self, state: State, step: Float[np.ndarray, " n"]) -> State:
        whole = np.zeros(len(self.free))
        whole[self.free] = step
        windows, bodies = whole[: self._window_columns], whole[self._window_columns :]
        return moved(state, windows.reshape(-1, WINDOW_STEP), bodies.reshape(-1, BODY_STEP), self.carrier)

    def _jacobian(self, state: State) -> tuple[np.ndarray, sparse.sparray]:
        """Residuals, and their derivatives by the free unknowns."""
        problem = self.problem
        residual, by_window, by_body = residuals(problem, state)
        values = np.concatenate([by_window, by_body], axis=-1)
        first = np.stack([problem.window * WINDOW_STEP, self._window_columns + problem.body[problem.image] * BODY_STEP])
        columns = np.concatenate([first[0][:, None] + np.arange(WINDOW_STEP), first[1][:, None] + np.arange(BODY_STEP)],
                                 axis=-1)  # fmt: skip
        rows = BODY_STEP * np.arange(len(residual))[:, None, None] + np.arange(BODY_STEP)[:, None]
        rows, columns = (np.broadcast_to(index, values.shape).ravel() for index in (rows, columns[:, None, :]))
        shape = (BODY_STEP * len(residual), len(self.free))
        return residual, sparse.csc_array((values.ravel(), (rows, columns)), shape=shape)[:, self.free].tocsr()

    def _linearised(self, state: State, kernel: str) -> tuple[float, np.ndarray, list[sparse.sparray]]:
        residual, matrix = self._jacobian(state)
        trust, exact = self.information, self.problem.exact
        costs, gradients, curved = robust.quadratic(residual, trust, trust, kernel, self.threshold)
        plain = robust.quadratic(residual[exact], trust[exact], trust[exact], "none", self.threshold)
        costs[exact], gradients[exact] = plain[0], plain[1]
        curved = [np.where(exact[:, None, None], trust, hessian) for hessian in curved]
        cost, gradient = float(costs.sum()), matrix.T @ gradients.ravel()
        hessians = [matrix.T @ (_blocks(hessian) @ matrix) for hessian in curved]
        if self.problem.links:
            by_ratio, derivatives, matrices = self._link_terms(state, kernel)
            cost += by_ratio
            gradient = gradient + derivatives
            hessians = [hessian + more for hessian, more in zip(hessians, matrices, strict=True)]
        return cost, gradient, hessians

    def _link_matrix(self) -> tuple[sparse.sparray, np.ndarray]:
        """Derivatives of the ratios' logarithms by the free unknowns, and their information."""
        links, world = self.problem.links, self.problem.world
        rows = np.tile(np.arange(len(links)), 2)
        ends = [world if link.first is None else link.first for link in links] + [link.second for link in links]
        signs = np.repeat([-1.0, 1.0], len(links))
        shape = (len(links), len(self.free))
        columns = np.array(ends, np.int64) * WINDOW_STEP + 6
        matrix = sparse.csc_array((signs, (rows, columns)), shape=shape)[:, self.free].tocsr()
        return matrix, np.array([link.sigma**-2.0 for link in links])

    def _link_terms(self, state: State, kernel: str) -> tuple[float, np.ndarray, list[sparse.sparray]]:
        matrix, information = self._link_matrix()
        links, world = self.problem.links, self.problem.world
        first = [world if link.first is None else link.first for link in links]
        ratios = state.log_scale[[link.second for link in links]] - state.log_scale[first]
        residual = (ratios - np.array([link.log_ratio for link in links]))[:, None]
        trust = information[:, None, None]
        costs, gradients, curved = robust.quadratic(residual, trust, trust, kernel, self.threshold)
        hessians = [matrix.T @ (_blocks(hessian) @ matrix) for hessian in curved]
        return float(costs.sum()), matrix.T @ gradients.ravel(), hessians

    def _link_hessian(self) -> sparse.sparray:
        matrix, information = self._link_matrix()
        return matrix.T @ (sparse.diags_array(information) @ matrix)


def _blocks(matrices: Float[np.ndarray, "m d d"]) -> sparse.sparray:
    """Block-diagonal."""
    return sparse.bsr_array((matrices, np.arange(len(matrices)), np.arange(len(matrices) + 1)))
