"""The training step: independent of micro-batches, and learning. Steps that are not finite: tests/faults."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rig3r_jax.losses.multitask import LossWeights
from rig3r_jax.models.rig3r import build
from rig3r_jax.training.noise import NOISE_SCALE
from rig3r_jax.training.optimizer import (
    WEIGHT_DECAY_RULES,
    first_match,
    learning_rate_schedule,
    make_optimizer,
    path_string,
)
from rig3r_jax.training.rig3r.objective import MultitaskObjective
from rig3r_jax.training.state import fresh_state
from rig3r_jax.training.step import make_train_step
from tests.batches import random_batch

MODEL = build(
    variant="tiny", width=16, heads=2, encoder_depth=1, ray_hidden=16, point_head="linear", points_per_patch=4,
    rays_per_patch=1, attention="dense",
)  # fmt: skip
SCHEDULE = learning_rate_schedule(learning_rate=3e-3, end_learning_rate=1e-5, warmup_steps=2, steps=60)
OPTIMIZER = make_optimizer(SCHEDULE, b1=0.9, b2=0.95, eps=1e-8, weight_decay=0.05, clip_norm=1.0)
BATCH = random_batch(batch=4, views=2)


@pytest.fixture(scope="module")
def state():
    views = jax.tree.map(jnp.asarray, BATCH.views)
    params = jax.jit(MODEL.init)(jax.random.key(0), views)["params"]
    return fresh_state(params, OPTIMIZER, keep_ema=True)


def _step(**options):
    objective = MultitaskObjective(MODEL, LossWeights())
    return jax.jit(make_train_step(objective, OPTIMIZER, SCHEDULE, **{"ema_decay": 0.9, **options}))


@pytest.fixture(scope="module")
def plain_step():
    return _step()


def test_micro_batches_give_the_same_step(state, plain_step):
    after, metrics = plain_step(state, BATCH)
    after_parts, metrics_parts = _step(accumulate=2)(state, BATCH)
    assert metrics_parts.keys() - metrics.keys() == {NOISE_SCALE}  # which the micro-batches tell
    for name in metrics:
        np.testing.assert_allclose(metrics_parts[name].compute(), metrics[name].compute(), rtol=1e-4, err_msg=name)
    # The first Adam step is sign-like: gradients near zero may turn it, so the moments are compared.
    moments, moments_parts = after.opt_state[1][0].mu, after_parts.opt_state[1][0].mu
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-7), moments, moments_parts)


def test_loss_falls_and_average_follows(state, plain_step):
    first = None
    for _ in range(60):
        state, metrics = plain_step(state, BATCH)
        first = first if first is not None else float(metrics["loss/total"].compute())
    assert float(metrics["loss/total"].compute()) < 0.7 * first
    distance = optax.tree.norm(jax.tree.map(jnp.subtract, state.params, state.ema))
    assert 0 < distance < 0.2 * optax.tree.norm(state.params)


def test_only_kernels_decay(state):
    decays = first_match(WEIGHT_DECAY_RULES, state.params)
    for path, value in jax.tree_util.tree_leaves_with_path(decays):
        assert value == path_string(path).endswith("kernel")


def test_rule_lists_match_every_parameter_and_the_first_wins():
    tree = {"a": {"kernel": 0, "bias": 0}}
    assert first_match((("bias", 1), ("", 2)), tree) == {"a": {"kernel": 2, "bias": 1}}
    with pytest.raises(ValueError, match="a/kernel"):
        first_match((("bias", 1),), tree)


def test_learning_rate_warms_up_then_falls_as_a_cosine():
    schedule = learning_rate_schedule(learning_rate=1.0, end_learning_rate=0.1, warmup_steps=10, steps=110)
    np.testing.assert_allclose([schedule(s) for s in (0, 5, 10, 60, 110)], [0, 0.5, 1, 0.55, 0.1], atol=1e-6)
