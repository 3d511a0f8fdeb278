"""What Rig3R's training minimises: the multitask loss of its predictions."""

import dataclasses

import flax.linen as nn
from jaxtyping import Array, Float, PyTree

from rig3r_jax.losses.ground_truth import GroundTruth, ground_truth
from rig3r_jax.losses.mean import Mean
from rig3r_jax.losses.multitask import Counts, LossWeights, multitask_loss
from rig3r_jax.models.rig3r import output_grids
from rig3r_jax.schema import Batch


@dataclasses.dataclass(frozen=True)
class MultitaskObjective:
    """An objective of `training.step`. Sums and counts of every loss term run over the global batch."""

    model: nn.Module
    weights: LossWeights

    def prepare(self, batch: Batch) -> tuple[Batch, Counts]:
        """The batch, and the counts of all of it; its truth on the model's grids, which is large, is made in `loss`."""
        return batch, Counts.of(self._truth(batch), self.weights.reduction)

    def loss(self, params: PyTree, samples: Batch, totals: Counts) -> tuple[Float[Array, ""], dict[str, Mean]]:
        """The multitask loss of these samples over the counts of the whole batch."""
        predictions = self.model.apply({"params": params}, samples.views)
        return multitask_loss(predictions, self._truth(samples), self.weights, totals)

    def _truth(self, batch: Batch) -> GroundTruth:
        grids = output_grids(self.model, *batch.views.images.shape[2:4])
        return ground_truth(batch.targets, batch.views.image_mask, *grids)
