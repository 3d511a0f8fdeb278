"""The pose NLL against scipy's densities, finite differences, samples and examples done by hand."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from rig3r_jax.geometry.residual import WindowScale
from rig3r_jax.losses import pose_nll
from rig3r_jax.losses.mean import Mean
from rig3r_jax.losses.pose_metrics import WindowMotion
from rig3r_jax.losses.pose_nll import NllOptions

LIKELIHOODS = {"gaussian": scipy.stats.norm, "laplace": scipy.stats.laplace, "student_t": scipy.stats.t(4.0)}
loss, window_d2 = (jax.jit(f, static_argnums=2) for f in (pose_nll.pose_nll, pose_nll.window_d2))


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def draw(options, shape=(3, 4, 5), seed=0, sigma=0.03):
    """Residuals and raw numbers about them, inside every clamp."""
    rng = np.random.default_rng(seed)
    residual = rng.normal(0, sigma, (*shape, 6))
    bias = pose_nll.initial_bias(np.full(6, sigma**2), options)
    return jnp.asarray(residual), jnp.asarray(bias + rng.normal(0, 0.3, (*shape, len(bias))))


def moving(distances, valid_count, iterations=1):
    """Motion of windows (b n); predictions half as long as the truth."""
    distances = jnp.asarray(distances, float)
    predicted = jnp.broadcast_to(0.5 * distances, (iterations, *distances.shape))
    scale = jnp.broadcast_to(jnp.asarray([2.0, 0.01, 4.0])[: len(distances)], predicted.shape[:2])
    count = jnp.broadcast_to(jnp.asarray(valid_count), predicted.shape[:2])
    return WindowMotion(WindowScale(scale, scale + 0.5, count), distances, predicted)


def density(likelihood, residual, scale):
    """log density of zero-mean variables by scipy."""
    return LIKELIHOODS[likelihood].logpdf(residual / scale) - np.log(scale)


def value(metric):
    return float(metric.compute() if isinstance(metric, Mean) else metric)


def test_golden_elementwise_nll_and_gradient_in_float64(shared):
    """Each element to 1e-8 of the larger of 1 and itself."""
    folder, case = shared / "golden/uncertainty_loss", "laplace_residual_clamped"
    theirs = json.loads((folder / "log_var_cases.json").read_text())[case]["options"]
    options = NllOptions(likelihood=theirs["loss_type"], residual_sq_clamp=theirs["residual_sq_clamp"])
    with np.load(folder / "log_var.npz") as file:
        raw = jnp.asarray(file[f"{case}__in_log_var"][:, :, 1:], float)
        residual = jnp.asarray(file[f"{case}__f64_residual"])

        @jax.jit
        @functools.partial(jax.grad, has_aux=True)
        def gradient_of(raw):
            total, nll, _ = pose_nll.pose_nll(residual, raw, options)
            return total, (total, nll)

        gradient, (total, nll) = gradient_of(raw)
        close = {"rtol": 1e-8, "atol": 1e-8}
        np.testing.assert_allclose(nll, file[f"{case}__f64_nll_elementwise"], **close)
        np.testing.assert_allclose(gradient, file[f"{case}__f64_grad_log_var"][:, :, 1:], **close)
        np.testing.assert_allclose(total, file[f"{case}__f64_metric.pose_uncertainty_nll"], **close)


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("parameterisation", ["log_variance", "sqrt_information"])
def test_densities_are_those_of_scipy(likelihood, parameterisation):
    options = NllOptions(parameterisation=parameterisation, likelihood=likelihood, dof=4.0)
    residual, raw = draw(options)
    scale = np.exp(raw / 2) if parameterisation == "log_variance" else 1 / (np.logaddexp(0, raw) + 1e-6)
    expected = -density(likelihood, residual, np.asarray(scale))
    np.testing.assert_allclose(pose_nll.nll_with_constants(residual, raw, options), expected, rtol=1e-10)
    _, nll, _ = loss(residual, raw, options)
    constant = pose_nll.omitted_constant(options)
    tolerance = 1e-12 if parameterisation == "log_variance" else 1e-5  # the older loss has log(s + 1e-6)
    np.testing.assert_allclose(nll + constant, expected, atol=tolerance)


def test_cholesky_is_the_multivariate_normal_of_its_covariance():
    options = NllOptions(parameterisation="cholesky")
    residual, raw = draw(options, (1, 2, 3))
    covariance = np.asarray(pose_nll.covariance(raw, options))
    np.testing.assert_allclose(
        pose_nll.predictive_variance(raw, options), np.diagonal(covariance, axis1=-2, axis2=-1), rtol=1e-10
    )
    joint = np.asarray(pose_nll.nll_with_constants(residual, raw, options))
    squared = pose_nll.squared_distances(residual, pose_nll.read_spread(raw, options))
    rotation = slice(3, 6)
    for index in np.ndindex(joint.shape[:-1]):
        full, r = covariance[index], np.asarray(residual[index])
        np.testing.assert_allclose(joint[index].sum(), -scipy.stats.multivariate_normal(cov=full).logpdf(r), rtol=1e-9)
        marginal = scipy.stats.multivariate_normal(cov=full[rotation, rotation])
        np.testing.assert_allclose(joint[index][rotation].sum(), -marginal.logpdf(r[rotation]), rtol=1e-9)
        # The factor is the textbook one, scaled rows of a unit triangle.
        factor = np.linalg.cholesky(np.linalg.inv(full))
        unit = np.eye(6)
        unit[np.tril_indices(6, -1)] = raw[index][6:]
        np.testing.assert_allclose(factor, np.exp(-raw[index][:6, None] / 2) * unit, atol=1e-7)
        for part, where in (("trans", slice(0, 3)), ("rot", rotation)):
            expected = r[where] @ np.linalg.inv(full[where, where]) @ r[where]
            np.testing.assert_allclose(squared[part][index], expected, rtol=1e-9)


def test_cholesky_without_correlation_is_log_variance():
    plain = NllOptions()
    residual, raw = draw(plain)
    full = dataclasses.replace(plain, parameterisation="cholesky")
    padded = jnp.concatenate([raw, jnp.zeros((*raw.shape[:-1], 15))], axis=-1)
    expected, found = loss(residual, raw, plain), loss(residual, padded, full)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9), expected, found)
    diagonal = pose_nll.predictive_variance(raw, plain)
    np.testing.assert_allclose(pose_nll.covariance(raw, plain), diagonal[..., None] * np.eye(6), atol=1e-12)


@pytest.mark.parametrize("parameterisation", pose_nll.RAW_SIZES)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_gradients_are_finite_differences(parameterisation, likelihood):
    options = NllOptions(
        parameterisation=parameterisation, likelihood=likelihood, motion_weighting="gt_trans_norm",
        log_variance_penalty=1e-2, prior_weight=1e-2,
    )  # fmt: skip
    residual, raw = draw(options, (2, 3, 2))
    motion = moving(np.arange(6).reshape(3, 2) + 0.5, [1, 2, 2], iterations=2)

    @jax.jit
    def total(residual, raw):
        return pose_nll.pose_nll(residual, raw, options, motion)[0]

    gradients = jax.jit(jax.grad(total, argnums=(0, 1)))(residual, raw)
    rng, step = np.random.default_rng(1), 1e-6
    for k in range(2):
        direction = [np.zeros(residual.shape), np.zeros(raw.shape)]
        direction[k] = rng.normal(size=direction[k].shape) * (0.03 if k == 0 else 1.0)
        ahead, behind = (total(residual + s * step * direction[0], raw + s * step * direction[1]) for s in (1, -1))
        np.testing.assert_allclose((ahead - behind) / (2 * step), (gradients[k] * direction[k]).sum(), rtol=1e-6)


def test_refinements_are_weighted_by_powers_of_gamma():
    residual, raw = draw(NllOptions(), (4, 2, 3))
    total, nll, metrics = loss(residual, raw, NllOptions())
    means = np.asarray(nll).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(total, (0.216 * means[0] + 0.36 * means[1] + 0.6 * means[2] + means[3]) / 4)
    np.testing.assert_allclose(value(metrics["loss/pose_uncertainty_nll"]), total)
    one = jnp.zeros((4, 1, 1, 6)), jnp.full((4, 1, 1, 6), 2.0)
    np.testing.assert_allclose(loss(*one, NllOptions())[0], 0.544, rtol=1e-12)  # of a per-element NLL of 1


def test_no_gradient_passes_a_clamp_but_that_of_penalty_and_prior():
    @functools.partial(jax.jit, static_argnums=0)
    @functools.partial(jax.grad, argnums=1)
    def gradients(options, raw):
        return pose_nll.pose_nll(jnp.full_like(raw, 0.01), raw, options)[0]

    def gradient(options, raw):
        return np.unique(gradients(options, jnp.full((1, 1, 1, 6), raw)))

    log_variance = NllOptions(log_var_clamp=(-9.0, -5.0))
    for raw in (-9.1, -4.9):
        assert gradient(log_variance, raw) == 0
        assert gradient(dataclasses.replace(log_variance, log_variance_penalty=0.1), raw) == pytest.approx(
            0.2 * raw / 6
        )
    assert (gradient(log_variance, -7.0) != 0).all()
    older = NllOptions(parameterisation="sqrt_information", sqrt_info_clamp_rot=(0.1, 100.0))
    assert gradient(older, 101.0) == 0 and (gradient(older, 99.0) != 0).all()
    pulled = gradient(dataclasses.replace(older, prior_weight=0.1, prior_sqrt_info=10.0), 101.0)
    assert pulled == pytest.approx(0.2 * np.log(10.1) / 101.0 / 6, rel=1e-6)

    options = NllOptions(residual_sq_clamp=1e-4)
    residual = jnp.asarray([0.011, -0.02, 0.009, -0.001, 0.0, 1.0])[None, None, None]
    nll, gradient = jax.value_and_grad(lambda r: pose_nll.pose_nll(r, jnp.zeros_like(r), options)[1].sum())(residual)
    np.testing.assert_allclose(gradient[0, 0, 0], [0, 0, 0.009, -0.001, 0, 0])
    np.testing.assert_allclose(nll, 0.5 * (3 * 1e-4 + 0.009**2 + 0.001**2))


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_predictive_variance_is_that_of_samples_and_makes_d2_three(likelihood):
    """Student-t with 8 degrees of freedom, so that the sample variance converges."""
    options = NllOptions(parameterisation="cholesky", likelihood=likelihood, dof=8.0)
    rng = np.random.default_rng(0)
    standard = {"student_t": scipy.stats.t(8.0)}.get(likelihood, LIKELIHOODS[likelihood])
    whitened = standard.rvs(size=(400_000, 6), random_state=rng)
    raw = np.concatenate([rng.normal(-7, 0.5, 6), rng.normal(0, 0.4, 15)])
    unit = np.eye(6)
    unit[np.tril_indices(6, -1)] = raw[6:]
    factor = np.exp(-raw[:6, None] / 2) * unit
    residual = np.linalg.solve(factor.T, whitened.T).T
    expected = np.asarray(pose_nll.covariance(jnp.asarray(raw), options))
    spread = np.sqrt(np.diag(expected))
    np.testing.assert_allclose(
        np.cov(residual.T) / np.outer(spread, spread), expected / np.outer(spread, spread), atol=0.02
    )
    some = jnp.asarray(residual[:50_000])
    d2 = window_d2(some, jnp.broadcast_to(jnp.asarray(raw), (len(some), 21)), options)
    assert d2["trans"] == pytest.approx(3, abs=0.1) and d2["rot"] == pytest.approx(3, abs=0.1)


@pytest.mark.parametrize("parameterisation", pose_nll.RAW_SIZES)
@pytest.mark.parametrize("likelihood", LIKELIHOODS)
def test_initial_bias_inverts_the_predictive_variance(parameterisation, likelihood):
    options = NllOptions(parameterisation=parameterisation, likelihood=likelihood, dof=3.0)
    variance = np.array([1e-3, 2e-2, 0.5, 4e-4, 1e-2, 30.0])
    bias = pose_nll.initial_bias(variance, options)
    assert bias.shape == (pose_nll.RAW_SIZES[parameterisation],)
    np.testing.assert_allclose(pose_nll.predictive_variance(jnp.asarray(bias), options), variance, rtol=1e-9)


def test_initial_bias_refuses_a_start_without_gradient():
    older = NllOptions(parameterisation="sqrt_information")
    with pytest.raises(ValueError, match="sqrt_info_clamp_trans or .*widen the clamp"):
        pose_nll.initial_bias(np.full(6, 1e-6), older)
    with pytest.raises(ValueError, match="log_var_clamp"):
        pose_nll.initial_bias(np.full(6, 1e-9), NllOptions())
    with pytest.raises(ValueError, match="must be positive"):
        pose_nll.initial_bias(np.array([1.0, 1, 1, 1, 1, 0]), NllOptions())


def test_motion_weights_are_relative_and_bounded():
    motion = moving([[0.0, 0.01], [1.0, 3.0], [4.0, 6.0]], [0, 1, 2])

    def weights(weighting, motion=motion):
        return np.asarray(pose_nll.motion_weights(motion, NllOptions(motion_weighting=weighting)))

    mean = (0.005 + 2 + 5) / 3
    np.testing.assert_array_equal(weights("none"), 1.0)
    np.testing.assert_allclose(weights("gt_trans_norm"), [0.1, 2 / mean, 2.0])
    np.testing.assert_allclose(weights("valid_count"), [0.1, 1.0, 2.0])
    for weighting in ("gt_trans_norm", "valid_count"):
        np.testing.assert_array_equal(weights(weighting, moving(np.zeros((3, 2)), [0, 0, 0])), 1.0)

    residual, raw = draw(NllOptions(), (1, 3, 2))
    total, nll, _ = loss(residual, raw, NllOptions(motion_weighting="valid_count"), motion)
    weighted = np.array(nll)
    weighted[..., :3] *= np.array([0.1, 1.0, 2.0])[:, None, None]
    np.testing.assert_allclose(total, weighted.mean())
    with pytest.raises(ValueError, match="pass `motion`"):
        pose_nll.pose_nll(residual, raw, NllOptions(motion_weighting="valid_count"))


def hand_made():
    """Two refinements of two windows of two frames; only the second one shows in the metrics. Sigma: 0.1 and 0.5."""
    residual = np.full((2, 2, 2, 6), 99.0)
    residual[1, ..., :3] = np.array([[0.1, 0.2], [0.3, 0.4]])[..., None] * [1, 0, 0]
    residual[1, ..., 3:] = 0.5
    return jnp.asarray(residual), jnp.broadcast_to(jnp.log(jnp.repeat(jnp.asarray([0.01, 0.25]), 3)), (2, 2, 2, 6))


def test_metrics_of_a_hand_made_batch():
    residual, raw = hand_made()
    raw = raw.at[1, 0, 0, :3].set(-25.0).at[1, 0, 0, 3:].set(21.0)
    motion = moving([[1.0, 3.0], [2.0, 6.0]], [2, 1], iterations=2)
    metrics = {k: value(v) for k, v in loss(residual, raw, NllOptions(likelihood="laplace"), motion)[2].items()}
    tiny, huge = np.exp(-10), np.exp(10)
    d2_trans = np.array([0.1**2 * np.exp(20), 4, 9, 16])
    d2_rot = np.array([0.75 * np.exp(-20), 3, 3, 3])
    logs = np.array([[-20, 20], *[[np.log(0.01), np.log(0.25)]] * 3])
    expected = {
        "loss/trans_uncertainty_nll": (0.5 * (d2_trans + 3 * logs[:, 0]) / 3).mean(),
        "loss/rot_uncertainty_nll": (0.5 * (d2_rot + 3 * logs[:, 1]) / 3).mean(),
        "calibration/d2_trans_mean": d2_trans.mean(),
        "calibration/d2_rot_mean": d2_rot.mean(),
        "uncertainty/sigma_trans_mean": (tiny + 0.3) / 4,
        "uncertainty/sigma_rot_mean": (huge + 1.5) / 4,
        "diagnostic/sigma_trans_p90": 0.1,
        "diagnostic/sigma_rot_p50": 0.5,
        "diagnostic/sigma_rot_p10": 0.5,
        "diagnostic/residual_trans_p90": 0.37,
        "diagnostic/residual_rot_p90": np.sqrt(0.75),
        "diagnostic/residual_sq_clamped_ratio": 0,
        "diagnostic/log_var_trans_at_min": 0.25,
        "diagnostic/log_var_trans_at_max": 0,
        "diagnostic/log_var_rot_at_min": 0,
        "diagnostic/log_var_rot_at_max": 0.25,
        "scale/mean": 1.005,
        "scale/std": 1.99 / np.sqrt(2),
        "scale/valid_count_mean": 1.5,
        "scale/raw": 1.505,
        "scale/at_min_ratio": 0.5,
        "scale/at_max_ratio": 0,
        "diagnostic/gt_trans_norm_mean": 3,
        "diagnostic/pred_trans_norm_raw_mean": 1.5,
        "diagnostic/pred_trans_norm_scaled_mean": (1 + 3 + 0.01 + 0.03) / 4,
    }
    percentiles = {f"diagnostic/sigma_{part}_p{p}" for part in ("trans", "rot") for p in (10, 50, 90)}
    assert set(metrics) == set(expected) | percentiles | {"loss/pose_uncertainty_nll"}
    assert {k: metrics[k] for k in expected} == pytest.approx(expected, rel=1e-9)


def test_metrics_of_the_older_head_and_the_residual_clamp():
    residual, _ = hand_made()
    options = NllOptions(
        parameterisation="sqrt_information", residual_sq_clamp=0.09 + 1e-9, sqrt_info_clamp_rot=(0.1, 3.0)
    )
    raw = jnp.broadcast_to(jnp.log(jnp.expm1(jnp.asarray([10.0, 10, 10, 2, 2, 5]))), residual.shape)
    metrics = {k: value(v) for k, v in loss(residual, raw, options)[2].items()}
    clamp = 0.09 + 1e-9
    expected = {
        "diagnostic/sqrt_info_trans_clamp_hit": 0,
        "diagnostic/sqrt_info_rot_clamp_hit": 1 / 3,
        "diagnostic/sqrt_info_trans_p90": 10,
        "diagnostic/sqrt_info_rot_p99": 3,
        "diagnostic/residual_sq_clamped_ratio": (1 + 12) / 24,  # a squared 0.4, and every 0.5
        "diagnostic/residual_rot_p90": np.sqrt(0.75),
        "calibration/d2_trans_mean": 100 * (0.01 + 0.04 + 0.09 + clamp) / 4,
        "calibration/d2_rot_mean": clamp * (4 + 4 + 9),
        "uncertainty/sigma_rot_mean": (0.5 + 0.5 + 1 / 3) / 3,
    }
    assert {k: metrics[k] for k in expected} == pytest.approx(expected, rel=1e-5)
    assert not any("log_var" in name or name.startswith("scale/") for name in metrics)


def test_means_of_two_batches_merge_to_that_of_both_and_d2_is_per_window():
    residual, raw = draw(NllOptions(), (2, 5, 3))
    whole = loss(residual, raw, NllOptions())[2]
    parts = [loss(residual[:, w], raw[:, w], NllOptions())[2] for w in (slice(0, 2), slice(2, 5))]
    for name, mean in whole.items():
        if isinstance(mean, Mean):
            np.testing.assert_allclose(parts[0][name].merge(parts[1][name]).compute(), mean.compute(), rtol=1e-10)
    d2 = window_d2(residual[-1], raw[-1], NllOptions())
    assert d2["rot"].shape == (5,)
    np.testing.assert_allclose(d2["rot"].mean(), whole["calibration/d2_rot_mean"].compute())
    halved = window_d2(residual[-1], raw[-1], NllOptions(likelihood="laplace"))
    np.testing.assert_allclose(halved["trans"], d2["trans"] / 2)


def test_stored_rotations_are_made_orthonormal_and_equal_cameras_have_no_error():
    rotations = scipy.spatial.transform.Rotation.random(8, random_state=0).as_matrix().astype(np.float32)
    stored = np.tile(np.eye(4), (2, 4, 1, 1))
    stored[..., :3, :3] = rotations.reshape(2, 4, 3, 3)
    stored[..., :3, 3] = np.random.default_rng(0).normal(size=(2, 4, 3))
    residual, motion = jax.jit(pose_nll.window_errors)(jnp.asarray(stored)[None], jnp.asarray(stored))
    np.testing.assert_allclose(residual, 0.0, atol=1e-12)
    centers = -np.swapaxes(stored[..., :3, :3], -1, -2) @ stored[..., :3, 3:]
    expected = np.linalg.norm(centers[:, 1:] - centers[:, :1], axis=(-2, -1))
    np.testing.assert_allclose(motion.true_distance, expected, rtol=1e-5)
    np.testing.assert_allclose(motion.predicted_distance[0], motion.true_distance)


def test_half_precision_numbers_are_widened():
    residual, raw = draw(NllOptions(), (1, 2, 2))
    total, nll, _ = pose_nll.pose_nll(residual.astype(jnp.float32), raw.astype(jnp.bfloat16), NllOptions())
    assert total.dtype == nll.dtype == jnp.float32
    cameras = jnp.broadcast_to(jnp.eye(4, dtype=jnp.bfloat16), (1, 1, 2, 4, 4))
    assert pose_nll.window_errors(cameras, cameras[0])[0].dtype == jnp.float32


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"likelihood": "cauchy"}, "likelihood is 'cauchy'; it must be one of gaussian, laplace"),
        ({"parameterisation": "variance"}, "it must be one of log_variance"),
        ({"likelihood": "student_t", "dof": 2.0}, "dof is 2.0; it must be above 2"),
        ({"log_var_clamp": (1.0, -1.0)}, "log_var_clamp"),
        ({"sqrt_info_clamp_rot": (0.0, 1.0), "gamma": 0.0}, "sqrt_info_clamp_rot.*; gamma is 0.0; it must be positive"),
        ({"motion_weighting": "both", "prior_weight": -1.0}, "motion_weighting .*prior_weight is -1.0"),
        ({"residual_sq_clamp": 0.0}, "residual_sq_clamp is 0.0"),
    ],
)
def test_options_name_every_problem(fields, message):
    with pytest.raises(ValueError, match=message):
        NllOptions(**fields)


@pytest.mark.parametrize("parameterisation", pose_nll.RAW_SIZES)
def test_one_process_computes_in_both_precisions(parameterisation):
    options = NllOptions(parameterisation=parameterisation)
    residual, raw = (np.asarray(x) for x in draw(options, (1, 2, 2)))
    double = loss(jnp.asarray(residual), jnp.asarray(raw), options)[0]
    with jax.enable_x64(False):
        single = loss(jnp.asarray(residual, jnp.float32), jnp.asarray(raw, jnp.float32), options)[0]
        assert pose_nll.covariance(jnp.asarray(raw, jnp.float32), options).dtype == single.dtype == jnp.float32
    assert pose_nll.covariance(jnp.asarray(raw), options).dtype == double.dtype == jnp.float64
    np.testing.assert_allclose(single, double, rtol=1e-5)


def test_a_head_of_another_size_is_refused():
    with pytest.raises(ValueError, match="gives 6 numbers; cholesky reads 21"):
        pose_nll.read_spread(jnp.zeros((1, 6)), NllOptions(parameterisation="cholesky"))
