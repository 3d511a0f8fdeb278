"""The transformer block that all models share, and its stacking over layers."""

import typing
from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from rig3r_jax.models.attention import Attention, dense_attention
from rig3r_jax.models.positions import rotate_by_position
from rig3r_jax.models.remat import rematerialised

_INIT = nn.initializers.xavier_uniform()
# Logical axes of activations; training owns the rules that place them.
TOKENS = ("batch", "tokens", "width")  # of all images of a sample
PATCHES = ("images", "patches", "width")  # of one image


def layer_norm(name: str, dtype: typing.Any, epsilon: float = 1e-6) -> nn.LayerNorm:
    """LayerNorm over the channels; moments in one pass over x, which makes a small model's step a fifth quicker."""
    return nn.LayerNorm(epsilon=epsilon, dtype=dtype, name=name)


def stack(depth: int, body: Callable, *, unroll: bool = False) -> Callable:
    """`nn.scan` over layers whose parameters and captured intermediates are stacked along axis 0."""
    return nn.scan(
        body,
        variable_axes={"params": 0, "intermediates": 0},
        split_rngs={"params": True},
        length=depth,
        unroll=depth if unroll else 1,
    )


class SelfAttention(nn.Module):
    heads: int
    attend: Attention = dense_attention
    qk_norm: bool = False
    positions: np.ndarray | None = None  # (n, 2) grid rows and columns: rotary embedding when given
    epsilon: float = 1e-6  # of the norms of q and k
    dtype: typing.Any = jnp.float32
    axes: tuple[str, ...] = TOKENS

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        """Multi-head self-attention; the rows of `qkv` are q, then k, then v, each head-major."""
        width = x.shape[-1]
        qkv = nn.Dense(3 * width, kernel_init=_INIT, dtype=self.dtype, name="qkv")(x)
        qkv = nn.with_logical_constraint(qkv, self.axes)  # cut as x is, wherever the kernel is cut
        q, k, v = (part.reshape(*x.shape[:2], self.heads, -1) for part in jnp.split(qkv, 3, axis=-1))
        if self.qk_norm:
            q = layer_norm("q_norm", self.dtype, self.epsilon)(q)
            k = layer_norm("k_norm", self.dtype, self.epsilon)(k)
        if self.positions is not None:
            q, k = (rotate_by_position(part, self.positions) for part in (q, k))
        out = self.attend(q, k, v).reshape(x.shape)
        return nn.Dense(width, kernel_init=_INIT, dtype=self.dtype, name="proj")(out)


class Mlp(nn.Module):
    hidden: int
    out: int
    dtype: typing.Any = jnp.float32
    out_dtype: typing.Any = None  # of the last layer; None: as dtype
    axes: tuple[str, ...] | None = None  # of x, where they are known

    @nn.compact
    def __call__(self, x: Float[Array, "*b d"]) -> Float[Array, "*b c"]:
        """Linear, GELU, linear."""
        x = nn.Dense(self.hidden, kernel_init=_INIT, dtype=self.dtype, name="fc1")(x)
        if self.axes:
            x = nn.with_logical_constraint(x, self.axes)
        x = nn.gelu(x, approximate=False)
        return nn.Dense(self.out, kernel_init=_INIT, dtype=self.out_dtype or self.dtype, name="fc2")(x)


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

    heads: int
    mlp_ratio: int = 4
    attend: Attention = dense_attention
    qk_norm: bool = False
    positions: np.ndarray | None = None
    epsilon: float = 1e-6  # of all norms
    layer_scale: float = 0.0  # initial factor of the branches; 0: none
    dtype: typing.Any = jnp.float32
    axes: tuple[str, ...] = TOKENS

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        attention = SelfAttention(
            self.heads, self.attend, self.qk_norm, self.positions, self.epsilon, self.dtype, self.axes, name="attn"
        )
        mlp = Mlp(self.mlp_ratio * x.shape[-1], x.shape[-1], self.dtype, axes=self.axes, name="mlp")
        x = x + self._scaled("ls1", attention(layer_norm("norm1", self.dtype, self.epsilon)(x)))
        x = x + self._scaled("ls2", mlp(layer_norm("norm2", self.dtype, self.epsilon)(x)))
        return nn.with_logical_constraint(x, self.axes)

    def _scaled(self, name: str, branch: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        return LayerScale(self.layer_scale, self.dtype, name=name)(branch) if self.layer_scale else branch


class Blocks(nn.Module):
    """`depth` blocks in a row by one scan: parameters are stacked along axis 0, compiled once."""

    depth: int
    heads: int
    mlp_ratio: int = 4
    attend: Attention = dense_attention
    qk_norm: bool = False
    positions: np.ndarray | None = None
    epsilon: float = 1e-6
    layer_scale: float = 0.0
    remat: str = "none"  # a key of remat.REMAT_POLICIES
    unroll: bool = False  # unroll the scan: quicker steps for small models, slower compilation for large ones
    dtype: typing.Any = jnp.float32
    axes: tuple[str, ...] = TOKENS

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        block = rematerialised(Block, self.remat)(
            self.heads,
            self.mlp_ratio,
            self.attend,
            self.qk_norm,
            self.positions,
            self.epsilon,
            self.layer_scale,
            self.dtype,
            self.axes,
            name="block",
        )
        scan = stack(self.depth, lambda module, carry, _: (module(carry), None), unroll=self.unroll)
        return scan(block, x, None)[0]
