"""The multitask loss: pointmap, pose ray map and rig ray map (Rig3R, section 'Multitask Loss')."""

import dataclasses
import typing

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float

from rig3r_jax.geometry.numerics import safe_norm
from rig3r_jax.losses.ground_truth import GroundTruth
from rig3r_jax.losses.mean import Mean
from rig3r_jax.schema import Predictions


@dataclasses.dataclass(frozen=True)
class LossWeights:
    """Weights that the paper names but gives no values for."""

    alpha: float = 0.2  # weight of -log(confidence)
    beta: float = 1.0  # camera centre against ray directions
    lambda_pose: float = 1.0  # pose ray map against pointmap
    lambda_rig: float = 1.0  # rig ray map against pointmap
    reduction: str = "mean"  # "mean": each term over its own count; "sum": the formula to the letter


@typing.no_type_check
@struct.dataclass
class Counts:
    """How many things each term of the mean runs over, in the global batch."""

    points: Float[Array, ""]
    rays: Float[Array, ""]
    centers: Float[Array, ""]

    @classmethod
    def of(cls, truth: GroundTruth, reduction: str) -> "Counts":
        """Counts of a whole batch; ones for the reduction `sum`. Never below one, so that an empty term is 0."""
        if reduction == "sum":
            return cls(*(jnp.ones(()),) * 3)
        views = truth.pose_center.shape[1]
        counts = truth.points_valid.sum(), truth.ray_mask.sum(), truth.has_scale.sum() * views
        return cls(*(jnp.maximum(count, 1).astype(truth.points.dtype) for count in counts))


def pointmap_terms(
    points: Float[Array, "*b 3"], confidence: Float[Array, "*b"], target: Float[Array, "*b 3"], alpha: float
) -> tuple[Float[Array, "*b"], Float[Array, "*b"]]:
    """Per pixel: C |X - Xbar/zbar| - alpha log C, and the unweighted distance |X - Xbar/zbar|."""
    distance = safe_norm(points - target)
    return confidence * distance - alpha * jnp.log(confidence), distance


def multitask_loss(
    predictions: Predictions, truth: GroundTruth, weights: LossWeights, counts: Counts | None = None
) -> tuple[Float[Array, ""], dict[str, Mean]]:
    """Total loss and every term as a Mean.

    Args:
        predictions: the model's output, float32.
        truth: on the grids of `predictions`.
        weights: alpha, beta, lambdas and the reduction.
        counts: those of the global batch when `predictions` is one part of it, so that the parts' losses add up to
            the loss of the whole; by default those of `truth`.

    Returns:
        L_pmap + lambda_p L_p_rmap + lambda_r L_r_rmap, and metrics: `loss/*` terms of the total, `error/*` unweighted
        in z-bar units, metres (`_m`) and degrees (`_deg`).
    """
    counts = Counts.of(truth, weights.reduction) if counts is None else counts
    # What is not valid may be NaN: it is cleared before the arithmetic, or the gradient of its place were NaN.
    target = jnp.where(truth.points_valid[..., None], truth.points, 0.0)
    weighted, distance = pointmap_terms(predictions.points, predictions.confidence, target, weights.alpha)
    points = Mean.of(weighted, truth.points_valid)
    loss_points = points.total / counts.points
    metres = truth.scale[:, None, None, None]
    metrics = {
        "error/points": Mean.of(distance, truth.points_valid),
        "error/points_m": Mean.of(distance * metres, truth.points_valid),
        "confidence/mean": Mean.of(predictions.confidence, truth.points_valid),
    }
    centers_known = jnp.broadcast_to(truth.has_scale[:, None], truth.pose_center.shape[:2])
    losses = {}
    for name in ("pose", "rig"):
        predicted, target = getattr(predictions, f"{name}_directions"), getattr(truth, f"{name}_directions")
        rays = Mean.of(safe_norm(predicted - target), truth.ray_mask)
        offset = safe_norm(getattr(predictions, f"{name}_center") - getattr(truth, f"{name}_center"))
        centers = Mean.of(offset, centers_known)
        losses[name] = rays.total / counts.rays + weights.beta * centers.total / counts.centers
        metrics[f"error/{name}_rays"] = rays
        metrics[f"error/{name}_rays_deg"] = Mean.of(angle_deg(predicted, target), truth.ray_mask)
        metrics[f"error/{name}_center"] = centers
        metrics[f"error/{name}_center_m"] = Mean.of(offset * truth.scale[:, None], centers_known)
    total = loss_points + weights.lambda_pose * losses["pose"] + weights.lambda_rig * losses["rig"]
    one = jnp.ones((), total.dtype)
    terms = {"total": total, "pointmap": loss_points, "pose_raymap": losses["pose"], "rig_raymap": losses["rig"]}
    return total, metrics | {f"loss/{name}": Mean(value, one) for name, value in terms.items()}


def angle_deg(predicted: Float[Array, "*b 3"], target: Float[Array, "*b 3"]) -> Float[Array, "*b"]:
    """Angle between two directions of any length, degrees (Kahan's two-argument form, exact near 0 and 180)."""
    a, b = (x / jnp.maximum(safe_norm(x)[..., None], 1e-12) for x in (predicted, target))
    return jnp.degrees(2.0 * jnp.arctan2(safe_norm(a - b), safe_norm(a + b)))


def merge_metrics(first: dict[str, Mean], second: dict[str, Mean]) -> dict[str, Mean]:
    """Means over both parts. Losses of parts were divided by the counts of the whole: they add up."""
    merged = {}
    for name, mean in first.items():
        if name.startswith("loss/"):
            merged[name] = Mean(mean.total + second[name].total, mean.count)
        else:
            merged[name] = mean.merge(second[name])
    return merged
