"""Fits of places: side by side as alone, starts as SciPy cuts its trees, and numbers that are not tried."""

import numpy as np
import pytest
from scipy.cluster.hierarchy import cut_tree, linkage
from scipy.spatial.distance import pdist
from scipy.spatial.transform import Rotation

from rig3r_jax.geometry import rigid
from rig3r_jax.geometry.place_em import fitted
from rig3r_jax.geometry.place_evidence import RESOLUTION, PlaceTask
from rig3r_jax.geometry.pose_clusters import _cuts, fit_places


def poses_about(rng, places, each, sigma=0.1):
    count = places * each
    turns = Rotation.from_rotvec(np.repeat(rng.normal(size=(places, 3)), each, axis=0))
    turns = turns * Rotation.from_rotvec(sigma * rng.normal(size=(count, 3)))
    centers = np.repeat(rng.normal(size=(places, 3)), each, axis=0) + sigma * rng.normal(size=(count, 3))
    return rigid.from_rotation_translation(turns.as_matrix(), centers)


@pytest.mark.parametrize("grouped", [False, True])
def test_fits_side_by_side_are_those_of_each_alone(grouped):
    rng = np.random.default_rng(0)
    poses = poses_about(rng, 3, 4)
    groups = list(np.arange(12).reshape(3, 4).T) if grouped else list(np.arange(12)[:, None])
    labelled = np.where(np.arange(12) == 5, 1, -1)
    task = PlaceTask(poses, groups, labelled, RESOLUTION, 5.0)
    counts = [3, 4, 4, 7]
    labels = [np.arange(12) // 4 * (count // 3) + np.arange(12) % (count // 3 + count % 3) for count in counts]
    for rounds in (0, 1, 8):
        together = fitted(task, labels, counts, rounds)
        for fit, label, count in zip(together, labels, counts, strict=True):
            (alone,) = fitted(task, [label], [count], rounds)
            assert fit.count == count and fit.probability.shape == (12, count)
            np.testing.assert_array_equal(fit.label, alone.label)
            np.testing.assert_allclose(fit.log_evidence, alone.log_evidence, rtol=1e-9)
            np.testing.assert_allclose(fit.probability, alone.probability, atol=1e-9)
            np.testing.assert_allclose(fit.place, alone.place, atol=1e-9)


def test_trees_are_cut_as_scipy_cuts_them():
    points = np.random.default_rng(1).normal(size=(15, 2))
    tree = linkage(pdist(points), method="average")
    for count, label in _cuts(tree, 15, range(1, 15)).items():
        reference = cut_tree(tree, n_clusters=count)[:, 0]
        np.testing.assert_array_equal(label[:, None] == label, reference[:, None] == reference)
        np.testing.assert_array_equal(
            np.unique(label, return_index=True)[1], np.sort(np.unique(label, return_index=True)[1])
        )
    np.testing.assert_array_equal(_cuts(tree, 15, [15])[15], np.arange(15))


def test_a_place_for_each_pose_is_tried_only_where_no_fewer_can_be():
    poses = poses_about(np.random.default_rng(2), 5, 1)
    assert [fit.count for fit in fit_places(poses, range(1, 9))] == [1, 2, 3, 4]
    (fit,) = fit_places(poses, range(1, 9), group=np.zeros(5, int))
    assert fit.count == 5 and np.isnan(fit.sigma_rad)


@pytest.mark.parametrize("count", [3, 4])
def test_known_labels_that_leave_a_place_without_a_pose_are_refused(count):
    poses = poses_about(np.random.default_rng(3), 2, 2)
    with pytest.raises(ValueError, match=f"4 poses do not fall into {count} places; try fewer"):
        fit_places(poses, [count], labelled=np.array([0, 0, 1, 1]))
