"""What people choose about files of a reconstruction; the defaults suit most."""

import dataclasses
import math
import typing
from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool

from rig3r_jax.schema import CONFIDENT


@typing.no_type_check
@dataclasses.dataclass(frozen=True)
class ExportOptions:
    """Which points go into the files, in the order in which they are chosen, and how large cameras are drawn.

    Arrays (npz, maps) hold all points whatever is chosen here.
    """

    confident: float = CONFIDENT  # share of the points that is kept, the most confident ones
    # A point at a depth discontinuity is left out: one whose inverse depth is off the mean of its neighbours' on either
    # side by more than this share of it. 0 on any plane; a jump of the depth by a tenth gives 0.05. None keeps all.
    edges: float | None = 0.05
    # By the images' names: their pixels (of the original) that never become points, such as the sky.
    sky: Mapping[str, Bool[np.ndarray, "h w"]] = dataclasses.field(default_factory=dict)
    voxel: float | None = None  # length unit: of the points in a cube of this edge the most confident one is kept
    budget: int | None = 1_000_000  # most points in a file, drawn at random
    sparse_budget: int | None = 100_000  # the same for a COLMAP model
    report_budget: int | None = 300_000  # the same for report.html, about 17 bytes each
    seed: int = 0  # of the drawing: equal seeds draw equal points
    frustum: float | None = None  # length of drawn cameras in the length unit; None: by the size of the scene

    def __post_init__(self):
        if not 0 < self.confident <= 1:
            raise ValueError(f"confident = {self.confident!r} must be a share of the points, above 0 and at most 1")
        for name in ("edges", "voxel", "frustum"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} = {value!r} must be a positive number, or None")
        for name in ("budget", "sparse_budget", "report_budget"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} = {value!r} must be a number of points from 1 on, or None for all")
