"""Negative log-likelihood of pose residuals under a predicted spread: three parameterisations, three likelihoods.

A residual r (v, w) becomes a whitened one, y = L^T r, where L L^T is the information of six independent standard
variables y. Then -log p(r) = sum_k rho(y_k) - log L_kk + constants; rho is that of the likelihood:

* gaussian y^2 / 2, laplace |y| (scale b = sigma), student_t (nu + 1) / 2 log(1 + y^2 / nu)
* log_variance: L = diag(exp(-raw / 2)). sqrt_information: L = diag(softplus(raw) + 1e-6), clamped.
* cholesky: L = diag(exp(-raw[:6] / 2)) N, N unit lower triangular with raw[6:] below its diagonal, row by row: its
  numbers have no unit. Rotation comes last, so its terms are of its marginal, translation's are given the rotation.
"""

import dataclasses
import math
import typing

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float

from rig3r_jax.geometry import se3
from rig3r_jax.geometry.numerics import at_least_float32, matmul, matvec, safe_norm
from rig3r_jax.geometry.residual import MIN_TRANSLATION, relative_to_first, window_residual
from rig3r_jax.losses.mean import Mean
from rig3r_jax.losses.pose_metrics import (
    GaussianErrors,
    Metrics,
    WindowMotion,
    error_metrics,
    log_variance_metrics,
    motion_metrics,
    share,
    sqrt_information_metrics,
)

RAW_SIZES = {"log_variance": 6, "sqrt_information": 6, "cholesky": 21}  # numbers the head predicts of a frame
LIKELIHOODS = ("gaussian", "laplace", "student_t")
MOTION_WEIGHTINGS = ("none", "gt_trans_norm", "valid_count")
WEIGHT_BOUNDS = (0.1, 2.0)  # of a window's motion weight
_EPSILON = 1e-6


@dataclasses.dataclass(frozen=True)
class NllOptions:
    """How a head's numbers are read and what they are charged with."""

    parameterisation: str = "log_variance"  # a key of RAW_SIZES
    likelihood: str = "gaussian"  # one of LIKELIHOODS
    dof: float = 5.0  # of student_t, above 2
    gamma: float = 0.6  # weight of a refinement against that of the next
    motion_weighting: str = "none"  # one of MOTION_WEIGHTINGS: windows that hardly move teach translation less
    log_variance_penalty: float = 0.0  # times log-variance squared, per element and before the clamp
    prior_weight: float = 0.0  # times (log(1 / sigma) - log(prior_sqrt_info))^2, per element and before the clamp
    prior_sqrt_info: float = 10.0  # 1/m and 1/rad
    log_var_clamp: tuple[float, float] = (-20.0, 20.0)
    sqrt_info_clamp_trans: tuple[float, float] = (0.1, 100.0)  # 1/m
    sqrt_info_clamp_rot: tuple[float, float] = (0.1, 200.0)  # 1/rad
    residual_sq_clamp: float | None = None  # largest squared residual that counts; beyond it no gradient passes
    min_translation: float = MIN_TRANSLATION  # metres; see geometry.residual

    def __post_init__(self):
        choices = {"parameterisation": RAW_SIZES, "likelihood": LIKELIHOODS, "motion_weighting": MOTION_WEIGHTINGS}
        clamps = ("log_var_clamp", "sqrt_info_clamp_trans", "sqrt_info_clamp_rot")
        bounds = {name: getattr(self, name) for name in clamps}
        positive = ("gamma", "prior_sqrt_info", *(() if self.residual_sq_clamp is None else ("residual_sq_clamp",)))
        not_negative = ("log_variance_penalty", "prior_weight", "min_translation")
        rules = [
            *((name, getattr(self, name) in names, f"one of {', '.join(names)}") for name, names in choices.items()),
            *((name, np.shape(pair) == (2,) and pair[0] < pair[1], "(lower, upper)") for name, pair in bounds.items()),
            *((name, min(bounds[name], default=1.0) > 0, "positive") for name in clamps[1:]),
            *((name, getattr(self, name) > 0, "positive") for name in positive),
            *((name, getattr(self, name) >= 0, "0 or more") for name in not_negative),
            ("dof", self.likelihood != "student_t" or self.dof > 2, "above 2, or student_t has no variance"),
        ]
        wrong = [f"{name} is {getattr(self, name)!r}; it must be {rule}" for name, fine, rule in rules if not fine]
        if wrong:
            raise ValueError("; ".join(wrong))


@typing.no_type_check
@struct.dataclass
class Spread:
    """The factor L of the information, read from the head's numbers: diag(inverse_sigma) (1 + below)."""

    inverse_sigma: Float[Array, "*b 6"]  # clamped
    log: Float[Array, "*b 6"]  # its logarithm, as the loss takes it
    unclamped_log: Float[Array, "*b 6"]
    below: Float[Array, "*b 6 6"] | None  # strictly lower triangular; None: zero


def read_spread(raw: Float[Array, "*b c"], options: NllOptions) -> Spread:
    """The spread that the head's numbers stand for, in float32 at least; past a clamp no gradient passes."""
    expected = RAW_SIZES[options.parameterisation]
    if raw.shape[-1] != expected:
        raise ValueError(f"the head gives {raw.shape[-1]} numbers; {options.parameterisation} reads {expected}")
    raw = raw.astype(at_least_float32(raw.dtype))
    if options.parameterisation == "sqrt_information":
        free = jax.nn.softplus(raw) + _EPSILON
        clamps = (options.sqrt_info_clamp_trans, options.sqrt_info_clamp_rot)
        lower, upper = (jnp.repeat(jnp.asarray(bounds, raw.dtype), 3) for bounds in zip(*clamps, strict=True))
        clamped = jnp.clip(free, lower, upper)
        return Spread(clamped, jnp.log(clamped + _EPSILON), jnp.log(free), None)
    log = -0.5 * jnp.clip(raw[..., :6], *options.log_var_clamp)
    below = None
    if options.parameterisation == "cholesky":
        below = _strictly_lower(raw[..., 6:])
    return Spread(jnp.exp(log), log, -0.5 * raw[..., :6], below)


def _strictly_lower(entries: Float[Array, "*b 15"]) -> Float[Array, "*b 6 6"]:
    """The matrix with these entries below its diagonal, row by row."""
    # By slices: a scatter at int64 indices fails in a process that has run it in the other precision (jax 0.10).
    rows = (entries[..., k * (k - 1) // 2 : k * (k + 1) // 2] for k in range(6))
    leading = [(0, 0)] * (entries.ndim - 1)
    return jnp.stack([jnp.pad(row, [*leading, (0, 6 - row.shape[-1])]) for row in rows], axis=-2)


def whiten(residual: Float[Array, "*b 6"], spread: Spread) -> Float[Array, "*b 6"]:
    """y = L^T r, of unit information."""
    scaled = residual * spread.inverse_sigma
    return scaled if spread.below is None else scaled + matvec(jnp.swapaxes(spread.below, -1, -2), scaled)


def standard_nll(whitened: Float[Array, "*b"], options: NllOptions) -> Float[Array, "*b"]:
    """-log density of standard variables of the likelihood, without its constant."""
    if options.likelihood == "laplace":
        return jnp.abs(whitened)
    squared = whitened * whitened
    if options.likelihood == "gaussian":
        return 0.5 * squared
    return 0.5 * (options.dof + 1.0) * jnp.log1p(squared / options.dof)


def omitted_constant(options: NllOptions) -> float:
    """What `standard_nll` leaves out, per element."""
    if options.likelihood == "laplace":
        return math.log(2.0)
    if options.likelihood == "gaussian":
        return 0.5 * math.log(2.0 * math.pi)
    half = 0.5 * options.dof
    return 0.5 * math.log(options.dof * math.pi) + math.lgamma(half) - math.lgamma(half + 0.5)


def nll_with_constants(
    residual: Float[Array, "*b 6"], raw: Float[Array, "*b c"], options: NllOptions
) -> Float[Array, "*b 6"]:
    """-log density per element with all constants and no clamp of the residual: comparable across likelihoods.

    The six of a frame add up to its joint density.
    """
    spread = read_spread(raw, options)
    nll = standard_nll(whiten(residual, spread), options)
    return nll - jnp.log(spread.inverse_sigma) + omitted_constant(options)


def variance_factor(options: NllOptions) -> float:
    """Variance of a standard variable of the likelihood."""
    if options.likelihood == "student_t":
        return options.dof / (options.dof - 2.0)
    return {"gaussian": 1.0, "laplace": 2.0}[options.likelihood]


def covariance(raw: Float[Array, "*b c"], options: NllOptions) -> Float[Array, "*b 6 6"]:
    """Covariance of the residual under the likelihood: m^2, m rad and rad^2."""
    return variance_factor(options) * _inverse_information(read_spread(raw, options))


def predictive_variance(raw: Float[Array, "*b c"], options: NllOptions) -> Float[Array, "*b 6"]:
    """Variance of each residual component under the likelihood (marginal for cholesky), m^2 and rad^2."""
    spread = read_spread(raw, options)
    return variance_factor(options) * _inverse_information_diagonal(spread)


def initial_bias(variance: Float[np.ndarray, "6"], options: NllOptions) -> Float[np.ndarray, "c"]:
    """The head's numbers under which `predictive_variance` is `variance`, components uncorrelated.

    Raises ValueError where a clamp forbids it: such a start would have no gradient.
    """
    if not (np.isfinite(variance) & (variance > 0)).all():
        raise ValueError(f"variances are {variance}; all six must be positive (a component that never errs has none)")
    squared = variance.astype(np.float64) / variance_factor(options)
    if options.parameterisation != "sqrt_information":
        raw, bounds = np.log(squared), np.tile(options.log_var_clamp, (6, 1))
        inside, clamps = raw, "log_var_clamp"
    else:
        inside = 1.0 / np.sqrt(squared)
        free = inside - _EPSILON
        raw = free + np.log(-np.expm1(-free))  # inverse of softplus, without its overflow
        bounds = np.repeat([options.sqrt_info_clamp_trans, options.sqrt_info_clamp_rot], 3, axis=0)
        clamps = "sqrt_info_clamp_trans or sqrt_info_clamp_rot"
    if not ((inside > bounds[:, 0]) & (inside < bounds[:, 1])).all():
        raise ValueError(f"variances {variance} want {inside}, beyond {clamps} {bounds.tolist()}; widen the clamp")
    return np.concatenate([raw, np.zeros(RAW_SIZES[options.parameterisation] - 6)])


def window_errors(
    camera_from_world_predicted: Float[Array, "i b v 4 4"],
    camera_from_world_true: Float[Array, "b v 4 4"],
    min_translation: float = MIN_TRANSLATION,
) -> tuple[Float[Array, "i b v-1 6"], WindowMotion]:
    """Residuals and lengths of windows, all that `pose_nll` wants to know of cameras.

    Both sides pass through the pose encoding's unit quaternion first: stored rotations are orthonormal to float32 only.
    VGGT's encodings become matrices by `pose_encoding.decode`. In float32 at least.
    """
    cameras = (camera_from_world_predicted, camera_from_world_true)
    predicted, true = (se3.through_quaternion(x.astype(at_least_float32(x.dtype))) for x in cameras)
    errors = window_residual(predicted, true, min_translation)
    distances = (safe_norm(se3.translation(relative_to_first(x)[..., 1:, :, :])) for x in (true, predicted))
    return errors.residual, WindowMotion(errors.scale, *distances)


def pose_nll(
    residual: Float[Array, "i b n 6"],
    raw: Float[Array, "i b n c"],
    options: NllOptions,
    motion: WindowMotion | None = None,
    translation_weights: Float[Array, "b"] | None = None,
) -> tuple[Float[Array, ""], Float[Array, "i b n 6"], Metrics]:
    """The loss over refinements i and windows b, whose first frame is left out.

    Args:
        residual: from `window_errors`, float32 at least.
        raw: the head's numbers of the same frames.
        options: parameterisation, likelihood and weights.
        motion: from `window_errors`; without it there are no metrics of the scale and no motion weighting.
        translation_weights: `motion_weights` of the batch that these windows are a part of; by default of these.

    Returns:
        (1 / i) sum_k gamma^(i-1-k) mean(nll_k), weighted and penalised; the NLL per element without either; metrics
        of the last refinement.
    """
    if motion is None and options.motion_weighting != "none":
        raise ValueError(f"motion_weighting {options.motion_weighting} needs the windows' motion; pass `motion`")
    spread = read_spread(raw, options)
    nll = standard_nll(whiten(clamp_residual(residual, options), spread), options) - spread.log
    charged = nll
    if motion is not None:
        weights = motion_weights(motion, options) if translation_weights is None else translation_weights
        charged = nll * jnp.where(jnp.arange(6) < 3, weights[:, None, None], 1.0)
    # On what comes before the clamp, so that a head beyond it is drawn back.
    if options.log_variance_penalty:
        charged += options.log_variance_penalty * (2.0 * spread.unclamped_log) ** 2
    if options.prior_weight:
        charged += options.prior_weight * (spread.unclamped_log - math.log(options.prior_sqrt_info)) ** 2
    iterations = residual.shape[0]
    weights = options.gamma ** np.arange(iterations - 1, -1, -1) / iterations
    total = jnp.sum(jnp.asarray(weights, charged.dtype) * jnp.mean(charged, axis=(1, 2, 3)))
    windows = jnp.asarray(residual.shape[1], total.dtype)
    metrics = {"loss/pose_uncertainty_nll": Mean(total * windows, windows)} | _metrics(residual, raw, options)
    return total, nll, metrics | ({} if motion is None else motion_metrics(motion))


def motion_weights(motion: WindowMotion, options: NllOptions) -> Float[Array, "b"]:
    """Weight of each window's translation: how far it moves against the mean of the batch, within WEIGHT_BOUNDS."""
    if options.motion_weighting == "none":
        return jnp.ones_like(motion.true_distance[:, 0])
    if options.motion_weighting == "gt_trans_norm":
        moved = jnp.mean(motion.true_distance, axis=-1)
    else:
        moved = motion.scale.valid_count[-1].astype(motion.true_distance.dtype)
    mean = jnp.mean(moved)
    relative = jnp.where(mean > 0, moved / jnp.where(mean > 0, mean, 1.0), 1.0)  # where nothing moves, all are equal
    return jnp.clip(relative, *WEIGHT_BOUNDS)


def window_d2(
    residual: Float[Array, "*b n 6"], raw: Float[Array, "*b n c"], options: NllOptions
) -> dict[str, Float[Array, "*b"]]:
    """Squared Mahalanobis distance of `trans` and `rot`, mean over a window's frames, under the predictive variance.

    3 is calibrated for every likelihood; 3 - 1/n for translation, whose n frames gave one degree of freedom to the
    scale.
    """
    squared = squared_distances(residual, read_spread(raw, options))
    return {part: jnp.mean(value, axis=-1) / variance_factor(options) for part, value in squared.items()}


def squared_distances(residual: Float[Array, "*b 6"], spread: Spread) -> dict[str, Float[Array, "*b"]]:
    """r^T C^-1 r of `trans` and `rot`, C the marginal covariance of either in a Gaussian of this spread."""
    squared = whiten(residual, spread) ** 2
    trans, rot = jnp.sum(squared[..., :3], axis=-1), jnp.sum(squared[..., 3:], axis=-1)
    if spread.below is not None:  # the whitened translation is that given the rotation
        marginal = _inverse_information(spread)[..., :3, :3]
        trans = jnp.sum(residual[..., :3] * jnp.linalg.solve(marginal, residual[..., :3, None])[..., 0], axis=-1)
    return {"trans": trans, "rot": rot}


def _metrics(residual: Float[Array, "i b n 6"], raw: Float[Array, "i b n c"], options: NllOptions) -> Metrics:
    """Of the last refinement."""
    residual, raw = residual[-1], raw[-1]
    spread = read_spread(raw, options)
    clamped = clamp_residual(residual, options)
    errors = GaussianErrors(
        residual=residual,
        sigma=jnp.sqrt(_inverse_information_diagonal(spread)),
        nll=0.5 * whiten(clamped, spread) ** 2 - spread.log,
        squared=squared_distances(clamped, spread),
    )
    metrics = error_metrics(errors)
    bound = math.inf if options.residual_sq_clamp is None else options.residual_sq_clamp
    metrics["diagnostic/residual_sq_clamped_ratio"] = share(residual**2 > bound, residual.dtype)
    if options.parameterisation == "sqrt_information":
        upper = {"trans": options.sqrt_info_clamp_trans[1], "rot": options.sqrt_info_clamp_rot[1]}
        return metrics | sqrt_information_metrics(spread.inverse_sigma, upper)
    return metrics | log_variance_metrics(-2.0 * spread.unclamped_log, options.log_var_clamp)


def clamp_residual(residual: Float[Array, "*b 6"], options: NllOptions) -> Float[Array, "*b 6"]:
    """Residuals whose squares are within `residual_sq_clamp`."""
    if options.residual_sq_clamp is None:
        return residual
    bound = math.sqrt(options.residual_sq_clamp)
    return jnp.clip(residual, -bound, bound)


def _inverse_information(spread: Spread) -> Float[Array, "*b 6 6"]:
    """(L L^T)^-1, the covariance of a Gaussian of this spread."""
    root = _inverse_factor(spread)
    return matmul(jnp.swapaxes(root, -1, -2), root)


def _inverse_information_diagonal(spread: Spread) -> Float[Array, "*b 6"]:
    """Diagonal of `_inverse_information`."""
    if spread.below is None:
        return spread.inverse_sigma**-2
    return jnp.sum(_inverse_factor(spread) ** 2, axis=-2)


def _inverse_factor(spread: Spread) -> Float[Array, "*b 6 6"]:
    """L^-1, lower triangular; (1 + A)^-1 = (1 - A)(1 + A^2)(1 + A^4), since A^6 = 0."""
    one = jnp.eye(6, dtype=spread.log.dtype)
    inverse = one
    if spread.below is not None:
        second = matmul(spread.below, spread.below)
        inverse = matmul(matmul(one - spread.below, one + second), one + matmul(second, second))
    return inverse / spread.inverse_sigma[..., None, :]
