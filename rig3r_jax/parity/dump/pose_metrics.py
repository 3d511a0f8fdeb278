"""golden/pose_metrics: ray maps and cameras of them, alignment, pair errors, point clouds and clusters, float64."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from rig3r_jax.evaluation import points, pose, rig
from rig3r_jax.geometry import align, recover, se3
from rig3r_jax.geometry.camera import Pinhole
from rig3r_jax.geometry.raymap import raymap
from rig3r_jax.parity.compare import Comparison, Skipped
from rig3r_jax.parity.dump.folder import Archive, Dump
from rig3r_jax.parity.dump.rows import Ours, Results, cases, compare_arrays, left_out

RAYS, UMEYAMA, PAIRS, CLOUDS, CLUSTERS = (f"{n}.npz" for n in "rays umeyama rra_rta_auc pointcloud clusters".split())
_ANGLE_FLOOR = 1e-4 * 180.0  # degrees; errors of perfect poses are rounding
_ARCCOS = {
    "tolerance": 1e-7,
    "floor": 180.0,
    "note": "their arccos loses half of the digits near 0: against 180 degrees",
}
_NO_COUNTERPART = {
    r"rays\.npz/(fit|dlt)_.*": "focal lengths about a known principal point, and DLT; ours take the image's centre",
    r"rays\.npz/centers_(mean|median|ray_intersection|per_pixel_noisy)": "our ray maps carry one centre a view",
    r"rays\.npz/plucker_moment_half": "our ray maps carry a centre, not moments",
    r"pointcloud\.npz/.*/nn_.*": "numbers of the nearest points; ours returns their distances",
}

# Compiled whole: op by op, each of hundreds of operations would compile for itself.
_umeyama = jax.jit(align.umeyama, static_argnames=("with_scale",))
_raymap = jax.jit(raymap, static_argnums=(2, 3, 4, 5))
_recover_rotation = jax.jit(recover.recover_rotation, static_argnames=("height", "width"))


def compare_folder(dump: Dump) -> Iterator[Comparison | Skipped]:
    """The five files, those that are there."""
    parts = {RAYS: _rays, UMEYAMA: _similarities, PAIRS: _pairs, CLOUDS: _clouds, CLUSTERS: _clusters}
    for file, part in parts.items():
        if (archive := dump.arrays(file)) is not None:
            with jax.enable_x64(True):
                yield from compare_arrays(dump, file, part(archive))
    yield from left_out(dump, _NO_COUNTERPART)


def _rays(archive: Archive) -> Results:
    """Ray maps of cameras, for pixel centres at +0.5 and, shifted, at integers; and cameras of ray maps."""
    height, width = int(archive["H"]), int(archive["W"])
    intrinsics, world_from_camera = jnp.asarray(archive["K"]), jnp.asarray(archive["T_cam2world"])
    first_from_camera = align.to_first_view(world_from_camera)
    maps = _raymap(first_from_camera, Pinhole(intrinsics), height, width, height, width)
    ours: Results = {
        "R_cam2world": se3.rotation(world_from_camera),
        "centers": se3.translation(world_from_camera),
        "T_world2cam": se3.inverse(world_from_camera),
        "T_cam2ref0": first_from_camera,
        "dirs_half_ref0": maps[0],
        "centers_ref0": maps[1],
    }
    for name, shift in (("half", 0.0), ("int", 0.5)):
        # A pixel at integer u is our pixel at u + 0.5 of a camera whose principal point lies half a pixel further.
        shifted = Pinhole(intrinsics).crop(-shift, -shift)
        ours[f"dirs_{name}"] = _raymap(world_from_camera, shifted, height, width, height, width)[0]
        for noise in ("", "_noisy"):
            if f"dirs_{name}{noise}" in archive:
                directions = jnp.asarray(archive[f"dirs_{name}{noise}"])
                ours[f"kabsch_R_{name}{noise}"] = _recover_rotation(directions, shifted, height, width)
    return ours


def _similarities(archive: Archive) -> Results:
    """Umeyama's fit of every case with `src`; `dst_noisy` where the fit's name ends so."""
    ours: Results = {}
    for case in cases(archive, "/src"):
        source = archive[f"{case}/src"]
        for fit_name in ("", "sim3/", "se3/", "sim3_noisy/", "se3_noisy/"):
            if f"{case}/{fit_name}R" not in archive:
                continue
            target = archive[f"{case}/dst_noisy" if "noisy" in fit_name else f"{case}/dst"]
            fit = _umeyama(jnp.asarray(source), jnp.asarray(target), with_scale="se3" not in fit_name)
            error = np.linalg.norm(fit.scale * source @ np.asarray(fit.rotation).T + fit.translation - target, axis=-1)
            parts = {"R": fit.rotation, "t": fit.translation, "s": fit.scale}
            if fit_name in ("", "sim3/"):  # without noise the truth is found
                ours |= {f"{case}/true_{name}": value for name, value in parts.items()}
            parts["rmse"] = Ours(np.sqrt(np.mean(error**2)), floor=1e-4 * float(np.abs(target).max()))
            parts["detR"] = np.linalg.det(fit.rotation)
            ours |= {f"{case}/{fit_name}{name}": value for name, value in parts.items()}
    return ours


def _pairs(archive: Archive) -> Results:
    """Errors of relative poses and the rates over them, of every case with `gt_w2c`."""
    ours: Results = {}
    for case in cases(archive, "/gt_w2c"):
        predicted, true = (np.asarray(se3.inverse(jnp.asarray(archive[f"{case}/{x}_w2c"]))) for x in ("pred", "gt"))
        errors = pose.relative_pose_errors(predicted, true)
        rotation, unfolded = errors.rotation_deg, errors.direction_deg
        folded = np.minimum(unfolded, 180.0 - unfolded)
        summary = pose.summarize(errors, min_baseline=0.0)
        results = {
            "pairs": np.stack([errors.i, errors.j], axis=-1),
            "rel_rot_deg_exact": Ours(rotation, floor=_ANGLE_FLOOR),
            "rel_trans_deg_exact": Ours(folded, floor=_ANGLE_FLOOR),
            "rel_rot_deg": Ours(rotation, **_ARCCOS),
            "rel_trans_deg": Ours(folded, **_ARCCOS),
            "rel_trans_deg_signed": Ours(unfolded, **_ARCCOS),
            "mAA30_joint": summary["mAA30"] / 100,
            "mAA30_min_of_RRA_RTA": np.mean([min(np.mean(x < t) for x in (rotation, folded)) for t in range(1, 31)]),
        }
        for limit in {int(name.split("@")[1]) for name in archive.below(f"{case}/") if "@" in name}:
            results[f"AUC@{limit}"] = np.mean(np.maximum(rotation, folded)[:, None] < np.arange(1, limit + 1))
            for name, error in {"RRA": rotation, "RTA": folded, "RTA_signed": unfolded}.items():
                results[f"{name}@{limit}"] = np.mean(error < limit)
        for name, row in {"RRA@{}": "RRA{}", "RTA@{}": "RTA{}", "RTA_signed@{}": "RTA{}_unfolded"}.items():
            results |= {name.format(limit): summary[row.format(limit)] / 100 for limit in (5, 15)}
        ours |= {f"{case}/{name}": value for name, value in results.items()}
    return ours


def _clouds(archive: Archive) -> Results:
    """Distances between two clouds, of every case with `gt`."""
    ours: Results = {}
    for case in cases(archive, "/gt"):
        predicted, true = archive[f"{case}/pred"], archive[f"{case}/gt"]
        forth, back = points.nearest_distances(predicted, true), points.nearest_distances(true, predicted)
        results = {
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
        for limit in {name.split("@")[1] for name in archive.below(f"{case}/") if "@" in name}:
            results |= {f"{name}@{limit}": x for name, x in points.fscore(predicted, true, float(limit)).items()}
        ours |= {f"{case}/{name}": value for name, value in results.items()}
    return ours


def _clusters(archive: Archive) -> Results:
    """Agreement of two labellings, of every case with `gt`."""
    ours: Results = {}
    for case in cases(archive, "/gt"):
        labels, truth = archive[f"{case}/pred"], archive[f"{case}/gt"]
        ours[f"{case}/confusion_pred_gt"] = rig.match_cameras(labels, truth)[1]
        ours[f"{case}/hungarian_accuracy"] = rig.rig_id_accuracy(labels, truth)
        ours[f"{case}/ari"] = rig.adjusted_rand_index(labels, truth)
    return ours
