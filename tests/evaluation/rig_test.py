import math

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from rig3r_jax.evaluation import pose, rig


def surround_rig(count, radius=0.06, start=0.0):
    """Cameras that look outwards, `radius` (mean depths) from the rig's centre."""
    yaw = start + np.arange(count) * 2 * np.pi / count
    cameras = np.broadcast_to(np.eye(4), (count, 4, 4)).copy()
    cameras[:, :3, :3] = Rotation.from_euler("y", yaw[:, None]).as_matrix()
    cameras[:, :3, 3] = radius * cameras[:, :3, 2]
    return cameras


def noisy_images(rng, cameras, times, angle_deg=3.0, offset=0.005):
    index = rng.permutation(np.repeat(np.arange(len(cameras)), times))
    images = cameras[index].copy()
    turn = Rotation.from_rotvec(np.radians(angle_deg) * rng.normal(size=(len(index), 3)) / np.sqrt(3)).as_matrix()
    images[:, :3, :3] = turn @ images[:, :3, :3]
    images[:, :3, 3] += offset * rng.normal(size=(len(index), 3))
    return images, index


@pytest.mark.parametrize("name", ["same_k", "more_pred", "fewer_pred", "perm_perfect"])
def test_golden_accuracy_and_ari(shared, name):
    with np.load(shared / "golden/pose_metrics/clusters.npz") as golden:
        case = {key.split("/")[1]: golden[key] for key in golden if key.startswith(name + "/")}
    assert rig.rig_id_accuracy(case["pred"], case["gt"]) == pytest.approx(case["hungarian_accuracy"], abs=1e-12)
    assert rig.adjusted_rand_index(case["pred"], case["gt"]) == pytest.approx(case["ari"], abs=1e-12)
    np.testing.assert_array_equal(rig.match_cameras(case["pred"], case["gt"])[1], case["confusion_pred_gt"])


@pytest.mark.parametrize("count", [1, 2, 3, 5, 7])
@pytest.mark.parametrize("times", [1, 2, 4])
def test_surround_rigs_of_unknown_size_are_discovered(count, times):
    rng = np.random.default_rng(count * 10 + times)
    cameras = surround_rig(count)
    images, index = noisy_images(rng, cameras, times)
    scores = rig.score_rig(images, cameras[index], index)
    assert scores.matched_images == scores.images == count * times
    assert scores.camera_count_error == 0
    assert scores.ari == 1.0 or (count * times == 1 and math.isnan(scores.ari))
    assert np.all(scores.pairs.rotation_deg < 8)
    assert scores.pairs.baseline.size == count * (count - 1) // 2


def test_cameras_that_differ_only_in_place_or_only_in_rotation_are_two():
    stereo = np.broadcast_to(np.eye(4), (4, 4, 4)).copy()
    stereo[2:, 0, 3] = 0.15
    assert rig.rig_id_accuracy(rig.discovered_cameras(stereo), np.array([0, 0, 1, 1])) == 1.0
    turned = np.broadcast_to(np.eye(4), (4, 4, 4)).copy()
    turned[2:, :3, :3] = Rotation.from_euler("y", 30, degrees=True).as_matrix()
    assert rig.rig_id_accuracy(rig.discovered_cameras(turned), np.array([0, 0, 1, 1])) == 1.0


METRES = {"KITTI": 0.54, "EuRoC": 0.11, "T265": 0.064}  # between the cameras of a stereo pair
DEPTHS = (2.0, 5.0, 15.0)  # metres


def stereo(metres, mean_depth):
    cameras = np.broadcast_to(np.eye(4), (2, 4, 4)).copy()
    cameras[1, 0, 3] = metres / mean_depth
    return cameras


@pytest.mark.parametrize("metres", METRES.values(), ids=METRES)
@pytest.mark.parametrize("mean_depth", DEPTHS)
@pytest.mark.parametrize("times", [1, 2, 3, 12])
def test_exact_parallel_stereo_is_two_cameras_however_narrow(metres, mean_depth, times):
    cameras = stereo(metres, mean_depth)
    index = np.random.default_rng(times).permutation(np.repeat([0, 1], times))
    images = cameras[index].astype(np.float32)
    images[:, :3, 3] *= 1 + 1e-6 * np.random.default_rng(0).normal(size=(len(index), 1)).astype(np.float32)
    scores = rig.score_rig(images, stereo(metres, 1.0)[index], index)
    assert scores.matched_images == scores.images == 2 * times
    assert scores.ari == 1.0 and scores.camera_count_error == 0
    missing = np.delete(np.arange(2 * times), 0)  # a dropped frame
    assert rig.score_rig(images[missing], stereo(metres, 1.0)[index[missing]], index[missing]).camera_count_error == 0


def test_a_narrow_pair_in_a_wide_rig_is_found_beside_cameras_far_apart():
    cameras = np.concatenate([surround_rig(6), surround_rig(6)[:1]])
    cameras[6, 0, 3] += 0.064 / 15
    images, index = noisy_images(np.random.default_rng(2), cameras, 4, angle_deg=0.02, offset=1e-4)
    assert rig.score_rig(images, cameras[index], index).matched_images == 28


@pytest.mark.parametrize("count", [1, 2, 6])
def test_noise_costs_no_more_than_it_hides(count):
    """Right while images of one camera lie far nearer than cameras; then never worse than one cluster of all."""
    cameras = stereo(0.54, 5.0)[:count] if count < 3 else surround_rig(count)
    separation = {1: 0.1, 2: 0.108, 6: 0.06}[count]
    accuracies = []
    for share in (0.0, 0.02, 0.1, 0.3, 0.6):
        scores = []
        for seed in range(4):
            offset = share * separation / 3
            images, index = noisy_images(np.random.default_rng(seed), cameras, 6, angle_deg=10 * share, offset=offset)
            scores.append(rig.score_rig(images, cameras[index], index))
        accuracies.append(sum(s.matched_images for s in scores) / sum(s.images for s in scores))
    assert accuracies[:3] == [1.0] * 3
    assert all(later <= earlier + 0.02 for earlier, later in zip(accuracies, accuracies[1:], strict=False))
    assert min(accuracies) >= 1 / count - 0.02


@pytest.mark.parametrize("views", [2, 3, 4, 8, 24])
@pytest.mark.parametrize("noise", [0.0, 1e-6, 1e-3, 1e-2])
def test_one_camera_stays_one_at_any_size_of_noise(views, noise):
    counts = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        images, index = noisy_images(rng, surround_rig(1), views, angle_deg=100 * noise, offset=noise)
        counts.append(len(np.unique(rig.discovered_cameras(images))))
    assert np.mean(np.array(counts) == 1) >= 0.8 and max(counts) <= 2


def test_equal_predictions_of_two_cameras_are_one_cluster():
    """What a network that has learnt nothing of the rig gets: half the images, no agreement."""
    cameras, index = stereo(0.54, 5.0), np.repeat([0, 1], 6)
    images, _ = noisy_images(np.random.default_rng(0), surround_rig(1), 12, angle_deg=0.2, offset=1e-3)
    scores = rig.score_rig(images, cameras[index], index)
    assert (scores.matched_images, scores.ari, scores.camera_count_error) == (6, 0.0, 1)


def test_scores_ignore_names_of_clusters_and_cameras():
    rng = np.random.default_rng(0)
    labels, cameras = rng.integers(0, 4, 30), rng.integers(0, 3, 30)
    rename, recall = np.array([7, 2, 9, 0]), np.array([5, 1, 3])
    for score in (rig.rig_id_accuracy, rig.adjusted_rand_index):
        assert score(labels, cameras) == pytest.approx(score(rename[labels], recall[cameras]), abs=1e-12)
    images, index = noisy_images(rng, surround_rig(4), 3)
    true = surround_rig(4)[index]
    order = rng.permutation(12)
    first = rig.score_rig(images, true, index)
    second = rig.score_rig(images[order], true[order], index[order] + 10)
    assert (first.matched_images, first.camera_count_error) == (second.matched_images, second.camera_count_error)
    np.testing.assert_allclose(first.pairs.rotation_deg, second.pairs.rotation_deg, atol=1e-9)


def test_rig_pairs_ignore_the_rig_frame_and_scale_of_the_prediction():
    rng = np.random.default_rng(1)
    cameras = surround_rig(5, radius=1.0)
    images, index = noisy_images(rng, cameras, 2, offset=0.05)
    other_rig = np.eye(4)
    other_rig[:3, :3] = Rotation.random(random_state=rng).as_matrix()
    other_rig[:3, 3] = [3.0, -1.0, 2.0]
    moved = images.copy()
    moved[:, :3, 3] *= 0.06
    moved = other_rig @ moved
    first = rig.rig_pair_errors(images, index, cameras[index], index)
    second = rig.rig_pair_errors(moved, index, cameras[index], index)
    np.testing.assert_allclose(first.rotation_deg, second.rotation_deg, atol=1e-9)
    np.testing.assert_allclose(first.direction_deg, second.direction_deg, atol=1e-9)
    exact = rig.rig_pair_errors(cameras[index], index, cameras[index], index)
    assert pose.summarize(exact)["mAA30_unfolded"] == 100.0


def test_undiscovered_cameras_cost_their_pairs():
    cameras = surround_rig(3, radius=1.0)
    index = np.array([0, 1, 2, 0, 1, 2])
    scores = pose.summarize(rig.rig_pair_errors(cameras[index], np.zeros(6, np.int64), cameras[index], index))
    assert scores["pairs"] == 3 and scores["RRA15"] == scores["RTA15"] == scores["mAA30"] == 0
    two_found = np.array([0, 1, 1, 0, 1, 1])
    scores = pose.summarize(
        rig.rig_pair_errors(cameras[np.array([0, 1, 1, 0, 1, 1])], two_found, cameras[index], index)
    )
    assert scores["RRA15"] == pytest.approx(100 / 3)


def test_images_that_are_not_finite_are_of_no_camera_and_never_right():
    images = np.broadcast_to(np.eye(4), (4, 4, 4)).copy()
    images[1], images[3] = np.nan, np.inf
    np.testing.assert_array_equal(rig.discovered_cameras(images), [0, -1, 0, -1])
    scores = rig.score_rig(images, surround_rig(4), np.arange(4))
    assert (scores.matched_images, scores.images, scores.camera_count_error) == (2, 4, 2)
    assert pose.summarize(scores.pairs)["RRA15"] == 0
    nothing = rig.score_rig(np.full((4, 4, 4), np.nan), surround_rig(4), np.array([0, 1, 2, 2]))
    assert (nothing.matched_images, nothing.camera_count_error) == (0, 3)
    labels, cameras = np.array([0, -1, 0, -1]), np.array([0, 0, 0, 0])
    assert rig.rig_id_accuracy(labels, cameras) == 0.5 and rig.adjusted_rand_index(labels, cameras) < 1.0


def test_empty_is_nan_and_trivial_partitions_agree():
    none = np.zeros(0, np.int64)
    assert math.isnan(rig.rig_id_accuracy(none, none)) and math.isnan(rig.adjusted_rand_index(none, none))
    assert rig.adjusted_rand_index(np.zeros(5, np.int64), np.full(5, 3)) == 1.0
    assert rig.adjusted_rand_index(np.arange(5), np.arange(5) * 2) == 1.0
    assert rig.adjusted_rand_index(np.zeros(5, np.int64), np.arange(5)) == 0.0
