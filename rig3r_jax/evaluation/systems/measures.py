"""Numbers of one scene that can be pooled over scenes: a sum and a weight each, or the reason why there is none."""

import dataclasses
from collections.abc import Iterable

import numpy as np
from jaxtyping import Bool


@dataclasses.dataclass
class Measures:
    """Sums and weights by key: a number over scenes is the sum of sums over the sum of weights.

    Of a rate the weight counts what it is a rate of; of a scene's own number (an RMSE) it is 1, so that each scene
    counts alike. A key without weight has a reason.
    """

    sums: dict[str, float] = dataclasses.field(default_factory=dict)
    weights: dict[str, float] = dataclasses.field(default_factory=dict)
    reasons: dict[str, str] = dataclasses.field(default_factory=dict)

    def add_rate(self, key: str, hits: Bool[np.ndarray, " n"], reason: str) -> None:
        """Percent of hits; `reason` where there is nothing to hit."""
        self.add(key, 100.0 * float(np.sum(hits)), float(len(hits)), reason)

    def add(self, key: str, total: float | int, weight: float | int, reason: str) -> None:
        """A sum and its weight; `reason` for a weight of 0, or a sum that is not finite."""
        if weight > 0 and np.isfinite(total):
            self.sums[key], self.weights[key] = float(total), float(weight)
        else:
            self.lack([key], reason)

    def lack(self, keys: Iterable[str], reason: str) -> None:
        """There is nothing to measure under these keys."""
        for key in keys:
            self.sums[key], self.weights[key], self.reasons[key] = 0.0, 0.0, reason

    @property
    def values(self) -> dict[str, float]:
        """NaN where there is a reason."""
        return {key: self.sums[key] / weight if weight else float("nan") for key, weight in self.weights.items()}
