"""Rigid transforms as 4x4 matrices `a_from_b`; tangents are (v, w): metres, then radians."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from rig3r_jax.geometry import so3
from rig3r_jax.geometry.numerics import align_leading, compiled, matmul, matvec, trig_remainder

PARTS = {"trans": slice(0, 3), "rot": slice(3, 6)}  # of a tangent


@compiled
def from_rotation_translation(
    a_from_b_rotation: Float[Array, "*b 3 3"], b_origin_a: Float[Array, "*b 3"]
) -> Float[Array, "*b 4 4"]:
    """a_from_b of its rotation and its translation (the origin of b seen in a)."""
    upper = jnp.concatenate([a_from_b_rotation, b_origin_a[..., None]], axis=-1)
    lower = jnp.broadcast_to(jnp.array([0, 0, 0, 1], dtype=upper.dtype), (*upper.shape[:-2], 1, 4))
    return jnp.concatenate([upper, lower], axis=-2)


def rotation(a_from_b: Float[Array, "*b 4 4"]) -> Float[Array, "*b 3 3"]:
    """The rotation block."""
    return a_from_b[..., :3, :3]


def translation(a_from_b: Float[Array, "*b 4 4"]) -> Float[Array, "*b 3"]:
    """The translation: the origin of b in frame a; of a world_from_camera, the camera's centre."""
    return a_from_b[..., :3, 3]


@compiled
def through_quaternion(a_from_b: Float[Array, "*b 4 4"]) -> Float[Array, "*b 4 4"]:
    """The same with the rotation of its unit quaternion; a stored rotation is orthonormal to its own rounding only."""
    return from_rotation_translation(so3.from_quat_xyzw(so3.to_quat_xyzw(rotation(a_from_b))), translation(a_from_b))


@compiled
def inverse(a_from_b: Float[Array, "*b 4 4"]) -> Float[Array, "*b 4 4"]:
    """b_from_a, by transposition of the rotation (which must be one)."""
    transposed = jnp.swapaxes(rotation(a_from_b), -1, -2)
    return from_rotation_translation(transposed, -matvec(transposed, translation(a_from_b)))


def compose(a_from_b: Float[Array, "... 4 4"], b_from_c: Float[Array, "... 4 4"]) -> Float[Array, "... 4 4"]:
    """a_from_c; leading axes broadcast."""
    return matmul(a_from_b, b_from_c)


def apply(a_from_b: Float[Array, "*b 4 4"], points_b: Float[Array, "... 3"]) -> Float[Array, "... 3"]:
    """Points of frame b in frame a.

    The transform's leading axes are the points' first ones: (b v 4 4) meets (b v 3), (b v n 3) and (b v h w 3).
    """
    turned = so3.rotate(rotation(a_from_b), points_b)
    return turned + align_leading(translation(a_from_b), 1, points_b.ndim - 1)


@compiled
def exp(xi: Float[Array, "*b 6"]) -> Float[Array, "*b 4 4"]:
    """Transform of a tangent (v, w): rotation exp(w), translation left_jacobian(w) v."""
    v, w = xi[..., :3], xi[..., 3:]
    return from_rotation_translation(so3.exp(w), matvec(so3.left_jacobian(w), v))


@compiled
def log(a_from_b: Float[Array, "*b 4 4"]) -> Float[Array, "*b 6"]:
    """Tangent (v, w) of a transform, |w| <= pi."""
    w = so3.log(rotation(a_from_b))
    return jnp.concatenate([matvec(so3.inverse_left_jacobian(w), translation(a_from_b)), w], axis=-1)


@compiled
def adjoint(a_from_b: Float[Array, "*b 4 4"]) -> Float[Array, "*b 6 6"]:
    """A with a_from_b exp(xi_b) = exp(A xi_b) a_from_b."""
    turn = rotation(a_from_b)
    return _blocks(turn, matmul(so3.hat(translation(a_from_b)), turn))


@compiled
def left_jacobian(xi: Float[Array, "*b 6"]) -> Float[Array, "*b 6 6"]:
    """J with exp(xi + d) = exp(J d) exp(xi) to first order."""
    return _blocks(so3.left_jacobian(xi[..., 3:]), _mixed(xi))


@compiled
def inverse_left_jacobian(xi: Float[Array, "*b 6"]) -> Float[Array, "*b 6 6"]:
    """Inverse of `left_jacobian`, for rotation angles under 2 pi."""
    inverted = so3.inverse_left_jacobian(xi[..., 3:])
    return _blocks(inverted, -matmul(matmul(inverted, _mixed(xi)), inverted))


def _mixed(xi: Float[Array, "*b 6"]) -> Float[Array, "*b 3 3"]:
    """The block of v and w in the left Jacobian. Source: Barfoot, State Estimation for Robotics, eq. 7.86b."""
    p, f = so3.hat(xi[..., :3]), so3.hat(xi[..., 3:])
    squared_angle = jnp.sum(xi[..., 3:] ** 2, axis=-1)[..., None, None]
    third, fourth, fifth = (trig_remainder(order, squared_angle) for order in (3, 4, 5))
    fp, pf = matmul(f, p), matmul(p, f)
    fpf = matmul(fp, f)
    return (
        0.5 * p
        + third * (fp + pf + fpf)
        + fourth * (matmul(f, fp) + matmul(pf, f) - 3.0 * fpf)
        + 0.5 * (fourth - 3.0 * fifth) * (matmul(fpf, f) + matmul(f, fpf))
    )


def _blocks(diagonal: Float[Array, "*b 3 3"], upper: Float[Array, "*b 3 3"]) -> Float[Array, "*b 6 6"]:
    """[[diagonal, upper], [0, diagonal]]"""
    top = jnp.concatenate([diagonal, upper], axis=-1)
    return jnp.concatenate([top, jnp.concatenate([jnp.zeros_like(upper), diagonal], axis=-1)], axis=-2)
