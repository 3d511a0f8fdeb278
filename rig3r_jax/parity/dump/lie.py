"""golden/lie: rotations, SE(3) windows and the pose encoding against pypose and 60-digit values."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from rig3r_jax.geometry import pose_encoding, residual, se3, so3
from rig3r_jax.parity.compare import Comparison, Skipped, compare
from rig3r_jax.parity.dump.folder import Archive, Dump
from rig3r_jax.parity.dump.rows import Ours, compare_arrays

FILE, QUATERNIONS, ENCODINGS = "se3.npz", "quat.npz", "pose_encoding.npz"
TAGS = {"f64": np.float64, "f32": np.float32}
# pypose divides differences such as 1 - cos(angle) by powers of the angle, and loses digits where it is small.
SMALL_ANGLE = 0.1
_CANCELLATION = {"f64": 2e-8, "f32": 2e-4}  # about the root of the rounding, the most that the first order can lose
_LOSES = "pypose's Exp and Jl lose digits at small angles"
_SECOND_ORDER = f"below {SMALL_ANGLE} rad pypose's second-order terms cancel to nothing"
_SIGNS = "q and -q are one rotation"

# Compiled whole: op by op, each of hundreds of operations would compile for itself.
_exp, _log, _inverse, _adjoint = (jax.jit(f) for f in (se3.exp, se3.log, se3.inverse, se3.adjoint))
_from_quat, _to_quat = jax.jit(so3.from_quat_xyzw), jax.jit(so3.to_quat_xyzw)
_left_jacobian_so3, _inverse_left_jacobian_so3 = jax.jit(so3.left_jacobian), jax.jit(so3.inverse_left_jacobian)
_left_jacobian_se3, _inverse_left_jacobian_se3 = jax.jit(se3.left_jacobian), jax.jit(se3.inverse_left_jacobian)
_scaled_residual, _relative = jax.jit(residual.scaled_residual), jax.jit(residual.relative_to_first)
_encode, _decode = (
    jax.jit(f, static_argnames=("height", "width")) for f in (pose_encoding.encode, pose_encoding.decode)
)


def compare_folder(dump: Dump, tolerance: float | None) -> Iterator[Comparison | Skipped]:
    """se3.npz, quat.npz and pose_encoding.npz, those that are there."""
    archive = dump.arrays(FILE) or {}
    for tag, dtype in TAGS.items():
        with jax.enable_x64(dtype == np.float64):
            if "xi" in archive:
                if tag == "f64":
                    yield from compare_arrays(dump, FILE, _exact(archive), tolerance)
                yield from _exponential(archive, tag, dtype, tolerance)
            if f"exp_{tag}" in archive:
                yield from compare_arrays(dump, FILE, _group(archive, tag), tolerance)
            if "edge_T" in archive and f"edge_log_{tag}" in archive:
                transforms = _transforms(archive["edge_T"].astype(dtype))
                ours = {f"edge_log_{tag}": _logarithms(transforms, archive[f"edge_log_{tag}"])}
                yield from compare_arrays(dump, FILE, ours, tolerance)
            if dump.arrays(QUATERNIONS) is not None:
                yield from compare_arrays(dump, QUATERNIONS, _quaternions(dump.needed(QUATERNIONS), tag), tolerance)
            if dump.arrays(ENCODINGS) is not None:
                yield from compare_arrays(dump, ENCODINGS, _encodings(dump.needed(ENCODINGS), tag), tolerance)
    for name in ("names", "edge_names"):
        if name in archive:
            yield Skipped(f"{FILE}/{name}", f"labels of rows: {len(archive[name])}")
    if "win_pose_enc" in archive:
        with jax.enable_x64(True):
            yield from compare_arrays(dump, FILE, _windows(archive), tolerance)
        if "win_scale" in archive:
            yield Skipped(f"{FILE}/win_scale", "an input: the factors on the predicted translations")


def _exact(archive: Archive) -> dict[str, Any]:
    """Our float64 against values computed with 60 digits."""
    xi = jnp.asarray(archive["xi"])
    transforms = _exp(xi)
    ours: dict[str, Any] = {
        "exact_t": se3.translation(transforms),
        "exact_R": se3.rotation(transforms),
        "exact_V": _left_jacobian_so3(xi[:, 3:]),
        "exact_Vinv": _inverse_left_jacobian_so3(xi[:, 3:]),
    }
    if "exact_q" in archive:
        ours["exact_q"] = _same_quaternions(_to_quat(se3.rotation(transforms)), archive["exact_q"])
    if "exact_R" in archive and "exact_t" in archive:
        given = se3.from_rotation_translation(jnp.asarray(archive["exact_R"]), jnp.asarray(archive["exact_t"]))
        logarithms = _logarithms(given, archive["xi"])
        ours["xi"] = Ours(
            logarithms.value, note="Log of exact_R, exact_t" + (logarithms.note and f"; {logarithms.note}")
        )
    return ours


def _exponential(archive: Archive, tag: str, dtype: type, tolerance: float | None) -> Iterator[Comparison | Skipped]:
    """Exp and the Jacobians of the tangents `xi`; where pypose loses digits, rows of small angles apart."""
    xi = jnp.asarray(archive["xi"].astype(dtype))
    small = np.linalg.norm(archive["xi"][:, 3:], axis=-1) < SMALL_ANGLE
    functions = {
        "exp_": lambda: _seven(_exp(xi), archive[f"exp_{tag}"]),
        "so3_Jl_": lambda: _left_jacobian_so3(xi[:, 3:]),
        "se3_Jl_": lambda: _left_jacobian_se3(xi),
        "se3_Jl_inv_": lambda: _inverse_left_jacobian_se3(xi),
    }
    for key, function in functions.items():
        if (name := f"{key}{tag}") not in archive:
            continue
        theirs, ours, label = archive[name], np.asarray(function()), f"{FILE}/{name}"
        if not small.all():
            yield compare(f"{label} (large angles)", ours[~small], theirs[~small], tolerance=tolerance)
        label = f"{label} (small angles)"
        if small.any() and key.startswith("se3_"):
            apart = compare(label, ours[small], theirs[small]).relative
            yield Skipped(label, f"{_SECOND_ORDER}; relative difference {apart:.0e}")
        elif small.any():
            loose = _CANCELLATION[tag] if tolerance is None else tolerance
            yield compare(label, ours[small], theirs[small], tolerance=loose, note=_LOSES)
    ours = {f"so3_Jl_inv_{tag}": _inverse_left_jacobian_so3(xi[:, 3:])}
    yield from (compare(f"{FILE}/{k}", v, archive[k], tolerance=tolerance) for k, v in ours.items() if k in archive)


def _group(archive: Archive, tag: str) -> dict[str, Any]:
    """Matrix, inverse, product, adjoint and logarithms of the transforms exp_*, as pypose left them."""
    given = archive[f"exp_{tag}"]
    transforms = _transforms(given)
    products = se3.compose(transforms, jnp.roll(transforms, -1, axis=0))
    ours: dict[str, Any] = {f"matrix_{tag}": transforms, f"adj_{tag}": _adjoint(transforms)}
    for key, result in ((f"inv_{tag}", _inverse(transforms)), (f"compose_next_{tag}", products)):
        if key in archive:
            ours[key] = Ours(_seven(result, archive[key]), note=_SIGNS)
    negated = given * np.array([1, 1, 1, -1, -1, -1, -1], given.dtype)
    logs = {"log_exp_": transforms, "log_negq_": _transforms(negated), "log_compose_next_": products}
    for key, result in logs.items():
        if key + tag in archive:
            ours[key + tag] = _logarithms(result, archive[key + tag])
    return ours


def _windows(archive: Archive) -> dict[str, Any]:
    """Windows of cameras: relative to their first one, scaled, and their residuals."""
    encoded = archive["win_pose_enc"]
    if encoded.ndim != 4 or encoded.shape[0] != 2 or encoded.shape[-1] != 9:
        raise ValueError(f"{archive.path}/win_pose_enc has shape {encoded.shape}; it should be (2, b, v, 9)")
    camera_from_world = _decode(jnp.asarray(encoded), 1, 1)[0]
    relative = _relative(camera_from_world)
    ours: dict[str, Any] = {"win_cam_pos_rel": se3.translation(relative)}
    sevens = {"win_T_cam_world": camera_from_world, "win_T_cam0_cami": relative}
    if "win_scale" in archive:
        scale = jnp.asarray(archive["win_scale"])
        sevens["win_T_scaled"] = residual.scale_translation(relative[1], scale)
        ours["win_residual"] = _scaled_residual(relative[1], relative[0], scale)
    for name, result in sevens.items():
        if name in archive:
            ours[name] = Ours(_seven(result, archive[name]), note=_SIGNS)
    return ours


def _quaternions(archive: Archive, tag: str) -> dict[str, Any]:
    """Rotation matrices of quaternions of any length, and back."""
    ours: dict[str, Any] = {}
    for kind in ("unit", "unnorm"):
        if f"q_{kind}" in archive:
            given = jnp.asarray(archive[f"q_{kind}"].astype(TAGS[tag]))
            ours[f"mat_from_{kind}_{tag}"] = _from_quat(given)
    back, given = f"quat_from_mat_{tag}", f"mat_from_unit_{tag}"
    if back in archive and given in archive:
        quaternions = _to_quat(jnp.asarray(archive[given]))
        ours[back] = Ours(_same_half_turns(quaternions, archive[back]), note="w >= 0; half turns by their own sign")
        if tag == "f64":  # rounded, so that of equal components the first counts as the largest
            wxyz = np.round(np.abs(np.roll(np.asarray(quaternions), 1, axis=-1)), 12)
            ours["branch_argmax_wxyz"] = np.argmax(wxyz, axis=-1)
    noisy = f"quat_from_mat_noisy_{tag}"
    if noisy in archive and "mat_noisy" in archive:
        theirs = archive[noisy]
        quaternions = _same_half_turns(_to_quat(jnp.asarray(archive["mat_noisy"].astype(TAGS[tag]))), theirs)
        lengths = np.linalg.norm(theirs, axis=-1, keepdims=True)
        ours[noisy] = Ours(quaternions * lengths, note="ours are unit: times the length of theirs")
    return ours


def _encodings(archive: Archive, tag: str) -> dict[str, Any]:
    """Nine numbers of cameras, and cameras of nine numbers, for every image size `<case>_hw`."""
    ours: dict[str, Any] = {}
    for case in [name.removesuffix("hw") for name in archive if name.endswith("_hw")]:
        height, width = (int(size) for size in archive[f"{case}hw"])
        if (name := f"{case}enc_{tag}") in archive:
            upper = archive[f"{case}extrinsics"].astype(TAGS[tag])
            camera_from_world = se3.from_rotation_translation(jnp.asarray(upper[..., :3]), jnp.asarray(upper[..., 3]))
            intrinsics = jnp.asarray(archive[f"{case}intrinsics"].astype(TAGS[tag]))
            encoding = np.array(_encode(camera_from_world, intrinsics, height, width))
            encoding[..., 3:7] = _same_half_turns(encoding[..., 3:7], archive[name][..., 3:7])
            ours[name] = encoding
        if tag == "f64" and f"{case}dec_in" in archive:
            camera_from_world, intrinsics = _decode(jnp.asarray(archive[f"{case}dec_in"]), height, width)
            ours[f"{case}dec_extrinsics"] = camera_from_world[..., :3, :]
            ours[f"{case}dec_intrinsics"] = intrinsics
    return ours


def _transforms(sevens: np.ndarray) -> Array:
    """4x4 matrices of (t, q xyzw)."""
    return se3.from_rotation_translation(_from_quat(jnp.asarray(sevens[..., 3:])), jnp.asarray(sevens[..., :3]))


def _seven(transforms: Array, theirs: np.ndarray) -> np.ndarray:
    """(t, q xyzw) with each quaternion's sign as in theirs."""
    quaternions = _same_quaternions(_to_quat(se3.rotation(transforms)), theirs[..., 3:])
    return np.concatenate([se3.translation(transforms), quaternions], axis=-1)


def _same_quaternions(ours: Array | np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """q or -q, whichever is nearer to theirs, row by row."""
    ours = np.asarray(ours)
    return np.where(np.sum(ours * theirs, axis=-1, keepdims=True) < 0, -ours, ours)


def _same_half_turns(ours: Array | np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """As `_same_quaternions` for half turns, whose sign is a convention; all others keep theirs."""
    half_turn = np.abs(theirs[..., 3:]) < 1e3 * np.finfo(theirs.dtype).eps
    return np.where(half_turn, _same_quaternions(ours, theirs), np.asarray(ours))


def _logarithms(transforms: Array, theirs: np.ndarray) -> Ours:
    """Tangents; at half a turn, where axis and -axis are one rotation, the one of the two that is theirs."""
    ours = np.asarray(_log(transforms))
    w = ours[..., 3:]
    angle = np.linalg.norm(w, axis=-1, keepdims=True)
    opposite = np.sum(w * theirs[..., 3:], axis=-1, keepdims=True) < 0
    flip = opposite & (np.abs(angle - np.pi) < 1e3 * np.finfo(theirs.dtype).eps)
    other = jnp.asarray(w * (1.0 - 2.0 * np.pi / np.where(angle == 0, 1.0, angle)).astype(w.dtype))
    moved = jnp.sum(_inverse_left_jacobian_so3(other) * se3.translation(transforms)[..., None, :], axis=-1)
    value = np.where(flip, np.concatenate([moved, other], axis=-1), ours)
    count = int(flip.sum())
    return Ours(value, note=f"half a turn: {count} of {len(ours)} with their sign of the axis" if count else "")
