"""Robust kernels on whitened residuals: their costs, gradients and Hessians; host float64.

A residual r with information (its inverse covariance) has the square q = r^T information r. A kernel rho discounts what
lies far out: "huber" leaves the square at `threshold` and goes on as a line, "cauchy" as a logarithm.
"""

import numpy as np
from jaxtyping import Float

KERNELS = ("none", "huber", "cauchy")
THRESHOLD = 3.55  # the norm that 95% of whitened Gaussian errors of 6 dimensions stay under
STAGES = {"none": ("none",), "huber": ("huber",), "cauchy": ("huber", "cauchy")}  # Cauchy's has many minima
_SINGULAR = 1e-12  # smallest eigenvalue of an information matrix that is scaled to a unit diagonal


def check_kernel(kernel: str, threshold: float) -> None:
    """ValueError for a kernel that is none of `KERNELS`, or a threshold that is not positive."""
    if kernel not in KERNELS:
        raise ValueError(f"kernel {kernel!r} is unknown; choose from {', '.join(KERNELS)}")
    if not threshold > 0:
        raise ValueError(f"threshold is {threshold}; it must be positive, in standard deviations")


def check_information(information: Float[np.ndarray, "m d d"], what: str) -> None:
    """ValueError, naming `what` and the number, unless all are finite, symmetric and positive definite."""
    diagonal = np.diagonal(information, axis1=-2, axis2=-1)
    usable = np.isfinite(information).all(axis=(-2, -1)) & (diagonal > 0).all(axis=-1)
    scale = np.sqrt(np.where(usable[:, None], diagonal, 1.0))
    identity = np.eye(information.shape[-1])
    scaled = np.where(usable[:, None, None], information, identity) / (scale[:, :, None] * scale[:, None, :])
    usable &= np.abs(scaled - np.swapaxes(scaled, -1, -2)).max(axis=(-2, -1)) < 1e-6
    usable &= np.linalg.eigvalsh(scaled)[:, 0] > _SINGULAR
    if not usable.all():
        number = int(np.argmin(usable))
        raise ValueError(
            f"{what} {number} = {information[number].tolist()} must be finite, symmetric and positive definite; "
            "bound the variances that it comes from, on both sides"
        )


def quadratic(
    residual: Float[np.ndarray, "m d"],
    information: Float[np.ndarray, "m d d"],
    common: Float[np.ndarray, "m d d"],
    kernel: str,
    threshold: float,
) -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, "m d"], list[Float[np.ndarray, "m d d"]]]:
    """1/2 q rho(s) / s of every residual, its gradient by r, and matrices to take for its Hessian by r.

    s = r^T common r, by which a residual is discounted; `common` is `information` of the usual kernels, where s = q.

    The first is positive semi-definite and finds its way from afar (iteratively reweighted least squares); the second,
    where a kernel is at work, is the Hessian itself, indefinite for outliers, which is quick at the end.
    """
    trust, pull = (information @ residual[..., None])[..., 0], (common @ residual[..., None])[..., 0]
    q, s = np.sum(residual * trust, axis=-1), np.sum(residual * pull, axis=-1)
    discount, slope, curvature = _discount(s, kernel, threshold)
    gradient = discount[:, None] * trust + (q * slope)[:, None] * pull
    if kernel == "none":
        return 0.5 * q, gradient, [information]
    discounts, slopes, by_q, curved = (x[:, None, None] for x in (discount, slope, q * slope, q * curvature))
    reweighted = discounts * information + by_q * common
    mixed = trust[:, :, None] * pull[:, None, :]
    hessian = reweighted + 2 * slopes * (mixed + np.swapaxes(mixed, -1, -2))
    hessian += 2 * curved * pull[:, :, None] * pull[:, None, :]
    values, vectors = np.linalg.eigh(reweighted)
    reweighted = (vectors * np.maximum(values, 0.0)[:, None, :]) @ np.swapaxes(vectors, -1, -2)
    return 0.5 * q * discount, gradient, [reweighted, hessian]


def weight(s: Float[np.ndarray, " m"], kernel: str, threshold: float) -> Float[np.ndarray, " m"]:
    """rho'(s), by which a kernel lowers the pull of a residual of square s: 1 where it does not."""
    x = s / threshold**2
    if kernel == "none":
        return np.ones_like(s)
    return 1.0 / np.sqrt(np.maximum(x, 1.0)) if kernel == "huber" else 1.0 / (1.0 + x)


def _discount(s: np.ndarray, kernel: str, threshold: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """rho(s) / s, which is 1 at s = 0, and its first two derivatives."""
    bound = threshold**2
    outside = s > (bound if kernel == "huber" else 1e-3 * bound)  # else: no discount, or a series where s cancels
    x = np.where(outside & (kernel != "none"), s, bound) / bound
    if kernel == "huber":
        rho, first, second = 2 * np.sqrt(x) - 1, x**-0.5, -0.5 * x**-1.5
    else:
        rho, first, second = np.log1p(x), 1 / (1 + x), -1 / (1 + x) ** 2
    discount = rho / x
    slope = (first - discount) / x
    curvature = (second - 2 * slope) / x
    inside = np.ones_like(s), np.zeros_like(s), np.zeros_like(s)
    if kernel == "cauchy":
        series = np.polynomial.Polynomial([1, -1 / 2, 1 / 3, -1 / 4, 1 / 5])  # of log(1 + x) / x
        inside = tuple(series.deriv(order)(np.where(outside, 0.0, s / bound)) for order in (0, 1, 2))
    outside &= kernel != "none"
    values = (np.where(outside, far, near) for far, near in zip((discount, slope, curvature), inside, strict=True))
    return tuple(value / bound**order for order, value in enumerate(values))
