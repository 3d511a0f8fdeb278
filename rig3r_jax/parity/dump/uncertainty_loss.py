"""golden/uncertainty_loss: loss, gradients and metrics of the pose uncertainty head against losses.pose_nll.

Windows of the reference move centimetres in a world of metres: what is left of float32 there is the rounding of the
coordinates (its own float32 differs from its float64 by up to 4e-5 of such lengths), so that lengths in float32 are
held against a metre, and scales, which are quotients of lengths, against as many digits less.

`log_var.npz` has the log-variance head in both precisions, `sqrt_info.npz` the older head on residuals of the same
cases, `pose_grads_euclidean.npz` gradients to the predicted encodings.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from rig3r_jax.geometry import pose_encoding, se3
from rig3r_jax.geometry.residual import relative_to_first, scaled_residual, window_scale
from rig3r_jax.geometry.se3 import PARTS
from rig3r_jax.losses.mean import Mean
from rig3r_jax.losses.pose_metrics import WindowMotion
from rig3r_jax.losses.pose_nll import (
    NllOptions,
    clamp_residual,
    pose_nll,
    read_spread,
    squared_distances,
    window_errors,
)
from rig3r_jax.parity.compare import Comparison, Skipped
from rig3r_jax.parity.dump.folder import Archive, Dump
from rig3r_jax.parity.dump.quaternions import sevens
from rig3r_jax.parity.dump.rows import Ours, Results, compare_arrays

FILE, OPTIONS = "log_var.npz", "log_var_cases.json"
GRADIENTS, SQRT_INFORMATION = "pose_grads_euclidean.npz", "sqrt_info.npz"
TAGS = {"f64": np.float64, "f32": np.float32}
QUOTIENT = "Rig3R keeps the quotient alone, which is compared as scale_raw"
_LENGTH = 5e-2  # m and rad: smaller residuals are the rounding of cameras that agree
_UNIT = 1.0  # of log-likelihoods, distances in sigmas and their gradients
_METRE = 1.0  # of the coordinates, or a radian
_OF_METRE = "against a metre or radian, the size of the coordinates that float32 rounded"
_FROM_RESIDUALS = {"f64": {}, "f32": {"tolerance": 1e-4, "note": "of residuals, which lose digits in float32"}}


@dataclasses.dataclass(frozen=True)
class Case:
    """Inputs of one case in one precision."""

    options: NllOptions
    encoding: np.ndarray  # (i b v 9), predicted
    log_variance: np.ndarray  # (i b v 6)
    true_encoding: Array  # (b v 9), ours
    camera_from_world: Array  # (b v 4 4), true, of that encoding

    @property
    def cameras(self) -> tuple[np.ndarray, Array, float]:
        return self.encoding, self.camera_from_world, self.options.min_translation


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What rows are held against, as arguments of `Ours`: likelihoods, residuals, lengths and scales."""

    likelihoods: dict[str, Any]
    residuals: dict[str, Any]
    lengths: dict[str, Any]
    scales: dict[str, Any]

    @classmethod
    def of(cls, tag: str, farthest: float = _METRE, moved: float = _METRE) -> "Sizes":
        """For coordinates up to `farthest` metres, of cameras at most `moved` metres apart."""
        likelihoods = {"floor": _UNIT, **_FROM_RESIDUALS[tag]}
        if tag == "f64":
            return cls(likelihoods, {"floor": _LENGTH}, {}, {})
        size = max(_METRE, farthest)
        lengths = {"floor": size, "note": _OF_METRE}
        note = f"of lengths up to {moved:.2g} m, known to the rounding of a metre"
        return cls(likelihoods, lengths, lengths, {"floor": size / max(moved, _LENGTH), "note": note})


def compare_folder(dump: Dump) -> Iterator[Comparison | Skipped]:
    """Every case of the JSON file whose arrays are there."""
    archive, described = dump.needed(FILE), dump.json(OPTIONS)
    gradients, older = dump.arrays(GRADIENTS) or {}, dump.arrays(SQRT_INFORMATION) or {}
    for name, description in described.items():
        prefix = f"{name}__"
        if f"{prefix}in_pred_pose_enc" not in archive:
            continue
        for tag, dtype in TAGS.items():
            if archive.below(f"{prefix}{tag}_"):
                with jax.enable_x64(tag == "f64"):
                    ours = _log_variance(_read(archive, prefix, description, dtype), tag)
                    yield from compare_arrays(dump, FILE, ours, f"{prefix}{tag}_")
        with jax.enable_x64(True):
            case = _read(archive, prefix, description, np.float64)
            if any(name.startswith(f"{prefix}grad_") for name in gradients):
                yield from compare_arrays(dump, GRADIENTS, _encoding_gradients(case), prefix)
            if f"{prefix}raw" in older:
                ours = _sqrt_information(case, older[f"{prefix}raw"])
                yield from compare_arrays(dump, SQRT_INFORMATION, ours, prefix)


def _read(archive: Archive, prefix: str, description: Mapping, dtype: type) -> Case:
    """The case's inputs, its options by our names."""
    theirs = description["options"]
    if not theirs["scale_detach"]:
        raise ValueError(f"{OPTIONS}: {prefix[:-2]} lets gradients through the scale; the loss of Rig3R stops them")
    options = NllOptions(
        likelihood=theirs["loss_type"],
        gamma=theirs["gamma"],
        log_var_clamp=tuple(theirs["log_var_clamp"]),
        residual_sq_clamp=theirs["residual_sq_clamp"],
        min_translation=theirs["min_translation"],
    )
    names = ("pred_pose_enc", "log_var", "gt_extrinsics", "gt_intrinsics")
    encoding, log_variance, upper, intrinsics = (archive[f"{prefix}in_{x}"].astype(dtype) for x in names)
    lower = np.broadcast_to(np.array([0, 0, 0, 1], dtype), (*upper.shape[:-2], 1, 4))
    true_encoding = _encode(np.concatenate([upper, lower], axis=-2), intrinsics, *description["image_hw"])
    return Case(options, encoding, log_variance, true_encoding, _decode(true_encoding))


def _log_variance(case: Case, tag: str) -> Results:
    """Intermediates, loss, gradient to the log-variances and metrics, by the reference's names."""
    residual, motion, true, predicted = _errors(*case.cameras)
    (_, (nll, squared, metrics)), (gradient, _) = _loss(case.log_variance, residual, motion, case.options)
    farthest = float(np.abs(case.camera_from_world[..., :3, 3]).max())
    sizes = Sizes.of(tag, farthest, float(np.max(motion.true_distance)))
    loose = sizes.likelihoods

    def encoded_like(theirs: np.ndarray) -> np.ndarray:
        scaled = np.array(case.true_encoding)
        scaled[..., 3:7] *= np.linalg.norm(theirs[..., 3:7], axis=-1, keepdims=True)
        return scaled

    return {
        "gt_pose_enc": Ours(encoded_like, note="our quaternions are unit: times the length of theirs"),
        "gt_T_cam0_cami": sevens(true),
        "pred_T_cam0_cami": sevens(predicted),
        "gt_cam_pos_rel": Ours(se3.translation(true), **({"floor": farthest} | sizes.lengths)),
        "scale": Ours(motion.scale.scale, **sizes.scales),
        "residual": Ours(residual, **sizes.residuals),
        "nll_elementwise": Ours(nll, **loose),
        "d2_trans": Ours(squared["trans"], **loose),
        "d2_rot": Ours(squared["rot"], **loose),
        "grad_log_var": Ours(gradient, **loose),
        "metric.scale_numerator": QUOTIENT,
        "metric.scale_denominator": QUOTIENT,
        **_named_as_theirs(metrics, sizes),
    }


def _encoding_gradients(case: Case) -> Results:
    """Euclidean gradients to the predicted encodings, the scale fixed as in our loss, and the scale following them."""
    residual, motion, *_ = _errors(*case.cameras)
    _, (_, to_residual) = _loss(case.log_variance, residual, motion, case.options)
    note = "the gradient of the scale is this comparison's own: the loss stops it"
    return {
        "grad_pose_enc_scale_detached": Ours(_pull_back(_residual, to_residual, *case.cameras), floor=_UNIT),
        "grad_pose_enc_scale_attached": Ours(_pull_back(_attached, to_residual, *case.cameras), floor=_UNIT, note=note),
    }


def _sqrt_information(case: Case, raw: np.ndarray) -> Results:
    """The older head on the same residuals."""
    options = dataclasses.replace(case.options, parameterisation="sqrt_information")
    residual, motion, *_ = _errors(*case.cameras)
    (total, (nll, squared, metrics)), (gradient, _) = _loss(raw, residual, motion, options)
    spread = np.asarray(read_spread(jnp.asarray(raw[:, :, 1:]), options).inverse_sigma)
    ours = {
        "residual": residual,
        "scale": motion.scale.scale,
        "sqrt_info": spread,
        "nll_elementwise": nll,
        "loss": total,
        "grad_raw": gradient,
        "d2_trans": squared["trans"],
        "d2_rot": squared["rot"],
        **_named_as_theirs(metrics, dataclasses.replace(Sizes.of("f64"), likelihoods={})),
    }
    for part, where in PARTS.items():
        values = spread[-1][..., where]
        ours[f"metric.sqrt_info_{part}_mean"] = values.mean()
        for percent in (10, 50):
            ours[f"metric.sqrt_info_{part}_p{percent}"] = np.percentile(values, percent)
    return ours


def _named_as_theirs(metrics: Mapping[str, Mean | Array], sizes: Sizes) -> Results:
    """Our metrics under the reference's flat names."""
    ours = {}
    for name, value in metrics.items():
        group, short = name.split("/")
        key = f"metric.{'scale_' if group == 'scale' else ''}{short}"
        value = value.compute() if isinstance(value, Mean) else value
        if group in ("loss", "calibration"):
            ours[key] = Ours(value, **sizes.likelihoods)
        elif short.startswith(("residual_trans", "residual_rot")):
            ours[key] = Ours(value, **sizes.residuals)
        elif short.endswith(("norm_mean", "norm_raw_mean", "norm_scaled_mean")):
            ours[key] = Ours(value, **sizes.lengths)
        elif name in ("scale/std", "scale/raw", "scale/mean"):  # the spread is a difference of numbers about 1
            ours[key] = Ours(value, **{**({"floor": _UNIT} if name == "scale/std" else {}), **sizes.scales})
        else:
            ours[key] = value
    return ours


_encode = jax.jit(pose_encoding.encode, static_argnums=(2, 3))


@jax.jit
def _decode(encoding: Array) -> Array:
    """camera_from_world; the angles of view play no part in the loss."""
    return pose_encoding.decode(encoding, 1, 1)[0]


def _residual(encoding: Array, camera_from_world: Array, min_translation: float) -> Array:
    return window_errors(_decode(encoding), camera_from_world, min_translation)[0]


def _attached(encoding: Array, camera_from_world: Array, min_translation: float) -> Array:
    """The residual under a scale that passes gradients on, where neither bounds nor the fallback have fixed it."""
    predicted, true = relative_to_first(_decode(encoding)), relative_to_first(camera_from_world)
    centers, centers_true = se3.translation(predicted), se3.translation(true)
    fitted = window_scale(centers, centers_true, min_translation)
    moves = jnp.sum(centers_true**2, axis=-1, keepdims=True) > min_translation**2
    products, squares = (jnp.sum(moves * centers * x, axis=(-2, -1)) for x in (centers_true, centers))
    free = fitted.scale == fitted.raw
    scale = jnp.where(free, products / jnp.where(free, squares, 1.0), fitted.scale)
    return scaled_residual(predicted, true, scale)[..., 1:, :]


@functools.partial(jax.jit, static_argnums=2)
def _errors(
    encoding: Array, camera_from_world: Array, min_translation: float
) -> tuple[Array, WindowMotion, Array, Array]:
    """Residuals and motion, and first_from_camera of the truth and of the prediction."""
    predicted = _decode(encoding)
    errors = window_errors(predicted, camera_from_world, min_translation)
    return *errors, relative_to_first(camera_from_world), relative_to_first(predicted)


@functools.partial(jax.jit, static_argnums=(0, 4))
def _pull_back(
    residual_of: Callable, to_residual: Array, encoding: Array, camera_from_world: Array, min_translation: float
) -> Array:
    """The gradient to the encoding of a gradient to the residual."""
    return jax.vjp(lambda x: residual_of(x, camera_from_world, min_translation), encoding)[1](to_residual)[0]


@functools.partial(jax.jit, static_argnums=3)
@functools.partial(jax.value_and_grad, argnums=(0, 1), has_aux=True)
def _loss(raw: Array, residual: Array, motion: WindowMotion, options: NllOptions):
    """The loss, what the reference keeps of it, and its gradients to raw numbers and residuals."""
    total, nll, metrics = pose_nll(residual, raw[:, :, 1:], options, motion)
    squared = squared_distances(clamp_residual(residual, options), read_spread(raw[:, :, 1:], options))
    return total, (nll, squared, metrics)
