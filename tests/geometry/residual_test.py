"""The window residual against reference vectors, plain loops with scipy, and its laws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from scipy.spatial.transform import Rotation

from rig3r_jax.geometry import pose_encoding, residual, se3

window_residual = jax.jit(residual.window_residual, static_argnums=2)


def cameras(shape, seed=0, spread=1.0):
    xi = np.random.default_rng(seed).normal(size=(*shape, 6)) * np.repeat([spread, 0.7], 3)
    return np.asarray(se3.exp(jnp.asarray(xi)))


def decode(encoding):
    return pose_encoding.decode(jnp.asarray(encoding), 392, 518)[0]


def test_golden_windows(shared):
    golden = np.load(shared / "golden/lie/se3.npz")
    with jax.enable_x64(True):
        true, predicted = (residual.relative_to_first(x) for x in decode(golden["win_pose_enc"]))
        np.testing.assert_allclose(se3.translation(true), golden["win_cam_pos_rel"][0], atol=1e-12)
        found = residual.scaled_residual(predicted, true, jnp.asarray(golden["win_scale"]))
        np.testing.assert_allclose(found, golden["win_residual"], atol=1e-12)


CASES = ["generic", "negative_scale", "scale_clamped", "unnormalised_quat", "min_translation_0p15"]
CASES = [(case, tag) for case in CASES for tag in ("f64", "f32") if tag == "f64" or case != "min_translation_0p15"]


@pytest.mark.parametrize(("case", "tag"), [*CASES, ("large_rotation_error", "f64")])
def test_golden_residuals_of_the_uncertainty_loss(shared, case, tag):
    with np.load(shared / "golden/uncertainty_loss/log_var.npz") as file:
        golden = {key: file[f"{case}__{tag}_{key}"] for key in ("gt_pose_enc", "scale", "residual", "metric.scale_raw")}
        golden["count"] = file[f"{case}__{tag}_metric.scale_valid_count_mean"]
        predicted = file[f"{case}__in_pred_pose_enc"].astype(golden["scale"].dtype)
    tolerance = {"f64": 1e-11, "f32": 2e-5}[tag]
    with jax.enable_x64(tag == "f64"):
        minimum = 0.15 if "0p15" in case else 0.02
        found = window_residual(decode(predicted), decode(golden["gt_pose_enc"]), minimum)
        assert found.residual.dtype == golden["residual"].dtype
        np.testing.assert_allclose(found.scale.scale, golden["scale"], rtol=tolerance)
        np.testing.assert_allclose(
            found.residual, golden["residual"], rtol=0, atol=tolerance * np.abs(golden["residual"]).max()
        )
        np.testing.assert_allclose(found.scale.valid_count.mean(), golden["count"], rtol=1e-6)


@pytest.mark.parametrize("batch", [(), (2, 2)])
def test_residual_is_the_matrix_logarithm_frame_by_frame(batch):
    with jax.enable_x64(True):
        predicted, true = cameras((*batch, 4), 1), cameras((*batch, 4), 2)
        found = jax.tree.map(np.asarray, window_residual(jnp.asarray(predicted), jnp.asarray(true)))
    assert found.residual.shape == (*batch, 3, 6) and found.scale.scale.shape == batch
    for index in np.ndindex(batch):
        for frame in (1, 2, 3):
            ours, theirs = (x[index][0] @ np.linalg.inv(x[index][frame]) for x in (predicted, true))
            ours[:3, 3] *= found.scale.scale[index]
            generator = scipy.linalg.logm(np.linalg.inv(theirs) @ ours).real
            w = np.array([generator[2, 1], generator[0, 2], generator[1, 0]])
            np.testing.assert_allclose(found.residual[index][frame - 1], [*generator[:3, 3], *w], atol=1e-8)


def test_residual_ignores_world_frame_and_scale_of_predictions():
    with jax.enable_x64(True):
        predicted, true = cameras((2, 2, 4), 3), cameras((2, 2, 4), 3) @ cameras((2, 2, 1), 4)
        moved = predicted @ cameras((2, 1, 1), 5)
        moved[..., :3, 3] *= 7.0
        a, b = (window_residual(jnp.asarray(x), jnp.asarray(true)) for x in (predicted, moved))
        np.testing.assert_allclose(a.residual, b.residual, atol=1e-12)
        np.testing.assert_allclose(a.scale.scale, 7.0 * b.scale.scale)
        np.testing.assert_allclose(a.residual, 0.0, atol=1e-12)  # another world, the same window


def test_scale_falls_back_to_one_and_is_bounded():
    true = np.zeros((6, 4, 3), np.float32)
    true[0, 1] = [5.0, 0, 0]  # one frame moves
    true[1:, 1:] = np.random.default_rng(0).normal(size=(3, 3))
    predicted = true * np.array([2.0, -1.0, 1e-4, 1e4, 0.5, 0.0], np.float32)[:, None, None]
    true[4, 3] = [0.019, 0, 0]  # too near to count; what is predicted for it must not matter
    predicted[4, 3] = np.nan
    found = residual.window_scale(jnp.asarray(predicted), jnp.asarray(true))
    np.testing.assert_allclose(found.scale, [1.0, 1.0, 100.0, 0.01, 2.0, 1.0], rtol=1e-6)
    np.testing.assert_array_equal(found.valid_count, [1, 3, 3, 3, 2, 3])
    assert found.raw[1] < 0


def test_predictions_of_several_iterations_share_one_truth():
    predicted, true = cameras((3, 2, 4), 6), cameras((2, 4), 7)
    together = window_residual(jnp.asarray(predicted), jnp.asarray(true))
    assert together.scale.valid_count.shape == (3, 2)
    for n in range(3):
        alone = window_residual(jnp.asarray(predicted[n]), jnp.asarray(true))
        np.testing.assert_allclose(together.residual[n], alone.residual, atol=1e-5)


def test_no_gradient_passes_through_the_scale():
    with jax.enable_x64(True):
        predicted, true = jnp.asarray(cameras((4,), 8)), jnp.asarray(cameras((4,), 9))
        fixed = window_residual(predicted, true).scale.scale

        def frozen(x):
            relative = residual.relative_to_first(x), residual.relative_to_first(true)
            return (residual.scaled_residual(*relative, fixed)[1:] ** 2).sum()

        gradient = jax.jit(jax.grad(lambda x: (window_residual(x, true).residual ** 2).sum()))(predicted)
        np.testing.assert_allclose(gradient, jax.jit(jax.grad(frozen))(predicted), atol=1e-10)


def test_a_perfect_prediction_has_a_finite_gradient_and_half_precision_is_widened():
    true = jnp.asarray(cameras((2, 4), 10))
    gradient = jax.grad(lambda x: (window_residual(x, true).residual ** 2).sum())(true)
    assert np.isfinite(gradient).all()
    found = window_residual(true.astype(jnp.bfloat16), true)
    assert found.residual.dtype == jnp.float32


def test_residuals_near_half_a_turn_keep_their_angle():
    axis = np.array([0.6, -0.48, 0.64])
    with jax.enable_x64(True):
        true = np.broadcast_to(np.eye(4), (4, 4, 4)).copy()
        predicted = true.copy()
        angles = [np.pi - 1e-7, np.pi - 1e-4, 3.0]
        predicted[1:, :3, :3] = Rotation.from_rotvec(-np.outer(angles, axis)).as_matrix()
        found = window_residual(jnp.asarray(predicted), jnp.asarray(true)).residual
        np.testing.assert_allclose(found[:, 3:], np.outer(angles, axis), atol=1e-8)


def test_one_frame_is_no_window():
    with pytest.raises(ValueError, match="1 frame"):
        residual.window_residual(jnp.eye(4)[None], jnp.eye(4)[None])
