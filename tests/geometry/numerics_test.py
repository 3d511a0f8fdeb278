"""Singular points of norms, angles and series: finite values, finite gradients, full precision."""

from fractions import Fraction
from math import factorial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rig3r_jax.geometry import numerics


@pytest.mark.parametrize("function", [numerics.safe_norm, lambda x: numerics.safe_normalize(x).sum()])
def test_norms_have_zero_value_and_gradient_at_zero(function):
    value, gradient = jax.value_and_grad(function)(jnp.zeros(3))
    assert value == 0.0
    np.testing.assert_array_equal(gradient, np.zeros(3))


def test_safe_sqrt_is_zero_below_zero_and_sqrt_above():
    x = jnp.array([-1.0, 0.0, 1e-12, 4.0])
    np.testing.assert_allclose(numerics.safe_sqrt(x), [0.0, 0.0, 1e-6, 2.0], rtol=1e-6)
    gradient = jax.grad(lambda x: numerics.safe_sqrt(x).sum())(x)
    np.testing.assert_allclose(gradient, [0.0, 0.0, 5e5, 0.25], rtol=1e-6)


@pytest.mark.parametrize("order", [1, 2, 3, 4, 5])
def test_trig_remainder_matches_its_series_in_exact_arithmetic(order):
    x = [0.0, 1e-20, 1e-6, 0.01, 0.9, 3.9, 3.999999, 4.0, 4.000001, 9.0, 9.8696, 20.0]
    terms = [[Fraction(-v) ** k / factorial(2 * k + order) for k in range(45)] for v in x]
    exact = [float(sum(row)) for row in terms]
    with jax.enable_x64(True):
        np.testing.assert_allclose(
            numerics.trig_remainder(order, jnp.asarray(np.array(x))), exact, atol=4e-16, rtol=2e-15
        )
    single = numerics.trig_remainder(order, jnp.asarray(np.array(x, np.float32)))
    assert single.dtype == jnp.float32
    np.testing.assert_allclose(single, exact, atol=2e-7, rtol=3e-6)


def test_trig_remainder_gradient_follows_from_the_series_on_both_sides_of_the_bound():
    for x in (0.0, 3.99, 4.01, 9.0):
        exact = float(sum(-k * Fraction(-x) ** (k - 1) / factorial(2 * k + 3) for k in range(1, 45)))
        assert abs(jax.grad(lambda x: numerics.trig_remainder(3, x))(jnp.float32(x)) - exact) < 1e-6


def test_products_ask_for_full_precision():
    a = jnp.ones((2, 3, 3))
    assert "HIGHEST" in str(jax.make_jaxpr(numerics.matmul)(a, a))
    assert "dot_general" not in str(jax.make_jaxpr(numerics.matvec)(a, a[..., 0]))


@pytest.mark.parametrize(("leading", "shape"), [(1, (7, 3, 3)), (3, (7, 1, 1, 3, 3)), (0, (7, 3, 3))])
def test_align_leading_puts_own_axes_first(leading, shape):
    assert numerics.align_leading(jnp.zeros((7, 3, 3)), 2, leading).shape == shape
