"""The transformer block that encoder and decoder share, and its stacking over layers."""

import typing

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from rig3r_jax.models.attention import Attention, dense_attention
from rig3r_jax.models.positions import rotate_by_position

_INIT = nn.initializers.xavier_uniform()
TOKENS = ("batch", "tokens", "width")  # logical axes of activations; training owns the rules that place them

REMAT_POLICIES = {
    "none": None,  # keep every intermediate
    "full": jax.checkpoint_policies.nothing_saveable,  # keep block inputs only
    "attention": jax.checkpoint_policies.save_only_these_names("attention"),  # and the output of attention
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,  # and every linear layer's output
}


class SelfAttention(nn.Module):
    heads: int
    attend: Attention = dense_attention
    qk_norm: bool = False
    positions: np.ndarray | None = None  # (n, 2) grid rows and columns: rotary embedding when given
    dtype: typing.Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        """Multi-head self-attention; the rows of `qkv` are q, then k, then v, each head-major."""
        width = x.shape[-1]
        qkv = nn.Dense(3 * width, kernel_init=_INIT, dtype=self.dtype, name="qkv")(x)
        q, k, v = (part.reshape(*x.shape[:2], self.heads, -1) for part in jnp.split(qkv, 3, axis=-1))
        if self.qk_norm:
            q = nn.LayerNorm(epsilon=1e-6, dtype=self.dtype, name="q_norm")(q)
            k = nn.LayerNorm(epsilon=1e-6, dtype=self.dtype, name="k_norm")(k)
        if self.positions is not None:
            q, k = (rotate_by_position(part, self.positions) for part in (q, k))
        out = self.attend(q, k, v).reshape(x.shape)
        return nn.Dense(width, kernel_init=_INIT, dtype=self.dtype, name="proj")(out)


class Mlp(nn.Module):
    hidden: int
    out: int
    dtype: typing.Any = jnp.float32
    out_dtype: typing.Any = None  # of the last layer; None: as dtype

    @nn.compact
    def __call__(self, x: Float[Array, "*b d"]) -> Float[Array, "*b c"]:
        """Linear, GELU, linear."""
        x = nn.Dense(self.hidden, kernel_init=_INIT, dtype=self.dtype, name="fc1")(x)
        x = nn.gelu(x, approximate=False)
        return nn.Dense(self.out, kernel_init=_INIT, dtype=self.out_dtype or self.dtype, name="fc2")(x)


class Block(nn.Module):
    """Pre-norm transformer block: x + attention(norm x), then x + mlp(norm x)."""

    heads: int
    mlp_ratio: int = 4
    attend: Attention = dense_attention
    qk_norm: bool = False
    positions: np.ndarray | None = None
    dtype: typing.Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        attention = SelfAttention(self.heads, self.attend, self.qk_norm, self.positions, self.dtype, name="attn")
        x = x + attention(nn.LayerNorm(epsilon=1e-6, dtype=self.dtype, name="norm1")(x))
        mlp = Mlp(self.mlp_ratio * x.shape[-1], x.shape[-1], self.dtype, name="mlp")
        x = x + mlp(nn.LayerNorm(epsilon=1e-6, dtype=self.dtype, name="norm2")(x))
        return nn.with_logical_constraint(x, TOKENS)


class Blocks(nn.Module):
    """`depth` blocks in a row by one scan: parameters are stacked along axis 0, compiled once."""

    depth: int
    heads: int
    mlp_ratio: int = 4
    attend: Attention = dense_attention
    qk_norm: bool = False
    positions: np.ndarray | None = None
    remat: str = "none"  # a key of REMAT_POLICIES
    unroll: bool = False  # unroll the scan: quicker steps for small models, slower compilation for large ones
    dtype: typing.Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b n d"]) -> Float[Array, "b n d"]:
        block_class = Block
        if self.remat != "none":
            block_class = nn.remat(Block, policy=REMAT_POLICIES[self.remat], prevent_cse=False)
        block = block_class(
            self.heads, self.mlp_ratio, self.attend, self.qk_norm, self.positions, self.dtype, name="block"
        )
        scan = nn.scan(
            lambda module, carry, _: (module(carry), None),
            variable_axes={"params": 0},
            split_rngs={"params": True},
            length=self.depth,
            unroll=self.depth if self.unroll else 1,
        )
        return scan(block, x, None)[0]
