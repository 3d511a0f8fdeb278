"""golden/pose_metrics: ray maps and cameras of them, alignment, pair errors, point clouds and clusters, float64."""

import re
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rig3r_jax.evaluation import points, pose, rig
from rig3r_jax.geometry import align, recover, se3
from rig3r_jax.geometry.camera import Pinhole
from rig3r_jax.geometry.raymap import raymap
from rig3r_jax.parity.compare import Comparison, Skipped
from rig3r_jax.parity.dump.folder import Archive, Dump
from rig3r_jax.parity.dump.rows import Ours, compare_arrays

RAYS, UMEYAMA, PAIRS, CLOUDS, CLUSTERS = (f"{n}.npz" for n in "rays umeyama rra_rta_auc pointcloud clusters".split())
_ANGLE_FLOOR = 1e-4 * 180.0  # degrees; errors of perfect poses are rounding
_ARCCOS = {
    "tolerance": 1e-7,
    "floor": 180.0,
    "note": "their arccos loses half of the digits near 0: against 180 degrees",
}
# Arrays of rays.npz that nothing of ours corresponds to.
_NO_COUNTERPART = {
    r"(fit|dlt)_.*": "focal lengths about a known principal point, and DLT; ours take the image's centre",
    r"centers_(mean|median|ray_intersection)|centers_per_pixel_noisy": "our ray maps carry one centre a view",
    r"plucker_moment_half": "our ray maps carry a centre, not moments",
}

# Compiled whole: op by op, each of hundreds of operations would compile for itself.
_umeyama = jax.jit(align.umeyama, static_argnames=("with_scale",))
_raymap = jax.jit(raymap, static_argnums=(2, 3, 4, 5))
_recover_rotation = jax.jit(recover.recover_rotation, static_argnames=("height", "width"))


def compare_folder(dump: Dump, tolerance: float | None) -> Iterator[Comparison | Skipped]:
    """The five files, those that are there."""
    parts = {RAYS: _rays, UMEYAMA: _similarities, PAIRS: _pairs, CLOUDS: _clouds, CLUSTERS: _clusters}
    for file, part in parts.items():
        archive = dump.arrays(file)
        if archive is None:
            continue
        with jax.enable_x64(True):
            yield from compare_arrays(dump, file, part(archive), tolerance)
        for name in archive.unread:
            if file == CLOUDS and "/nn_" in name:
                yield Skipped(f"{file}/{name}", "numbers of the nearest points; ours returns their distances")
            for pattern, reason in _NO_COUNTERPART.items() if file == RAYS else ():
                if re.fullmatch(pattern, name):
                    yield Skipped(f"{file}/{name}", reason)


def _rays(archive: Archive) -> dict[str, Any]:
    """Ray maps of cameras, for pixel centres at +0.5 and, shifted, at integers; and cameras of ray maps."""
    height, width = int(archive["H"]), int(archive["W"])
    intrinsics, world_from_camera = jnp.asarray(archive["K"]), jnp.asarray(archive["T_cam2world"])
    first_from_camera = align.to_first_view(world_from_camera)
    maps = _raymap(first_from_camera, intrinsics, height, width, height, width)
    ours: dict[str, Any] = {
        "R_cam2world": se3.rotation(world_from_camera),
        "centers": se3.translation(world_from_camera),
        "T_world2cam": se3.inverse(world_from_camera),
        "T_cam2ref0": first_from_camera,
        "dirs_half_ref0": maps[0],
        "centers_ref0": maps[1],
    }
    for name, shift in (("half", 0.0), ("int", 0.5)):
        # A pixel at integer u is our pixel at u + 0.5 of a camera whose principal point lies half a pixel further.
        shifted = Pinhole(intrinsics).crop(-shift, -shift).intrinsics
        ours[f"dirs_{name}"] = _raymap(world_from_camera, shifted, height, width, height, width)[0]
        for noise in ("", "_noisy"):
            if f"dirs_{name}{noise}" in archive:
                directions = jnp.asarray(archive[f"dirs_{name}{noise}"])
                ours[f"kabsch_R_{name}{noise}"] = _recover_rotation(directions, shifted, height, width)
    return ours


def _similarities(archive: Archive) -> dict[str, Any]:
    """Umeyama's fit of every case with `src`; `dst_noisy` where the fit's name ends so."""
    ours: dict[str, Any] = {}
    for case in [name.removesuffix("src") for name in archive if name.endswith("/src")]:
        source = archive[f"{case}src"]
        fits = {f"{case}{fit}/" for fit in ("sim3", "se3", "sim3_noisy", "se3_noisy")} | {case}
        for prefix in sorted(fits):
            if f"{prefix}R" not in archive:
                continue
            target = archive[f"{case}dst_noisy" if "noisy" in prefix else f"{case}dst"]
            fit = _umeyama(jnp.asarray(source), jnp.asarray(target), with_scale="se3" not in prefix)
            moved = np.asarray(fit.scale) * source @ np.asarray(fit.rotation).T + fit.translation
            error = np.linalg.norm(moved - target, axis=-1)
            rmse = Ours(np.sqrt(np.mean(error**2)), floor=1e-4 * float(np.abs(target).max()))
            ours |= {f"{prefix}R": fit.rotation, f"{prefix}t": fit.translation, f"{prefix}s": fit.scale}
            ours |= {f"{prefix}rmse": rmse, f"{prefix}detR": np.linalg.det(fit.rotation)}
            if prefix in (f"{case}sim3/", case):  # without noise the truth is found
                ours |= {f"{case}true_R": fit.rotation, f"{case}true_t": fit.translation, f"{case}true_s": fit.scale}
    return ours


def _pairs(archive: Archive) -> dict[str, Any]:
    """Errors of relative poses and the rates over them, of every case with `gt_w2c`."""
    ours: dict[str, Any] = {}
    for case in [name.removesuffix("gt_w2c") for name in archive if name.endswith("/gt_w2c")]:
        predicted, true = (np.asarray(se3.inverse(jnp.asarray(archive[f"{case}{x}_w2c"]))) for x in ("pred", "gt"))
        errors = pose.relative_pose_errors(predicted, true)
        rotation, unfolded = errors.rotation_deg, errors.direction_deg
        folded = np.minimum(unfolded, 180.0 - unfolded)
        found = {
            "pairs": np.stack([errors.i, errors.j], axis=-1),
            "rel_rot_deg_exact": Ours(rotation, floor=_ANGLE_FLOOR),
            "rel_trans_deg_exact": Ours(folded, floor=_ANGLE_FLOOR),
            "rel_rot_deg": Ours(rotation, **_ARCCOS),
            "rel_trans_deg": Ours(folded, **_ARCCOS),
            "rel_trans_deg_signed": Ours(unfolded, **_ARCCOS),
        }
        for name in archive.below(case):
            if match := re.fullmatch(r"(RRA|RTA|RTA_signed|AUC)@(\d+)", name):
                kind, limit = match[1], int(match[2])
                error = {"RRA": rotation, "RTA": folded, "RTA_signed": unfolded}.get(kind)
                found[name] = _area(limit, rotation, folded) if error is None else np.mean(error < limit)
        summary = pose.summarize(errors, min_baseline=0.0)
        for theirs, name in {"RRA@{}": "RRA{}", "RTA@{}": "RTA{}", "RTA_signed@{}": "RTA{}_unfolded"}.items():
            found |= {theirs.format(limit): summary[name.format(limit)] / 100 for limit in (5, 15)}
        found["mAA30_joint"] = summary["mAA30"] / 100
        found["mAA30_min_of_RRA_RTA"] = np.mean(
            [min(np.mean(rotation < limit), np.mean(folded < limit)) for limit in range(1, 31)]
        )
        ours |= {case + name: value for name, value in found.items()}
    return ours


def _area(limit: int, rotation: np.ndarray, direction: np.ndarray) -> float:
    """Mean over t = 1..limit of the fraction of pairs with both errors below t degrees."""
    return float(np.mean(np.maximum(rotation, direction)[:, None] < np.arange(1, limit + 1)))


def _clouds(archive: Archive) -> dict[str, Any]:
    """Distances between two clouds, of every case with `gt`."""
    ours: dict[str, Any] = {}
    for case in [name.removesuffix("gt") for name in archive if name.endswith("/gt")]:
        predicted, true = archive[f"{case}pred"], archive[f"{case}gt"]
        forth, back = points.nearest_distances(predicted, true), points.nearest_distances(true, predicted)
        found = {
            "dist_pred2gt": forth,
            "dist_gt2pred": back,
            "acc_mean": points.accuracy(predicted, true),
            "comp_mean": points.completeness(predicted, true),
            "acc_median": np.median(forth),
            "comp_median": np.median(back),
            "chamfer_avg": points.chamfer(predicted, true),
            "chamfer_sum": 2 * points.chamfer(predicted, true),
            "chamfer_sq_sum": np.mean(forth**2) + np.mean(back**2),
        }
        for limit in {name.split("@")[1] for name in archive.below(case) if "@" in name}:
            scores = points.fscore(predicted, true, float(limit))
            found |= {f"{name}@{limit}": value for name, value in scores.items()}
        ours |= {case + name: value for name, value in found.items()}
    return ours


def _clusters(archive: Archive) -> dict[str, Any]:
    """Agreement of two labellings, of every case with `gt`."""
    ours: dict[str, Any] = {}
    for case in [name.removesuffix("gt") for name in archive if name.endswith("/gt")]:
        labels, truth = archive[f"{case}pred"], archive[f"{case}gt"]
        ours[f"{case}confusion_pred_gt"] = rig.match_cameras(labels, truth)[1]
        ours[f"{case}hungarian_accuracy"] = rig.rig_id_accuracy(labels, truth)
        ours[f"{case}ari"] = rig.adjusted_rand_index(labels, truth)
    return ours
