"""The noise scale of gradients whose covariance is known: those of a quadratic loss with noise of our own."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rig3r_jax.losses.mean import Mean
from rig3r_jax.training.metrics import merge_window
from rig3r_jax.training.noise import NOISE_SCALE, noise_scale
from rig3r_jax.training.state import fresh_state
from rig3r_jax.training.step import make_train_step


class Quadratic:
    """A loss whose gradient for one sample x is `params - x`: its mean is known, and its covariance that of x."""

    def prepare(self, batch):
        return batch, jnp.asarray(float(len(batch)))

    def loss(self, params, samples, totals):
        loss = 0.5 * jnp.sum((params["kernel"] - samples) ** 2) / totals
        return loss, {"loss/total": Mean(loss, jnp.ones(()))}


@pytest.mark.parametrize("parts, rows", [(2, 4), (4, 16)])
def test_it_is_the_trace_of_the_covariance_over_the_squared_gradient(parts, rows):
    rng = np.random.default_rng(0)
    mean, spread = np.array([0.6, -0.2, 0.3]), np.array([0.5, 1.0, 1.5])
    batches = jnp.asarray(rng.normal(mean, spread, (6000, rows, 3)), jnp.float32)
    optimizer = optax.sgd(0.0)  # the gradient stays that of the origin: minus the mean
    state = fresh_state({"kernel": jnp.zeros(3)}, optimizer)
    step = make_train_step(Quadratic(), optimizer, lambda _: 0.0, accumulate=parts)
    _, metrics = jax.lax.scan(step, state, batches)
    window = [{NOISE_SCALE: Mean(*row)} for row in zip(*jax.tree.leaves(metrics[NOISE_SCALE]), strict=True)]
    expected = np.sum(spread**2) / np.sum(mean**2)
    assert merge_window(window)[NOISE_SCALE] == pytest.approx(expected, rel=0.06)


def test_gradients_without_noise_have_none():
    same = functools.partial(noise_scale, parts=4, samples=8)
    assert float(same(jnp.asarray(4 * (3.0 / 4) ** 2), jnp.asarray(9.0)).compute()) == pytest.approx(0.0, abs=1e-6)
