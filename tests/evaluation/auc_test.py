"""AUCs of relative poses against the formulas of their authors, written out, and golden numbers."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from rig3r_jax.evaluation import auc
from tests.evaluation.pose_test import noisy, random_cameras


def published_errors(relative_predicted, relative_true):
    """VGGT's test_co3d: the angle of quaternions by 1 - 2 (1 - <p, q>^2), the folded angle by the root of a square."""
    p, q = (Rotation.from_matrix(x[:, :3, :3]).as_quat() for x in (relative_predicted, relative_true))
    rotation = np.degrees(np.arccos(1 - 2 * np.maximum(1 - np.sum(p * q, axis=1) ** 2, 1e-15)))
    a, b = (
        x[:, :3, 3] / (np.linalg.norm(x[:, :3, 3], axis=1, keepdims=True) + 1e-15)
        for x in (relative_predicted, relative_true)
    )
    direction = np.degrees(np.arccos(np.sqrt(1 - np.maximum(1 - np.sum(a * b, axis=1) ** 2, 1e-15))))
    return rotation, np.minimum(direction, np.abs(180 - direction))


def published_auc(rotation, direction, limit):
    """The histogram of the larger error in bins of a degree, cumulated, on average."""
    histogram, _ = np.histogram(np.maximum(rotation, direction), bins=np.arange(limit + 1))
    return 100 * np.mean(np.cumsum(histogram.astype(float) / len(rotation)))


def relatives(poses, protocol):
    """Relative poses of pairs i < j as each protocol's code multiplies them."""
    i, j = np.triu_indices(len(poses), k=1)
    camera_from_world = np.linalg.inv(poses)
    if protocol == "vggt":  # world-to-camera matrices: w_i inv(w_j)
        return camera_from_world[i] @ np.linalg.inv(camera_from_world[j])
    if protocol == "mapanything":  # camera-to-world matrices in the first view: inv(c_i) c_j
        first = np.linalg.inv(poses[0]) @ poses
        return np.linalg.inv(first[i]) @ first[j]
    first = camera_from_world @ np.linalg.inv(camera_from_world[0])  # da3: world-to-camera matrices: inv(w_i) w_j
    return np.linalg.inv(first[i]) @ first[j]


@pytest.mark.parametrize("protocol", ["vggt", "mapanything", "da3"])
def test_auc_is_that_of_the_authors_formula(protocol):
    rng = np.random.default_rng(3)
    for angle, offset in ((0.5, 0.02), (4.0, 0.3), (15.0, 2.0)):
        true = random_cameras(rng, 14)
        predicted = random_cameras(rng, 1)[0] @ noisy(true, rng, angle, offset)
        predicted[:, :3, 3] *= 0.3
        errors = published_errors(relatives(predicted, protocol), relatives(true, protocol))
        worst = auc.protocol_errors(predicted, true, protocol)
        # Their arccos loses half of the digits near 0 and 180.
        np.testing.assert_allclose(worst, np.maximum(*errors), atol=1e-5)
        for limit in (3, 5, 15, 30):
            assert auc.auc(worst, limit, protocol) == pytest.approx(published_auc(*errors, limit), abs=1e-9)


@pytest.mark.parametrize("missing", [[0], [0, 1, 5], [3]])
def test_da3_of_exact_predictions_is_right_whichever_images_lack_one(missing):
    true = random_cameras(np.random.default_rng(5), 8)
    predicted = true.copy()
    predicted[missing] = np.nan
    worst = auc.protocol_errors(predicted, true, "da3")
    i, j = np.triu_indices(8, k=1)
    lacking = np.isin(i, missing) | np.isin(j, missing)
    assert np.isnan(worst[lacking]).all() and worst[~lacking].max() < 1e-5


def test_da3_takes_other_relative_poses_and_mapanything_those_of_vggt():
    rng = np.random.default_rng(4)
    true = random_cameras(rng, 12)
    predicted = noisy(true, rng, 6.0, 0.8)
    worst = {protocol: auc.protocol_errors(predicted, true, protocol) for protocol in auc.PROTOCOLS}
    np.testing.assert_allclose(worst["vggt"], worst["mapanything"], atol=1e-9)
    assert np.abs(worst["da3"] - worst["vggt"]).max() > 1.0


@pytest.mark.parametrize("name", ["tight", "medium", "loose", "perfect", "two"])
def test_golden_auc(shared, name):
    with np.load(shared / "golden/pose_metrics/rra_rta_auc.npz") as golden:
        case = {key.split("/")[1]: golden[key] for key in golden if key.startswith(name + "/")}
    poses = np.linalg.inv(case["pred_w2c"]), np.linalg.inv(case["gt_w2c"])
    for limit in (3, 5, 10, 15, 20, 30):
        ours = auc.auc(auc.protocol_errors(*poses, "vggt"), limit, "vggt")
        assert ours == pytest.approx(100 * case[f"AUC@{limit}"], abs=1e-9)
    ours = auc.auc(auc.protocol_errors(*poses, "rig3r", min_baseline=0.0), 30, "rig3r")
    assert ours == pytest.approx(100 * case["mAA30_joint"], abs=1e-9)


def test_pairs_without_a_direction():
    """Cameras in one place: 90 degrees off in the histograms, no pairs at all in ours."""
    poses = np.tile(np.eye(4), (4, 1, 1))
    assert (auc.protocol_errors(poses, poses, "vggt") == 90).all()
    assert auc.auc(auc.protocol_errors(poses, poses, "vggt"), 30, "vggt") == 0
    assert np.isnan(auc.auc(auc.protocol_errors(poses, poses, "rig3r"), 30, "rig3r"))
    with pytest.raises(ValueError, match="protocol 'mine' is unknown; choose from rig3r, vggt, mapanything, da3"):
        auc.protocol_errors(poses, poses, "mine")


def test_the_last_bin_holds_its_end():
    errors = np.array([3.0, 3.0001, 0.5])
    assert auc.auc(errors, 3, "vggt") == pytest.approx(100 * (1 + 1 + 2) / 9)
    assert auc.auc(errors, 3, "rig3r") == pytest.approx(100 * (1 + 1 + 1) / 9)
