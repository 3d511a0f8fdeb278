"""Laws of SO(3) on uniform, tiny and near-pi rotations; scipy and 60-digit golden vectors are the oracles."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from rig3r_jax.geometry import so3

ANGLES = {
    "uniform": lambda rng, shape: rng.uniform(0.0, np.pi, shape),
    "tiny": lambda rng, shape: 10.0 ** rng.uniform(-12, -3, shape),
    "near_pi": lambda rng, shape: np.pi - 10.0 ** rng.uniform(-9, -2, shape),
}
SHAPES = [(), (2, 3), (0,)]
round_trip = jax.jit(lambda w: (so3.exp(w), so3.log(so3.exp(w))))
TOLERANCES = {"float32": 2e-6, "float64": 4e-15}


def rotation_vectors(kind, shape, seed=0):
    rng = np.random.default_rng(seed)
    axis = rng.normal(size=(*shape, 3))
    return axis / np.linalg.norm(axis, axis=-1, keepdims=True) * ANGLES[kind](rng, shape)[..., None]


def flip_beyond_pi(w, like):
    """The same rotations, by the vectors of the other sign where rounding moved them across pi."""
    turn = np.linalg.norm(w, axis=-1, keepdims=True)
    flipped = w - 2 * np.pi * w / np.where(turn > 0, turn, 1.0)
    return np.where((w * like).sum(-1, keepdims=True) < 0, flipped, w)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", ANGLES)
@pytest.mark.parametrize("shape", SHAPES)
def test_exp_matches_scipy_and_log_inverts_it(kind, shape, dtype):
    with jax.enable_x64(dtype == "float64"):
        w = jnp.asarray(rotation_vectors(kind, shape).astype(dtype))
        rotation, back = round_trip(w)
    assert rotation.dtype == back.dtype == dtype and rotation.shape == (*shape, 3, 3)
    exact = Rotation.from_rotvec(np.array(w, np.float64).reshape(-1, 3)).as_matrix()
    np.testing.assert_allclose(np.reshape(rotation, (-1, 3, 3)), exact, atol=TOLERANCES[dtype])
    back = flip_beyond_pi(np.asarray(back, np.float64), np.asarray(w, np.float64))
    np.testing.assert_allclose(back, w, atol=TOLERANCES[dtype])
    if kind == "tiny":  # relative too: no digit is lost in 1 - cos or in the trace
        np.testing.assert_allclose(back, w, rtol=2e-6, atol=1e-7 * TOLERANCES[dtype])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_exp_and_log_golden(shared, dtype):
    golden = np.load(shared / "golden/lie/se3.npz")
    w = golden["xi"][:, 3:]
    with jax.enable_x64(dtype == "float64"):
        rotation = so3.exp(jnp.asarray(w.astype(dtype)))
        back = so3.log(jnp.asarray(golden["exact_R"].astype(dtype)))
    np.testing.assert_allclose(rotation, golden["exact_R"], atol={"float32": 5e-7, "float64": 1e-15}[dtype])
    back = flip_beyond_pi(np.asarray(back, np.float64), w)
    np.testing.assert_allclose(back, w, atol={"float32": 5e-7, "float64": 2e-15}[dtype])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_left_jacobians_golden(shared, dtype):
    golden = np.load(shared / "golden/lie/se3.npz")
    tolerance = {"float32": 1e-6, "float64": 3e-15}[dtype]
    with jax.enable_x64(dtype == "float64"):
        w = jnp.asarray(golden["xi"][:, 3:].astype(dtype))
        np.testing.assert_allclose(so3.left_jacobian(w), golden["exact_V"], atol=tolerance)
        np.testing.assert_allclose(so3.inverse_left_jacobian(w), golden["exact_Vinv"], atol=tolerance)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_quaternions_golden(shared, dtype):
    golden = np.load(shared / "golden/lie/quat.npz")
    tolerance = {"float32": 1e-6, "float64": 1e-15}[dtype]
    with jax.enable_x64(dtype == "float64"):
        rotation = so3.from_quat_xyzw(jnp.asarray(golden["q_unnorm"].astype(dtype)))
        quaternion = so3.to_quat_xyzw(jnp.asarray(golden["mat_from_unit_f64"].astype(dtype)))
        of_noisy = so3.to_quat_xyzw(jnp.asarray(golden["mat_noisy"].astype(dtype)))
    np.testing.assert_allclose(rotation, golden["mat_from_unnorm_f64"], atol=tolerance)
    for ours, theirs in ((quaternion, golden["quat_from_mat_f64"]), (of_noisy, golden["quat_from_mat_noisy_f64"])):
        ours, theirs = np.asarray(ours), theirs / np.linalg.norm(theirs, axis=-1, keepdims=True)
        assert (ours[:, 3] >= 0).all()
        half_turn = (np.abs(theirs[:, 3]) < 1e-4)[:, None]  # there the sign is free
        sign = np.where(half_turn & ((ours * theirs).sum(-1, keepdims=True) < 0), -1.0, 1.0)
        np.testing.assert_allclose(ours * sign, theirs, atol=tolerance)


def test_quaternion_of_zero_is_the_identity():
    np.testing.assert_array_equal(so3.from_quat_xyzw(jnp.zeros(4)), np.eye(3))


@pytest.mark.parametrize("kind", ANGLES)
def test_left_jacobian_is_the_derivative_of_exp(kind):
    with jax.enable_x64(True):
        w = jnp.asarray(rotation_vectors(kind, (4,), seed=3))
        slope = jax.jit(jax.vmap(lambda w: jax.jacfwd(lambda d: so3.vee(so3.exp(w + d) @ so3.exp(w).T))(jnp.zeros(3))))(
            w
        )
        np.testing.assert_allclose(so3.left_jacobian(w), slope, atol=1e-13)
        np.testing.assert_allclose(
            so3.inverse_left_jacobian(w) @ slope, np.broadcast_to(np.eye(3), (4, 3, 3)), atol=1e-12
        )


def both_derivatives(function):
    first = jax.jacrev(function)
    return lambda w: (first(w), jax.jacfwd(first)(w))


def test_gradients_are_finite_everywhere():
    w = [[0.0, 0, 0], [1e-20, 0, 0], [1e-4, 0, 0], [0, 3.1415925, 0], [0, 0, np.pi - 1e-5], [2.0, 2.0, 1.3]]
    w = jnp.asarray(np.array(w, np.float32))
    for function in (so3.exp, lambda w: so3.log(so3.exp(w)), so3.left_jacobian, so3.inverse_left_jacobian):
        first, second = jax.jit(jax.vmap(both_derivatives(function)))(w)
        assert np.isfinite(first).all() and np.isfinite(second).all()
    identities = jax.jit(jax.vmap(jax.jacrev(lambda w: so3.log(so3.exp(w)))))(w)
    np.testing.assert_allclose(identities, np.broadcast_to(np.eye(3), (6, 3, 3)), atol=2e-5)
    assert np.isfinite(jax.jacrev(so3.log)(so3.exp(jnp.array([0.0, np.pi, 0.0])))).all()


def test_nearest_rotation_beats_every_other_rotation():
    rng = np.random.default_rng(1)
    matrices = rng.normal(size=(20, 3, 3))  # both handednesses
    others = Rotation.random(500, random_state=1).as_matrix()
    with jax.enable_x64(True):
        nearest = np.asarray(so3.nearest_rotation(jnp.asarray(matrices)))
    np.testing.assert_allclose(np.linalg.det(nearest), 1.0, atol=1e-12)
    assert ((nearest * matrices).sum((-1, -2)) >= np.einsum("nij,mij->nm", matrices, others).max(1)).all()


@pytest.mark.parametrize("determinant", [1.0, -1.0])
def test_nearest_rotation_derivative_matches_differences(determinant):
    rng = np.random.default_rng(2)
    matrix, direction = rng.normal(size=(2, 3, 3))
    matrix *= determinant * np.sign(np.linalg.det(matrix))
    with jax.enable_x64(True):
        _, slope = jax.jvp(so3.nearest_rotation, (jnp.asarray(matrix),), (jnp.asarray(direction),))
        above, below = (so3.nearest_rotation(jnp.asarray(matrix + h * direction)) for h in (1e-6, -1e-6))
        np.testing.assert_allclose(slope, (above - below) / 2e-6, atol=1e-8)


@pytest.mark.parametrize(
    "matrix", [np.eye(3), -np.eye(3), np.zeros((3, 3)), np.diag([1.0, 0, 0]), np.diag([2.0, 1, -1])]
)
def test_nearest_rotation_of_degenerate_matrices_is_a_rotation_with_finite_gradient(matrix):
    matrix = jnp.asarray(matrix.astype(np.float32))
    rotation, gradient = so3.nearest_rotation(matrix), jax.jacrev(so3.nearest_rotation)(matrix)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-6)
    assert np.linalg.det(rotation) > 0.999 and np.isfinite(gradient).all()


def test_hat_is_the_cross_product_and_vee_inverts_it():
    a, b = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 3)).astype(np.float32))
    np.testing.assert_allclose(so3.rotate(so3.hat(a), b), np.cross(a, b), atol=1e-6)
    np.testing.assert_array_equal(so3.vee(so3.hat(a)), a)
