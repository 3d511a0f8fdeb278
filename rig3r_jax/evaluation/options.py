"""What an evaluation measures and how, with the defaults; `config.evaluation` is made from these fields.

Nothing heavy is imported here: a config is read without the packages that evaluate.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class ScoreOptions:
    """Every threshold of the scores that their names do not say; lengths in metres. ValueError names all bad ones."""

    min_baseline: float = 0.1  # of a pair of images or cameras; nearer ones have no direction of translation
    near_baseline: float = 3.0  # divides the pairs of images into `near` and `far`
    same_time_seconds: float = 0.05  # two cameras' images closer in time than this may be of one rig step
    icp: bool = False  # refine the alignment of the points

    @classmethod
    def of(cls, section: Mapping[str, Any]) -> "ScoreOptions":
        """Those of `config.evaluation`, which has other keys too."""
        return cls(**{field.name: section[field.name] for field in dataclasses.fields(cls)})

    def __post_init__(self) -> None:
        rules = [
            ("min_baseline", self.min_baseline >= 0, "at least 0"),
            ("near_baseline", self.near_baseline >= 0, "at least 0"),
            ("same_time_seconds", self.same_time_seconds >= 0, "at least 0"),
        ]
        problems = [f"{key}={getattr(self, key)!r} must be {rule}" for key, holds, rule in rules if not holds]
        if problems:
            raise ValueError("; ".join(problems) + "; change these keys")
