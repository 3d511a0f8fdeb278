"""Bicubic resizing with antialiasing: torch is the oracle, and a few laws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rig3r_jax.models.resize import bicubic_matrix, resize_bicubic

torch = pytest.importorskip("torch")


@pytest.mark.parametrize("old, new", [(1, 1), (1, 5), (4, 2), (4, 3), (4, 9), (37, 12), (37, 36), (37, 74), (5, 1)])
def test_lines_are_torchs(old: int, new: int):
    line = torch.eye(old, dtype=torch.float64)[None, :, None]  # channel i holds the unit at sample i
    theirs = torch.nn.functional.interpolate(line, (1, new), mode="bicubic", antialias=True)[0, :, 0]
    np.testing.assert_allclose(bicubic_matrix(old, new), theirs.numpy().T, atol=1e-14)


def test_rows_sum_to_one_and_mirror_each_other():
    for old, new in ((3, 7), (7, 3), (37, 16), (16, 37)):
        matrix = bicubic_matrix(old, new)
        np.testing.assert_allclose(matrix.sum(axis=1), 1.0, atol=1e-14)
        np.testing.assert_allclose(matrix[::-1, ::-1], matrix, atol=1e-14)
    np.testing.assert_allclose(bicubic_matrix(6, 6), np.eye(6), atol=1e-15)


def test_both_axes_in_the_precision_of_the_grid():
    grid = np.random.default_rng(0).normal(size=(5, 4, 3))
    theirs = torch.nn.functional.interpolate(
        torch.tensor(grid).permute(2, 0, 1)[None], (3, 9), mode="bicubic", antialias=True
    )[0].permute(1, 2, 0)
    with jax.enable_x64(True):
        np.testing.assert_allclose(resize_bicubic(jnp.asarray(grid), 3, 9), theirs, atol=1e-14)
    ours = resize_bicubic(jnp.asarray(grid, jnp.float32), 3, 9)
    assert ours.dtype == jnp.float32
    np.testing.assert_allclose(ours, theirs, atol=2e-6)


def test_empty_line_is_refused():
    with pytest.raises(ValueError, match="4 samples cannot become one of 0"):
        bicubic_matrix(4, 0)
