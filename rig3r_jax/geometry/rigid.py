"""Rigid transforms on the host: `a_from_b` as 4x4 matrices of numpy's float64. What runs on devices is in se3 and so3.

One tolerance holds for what comes from outside. Files print few digits, and float32 products of a few rotations
stay within 1e-5; what is farther off than that is a mistake, such as a scale, a mirror or another order of numbers.
A reader whose files are known to be worse says how much worse, and moves them to the nearest transform; records, which
are trained on, ask for better.
"""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float
from scipy.spatial.transform import Rotation

TOLERANCE = 1e-3  # of the entries of transposed(rotation) rotation, and of the length of quaternions


def from_rotation_translation(
    a_from_b_rotation: Float[np.ndarray, "*b 3 3"], b_origin_a: Float[np.ndarray, "*b 3"]
) -> Float[np.ndarray, "*b 4 4"]:
    """a_from_b of its rotation and its translation (the origin of b seen in a)."""
    a_from_b = np.zeros((*b_origin_a.shape[:-1], 4, 4))
    a_from_b[..., :3, :3], a_from_b[..., :3, 3], a_from_b[..., 3, 3] = a_from_b_rotation, b_origin_a, 1.0
    return a_from_b


def invert(a_from_b: Float[np.ndarray, "*b 4 4"]) -> Float[np.ndarray, "*b 4 4"]:
    """b_from_a, by transposition of the rotation (which must be one)."""
    transposed = np.swapaxes(a_from_b[..., :3, :3], -1, -2).astype(np.float64)
    return from_rotation_translation(transposed, -(transposed @ a_from_b[..., :3, 3:])[..., 0])


def apply(a_from_b: Float[np.ndarray, "4 4"], points_b: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
    """Points of frame b in frame a."""
    return points_b @ a_from_b[:3, :3].T + a_from_b[:3, 3]


def is_rigid(a_from_b: Float[np.ndarray, "*b 4 4"], tolerance: float = TOLERANCE) -> Bool[np.ndarray, "*b"]:
    """Whether each matrix is finite, ends in 0 0 0 1 and holds a rotation (orthonormal, determinant +1)."""
    well_formed = np.isfinite(a_from_b).all(axis=(-2, -1)) & (a_from_b[..., 3, :] == [0, 0, 0, 1]).all(axis=-1)
    rotation = np.where(well_formed[..., None, None], a_from_b[..., :3, :3], 0.0)
    return np.asarray(well_formed & (_off_orthonormal(rotation) <= tolerance) & (np.linalg.det(rotation) > 0))


def check(
    a_from_b: Float[np.ndarray, "..."], where: str, error: type[ValueError] = ValueError, tolerance: float = TOLERANCE
) -> Float[np.ndarray, "4 4"]:
    """The transform in float64, or `error`: naming `where` (file, record and field), the matrix and what is wrong."""
    matrix = np.asarray(a_from_b, np.float64)
    refused = f"{where} = {matrix.tolist()} is no rigid transform"
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all() or np.any(matrix[3] != [0, 0, 0, 1]):
        raise error(f"{refused}: it must be a finite 4x4 matrix that ends in 0 0 0 1; correct it")
    if not is_rigid(matrix, tolerance):
        rotation = matrix[:3, :3]
        raise error(
            f"{refused}: its 3x3 block is no rotation, with determinant {np.linalg.det(rotation):.6g} (must be +1) and "
            f"columns off orthonormal by {_off_orthonormal(rotation):.3g} (must be at most {tolerance}); correct it"
        )
    return matrix


def check_quat_xyzw(
    quaternion: Sequence[float] | Float[np.ndarray, "4"],
    where: str,
    error: type[ValueError] = ValueError,
    tolerance: float = TOLERANCE,
) -> None:
    """Raises `error`, naming `where` and the quaternion (scalar last), unless its length is 1."""
    length = math.hypot(*quaternion)
    if not abs(length - 1.0) <= tolerance:
        raise error(
            f"{where}: quaternion (x y z w) {[float(x) for x in quaternion]} is no rotation: it has length "
            f"{length:.6g}, must be 1; remove or correct it"
        )


def rotation_from_quat_xyzw(quaternion: Float[np.ndarray, "*b 4"]) -> Float[np.ndarray, "*b 3 3"]:
    """Rotation of a quaternion (scalar last) of any length but zero."""
    flat = np.reshape(quaternion, (-1, 4))
    rotations = Rotation.from_quat(flat).as_matrix() if len(flat) else np.zeros((0, 3, 3))
    return rotations.reshape(*quaternion.shape[:-1], 3, 3)


def quat_xyzw_from_rotation(rotation: Float[np.ndarray, "*b 3 3"]) -> Float[np.ndarray, "*b 4"]:
    """Unit quaternion, scalar last and not negative."""
    flat = np.reshape(rotation, (-1, 3, 3))
    quaternions = Rotation.from_matrix(flat).as_quat(canonical=True) if len(flat) else np.zeros((0, 4))
    return quaternions.reshape(*rotation.shape[:-2], 4)


def skew(vector: Float[np.ndarray, "*b 3"]) -> Float[np.ndarray, "*b 3 3"]:
    """The matrix S with S x = vector cross x; `so3.hat` on the host."""
    return np.swapaxes(np.cross(np.asarray(vector, np.float64)[..., None, :], np.eye(3)), -1, -2)


def adjoint(a_from_b: Float[np.ndarray, "*b 4 4"]) -> Float[np.ndarray, "*b 6 6"]:
    """A with a_from_b exp(xi_b) = exp(A xi_b) a_from_b, of tangents (v, w); `se3.adjoint` on the host."""
    matrix = np.zeros((*a_from_b.shape[:-2], 6, 6))
    matrix[..., :3, :3] = matrix[..., 3:, 3:] = rotation = a_from_b[..., :3, :3]
    matrix[..., :3, 3:] = skew(a_from_b[..., :3, 3]) @ rotation
    return matrix


def nearest_rotation(matrix: Float[np.ndarray, "*b 3 3"]) -> Float[np.ndarray, "*b 3 3"]:
    """The rotation R, det +1, that maximises trace(R^T matrix): the core of Kabsch and Umeyama."""
    u, _, vt = np.linalg.svd(np.asarray(matrix, np.float64))
    u[..., 2] *= np.where(np.linalg.det(u) * np.linalg.det(vt) < 0, -1.0, 1.0)[..., None]
    return u @ vt


def nearest_rigid(a_from_b: Float[np.ndarray, "*b 4 4"]) -> Float[np.ndarray, "*b 4 4"]:
    """The same, in float64, with nearest rotations: those of float32 and of files are orthonormal to their rounding."""
    return from_rotation_translation(nearest_rotation(a_from_b[..., :3, :3]), a_from_b[..., :3, 3])


def _off_orthonormal(rotation: np.ndarray) -> np.ndarray:
    return np.asarray(np.abs(np.swapaxes(rotation, -1, -2) @ rotation - np.eye(3)).max(axis=(-2, -1)))
