"""Rotations as references write them: quaternions (x, y, z, w), of which q and -q are one rotation."""

import jax
import numpy as np
from jaxtyping import Array, Float

from rig3r_jax.geometry import se3, so3
from rig3r_jax.parity.dump.rows import Ours

SIGNS = "q and -q are one rotation"
from_quat, to_quat = jax.jit(so3.from_quat_xyzw), jax.jit(so3.to_quat_xyzw)


def same_sign(ours: Float[Array | np.ndarray, "*b 4"], theirs: Float[np.ndarray, "*b 4"]) -> Float[np.ndarray, "*b 4"]:
    """q or -q, whichever is nearer to theirs, row by row."""
    ours = np.asarray(ours)
    return np.where(np.sum(ours * theirs, axis=-1, keepdims=True) < 0, -ours, ours)


def sevens(transforms: Float[Array, "*b 4 4"]) -> Ours:
    """(t, q) of transforms, with the signs of theirs."""
    translations, quaternions = se3.translation(transforms), to_quat(se3.rotation(transforms))
    return Ours(
        lambda theirs: np.concatenate([translations, same_sign(quaternions, theirs[..., 3:])], axis=-1), note=SIGNS
    )
