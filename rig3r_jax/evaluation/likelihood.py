"""The laws a predicted uncertainty may state, of mean zero and unit scale: density, intervals, fit; host float64.

`scale` is what a head of log-variances gives, exp(lv / 2): sigma of a Gaussian, b of a Laplace, s of a Student-t law.
The variance is `variance_of_unit_scale` times its square, so that squared errors over variances have mean 1 under each.
"""

import dataclasses
import math

import numpy as np
from jaxtyping import Float
from scipy import optimize, special

from rig3r_jax.losses.pose_nll import LIKELIHOODS


@dataclasses.dataclass(frozen=True)
class Likelihood:
    """One of `LIKELIHOODS`; `dof` counts for student_t only and is above 2, below which there is no variance."""

    name: str = "gaussian"
    dof: float = 5.0

    def __post_init__(self):
        if self.name not in LIKELIHOODS:
            raise ValueError(f"likelihood {self.name!r} is unknown; choose from {', '.join(LIKELIHOODS)}")
        if self.name == "student_t" and not self.dof > 2:
            raise ValueError(f"dof is {self.dof}; a Student-t law has a variance above 2 only, take 3 or more")

    @property
    def variance_of_unit_scale(self) -> float:
        if self.name == "student_t":
            return self.dof / (self.dof - 2.0)
        return 2.0 if self.name == "laplace" else 1.0

    def nll(self, x: Float[np.ndarray, "*b"]) -> Float[np.ndarray, "*b"]:
        """-log density at unit scale, with all constants."""
        if self.name == "gaussian":
            return 0.5 * x**2 + 0.5 * math.log(2 * math.pi)
        if self.name == "laplace":
            return np.abs(x) + math.log(2.0)
        half = 0.5 * (self.dof + 1.0)
        constant = math.lgamma(half) - math.lgamma(0.5 * self.dof) - 0.5 * math.log(self.dof * math.pi)
        return half * np.log1p(x**2 / self.dof) - constant

    def central_probability(self, x: Float[np.ndarray, "*b"]) -> Float[np.ndarray, "*b"]:
        """Probability of the central interval that ends at x: uniform on 0..1 where x follows the law."""
        size = np.abs(x)
        if self.name == "gaussian":
            return special.erf(size / math.sqrt(2.0))
        if self.name == "laplace":
            return -np.expm1(-size)
        return special.betainc(0.5, 0.5 * self.dof, size**2 / (self.dof + size**2))

    def fit_scale(self, values: Float[np.ndarray, "*b"]) -> float:
        """Maximum-likelihood scale of all values, whose mean is zero. ValueError where it would be zero."""
        size = np.abs(np.ravel(values).astype(np.float64))
        if not size.size or not size.max() > 0:
            raise ValueError(f"no scale fits {size.size} values that are all zero; give errors that differ from zero")
        if self.name == "gaussian":
            return float(np.sqrt(np.mean(size**2)))
        if self.name == "laplace":
            return float(np.mean(size))
        return self._fit_student_t(size**2)

    def _fit_student_t(self, squares: np.ndarray) -> float:
        """Root of mean((dof + 1) x^2 / (dof s^2 + x^2)) = 1, the derivative of the NLL by log s; it falls with s."""

        def excess(log_square):
            return float(np.mean((self.dof + 1.0) * squares / (self.dof * math.exp(log_square) + squares))) - 1.0

        if np.mean(squares > 0) * (self.dof + 1.0) <= 1.0:
            raise ValueError(
                f"no scale fits: {np.mean(squares == 0):.0%} of the values are zero; give errors that differ"
            )
        high = math.log((self.dof + 1.0) / self.dof * float(np.mean(squares)))  # excess <= 0: x^2 left out below
        low = high - 1.0
        while excess(low) < 0:
            low -= 2.0 * (high - low)
        return math.exp(0.5 * optimize.brentq(excess, low, high, xtol=1e-13))
