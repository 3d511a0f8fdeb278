"""What the training of the uncertainty head minimises: the likelihood of a frozen backbone's pose residuals."""

import dataclasses
import typing

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float, Int, PyTree
from ml_collections import ConfigDict

from rig3r_jax.evaluation.d2 import STEP_METRIC
from rig3r_jax.geometry.residual import WindowScale
from rig3r_jax.geometry.se3 import PARTS
from rig3r_jax.losses.mean import Mean
from rig3r_jax.losses.pose_metrics import WindowMotion
from rig3r_jax.losses.pose_nll import NllOptions, motion_weights, pose_nll, window_d2, window_errors
from rig3r_jax.models import pose_uncertainty
from rig3r_jax.uncertainty.features import WindowFeatures

STEP_D2 = {part: STEP_METRIC.format(part=part) for part in PARTS}


def nll_options(config: ConfigDict) -> NllOptions:
    """config.nll as the loss takes it."""
    return NllOptions(**config.nll.to_dict())


@typing.no_type_check
@struct.dataclass
class WindowBatch:
    """What training wants to know of windows, frame 0 left out; n = v - 1 frames."""

    features: Float[Array, "b i n d"]
    residual: Float[Array, "b i n 6"]
    scale: WindowScale  # fields (b i)
    true_distance: Float[Array, "b n"]  # metres from the first camera
    predicted_distance: Float[Array, "b i n"]  # before the scale

    def __len__(self) -> int:
        return self.features.shape[0]

    @property
    def motion(self) -> WindowMotion:
        """As the loss takes it, refinements first."""
        scale, predicted = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), (self.scale, self.predicted_distance))
        return WindowMotion(scale, self.true_distance, predicted)

    def take(self, rows: Int[Array, "k"]) -> "WindowBatch":
        """These windows."""
        return jax.tree.map(lambda x: x[rows], self)


def window_batch(windows: WindowFeatures, min_translation: float) -> WindowBatch:
    """All windows with their residuals, which are computed here once and for all."""
    cameras = (windows.camera_from_world_predicted, windows.camera_from_world_true)
    residual, motion = _window_errors(*map(jnp.asarray, cameras), min_translation)
    features = jnp.asarray(windows.features[:, :, 1:])
    swapped = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), (features, residual, motion.scale))
    return WindowBatch(*swapped, motion.true_distance, jnp.swapaxes(motion.predicted_distance, 0, 1))


_window_errors = jax.jit(window_errors, static_argnums=2)


def residuals_of(windows: WindowFeatures, min_translation: float) -> Float[np.ndarray, "n 6"]:
    """`last_residuals` of windows whose features stay where they are."""
    cameras = (windows.camera_from_world_predicted[-1:], windows.camera_from_world_true)
    residual, _ = _window_errors(*map(jnp.asarray, cameras), min_translation)
    return np.asarray(residual[-1], np.float64).reshape(-1, 6)


def last_residuals(batch: WindowBatch) -> Float[np.ndarray, "n 6"]:
    """Residuals of the last refinement, of all windows and frames; float64 on the host."""
    return np.asarray(batch.residual[:, -1], np.float64).reshape(-1, 6)


@dataclasses.dataclass(frozen=True)
class HeadObjective:
    """An objective of `training.step`. Percentiles and the spread of the scale are averaged over micro-batches."""

    nll: NllOptions

    def prepare(self, batch: WindowBatch) -> tuple[tuple[WindowBatch, Float[Array, "b"]], Float[Array, ""]]:
        """The windows with the weights of their translations, and how many there are."""
        weights = motion_weights(batch.motion, self.nll)
        return (batch, weights), jnp.asarray(len(batch), batch.residual.dtype)

    def loss(
        self, params: PyTree, samples: tuple[WindowBatch, Float[Array, "b"]], total: Float[Array, ""]
    ) -> tuple[Float[Array, ""], dict[str, Mean]]:
        """`pose_nll` of these windows, and its metrics with d2 under the predictive variance."""
        batch, weights = samples
        features, residual = (jnp.swapaxes(x, 0, 1) for x in (batch.features, batch.residual))
        raw = pose_uncertainty.build(features.shape[-1], self.nll.parameterisation).apply({"params": params}, features)
        loss, _, metrics = pose_nll(residual, raw, self.nll, batch.motion, weights)
        metrics |= {STEP_D2[part]: Mean.of(value) for part, value in window_d2(residual[-1], raw[-1], self.nll).items()}
        one, share = jnp.ones((), loss.dtype), len(batch) / total
        metrics = {name: value if isinstance(value, Mean) else Mean(value, one) for name, value in metrics.items()}
        metrics["loss/pose_uncertainty_nll"] = Mean(loss, one)
        # Losses of micro-batches add up.
        metrics |= {
            name: Mean(mean.compute() * share, one) for name, mean in metrics.items() if name.startswith("loss/")
        }
        return loss * share, metrics
