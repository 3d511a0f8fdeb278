"""What a device can do at best, measured on it at a layer's own shape and type; and published rates of attention."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from rig3r_jax.benchmarks.timing import time_device

# Forward and backward TFLOP/s of FlashAttention-3 on an H100 SXM in 16 bits, not causal, by the width of a head, at
# sequences of 1,024 and of 16,384 tokens (Shah et al. 2024, figures 5 and 6).
PUBLISHED = {64: {1024: (392.0, 363.0), 16384: (497.0, 474.0)}, 128: {1024: (497.0, 424.0), 16384: (648.0, 561.0)}}
HOPPER = ("H100", "H200")
_QUERIES = 1024  # of the products that stand for attention where nothing is published
_REPEATS = 5

Product = tuple[int, int, int, str]  # rows, inner, columns, dtype


@functools.lru_cache
def matmul_rate(products: tuple[Product, ...]) -> float:
    """Operations per second over the given matrix products, each timed by itself."""
    operations = seconds = 0.0
    for rows, inner, columns, dtype in products:
        a, b = normal((rows, inner), dtype), normal((inner, columns), dtype)
        seconds += _seconds(jnp.dot, a, b)
        operations += 2.0 * rows * inner * columns
    return operations / seconds


@functools.lru_cache
def convolution_rate(images: int, side: int, channels: int, dtype: str) -> float:
    """Operations per second of a 3x3 convolution, channels last."""
    x, kernel = normal((images, side, side, channels), dtype), normal((3, 3, channels, channels), dtype)

    def convolve(x, kernel):
        return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    return 2.0 * images * side * side * 9 * channels * channels / _seconds(convolve, x, kernel)


@functools.lru_cache
def copy_rate() -> float:
    """Bytes per second, read and written, of adding 1 in place to an array that no cache holds."""
    megabytes = 1024 if jax.default_backend() == "gpu" else 128
    held = [jnp.zeros(megabytes * 2**18, jnp.float32)]
    moved = 2.0 * held[0].nbytes
    add = jax.jit(lambda x: x + 1, donate_argnums=0)

    def call() -> jax.Array:
        held[0] = add(held[0])
        return held[0]

    return moved / time_device(call, repeats=_REPEATS).median


def attention_rate(batch: int, queries: int, keys: int, heads: int, width: int, dtype: str) -> tuple[float, str]:
    """Operations per second of attention, 1 part forward and 2.5 parts backward, and where the number is from.

    On a Hopper GPU in 16 bits the published rate of the nearer length; elsewhere that of its two products alone,
    without the softmax between them.
    """
    kind = jax.devices()[0].device_kind
    if width in PUBLISHED and any(name in kind for name in HOPPER) and dtype != "float32":
        length = min(PUBLISHED[width], key=lambda n: abs(math.log(n / keys)))
        forward, backward = PUBLISHED[width][length]
        return 3.5 / (1 / forward + 2.5 / backward) * 1e12, f"FlashAttention-3, {length} tokens"
    return _two_products(batch, min(queries, _QUERIES), keys, heads, width, dtype), "q k^T and p v"


@functools.lru_cache
def _two_products(batch: int, queries: int, keys: int, heads: int, width: int, dtype: str) -> float:
    q, k = normal((batch, heads, queries, width), dtype), normal((batch, heads, keys, width), dtype)
    p = normal((batch, heads, queries, keys), dtype)
    seconds = _seconds(lambda q, k: jnp.einsum("bknd,bkmd->bknm", q, k), q, k)
    seconds += _seconds(lambda p, v: jnp.einsum("bknm,bkmd->bknd", p, v), p, k)
    return 4.0 * batch * heads * queries * keys * width / seconds


def normal(shape: tuple[int, ...], dtype: str, seed: int = 0) -> jax.Array:
    """Normal numbers: zeros would let some devices run faster than they can."""
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape, np.float32), jnp.dtype(dtype))


def _seconds(function, *arrays: jax.Array) -> float:
    compiled = jax.jit(function).lower(*arrays).compile()
    return time_device(lambda: compiled(*arrays), repeats=_REPEATS).median
