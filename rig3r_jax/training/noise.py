"""The gradient noise scale: how many samples of a batch still make its gradient better.

McCandlish et al. 2018, "An Empirical Model of Large-Batch Training", appendix A.1: of gradients over b and B samples

    |G|^2 = (B |G_B|^2 - b |G_b|^2) / (B - b)        S = (|G_b|^2 - |G_B|^2) / (1 / b - 1 / B)

are unbiased estimates of the squared norm of the true gradient and of the trace of the covariance of one sample's.
Their ratio, the simple noise scale, is the batch size at which noise and gradient are as large as each other: far
smaller batches lose nothing by being made larger, far larger ones are wasted.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from rig3r_jax.losses.mean import Mean

NOISE_SCALE = "train/noise_scale"  # the metric, in samples


def noise_scale(parts_squared: Float[Array, ""], whole_squared: Float[Array, ""], parts: int, samples: int) -> Mean:
    """The noise scale of one step as S over |G|^2, so that of many steps the sums are divided.

    Args:
        parts_squared: sum of the squared norms of the gradients of equal micro-batches, each its share of the whole:
            they add up to the gradient of the batch.
        whole_squared: squared norm of that.
        parts: how many micro-batches; at least 2.
        samples: of the batch.
    """
    small = samples / parts
    small_squared = parts * parts_squared  # the mean of |parts * share|^2
    signal = (samples * whole_squared - small * small_squared) / (samples - small)
    variance = (small_squared - whole_squared) / (1 / small - 1 / samples)
    return Mean(jnp.asarray(variance, jnp.float32), jnp.asarray(signal, jnp.float32))
