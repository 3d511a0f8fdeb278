"""d2 watched as the last link of an optimizer: what is averaged, when the rate is lowered, when training is over."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rig3r_jax.evaluation.d2 import WINDOWS
from rig3r_jax.geometry.residual import WindowScale
from rig3r_jax.losses.mean import Mean
from rig3r_jax.losses.pose_nll import NllOptions
from rig3r_jax.training.checkpoint import Checkpoints
from rig3r_jax.training.optimizer import make_optimizer
from rig3r_jax.uncertainty.head import HeadOptions, continue_training, initial_state
from rig3r_jax.uncertainty.objective import STEP_D2, WindowBatch
from rig3r_jax.uncertainty.watch import (
    ENDED,
    WINDOWED,
    WatchOptions,
    watch_d2,
    watch_metrics,
    watch_state,
)

FACTOR = "train/learning_rate_factor"
PARAMS = {"layer": {"kernel": jnp.full((2, 2), 0.5), "bias": jnp.ones(2)}}


def run(options, trans, rot=None, size=1):
    """(factor that each step's update was scaled by, metrics after it) for d2 of consecutive steps."""
    watch, read = watch_d2(options, size), watch_metrics(options)
    update = jax.jit(lambda state, metrics: watch.update({"x": jnp.ones(3)}, state, metrics=metrics))
    state, factors, rows = watch.init({"x": jnp.zeros(3)}), [], []
    for of_trans, of_rot in zip(trans, trans if rot is None else rot, strict=True):
        metrics = {
            STEP_D2[part]: Mean(jnp.float32(size * d2), jnp.float32(size))  # a sum over the step's windows
            for part, d2 in {"trans": of_trans, "rot": of_rot}.items()
        }
        updates, state = update(state, metrics)
        assert len(set(updates["x"].tolist())) == 1
        factors.append(float(updates["x"][0]))
        rows.append({name: float(mean.compute()) for name, mean in read(state).items()})
    return np.array(factors), rows


def column(rows, name):
    return np.array([row[name] for row in rows])


@pytest.mark.parametrize("size", [1, 10, 7])
def test_windowed_d2_is_the_mean_of_the_last_100_windows(size):
    rng = np.random.default_rng(0)
    steps = math.ceil(WINDOWS / size)
    assert (size == 7) or steps * size == WINDOWS == 100
    trans, rot = rng.uniform(0, 50, (2, 2 * steps + 3))
    _, rows = run(WatchOptions(), trans, rot, size)
    for part, values in {"trans": trans, "rot": rot}.items():
        found = column(rows, WINDOWED[part])
        assert np.isnan(found[: steps - 1]).all()
        expected = [values[end - steps : end].mean() for end in range(steps, len(values) + 1)]
        np.testing.assert_allclose(found[steps - 1 :], expected, rtol=1e-5)


def test_nothing_happens_unless_it_is_asked_for():
    factors, rows = run(WatchOptions(), np.full(250, 3.0))
    assert set(factors) == {1.0} and set(column(rows, FACTOR)) == {1.0} and set(column(rows, ENDED)) == {0.0}


def test_rate_is_lowered_after_a_step():
    factors, rows = run(WatchOptions(lower_after=4, lower_factor=0.25), np.full(9, 50.0))
    np.testing.assert_array_equal(factors, [1] * 4 + [0.25] * 5)
    np.testing.assert_array_equal(column(rows, FACTOR), [1] * 3 + [0.25] * 6)  # of the step to come


def test_rate_is_lowered_once_both_are_near_and_stays_so():
    """Of 50 windows per step, so that two steps are a windowed d2."""
    trans, rot = [3.0, 9.0, 3.0, 3.0, 9.0, 9.0], [9.0, 3.0, 3.0, 3.5, 3.0, 9.0]
    factors, rows = run(WatchOptions(lower_near=0.5, lower_factor=0.1), trans, rot, size=50)
    np.testing.assert_allclose(factors, [1, 1, 1, 1, 0.1, 0.1], rtol=1e-6)
    np.testing.assert_allclose(column(rows, WINDOWED["rot"])[3], 3.25)
    factors, _ = run(WatchOptions(lower_near=0.5), [3.0] * 6, [9.0] * 6, size=50)  # translation alone is not enough
    assert set(factors) == {1.0}
    factors, _ = run(WatchOptions(lower_near=0.5), [3.0] * 3, size=1)  # nor are fewer than 100 windows
    assert set(factors) == {1.0}


def test_training_ends_after_so_many_near_steps_in_a_row():
    options = WatchOptions(stop_near=0.5, stop_patience=3)
    d2 = [3.0, 3.0, 9.0, 3.0, 2.8, 3.2, 3.0, 99.0]
    factors, rows = run(options, d2, size=100)
    np.testing.assert_array_equal(column(rows, ENDED), [0, 0, 0, 0, 0, 1, 1, 1])
    np.testing.assert_array_equal(factors, [1, 1, 1, 1, 1, 1, 0, 0])  # the sixth step is still taken


def test_weights_do_not_move_once_training_has_ended():
    plain = make_optimizer(optax.constant_schedule(0.1), b1=0.9, b2=0.999, eps=1e-8, weight_decay=0.5, clip_norm=0.0)
    optimizer = optax.chain(plain, watch_d2(WatchOptions(stop_near=1.0, stop_patience=2), 100))
    near = {STEP_D2[part]: Mean.of(jnp.full(100, 3.0)) for part in WINDOWED}
    params, state, seen = PARAMS, optimizer.init(PARAMS), [PARAMS]
    for _ in range(6):
        updates, state = optimizer.update(jax.tree.map(jnp.ones_like, params), state, params, metrics=near)
        params = optax.apply_updates(params, updates)
        seen.append(params)
    for before, after in zip(seen[:2], seen[1:3], strict=True):
        assert all(jax.tree.leaves(jax.tree.map(lambda a, b: bool((a != b).all()), before, after)))
    assert watch_state(state).ended
    for after in seen[3:]:
        jax.tree.map(np.testing.assert_array_equal, after, seen[2])


@functools.cache
def some_windows(count=20):
    rng = np.random.default_rng(0)

    def normal(*shape):
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    scale = WindowScale(jnp.ones((count, 1)), jnp.ones((count, 1)), jnp.full((count, 1), 3))
    return WindowBatch(normal(count, 1, 3, 8), normal(count, 1, 3, 6), scale, normal(count, 3), normal(count, 1, 3))


@pytest.mark.parametrize("until", [7, 30, 60])
def test_state_survives_a_checkpoint(tmp_path, until):
    """Before there is a windowed d2, while its rate is lowered, and after the end."""
    watch = WatchOptions(lower_after=20, stop_near=10.0, stop_patience=40)
    options = HeadOptions(steps=100, windows_per_step=10, learning_rate=1e-2, end_learning_rate=1e-2, watch=watch)
    nll, windows = NllOptions(), some_windows()
    state, _ = continue_training(initial_state(windows, nll, options, 0), windows, nll, options, 0, until=until)
    assert bool(watch_state(state.opt_state).ended) == (until == 60)
    checkpoints = Checkpoints(tmp_path, 1)
    checkpoints.save(int(state.step), state, {"seed": 0, "next_sample": 10 * until})
    checkpoints.wait()
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    abstract = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), state)
    restored, _ = checkpoints.restore(abstract)
    checkpoints.close()
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    jax.tree.map(np.testing.assert_array_equal, restored, state)
    went_on, rows = continue_training(state, windows, nll, options, 0)
    went_on_restored, rows_restored = continue_training(restored, windows, nll, options, 0)
    jax.tree.map(np.testing.assert_array_equal, went_on_restored, went_on)
    np.testing.assert_equal(rows_restored, rows)


def test_bad_options_are_refused():
    with pytest.raises(ValueError, match="stop_patience is 0; it must be positive; stop_near is -1.0; it must be 0 or"):
        WatchOptions(stop_near=-1.0, stop_patience=0)
