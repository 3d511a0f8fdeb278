"""How sure numbers over scenes are: bootstrap intervals, and paired differences of two systems; host float64.

A number is the sum of its scenes' sums over the sum of their weights; whole scenes are drawn, as pairs of images of one
scene are not independent. Everything is a function of the seed.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy import stats

LEVEL = 0.95
LEAST_SCENES = 3  # of an interval; fewer say nothing about scenes
BOOTSTRAPPED = 8  # scenes from which on they are resampled: resamples of fewer have errors near zero by chance
_ENUMERATED = 12  # scenes up to which every swap of two systems is tried
_SWAPS = 10_000

Sums = tuple[Float[np.ndarray, "*r s"], Float[np.ndarray, "*r s"]]  # sums and weights of a system's scenes


@dataclasses.dataclass(frozen=True)
class Interval:
    """A number with its 95% interval, NaN where there is none."""

    value: float
    low: float
    high: float
    scenes: int  # that it is of


@dataclasses.dataclass(frozen=True)
class Difference:
    """Of two systems on the same scenes: the second's number minus the first's."""

    value: float
    low: float
    high: float
    p_value: float  # two-sided, of no difference
    scenes: int


def interval(
    sums: Float[np.ndarray, " s"], weights: Float[np.ndarray, " s"], resamples: int = 2000, seed: int = 0
) -> Interval:
    """The number and its bootstrap-t interval; Student's of fewer than `BOOTSTRAPPED` scenes.

    Each resample's distance from the number is seen in standard errors of its own (Efron and Tibshirani 1993, section
    12.5), which is right to second order (Hall 1988): quantiles of the resampled numbers alone are too narrow of few
    scenes, and of skewed errors.
    """
    systems = [(sums[weights > 0], weights[weights > 0])]
    scenes = len(systems[0][0])
    if not scenes:
        return Interval(np.nan, np.nan, np.nan, 0)
    value = float(_ratios(systems)[0])
    low, high = _bounds(systems, scenes, resamples, seed)
    return Interval(value, low, high, scenes)


def difference(
    sums: tuple[Float[np.ndarray, " s"], Float[np.ndarray, " s"]],
    weights: tuple[Float[np.ndarray, " s"], Float[np.ndarray, " s"]],
    resamples: int = 2000,
    seed: int = 0,
) -> Difference:
    """Of two systems, over the scenes that both have a number of.

    The interval draws the same scenes for both. The p-value is that of a permutation test: without a difference the two
    systems' results of a scene could be swapped; it is the share of swaps (every one of up to 12 scenes, else 10,000)
    with a difference as large as the one seen.
    """
    both = (weights[0] > 0) & (weights[1] > 0)
    systems = [(one[both], weight[both]) for one, weight in zip(sums, weights, strict=True)]
    scenes = int(both.sum())
    if not scenes:
        return Difference(np.nan, np.nan, np.nan, np.nan, 0)
    value = float(_ratios(systems)[0])
    low, high = _bounds(systems, scenes, resamples, seed)
    if scenes < LEAST_SCENES:
        return Difference(value, low, high, np.nan, scenes)
    return Difference(value, low, high, _swap_test(systems, value, scenes, seed), scenes)


def _swap_test(systems: Sequence[Sums], value: float, scenes: int, seed: int) -> float:
    (sums_a, weights_a), (sums_b, weights_b) = systems
    exact = scenes <= _ENUMERATED
    if exact:
        swaps = (np.arange(2**scenes)[:, None] >> np.arange(scenes)) & 1
    else:
        swaps = np.random.default_rng([seed, 1]).integers(0, 2, (_SWAPS, scenes))
    swaps = swaps.astype(np.float64)  # products of floats are quick
    change_sums, change_weights = swaps @ (sums_b - sums_a), swaps @ (weights_b - weights_a)
    swapped = (sums_b.sum() - change_sums) / (weights_b.sum() - change_weights)
    swapped -= (sums_a.sum() + change_sums) / (weights_a.sum() + change_weights)
    rounding = 1e-9 * max(abs(value), np.abs(swapped).max())
    extreme = int(np.sum(np.abs(swapped) >= abs(value) - rounding))
    return extreme / len(swaps) if exact else (extreme + 1) / (len(swaps) + 1)


def _bounds(systems: Sequence[Sums], scenes: int, resamples: int, seed: int) -> tuple[float, float]:
    """Ends of the interval; NaN of too few scenes, the number itself where no scene differs."""
    if scenes < LEAST_SCENES:
        return np.nan, np.nan
    value, error = _ratios(systems)
    if scenes < BOOTSTRAPPED:
        reach = stats.t.ppf((1 + LEVEL) / 2, scenes - 1) * error
        return float(value - reach), float(value + reach)
    drawn = np.random.default_rng(seed).integers(0, scenes, (resamples, scenes))
    values, errors = _ratios([(sums[drawn], weights[drawn]) for sums, weights in systems])
    # A resample of one scene alone, drawn each time, has no error of its own.
    usable = errors > 1e-9 * max(error, 1e-300)
    if error <= 1e-12 * abs(value) or not usable.any():
        return float(value), float(value)
    low, high = np.quantile((values[usable] - value) / errors[usable], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(value - high * error), float(value - low * error)


def _ratios(systems: Sequence[Sums]) -> tuple[Float[np.ndarray, "*r"], Float[np.ndarray, "*r"]]:
    """Sum over weight of one system, or the second's less the first's, and its standard error (linearised)."""
    values, influences = [], []
    for sums, weights in systems:
        total = weights.sum(axis=-1)
        values.append(sums.sum(axis=-1) / total)
        influences.append((sums - values[-1][..., None] * weights) / total[..., None])
    value, influence = values[0], influences[0]
    if len(systems) == 2:
        value, influence = values[1] - values[0], influences[1] - influences[0]
    scenes = influence.shape[-1]
    error = np.sqrt(np.sum(influence**2, axis=-1) * scenes / max(scenes - 1, 1))
    return np.asarray(value), np.asarray(error)
