"""Scaled dot-product attention in interchangeable implementations; the model takes one as an attribute."""

import dataclasses
import functools
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rig3r_jax.extras import lack_of
from rig3r_jax.geometry.numerics import at_least_float32
from rig3r_jax.models.remat import named_inputs, named_output
from rig3r_jax.models.tokamax_attention import tokamax_attention

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


def flash3_attention(
    q: Float[Array, "b n k d"], k: Float[Array, "b m k d"], v: Float[Array, "b m k d"]
) -> Float[Array, "b n k d"]:
    """FlashAttention-3 (Shah et al. 2024) as dew-flash-attn brings it; Hopper GPUs and 16-bit inputs only."""
    import dew_flash_attn

    return dew_flash_attn.flash_mha(q, k, v)


IMPLEMENTATIONS: dict[str, Attention] = {
    "dense": dense_attention,
    "chunked": chunked_attention,
    "cudnn": cudnn_attention,
    "flash3": flash3_attention,
    "tokamax": tokamax_attention,
}


@dataclasses.dataclass(frozen=True)
class Kernel:
    """What one of the fused kernels runs on, and how fast it was."""

    tflops: Mapping[int, float]  # by width of a head: forward and backward at 24,576 tokens; empty: not measured
    devices: tuple[str, ...] = ("",)  # parts of the names of devices that it is built for; "": all GPUs
    package: str = ""  # beside jax


HOPPER = ("H100", "H200", "GH200")
# 16-bit types on an NVIDIA GPU. Rates: one H200, bfloat16, both kernels in one run, whose file was not kept; that of an
# earlier one, benchmarks/results/attention-bfloat16-nvidia-h200.json, has cuDNN's alone: 434 and 537. `rig3r bench
# attention` prints both.
KERNELS = {
    "cudnn": Kernel({64: 437.0, 128: 538.0}),
    "flash3": Kernel({64: 515.0, 128: 604.0}, HOPPER, "dew_flash_attn"),
    "tokamax": Kernel({}, HOPPER, "tokamax"),
}


def cannot_run(name: str, *, backend: str, dtype: jax.typing.DTypeLike, kind: str = "") -> str:
    """Why an implementation does not run on a device of this kind (`jax.Device.device_kind`, "": any) in this type;
    "" where it does. Whether its package is installed is not looked at."""
    if not (kernel := KERNELS.get(name)):
        return ""
    if backend != "gpu":
        return "it wants an NVIDIA GPU"
    if kind and not any(part in kind for part in kernel.devices):
        return f"it is built for {', '.join(kernel.devices)}, not for {kind}"
    if jnp.dtype(dtype).itemsize != 2:
        return f"it takes 16-bit types, not {jnp.dtype(dtype)}"
    return ""


def is_fused(attend: Attention) -> bool:
    """Whether it is, by its name, one of KERNELS: these read q, k and v as whole arrays, each by itself in memory."""
    return getattr(attend, "__name__", "").removesuffix("_attention") in KERNELS


def lack_of_package(name: str) -> str:
    """What an implementation wants that is not installed, and how to install it; "" where nothing is missing."""
    kernel = KERNELS.get(name)
    return lack_of([kernel.package]) if kernel and kernel.package else ""


def fastest(*, backend: str, dtype: jax.typing.DTypeLike, kind: str = "", head_width: int = 64) -> str:
    """The name of the implementation that `auto` stands for: the fused kernel with the highest measured rate among
    those that are installed and run here, else chunked. What has not been measured is taken by its name only."""

    def rate(name: str) -> float:
        tflops = KERNELS[name].tflops
        return tflops[min(tflops, key=lambda width: abs(width - head_width))]

    running = [
        name
        for name, kernel in KERNELS.items()
        if kernel.tflops
        and (kind or not kernel.package)  # of a device of unknown kind only what runs on all is told
        and not cannot_run(name, backend=backend, dtype=dtype, kind=kind)
        and not lack_of_package(name)
    ]
    return max(running, key=rate, default="chunked")


def select_attention(
    name: str, *, backend: str, dtype: jax.typing.DTypeLike, kind: str = "", head_width: int = 64
) -> Attention:
    """The implementation called `name`, or for `auto` the `fastest`; its `__name__` tells which.

    Inputs and output carry the checkpoint names that remat policies go by. A fused kernel's output carries none:
    policies know the kernel itself, whose statistics they keep too, and a named copy would be kept beside it.

    Raises:
        ValueError: for an unknown name, and for a kernel whose package is not installed.
    """
    if name == "auto":
        name = fastest(backend=backend, dtype=dtype, kind=kind, head_width=head_width)
    if name not in IMPLEMENTATIONS:
        raise ValueError(f"model.attention is {name!r}; it must be one of auto, {', '.join(IMPLEMENTATIONS)}")
    if lack := lack_of_package(name):
        raise ValueError(f"model.attention={name} {lack}")
    implementation = IMPLEMENTATIONS[name]

    @functools.wraps(implementation)
    def attend(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        out = implementation(*named_inputs(q, k, v))
        return out if name in KERNELS else named_output(out)

    return attend
