"""What people choose about a reconstruction; the defaults suit most."""

import dataclasses
from pathlib import Path

from rig3r_jax.inference.passes import POINTS_IN_MEMORY

DEPTH, POINT_MAP = "depth", "pointmap"
POINTS_FROM = (DEPTH, POINT_MAP)


@dataclasses.dataclass(frozen=True)
class ReconstructOptions:
    """How images become a reconstruction."""

    wide: bool = False  # images of no known lens are fisheyes, whose lenses are fitted
    refine: bool = False  # given poses may move: they are weighed against what the model says, not held
    unordered: bool = False  # the images' order says nothing: where they are more than fit a pass, likeness groups them
    max_views: int | None = None  # images of a pass at most; None: as many as memory and four times the training allow
    max_memory: int | None = None  # bytes of a pass at most; None: what is free (`memory.memory_limit`)
    # DEPTH: points lie on the rays of their pixels, at the depths of the model's; POINT_MAP: where the model says.
    points_from: str = DEPTH
    points: int = POINTS_IN_MEMORY  # of all images at most: of finer grids every second, third ... point is kept
    cache: Path | None = None  # folder of passes, which a later run of the same images takes up; None: none stays

    def __post_init__(self):
        if self.points_from not in POINTS_FROM:
            raise ValueError(f"points_from={self.points_from!r} must be one of {', '.join(POINTS_FROM)}")
        for name in ("max_views", "max_memory", "points"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}={value} must be at least 1")
