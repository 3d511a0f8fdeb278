"""Laws of SE(3) and golden vectors; scipy's matrix exponential is the independent oracle."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from rig3r_jax.geometry import se3, so3


def tangents(shape, seed=0, scale=1.0):
    return np.random.default_rng(seed).normal(size=(*shape, 6)) * scale


def as_matrix(xi):
    generator = np.zeros((4, 4))
    x, y, z = xi[3:]
    generator[:3, :3] = [[0, -z, y], [z, 0, -x], [-y, x, 0]]
    generator[:3, 3] = xi[:3]
    return scipy.linalg.expm(generator)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_exp_and_log_golden(shared, dtype):
    golden = np.load(shared / "golden/lie/se3.npz")
    xi, tolerance = golden["xi"], {"float32": 2e-6, "float64": 4e-15}[dtype]
    exact = np.broadcast_to(np.eye(4), (len(xi), 4, 4)).copy()
    exact[:, :3, :3], exact[:, :3, 3] = golden["exact_R"], golden["exact_t"]
    with jax.enable_x64(dtype == "float64"):
        np.testing.assert_allclose(se3.exp(jnp.asarray(xi.astype(dtype))), exact, atol=tolerance)
        back = np.asarray(se3.log(jnp.asarray(exact.astype(dtype))), np.float64)
    # Rounded to float32, pi - 1e-7 may lie beyond pi: the other tangent of the same transform is right too.
    same_side = (back[:, 3:] * xi[:, 3:]).sum(-1) >= 0
    assert same_side.all() or dtype == "float32"
    np.testing.assert_allclose(back[same_side], xi[same_side], atol=2 * tolerance)
    for tangent, transform in zip(back[~same_side], exact[~same_side], strict=True):
        np.testing.assert_allclose(as_matrix(tangent), transform, atol=2 * tolerance)


def test_group_operations_golden(shared):
    golden = np.load(shared / "golden/lie/se3.npz")
    with jax.enable_x64(True):
        transforms = jnp.asarray(golden["matrix_f64"])
        rotation, translation = golden["inv_f64"][:, 3:], golden["inv_f64"][:, :3]
        inverse = se3.from_rotation_translation(so3.from_quat_xyzw(jnp.asarray(rotation)), jnp.asarray(translation))
        np.testing.assert_allclose(se3.inverse(transforms), inverse, atol=1e-14)
        composed = se3.compose(transforms, jnp.roll(transforms, -1, axis=0))
        np.testing.assert_allclose(se3.translation(composed), golden["compose_next_f64"][:, :3], atol=1e-14)
        quaternion = so3.from_quat_xyzw(jnp.asarray(golden["compose_next_f64"][:, 3:]))
        np.testing.assert_allclose(se3.rotation(composed), quaternion, atol=1e-14)
        np.testing.assert_allclose(se3.adjoint(transforms), golden["adj_f64"], atol=1e-14)


def test_jacobians_golden(shared):
    golden = np.load(shared / "golden/lie/se3.npz")
    with jax.enable_x64(True):
        xi = jnp.asarray(golden["xi"])
        # The reference loses digits at small angles; there the derivative of exp (next tests) is the judge.
        angle = np.linalg.norm(golden["xi"][:, 3:], axis=-1)[:, None, None]
        for ours, key in ((se3.left_jacobian(xi), "se3_Jl_f64"), (se3.inverse_left_jacobian(xi), "se3_Jl_inv_f64")):
            assert (np.abs(ours - golden[key]) < np.where(angle > 0.3, 1e-12, 3e-6)).all()


@pytest.mark.parametrize("scale", [1e-9, 1e-3, 0.5, 1.2])
def test_exp_matches_the_matrix_exponential(scale):
    xi = tangents((6,), scale=scale)
    with jax.enable_x64(True):
        np.testing.assert_allclose(se3.exp(jnp.asarray(xi)), [as_matrix(x) for x in xi], atol=1e-14)


def test_left_jacobian_is_the_derivative_of_exp():
    def slope(xi):
        return jax.jacfwd(lambda d: se3.log(se3.exp(xi + d) @ se3.inverse(se3.exp(xi))))(jnp.zeros(6))

    with jax.enable_x64(True):
        scales = np.array([0.0, 1e-6, 1e-3, 1e-2, 0.5, 1.2])[:, None]
        xi = jnp.asarray(tangents((6,), seed=4) * scales)
        slopes = jax.jit(jax.vmap(slope))(xi)
        np.testing.assert_allclose(se3.left_jacobian(xi), slopes, atol=1e-12)
        back = se3.inverse_left_jacobian(xi) @ slopes
        np.testing.assert_allclose(back, np.broadcast_to(np.eye(6), (6, 6, 6)), atol=1e-12)


def test_adjoint_moves_a_tangent_across_a_transform():
    with jax.enable_x64(True):
        a_from_b, xi = se3.exp(jnp.asarray(tangents((), 1))), jnp.asarray(tangents((), 2, 0.3))
        across = se3.exp(se3.adjoint(a_from_b) @ xi) @ a_from_b
        np.testing.assert_allclose(a_from_b @ se3.exp(xi), across, atol=1e-14)


@pytest.mark.parametrize(("batch", "inner"), [((), ()), ((3,), ()), ((), (7,)), ((2, 3), (4, 5)), ((0,), (7,))])
def test_apply_maps_every_point_of_every_batch(batch, inner):
    a_from_b = jax.jit(se3.exp)(jnp.asarray(tangents(batch).astype(np.float32)))
    points = np.random.default_rng(1).normal(size=(*batch, *inner, 3)).astype(np.float32)
    moved = jax.jit(se3.apply)(a_from_b, jnp.asarray(points))
    for index in np.ndindex(batch):
        rotation, translation = np.asarray(a_from_b[index])[:3, :3], np.asarray(a_from_b[index])[:3, 3]
        np.testing.assert_allclose(moved[index], points[index] @ rotation.T + translation, atol=2e-6)
    np.testing.assert_allclose(se3.apply(se3.inverse(a_from_b), moved), points, atol=4e-6)


def round_trip(xi):
    return se3.log(se3.exp(xi))


def test_vmap_of_single_transforms_is_the_batched_call():
    xi = jnp.asarray(tangents((5,)).astype(np.float32))
    np.testing.assert_allclose(jax.jit(jax.vmap(round_trip))(xi), jax.jit(round_trip)(xi), atol=1e-6)


def test_gradients_are_finite_at_the_identity():
    gradient = jax.jit(jax.jacrev(round_trip))(jnp.zeros(6))
    np.testing.assert_allclose(gradient, np.eye(6), atol=1e-6)
    for function in (se3.left_jacobian, se3.inverse_left_jacobian):
        assert np.isfinite(jax.jit(jax.jacrev(function))(jnp.zeros(6))).all()
