"""Scaled dot-product attention in interchangeable implementations; the model takes one as an attribute."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rig3r_jax.geometry.numerics import at_least_float32
from rig3r_jax.models.remat import named_inputs, named_output

Attention = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


def dense_attention(
    q: Float[Array, "b n k d"], k: Float[Array, "b m k d"], v: Float[Array, "b m k d"]
) -> Float[Array, "b n k d"]:
    """softmax(q k^T / sqrt(d)) v with the whole matrix in memory; the reference for the others."""
    precise = at_least_float32(q.dtype)
    logits = jnp.einsum("bnkd,bmkd->bknm", q, k, preferred_element_type=precise) * q.shape[-1] ** -0.5
    return jnp.einsum("bknm,bmkd->bnkd", jax.nn.softmax(logits, axis=-1).astype(v.dtype), v)


def chunked_attention(
    q: Float[Array, "b n k d"], k: Float[Array, "b m k d"], v: Float[Array, "b m k d"], *, chunk: int = 256
) -> Float[Array, "b n k d"]:
    """`dense_attention` over slices of `chunk` queries, recomputed in the backward pass: memory linear in n."""
    queries = q.shape[1]
    if queries <= chunk:
        return dense_attention(q, k, v)
    padding = -queries % chunk
    slices = jnp.pad(q, ((0, 0), (0, padding), (0, 0), (0, 0))).reshape(q.shape[0], -1, chunk, *q.shape[2:])
    attend = jax.checkpoint(lambda part: dense_attention(part, k, v))
    out = jax.lax.map(attend, jnp.moveaxis(slices, 1, 0))
    return jnp.moveaxis(out, 0, 1).reshape(q.shape[0], -1, *q.shape[2:])[:, :queries]


def cudnn_attention(
    q: Float[Array, "b n k d"], k: Float[Array, "b m k d"], v: Float[Array, "b m k d"]
) -> Float[Array, "b n k d"]:
    """cuDNN's fused attention; NVIDIA GPUs and 16-bit inputs only."""
    return jax.nn.dot_product_attention(q, k, v, implementation="cudnn")


IMPLEMENTATIONS: dict[str, Attention] = {
    "dense": dense_attention,
    "chunked": chunked_attention,
    "cudnn": cudnn_attention,
}


def select_attention(name: str, *, backend: str, dtype: jax.typing.DTypeLike) -> Attention:
    """The implementation called `name`; `auto` is cuDNN for 16-bit types on a GPU and chunked elsewhere.

    Inputs and output carry the checkpoint names that remat policies go by. The fused kernel's output carries none:
    policies know the kernel itself, whose statistics they keep too, and a named copy would be kept beside it.
    """
    if name == "auto":
        name = "cudnn" if backend == "gpu" and jnp.dtype(dtype).itemsize == 2 else "chunked"
    if name not in IMPLEMENTATIONS:
        raise ValueError(f"model.attention is {name!r}; it must be one of auto, {', '.join(IMPLEMENTATIONS)}")
    implementation = IMPLEMENTATIONS[name]

    @functools.wraps(implementation)
    def attend(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        out = implementation(*named_inputs(q, k, v))
        return out if name == "cudnn" else named_output(out)

    return attend
