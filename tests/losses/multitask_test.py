"""The multitask loss against the seed's formulas in numpy, and its laws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rig3r_jax.losses.ground_truth import GroundTruth, ground_truth
from rig3r_jax.losses.mean import Mean
from rig3r_jax.losses.multitask import Counts, LossWeights, angle_deg, multitask_loss
from rig3r_jax.schema import Predictions, Targets

FIELDS = {
    "X": "points",
    "C": "confidence",
    "r_pose": "pose_directions",
    "c_pose": "pose_center",
    "r_rig": "rig_directions",
    "c_rig": "rig_center",
}


def _matrix(rotation, center):
    a_from_b = np.tile(np.eye(4), (*rotation.shape[:2], 1, 1))
    a_from_b[..., :3, :3], a_from_b[..., :3, 3] = rotation, center
    return a_from_b


@pytest.fixture
def golden(shared):
    """(predictions, targets, ray mask, weights, outputs) of golden/seed_loss as float64 numpy."""
    x = np.load(shared / "golden/seed_loss/inputs.npz")
    predictions = Predictions(
        x["pred_pointmap"],
        x["pred_conf"],
        x["pred_pose_dirs"],
        x["pred_pose_center"],
        x["pred_rig_dirs"],
        x["pred_rig_center"],
    )
    v, u = np.mgrid[: x["mask"].shape[2], : x["mask"].shape[3]] + 0.5
    lengths = np.linalg.norm(np.stack([u, v, np.ones_like(u)], axis=-1) @ np.linalg.inv(x["K"]).T, axis=-1)
    depth = np.where(x["mask"], x["depth"] * lengths, np.nan)  # theirs is along the cameras' axes
    zeros = np.zeros(depth.shape[:2])
    targets = Targets(
        depth=depth,
        valid=x["mask"],
        reference_from_camera=_matrix(x["gt_pose_R_cam2ref"], x["gt_pose_center"]),
        rig_from_camera=_matrix(x["gt_rig_R_cam2rig"], x["gt_rig_center"]),
        intrinsics=np.tile(x["K"], (*depth.shape[:2], 1, 1)),
        camera_index=zeros.astype(int),
        time=zeros,
    )
    names = {"alpha": "alpha", "beta": "beta", "lambda_pose": "lambda_p", "lambda_rig": "lambda_r"}
    weights = {key: float(x[name]) for key, name in names.items()}
    return predictions, targets, x["raymask"], weights, np.load(shared / "golden/seed_loss/outputs.npz")


@pytest.mark.parametrize("case", ["cam_z/sum", "cam_z/mean", "cam_z/sum_raymask", "cam_z/mean_raymask"])
def test_golden_seed_loss_values_and_gradients(golden, case):
    numpy_predictions, numpy_targets, ray_mask, weights, outputs = golden
    weights = LossWeights(**weights, reduction=case.split("/")[1].split("_")[0])
    with jax.enable_x64(True):
        predictions, targets = jax.tree.map(jnp.asarray, (numpy_predictions, numpy_targets))
        truth = ground_truth(targets, jnp.ones_like(targets.valid), (4, 5), (4, 5))
        np.testing.assert_allclose(truth.scale, outputs["zbar/cam_z"], rtol=1e-12)
        if case.endswith("raymask"):
            truth = truth.replace(ray_mask=jnp.asarray(ray_mask))

        def loss(predictions):
            return multitask_loss(predictions, truth, weights)

        (total, metrics), grads = jax.value_and_grad(loss, has_aux=True)(predictions)
        for key, name in {
            "pmap": "pointmap",
            "p_rmap": "pose_raymap",
            "r_rmap": "rig_raymap",
            "total": "total",
        }.items():
            np.testing.assert_allclose(metrics[f"loss/{name}"].compute(), outputs[f"{case}/{key}"], rtol=1e-9)
        np.testing.assert_allclose(total, outputs[f"{case}/total"], rtol=1e-9)
        for key, name in FIELDS.items():
            np.testing.assert_allclose(
                getattr(grads, name), outputs[f"{case}/grad_total_autograd/{key}"], rtol=1e-9, atol=1e-9
            )


def _random(seed=0, batch=4, views=3, size=8):
    rng = np.random.default_rng(seed)
    directions = rng.normal(size=(2, batch, views, size, size, 3)).astype(np.float32)
    truth = GroundTruth(
        points=rng.normal(size=(batch, views, size, size, 3)),
        points_valid=rng.random((batch, views, size, size)) < 0.6,
        pose_directions=directions[0] / np.linalg.norm(directions[0], axis=-1, keepdims=True),
        pose_center=rng.normal(size=(batch, views, 3)),
        rig_directions=directions[1] / np.linalg.norm(directions[1], axis=-1, keepdims=True),
        rig_center=rng.normal(size=(batch, views, 3)),
        ray_mask=rng.random((batch, views, size, size)) < 0.8,
        scale=rng.uniform(1, 9, batch),
        has_scale=np.array([True] * (batch - 1) + [False]),
    )
    noise = rng.normal(size=(2, batch, views, size, size, 3))
    predictions = Predictions(
        truth.points + noise[0], rng.uniform(1, 3, (batch, views, size, size)), directions[0], truth.pose_center + 0.1,
        directions[1] + noise[1], truth.rig_center - 0.2,
    )  # fmt: skip
    return jax.tree.map(
        lambda x: jnp.asarray(x, jnp.float32) if x.dtype.kind == "f" else jnp.asarray(x), (predictions, truth)
    )


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_parts_of_a_batch_add_up_to_the_whole(reduction):
    predictions, truth = _random()
    weights = LossWeights(reduction=reduction)
    whole, _ = multitask_loss(predictions, truth, weights)
    counts = Counts.of(truth, reduction)
    parts = [
        multitask_loss(*jax.tree.map(lambda x, part=part: x[part : part + 1], (predictions, truth)), weights, counts)[0]
        for part in range(4)
    ]
    np.testing.assert_allclose(sum(parts), whole, rtol=1e-6)


def test_invalid_pixels_change_neither_value_nor_gradient():
    targets = Targets(
        depth=jnp.array([[[[2.0, 3.0], [4.0, 5.0]]]]),
        valid=jnp.array([[[[True, True], [True, False]]]]),
        reference_from_camera=jnp.eye(4)[None, None],
        rig_from_camera=jnp.eye(4)[None, None],
        intrinsics=jnp.array([[[[1.0, 0, 1], [0, 1, 1], [0, 0, 1]]]]),
        camera_index=jnp.zeros((1, 1), int),
        time=jnp.zeros((1, 1)),
    )
    mask = jnp.ones((1, 1, 2, 2), bool)

    def loss(points, targets):
        truth = ground_truth(targets, mask, (2, 2), (2, 2))
        predictions = Predictions(
            points,
            jnp.full((1, 1, 2, 2), 1.5),
            truth.pose_directions,
            truth.pose_center,
            truth.rig_directions,
            truth.rig_center,
        )
        return multitask_loss(predictions, truth, LossWeights())[0]

    points = jax.random.normal(jax.random.key(0), (1, 1, 2, 2, 3))
    for bad in (jnp.nan, jnp.inf, 1e30):
        spoiled = targets.replace(depth=targets.depth.at[0, 0, 1, 1].set(bad))
        value, gradient = jax.value_and_grad(loss)(points, spoiled)
        expected, expected_gradient = jax.value_and_grad(loss)(points, targets)
        assert value == expected
        np.testing.assert_array_equal(gradient, expected_gradient)
        assert not gradient[0, 0, 1, 1].any()


def test_sample_without_depth_weighs_nothing_in_points_and_centres():
    predictions, truth = _random()
    truth = truth.replace(points_valid=truth.points_valid.at[-1].set(False))

    def loss(predictions):
        return multitask_loss(predictions, truth, LossWeights())[0]

    grads = jax.grad(loss)(predictions)
    assert not grads.points[-1].any() and not grads.pose_center[-1].any() and not grads.rig_center[-1].any()
    assert grads.pose_directions[-1].any() and grads.pose_center[0].any()


def test_metrics_in_degrees_and_metres():
    predictions, truth = _random()
    turned = jnp.stack(
        [truth.pose_directions[..., 1], -truth.pose_directions[..., 0], truth.pose_directions[..., 2]], -1
    )
    expected = np.degrees(np.arccos(np.clip((np.asarray(turned) * np.asarray(truth.pose_directions)).sum(-1), -1, 1)))
    np.testing.assert_allclose(angle_deg(3.0 * turned, truth.pose_directions), expected, atol=0.05)
    _, metrics = multitask_loss(predictions, truth, LossWeights())
    known = np.asarray(truth.has_scale)
    offset = np.sqrt(3 * 0.1**2)
    np.testing.assert_allclose(metrics["error/pose_center"].compute(), offset, rtol=1e-5)
    np.testing.assert_allclose(
        metrics["error/pose_center_m"].compute(), (offset * np.asarray(truth.scale)[known]).mean(), rtol=1e-5
    )


def test_mean_over_nothing_is_nan():
    assert np.isnan(Mean.of(jnp.ones(3), jnp.zeros(3, bool)).compute())
    merged = Mean.of(jnp.array([1.0, 3.0])).merge(Mean.of(jnp.array([8.0])))
    assert merged.compute() == 4.0
