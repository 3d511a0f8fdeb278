"""Large sparse nonlinear least squares by Levenberg-Marquardt steps on SciPy's sparse LU; host float64.

scipy.optimize.least_squares solves sparse problems by LSMR only, which on long chains of cameras takes minutes where
the direct solution takes less than a second.
"""

import typing
from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from scipy import sparse
from scipy.sparse.linalg import SuperLU, splu

_STEP = 1e-9  # metres or radians; the optimum is found when no camera moves farther,
_DECREASE = 1e-12  # or when the next step promises to lower the cost by less than this part of it
_SYMMETRIC = {"permc_spec": "MMD_AT_PLUS_A", "diag_pivot_thresh": 0.0, "options": {"SymmetricMode": True}}
_DAMPING = (1e-12, 1e-4, 1e12)  # least, first, most; of the diagonal

State = typing.TypeVar("State")


def factorized(matrix: sparse.sparray) -> SuperLU:
    """The LU factors of a symmetric matrix. RuntimeError where it is singular."""
    return splu(matrix.tocsc(), **_SYMMETRIC)


def minimised(
    linearised: Callable[[State], tuple[float, np.ndarray, list[sparse.sparray]]],
    moved: Callable[[State, Float[np.ndarray, " n"]], State],
    state: State,
    max_iterations: int,
    decrease: float = _DECREASE,
) -> tuple[State, float, int, bool]:
    """The state of least cost near a first one. Source: Marquardt 1963, with his diagonal scaling.

    Args:
        linearised: a state's cost, its gradient by a step, and matrices to take for its Hessian, the first of them
            positive semi-definite. Of the steps that these give, the one to the lowest cost counts.
        moved: a state after a step, whose numbers are metres and radians.
        state: the first one.
        max_iterations: of accepted and refused steps together.
        decrease: it ends where a step promises to lower the cost by less than this part of it.

    Returns:
        State, cost, iterations, whether it ended at an optimum.
    """
    (cost, gradient, hessians), damping, iteration = linearised(state), _DAMPING[1], 0
    while iteration < max_iterations and damping < _DAMPING[2]:
        iteration += 1
        scaling = sparse.diags_array(damping * hessians[0].diagonal())
        best, arrived = (np.inf, state, None), False
        for hessian in hessians:
            factors = factorized(hessian + scaling)
            if (factors.U.diagonal() <= 0).any():  # indefinite: its step may lead uphill
                continue
            step = factors.solve(-gradient)
            state_there = moved(state, step)
            cost_there, *derivatives_there = linearised(state_there)
            best = min(best, (cost_there, state_there, derivatives_there), key=lambda candidate: candidate[0])
            # Asked before the step is judged: near the optimum rounding alone decides whether the cost rises.
            promised = -0.5 * gradient @ step
            arrived |= bool(np.abs(step).max() < _STEP or promised <= decrease * cost)
        lower = best[0] <= cost
        if lower:
            cost, state, (gradient, hessians) = best
        if arrived and damping < 1.0:  # with much damping every step is short
            return state, cost, iteration, True
        damping = max(damping / 10, _DAMPING[0]) if lower else damping * 10
    return state, cost, iteration, False
