"""Training of the uncertainty head on windows whose errors depend on the features; the study of old and new head."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rig3r_jax.evaluation.calibration import calibration_report
from rig3r_jax.evaluation.d2 import WINDOWS
from rig3r_jax.geometry import se3
from rig3r_jax.losses.pose_nll import NllOptions
from rig3r_jax.uncertainty import study, study_table
from rig3r_jax.uncertainty.features import WindowFeatures
from rig3r_jax.uncertainty.head import (
    HeadOptions,
    batch_rows,
    continue_training,
    error_samples,
    initial_state,
    mle_variance,
    predict,
    train_head,
)
from rig3r_jax.uncertainty.objective import last_residuals, window_batch
from rig3r_jax.uncertainty.watch import WINDOWED, WatchOptions, watch_state

WIDTH, VIEWS = 32, 4
PLAIN = HeadOptions().for_width(WIDTH)
RECIPE = dataclasses.replace(
    PLAIN, head_init="mle", windows_per_step=10, warmup_steps=50, clip_norm=2.0, watch=WatchOptions(lower_after=350)
)


@functools.cache
def windows(count: int, seed: int, iterations: int = 1) -> WindowFeatures:
    """Errors are Gaussian; the logarithms of their sigmas are linear in the features, of range 1 to 5 or so."""
    rng = np.random.default_rng(seed)
    direction = np.random.default_rng(99).normal(size=(WIDTH, 6)) / math.sqrt(WIDTH)
    features = rng.normal(size=(iterations, count, VIEWS, WIDTH))
    sigma = np.repeat([0.05, 0.02], 3) * np.exp(0.5 * features @ direction)
    error = sigma * rng.normal(size=sigma.shape)
    tangent = np.concatenate([rng.normal(size=(count, VIEWS, 3)), 0.3 * rng.normal(size=(count, VIEWS, 3))], axis=-1)
    tangent[:, 0] = error[:, :, 0] = 0.0
    first_from_camera, true_from_predicted = (
        np.asarray(se3.exp(jnp.asarray(x, jnp.float32))) for x in (tangent, error)
    )
    predicted = np.linalg.inv(first_from_camera @ true_from_predicted)
    predicted[..., :3, 3] *= 0.4  # a unit of its own
    names = tuple(f"window {n}" for n in range(count))
    return WindowFeatures(features.astype(np.float32), predicted, np.linalg.inv(first_from_camera), names)


def equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.fixture(scope="module")
def trained():
    return train_head(windows(600, 0), NllOptions(), RECIPE, 0)


def test_log_variance_head_learns_what_the_features_know(trained):
    params, rows = trained
    train, held_out = windows(600, 0), windows(400, 1)
    residual = last_residuals(window_batch(train, 0.02))
    report = calibration_report(error_samples(params, held_out, NllOptions()), residual)
    for part in ("trans", "rot"):
        assert 2.3 < report.d2[part].mean < 3.7
        assert report.spearman[part] > 0.3
    assert report.margins["constant_sigma"] > 0.05  # the best head there is has 0.125 or so
    assert rows[-1]["loss/pose_uncertainty_nll"] < rows[0]["loss/pose_uncertainty_nll"] + 1
    assert [row["step"] for row in rows] == list(range(1, 501))


def test_rows_carry_the_curves(trained):
    rows = trained[1]
    assert {
        "loss/pose_uncertainty_nll", "calibration/d2_rot_mean", "uncertainty/sigma_trans_mean", "scale/mean",
        "diagnostic/log_var_rot_at_min", "diagnostic/residual_trans_p90", "grad/uncertainty_head_norm",
    } <= rows[0].keys()  # fmt: skip
    full = math.ceil(WINDOWS / RECIPE.windows_per_step)
    for name in WINDOWED.values():
        windowed = np.array([row[name] for row in rows])
        assert np.isnan(windowed[: full - 1]).all() and np.isfinite(windowed[full - 1 :]).all()
    rate = [row["train/learning_rate"] for row in rows]
    np.testing.assert_allclose([rate[0], rate[1], rate[50]], RECIPE.learning_rate * np.array([0, 0.02, 1]), rtol=1e-5)
    factor = [row["train/learning_rate_factor"] for row in rows]
    assert factor[348] == 1.0 and factor[349] == np.float32(0.1)  # of the step that follows


def test_start_says_the_mean_square_of_all_frames_under_every_law():
    train = windows(600, 0)
    data = window_batch(train, 0.02)
    for nll in (NllOptions(), NllOptions(likelihood="student_t"), NllOptions("cholesky")):
        state = initial_state(data, nll, RECIPE, 0)
        samples = error_samples(state.params, train, nll)
        expected = np.broadcast_to(np.mean(samples.residual**2, axis=0), samples.variance.shape)
        np.testing.assert_allclose(samples.variance, expected, rtol=1e-5)
    np.testing.assert_allclose(mle_variance(samples.residual), expected[0])


def test_a_run_is_a_function_of_its_seed_and_goes_on_bit_for_bit(trained):
    train, nll = windows(600, 0), NllOptions()
    params, rows = train_head(train, nll, RECIPE, 0)
    equal(params, trained[0])
    assert rows[120:] == trained[1][120:]  # no NaN there
    data = window_batch(train, nll.min_translation)
    state, first = continue_training(initial_state(data, nll, RECIPE, 0), data, nll, RECIPE, 0, until=137)
    assert (int(state.step), len(first)) == (137, 137)
    state = jax.tree.map(np.asarray, state)  # as after a checkpoint
    state, second = continue_training(jax.tree.map(jnp.asarray, state), data, nll, RECIPE, 0)
    equal(state.params, params)
    assert (first + second)[120:] == rows[120:]
    other, _ = continue_training(initial_state(data, nll, RECIPE, 1), data, nll, RECIPE, 1, until=5)
    assert not np.array_equal(other.params["fc1"]["kernel"], params["fc1"]["kernel"])


def test_batches_are_epochs_of_all_windows_from_any_step_on():
    rows = batch_rows(3, 0, 20, 6, 40)
    np.testing.assert_array_equal(batch_rows(3, 7, 13, 6, 40), rows[7:])
    for epoch in rows.ravel().reshape(3, 40):
        assert sorted(epoch) == list(range(40))
    assert (batch_rows(4, 0, 20, 6, 40) != rows).any()


def test_training_stops_early_and_lowers_its_rate_when_d2_is_near():
    options = dataclasses.replace(RECIPE, watch=WatchOptions(lower_near=1.0, stop_near=1.0, stop_patience=20))
    params, rows = train_head(windows(600, 0), NllOptions(), options, 0)
    assert WINDOWS // options.windows_per_step + 19 <= len(rows) < 100
    last = rows[-20:]
    assert all(abs(row[name] - 3) < 1 for row in last for name in WINDOWED.values())
    assert any(abs(rows[-21][name] - 3) >= 1 or math.isnan(rows[-21][name]) for name in WINDOWED.values())
    assert last[-1]["train/learning_rate_factor"] == np.float32(0.1) and last[-1]["count/ended"] == 1
    data = window_batch(windows(600, 0), 0.02)
    state, again = continue_training(initial_state(data, NllOptions(), options, 0), data, NllOptions(), options, 0)
    assert len(again) == len(rows) and watch_state(state.opt_state).ended
    assert continue_training(state, data, NllOptions(), options, 0) == (state, [])


def test_every_refinement_is_predicted_and_the_last_one_reported():
    some, nll = windows(5, 2, iterations=3), NllOptions("cholesky")
    data = window_batch(some, 0.02)
    state = initial_state(data, nll, HeadOptions(), 0)
    assert predict(state.params, some, nll).shape == (3, 5, VIEWS - 1, 21)
    samples = error_samples(state.params, some, nll)
    assert samples.covariance.shape == (15, 6, 6) and samples.views == VIEWS
    np.testing.assert_array_equal(samples.window, np.repeat(np.arange(5), 3))
    np.testing.assert_allclose(samples.residual, np.asarray(data.residual[:, -1]).reshape(15, 6), atol=1e-6)


def test_study_shows_the_collapse_of_the_old_head_and_its_cure(trained):
    train, validation, test = windows(600, 0), windows(150, 3), windows(150, 1)
    arms, lines = study.study_arms(train, NllOptions(), RECIPE)[1:4], []
    results = [study.run_arm(arm, train, validation, test, (0, 1), lines.append) for arm in arms]
    old, new, recipe = (study_table.summary(result) for result in results)
    assert len(lines) == 6 and "held-out" in lines[0]
    assert min(old["clamp_hit_trans"]) > 0.2
    assert max(new["clamp_hit_trans"] + new["clamp_hit_rot"] + recipe["clamp_hit_trans"]) == 0
    assert max(recipe["d2_trans_worst"] + recipe["d2_rot_worst"]) < 6
    assert min(recipe["held_out_margin"]) > 0.05
    equal(results[2].params[0], trained[0])
    table = study_table.study_table(results)
    assert arms[0].name in table and "±" in table and "-confident" in table
    assert f"* {arms[2].name}: log_variance under a gaussian law, 2 seeds, 500 steps of 10 windows" in table
    rows = [line for line in table.splitlines() if line.startswith("| log-variance |")]
    assert len(rows) == len(study_table.STEPS) + 2


def test_clamps_are_in_proportion_to_the_errors():
    train = windows(600, 0)
    nll = study.scaled_clamps(train)
    squares = last_residuals(window_batch(train, 0.02)) ** 2
    np.testing.assert_allclose(nll.sqrt_info_clamp_trans[1] * math.sqrt(squares[:, :3].mean()), 1.1)
    np.testing.assert_allclose(nll.sqrt_info_clamp_rot[1] * math.sqrt(squares[:, 3:].mean()), 2.8)


def test_bad_options_are_refused():
    with pytest.raises(ValueError, match="steps is 0.*head_init is 'best'; it must be one of default, mle"):
        HeadOptions(steps=0, head_init="best")
    with pytest.raises(ValueError, match="windows_per_step is 10, but there are 5 windows"):
        train_head(windows(5, 2), NllOptions(), RECIPE, 0)
