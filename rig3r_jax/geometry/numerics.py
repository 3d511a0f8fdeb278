"""Norms, angles, series and products that stay finite, differentiable and exact at their singular points."""

import functools
import math
import types

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

AnyArray = Array | np.ndarray

# Of a function that is often called by itself: there one program, else each of its operations would be compiled alone;
# inside another jitted function it is as if it stood there.
compiled = functools.partial(jax.jit, inline=True)

_SERIES_TERMS = 12  # of trig_remainder, enough for float64 below _SERIES_BOUND
_SERIES_BOUND = 4.0  # squared angle under which the series is used


def array_module(*arrays: object) -> types.ModuleType:
    """jax.numpy where one of the arrays is JAX's, else numpy: so host code keeps float64 and no compiler runs."""
    return jnp if any(isinstance(array, jax.Array) for array in arrays) else np


def safe_sqrt(x: Float[AnyArray, "..."]) -> Float[AnyArray, "..."]:
    """Square root, 0 with gradient 0 where x <= 0 (the plain one has an infinite gradient at 0)."""
    xp = array_module(x)
    positive = x > 0
    # Double where: the inner one keeps inf and NaN out of the branch that is not taken, the outer one out of the value.
    return xp.where(positive, xp.sqrt(xp.where(positive, x, 1.0)), 0.0)


def safe_norm(x: Float[AnyArray, "..."], axis: int = -1, keepdims: bool = False) -> Float[AnyArray, "..."]:
    """Euclidean norm with gradient 0 at the zero vector."""
    xp = array_module(x)
    return safe_sqrt(xp.asarray(xp.sum(x * x, axis=axis, keepdims=keepdims)))  # a vector's sum in numpy is no array


def safe_normalize(x: Float[AnyArray, "*b"], axis: int = -1) -> Float[AnyArray, "*b"]:
    """Unit vectors along `axis`; the zero vector stays zero, with gradient 0."""
    xp = array_module(x)
    norm = safe_norm(x, axis=axis, keepdims=True)
    return xp.where(norm > 0, x / xp.where(norm > 0, norm, 1.0), 0.0)


def safe_divide(numerator: Float[AnyArray, "..."], denominator: Float[AnyArray, "..."]) -> Float[AnyArray, "..."]:
    """numerator / denominator, 0 with gradient 0 where the denominator is 0."""
    xp = array_module(numerator, denominator)
    usable = denominator != 0
    return xp.where(usable, numerator / xp.where(usable, denominator, 1.0), 0.0)


def trig_remainder(order: int, squared_angle: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """sum_k (-1)^k x^k / (2k + order)! at x = angle^2, order >= 1: sine and cosine less Taylor's first terms.

    1: sin(a)/a   2: (1-cos(a))/a^2   3: (a-sin(a))/a^3   4: (a^2/2-1+cos(a))/a^4   5: (a^3/6-a+sin(a))/a^5
    Smooth in x, so that all of SO(3) and SE(3) is differentiable at zero any number of times.
    """
    small = squared_angle < _SERIES_BOUND
    x = jnp.where(small, squared_angle, 0.0)
    series = jnp.zeros_like(x)
    for k in reversed(range(_SERIES_TERMS)):  # Horner
        series = series * -x + 1.0 / math.factorial(2 * k + order)
    x = jnp.where(small, _SERIES_BOUND, squared_angle)
    angle = jnp.sqrt(x)
    # 2 sin^2(a/2) for 1 - cos(a), which cancels near full turns; then remainder(n+2) = (1/n! - remainder(n)) / x.
    closed = jnp.sin(angle) / angle if order % 2 else 2.0 * (jnp.sin(0.5 * angle) / angle) ** 2
    for n in range(2 - order % 2, order, 2):
        closed = (1.0 / math.factorial(n) - closed) / x
    return jnp.where(small, series, closed)


def at_least_float32(dtype) -> jnp.dtype:
    """The type itself, or float32 for the 16-bit types: what reductions, angles and outputs are computed in."""
    return jnp.promote_types(dtype, jnp.float32)


def matmul(a: Float[Array, "... i j"], b: Float[Array, "... j k"]) -> Float[Array, "... i k"]:
    """Matrix product at full precision (accelerators round the factors of a plain one to bfloat16 or TF32)."""
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def matvec(matrix: Float[Array, "... i j"], vector: Float[Array, "... j"]) -> Float[Array, "... i"]:
    """Product of small matrices and vectors whose leading axes broadcast; element-wise, so at full precision."""
    return jnp.sum(matrix * vector[..., None, :], axis=-1)


def align_leading(values: Float[AnyArray, "..."], core: int, leading: int) -> Float[AnyArray, "..."]:
    """Values whose leading axes line up with the FIRST of `leading` axes of another array.

    `values` ends in `core` axes of its own (2 for matrices); axes of length 1 go before them until `leading` other axes
    do. So matrices (b v 3 3) meet points (b v h w 3) as (b v 1 1 3 3). Left alone when it has as many or more.
    """
    missing = leading - (values.ndim - core)
    first = values.ndim - core
    return array_module(values).expand_dims(values, tuple(range(first, first + missing))) if missing > 0 else values
