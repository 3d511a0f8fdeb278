"""Rotations as 3x3 matrices; tangents are rotation vectors in radians (axis times angle)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rig3r_jax.geometry.numerics import (
    align_leading,
    compiled,
    matmul,
    safe_divide,
    safe_norm,
    safe_normalize,
    trig_remainder,
)

_COT_SERIES = (1 / 3, 1 / 45, 2 / 945, 1 / 4725, 2 / 93555, 1382 / 638512875, 4 / 18243225, 3617 / 162820783125)


def hat(w: Float[Array, "*b 3"]) -> Float[Array, "*b 3 3"]:
    """Skew matrix of w: hat(w) x = w cross x."""
    x, y, z = w[..., 0], w[..., 1], w[..., 2]
    zero = jnp.zeros_like(x)
    return jnp.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1).reshape(*w.shape[:-1], 3, 3)


def vee(skew: Float[Array, "*b 3 3"]) -> Float[Array, "*b 3"]:
    """Inverse of `hat`; of a matrix that is not skew, the vector of its skew part."""
    difference = skew - jnp.swapaxes(skew, -1, -2)
    return 0.5 * jnp.stack([difference[..., 2, 1], difference[..., 0, 2], difference[..., 1, 0]], axis=-1)


@compiled
def exp(w: Float[Array, "*b 3"]) -> Float[Array, "*b 3 3"]:
    """Rotation matrix of a rotation vector (Rodrigues)."""
    return _polynomial(w, trig_remainder(1, _squared(w)), trig_remainder(2, _squared(w)))


@compiled
def log(rotation: Float[Array, "*b 3 3"]) -> Float[Array, "*b 3"]:
    """Rotation vector of at most pi, exact to rounding for every angle; at exactly pi one of the two is chosen.

    Goes through the quaternion, which near pi carries the axis in its large part and the angle in its small one.
    """
    quaternion = to_quat_xyzw(rotation)  # real part >= 0
    imaginary, real = quaternion[..., :3], quaternion[..., 3]
    squared = _squared(imaginary)
    small = squared < 1e-3
    ratio = jnp.where(small, squared / jnp.where(small, real * real, 1.0), 0.0)
    series = jnp.zeros_like(ratio)
    for k in reversed(range(7)):  # atan(r) / r
        series = series * -ratio + 1.0 / (2 * k + 1)
    sine = jnp.sqrt(jnp.where(small, 1.0, squared))
    closed = jnp.arctan2(sine, jnp.where(small, 1.0, real)) / sine
    factor = jnp.where(small, series / jnp.where(small, real, 1.0), closed)
    return 2.0 * factor[..., None] * imaginary


@compiled
def from_quat_xyzw(quaternion: Float[Array, "*b 4"]) -> Float[Array, "*b 3 3"]:
    """Rotation of a quaternion (scalar last) of any length but zero; zero gives the identity."""
    q = safe_divide(quaternion, safe_norm(quaternion, keepdims=True))
    imaginary, real = q[..., :3], q[..., 3]
    return _polynomial(imaginary, 2.0 * real, jnp.full_like(real, 2.0))


@compiled
def to_quat_xyzw(rotation: Float[Array, "*b 3 3"]) -> Float[Array, "*b 4"]:
    """Unit quaternion, scalar last and not negative (Shepperd 1978, by the largest of the four components)."""
    m = rotation
    xx, yy, zz = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    xy, yz, zx = m[..., 0, 1] + m[..., 1, 0], m[..., 1, 2] + m[..., 2, 1], m[..., 2, 0] + m[..., 0, 2]
    wx, wy, wz = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    # The rows of 4 q q^T. Each is the quaternion times a number; that of the largest component has norm >= 2, so that
    # normalising it meets neither a zero nor a root of zero.
    rows = jnp.stack(
        [
            jnp.stack([1.0 + xx - yy - zz, xy, zx, wx], axis=-1),
            jnp.stack([xy, 1.0 - xx + yy - zz, yz, wy], axis=-1),
            jnp.stack([zx, yz, 1.0 - xx - yy + zz, wz], axis=-1),
            jnp.stack([wx, wy, wz, 1.0 + xx + yy + zz], axis=-1),
        ],
        axis=-2,
    )
    largest = jnp.argmax(jnp.diagonal(rows, axis1=-2, axis2=-1), axis=-1)
    row = jnp.take_along_axis(rows, largest[..., None, None], axis=-2)[..., 0, :]
    return safe_normalize(row) * jnp.where(row[..., 3:] < 0, -1.0, 1.0).astype(row.dtype)


@compiled
def nearest_rotation(matrix: Float[Array, "*b 3 3"]) -> Float[Array, "*b 3 3"]:
    """The rotation R, det +1, that maximises trace(R^T matrix): the core of Kabsch and Umeyama. Zero gives identity.

    The derivative is that of the rotation itself, which exists where the SVD's own does not (equal singular values).
    """
    return _nearest_rotation(matrix)


@compiled
def left_jacobian(w: Float[Array, "*b 3"]) -> Float[Array, "*b 3 3"]:
    """J with exp(w + d) = exp(J d) exp(w) to first order; also V of SE(3)'s exponential."""
    return _polynomial(w, trig_remainder(2, _squared(w)), trig_remainder(3, _squared(w)))


@compiled
def inverse_left_jacobian(w: Float[Array, "*b 3"]) -> Float[Array, "*b 3 3"]:
    """Inverse of `left_jacobian`, for angles under 2 pi (there it has a pole)."""
    squared = _squared(w)
    small = squared < 0.25
    x = jnp.where(small, 0.25 * squared, 0.0)
    series = jnp.zeros_like(x)
    for coefficient in reversed(_COT_SERIES):
        series = series * x + coefficient
    angle = jnp.sqrt(jnp.where(small, 1.0, squared))
    closed = (1.0 - 0.5 * angle * jnp.cos(0.5 * angle) / jnp.sin(0.5 * angle)) / (angle * angle)
    return _polynomial(w, jnp.full_like(squared, -0.5), jnp.where(small, 0.25 * series, closed))


def _squared(w: Float[Array, "*b 3"]) -> Float[Array, "*b"]:
    return jnp.sum(w * w, axis=-1)


def _polynomial(
    w: Float[Array, "*b 3"], first: Float[Array, "*b"], second: Float[Array, "*b"]
) -> Float[Array, "*b 3 3"]:
    """I + first hat(w) + second hat(w)^2, with hat(w)^2 = w w^T - |w|^2 I written out."""
    square = w[..., :, None] * w[..., None, :] - _squared(w)[..., None, None] * jnp.eye(3, dtype=w.dtype)
    return jnp.eye(3, dtype=w.dtype) + first[..., None, None] * hat(w) + second[..., None, None] * square


@jax.custom_jvp
def _nearest_rotation(matrix: Float[Array, "*b 3 3"]) -> Float[Array, "*b 3 3"]:
    return _decompose(matrix)[0]


@_nearest_rotation.defjvp
def _nearest_rotation_jvp(primals, tangents):
    """matrix = R S with S symmetric; dR = R Omega with Omega S + S Omega = R^T dM - dM^T R, in S's eigenbasis."""
    (matrix,), (tangent,) = primals, tangents
    rotation, basis, eigenvalues = _decompose(matrix)
    basis_t = jnp.swapaxes(basis, -1, -2)
    turned = matmul(jnp.swapaxes(rotation, -1, -2), tangent)
    skew = matmul(matmul(basis_t, turned - jnp.swapaxes(turned, -1, -2)), basis)
    sums = eigenvalues[..., :, None] + eigenvalues[..., None, :]
    # Where the two smallest cancel the rotation is not determined: no gradient rather than an infinite one.
    tiny = 8 * jnp.finfo(matrix.dtype).eps * eigenvalues[..., :1, None]
    omega = jnp.where(sums > tiny, skew / jnp.where(sums > tiny, sums, 1.0), 0.0)
    return rotation, matmul(rotation, matmul(matmul(basis, omega), basis_t))


def _decompose(matrix: Float[Array, "*b 3 3"]) -> tuple[Array, Array, Array]:
    """(R, V, s) with matrix = R V diag(s) V^T; only the last s may be negative, when det(matrix) is."""
    u, s, vt = jnp.linalg.svd(matrix)
    handedness = jnp.linalg.det(matmul(u, vt))
    sign = jnp.where(handedness < 0, -1.0, 1.0).astype(matrix.dtype)  # not jnp.sign, which could return 0
    signs = jnp.concatenate([jnp.ones_like(s[..., :2]), sign[..., None]], axis=-1)
    return matmul(u * signs[..., None, :], vt), jnp.swapaxes(vt, -1, -2), s * signs


def rotate(a_from_b: Float[Array, "*b 3 3"], vectors_b: Float[Array, "... 3"]) -> Float[Array, "... 3"]:
    """Vectors of frame b in frame a; the matrix's leading axes are the vectors' first ones (see `align_leading`)."""
    return jnp.sum(align_leading(a_from_b, 2, vectors_b.ndim - 1) * vectors_b[..., None, :], axis=-1)
