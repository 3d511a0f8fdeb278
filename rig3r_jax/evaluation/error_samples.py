"""Residuals with the uncertainty predicted of them: their likelihood, distances and best correction; host float64."""

import dataclasses
import math
import typing

import numpy as np
from jaxtyping import Float, Int
from scipy import optimize

from rig3r_jax.evaluation.likelihood import Likelihood
from rig3r_jax.geometry.se3 import PARTS


@typing.no_type_check
@dataclasses.dataclass(frozen=True)
class ErrorSamples:
    """Residuals with what was predicted of them. ValueError for none, for other shapes, for what is not finite."""

    residual: Float[np.ndarray, "n 6"]
    covariance: Float[np.ndarray, "n 6"] | Float[np.ndarray, "n 6 6"]  # predictive variances, or whole covariances
    likelihood: Likelihood = Likelihood()
    window: Int[np.ndarray, "n"] | None = None  # which window each is of, windows in the order of their time
    views: int | None = None  # of a window; its fitted scale takes one degree of freedom from 3 (views - 1)

    def __post_init__(self):
        residual, covariance = (np.asarray(x, np.float64) for x in (self.residual, self.covariance))
        count = len(residual)
        if not count or residual.shape != (count, 6) or covariance.shape not in ((count, 6), (count, 6, 6)):
            shapes = f"residual {residual.shape} and covariance {covariance.shape}"
            raise ValueError(f"{shapes}; give (n, 6) with (n, 6) variances or (n, 6, 6) covariances, n at least 1")
        if self.window is not None and np.shape(self.window) != (count,):
            raise ValueError(f"window has shape {np.shape(self.window)}; give one number to each of {count} residuals")
        if self.views is not None and self.views < 2:
            raise ValueError(f"views is {self.views}; a window with residuals has 2 or more")
        bad = ~np.isfinite(residual).all(-1) | ~np.isfinite(covariance).reshape(count, -1).all(-1)
        if bad.any():
            where = f"first at row {np.flatnonzero(bad)[0]}"
            raise ValueError(f"{bad.sum()} of {count} residuals or covariances are not finite, {where}; leave them out")
        least = covariance if covariance.ndim == 2 else np.linalg.eigvalsh(covariance)
        if not least.min() > 0:
            raise ValueError(f"the least variance is {least.min()}; variances and eigenvalues must be above 0")
        object.__setattr__(self, "residual", residual)
        object.__setattr__(self, "covariance", covariance)

    @property
    def variance(self) -> Float[np.ndarray, "n 6"]:
        return self.covariance if self.covariance.ndim == 2 else np.diagonal(self.covariance, axis1=1, axis2=2)

    def scaled(self, factor_trans: float, factor_rot: float) -> "ErrorSamples":
        """The same residuals, their predicted variances times a factor each for translation and rotation."""
        root = np.sqrt(np.repeat([factor_trans, factor_rot], 3))
        factors = root**2 if self.covariance.ndim == 2 else root[:, None] * root
        return dataclasses.replace(self, covariance=self.covariance * factors)


def squared_distances(samples: ErrorSamples) -> dict[str, Float[np.ndarray, "n"]]:
    """Squared errors over the predictive covariance: of trans and rot by their own block, of pose by all of it."""
    if samples.covariance.ndim == 2:
        squares = samples.residual**2 / samples.covariance
        return {name: squares[:, part].sum(-1) for name, part in PARTS.items()} | {"pose": squares.sum(-1)}
    distances = {}
    for name, part in (PARTS | {"pose": slice(0, 6)}).items():
        block, residual = samples.covariance[:, part, part], samples.residual[:, part]
        distances[name] = np.sum(residual * np.linalg.solve(block, residual[..., None])[..., 0], axis=-1)
    return distances


def whiten(samples: ErrorSamples) -> Float[np.ndarray, "n 6"]:
    """Residuals by the predictive covariance C: r / sigma, or L^T r with the lower triangular L L^T = inverse(C)."""
    if samples.covariance.ndim == 2:
        return samples.residual / np.sqrt(samples.covariance)
    lower = np.linalg.cholesky(np.linalg.inv(samples.covariance))
    return np.einsum("nij,ni->nj", lower, samples.residual)


def negative_log_likelihood(samples: ErrorSamples) -> Float[np.ndarray, "n"]:
    """-log density per component (a sixth of that of all six), with all constants, so that laws can be compared."""
    law = samples.likelihood
    if samples.covariance.ndim == 2:
        log_determinant = np.log(samples.covariance).sum(-1)
    else:
        log_determinant = np.linalg.slogdet(samples.covariance)[1]
    factor = law.variance_of_unit_scale
    unit = law.nll(whiten(samples) * math.sqrt(factor)).sum(-1)
    return (unit + 0.5 * (log_determinant - 6 * math.log(factor))) / 6.0


def fit_temperature(samples: ErrorSamples) -> dict[str, float]:
    """Factors on the variances of trans and rot that are most likely: the law's scale of the whitened residuals.

    Correlated groups share a term of the likelihood: of whole covariances both factors are searched for together.
    """
    law, unit = samples.likelihood, math.sqrt(samples.likelihood.variance_of_unit_scale)
    standard = samples.residual / np.sqrt(samples.variance) * unit
    single = {name: law.fit_scale(standard[:, part]) ** 2 for name, part in PARTS.items()}
    if samples.covariance.ndim == 2:
        return single
    lower = np.linalg.cholesky(np.linalg.inv(samples.covariance))

    def objective(log_factors):
        smaller = samples.residual * np.exp(-0.5 * np.repeat(log_factors, 3)) * unit
        return law.nll(np.einsum("nij,ni->nj", lower, smaller)).sum(-1).mean() + 1.5 * np.sum(log_factors)

    start = np.log(list(single.values()))
    best = optimize.minimize(objective, start, method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-12})
    return dict(zip(PARTS, np.exp(best.x).tolist(), strict=True))


def baseline_nlls(
    residual: Float[np.ndarray, "n 6"], train_residual: Float[np.ndarray, "m 6"], likelihood: Likelihood
) -> dict[str, float]:
    """Mean NLL per component of what needs no network: one uncertainty for all, most likely on the training residuals.

    "constant_sigma" is of the same law, "constant_sigma_gaussian" the usual baseline, "constant_covariance_gaussian"
    knows how components correlate (absent where they are linearly dependent). ValueError for errors that are all zero.
    """
    gaussian = Likelihood()
    fits = {"constant_sigma": likelihood, "constant_sigma_gaussian": gaussian}
    constant = {}
    for name, law in fits.items():
        variance = [law.fit_scale(train_residual[:, dim]) ** 2 * law.variance_of_unit_scale for dim in range(6)]
        constant[name] = ErrorSamples(residual, np.broadcast_to(variance, residual.shape), law)
    covariance = train_residual.T @ train_residual / len(train_residual)
    if np.linalg.matrix_rank(covariance) == 6:
        constant["constant_covariance_gaussian"] = ErrorSamples(
            residual, np.broadcast_to(covariance, (len(residual), 6, 6)), gaussian
        )
    return {name: float(np.mean(negative_log_likelihood(samples))) for name, samples in constant.items()}
