import math

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from rig3r_jax.evaluation import pose


def random_cameras(rng, *shape, spread=5.0):
    cameras = np.broadcast_to(np.eye(4), (*shape, 4, 4)).copy()
    count = int(np.prod(shape))
    cameras[..., :3, :3] = Rotation.random(count, random_state=rng).as_matrix().reshape(*shape, 3, 3)
    cameras[..., :3, 3] = rng.normal(scale=spread, size=(*shape, 3))
    return cameras


def noisy(cameras, rng, angle_deg=5.0, offset=0.5):
    shape = cameras.shape[:-2]
    turn = Rotation.from_rotvec(np.radians(angle_deg) * rng.normal(size=(int(np.prod(shape)), 3))).as_matrix()
    moved = cameras.copy()
    moved[..., :3, :3] = turn.reshape(*shape, 3, 3) @ cameras[..., :3, :3]
    moved[..., :3, 3] += offset * rng.normal(size=(*shape, 3))
    return moved


@pytest.mark.parametrize("name", ["tight", "medium", "loose", "perfect", "two"])
def test_golden_pair_errors_and_rates(shared, name):
    with np.load(shared / "golden/pose_metrics/rra_rta_auc.npz") as golden:
        case = {key.split("/")[1]: golden[key] for key in golden if key.startswith(name + "/")}
    errors = pose.relative_pose_errors(np.linalg.inv(case["pred_w2c"]), np.linalg.inv(case["gt_w2c"]))
    np.testing.assert_array_equal(np.stack([errors.i, errors.j], -1), case["pairs"])
    np.testing.assert_allclose(errors.rotation_deg, case["rel_rot_deg_exact"], atol=1e-6)
    np.testing.assert_allclose(
        np.minimum(errors.direction_deg, 180 - errors.direction_deg), case["rel_trans_deg_exact"], atol=1e-6
    )
    if name != "perfect":  # there the signed golden holds the rounding of an arccos
        np.testing.assert_allclose(errors.direction_deg, case["rel_trans_deg_signed"], atol=1e-6)
    scores = pose.summarize(errors, min_baseline=0.0)
    for degrees in (5, 15):
        assert scores[f"RRA{degrees}"] == pytest.approx(100 * case[f"RRA@{degrees}"], abs=1e-9)
        assert scores[f"RTA{degrees}"] == pytest.approx(100 * case[f"RTA@{degrees}"], abs=1e-9)
        assert scores[f"RTA{degrees}_unfolded"] == pytest.approx(100 * case[f"RTA_signed@{degrees}"], abs=1e-9)
    assert scores["mAA30"] == pytest.approx(100 * case["mAA30_joint"], abs=1e-9)


def test_angles_agree_with_scipy_down_to_tiny_and_near_pi():
    rng = np.random.default_rng(0)
    axes = rng.normal(size=(200, 3))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    angles = np.concatenate(
        [rng.uniform(0, np.pi, 100), 10.0 ** rng.uniform(-9, -3, 50), np.pi - 10.0 ** rng.uniform(-7, -3, 50)]
    )
    a = Rotation.random(200, random_state=rng)
    b = a * Rotation.from_rotvec(axes * angles[:, None])
    np.testing.assert_allclose(
        np.radians(pose.rotation_angle_deg(a.as_matrix(), b.as_matrix())), angles, atol=1e-13, rtol=1e-6
    )
    across = np.cross(axes, rng.normal(size=(200, 3)))
    turned = Rotation.from_rotvec(axes * angles[:, None]).apply(across)
    np.testing.assert_allclose(np.radians(pose.angle_between_deg(across, 3 * turned)), angles, atol=1e-13, rtol=1e-6)


@pytest.mark.parametrize("shape", [(), (3,), (2, 2)])
def test_errors_ignore_frame_and_scale_of_predictions(shape):
    rng = np.random.default_rng(1)
    true = random_cameras(rng, *shape, 5)
    predicted = noisy(true, rng)
    moved = predicted.copy()
    moved[..., :3, 3] *= 0.07
    moved = random_cameras(rng, 1)[0] @ moved
    first, second = (pose.relative_pose_errors(p, true) for p in (predicted, moved))
    assert first.baseline.shape == (*shape, 10)
    np.testing.assert_allclose(first.rotation_deg, second.rotation_deg, atol=1e-9)
    np.testing.assert_allclose(first.direction_deg, second.direction_deg, atol=1e-9)


def test_perfect_prediction_scores_100_and_mirrored_motion_only_folded():
    rng = np.random.default_rng(2)
    true = random_cameras(rng, 6)
    scores = pose.summarize(pose.relative_pose_errors(true, true))
    assert {scores[k] for k in scores if not k.startswith("pairs")} == {100.0}
    assert (scores["pairs"], scores["pairs_without_direction"]) == (15, 0)
    backwards = true.copy()
    backwards[:, :3, 3] *= -1
    scores = pose.summarize(pose.relative_pose_errors(backwards, true))
    assert scores["RTA15"] == scores["mAA30"] == 100.0
    assert scores["RTA15_unfolded"] == scores["mAA30_unfolded"] == 0.0


def test_short_true_baselines_count_for_rotation_only():
    true = np.broadcast_to(np.eye(4), (3, 4, 4)).copy()
    true[:, 0, 3] = [0.0, 0.05, 4.0]
    predicted = true.copy()
    predicted[:, 0, 3] = [0.0, -1.0, 9.0]  # wrong about the short pair
    scores = pose.summarize(pose.relative_pose_errors(predicted, true))
    assert scores["pairs"] == 3 and scores["pairs_without_direction"] == 1
    assert scores["RTA5_unfolded"] == scores["RRA5"] == 100.0
    assert pose.summarize(pose.relative_pose_errors(predicted, true), min_baseline=0.01)["RTA5_unfolded"] < 100


def test_predictions_without_motion_or_with_nan_are_wrong_not_perfect():
    rng = np.random.default_rng(3)
    true = random_cameras(rng, 4)
    still = true.copy()
    still[:, :3, 3] = 0
    scores = pose.summarize(pose.relative_pose_errors(still, true))
    assert scores["RRA5"] == 100 and scores["RTA15"] == scores["mAA30"] == scores["mAA30_unfolded"] == 0
    scores = pose.summarize(pose.relative_pose_errors(np.full_like(true, np.nan), true))
    assert scores["RRA15"] == scores["RTA15"] == scores["mAA30"] == 0


def test_empty_input_is_nan():
    none = pose.concatenate([])
    scores = pose.summarize(none)
    assert scores["pairs"] == 0
    assert all(math.isnan(value) for key, value in scores.items() if not key.startswith("pairs"))
    true = random_cameras(np.random.default_rng(4), 3)
    errors = pose.relative_pose_errors(true, true)
    assert math.isnan(pose.summarize(errors, mask=np.zeros(3, bool))["mAA30"])


def test_samples_are_pooled_as_pairs():
    rng = np.random.default_rng(5)
    small, large = random_cameras(rng, 2), random_cameras(rng, 6)
    wrong = random_cameras(rng, 6)
    pooled = pose.concatenate([pose.relative_pose_errors(small, small), pose.relative_pose_errors(wrong, large)])
    alone = pose.summarize(pose.relative_pose_errors(wrong, large))
    assert pose.summarize(pooled)["RRA15"] == pytest.approx((100 * 1 + alone["RRA15"] * 15) / 16)
