"""golden/lie: rotations, SE(3) windows and the pose encoding against pypose and 60-digit values."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from rig3r_jax.geometry import pose_encoding, residual, se3, so3
from rig3r_jax.parity.compare import Comparison, Skipped
from rig3r_jax.parity.dump.folder import Archive, Dump
from rig3r_jax.parity.dump.quaternions import from_quat, same_sign, sevens, to_quat
from rig3r_jax.parity.dump.rows import Ours, Results, cases, compare_arrays

FILE, QUATERNIONS, ENCODINGS = "se3.npz", "quat.npz", "pose_encoding.npz"
TAGS = {"f64": np.float64, "f32": np.float32}
# pypose divides differences such as 1 - cos(angle) by powers of the angle, and loses digits where it is small.
SMALL_ANGLE = 0.1
_CANCELLATION = {"f64": 2e-8, "f32": 2e-4}  # about the root of the rounding, the most that the first order can lose
_LOSES = "pypose's Exp and Jl lose digits at small angles"
_SECOND_ORDER = f"below {SMALL_ANGLE} rad pypose's second-order terms cancel to nothing"
_NOT_COMPARED = {
    "names": "labels of rows",
    "edge_names": "labels of rows",
    "win_scale": "an input: the factors on the predicted translations",
}

# Compiled whole: op by op, each of hundreds of operations would compile for itself.
_exp, _log, _inverse, _adjoint = (jax.jit(f) for f in (se3.exp, se3.log, se3.inverse, se3.adjoint))
_left_jacobian_so3, _inverse_left_jacobian_so3 = jax.jit(so3.left_jacobian), jax.jit(so3.inverse_left_jacobian)
_left_jacobian_se3, _inverse_left_jacobian_se3 = jax.jit(se3.left_jacobian), jax.jit(se3.inverse_left_jacobian)
_scaled_residual, _relative = jax.jit(residual.scaled_residual), jax.jit(residual.relative_to_first)
_encode, _decode = (
    jax.jit(f, static_argnames=("height", "width")) for f in (pose_encoding.encode, pose_encoding.decode)
)


def compare_folder(dump: Dump) -> Iterator[Comparison | Skipped]:
    """se3.npz, quat.npz and pose_encoding.npz, those that are there."""
    for tag in TAGS:
        parts = (
            (FILE, "xi", _exponential),
            (FILE, f"exp_{tag}", _group),
            (FILE, "edge_T", _edges),
            (QUATERNIONS, "", _quaternions),
            (ENCODINGS, "", _encodings),
        )
        if tag == "f64":
            parts = ((FILE, "xi", _exact), (FILE, "win_pose_enc", _windows), *parts)
        with jax.enable_x64(tag == "f64"):
            for file, needed, part in parts:
                archive = dump.arrays(file)
                if archive is not None and (not needed or needed in archive):
                    yield from compare_arrays(dump, file, part(archive, tag))
    yield from compare_arrays(dump, FILE, _NOT_COMPARED)


def _exact(archive: Archive, tag: str) -> Results:
    """Our float64 against values computed with 60 digits."""
    xi = jnp.asarray(archive["xi"])
    transforms = _exp(xi)
    rotations = se3.rotation(transforms)
    ours = {
        "exact_t": se3.translation(transforms),
        "exact_R": rotations,
        "exact_V": _left_jacobian_so3(xi[:, 3:]),
        "exact_Vinv": _inverse_left_jacobian_so3(xi[:, 3:]),
        "exact_q": Ours(lambda theirs: same_sign(to_quat(rotations), theirs)),
    }
    if "exact_R" in archive and "exact_t" in archive:
        exact = se3.from_rotation_translation(jnp.asarray(archive["exact_R"]), jnp.asarray(archive["exact_t"]))
        ours["xi"] = _logarithms(exact)
    return ours


def _exponential(archive: Archive, tag: str) -> Results:
    """Exp and the Jacobians of the tangents `xi`; where pypose loses digits, rows of small angles apart."""
    xi = jnp.asarray(archive["xi"].astype(TAGS[tag]))
    small = np.linalg.norm(archive["xi"][:, 3:], axis=-1) < SMALL_ANGLE
    results = {
        "exp": sevens(_exp(xi)).value,
        "so3_Jl": _left_jacobian_so3(xi[:, 3:]),
        "se3_Jl": _left_jacobian_se3(xi),
        "se3_Jl_inv": _inverse_left_jacobian_se3(xi),
    }
    ours: Results = {f"so3_Jl_inv_{tag}": _inverse_left_jacobian_so3(xi[:, 3:])}
    for name, value in results.items():
        ours[f"{name}_{tag} (large angles)"] = Ours(value, rows=~small)
        if not name.startswith("se3_"):
            ours[f"{name}_{tag} (small angles)"] = Ours(value, _CANCELLATION[tag], _LOSES, rows=small)
        elif small.any():
            ours[f"{name}_{tag} (small angles)"] = _SECOND_ORDER
    return ours


def _group(archive: Archive, tag: str) -> Results:
    """Matrix, inverse, product, adjoint and logarithms of the transforms exp_*, as pypose left them."""
    left = archive[f"exp_{tag}"]
    transforms = _transforms(left)
    products = se3.compose(transforms, jnp.roll(transforms, -1, axis=0))
    negated = left * np.array([1, 1, 1, -1, -1, -1, -1], left.dtype)
    ours = {
        "matrix": transforms,
        "adj": _adjoint(transforms),
        "inv": sevens(_inverse(transforms)),
        "compose_next": sevens(products),
        "log_exp": _logarithms(transforms),
        "log_negq": _logarithms(_transforms(negated)),
        "log_compose_next": _logarithms(products),
    }
    return {f"{name}_{tag}": row for name, row in ours.items()}


def _edges(archive: Archive, tag: str) -> Results:
    return {f"edge_log_{tag}": _logarithms(_transforms(archive["edge_T"].astype(TAGS[tag])))}


def _windows(archive: Archive, tag: str) -> Results:
    """Windows of cameras: relative to their first one, scaled, and their residuals."""
    camera_from_world = _decode(jnp.asarray(archive["win_pose_enc"]), 1, 1)[0]  # (truth and prediction, b v 4 4)
    relative = _relative(camera_from_world)
    ours = {
        "win_cam_pos_rel": se3.translation(relative),
        "win_T_cam_world": sevens(camera_from_world),
        "win_T_cam0_cami": sevens(relative),
    }
    if "win_scale" in archive:
        scale = jnp.asarray(archive["win_scale"])
        ours["win_T_scaled"] = sevens(residual.scale_translation(relative[1], scale))
        ours["win_residual"] = _scaled_residual(relative[1], relative[0], scale)
    return ours


def _quaternions(archive: Archive, tag: str) -> Results:
    """Rotation matrices of quaternions of any length, and back."""
    ours: Results = {}
    for kind in ("unit", "unnorm"):
        if f"q_{kind}" in archive:
            ours[f"mat_from_{kind}_{tag}"] = from_quat(jnp.asarray(archive[f"q_{kind}"].astype(TAGS[tag])))
    if (matrices := f"mat_from_unit_{tag}") in archive:
        unit = to_quat(jnp.asarray(archive[matrices]))
        note = "w >= 0; half turns by their own sign"
        ours[f"quat_from_mat_{tag}"] = Ours(lambda theirs: _same_half_turns(unit, theirs), note=note)
        if tag == "f64":  # rounded, so that of equal components the first counts as the largest
            wxyz = np.round(np.abs(np.roll(np.asarray(unit), 1, axis=-1)), 12)
            ours["branch_argmax_wxyz"] = np.argmax(wxyz, axis=-1)
    if "mat_noisy" in archive:
        noisy = to_quat(jnp.asarray(archive["mat_noisy"].astype(TAGS[tag])))
        ours[f"quat_from_mat_noisy_{tag}"] = Ours(
            lambda theirs: _same_half_turns(noisy, theirs) * np.linalg.norm(theirs, axis=-1, keepdims=True),
            note="ours are unit: times the length of theirs",
        )
    return ours


def _encodings(archive: Archive, tag: str) -> Results:
    """Nine numbers of cameras, and cameras of nine numbers, for every image size `<case>_hw`."""
    ours: Results = {}
    for case in cases(archive, "_hw"):
        height, width = (int(size) for size in archive[f"{case}_hw"])
        if (name := f"{case}_enc_{tag}") in archive:
            upper = archive[f"{case}_extrinsics"].astype(TAGS[tag])
            camera_from_world = se3.from_rotation_translation(jnp.asarray(upper[..., :3]), jnp.asarray(upper[..., 3]))
            intrinsics = jnp.asarray(archive[f"{case}_intrinsics"].astype(TAGS[tag]))
            encoding = np.array(_encode(camera_from_world, intrinsics, height, width))
            encoding[..., 3:7] = _same_half_turns(encoding[..., 3:7], archive[name][..., 3:7])
            ours[name] = encoding
        if tag == "f64" and f"{case}_dec_in" in archive:
            camera_from_world, intrinsics = _decode(jnp.asarray(archive[f"{case}_dec_in"]), height, width)
            ours[f"{case}_dec_extrinsics"] = camera_from_world[..., :3, :]
            ours[f"{case}_dec_intrinsics"] = intrinsics
    return ours


def _transforms(left: np.ndarray) -> Array:
    """4x4 matrices of (t, q xyzw)."""
    return se3.from_rotation_translation(from_quat(jnp.asarray(left[..., 3:])), jnp.asarray(left[..., :3]))


def _same_half_turns(ours: Array | np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Half turns with their sign, which is a convention; all other quaternions as they are."""
    half_turn = np.abs(theirs[..., 3:]) < 1e3 * np.finfo(theirs.dtype).eps
    return np.where(half_turn, same_sign(ours, theirs), np.asarray(ours))


def _logarithms(transforms: Array) -> Ours:
    """Tangents; at half a turn, where axis and -axis are one rotation, the one of the two that is theirs."""

    def value(theirs: np.ndarray) -> np.ndarray:
        ours = np.asarray(_log(transforms))
        w = ours[..., 3:]
        angle = np.linalg.norm(w, axis=-1, keepdims=True)
        opposite = np.sum(w * theirs[..., 3:], axis=-1, keepdims=True) < 0
        flip = opposite & (np.abs(angle - np.pi) < 1e3 * np.finfo(theirs.dtype).eps)
        other = jnp.asarray(w * (1.0 - 2.0 * np.pi / np.where(angle == 0, 1.0, angle)).astype(w.dtype))
        moved = jnp.sum(_inverse_left_jacobian_so3(other) * se3.translation(transforms)[..., None, :], axis=-1)
        return np.where(flip, np.concatenate([moved, other], axis=-1), ours)

    return Ours(value, note="half turns with their sign of the axis")
