"""What Rig3R's training minimises: the multitask loss of its predictions."""

import dataclasses

import flax.linen as nn
from jaxtyping import Array, Float, PyTree

from rig3r_jax.losses.ground_truth import GroundTruth, ground_truth
from rig3r_jax.losses.mean import Mean
from rig3r_jax.losses.multitask import Counts, LossWeights, multitask_loss
from rig3r_jax.models.rig3r import output_grids
from rig3r_jax.schema import Batch, Views


@dataclasses.dataclass(frozen=True)
class MultitaskObjective:
    """An objective of `training.step`. Sums and counts of every loss term run over the global batch."""

    model: nn.Module
    weights: LossWeights

    def prepare(self, batch: Batch) -> tuple[tuple[Views, GroundTruth], Counts]:
        """Views with their truth on the model's grids, and the counts of the whole batch."""
        height, width = batch.views.images.shape[2:4]
        truth = ground_truth(batch.targets, batch.views.image_mask, *output_grids(self.model, height, width))
        return (batch.views, truth), Counts.of(truth, self.weights.reduction)

    def loss(
        self, params: PyTree, samples: tuple[Views, GroundTruth], totals: Counts
    ) -> tuple[Float[Array, ""], dict[str, Mean]]:
        """The multitask loss of these views over the counts of the whole batch."""
        views, truth = samples
        return multitask_loss(self.model.apply({"params": params}, views), truth, self.weights, totals)
