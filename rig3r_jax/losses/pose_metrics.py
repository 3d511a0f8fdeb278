"""Summaries of pose uncertainty over a batch of windows, under the names of the training curves.

They are of the last refinement, and Gaussian whatever the likelihood, so that curves of different heads compare.
Means carry their counts; percentiles and the spread of the scale are plain values, which do not merge.
"""

import typing
from collections.abc import Mapping

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Bool, Float

from rig3r_jax.geometry.numerics import safe_norm
from rig3r_jax.geometry.residual import SCALE_BOUNDS, WindowScale
from rig3r_jax.geometry.se3 import PARTS
from rig3r_jax.losses.mean import Mean

Metrics = dict[str, Mean | Array]
NEAR_CLAMP = 1e-3  # an inverse sigma this near to its upper bound has hit it


@typing.no_type_check
@struct.dataclass
class WindowMotion:
    """What a batch of windows says of lengths; frame 0, the origin, is left out. Metres."""

    scale: WindowScale  # fields (i b)
    true_distance: Float[Array, "b v-1"]  # of a camera's centre from the first one's
    predicted_distance: Float[Array, "i b v-1"]  # before the scale


@typing.no_type_check
@struct.dataclass
class GaussianErrors:
    """Residuals of the last refinement and what a Gaussian of the predicted spread makes of them."""

    residual: Float[Array, "b n 6"]  # not clamped
    sigma: Float[Array, "b n 6"]  # marginal
    nll: Float[Array, "b n 6"]  # without constants
    squared: dict[str, Float[Array, "b n"]]  # Mahalanobis distances of the parts


def error_metrics(errors: GaussianErrors) -> Metrics:
    """NLL, calibration, sigma and residuals of translation and rotation."""
    metrics: Metrics = {}
    for part, where in PARTS.items():
        sigma = errors.sigma[..., where]
        metrics[f"loss/{part}_uncertainty_nll"] = Mean.of(errors.nll[..., where])
        metrics[f"calibration/d2_{part}_mean"] = Mean.of(errors.squared[part])
        metrics[f"uncertainty/sigma_{part}_mean"] = Mean.of(sigma)
        metrics |= percentiles(f"diagnostic/sigma_{part}", sigma, (10, 50, 90))
        metrics |= percentiles(f"diagnostic/residual_{part}", safe_norm(errors.residual[..., where]), (90,))
    return metrics


def motion_metrics(motion: WindowMotion) -> Metrics:
    """The fit of the scale and the lengths it acts on."""
    scale, raw, valid_count = (x[-1] for x in (motion.scale.scale, motion.scale.raw, motion.scale.valid_count))
    predicted = motion.predicted_distance[-1]
    return {
        "scale/mean": Mean.of(scale),
        # One window has no spread; the reference's curves show 0 for it.
        "scale/std": jnp.std(scale, ddof=1) if scale.size > 1 else jnp.zeros((), scale.dtype),
        "scale/valid_count_mean": Mean.of(valid_count.astype(scale.dtype)),
        "scale/raw": Mean.of(raw),
        "scale/at_min_ratio": share(scale <= SCALE_BOUNDS[0], scale.dtype),
        "scale/at_max_ratio": share(scale >= SCALE_BOUNDS[1], scale.dtype),
        "diagnostic/gt_trans_norm_mean": Mean.of(motion.true_distance),
        "diagnostic/pred_trans_norm_raw_mean": Mean.of(predicted),
        "diagnostic/pred_trans_norm_scaled_mean": Mean.of(predicted * scale[:, None]),
    }


def log_variance_metrics(log_variance: Float[Array, "b n 6"], clamp: tuple[float, float]) -> Metrics:
    """Shares of the head's log-variances at or beyond either bound."""
    metrics: Metrics = {}
    for part, where in PARTS.items():
        values = log_variance[..., where]
        metrics[f"diagnostic/log_var_{part}_at_min"] = share(values <= clamp[0], values.dtype)
        metrics[f"diagnostic/log_var_{part}_at_max"] = share(values >= clamp[1], values.dtype)
    return metrics


def sqrt_information_metrics(sqrt_information: Float[Array, "b n 6"], upper: Mapping[str, float]) -> Metrics:
    """High percentiles of clamped inverse sigmas, and the share of them at the upper bound of each part."""
    metrics: Metrics = {}
    for part, where in PARTS.items():
        values = sqrt_information[..., where]
        metrics |= percentiles(f"diagnostic/sqrt_info_{part}", values, (90, 99))
        metrics[f"diagnostic/sqrt_info_{part}_clamp_hit"] = share(values >= upper[part] - NEAR_CLAMP, values.dtype)
    return metrics


def percentiles(name: str, values: Float[Array, "..."], percents: tuple[int, ...]) -> Metrics:
    """`<name>_p<percent>` of all values, interpolated linearly."""
    quantiles = jnp.percentile(values, jnp.asarray(percents, values.dtype))
    return {f"{name}_p{percent}": value for percent, value in zip(percents, quantiles, strict=True)}


def share(mask: Bool[Array, "..."], dtype: typing.Any) -> Mean:
    """Of how many it holds."""
    return Mean.of(mask.astype(dtype))
