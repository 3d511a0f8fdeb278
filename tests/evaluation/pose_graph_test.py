"""Pose graphs: exact recovery, the optimum against dense least squares with scipy's rotations, gauge, outliers."""

import dataclasses

import numpy as np
import pytest
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from rig3r_jax.evaluation import pose_graph
from rig3r_jax.evaluation.pose_graph import Edges, PoseGraph, chain, marginal_covariances, optimize, star_edges
from rig3r_jax.geometry import robust

SIGMA = np.array([0.02, 0.03, 0.01, 0.01, 0.02, 0.005])


def exp(tangents):
    """Independent of the package: scipy's rotations, V of SE(3) written out."""
    v, w = tangents[..., :3], tangents[..., 3:]
    matrices = np.broadcast_to(np.eye(4), (len(tangents), 4, 4)).copy()
    matrices[:, :3, :3] = Rotation.from_rotvec(w).as_matrix()
    matrices[:, :3, 3] = (v_matrix(w) @ v[..., None])[..., 0]
    return matrices


def log(matrices):
    w = Rotation.from_matrix(matrices[:, :3, :3]).as_rotvec()
    return np.concatenate([np.linalg.solve(v_matrix(w), matrices[:, :3, 3:])[..., 0], w], axis=-1)


def v_matrix(w):
    angle = np.linalg.norm(w, axis=-1)[:, None, None] + 1e-9
    skew = np.swapaxes(np.cross(w[:, None, :], np.eye(3)), -1, -2)  # columns w x e
    return np.eye(3) + (1 - np.cos(angle)) / angle**2 * skew + (angle - np.sin(angle)) / angle**3 * skew @ skew


def trajectory(rng, n):
    cameras = np.broadcast_to(np.eye(4), (n, 4, 4)).copy()
    steps = exp(np.concatenate([0.3 + 0.2 * rng.normal(size=(n, 3)), 0.2 * rng.normal(size=(n, 3))], axis=-1))
    cameras[0] = steps[0]
    for i in range(1, n):
        cameras[i] = cameras[i - 1] @ steps[i]
    return cameras


def window_graph(rng, n=9, views=4, sigma=SIGMA, correlated=True):
    """(true cameras, edges with noise of the stated information): windows one frame apart, one that closes a loop."""
    true = trajectory(rng, n)
    windows = np.array([*(np.arange(views) + start for start in range(n - views + 1)), [n - 1, *range(views - 1)]])
    first_from_camera = np.linalg.inv(true[windows[:, :1]]) @ true[windows]
    shape = (len(windows), views - 1)
    root = np.tril(0.3 * rng.normal(size=(*shape, 6, 6)), -1) + np.eye(6) if correlated else np.eye(6)
    root = sigma[:, None] * root * np.exp(0.5 * rng.normal(size=(*shape, 1, 1)))
    noise = (root @ rng.normal(size=(*shape, 6, 1)))[..., 0]
    first_from_camera[:, 1:] = first_from_camera[:, 1:] @ exp(noise.reshape(-1, 6)).reshape(*shape, 4, 4)
    return true, star_edges(windows, first_from_camera, np.linalg.inv(root @ root.swapaxes(-1, -2)))


def exact(true, edges):
    first, second = true[edges.pairs[:, 0]], true[edges.pairs[:, 1]]
    return dataclasses.replace(edges, first_from_second=np.linalg.inv(first) @ second)


def residual(cameras, edges):
    first, second = cameras[edges.pairs[:, 0]], cameras[edges.pairs[:, 1]]
    return log(np.linalg.inv(edges.first_from_second) @ np.linalg.inv(first) @ second)


def discounted(r, information, common, kernel, threshold):
    """rows whose squares are q rho(s) / s"""
    whitened = (np.linalg.cholesky(information).swapaxes(-1, -2) @ r[..., None])[..., 0]
    s = np.einsum("mi,mij,mj->m", r, np.broadcast_to(common, information.shape), r)
    rho = {
        "none": s,
        "huber": np.where(s <= threshold**2, s, 2 * threshold * np.sqrt(s) - threshold**2),
        "cauchy": threshold**2 * np.log1p(s / threshold**2),
    }[kernel]
    return whitened * np.sqrt(rho / s)[:, None]


def test_star_edges_join_frame_0_to_the_others():
    rng = np.random.default_rng(0)
    true = trajectory(rng, 6)
    windows = np.array([[0, 2, 4], [4, 1, 5]])
    first_from_camera = np.linalg.inv(true[windows[:, :1]]) @ true[windows]
    information = np.arange(1.0, 5.0).reshape(2, 2, 1, 1) * np.eye(6)
    edges = star_edges(windows, first_from_camera.astype(np.float32), information)
    np.testing.assert_array_equal(edges.pairs, [[0, 2], [0, 4], [4, 1], [4, 5]])
    np.testing.assert_allclose(edges.first_from_second[2], np.linalg.inv(true[4]) @ true[1], atol=1e-6)
    np.testing.assert_array_equal(edges.information[:, 0, 0], [1, 2, 3, 4])


@pytest.mark.parametrize("kernel", robust.KERNELS)
def test_exact_measurements_give_the_exact_cameras(kernel):
    rng = np.random.default_rng(1)
    true, edges = window_graph(rng)
    edges = exact(true, edges)
    chained = chain(len(true), edges)
    np.testing.assert_allclose(chained, np.linalg.inv(true[0]) @ true, atol=1e-12)
    guess = true @ exp(0.3 * rng.normal(size=(len(true), 6)))
    guess[0] = true[0]
    solved = optimize(PoseGraph(guess, edges), kernel)
    np.testing.assert_allclose(solved.world_from_camera, true, atol=1e-9)
    assert solved.converged and solved.cost < 1e-12


@pytest.mark.parametrize("kernel, threshold", [("none", 1.0), ("huber", 1.0), ("huber", 3.0), ("cauchy", 2.0)])
@pytest.mark.parametrize("common", [True, False])
def test_optimum_is_that_of_dense_least_squares(kernel, threshold, common):
    rng = np.random.default_rng(2)
    true, edges = window_graph(rng, n=7)
    shared = np.diag(1 / SIGMA**2) if common else None
    guess = chain(len(true), edges)

    def rows(tangents):
        cameras = guess @ exp(np.concatenate([np.zeros(6), tangents]).reshape(-1, 6))
        weights = edges.information if shared is None else shared
        return discounted(residual(cameras, edges), edges.information, weights, kernel, threshold).ravel()

    dense = least_squares(rows, np.zeros(6 * len(true) - 6), xtol=1e-14, ftol=1e-14, gtol=1e-14)
    solved = optimize(PoseGraph(guess, edges), kernel, threshold, shared)
    assert solved.converged and solved.iterations < 20
    assert solved.cost == pytest.approx(dense.cost, rel=1e-9)
    np.testing.assert_allclose(
        solved.world_from_camera, guess @ exp(np.concatenate([np.zeros(6), dense.x]).reshape(-1, 6)), atol=1e-6
    )


@pytest.mark.parametrize("kernel, threshold", [("none", 1.0), ("huber", 25.0), ("cauchy", 25.0), ("cauchy", 1e3)])
def test_derivatives_are_finite_differences(kernel, threshold):
    rng = np.random.default_rng(3)
    true, edges = window_graph(rng)
    cameras = true @ exp(0.2 * rng.normal(size=(len(true), 6)))  # residuals on both sides of a threshold of 25
    common = np.broadcast_to(np.diag(1 / SIGMA**2), edges.information.shape)

    def costs(r):
        return 0.5 * np.sum(discounted(r, edges.information, common, kernel, threshold) ** 2, axis=-1)

    r, *jacobians = pose_graph._residual_and_jacobians(cameras, edges.first_from_second, edges.pairs)
    np.testing.assert_allclose(r, residual(cameras, edges), atol=1e-9)
    values, gradient, _ = robust.quadratic(r, edges.information, common, kernel, threshold)
    np.testing.assert_allclose(values, costs(r), rtol=1e-9)
    whole = pose_graph._assembled(gradient, [edges.information], jacobians, edges.pairs, len(cameras))[0]
    step = 1e-6
    for axis in range(len(whole)):
        tangent = np.zeros(len(whole) + 6)
        tangent[axis + 6] = step
        plus, minus = (costs(residual(cameras @ exp(sign * tangent.reshape(-1, 6)), edges)).sum() for sign in (1, -1))
        assert whole[axis] == pytest.approx((plus - minus) / (2 * step), abs=1e-5 * np.abs(whole).max())


@pytest.mark.parametrize("kernel", ["huber", "cauchy"])
@pytest.mark.parametrize("scale", [1e-4, 0.02, 0.3, 1.0, 4.0])
def test_hessian_of_the_kernels_is_that_of_finite_differences(kernel, scale):
    rng = np.random.default_rng(4)
    root = rng.normal(size=(2, 30, 6, 6))
    information, common = root @ root.swapaxes(-1, -2) + np.eye(6)
    r, step = scale * rng.normal(size=(30, 6)), 1e-6 * scale
    gradients = [
        [robust.quadratic(r + sign * step * axis, information, common, kernel, 1.5)[1] for sign in (1, -1)]
        for axis in np.eye(6)
    ]
    difference = np.stack([(plus - minus) / (2 * step) for plus, minus in gradients], axis=-1)
    hessian = robust.quadratic(r, information, common, kernel, 1.5)[2][1]
    np.testing.assert_allclose(hessian, difference, atol=1e-5 * np.abs(information).max())
    _, gradient, (reweighted, _) = robust.quadratic(r, information, information, kernel, 1.5)
    assert np.linalg.eigvalsh(reweighted).min() > 0
    np.testing.assert_allclose((reweighted @ r[..., None])[..., 0], gradient, rtol=1e-9)


def test_result_moves_with_the_world():
    rng = np.random.default_rng(4)
    true, edges = window_graph(rng)
    guess = chain(len(true), edges)
    new_from_world = exp(np.array([[30.0, -20.0, 5.0, 1.0, 2.0, -0.5]]))[0]
    here, there = (optimize(PoseGraph(cameras, edges), "huber", 1.0) for cameras in (guess, new_from_world @ guess))
    np.testing.assert_allclose(there.world_from_camera, new_from_world @ here.world_from_camera, atol=1e-7)
    assert there.cost == pytest.approx(here.cost, rel=1e-9)
    np.testing.assert_array_equal(here.world_from_camera[0], guess[0])


@pytest.mark.parametrize("kernel", ["huber", "cauchy"])
def test_robust_kernels_resist_outliers(kernel):
    rng = np.random.default_rng(5)
    true, edges = window_graph(rng, n=20, views=5)
    wild = rng.choice(len(edges.pairs), 7, replace=False)
    measured = edges.first_from_second.copy()
    measured[wild] = measured[wild] @ exp(rng.normal(size=(7, 6)))
    edges = dataclasses.replace(edges, first_from_second=measured)
    graph = PoseGraph(chain(len(true), edges), edges)
    expected = np.linalg.inv(true[0]) @ true

    def error(result):
        return np.linalg.norm(result.world_from_camera[:, :3, 3] - expected[:, :3, 3], axis=-1).mean()

    plain, robust = optimize(graph), optimize(graph, kernel, 2.0, np.diag(1 / SIGMA**2))
    assert plain.converged and robust.converged
    assert error(robust) < 0.35 * error(plain)


def test_a_common_whitening_discounts_by_residuals_and_not_by_trust():
    rng = np.random.default_rng(6)
    true, edges = window_graph(rng)
    trusting = dataclasses.replace(edges, information=100 * edges.information)
    guess, common = chain(len(true), edges), np.diag(1 / SIGMA**2)
    for kernel in ("huber", "cauchy"):
        shared = [optimize(PoseGraph(guess, e), kernel, 1.0, common) for e in (edges, trusting)]
        np.testing.assert_allclose(shared[1].world_from_camera, shared[0].world_from_camera, atol=1e-7)
        assert shared[1].cost == pytest.approx(100 * shared[0].cost)
        own = [optimize(PoseGraph(guess, e), kernel, 1.0) for e in (edges, trusting)]
        assert np.abs(own[1].world_from_camera - own[0].world_from_camera).max() > 1e-4


def test_marginal_covariances_are_blocks_of_the_dense_inverse():
    rng = np.random.default_rng(7)
    true, edges = window_graph(rng)
    cameras = optimize(PoseGraph(chain(len(true), edges), edges)).world_from_camera

    def rows(tangents):
        moved = cameras @ exp(np.concatenate([np.zeros(6), tangents]).reshape(-1, 6))
        return discounted(residual(moved, edges), edges.information, edges.information, "none", 1.0).ravel()

    size, step = 6 * len(true) - 6, 1e-6
    jacobian = np.stack([(rows(step * axis) - rows(-step * axis)) / (2 * step) for axis in np.eye(size)], axis=-1)
    dense = np.linalg.inv(jacobian.T @ jacobian)
    marginals = marginal_covariances(PoseGraph(cameras, edges))
    assert not marginals[0].any()
    for vertex in range(1, len(true)):
        block = dense[6 * vertex - 6 : 6 * vertex, 6 * vertex - 6 : 6 * vertex]
        np.testing.assert_allclose(marginals[vertex], block, atol=1e-6 * np.abs(block).max())


def test_marginal_covariances_predict_the_spread_of_the_errors():
    squares = []
    for seed in range(40):
        true, edges = window_graph(np.random.default_rng(100 + seed))
        solved = optimize(PoseGraph(chain(len(true), edges), edges)).world_from_camera
        errors = log(np.linalg.inv(np.linalg.inv(true[0]) @ true) @ solved)[1:]
        covariances = marginal_covariances(PoseGraph(solved, edges))[1:]
        squares.append(np.einsum("ni,nij,nj->n", errors, np.linalg.inv(covariances), errors))
    # Chi-square of 6: mean 6. Cameras of one graph are correlated: about 40 graphs of spread sqrt(12) each.
    assert np.mean(squares) == pytest.approx(6.0, abs=4 * np.sqrt(12 / 40))


def test_long_trajectories_take_few_steps():
    rng = np.random.default_rng(8)
    true, edges = window_graph(rng, n=500, views=5, sigma=0.1 * SIGMA)
    solved = optimize(PoseGraph(chain(len(true), edges), edges))
    assert len(edges.pairs) == 1988 and solved.converged and solved.iterations < 25
    dof = 6 * (len(edges.pairs) - len(true) + 1)
    assert 2 * solved.cost == pytest.approx(dof, abs=5 * np.sqrt(2 * dof))  # chi-square of the redundant measurements


def test_too_few_steps_are_told():
    true, edges = window_graph(np.random.default_rng(9))
    solved = optimize(PoseGraph(true @ exp(0.3 * np.ones((9, 6))), edges), max_iterations=1)
    assert not solved.converged and solved.iterations == 1


def _spoiled(edges, **changes):
    arrays = {name: np.array(getattr(edges, name)) for name in ("pairs", "first_from_second", "information")}
    for name, (edge, value) in changes.items():
        arrays[name][edge] = value
    return Edges(**arrays)


@pytest.mark.parametrize(
    "changes, match",
    [
        ({"pairs": (3, [2, 2])}, r"edge 3 joins \[2, 2\]"),
        ({"pairs": (3, [2, 9])}, r"edge 3 joins \[2, 9\].*9 vertices"),
        ({"first_from_second": (4, np.nan)}, "measurement of edge 4 is not finite"),
        ({"information": (5, np.nan)}, "information of edge 5 .*positive definite"),
        ({"information": (5, np.inf)}, "information of edge 5 .*positive definite"),
        ({"information": (5, np.zeros((6, 6)))}, "information of edge 5 .*bound the variances"),
        ({"information": (5, np.ones((6, 6)))}, "information of edge 5 .*positive definite"),
        ({"information": (5, np.triu(np.ones((6, 6))))}, "information of edge 5 .*symmetric"),
    ],
)
def test_impossible_edges_are_named(changes, match):
    true, edges = window_graph(np.random.default_rng(10))
    with pytest.raises(ValueError, match=match):
        PoseGraph(true, _spoiled(edges, **changes))


def test_other_bad_input_is_refused_by_name():
    true, edges = window_graph(np.random.default_rng(11))
    graph = PoseGraph(true, edges)
    with pytest.raises(ValueError, match="2 parts: no path from vertex 0 to vertex 9"):
        chain(10, edges)
    with pytest.raises(ValueError, match="1 vertices"):
        chain(1, edges)
    with pytest.raises(ValueError, match="not finite; start from chain"):
        PoseGraph(np.full_like(true, np.nan), edges)
    with pytest.raises(ValueError, match="'tukey'.*cauchy"):
        optimize(graph, "tukey")
    with pytest.raises(ValueError, match="threshold is 0"):
        optimize(graph, "huber", 0.0)
    with pytest.raises(ValueError, match="common_information 0 .*positive definite"):
        optimize(graph, "huber", 1.0, np.zeros((6, 6)))
    with pytest.raises(ValueError, match="windows of 1 frame"):
        star_edges(np.zeros((2, 1), int), np.zeros((2, 1, 4, 4)), np.zeros((2, 0, 6, 6)))


def test_extreme_but_diagonal_information_is_no_singular_one():
    true, edges = window_graph(np.random.default_rng(12), correlated=False)
    spread = np.diag(np.exp([20.0, 20.0, 20.0, -20.0, -20.0, -20.0]))
    edges = dataclasses.replace(exact(true, edges), information=np.broadcast_to(spread, edges.information.shape))
    assert optimize(PoseGraph(chain(len(true), edges), edges)).converged
