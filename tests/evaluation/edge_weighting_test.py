"""Weightings of a pose graph's edges: better weights give better trajectories, and the table says what was done."""

import dataclasses
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rig3r_jax.evaluation.edge_weighting import (
    CHAINED,
    WEIGHTINGS,
    WindowPredictions,
    compare_weightings,
    constant_sigma,
    information_of,
)
from rig3r_jax.evaluation.weighting_comparison import compare_over_trajectories, format_comparisons
from rig3r_jax.geometry import se3

SIGMA = np.array([0.02, 0.03, 0.01, 0.01, 0.02, 0.005])


def exp(tangents):
    with jax.enable_x64(True):
        return np.array(se3.exp(jnp.asarray(tangents)))


def predictions(seed, spread, n=24, views=5):
    """Windows with noise of sigma `SIGMA`, times the edge's own exp(spread * normal), which the covariance tells."""
    rng = np.random.default_rng(seed)
    steps = exp(np.concatenate([0.2 + 0.1 * rng.normal(size=(n, 3)), 0.1 * rng.normal(size=(n, 3))], axis=-1))
    true = np.stack(list(itertools.accumulate(steps, np.matmul)))
    windows = np.arange(views) + np.arange(n - views + 1)[:, None]
    first_from_camera = np.linalg.inv(true[windows[:, :1]]) @ true[windows]
    sigma = SIGMA * np.exp(spread * rng.normal(size=(len(windows), views - 1, 1)))
    noise = sigma * rng.normal(size=sigma.shape)
    first_from_camera[:, 1:] = first_from_camera[:, 1:] @ exp(noise)
    return WindowPredictions(windows, first_from_camera, sigma**2, true), noise


def test_the_right_covariances_beat_a_constant_one_on_uneven_noise():
    ates = {name: [] for name in (CHAINED, *WEIGHTINGS)}
    for seed in range(12):
        windows, _ = predictions(seed, spread=1.0)
        other = predictions(1000 + seed, spread=1.0)[1]
        scores = compare_weightings(windows, constant_sigma(other))
        assert all(score.converged for score in scores.values())
        for name, score in scores.items():
            ates[name].append(score.ate_m)
    ratio = np.array(ates["predicted"]) / np.array(ates["constant"])
    # About 0.45 of the error; a quarter less than 1 with four standard errors to spare.
    assert ratio.mean() + 4 * ratio.std() / math.sqrt(len(ratio)) < 0.75
    means = {name: np.mean(values) for name, values in ates.items()}
    assert means["oracle"] < means["predicted"] < means["constant"] < means[CHAINED]


def test_on_even_noise_predicted_is_the_constant_weighting():
    windows, _ = predictions(0, spread=0.0)
    for kernel in ("none", "huber"):
        scores = compare_weightings(windows, SIGMA, kernel, 2.0)
        for field in dataclasses.fields(scores["constant"]):
            pair = [getattr(scores[name], field.name) for name in ("predicted", "constant")]
            assert pair[0] == pytest.approx(pair[1], rel=1e-6), field.name


def test_residual_is_the_noise_of_the_measurements():
    windows, noise = predictions(1, spread=0.5)
    np.testing.assert_allclose(windows.residual(), noise, atol=1e-12)


def test_information_is_the_inverse_of_what_each_weighting_knows():
    windows, noise = predictions(2, spread=0.5)
    shape = noise.shape[:2]
    identity = information_of("uniform", windows, SIGMA)
    np.testing.assert_array_equal(identity, np.broadcast_to(np.eye(6), (*shape, 6, 6)))
    constant = information_of("constant", windows, SIGMA)
    np.testing.assert_allclose(constant, np.broadcast_to(np.diag(1 / SIGMA**2), (*shape, 6, 6)))
    whole = dataclasses.replace(windows, covariance=windows.covariance[..., None] * np.eye(6) + 1e-6)
    for variant in (windows, whole):
        covariance = variant.covariance if variant is whole else variant.covariance[..., None] * np.eye(6)
        product = information_of("predicted", variant, SIGMA) @ covariance
        np.testing.assert_allclose(product, np.broadcast_to(np.eye(6), product.shape), atol=1e-9)
    oracle = np.diagonal(information_of("oracle", windows, SIGMA, 0.5), axis1=-2, axis2=-1)
    np.testing.assert_allclose(oracle, 1 / np.maximum(noise**2, (0.5 * SIGMA) ** 2), rtol=1e-6)


def test_constant_sigma_is_the_root_mean_square_of_each_dimension():
    residuals = np.random.default_rng(3).normal(size=(7, 4, 6)) + 2.0
    np.testing.assert_allclose(constant_sigma(residuals), np.sqrt((residuals**2).mean(axis=(0, 1))))
    for bad in (residuals[:0], 0 * residuals, np.nan * residuals):
        with pytest.raises(ValueError, match="give finite residuals"):
            constant_sigma(bad)


def test_frames_in_no_window_are_left_out():
    dense, _ = predictions(4, spread=0.5)
    stretched = np.repeat(dense.world_from_camera_true, 2, axis=0)
    stretched[1::2, :3, 3] += 100.0
    sparse = dataclasses.replace(dense, windows=2 * dense.windows, world_from_camera_true=stretched)
    scores = compare_weightings(dense, SIGMA), compare_weightings(sparse, SIGMA)
    for name in WEIGHTINGS:
        assert scores[0][name] == scores[1][name]


def test_nothing_is_solved_for_the_chained_row():
    scores = compare_weightings(predictions(5, spread=0.5)[0], SIGMA)
    assert list(scores) == [CHAINED, *WEIGHTINGS]
    assert math.isnan(scores[CHAINED].cost) and scores["constant"].ate_of_constant == 1.0


def test_a_solution_that_did_not_converge_is_marked():
    compared = compare_over_trajectories({"one": predictions(5, spread=0.5)[0]}, SIGMA)
    stuck = dataclasses.replace(compared.overall["uniform"], not_converged=1)
    text = format_comparisons([dataclasses.replace(compared, overall={**compared.overall, "uniform": stuck})])
    rows = text.splitlines()[2:7]
    assert ["(1 not converged)" in row for row in rows] == [False, True, False, False, False]
    assert "oracle (sees the truth)" in rows[4] and f"{compared.overall['predicted'].ate_m:.4g}" in rows[3]


def test_bad_input_is_refused_by_name():
    usable, _ = predictions(6, spread=0.5)
    with pytest.raises(ValueError, match="'best'.*oracle"):
        information_of("best", usable, SIGMA)
    for bad in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="information of edge 0 .*bound the variances"):
            compare_weightings(dataclasses.replace(usable, covariance=bad * usable.covariance**0), SIGMA)
    singular = dataclasses.replace(usable, covariance=np.zeros((*usable.covariance.shape, 6)))
    with pytest.raises(ValueError, match="not finite or singular"):
        compare_weightings(singular, SIGMA)
    with pytest.raises(ValueError, match="frames 0..23 of 20"):
        compare_weightings(dataclasses.replace(usable, world_from_camera_true=np.zeros((20, 4, 4))), SIGMA)
    apart = dataclasses.replace(usable, windows=usable.windows[[0, 10]], first_from_camera=usable.first_from_camera[:2])
    with pytest.raises(ValueError, match="2 parts"):
        compare_weightings(dataclasses.replace(apart, covariance=usable.covariance[:2]), SIGMA)
