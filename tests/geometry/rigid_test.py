"""Rigid transforms in float64: laws on random ones, the one check, quaternions against so3."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from rig3r_jax.geometry import rigid, se3, so3


def transforms(*shape, seed=0):
    rng = np.random.default_rng(seed)
    turns = Rotation.random(int(np.prod(shape)), rng=rng).as_matrix().reshape(*shape, 3, 3)
    return rigid.from_rotation_translation(turns, rng.normal(size=(*shape, 3)) * 10)


@pytest.mark.parametrize("shape", [(), (5,), (2, 3)])
def test_inverse_and_points_agree_with_se3(shape):
    a_from_b = transforms(*shape)
    np.testing.assert_allclose(
        rigid.invert(a_from_b) @ a_from_b, np.broadcast_to(np.eye(4), a_from_b.shape), atol=1e-13
    )
    with jax.enable_x64(True):
        np.testing.assert_allclose(rigid.invert(a_from_b), se3.inverse(jnp.asarray(a_from_b)), atol=1e-13)
        one, points = a_from_b.reshape(-1, 4, 4)[0], np.random.default_rng(1).normal(size=(7, 2, 3))
        np.testing.assert_allclose(
            rigid.apply(one, points), se3.apply(jnp.asarray(one), jnp.asarray(points)), atol=1e-13
        )
    assert rigid.invert(a_from_b.astype(np.float32)).dtype == np.float64


@pytest.mark.parametrize("shape", [(), (5,), (2, 3)])
def test_adjoints_agree_with_se3(shape):
    a_from_b = transforms(*shape)
    with jax.enable_x64(True):
        np.testing.assert_allclose(rigid.adjoint(a_from_b), se3.adjoint(jnp.asarray(a_from_b)), atol=1e-12)
        vectors = a_from_b[..., :3, 3]
        np.testing.assert_allclose(rigid.skew(vectors), so3.hat(jnp.asarray(vectors)), atol=1e-15)


@pytest.mark.parametrize("shape", [(4,), (0,), (), (2, 3)])
def test_quaternions_are_those_of_so3_in_the_order_of_the_name(shape):
    rotation = transforms(*shape)[..., :3, :3]
    quaternion = rigid.quat_xyzw_from_rotation(rotation)
    assert quaternion.shape == (*shape, 4) and (quaternion[..., 3] >= 0).all()
    np.testing.assert_allclose(rigid.rotation_from_quat_xyzw(-3.0 * quaternion), rotation, atol=1e-14)
    if quaternion.size:
        with jax.enable_x64(True):
            np.testing.assert_allclose(quaternion, so3.to_quat_xyzw(jnp.asarray(rotation)), atol=1e-14)
    half_turn_about_y = rigid.rotation_from_quat_xyzw(np.array([0.0, 1, 0, 0]))
    np.testing.assert_allclose(half_turn_about_y, np.diag([-1.0, 1, -1]), atol=1e-15)


def test_nearest_rotations_are_rotations_and_agree_with_so3():
    noisy = np.random.default_rng(0).normal(size=(50, 3, 3))  # half of them mirror
    nearest = rigid.nearest_rotation(noisy)
    np.testing.assert_allclose(
        nearest @ np.swapaxes(nearest, -1, -2), np.broadcast_to(np.eye(3), noisy.shape), atol=1e-14
    )
    np.testing.assert_allclose(np.linalg.det(nearest), 1.0)
    with jax.enable_x64(True):
        np.testing.assert_allclose(nearest, so3.nearest_rotation(jnp.asarray(noisy)), atol=1e-10)
    exact = transforms(8)
    single = rigid.nearest_rigid(exact.astype(np.float32))
    np.testing.assert_allclose(single, exact, atol=2e-6)
    assert rigid.is_rigid(single, tolerance=1e-14).all() and not rigid.is_rigid(exact.astype(np.float32), 1e-9).any()


MIRROR, SCALED, NOT_FINITE = np.diag([1.0, 1, -1, 1]), np.diag([1.1, 1.1, 1.1, 1]), np.full((4, 4), np.nan)


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (MIRROR, r"file, line 3: pose = \[\[1.0, .* no rigid transform: .*determinant -1 "),
        (SCALED, "determinant 1.331 .* off orthonormal by 0.21 "),
        (NOT_FINITE, "must be a finite 4x4"),
        (np.eye(3), "must be a finite 4x4"),
        (transforms().T, "ends in 0 0 0 1"),
        (np.zeros((4, 4)) + np.diag([0, 0, 0, 1.0]), "determinant 0 "),
    ],
)
def test_what_is_no_rigid_transform_is_refused_by_the_callers_error(matrix, message):
    with pytest.raises(KeyError, match=message):
        rigid.check(matrix, "file, line 3: pose", _CallersError)
    if matrix.shape == (4, 4):
        np.testing.assert_array_equal(rigid.is_rigid(np.stack([np.eye(4), matrix])), [True, False])


def test_the_tolerance_is_one_for_few_digits_and_may_be_stated():
    a_from_b = transforms(seed=3)
    printed = np.round(a_from_b, 4)
    np.testing.assert_array_equal(rigid.check(printed, "printed"), printed)
    with pytest.raises(ValueError, match="must be at most 1e-09"):
        rigid.check(printed, "printed", tolerance=1e-9)
    quaternion = rigid.quat_xyzw_from_rotation(a_from_b[:3, :3])
    rigid.check_quat_xyzw(np.round(quaternion, 3).tolist(), "printed")
    for wrong in (1.01 * quaternion, 0 * quaternion, np.full(4, np.nan)):
        with pytest.raises(KeyError, match="file: quaternion .* is no rotation: it has length .*, must be 1"):
            rigid.check_quat_xyzw(wrong, "file", _CallersError)
    rigid.check_quat_xyzw((1.01 * quaternion).tolist(), "file", tolerance=0.05)


class _CallersError(ValueError, KeyError):
    """An error of the caller's own type."""
