"""Products of linear layers in interchangeable number formats; `nn.Dense` takes one as its `dot_general`.

`fp8` rounds what it multiplies to 8 bits (Micikevicius et al. 2022, FP8 Formats for Deep Learning): activations and
weights to e4m3, gradients to e5m2, all three products of a layer, one scale per array. Quantization, products and their
gradients are flax's (`flax.linen.fp8_ops`). Scales are current: the largest number of each array now, not of a history
of steps, so that neither parameters nor state know of it. They are those of the whole batch, on a mesh too: under jit
the partitioner joins the largest numbers of all devices.

H100 and later cards multiply in FP8; on others, and on CPUs, XLA converts to a wider type: the same numbers, slower.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax.linen import fp8_ops
from jaxtyping import Array, Float

from rig3r_jax.models.remat import named_scale

Product = Callable[..., jax.Array]  # as jax.lax.dot_general

_FORWARD, _BACKWARD = jnp.float8_e4m3fn, jnp.float8_e5m2
_TINY = 1e-30  # an array of smaller numbers counts as zero: the scale that stretched it would overflow


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def fp8_product(x: jax.Array, kernel: jax.Array, dimensions, precision=None, preferred_element_type=None) -> jax.Array:
    """`jax.lax.dot_general` in FP8; in the type of x, which is that of the kernel. An infinity or NaN in either, or in
    the gradient, comes out as NaN.

    Args:
        x: activations.
        kernel: weights.
        dimensions: as dot_general's dimension_numbers, without batch axes.
        precision: not looked at; sums of the forward pass take the card's quick way, those of gradients the exact one.
        preferred_element_type: not looked at.
    """
    return _forward(x, kernel, dimensions, precision, preferred_element_type)[0]


def _forward(x, kernel, dimensions, precision, preferred_element_type):
    (q_x, scale_x), (q_kernel, scale_kernel) = _quantized(x), _quantized(kernel)
    # Of the arrays before rounding flax's rule reads the rank alone, and its gradient is measured by `_backward`.
    residuals = q_x, q_x, scale_x, q_kernel, q_kernel, scale_kernel, None, None
    out, residuals = fp8_ops.quantized_dot_fwd(*residuals, dimensions, x.dtype)
    return fp8_ops.dequantize(out, x.dtype, scale_x * scale_kernel), residuals


def _backward(dimensions, precision, preferred_element_type, residuals, gradient):
    residuals = *residuals[:-2], *_measured(gradient)
    of_x, _, _, of_kernel, *_ = fp8_ops.quantized_dot_bwd(dimensions, gradient.dtype, residuals, gradient)
    return of_x, of_kernel


fp8_product.defvjp(_forward, _backward)


def _quantized(x: jax.Array) -> tuple[jax.Array, Float[Array, "1"]]:
    """x in e4m3 and its scale; their product is x."""
    scale, _ = fp8_ops.update_fp8_meta(x, _FORWARD, *_measured(x))
    scale = named_scale(scale)
    return fp8_ops.quantize(x, _FORWARD, scale, x.dtype), scale


def _measured(x: jax.Array) -> tuple[Float[Array, "1"], Float[Array, "1"]]:
    """What flax computes a scale from: that of before, which it keeps where the largest number is 0 or not finite, and
    the history of largest numbers, which is that of x alone."""
    largest = jnp.max(jnp.abs(x)).astype(jnp.float32)[None]
    before = jnp.where(jnp.isfinite(largest), 1.0, jnp.nan)
    return before, jnp.where(largest < _TINY, 0.0, largest)


# None: jax.lax.dot_general, in the type of the layer.
PRODUCTS: dict[str, Product | None] = {"plain": None, "fp8": fp8_product}
