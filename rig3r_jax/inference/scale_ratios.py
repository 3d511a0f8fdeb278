"""How the length units of passes compare, by the distances that they give to the same points of the same images."""

import typing
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from rig3r_jax.inference.passes import Pass
from rig3r_jax.inference.retrieval import spread

_LEAST_SIGMA = 0.005  # of a logarithm: points of one image err together, however well they agree


class Ratio(typing.NamedTuple):
    """log_ratio = log(a length in the unit of pass `first` / the same in that of `second`), and its deviation."""

    first: int
    second: int
    log_ratio: float
    sigma: float


def scale_ratios(passes: Sequence[Pass]) -> list[Ratio]:
    """Of all two passes that share images; see `log_ratio`."""
    passes_of: dict[int, list[int]] = {}
    for number, one_pass in enumerate(passes):
        for row in one_pass.rows.tolist():
            passes_of.setdefault(row, []).append(number)
    pairs = {
        (first, second)
        for numbers in passes_of.values()
        for place, first in enumerate(numbers)
        for second in numbers[place + 1 :]
    }
    return [ratio for pair in sorted(pairs) if (ratio := _ratio(passes, *pair))]


def log_ratio(first: Float[np.ndarray, "k m"], second: Float[np.ndarray, "k m"]) -> tuple[float, float] | None:
    """log(first / second) of k images' distances, and its deviation; None where no point has both.

    The median over all points, whose errors are taken for equal within an image: its deviation is that of the images'
    own medians over the root of their number, or that of points where less than three images tell.
    """
    measured = (np.minimum(first, second) > 0) & np.isfinite(first) & np.isfinite(second)
    if not measured.any():
        return None
    logs = np.log(np.where(measured, first, 1.0) / np.where(measured, second, 1.0))
    of_images = np.array([np.median(row[valid]) for row, valid in zip(logs, measured, strict=True) if valid.any()])
    sigma = spread(of_images if len(of_images) > 2 else logs[measured]) / np.sqrt(len(of_images))
    return float(np.median(logs[measured])), max(float(sigma), _LEAST_SIGMA)


def _ratio(passes: Sequence[Pass], first: int, second: int) -> Ratio | None:
    """None where no point has a distance in both."""
    _, *places = np.intersect1d(passes[first].rows, passes[second].rows, return_indices=True)
    distances = [passes[number].distances[place] for number, place in zip((first, second), places, strict=True)]
    log = log_ratio(*distances)
    return None if log is None else Ratio(first, second, *log)
