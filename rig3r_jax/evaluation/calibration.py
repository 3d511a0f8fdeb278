"""Whether predicted uncertainties mean what they say: the calibration report of SE(3) residuals, in host float64.

Residuals are tangents (v, w), metres and radians, of every frame but the first of a window. Uncertainties come as
predictive variances or covariances, whatever the law (Laplace 2 b^2, Student-t s^2 nu / (nu - 2)), so that squared
errors over them are near 1 per component, d2 of 3 components near 3, under every law. d2 below its target is
UNDER-confident: sigma is too large.
"""

import dataclasses
import functools
import math
import typing
from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int
from scipy import special, stats

from rig3r_jax.evaluation.d2 import CENTRAL_LEVELS, DIMENSIONS, WINDOWS, band, status
from rig3r_jax.evaluation.error_samples import (
    ErrorSamples,
    baseline_nlls,
    fit_temperature,
    negative_log_likelihood,
    squared_distances,
    whiten,
)
from rig3r_jax.evaluation.likelihood import Likelihood
from rig3r_jax.formats.json_file import plain
from rig3r_jax.geometry.se3 import PARTS

_LEVELS = np.concatenate([np.arange(1, 20) / 20.0, [0.99]])
_QUANTILES = (np.arange(200) + 0.5) / 200.0
_SIGMA_BINS = 10
_STEP, _END = 0.2, 80.0  # of the inversion of a characteristic function; it errs where |z| nears 2 pi / _STEP
_FARTHEST = 15.0  # deviation beyond which the law of a weighted sum is as good as that of its largest part
_CHUNK = 1024


@typing.no_type_check
@dataclasses.dataclass(frozen=True)
class SquaredDistance:
    """d2 of one group of components against chi-square with as many degrees of freedom."""

    components: int
    mean: float
    p95: float
    p95_expected: float  # of chi-square: what Gaussian errors have
    ks: float  # Kolmogorov-Smirnov statistic against chi-square; not small for laws with other tails
    ks_pvalue: float  # as if residuals were independent; those of one window are not
    target: float
    band: tuple[float, float]  # of the mean; inside it is called calibrated
    status: str
    raw_mean: float  # of r^2 exp(-log variance), the number that training logs
    raw_target: float
    quantile_levels: Float[np.ndarray, "q"]
    quantiles: Float[np.ndarray, "q"]


@typing.no_type_check
@dataclasses.dataclass(frozen=True)
class CalibrationReport:
    """The calibration of one set of predictions; `recalibrated` is the same of variances times `temperature`.

    Coverage, reliability and ks_law are of the residual's own components under their marginal laws. Of whole
    covariances under a law that is not Gaussian coverage has one more entry, `whitened`: all components of L^T r, which
    follow the law itself.
    """

    likelihood: Likelihood
    samples: int
    windows: int | None
    views: int | None
    d2: dict[str, SquaredDistance]  # trans, rot, pose (all six)
    coverage: dict[str, dict[str, float]]  # pooled, trans, rot, v_x ..., see below -> {1,2,3}sigma -> share inside
    reliability: dict[str, Float[np.ndarray, "k"]]  # level, and shares inside the central interval of that level
    calibration_error: float  # mean |share - level| of the pooled components
    ks_law: float  # KS statistic of all components against what they should follow
    whitened_covariance: Float[np.ndarray, "6 6"]  # the identity where covariances are right
    whitened_off_diagonal: dict[str, float]  # max and mean of absolute values
    sigma_bins: dict[str, dict[str, Float[np.ndarray, "m"]]]  # trans, rot -> predicted and observed root mean squares
    spearman: dict[str, float]  # rank correlation of sigma with the error's size; NaN where sigma is constant
    sharpness: dict[str, float]  # sigma_{trans,rot}_{mean,p10,p50,p90}: smaller is better among calibrated ones
    nll: float  # mean per component, all constants
    baselines: dict[str, float]  # NLL of uncertainties that are the same everywhere, fitted to the training residuals
    margins: dict[str, float]  # baseline - nll; positive: the prediction is better
    windowed_d2: dict[str, float]  # {trans,rot}_{max,last,inside} of means over WINDOWS windows; NaN of fewer
    temperature: dict[str, float] | None = None  # factors on the variances of trans and rot
    recalibrated: "CalibrationReport | None" = None

    def to_json(self) -> dict[str, typing.Any]:
        """Plain numbers, lists and dicts; null for what is NaN."""
        return plain(dataclasses.asdict(self))


def calibration_report(
    samples: ErrorSamples,
    train_residual: Float[np.ndarray, "m 6"],
    recalibrate_on: ErrorSamples | None = None,
    warmup_windows: int = 0,
) -> CalibrationReport:
    """The report of held-out samples.

    Args:
        samples: held-out.
        train_residual: residuals of the training windows; the baselines are fitted to them.
        recalibrate_on: a third split, whose temperature the second part of the report applies to `samples`.
        warmup_windows: windows left out of the maximum of windowed d2; 0 unless samples are of a training run.
    """
    report = _report(samples, train_residual, warmup_windows)
    if recalibrate_on is None:
        return report
    temperature = fit_temperature(recalibrate_on)
    after = _report(samples.scaled(temperature["trans"], temperature["rot"]), train_residual, warmup_windows)
    return dataclasses.replace(report, temperature=temperature, recalibrated=after)


def windowed_mean(
    values: Float[np.ndarray, "n"], window: Int[np.ndarray, "n"], length: int = WINDOWS
) -> Float[np.ndarray, "k"]:
    """Means over every `length` consecutive windows, in increasing order of window; empty of fewer windows."""
    _, index, counts = np.unique(window, return_inverse=True, return_counts=True)
    means = np.bincount(index, weights=values) / counts
    return np.zeros(0) if len(means) < length else np.convolve(means, np.full(length, 1.0 / length), mode="valid")


def _report(samples: ErrorSamples, train_residual: np.ndarray, warmup_windows: int) -> CalibrationReport:
    """Of one set of predictions, without recalibration."""
    white, inside = whiten(samples), component_probabilities(samples)
    covariance = np.cov(white.T) if len(white) > 1 else np.full((6, 6), np.nan)
    off_diagonal = np.abs(covariance[~np.eye(6, dtype=bool)])
    parts = {"pooled": slice(0, 6), **PARTS}
    shares = {name: np.array([np.mean(inside[:, part] <= p) for p in _LEVELS]) for name, part in parts.items()}
    parts |= {name: slice(dim, dim + 1) for dim, name in enumerate(DIMENSIONS)}
    probabilities = {name: inside[:, part] for name, part in parts.items()}
    if samples.covariance.ndim == 3 and samples.likelihood.name != "gaussian":
        unit = math.sqrt(samples.likelihood.variance_of_unit_scale)
        probabilities["whitened"] = samples.likelihood.central_probability(white * unit)
    nll = float(np.mean(negative_log_likelihood(samples)))
    baselines = baseline_nlls(samples.residual, np.asarray(train_residual, np.float64), samples.likelihood)
    distances = squared_distances(samples)
    return CalibrationReport(
        likelihood=samples.likelihood,
        samples=len(samples.residual),
        windows=None if samples.window is None else len(np.unique(samples.window)),
        views=samples.views,
        d2={name: _squared_distance(name, values, samples) for name, values in distances.items()},
        coverage={
            name: {level: float(np.mean(values <= p)) for level, p in CENTRAL_LEVELS.items()}
            for name, values in probabilities.items()
        },
        reliability={"level": _LEVELS, **shares},
        calibration_error=float(np.mean(np.abs(shares["pooled"] - _LEVELS))),
        ks_law=float(stats.kstest(inside.ravel(), "uniform", method="asymp").statistic),
        whitened_covariance=covariance,
        whitened_off_diagonal={"max": float(off_diagonal.max()), "mean": float(off_diagonal.mean())},
        sigma_bins={name: _sigma_bins(samples, part) for name, part in PARTS.items()},
        spearman=_spearman(samples),
        sharpness=_sharpness(samples),
        nll=nll,
        baselines=baselines,
        margins={name: value - nll for name, value in baselines.items()},
        windowed_d2=_windowed(distances, samples, warmup_windows, samples.window),
    )


def component_probabilities(samples: ErrorSamples) -> Float[np.ndarray, "n 6"]:
    """Probability of the central interval that ends at each residual component, under its own marginal law.

    With whole covariances r = U u, where U is upper triangular, U U^T the covariance, and u are independent of the
    stated law with variance 1: a component is a weighted sum of up to six of them, whose law is computed, to 1e-4 of
    probability, by inverting its characteristic function (sums of Gaussians are Gaussian).
    """
    law, standard = samples.likelihood, samples.residual / np.sqrt(samples.variance)
    if samples.covariance.ndim == 2 or law.name == "gaussian":
        return law.central_probability(standard * math.sqrt(law.variance_of_unit_scale))
    upper = np.linalg.cholesky(samples.covariance[:, ::-1, ::-1])[:, ::-1, ::-1]
    weights = upper / np.sqrt(samples.variance)[:, :, None]
    sums = [weighted_sum_probability(law, standard[:, dim], weights[:, dim, dim:]) for dim in range(6)]
    return np.stack(sums, axis=-1)


def weighted_sum_probability(
    law: Likelihood, size: Float[np.ndarray, "n"], weights: Float[np.ndarray, "n k"]
) -> Float[np.ndarray, "n"]:
    """P(|sum_j weights_j u_j| <= |size|), u independent, of the law with variance 1; rows of weights have norm 1.

    The law's own probability plus (2 / pi) integral of (prod_j phi(weights_j t) - phi(t)) sin(t size) / t over t > 0
    (Gil-Pelaez 1951, for symmetric laws), phi the law's characteristic function at variance 1: exact where one weight
    is all.
    """
    phi = _characteristic(law)
    t = np.arange(0.5 * _STEP, _END, _STEP)
    t = t[: 1 + np.count_nonzero(np.abs(phi(t)) > 1e-7)]
    alone, size = phi(t), np.abs(size)
    probability = law.central_probability(size * math.sqrt(law.variance_of_unit_scale))
    for start in range(0, len(size), _CHUNK):
        rows = slice(start, start + _CHUNK)
        product = np.ones((len(size[rows]), len(t)))
        for weight in np.abs(weights[rows]).T:
            product *= phi(weight[:, None] * t)
        waves = np.sin(np.minimum(size[rows], _FARTHEST)[:, None] * t)
        probability[rows] += 2.0 / math.pi * _STEP * ((product - alone) * waves) @ (1.0 / t)
    return np.clip(probability, 0.0, 1.0)


@functools.cache
def _characteristic(law: Likelihood) -> Callable[[np.ndarray], np.ndarray]:
    """E cos(t u) of the law with variance 1, for 0 <= t <= _END.

    A Student-t variable is a Gaussian one of variance (dof - 2) / chi-square(dof): the mean of exp(-t^2 variance / 2),
    by Gauss-Legendre over the probability of chi-square, as a table.
    """
    if law.name == "gaussian":
        return lambda t: np.exp(-0.5 * t**2)
    if law.name == "laplace":
        return lambda t: 1.0 / (1.0 + 0.5 * t**2)
    node, weight = special.roots_legendre(400)
    variance = (law.dof - 2.0) / stats.chi2.ppf(0.5 * (node + 1.0), law.dof)
    table = np.linspace(0.0, _END, 16001)
    values = np.exp(-0.5 * table[:, None] ** 2 * variance) @ (0.5 * weight)
    values[0] = 1.0
    return lambda t: np.interp(t, table, values)


def _squared_distance(name: str, values: np.ndarray, samples: ErrorSamples) -> SquaredDistance:
    components = 6 if name == "pose" else 3
    lost = 0.0 if name == "rot" or samples.views is None else 1.0 / (samples.views - 1)
    mean, target = float(values.mean()), components - lost
    ks = stats.kstest(values, "chi2", args=(components,))
    factor = samples.likelihood.variance_of_unit_scale
    return SquaredDistance(
        components=components,
        mean=mean,
        p95=float(np.percentile(values, 95)),
        p95_expected=float(stats.chi2.ppf(0.95, components)),
        ks=float(ks.statistic),
        ks_pvalue=float(ks.pvalue),
        target=target,
        band=band(target, components),
        status=status(mean, target, components),
        raw_mean=mean * factor,
        raw_target=target * factor,
        quantile_levels=_QUANTILES,
        quantiles=np.quantile(values, _QUANTILES),
    )


def _sigma_bins(samples: ErrorSamples, part: slice) -> dict[str, np.ndarray]:
    """Root mean squares of sigma and of errors, per component, in bins of equally many samples by sigma."""
    variance, square = (x[:, part].mean(-1) for x in (samples.variance, samples.residual**2))
    bins = np.array_split(np.argsort(variance, kind="stable"), min(_SIGMA_BINS, len(variance)))
    return {
        "predicted": np.sqrt([variance[rows].mean() for rows in bins]),
        "observed": np.sqrt([square[rows].mean() for rows in bins]),
    }


def _spearman(samples: ErrorSamples) -> dict[str, float]:
    sigma, error = np.sqrt(samples.variance), np.abs(samples.residual)
    pairs = {name: (sigma[:, dim], error[:, dim]) for dim, name in enumerate(DIMENSIONS)}
    pairs |= {
        name: (np.linalg.norm(sigma[:, part], axis=-1), np.linalg.norm(error[:, part], axis=-1))
        for name, part in PARTS.items()
    }
    constant = {name for name, (a, b) in pairs.items() if np.ptp(a) <= 1e-12 * a.max() or np.ptp(b) == 0}
    return {name: math.nan if name in constant else float(stats.spearmanr(*pair)[0]) for name, pair in pairs.items()}


def _sharpness(samples: ErrorSamples) -> dict[str, float]:
    statistics = {}
    for name, part in PARTS.items():
        sigma = np.sqrt(samples.variance[:, part])
        statistics[f"sigma_{name}_mean"] = float(sigma.mean())
        statistics |= {f"sigma_{name}_p{p}": float(np.percentile(sigma, p)) for p in (10, 50, 90)}
    return statistics


def _windowed(
    distances: dict[str, np.ndarray], samples: ErrorSamples, warmup: int, window: np.ndarray | None
) -> dict[str, float]:
    statistics = {}
    for name in PARTS:
        means = np.zeros(0)
        if window is not None:
            later = np.isin(window, np.unique(window)[warmup:])
            means = windowed_mean(distances[name][later], np.asarray(window)[later])
        statistics[f"{name}_max"] = float(means.max()) if len(means) else math.nan
        statistics[f"{name}_last"] = float(means[-1]) if len(means) else math.nan
        low, high = _squared_distance(name, distances[name], samples).band
        statistics[f"{name}_inside"] = float(np.mean((low <= means) & (means <= high))) if len(means) else math.nan
    return statistics
