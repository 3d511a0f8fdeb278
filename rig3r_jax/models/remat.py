"""What the backward pass keeps of a transformer block and what it computes again, by name.

Per layer and token, for width D, H heads, an MLP of 4 D and 16-bit activations. `bytes` stay in memory from the
forward to the backward pass; `again` is the share of the forward pass's linear layers (24 D^2 operations) that the
backward pass repeats. The last two columns are the paper's 48 layers of D = 1024 at 24,576 tokens: gigabytes kept
and TFLOP repeated, of 293 in a step.

| policy    | keeps                                                     | bytes           | again | GB   | TFLOP |
|-----------|-----------------------------------------------------------|-----------------|-------|------|-------|
| full      | the block's input                                         | 2 D             | 2/3   | 2.4  | 81.8  |
| attention | and attention: its output, the fused kernel's statistics  | 4 D + 4 H       | 2/3   | 4.9  | 19.8  |
| qkv       | and q, k, v                                               | 10 D + 4 H      | 5/12  | 12.2 | 12.4  |
| dots      | input, attention, and the linear layers' outputs but fc2's| 20 D + 4 H      | 0     | 24.2 | 0     |
| none      | everything                                                | 62 D + 4 H + 32 | 0     | 75.0 | 0     |

`full` repeats the forward pass of attention too (its 81.8), the others never do. Norms and GELU are repeated by all
but `none`: they cost time on memory, not in products. `none` keeps in float32 what norms compute in float32. The
statistics of tokamax's kernel are 8 H.
"""

import flax.linen as nn
import jax
from jax.ad_checkpoint import checkpoint_name

# Checkpoint names of attention's output, of its inputs, of linear layers' outputs with their bias, and of what an array
# was divided by before it was rounded to 8 bits.
ATTENTION, QKV, LINEAR, SCALE = "attention", "qkv", "linear", "scale"

# Primitives that bind fused kernels: cuDNN's, and those of other packages. Keeping their outputs keeps the softmax
# statistics, which carry no name.
FUSED_KERNELS = ("dot_product_attention_fwd_wrapper", "dot_product_attention_fwd", "ffi_call")


def _fused_kernels(primitive, *_, **__) -> bool:
    return primitive.name in FUSED_KERNELS


def _with_attention(*policies):
    """Keeps attention, scales (one number each, for which a whole array was read), and what any of `policies` keeps."""
    kept = jax.checkpoint_policies.save_only_these_names(ATTENTION, SCALE)
    for policy in (_fused_kernels, *policies):
        kept = jax.checkpoint_policies.save_from_both_policies(kept, policy)
    return kept


REMAT_POLICIES = {
    "none": None,
    "dots": _with_attention(
        jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
        jax.checkpoint_policies.save_only_these_names(LINEAR),
    ),
    "qkv": _with_attention(jax.checkpoint_policies.save_only_these_names(QKV)),
    "attention": _with_attention(),
    "full": jax.checkpoint_policies.nothing_saveable,
}

# The table above: bytes per channel, bytes besides, and the twelfths of the linear layers that are repeated.
_COSTS = {"none": (62, 32, 0), "dots": (20, 0, 0), "qkv": (10, 0, 5), "attention": (4, 0, 8), "full": (2, 0, 8)}


def rematerialised(module: type[nn.Module], policy: str, *, unroll: bool = False) -> type[nn.Module]:
    """The module class under a key of REMAT_POLICIES, for use inside a scan.

    Unrolled, what the backward pass repeats stands beside the forward pass in one program: XLA would find the two alike
    and keep what was not to be kept, were it not told to leave them apart.
    """
    return module if policy == "none" else nn.remat(module, policy=REMAT_POLICIES[policy], prevent_cse=unroll)


def named_inputs(*arrays: jax.Array) -> tuple[jax.Array, ...]:
    """q, k and v under the name that policy `qkv` keeps."""
    return tuple(checkpoint_name(array, QKV) for array in arrays)


def named_output(array: jax.Array) -> jax.Array:
    """Attention's output under the name that all policies but `full` keep."""
    return checkpoint_name(array, ATTENTION)


def named_scale(array: jax.Array) -> jax.Array:
    """The scale of an array of 8 bits under the name that all policies but `full` keep."""
    return checkpoint_name(array, SCALE)


def named_linear(array: jax.Array) -> jax.Array:
    """A linear layer's output with its bias, which `dots` keeps instead of the product alone."""
    return checkpoint_name(array, LINEAR)


def kept_bytes(policy: str, width: int, heads: int) -> int:
    """Bytes of 16-bit activations that a block with the fused kernel keeps for the backward pass, per token."""
    per_channel, besides, _ = _COSTS[policy]
    return per_channel * width + besides + (0 if policy == "full" else 4 * heads)


def repeated_linear(policy: str) -> float:
    """The share of a block's linear layers, forward, that the backward pass repeats."""
    return _COSTS[policy][2] / 12


def repeats_attention(policy: str) -> bool:
    """Whether the backward pass repeats the forward pass of attention."""
    return policy == "full"
