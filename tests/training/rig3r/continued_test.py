"""A run goes on from the file of its parameters: their bits, its step and its learning rate, with empty moments."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rig3r_jax import cli
from rig3r_jax.training.checkpoint import Checkpoints
from rig3r_jax.training.config import save_config
from rig3r_jax.training.rig3r.continued import continue_problems, continued
from rig3r_jax.training.rig3r.setup import PlacedModel, build_optimizer
from rig3r_jax.weights.convert import load_metadata, load_params, save_params
from tests.training.rig3r.initial_test import demo

STEP = 700  # past the demo's warm-up, where the learning rate falls


@pytest.fixture(scope="module")
def run(repo):
    return PlacedModel(demo(repo))


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    """The file of a run whose average is not its parameters, and that average."""
    folder = tmp_path_factory.mktemp("run")
    save_config(run.config, folder / "config.json")
    state = run.init()
    average = jax.tree.map(lambda leaf: leaf * 1.37 + 0.01, state.ema)
    checkpoints = Checkpoints(folder, 1)
    checkpoints.save(STEP, state.replace(step=state.step + STEP, ema=average), {"seed": 0, "next_sample": 0})
    checkpoints.wait()
    checkpoints.close()
    path = folder / "weights.safetensors"
    assert cli.main(["export", str(folder), str(path), "--bfloat16"]) == 0
    return path, average


def config_of(run, path, **changes):
    config = run.config.copy_and_resolve_references()
    config.train.continue_from = str(path)
    for key, value in changes.items():
        config.update_from_flattened_dict({key.replace("__", "."): value})
    return config


def test_parameters_are_the_file_s_and_the_step_goes_on(run, exported):
    path, average = exported
    numbers = sum(leaf.size for leaf in jax.tree.leaves(average))
    assert 2 * numbers < path.stat().st_size < 2 * numbers + 40_000
    config = config_of(run, path)
    assert not list(continue_problems(config))
    state, report = continued(run.init(), config)
    rounded = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16).astype(jnp.float32), average)
    jax.tree.map(np.testing.assert_array_equal, state.params, rounded)
    jax.tree.map(np.testing.assert_array_equal, state.ema, rounded)
    assert int(state.step) == STEP and "freshly initialised arrays: nothing" in report
    assert int(optax.tree.get(state.opt_state, "count", filtering=lambda path, _: "Adam" in str(path))) == 0
    assert not any(leaf.any() for leaf in jax.tree.leaves(optax.tree.get(state.opt_state, "mu")))


def test_the_learning_rate_is_that_of_the_step(run, exported):
    """By what the optimizer does: its first update is as long as the schedule says at that step."""
    config = config_of(run, exported[0], optimizer__weight_decay=0.0)
    optimizer, schedule = build_optimizer(config)
    state, _ = continued(run.init(), config)
    updates, _ = optimizer.update(jax.tree.map(jnp.ones_like, state.params), state.opt_state, state.params)
    sizes = jnp.concatenate([jnp.abs(leaf).ravel() for leaf in jax.tree.leaves(updates)])
    np.testing.assert_allclose(sizes, schedule(STEP), rtol=1e-3)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"seed": 3}, "with seed=0, this config has 3: --config.seed=0"),
        ({"train__batch_size": 16}, "with train.batch_size=8, this config has 16: --config.train.batch_size=8"),
        ({"model__patch": 8}, "model.patch is 8; the weights of"),
    ],
)
def test_a_file_of_another_run_is_refused(run, exported, changes, message):
    assert any(message in problem for problem in continue_problems(config_of(run, exported[0], **changes)))


def test_a_file_without_a_step_is_refused(run, exported, tmp_path):
    params, metadata = load_params(exported[0])[0], dict(load_metadata(exported[0]))
    assert json.loads(metadata.pop("step")) == STEP
    save_params(tmp_path / "old.safetensors", params, metadata)
    (problem,) = continue_problems(config_of(run, tmp_path / "old.safetensors"))
    assert "does not say where its run was" in problem
