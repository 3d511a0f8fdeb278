"""The transformer block that all models share, and its stacking over layers."""

import dataclasses
import functools
import typing
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from rig3r_jax.models.attention import Attention, dense_attention, is_fused
from rig3r_jax.models.gelu import gelu
from rig3r_jax.models.linear import Product
from rig3r_jax.models.positions import rotate_by_position
from rig3r_jax.models.remat import named_linear, rematerialised

_INIT = nn.initializers.xavier_uniform()
# Logical axes of activations; training owns the rules that place them.
TOKENS = ("batch", "tokens", "width")  # of all images of a sample
PATCHES = ("images", "patches", "width")  # of one image


def layer_norm(name: str, dtype: typing.Any, epsilon: float = 1e-6) -> nn.LayerNorm:
    """LayerNorm over the channels; moments in one pass over x, which makes a small model's step a fifth quicker."""
    return nn.LayerNorm(epsilon=epsilon, dtype=dtype, name=name)


def linear(width: int, name: str, dtype: typing.Any, product: Product | None = None) -> nn.Dense:
    """A linear layer to `width` channels, whose product is computed as `product` does (linear.PRODUCTS)."""
    return nn.Dense(width, kernel_init=_INIT, dtype=dtype, dot_general=product, name=name)


@dataclasses.dataclass(frozen=True)
class BlockOptions:
    """How the blocks of a stack compute: one object goes down from the model to every layer."""

    heads: int
    hidden: int = 0  # width inside the MLP; 0: four times that of the tokens
    attend: Attention = dense_attention
    product: Product | None = None  # of the linear layers: a value of linear.PRODUCTS
    qk_norm: bool = False
    epsilon: float = 1e-6  # of all norms
    layer_scale: float = 0.0  # initial factor of the residual branches; 0: none
    remat: str = "none"  # a key of remat.REMAT_POLICIES
    unroll: bool = False  # unroll the scan: quicker steps for small models, slower compilation for large ones
    dtype: typing.Any = jnp.float32
    axes: tuple[str, ...] = TOKENS

    def norm(self, name: str) -> nn.LayerNorm:
        return layer_norm(name, self.dtype, self.epsilon)


def stack(depth: int, body: Callable, *, unroll: bool = False) -> Callable:
    """`nn.scan` over layers whose parameters and captured intermediates are stacked along axis 0."""
    return nn.scan(
        body,
        variable_axes={"params": 0, "intermediates": 0},
        split_rngs={"params": True},
        length=depth,
        unroll=depth if unroll else 1,
    )


class QueriesKeysValues(nn.Module):
    """The linear layer to q, k and v, whose parameters are those of one layer to all three.

    A product for each where a fused kernel takes them: it reads whole arrays, and parts of one product would be copied
    for it, once on the way forward and twice on the way back. One product elsewhere, and in FP8.
    """

    options: BlockOptions

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"]) -> list[Float[Array, "b n d"]]:
        options, width = self.options, x.shape[-1]
        kernel = self.param("kernel", _INIT, (width, 3 * width))
        bias = self.param("bias", nn.initializers.zeros, (3 * width,))
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=options.dtype)

        def product(kernel: jax.Array, bias: jax.Array) -> jax.Array:
            multiply = options.product or jax.lax.dot_general
            out = multiply(x, kernel, (((x.ndim - 1,), (0,)), ((), ()))) + bias
            return nn.with_logical_constraint(out, options.axes)  # cut as x is, wherever the kernel is

        if options.product or not is_fused(options.attend):
            return jnp.split(product(kernel, bias), 3, axis=-1)
        kernel = nn.with_logical_constraint(kernel, (None, None))  # gathered before it is cut in three
        kernels, biases = (jnp.split(whole, 3, axis=-1) for whole in (kernel, bias))
        return [named_linear(product(*parameters)) for parameters in zip(kernels, biases, strict=True)]


class SelfAttention(nn.Module):
    options: BlockOptions
    positions: np.ndarray | None = None  # (n, 2) grid rows and columns: rotary embedding when given

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        """Multi-head self-attention; the rows of `qkv` are q, then k, then v, each head-major."""
        options, width = self.options, x.shape[-1]
        parts = QueriesKeysValues(options, name="qkv")(x)
        q, k, v = (part.reshape(*x.shape[:2], options.heads, -1) for part in parts)
        if options.qk_norm:
            q, k = options.norm("q_norm")(q), options.norm("k_norm")(k)
        if self.positions is not None:
            q, k = (rotate_by_position(part, self.positions) for part in (q, k))
        out = options.attend(q, k, v).reshape(x.shape)
        return linear(width, "proj", options.dtype, options.product)(out)


class Mlp(nn.Module):
    hidden: int
    out: int
    dtype: typing.Any = jnp.float32
    out_dtype: typing.Any = None  # of the last layer; None: as dtype
    axes: tuple[str, ...] | None = None  # of x, where they are known
    product: Product | None = None  # as in BlockOptions

    @nn.compact
    def __call__(self, x: Float[Array, "*b d"]) -> Float[Array, "*b c"]:
        """Linear, GELU, linear."""
        x = linear(self.hidden, "fc1", self.dtype, self.product)(x)
        if self.axes:
            x = nn.with_logical_constraint(x, self.axes)
        x = gelu(x)
        return linear(self.out, "fc2", self.out_dtype or self.dtype, self.product)(x)


class LayerScale(nn.Module):
    """A learned factor per channel on a residual branch (Touvron et al. 2021)."""

    initial: float
    dtype: typing.Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
        gamma = self.param("gamma", nn.initializers.constant(self.initial), (x.shape[-1],))
        return x * gamma.astype(self.dtype)


class Block(nn.Module):
    """Pre-norm transformer block: x + attention(norm x), then x + mlp(norm x); either branch scaled if asked for."""

    options: BlockOptions
    positions: np.ndarray | None = None  # as in SelfAttention

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        options, width = self.options, x.shape[-1]
        attention = SelfAttention(options, self.positions, name="attn")
        hidden = options.hidden or 4 * width
        mlp = Mlp(hidden, width, options.dtype, axes=options.axes, product=options.product, name="mlp")
        x = x + self._scaled("ls1", attention(options.norm("norm1")(x)))
        x = x + self._scaled("ls2", mlp(options.norm("norm2")(x)))
        return nn.with_logical_constraint(x, options.axes)

    def _scaled(self, name: str, branch: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        initial = self.options.layer_scale
        return LayerScale(initial, self.options.dtype, name=name)(branch) if initial else branch


def _cast_kernels(params: PyTree, dtype: typing.Any) -> PyTree:
    """Kernels in the type that a block computes in: what enters a block is kept for its backward pass as it enters."""
    return jax.tree.map(lambda leaf: leaf.astype(dtype) if leaf.ndim > 1 else leaf, params)


class Blocks(nn.Module):
    """`depth` blocks in a row by one scan: parameters are stacked along axis 0, compiled once."""

    depth: int
    options: BlockOptions
    positions: np.ndarray | None = None  # as in SelfAttention

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        options = self.options
        block = rematerialised(Block, options.remat, unroll=options.unroll)
        if not self.is_initializing():
            block = nn.map_variables(block, "params", functools.partial(_cast_kernels, dtype=options.dtype))
        block = block(options, self.positions, name="block")
        scan = stack(self.depth, lambda module, carry, _: (module(carry), None), unroll=self.options.unroll)
        return scan(block, x, None)[0]
