"""What is measured of a system and how, with the defaults. Nothing heavy is imported."""

import dataclasses
import math

from rig3r_jax.evaluation.options import ScoreOptions

MISSING = {
    "fail": "pairs of images that the system has no pose of count as failures: 180 degrees, 90 of direction",
    "leave-out": "they are left out",
}


@dataclasses.dataclass(frozen=True)
class SystemOptions:
    """Lengths in metres of the truth, times in seconds. ValueError names what does not fit."""

    align: str = "sim3"  # of `align.ALIGNMENTS`
    match: str = "auto"  # of `match.WAYS`
    longest_gap: float = 0.02  # between the two times of one image that still match
    missing: str = "fail"  # of MISSING
    thresholds: tuple[float, ...] = (0.05, 0.1, 0.25)  # of F-scores
    baselines: tuple[float, ...] = (3.0,)  # that divide the pairs of images
    overlaps: tuple[float, ...] = (5.0, 50.0)  # percent, that divide them too: see `overlap.pair_overlaps`
    view_range: float = 10.0  # at which the overlap is told where the truth has no depth
    max_images: int = 1000  # of a scene that make pairs, spread evenly over its images
    max_points: int = 200_000  # of each cloud, drawn at random
    resamples: int = 2000  # of the bootstrap over scenes
    seed: int = 0
    scores: ScoreOptions = ScoreOptions()  # min_baseline and same_time_seconds

    def __post_init__(self) -> None:
        if self.missing not in MISSING:
            raise ValueError(f"missing {self.missing!r} is unknown; choose from {', '.join(MISSING)}")
        for name in ("thresholds", "baselines", "overlaps"):
            values = getattr(self, name)
            if any(not value > 0 for value in values) or list(values) != sorted(set(values)):
                raise ValueError(f"{name} {values} must be positive and ascend; correct them")
        for name, least in (("max_images", 2), ("max_points", 1), ("resamples", 100)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be {least} at least")
        if any(percent >= 100 for percent in self.overlaps):
            raise ValueError(f"overlaps {self.overlaps} are percents of an image; give some below 100")
        if not 0 < self.view_range < math.inf:
            raise ValueError(f"view_range is {self.view_range}; it must be a positive number of metres")
        if not self.longest_gap >= 0:
            raise ValueError(f"longest_gap is {self.longest_gap}; it must be 0 seconds or more")
