"""The pose uncertainty head: features of frames to the raw numbers of a residual's spread, in the order (v, w).

It is VGGT's log-variance branch (`camera_head/refinement/pose_log_var`) as a model of its own: the backbone is frozen
and its features are computed once, so that the head trains without it. What the numbers mean, the loss knows.
"""

import typing
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from rig3r_jax.geometry.numerics import at_least_float32
from rig3r_jax.models.layers import Mlp

OUTPUTS = {"log_variance": 6, "sqrt_information": 6, "cholesky": 21}  # numbers per frame of each parameterisation
HEAD_INITS = ("default", "mle")


def build(width: int, parameterisation: str = "log_variance", dtype: typing.Any = jnp.float32) -> Mlp:
    """The head of features (i b v d) with d = `width`, applied to every refinement, window and frame alike."""
    if parameterisation not in OUTPUTS:
        raise ValueError(f"parameterisation is {parameterisation!r}; it must be one of {', '.join(OUTPUTS)}")
    if width < 2:
        raise ValueError(f"the head's width is {width}; it must be 2 or more, since the hidden layer has half of it")
    return Mlp(width // 2, OUTPUTS[parameterisation], dtype, out_dtype=at_least_float32(dtype))


def init(
    head: Mlp, key: Array, width: int, head_init: str = "default", bias: Float[np.ndarray, "c"] | None = None
) -> dict[str, typing.Any]:
    """Parameters to start from.

    Args:
        head: from `build`.
        key: of the random weights.
        width: of the features.
        head_init: `default` is Flax's start; with `mle` the last layer is zero but for `bias`, so that every frame is
            predicted the same spread at first.
        bias: raw numbers of the residuals' maximum-likelihood variances, wanted by `mle` alone.
    """
    params = head.init(key, jnp.zeros((1, width)))["params"]
    if head_init == "default":
        return params
    if head_init != "mle":
        raise ValueError(f"head_init is {head_init!r}; it must be one of {', '.join(HEAD_INITS)}")
    if bias is None:
        raise ValueError("head_init mle starts from the variances of training residuals; pass their `bias`")
    return start_at(params, bias)


def start_at(params: Mapping, bias: Float[np.ndarray, "c"]) -> dict[str, typing.Any]:
    """The head's parameters with a last layer that says `bias` of every frame."""
    last = params["fc2"]
    if bias.shape != last["bias"].shape:
        raise ValueError(f"the bias has {bias.size} numbers; the head gives {last['bias'].size}")
    fixed = {"kernel": jax.tree.map(jnp.zeros_like, last["kernel"]), "bias": jnp.asarray(bias, last["bias"].dtype)}
    return {**params, "fc2": fixed}
