"""Attention by tokamax's kernels for Hopper (Pallas on Mosaic GPU): one kernel forward, two backward (dq; dk and dv).

Differentiated as tokamax does it itself, a remat policy keeps nothing of its forward pass, or all that it hands to the
backward pass: q, k, v once more, and the output twice. Here output and softmax statistics carry the checkpoint name
that policies go by, and q, k, v are the block's own.
"""

import jax
from jaxtyping import Array, Float

from rig3r_jax.models.remat import named_output

BACKWARD = "attention_backward"  # the scope of both kernels of the backward pass, by which a program's text is read


def _kernels():
    """tokamax's operation: called with q, k and v; its `vjp` makes their gradients."""
    from tokamax._src.ops.attention.api import IMPLEMENTATIONS

    return IMPLEMENTATIONS["mosaic_gpu"]


@jax.custom_vjp
def tokamax_attention(
    q: Float[Array, "b n k d"], k: Float[Array, "b m k d"], v: Float[Array, "b m k d"]
) -> Float[Array, "b n k d"]:
    """tokamax's FlashAttention-3; Hopper GPUs and 16-bit inputs only."""
    return _kernels()(q, k, v)


def _forward(q: jax.Array, k: jax.Array, v: jax.Array):
    out, statistics = _kernels()(q, k, v, return_residuals=True)  # of each row of logits: maximum, sum of exponentials
    out, statistics = named_output(out), jax.tree.map(named_output, statistics)
    return out, (q, k, v, out, statistics)


def _backward(kept, cotangent: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    q, k, v, out, statistics = kept
    kernels = _kernels()
    settings = dict(kernels.bind(q, k, v).kwargs)  # scale, types and precision as the forward pass had them
    settings.pop("return_residuals")
    with jax.named_scope(BACKWARD):
        gradients = kernels.vjp(statistics, out, cotangent, q, k, v, **settings)
    return gradients["q"], gradients["k"], gradients["v"]


tokamax_attention.defvjp(_forward, _backward)
