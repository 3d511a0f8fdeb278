"""Calibrated, over- and under-confident errors are called so under every law, and recalibration cures them."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, stats

from rig3r_jax.evaluation import calibration_table
from rig3r_jax.evaluation.calibration import (
    calibration_report,
    component_probabilities,
    weighted_sum_probability,
    windowed_mean,
)
from rig3r_jax.evaluation.d2 import CENTRAL_LEVELS, band, status
from rig3r_jax.evaluation.error_samples import (
    ErrorSamples,
    baseline_nlls,
    fit_temperature,
    negative_log_likelihood,
    squared_distances,
    whiten,
)
from rig3r_jax.evaluation.likelihood import LIKELIHOODS, Likelihood
from rig3r_jax.losses import pose_nll

LAWS = [Likelihood(name, 6.0) for name in LIKELIHOODS]
FROZEN = {"gaussian": stats.norm, "laplace": stats.laplace, "student_t": stats.t(6.0)}


def draw(law, count, rng, stated=1.0):
    """Errors whose spread varies by sample, and predictive variances that are `stated` times the right ones."""
    scale = np.exp(0.6 * rng.normal(size=(count, 1))) * np.array([0.02, 0.03, 0.02, 0.01, 0.01, 0.02])
    residual = FROZEN[law.name].rvs(size=(count, 6), random_state=rng) * scale
    window = np.arange(count) // 7
    return ErrorSamples(residual, stated * scale**2 * law.variance_of_unit_scale, law, window)


def correlated(law, count, rng):
    """Errors whitened by the lower Cholesky factor of the information, as a Cholesky head states them."""
    root = np.tril(0.5 * rng.normal(size=(count, 6, 6)), -1) + np.eye(6) * np.exp(rng.normal(size=(count, 1, 6)) + 3)
    white = FROZEN[law.name].rvs(size=(count, 6), random_state=rng)
    residual = np.linalg.solve(np.swapaxes(root, 1, 2), white[..., None])[..., 0]
    covariance = np.linalg.inv(root @ np.swapaxes(root, 1, 2)) * law.variance_of_unit_scale
    return ErrorSamples(residual, covariance, law), white / math.sqrt(law.variance_of_unit_scale)


@pytest.mark.parametrize("law", LAWS, ids=LIKELIHOODS)
def test_law_agrees_with_scipy(law):
    frozen, x = FROZEN[law.name], np.linspace(-6, 6, 41)
    np.testing.assert_allclose(law.nll(x), -frozen.logpdf(x), rtol=1e-13)
    np.testing.assert_allclose(law.central_probability(x), np.abs(2 * frozen.cdf(x) - 1), atol=1e-14)
    np.testing.assert_allclose(law.variance_of_unit_scale, frozen.var())


@pytest.mark.parametrize("law", LAWS, ids=LIKELIHOODS)
def test_fitted_scale_minimises_the_likelihood(law):
    values = 0.01 * FROZEN[law.name].rvs(size=300, random_state=np.random.default_rng(0))

    def objective(log_scale):
        return np.sum(law.nll(values / math.exp(log_scale)) + log_scale)

    best = math.exp(optimize.minimize_scalar(objective, bracket=(-6, -3), tol=1e-12).x)
    np.testing.assert_allclose(law.fit_scale(values), best, rtol=1e-5)
    np.testing.assert_allclose(law.fit_scale(1e-9 * values), 1e-9 * law.fit_scale(values), rtol=1e-10)


@pytest.mark.parametrize("law", LAWS, ids=LIKELIHOODS)
@pytest.mark.parametrize(
    "stated, word",
    [(1.0, "calibrated"), (2.0, "under-confident"), (0.5, "over-confident")],
    ids=["right", "wide", "thin"],
)
def test_status_coverage_and_recalibration(law, stated, word):
    rng = np.random.default_rng(3)
    train, fit, held_out = (draw(law, count, rng, stated) for count in (2000, 3000, 6000))
    report = calibration_report(held_out, train.residual, fit)
    after = report.recalibrated
    for name in ("trans", "rot", "pose"):
        assert report.d2[name].status == word
        np.testing.assert_allclose(report.d2[name].mean * stated, report.d2[name].components, rtol=0.06)
        assert after.d2[name].status == "calibrated"
    np.testing.assert_allclose(list(report.temperature.values()), 1 / stated, rtol=0.06)
    for level, nominal in CENTRAL_LEVELS.items():
        assert abs(after.coverage["pooled"][level] - nominal) < 0.015
        assert all(
            abs(after.coverage[dim][level] - nominal) < 0.03 for dim in ("v_x", "v_y", "v_z", "w_x", "w_y", "w_z")
        )
    gap = report.coverage["pooled"]["1sigma"] - CENTRAL_LEVELS["1sigma"]
    assert abs(gap) < 0.015 if stated == 1 else gap * (stated - 1) > 0.05
    assert after.ks_law < 0.02 and after.calibration_error < 0.01
    assert after.nll <= report.nll + 1e-3
    assert report.margins["constant_sigma"] > 0 or stated != 1
    assert after.margins["constant_sigma"] > 0.05
    np.testing.assert_allclose(after.whitened_covariance, np.eye(6), atol=0.12)
    assert report.spearman["trans"] > 0.4
    assert report.spearman["trans"] == pytest.approx(after.spearman["trans"])
    for bins in after.sigma_bins.values():
        np.testing.assert_allclose(bins["observed"], bins["predicted"], rtol=0.25)


def test_distances_of_gaussian_errors_follow_chi_square():
    samples = draw(Likelihood(), 4000, np.random.default_rng(5))
    report = calibration_report(samples, samples.residual)
    for name, values in squared_distances(samples).items():
        part = report.d2[name]
        expected = stats.kstest(values, stats.chi2(part.components).cdf)
        assert part.ks == pytest.approx(expected.statistic) and part.ks_pvalue == pytest.approx(expected.pvalue)
        assert part.ks_pvalue > 0.01
        assert part.p95 == pytest.approx(stats.chi2.ppf(0.95, part.components), rel=0.05)


def test_raw_distances_have_the_targets_of_their_law():
    targets = {"gaussian": 3.0, "laplace": 6.0, "student_t": 3 * 6 / 4}
    for law in LAWS:
        samples = draw(law, 20000, np.random.default_rng(6))
        part = calibration_report(samples, samples.residual).d2["rot"]
        log_variance = np.log(samples.variance / law.variance_of_unit_scale)
        raw = np.mean(np.sum(samples.residual[:, 3:] ** 2 * np.exp(-log_variance[:, 3:]), axis=1))
        assert part.raw_mean == pytest.approx(raw) and part.raw_target == targets[law.name]
        assert part.raw_mean == pytest.approx(part.raw_target, rel=0.05)


@pytest.mark.parametrize("law", LAWS, ids=LIKELIHOODS)
def test_whole_covariances(law):
    samples, white = correlated(law, 4000, np.random.default_rng(7))
    np.testing.assert_allclose(whiten(samples), white, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(squared_distances(samples)["pose"], np.sum(white**2, axis=1), rtol=1e-7)
    report = calibration_report(samples, samples.residual)
    assert {part.status for part in report.d2.values()} == {"calibrated"}
    assert all(abs(report.coverage["pooled"][level] - p) < 0.015 for level, p in CENTRAL_LEVELS.items())
    factors = fit_temperature(samples.scaled(4.0, 0.25))
    np.testing.assert_allclose([factors["trans"], factors["rot"]], [0.25, 4.0], rtol=0.06)


@pytest.mark.parametrize("law", LAWS, ids=LIKELIHOODS)
@pytest.mark.parametrize("parameterisation, size", [("log_variance", 6), ("cholesky", 21)])
def test_what_is_trained_is_what_is_reported(law, parameterisation, size):
    rng = np.random.default_rng(11)
    residual = 0.1 * rng.normal(size=(1, 5, 7, 6))
    raw = rng.normal(size=(1, 5, 7, size)) * 0.5 - 4 * (np.arange(size) < 6)
    options = pose_nll.NllOptions(parameterisation=parameterisation, likelihood=law.name, dof=law.dof)
    with jax.enable_x64(True):
        nll = np.asarray(pose_nll.nll_with_constants(jnp.asarray(residual), jnp.asarray(raw), options))
        d2 = pose_nll.window_d2(jnp.asarray(residual), jnp.asarray(raw), options)
        read = pose_nll.covariance if size == 21 else pose_nll.predictive_variance
        stated = np.asarray(read(jnp.asarray(raw), options))
    samples = ErrorSamples(residual.reshape(35, 6), stated.reshape(35, *stated.shape[3:]), law)
    np.testing.assert_allclose(negative_log_likelihood(samples), nll.mean(-1).ravel(), rtol=1e-9)
    for name in ("trans", "rot"):
        means = squared_distances(samples)[name].reshape(1, 5, 7).mean(-1)
        np.testing.assert_allclose(means, np.asarray(d2[name]), rtol=1e-9)


SIZES = np.array([0.05, 0.3, 1.0, 1.5, 2.0, 3.0, 5.0, 12.0, 100.0])
WEIGHTS = ([1.0, 1.0, 1.0, 1.0, 1.0, 1.0], [1.0, -1.0, 0.0, 0.0, 0.0, 0.0], [0.3, 0.05, 1.0, -0.4, 0.1, 0.0])
OTHER_LAWS = [Likelihood("laplace"), *(Likelihood("student_t", dof) for dof in (2.5, 5.0, 8.0, 400.0))]


@pytest.mark.parametrize("law", OTHER_LAWS, ids=str)
def test_weighted_sums_against_monte_carlo(law):
    rng = np.random.default_rng(20)
    frozen = stats.t(law.dof) if law.name == "student_t" else stats.laplace()
    draws = (frozen.ppf(rng.random((6, 300_000))) if law.dof > 100 else frozen.rvs((6, 300_000), rng)) / frozen.std()
    for weights in WEIGHTS:
        weights = np.array(weights) / np.linalg.norm(weights)
        sums = np.abs(weights @ draws)
        expected = [np.mean(sums <= size) for size in SIZES]
        probability = weighted_sum_probability(law, -SIZES, np.tile(weights, (len(SIZES), 1)))
        np.testing.assert_allclose(probability, expected, atol=0.003)  # 3.3 standard deviations at most
    alone = weighted_sum_probability(law, SIZES, np.tile([1.0, 0.0, 0.0], (len(SIZES), 1)))
    np.testing.assert_array_equal(alone, law.central_probability(SIZES * frozen.std()))


def test_weighted_sums_that_have_a_closed_form():
    """Two Laplace variables of equal scale: the density of their sum at unit scale is (1 + |x|) exp(-|x|) / 4."""
    half = np.full((len(SIZES), 2), math.sqrt(0.5))
    size = 2.0 * SIZES  # of the sum of two at scale 1, whose standard deviation is 2
    expected = 1.0 - (1.0 + 0.5 * size) * np.exp(-size)
    np.testing.assert_allclose(weighted_sum_probability(Likelihood("laplace"), SIZES, half), expected, atol=1e-4)
    gaussian = weighted_sum_probability(Likelihood(), SIZES, half)
    np.testing.assert_allclose(gaussian, 2 * stats.norm.cdf(SIZES) - 1, atol=1e-12)


@pytest.mark.parametrize("law", [Likelihood("laplace"), Likelihood("student_t", 5.0)], ids=str)
def test_coverage_is_of_components_not_of_whitened_ones(law):
    """One covariance, whose components are sums of many errors; its rotation is stated four times too small."""
    rng = np.random.default_rng(21)
    frozen, count = stats.t(law.dof) if law.name == "student_t" else stats.laplace(), 12_000
    upper = np.triu(np.where(np.eye(6), 1.0, 0.8)) * np.array([[0.03], [0.02], [0.01], [0.004], [0.005], [0.006]])
    residual = frozen.rvs((count, 6), rng) / frozen.std() @ upper.T
    stated = np.broadcast_to(upper @ upper.T, (count, 6, 6))
    samples = ErrorSamples(residual, stated, law)
    report = calibration_report(samples, residual)
    assert list(report.coverage) == ["pooled", "trans", "rot", "v_x", "v_y", "v_z", "w_x", "w_y", "w_z", "whitened"]
    simulated = np.abs(frozen.rvs((300_000, 6), rng) / frozen.std() @ upper.T)
    for level, nominal in CENTRAL_LEVELS.items():
        bounds = np.quantile(simulated, nominal, axis=0)  # of the marginals, from other draws
        for dim, name in enumerate(("v_x", "v_y", "v_z", "w_x", "w_y", "w_z")):
            assert report.coverage[name][level] == pytest.approx(nominal, abs=0.015)
            assert report.coverage[name][level] == pytest.approx(
                np.mean(np.abs(residual[:, dim]) <= bounds[dim]), abs=5e-3
            )
        assert report.coverage["whitened"][level] == pytest.approx(nominal, abs=0.015)
    one_sigma = CENTRAL_LEVELS["1sigma"]
    naive = law.central_probability(residual[:, 0] / np.sqrt(stated[:, 0, 0]) * frozen.std())
    assert abs(np.mean(naive <= one_sigma) - one_sigma) > 0.02  # a sum does not follow the law of its parts
    assert report.ks_law < 0.015 and report.calibration_error < 0.01
    small = calibration_report(samples.scaled(1.0, 1 / 16), residual).coverage
    assert small["v_x"] == report.coverage["v_x"]  # whatever is said of the rotation
    outside = np.mean(np.abs(residual[:, 3]) > np.quantile(simulated[:, 3], one_sigma) / 4)
    assert 1 - small["w_x"]["1sigma"] == pytest.approx(outside, abs=5e-3) and outside > 0.6
    assert small["whitened"]["1sigma"] < small["pooled"]["1sigma"] - 0.03  # rotation spreads over all whitened ones
    assert "| whitened |" in calibration_table.report_markdown(report)


@pytest.mark.parametrize("law", LAWS, ids=LIKELIHOODS)
def test_independent_components_follow_the_law_itself(law):
    flat = draw(law, 300, np.random.default_rng(22))
    expected = law.central_probability(flat.residual / np.sqrt(flat.covariance / law.variance_of_unit_scale))
    np.testing.assert_allclose(component_probabilities(flat), expected, rtol=1e-12)
    whole = ErrorSamples(flat.residual, flat.covariance[:, :, None] * np.eye(6), law)
    np.testing.assert_allclose(component_probabilities(whole), expected, rtol=1e-12)
    assert "whitened" not in calibration_report(flat, flat.residual).coverage
    assert ("whitened" in calibration_report(whole, flat.residual).coverage) == (law.name != "gaussian")


def test_diagonal_covariances_say_the_same_as_variances():
    flat = draw(LAWS[0], 500, np.random.default_rng(8), stated=1.7)
    whole = ErrorSamples(flat.residual, flat.covariance[:, :, None] * np.eye(6))
    np.testing.assert_allclose(negative_log_likelihood(whole), negative_log_likelihood(flat), rtol=1e-10)
    for name, value in fit_temperature(flat).items():
        assert fit_temperature(whole)[name] == pytest.approx(value, rel=1e-5)


def test_gaussian_density_and_baselines_against_scipy():
    rng = np.random.default_rng(9)
    samples, _ = correlated(Likelihood(), 20, rng)
    expected = [
        -stats.multivariate_normal(np.zeros(6), c).logpdf(r) / 6 for r, c in zip(*vars_of(samples), strict=True)
    ]
    np.testing.assert_allclose(negative_log_likelihood(samples), expected, rtol=1e-8)
    train, test = (rng.normal(size=(count, 6)) @ np.diag(np.arange(1, 7)) for count in (50, 40))
    nlls = baseline_nlls(test, train, Likelihood())
    sigma = np.sqrt(np.mean(train**2, axis=0))
    assert nlls["constant_sigma"] == pytest.approx(np.mean(-stats.norm(0, sigma).logpdf(test)))
    whole = stats.multivariate_normal(np.zeros(6), train.T @ train / 50)
    assert nlls["constant_covariance_gaussian"] == pytest.approx(np.mean(-whole.logpdf(test)) / 6)


def vars_of(samples):
    return samples.residual, samples.covariance


def test_band_and_targets():
    assert status(2.49, 3.0) == "under-confident" and status(2.51, 3.0) == "calibrated"
    assert status(3.51, 3.0) == "over-confident"
    assert status(3.0, 2.0) == "calibrated"
    assert band(6.0, 6) == pytest.approx((5.0, 7.0)) and band(2.0)[1] == band()[1]
    rng = np.random.default_rng(1)
    samples = ErrorSamples(rng.normal(size=(70, 6)), np.ones((70, 6)), views=8)
    d2 = calibration_report(samples, samples.residual).d2
    assert [d2[name].target for name in ("trans", "rot", "pose")] == [3 - 1 / 7, 3.0, 6 - 1 / 7]


def test_windowed_mean_is_of_consecutive_windows():
    window = np.repeat(np.arange(150), 3)[::-1]
    values = window.astype(float)
    np.testing.assert_allclose(windowed_mean(values, window), 49.5 + np.arange(51))
    assert not len(windowed_mean(values, window % 99))
    samples = ErrorSamples(np.sqrt(values + 1)[:, None] * np.ones(6), np.ones((450, 6)), window=window)
    after = calibration_report(samples, samples.residual, warmup_windows=20).windowed_d2
    assert after["rot_max"] == pytest.approx(3 * 100.5) and after["rot_last"] == after["rot_max"]
    assert math.isnan(calibration_report(samples, samples.residual, warmup_windows=51).windowed_d2["trans_max"])


def test_report_is_json_with_null_for_what_is_undefined():
    samples = draw(LAWS[1], 30, np.random.default_rng(2))
    constant = ErrorSamples(samples.residual, np.ones((30, 6)), samples.likelihood)
    report = calibration_report(constant, samples.residual, samples)
    read = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert read["spearman"]["trans"] is None and read["windowed_d2"]["rot_max"] is None
    assert read["likelihood"] == {"name": "laplace", "dof": 6.0}
    assert read["recalibrated"]["recalibrated"] is None and len(read["whitened_covariance"]) == 6


def test_markdown_tables_are_rectangular():
    samples = draw(LAWS[2], 800, np.random.default_rng(4), stated=2.0)
    report = calibration_report(samples, samples.residual, samples)
    for text in (calibration_table.report_markdown(report), calibration_table.summary_markdown({"ours": report})):
        assert "under-confident" in text and "nan" not in text
        blocks = [block for block in text.split("\n\n") if block.startswith("|")]
        assert blocks
        for block in blocks:
            assert len({line.replace("\\|", "").count("|") for line in block.splitlines()}) == 1
    assert "ours, recalibrated" in calibration_table.summary_markdown({"ours": report})


@pytest.mark.parametrize(
    "change, word",
    [
        ({"residual": np.zeros((0, 6)), "covariance": np.zeros((0, 6))}, "n at least 1"),
        ({"covariance": np.ones((4, 3))}, "(n, 6, 6) covariances"),
        ({"covariance": np.zeros((4, 6))}, "above 0"),
        ({"covariance": np.full((4, 6), np.nan)}, "not finite"),
        ({"window": np.zeros(3, int)}, "one number to each"),
        ({"views": 1}, "2 or more"),
    ],
)
def test_bad_samples_are_refused(change, word):
    good = {"residual": np.ones((4, 6)), "covariance": np.ones((4, 6))}
    with pytest.raises(ValueError) as caught:
        ErrorSamples(**good | change)
    assert word in str(caught.value)


def test_bad_laws_are_refused():
    with pytest.raises(ValueError, match="choose from"):
        Likelihood("cauchy")
    with pytest.raises(ValueError, match="dof is 2"):
        Likelihood("student_t", 2.0)
    for law in LAWS:
        with pytest.raises(ValueError, match="no scale fits"):
            law.fit_scale(np.zeros(5))
