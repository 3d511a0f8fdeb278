"""The Gaussian error linear unit in its exact form, with a derivative of its own."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from rig3r_jax.geometry.numerics import at_least_float32


def _cdf(x: jax.Array) -> jax.Array:
    """Of the normal distribution. As 1 + erf: erfc's two branches, each with an exponential, are both computed."""
    return 0.5 * (1 + jax.lax.erf(x * np.sqrt(0.5).astype(x.dtype)))


@jax.custom_jvp
def gelu(x: Float[Array, "*b"]) -> Float[Array, "*b"]:
    """x times the normal distribution's cumulative function at x (Hendrycks and Gimpel 2016), computed at float32 or
    better. Forward and backward are one pass each over the array."""
    precise = x.astype(at_least_float32(x.dtype))
    return (precise * _cdf(precise)).astype(x.dtype)


@gelu.defjvp
def _gelu_jvp(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    (x,), (x_dot,) = primals, tangents
    precise = x.astype(at_least_float32(x.dtype))
    density = jnp.exp(-0.5 * precise * precise) * np.sqrt(0.5 / np.pi).astype(precise.dtype)
    slope = _cdf(precise) + precise * density
    return gelu(x), (x_dot.astype(precise.dtype) * slope).astype(x.dtype)
