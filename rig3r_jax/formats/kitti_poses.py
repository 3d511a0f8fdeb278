"""Poses of the KITTI odometry benchmark: a row of 12 numbers per image, world_from_camera row by row; no times."""

from pathlib import Path

import numpy as np
from jaxtyping import Float

from rig3r_jax.formats.atomic import write_atomically
from rig3r_jax.formats.calibration import transform_of
from rig3r_jax.formats.text import numbered_lines, read_text, split_words

_DIGITS_TOLERANCE = 1e-2  # the benchmark prints six digits; the nearest rotation is taken


def read_poses(path: str | Path) -> Float[np.ndarray, "n 4 4"]:
    """world_from_camera of every row, float64, metres; ValueError naming file, line, value and rule."""
    poses = []
    for number, line in numbered_lines(read_text(path)):
        if line.startswith("#"):
            continue
        words, where = split_words(line), f"{path}, line {number}"
        if len(words) != 12:
            raise ValueError(f"{where}: has {len(words)} values, must be 12 (3x4 world_from_camera); correct the row")
        poses.append(transform_of(words, where, _DIGITS_TOLERANCE))
    if not poses:
        raise ValueError(f"{path}: holds no pose; it must have rows of 12 numbers")
    return np.stack(poses)


def write_poses(path: str | Path, world_from_camera: Float[np.ndarray, "n 4 4"]) -> None:
    """Writes what `read_poses` reads; numbers lose nothing."""
    rows = np.asarray(world_from_camera, np.float64)[:, :3].reshape(len(world_from_camera), 12)
    lines = [" ".join(repr(float(value)) for value in row) for row in rows]
    write_atomically(path, ("\n".join(lines) + "\n").encode())
