import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from rig3r_jax.evaluation import points


@pytest.mark.parametrize("name", ["a", "b"])
def test_golden_cloud_distances(shared, name):
    with np.load(shared / "golden/pose_metrics/pointcloud.npz") as golden:
        case = {key.split("/")[1]: golden[key] for key in golden if key.startswith(name + "/")}
    predicted, true = case["pred"], case["gt"]
    np.testing.assert_allclose(points.nearest_distances(predicted, true), case["dist_pred2gt"], atol=1e-12)
    assert points.accuracy(predicted, true) == pytest.approx(case["acc_mean"], abs=1e-12)
    assert points.completeness(predicted, true) == pytest.approx(case["comp_mean"], abs=1e-12)
    assert points.chamfer(predicted, true) == pytest.approx(case["chamfer_avg"], abs=1e-12)
    for threshold in (0.05, 0.1, 0.25):
        scores = points.fscore(predicted, true, threshold)
        for ours in ("precision", "recall", "fscore"):
            assert scores[ours] == pytest.approx(case[f"{ours}@{threshold:g}"], abs=1e-12)


@pytest.mark.parametrize("name", ["n4", "n20", "n200"])
def test_golden_similarity(shared, name):
    with np.load(shared / "golden/pose_metrics/umeyama.npz") as golden:
        case = {key[len(name) + 1 :]: golden[key] for key in golden if key.startswith(name + "/")}
    for kind, with_scale in (("sim3", True), ("se3", False)):
        for target, suffix in (("dst", ""), ("dst_noisy", "_noisy")):
            fit = points.fit_similarity(case["src"], case[target], with_scale)
            expected = [case[f"{kind}{suffix}/{part}"] for part in ("s", "R", "t")]
            for ours, theirs in zip(fit, expected, strict=True):
                np.testing.assert_allclose(ours, theirs, atol=1e-9)


@pytest.mark.parametrize("name", ["mirror", "planar"])
def test_golden_similarity_of_mirrored_and_planar_points(shared, name):
    with np.load(shared / "golden/pose_metrics/umeyama.npz") as golden:
        case = {key[len(name) + 1 :]: golden[key] for key in golden if key.startswith(name + "/")}
    fit = points.fit_similarity(case["src"], case["dst"])
    for ours, theirs in zip(fit, (case["s"], case["R"], case["t"]), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-9)
    assert np.linalg.det(fit.rotation) == pytest.approx(1)


def test_similarity_is_the_one_of_geometry():
    align = pytest.importorskip("rig3r_jax.geometry.align")
    rng = np.random.default_rng(0)
    source, target = rng.normal(size=(2, 30, 3))
    fit = points.fit_similarity(source, target)
    with jax.enable_x64(True):
        theirs = align.umeyama(jnp.asarray(source), jnp.asarray(target))
        for ours, other in zip(fit, (theirs.scale, theirs.rotation, theirs.translation), strict=True):
            np.testing.assert_allclose(ours, np.asarray(other), atol=1e-9)


def test_distances_after_alignment_ignore_the_similarity_of_the_prediction():
    rng = np.random.default_rng(1)
    true = rng.normal(size=(300, 3))
    predicted = true + rng.normal(scale=0.05, size=true.shape)
    turn = Rotation.random(random_state=rng).as_matrix()
    moved = 0.03 * predicted @ turn.T + np.array([5.0, -2.0, 1.0])
    before, after = (points.chamfer(points.align_points(p, true), true) for p in (predicted, moved))
    assert before == pytest.approx(after, rel=1e-9)
    assert points.chamfer(points.align_points(0.03 * true @ turn.T, true), true) == pytest.approx(0, abs=1e-12)


def test_icp_repairs_wrong_correspondences_and_never_worsens_the_cloud():
    rng = np.random.default_rng(2)
    true = rng.normal(size=(400, 3))
    shuffled = true.copy()
    shuffled[:40] = true[rng.permutation(40)]  # the same cloud, a tenth of the correspondences wrong
    plain, refined = (points.align_points(shuffled, true, icp) for icp in (False, True))
    assert points.accuracy(plain, true) > 1e-3
    assert points.accuracy(refined, true) < 1e-9
    start = points.SimilarityFit(1.0, np.eye(3), np.zeros(3))
    kept = points.iterative_closest_point(true, true, start)
    np.testing.assert_array_equal(kept.rotation, start.rotation)


def test_nothing_to_measure_is_nan_or_an_error():
    none, some = np.zeros((0, 3)), np.ones((5, 3))
    for predicted, true in ((none, some), (some, none), (none, none), (np.full((5, 3), np.nan), some)):
        assert np.isnan(points.chamfer(predicted, true))
        assert np.isnan(points.fscore(predicted, true, 0.1)["fscore"])
    with pytest.raises(ValueError, match="2 corresponding points"):
        points.fit_similarity(some[:2], some[:2])
