"""What a reconstruction takes, before it begins: images of a pass, passes, memory."""

import dataclasses
from collections.abc import Sequence

from rig3r_jax.inference.memory import largest_pass, memory_limit, told
from rig3r_jax.inference.models.protocol import Model
from rig3r_jax.inference.options import ReconstructOptions

_TRAINED = 4  # times as many images as a model was trained on are asked of it in one pass


@dataclasses.dataclass(frozen=True)
class Plan:
    """How images go through a model."""

    images: int
    size: tuple[int, int]  # height and width at which the model sees them
    views: int  # images of a pass
    peak_bytes: int  # of a pass
    limit_bytes: int

    @property
    def summary(self) -> str:
        """In a sentence."""
        passes = "one pass" if self.images <= self.views else f"passes of {self.views} that overlap"
        return (
            f"{self.images} images at {self.size[1]} x {self.size[0]} pixels, {passes}: "
            f"{told(self.peak_bytes)} of {told(self.limit_bytes)} memory"
        )


def plan(model: Model, sizes: Sequence[tuple[int, int]], options: ReconstructOptions) -> Plan:
    """Of images of these upright sizes (height, width). Compiles the pass, so that its memory is the true one.

    ValueError where not even one image fits the memory.
    """
    size, limit = model.input_size(sizes), options.max_memory or memory_limit()
    most = options.max_views or model.most_views or _TRAINED * model.usual_views
    views = largest_pass(model, size, limit, min(most, len(sizes)))
    return Plan(len(sizes), size, views, model.peak_bytes(views, size), limit)
