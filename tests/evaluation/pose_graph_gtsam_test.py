"""Our pose graphs in GTSAM's hands: it reads the file, and finds the same optimum, cost and covariances."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from rig3r_jax.evaluation.pose_graph import PoseGraph, chain, marginal_covariances, optimize, star_edges
from rig3r_jax.formats.g2o import write_g2o

gtsam = pytest.importorskip("gtsam", reason="GTSAM is not installed: pip install gtsam")
FRAMES, VIEWS = 9, 4
TO_OURS = [3, 4, 5, 0, 1, 2]  # GTSAM's tangents have the rotation first


def random_rigid(rng, turn, move):
    """Radians and metres, each component's spread."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec(turn * rng.normal(size=3)).as_matrix()
    matrix[:3, 3] = move * rng.normal(size=3)
    return matrix


@pytest.fixture(scope="module")
def graph():
    """Overlapping windows and one that closes the loop, with errors of correlated covariances."""
    rng = np.random.default_rng(0)
    true = np.stack([np.eye(4), *(random_rigid(rng, 0.5, 1.0) for _ in range(FRAMES - 1))])
    windows = [range(start, start + VIEWS) for start in range(FRAMES - VIEWS + 1)] + [(FRAMES - 1, 0, 1, 2)]
    windows = np.array([list(window) for window in windows])
    measured = np.linalg.inv(true[windows[:, :1]]) @ true[windows]
    shape = (len(windows), VIEWS - 1)
    for window in np.ndindex(shape):
        measured[window[0], window[1] + 1] = measured[window[0], window[1] + 1] @ random_rigid(rng, 0.02, 0.03)
    root = np.array([20.0, 30.0, 25.0, 60.0, 50.0, 80.0]) * (np.eye(6) + 0.3 * rng.normal(size=(*shape, 6, 6)))
    edges = star_edges(windows, measured, np.swapaxes(root, -1, -2) @ root)
    return PoseGraph(chain(FRAMES, edges), edges)


def test_gtsam_finds_the_same_optimum_in_our_file(graph, tmp_path):
    path, edges = tmp_path / "graph.g2o", graph.edges
    write_g2o(path, graph.world_from_camera, edges.pairs, edges.first_from_second, edges.information)
    factors, guess = gtsam.readG2o(str(path), True)
    factors.add(gtsam.NonlinearEqualityPose3(0, gtsam.Pose3(graph.world_from_camera[0])))
    parameters = gtsam.LevenbergMarquardtParams()
    parameters.setRelativeErrorTol(1e-14)
    parameters.setAbsoluteErrorTol(1e-14)
    theirs = gtsam.LevenbergMarquardtOptimizer(factors, guess, parameters).optimize()
    ours = optimize(graph)

    assert ours.converged and factors.error(guess) > 2 * ours.cost > 1
    np.testing.assert_allclose(ours.cost, factors.error(theirs), rtol=1e-6)
    for frame, camera in enumerate(ours.world_from_camera):
        np.testing.assert_allclose(camera, theirs.atPose3(frame).matrix(), atol=1e-5)

    marginals = gtsam.Marginals(factors, theirs)
    covariances = marginal_covariances(PoseGraph(ours.world_from_camera, edges))
    for frame in range(1, FRAMES):
        expected = marginals.marginalCovariance(frame)[np.ix_(TO_OURS, TO_OURS)]
        np.testing.assert_allclose(covariances[frame], expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())
