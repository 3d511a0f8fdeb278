"""GELU and aligned upsampling against float64 formulas, with derivatives that are their own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from rig3r_jax.models.gelu import gelu
from rig3r_jax.models.upsample import upsample_aligned


@pytest.mark.parametrize(
    ("dtype", "rtol", "atol"), [("float64", 1e-12, 1e-14), ("float32", 1e-6, 1e-6), ("bfloat16", 4e-3, 1e-6)]
)
def test_gelu_and_its_slope_are_the_formula_s(dtype, rtol, atol):
    with jax.enable_x64(dtype == "float64"):
        x = jnp.asarray(np.linspace(-12, 12, 4001), dtype)
        exact = np.asarray(x, np.float64)
        cdf = scipy.special.ndtr(exact)
        slope = cdf + exact * np.exp(-exact * exact / 2) / np.sqrt(2 * np.pi)
        value, tangent = jax.jvp(gelu, (x,), (jnp.ones_like(x),))
        (cotangent,) = jax.vjp(gelu, x)[1](jnp.ones_like(x))
        assert value.dtype == tangent.dtype == cotangent.dtype == x.dtype
        np.testing.assert_allclose(np.asarray(value, np.float64), exact * cdf, rtol=rtol, atol=atol)
        for ours in (tangent, cotangent):
            np.testing.assert_allclose(np.asarray(ours, np.float64), slope, rtol=rtol, atol=atol)


def _interpolated(x: np.ndarray, axis: int, size: int) -> np.ndarray:
    old, new = np.arange(x.shape[axis]), np.linspace(0, x.shape[axis] - 1, size)
    return np.apply_along_axis(lambda line: np.interp(new, old, line), axis, x)


@pytest.mark.parametrize(
    "sizes", [(3, 4, 6, 8), (5, 7, 10, 13), (1, 2, 4, 2), (4, 6, 4, 6), (6, 5, 3, 1), (16, 3, 37, 4)]
)
def test_upsampling_interpolates_and_its_gradient_is_the_transpose(sizes):
    height, width, new_height, new_width = sizes
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, height, width, 3))
    cotangent = rng.normal(size=(2, new_height, new_width, 3))
    expected = _interpolated(_interpolated(x, 1, new_height), 2, new_width)
    with jax.enable_x64(True):
        ours, transpose = jax.vjp(lambda x: upsample_aligned(x, new_height, new_width), jnp.asarray(x))
        (gradient,) = transpose(jnp.asarray(cotangent))
    np.testing.assert_allclose(ours, expected, rtol=1e-12, atol=1e-13)
    # <A x, y> = <x, A^T y> for every basis vector x: each number of the gradient by itself.
    basis = np.eye(height * width).reshape(-1, height, width, 1)
    images = _interpolated(_interpolated(basis, 1, new_height), 2, new_width)[..., 0]
    transposed = np.einsum("nij,bijc->bnc", images, cotangent).reshape(x.shape)
    np.testing.assert_allclose(gradient, transposed, rtol=1e-11, atol=1e-12)


def test_no_scatter_is_in_the_program_of_the_gradient():
    def loss(x):
        return jnp.sum(upsample_aligned(x, 16, 16) ** 2)

    program = jax.jit(jax.grad(loss)).lower(jnp.ones((1, 8, 8, 4))).as_text()
    assert "gather" in program and "scatter" not in program
