"""How predicted cameras differ from estimated ones, in the frame and unit of their window; with derivatives.

    r = Log(inverse(window_from_camera predicted) window_from_camera estimated)
    window_from_camera estimated = inverse(world_from_window) world_from_body body_from_camera, divided by the scale

Lengths are compared in the window's unit, not in the world's: a smaller world has no smaller residuals.

A step of a window is the tangent (v, w, s) of its similarity, in its own frame and unit; one of a body is the tangent
(v, w) of its pose, in the world's unit.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from scipy.spatial.transform import Rotation

from rig3r_jax.geometry import rigid, se3
from rig3r_jax.geometry.fusion.initial import State
from rig3r_jax.geometry.fusion.problem import Problem
from rig3r_jax.geometry.numerics import matmul

WINDOW_STEP, BODY_STEP = 7, 6
_LEAST_ROWS = 64
_NODES = (np.polynomial.legendre.leggauss(10) + np.array([[1.0], [0.0]])) / 2  # and weights, of the integral over 0..1
_GROWTH = 0.4  # of log(scale), in one step


def residuals(
    problem: Problem, state: State
) -> tuple[Float[np.ndarray, "o 6"], Float[np.ndarray, "o 6 7"], Float[np.ndarray, "o 6 6"]]:
    """r of every observation and its derivatives by the steps of its window and of its body."""
    body = problem.body[problem.image]
    arrays = (
        state.world_from_window[problem.window],
        state.log_scale[problem.window],
        state.world_from_body[body],
        problem.body_from_camera[problem.image],
        problem.window_from_camera,
    )
    return _run(_linearised, *arrays)


@jax.jit
def _linearised(
    world_from_window: Float[Array, "o 4 4"],
    log_scale: Float[Array, " o"],
    world_from_body: Float[Array, "o 4 4"],
    body_from_camera: Float[Array, "o 4 4"],
    predicted: Float[Array, "o 4 4"],
) -> tuple[Array, Array, Array]:
    scale = jnp.exp(log_scale)
    world_lengths = matmul(se3.inverse(world_from_window), matmul(world_from_body, body_from_camera))
    center = se3.translation(world_lengths) / scale[:, None]
    estimated = se3.from_rotation_translation(se3.rotation(world_lengths), center)
    residual = se3.log(matmul(se3.inverse(predicted), estimated))
    by_camera = se3.inverse_left_jacobian(-residual)  # Log(X exp(d)) = Log(X) + J_right^-1 d, J_right(r) = J_left(-r)
    # A step of the window acts before the estimate, inverted: the adjoint carries it to the camera.
    by_frame = -se3.adjoint(se3.inverse(estimated))
    shrinking = -jnp.einsum("oji,oj->oi", se3.rotation(estimated), center, precision="highest")
    by_scale = jnp.concatenate([shrinking, jnp.zeros_like(shrinking)], axis=-1)
    by_window = matmul(by_camera, jnp.concatenate([by_frame, by_scale[..., None]], axis=-1))
    # One of the body is carried to the camera, its lengths divided by the scale.
    carried = se3.adjoint(se3.inverse(body_from_camera))
    units = jnp.concatenate([jnp.tile(1.0 / scale[:, None], 3), jnp.ones_like(shrinking)], axis=-1)
    return residual, by_window, matmul(by_camera, units[..., None] * carried)


def moved(
    state: State,
    window_steps: Float[np.ndarray, "w1 7"],
    body_steps: Float[np.ndarray, "b 6"],
    carrier: Int[np.ndarray, " b"],
) -> State:
    """The state after a step of every window and body.

    To first order a body moves by its own step alone. But it is carried by a window (-1: by none), whose whole step it
    shares, and then makes the rest of its own: so a long step that turns or stretches a whole part of the world leaves
    what is within that part as it is, and few steps straighten a chain that has drifted.
    """
    windows, bodies = state.world_from_window, state.world_from_body
    # Far from its place a window's residuals no longer change with its scale, and it would never come back.
    window_steps = np.concatenate([window_steps[:, :6], np.clip(window_steps[:, 6:], -_GROWTH, _GROWTH)], axis=-1)
    turn, shift, growth = _similarities(window_steps)
    scale = np.exp(state.log_scale)[:, None]
    rigid_moves = rigid.from_rotation_translation(turn, scale * shift)
    windows_moved = windows @ rigid_moves
    carried, rest = bodies.copy(), body_steps.copy()
    on = np.flatnonzero(carrier >= 0)
    by = carrier[on]
    window_from_body = rigid.invert(windows[by]) @ bodies[on]
    rest[on] -= _shared(window_from_body, scale[by], window_steps[by])
    window_from_body[:, :3, 3] *= growth[by, None]
    carried[on] = windows_moved[by] @ window_from_body
    (own,) = _run(_exp, rest)
    return State(state.log_scale + np.log(growth), windows_moved, rigid.nearest_rigid(carried @ own))


def _similarities(
    steps: Float[np.ndarray, "w 7"],
) -> tuple[Float[np.ndarray, "w 3 3"], Float[np.ndarray, "w 3"], Float[np.ndarray, " w"]]:
    """Rotations, translations and scales of the exponentials of Sim(3)'s tangents (v, w, s).

    The translation is the integral of exp(s t) R(t w) v over t from 0 to 1, by Gauss and Legendre's nodes: to rounding
    for turns below half a circle. (SciPy's expm solves each 4 x 4 system by threads of BLAS, which wait for one another
    for seconds where other programs have the cores.)
    """
    shifts = np.zeros((len(steps), 3))
    for part, weight in zip(*_NODES, strict=True):
        turn = Rotation.from_rotvec(part * steps[:, 3:6])
        shifts += weight * np.exp(part * steps[:, 6:]) * turn.apply(steps[:, :3])
    return Rotation.from_rotvec(steps[:, 3:6]).as_matrix(), shifts, np.exp(steps[:, 6])


def _shared(
    window_from_body: Float[np.ndarray, "n 4 4"], scale: Float[np.ndarray, "n 1"], steps: Float[np.ndarray, "n 7"]
) -> Float[np.ndarray, "n 6"]:
    """The tangents of bodies that are carried by the steps of windows, to first order."""
    turn, place = np.swapaxes(window_from_body[:, :3, :3], -1, -2), window_from_body[:, :3, 3]
    shift = scale * steps[:, :3] + np.cross(steps[:, 3:6], place) + steps[:, 6:] * place
    return np.concatenate([(turn @ x[..., None])[..., 0] for x in (shift, steps[:, 3:6])], axis=-1)


@jax.jit
def _exp(tangents: Float[Array, "n 6"]) -> tuple[Array]:
    return (se3.exp(tangents),)


def _run(function: Callable, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
    """A function of rows in float64; rows are filled up to few numbers of them, as each is compiled."""
    count = len(arrays[0])
    rows = np.arange(max(_LEAST_ROWS, 1 << (count - 1).bit_length())) % count
    with jax.enable_x64(True):
        return tuple(np.asarray(x, np.float64)[:count] for x in function(*(array[rows] for array in arrays)))
