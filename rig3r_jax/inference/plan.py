"""What a reconstruction takes, before it begins: images of a pass, passes, memory."""

import dataclasses
import time
from collections.abc import Callable, Sequence

from rig3r_jax.inference.memory import bytes_text, largest_pass, memory_limit
from rig3r_jax.inference.models.protocol import Model
from rig3r_jax.inference.options import ReconstructOptions
from rig3r_jax.inference.progress import duration

_TRAINED = 4  # times as many images as a model was trained on are asked of it in one pass


@dataclasses.dataclass(frozen=True)
class Plan:
    """How images go through a model."""

    images: int
    size: tuple[int, int]  # height and width at which the model sees them
    views: int  # images of a pass
    peak_bytes: int  # of a pass
    limit_bytes: int
    compile_seconds: float

    @property
    def summary(self) -> str:
        """In a sentence."""
        passes = "one pass" if self.images <= self.views else f"passes of {self.views} that overlap"
        return (
            f"{self.images} images at {self.size[1]} x {self.size[0]} pixels, {passes}: "
            f"{bytes_text(self.peak_bytes)} of {bytes_text(self.limit_bytes)} memory; "
            f"compiled in {duration(self.compile_seconds)}"
        )


def plan(
    model: Model,
    sizes: Sequence[tuple[int, int]],
    options: ReconstructOptions,
    tell: Callable[[str], None] | None = None,
) -> Plan:
    """Of images of these upright sizes (height, width). Compiles the pass, so that its memory is the true one.

    `tell` takes a line before the compilation, which may take minutes, and the plan's summary.
    ValueError where not even one image fits the memory.
    """
    if tell:
        tell(f"compiling {model.name} ...")
    start = time.monotonic()
    size, limit = model.input_size(sizes), options.max_memory or memory_limit()
    most = options.max_views or model.most_views or _TRAINED * model.usual_views
    views = largest_pass(model, size, limit, min(most, len(sizes)))
    planned = Plan(len(sizes), size, views, model.peak_bytes(views, size), limit, time.monotonic() - start)
    if tell:
        tell(f"{model.name}: {planned.summary}")
    return planned
