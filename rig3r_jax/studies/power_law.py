"""L(C) = L_inf + a C^-b: how an error falls with the compute of a training; host float64.

A law with a floor as in Hoffmann et al. (2022), there of parameters and data, here of compute alone; fitted in their
way: least squares of the logarithm, by a loss that outliers cannot own, from several starts.
"""

import dataclasses

import numpy as np
from jaxtyping import Float
from scipy import stats
from scipy.optimize import least_squares

LEVEL = 0.95
LEAST = 4  # different computes of a fit of three numbers
_HUBER = 0.03  # of a logarithm, about what equal runs differ by: residuals beyond count linearly
_STEEPEST = 3.0
_STARTS = [(floor, slope) for floor in (0.0, 0.5, 0.9) for slope in (0.1, 0.4, 1.0)]  # floor over the least error


@dataclasses.dataclass(frozen=True)
class PowerLaw:
    """One law; NaN of too few runs."""

    floor: float  # L_inf: what no compute takes away
    scale: float  # a, at `unit`
    slope: float  # b
    unit: float  # compute at which the error is floor + scale

    def at(self, compute: Float[np.ndarray, "*n"] | float) -> Float[np.ndarray, "*n"]:
        """The error that a training of this compute is said to reach."""
        return np.asarray(self.floor + self.scale * (np.asarray(compute, np.float64) / self.unit) ** -self.slope)


@dataclasses.dataclass(frozen=True)
class Prediction:
    """An error with its 95% interval: of the fit, and of a run's own distance from the law."""

    value: float
    low: float
    high: float


def fit(compute: Float[np.ndarray, " n"], errors: Float[np.ndarray, " n"], near: PowerLaw | None = None) -> PowerLaw:
    """The law nearest to runs; NaN where they have fewer than `LEAST` different computes.

    `near`: where to begin, instead of from several starts. ValueError for computes or errors that are not positive.
    """
    if not ((compute > 0).all() and (errors > 0).all()):
        raise ValueError("a power law is of positive computes and errors; leave runs out that have none")
    if len(np.unique(compute)) < LEAST:
        return PowerLaw(np.nan, np.nan, np.nan, np.nan)
    unit, least = float(np.exp(np.log(compute).mean())), float(errors.min())
    relative = compute / unit

    def residuals(numbers: Float[np.ndarray, "3"]) -> Float[np.ndarray, " n"]:
        floor, log_scale, slope = numbers
        return np.log(floor + np.exp(log_scale) * relative**-slope) - np.log(errors)

    low, high = (0.0, -np.inf, 0.0), (least, np.inf, _STEEPEST)
    starts = [(min(near.floor / least, 0.99), near.slope)] if near else _STARTS
    fits = [
        least_squares(
            residuals,
            (share * least, np.log(np.median(errors) - 0.999 * share * least), slope),
            bounds=(low, high),
            loss="huber",
            f_scale=_HUBER,
            ftol=1e-12,
            xtol=1e-12,
        )
        for share, slope in starts
    ]
    floor, log_scale, slope = min(fits, key=lambda one: one.cost).x
    return PowerLaw(float(floor), float(np.exp(log_scale)), float(slope), unit)


def resampled_fits(
    law: PowerLaw,
    compute: Float[np.ndarray, " n"],
    errors: Float[np.ndarray, " n"],
    resamples: int = 200,
    seed: int = 0,
) -> list[PowerLaw]:
    """Laws of the same computes with errors that lie off the `law` as those of runs do, drawn with replacement: a
    bootstrap of residuals (Efron & Tibshirani 1993, chapter 9), since few runs drawn anew are mostly the same ones.
    None where the runs have no more than `LEAST` different computes, and so next to no residuals.
    """
    if len(np.unique(compute)) <= LEAST:
        return []
    rng, distances = np.random.default_rng(seed), _distances(law, compute, errors)
    drawn = rng.choice(distances, (resamples, len(distances)))
    return [fit(compute, law.at(compute) * np.exp(of_runs), law) for of_runs in drawn]


def _distances(
    law: PowerLaw, compute: Float[np.ndarray, " n"], errors: Float[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """Logarithms of errors over the law's, widened by what its three numbers took of them, and as Student's quantile is
    wider than a Gaussian's: so few distances know their own spread badly."""
    free = max(len(errors) - 3, 1)
    share = (1 + LEVEL) / 2
    widened = np.sqrt(len(errors) / free) * stats.t.ppf(share, free) / stats.norm.ppf(share)
    return widened * (np.log(errors) - np.log(law.at(compute)))


def predict(
    law: PowerLaw,
    resampled: list[PowerLaw],
    compute: Float[np.ndarray, " n"],
    errors: Float[np.ndarray, " n"],
    at: float,
    seed: int = 0,
) -> Prediction:
    """What a training of compute `at` is said to reach; NaN without a law.

    The interval is that of the resampled laws, each times the distance of one of the runs from the law, drawn at
    random: what one more run would scatter by.
    """
    if not resampled:
        return Prediction(np.nan, np.nan, np.nan)
    drawn = np.random.default_rng([seed, 1]).choice(_distances(law, compute, errors), len(resampled))
    values = np.array([other.at(at) for other in resampled]) * np.exp(drawn)
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Prediction(float(law.at(at)), float(low), float(high))
