"""golden/seed_loss: the multitask loss written in NumPy from its formulas, float64, against losses.multitask."""

import re
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from rig3r_jax.geometry import se3
from rig3r_jax.geometry.camera import Pinhole, pixel_centers
from rig3r_jax.geometry.raymap import points_at
from rig3r_jax.losses.ground_truth import GroundTruth, ground_truth, mean_depth
from rig3r_jax.losses.multitask import LossWeights, multitask_loss
from rig3r_jax.models.heads import points_and_confidence
from rig3r_jax.parity.compare import Comparison, Skipped
from rig3r_jax.parity.dump.folder import Archive, Dump
from rig3r_jax.parity.dump.rows import Ours, Results, compare_arrays
from rig3r_jax.schema import Predictions, Targets

INPUTS, OUTPUTS = "inputs.npz", "outputs.npz"
TERMS = {"pmap": "pointmap", "p_rmap": "pose_raymap", "r_rmap": "rig_raymap", "total": "total"}
PREDICTED = {  # our field: (the name of its values, the name of its gradient)
    "points": ("pred_pointmap", "X"),
    "confidence": ("pred_conf", "C"),
    "pose_directions": ("pred_pose_dirs", "r_pose"),
    "pose_center": ("pred_pose_center", "c_pose"),
    "rig_directions": ("pred_rig_dirs", "r_rig"),
    "rig_center": ("pred_rig_center", "c_rig"),
}
_VARIANT = re.compile(r"(sum|mean)(_center_inside|_raymask)?")
_DIFFERENCES = {"tolerance": 1e-6, "note": "central finite differences, h = 1e-6"}
_POINTS = "gt_pointmap"


def compare_folder(dump: Dump) -> Iterator[Comparison | Skipped]:
    """The ground truth made of depth and cameras, then every `<reading of z-bar>/<variant>` of the loss."""
    inputs, outputs = dump.needed(INPUTS), dump.needed(OUTPUTS)
    with jax.enable_x64(True):
        yield from compare_arrays(dump, INPUTS, _made_of_inputs(inputs))
        scale, _ = mean_depth(jnp.asarray(inputs["depth"]), jnp.asarray(inputs["mask"]))
        readings = dict.fromkeys(
            outputs.below("zbar/"), "another reading of z-bar than ours; an input of its losses here"
        )
        yield from compare_arrays(dump, OUTPUTS, readings | {"cam_z": scale}, "zbar/")
        points = {"": inputs[_POINTS]}
        if (clean := f"{_POINTS}_nan_at_invalid") in inputs:
            points[" (NaN where invalid)"] = inputs[clean]
        for case in dict.fromkeys("/".join(name.split("/")[:2]) for name in outputs if name.count("/") > 1):
            reading, variant = case.split("/")
            match = _VARIANT.fullmatch(variant)
            if match is None or match.groups() == ("mean", "_center_inside"):
                continue
            z_bar = scale if reading == "cam_z" else jnp.asarray(outputs[f"zbar/{reading}"])
            for label, points_of_case in points.items():
                ours = _case(inputs, _truth(inputs, z_bar, jnp.asarray(points_of_case)), *match.groups())
                yield from compare_arrays(dump, OUTPUTS, {name + label: x for name, x in ours.items()}, f"{case}/")


def _case(inputs: Archive, truth: GroundTruth, reduction: str, suffix: str | None) -> Results:
    """Our terms and gradients of one variant of the loss, by their names below the case."""
    alpha, beta, lambda_pose, lambda_rig = (float(inputs[name]) for name in ("alpha", "beta", "lambda_p", "lambda_r"))
    if suffix == "_center_inside":  # the centre's term once a ray rather than once a view
        beta *= truth.ray_mask[0, 0].size
    elif suffix == "_raymask":
        truth = truth.replace(ray_mask=jnp.asarray(inputs["raymask"]))
    predictions = Predictions(**{field: jnp.asarray(inputs[name]) for field, (name, _) in PREDICTED.items()})
    weights = LossWeights(alpha, beta, lambda_pose, lambda_rig, reduction)
    (_, metrics), gradients = _loss_and_gradients(predictions, truth, weights)
    ours = {theirs: metrics[f"loss/{name}"].compute() for theirs, name in TERMS.items()}
    for field, (_, name) in PREDICTED.items():
        ours[f"grad_total/{name}"] = Ours(getattr(gradients, field), **_DIFFERENCES)
        ours[f"grad_total_autograd/{name}"] = getattr(gradients, field)
    return ours


_loss_and_gradients = jax.jit(jax.value_and_grad(multitask_loss, has_aux=True), static_argnums=2)


def _truth(inputs: Archive, scale: Array, points: Array) -> GroundTruth:
    """The reference's own, divided by `scale`."""
    valid = jnp.asarray(inputs["mask"])
    return GroundTruth(
        points=points / scale[:, None, None, None, None],
        points_valid=valid,
        pose_directions=jnp.asarray(inputs["gt_pose_dirs"]),
        pose_center=jnp.asarray(inputs["gt_pose_center"]) / scale[:, None, None],
        rig_directions=jnp.asarray(inputs["gt_rig_dirs"]),
        rig_center=jnp.asarray(inputs["gt_rig_center"]) / scale[:, None, None],
        ray_mask=jnp.ones_like(valid),
        scale=scale,
        has_scale=jnp.ones(scale.shape, bool),
    )


def _made_of_inputs(inputs: Archive) -> Results:
    """Inputs that our code makes of other inputs: confidences; ray maps and points of depth and cameras."""
    ours: Results = {}
    if "pred_conf_raw" in inputs:
        raw = np.pad(inputs["pred_conf_raw"][..., None], [(0, 0)] * inputs["pred_conf_raw"].ndim + [(3, 0)])
        ours["pred_conf"] = points_and_confidence(jnp.asarray(raw))[1]
    cameras = ("K", "gt_pose_R_cam2ref", "gt_pose_center", "gt_rig_R_cam2rig", "gt_rig_center")
    if not all(name in inputs for name in cameras):
        return ours
    valid = jnp.asarray(inputs["mask"])
    intrinsics, *transforms = (jnp.asarray(inputs[name]) for name in cameras)
    lens, pixels = Pinhole(intrinsics), pixel_centers(*valid.shape[2:], intrinsics.dtype)
    depth = jnp.where(valid, jnp.asarray(inputs["depth"]), jnp.nan) / lens.rays(pixels)[..., 2]  # along the rays
    targets = Targets(
        depth=depth,
        valid=valid,
        reference_from_camera=se3.from_rotation_translation(*transforms[:2]),
        rig_from_camera=se3.from_rotation_translation(*transforms[2:]),
        intrinsics=jnp.broadcast_to(intrinsics, (*depth.shape[:2], 3, 3)),
        camera_index=jnp.zeros(depth.shape[:2], int),
        time=jnp.zeros(depth.shape[:2]),
    )
    identity = jnp.broadcast_to(jnp.eye(4), targets.reference_from_camera.shape)
    truth = ground_truth(targets, jnp.ones_like(valid), depth.shape[2:], depth.shape[2:])
    points = truth.points * truth.scale[:, None, None, None, None]
    points_camera = points_at(depth, pixels, Pinhole(targets.intrinsics), identity)

    def where_valid(points: Array) -> Ours:
        return Ours(lambda theirs: np.where(valid[..., None], points, theirs), note="where depth is valid")

    return ours | {
        _POINTS: where_valid(points),
        "gt_pointmap_cam": where_valid(points_camera),
        f"{_POINTS}_nan_at_invalid": np.where(valid[..., None], points, np.nan),
        "gt_pose_dirs": truth.pose_directions,
        "gt_rig_dirs": truth.rig_directions,
    }
