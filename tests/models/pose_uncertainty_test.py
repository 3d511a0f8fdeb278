"""The pose uncertainty head: its size, its names, and the two ways to start it."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from rig3r_jax.losses.pose_nll import RAW_SIZES, NllOptions, initial_bias, predictive_variance
from rig3r_jax.models import pose_uncertainty
from rig3r_jax.weights.vggt import LOG_VARIANCE_BRANCH, initial_log_variance

FEATURES = jnp.asarray(np.random.default_rng(0).normal(size=(4, 2, 3, 16)), jnp.float32)


def count(params):
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def test_golden_size_and_shapes_are_those_of_vggts_branch(shared):
    head = pose_uncertainty.build(2048)
    params = jax.eval_shape(head.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 2048), jnp.float32))["params"]
    assert count(params) == 2_104_326
    shapes = json.loads((shared / "golden/vggt_1b_state_dict_shapes.json").read_text())
    for layer in ("fc1", "fc2"):
        weight = shapes[f"{LOG_VARIANCE_BRANCH}{layer}.weight"]
        assert params[layer]["kernel"].shape == tuple(reversed(weight))
        assert params[layer]["bias"].shape == (weight[0],)


def test_parameters_of_vggts_branch_fit():
    head, params = pose_uncertainty.build(16), initial_log_variance(16)
    assert head.apply({"params": params}, FEATURES).shape == (4, 2, 3, 6)
    started = pose_uncertainty.init(head, jax.random.key(0), 16)
    assert jax.tree.map(jnp.shape, started) == jax.tree.map(jnp.shape, params)


def test_it_is_two_layers_and_the_exact_gelu():
    head = pose_uncertainty.build(16)
    params = pose_uncertainty.init(head, jax.random.key(0), 16)
    first, last = (jax.tree.map(lambda x: np.asarray(x, np.float64), params[name]) for name in ("fc1", "fc2"))
    hidden = np.asarray(FEATURES, np.float64) @ first["kernel"] + first["bias"]
    expected = hidden * scipy.special.ndtr(hidden) @ last["kernel"] + last["bias"]
    np.testing.assert_allclose(head.apply({"params": params}, FEATURES), expected, atol=1e-5)
    assert not np.allclose(expected, expected[0, 0, 0])  # the plain start tells frames apart


def test_outputs_are_float32_though_the_layers_compute_in_half_precision():
    head = pose_uncertainty.build(16, dtype=jnp.bfloat16)
    params = pose_uncertainty.init(head, jax.random.key(0), 16)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    assert head.apply({"params": params}, FEATURES).dtype == jnp.float32


@pytest.mark.parametrize("parameterisation", RAW_SIZES)
def test_mle_start_predicts_the_given_variance_of_every_frame_and_learns(parameterisation):
    options = NllOptions(parameterisation=parameterisation, likelihood="laplace")
    variance = np.array([1e-3, 2e-3, 4e-3, 1e-2, 2e-2, 3e-2])
    head = pose_uncertainty.build(16, parameterisation)
    bias = initial_bias(variance, options)
    params = pose_uncertainty.init(head, jax.random.key(0), 16, "mle", bias)

    def variances(params):
        return predictive_variance(head.apply({"params": params}, FEATURES), options)

    found = variances(params)
    np.testing.assert_allclose(found, np.broadcast_to(variance, found.shape), rtol=1e-5)
    gradient = jax.grad(lambda p: jnp.log(variances(p)).mean())(params)
    assert np.abs(gradient["fc2"]["kernel"]).max() > 0 and np.abs(gradient["fc2"]["bias"]).max() > 0
    plain = pose_uncertainty.init(head, jax.random.key(0), 16)
    jax.tree.map(np.testing.assert_array_equal, params["fc1"], plain["fc1"])


def test_parameterisations_have_as_many_outputs_as_the_loss_reads():
    assert pose_uncertainty.OUTPUTS == RAW_SIZES


def test_bad_requests_are_refused():
    with pytest.raises(ValueError, match="parameterisation is 'full'; it must be one of log_variance"):
        pose_uncertainty.build(16, "full")
    with pytest.raises(ValueError, match="width is 1"):
        pose_uncertainty.build(1)
    head, key = pose_uncertainty.build(16), jax.random.key(0)
    with pytest.raises(ValueError, match="head_init is 'zeros'"):
        pose_uncertainty.init(head, key, 16, "zeros")
    with pytest.raises(ValueError, match="pass their `bias`"):
        pose_uncertainty.init(head, key, 16, "mle")
    with pytest.raises(ValueError, match="has 21 numbers; the head gives 6"):
        pose_uncertainty.init(head, key, 16, "mle", np.zeros(21))
