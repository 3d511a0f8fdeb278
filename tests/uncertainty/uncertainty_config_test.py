"""The set-up of the plain uncertainty training, what the recipe changes of it, and messages that a user can act on."""

import importlib
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rig3r_jax.geometry.residual import WindowScale
from rig3r_jax.losses.pose_nll import NllOptions
from rig3r_jax.training.rig3r import task as rig3r_task
from rig3r_jax.training.task import validate
from rig3r_jax.uncertainty import task as task_kind
from rig3r_jax.uncertainty.head import HeadOptions, initial_state, make_head_step
from rig3r_jax.uncertainty.objective import HeadObjective, WindowBatch, nll_options
from rig3r_jax.uncertainty.task import head_options
from tests.conftest import REPO

CONFIGS = ("uncertainty", "uncertainty_recipe", "calibrate_study")
SET_UP = {
    "task": "uncertainty",
    "windows.views": 8,
    "train.steps": 500, "train.batch_size": 1, "train.accumulate": 1,
    "optimizer.learning_rate": 1e-4, "optimizer.end_learning_rate": 1e-4, "optimizer.warmup_steps": 0,
    "optimizer.b1": 0.9, "optimizer.b2": 0.999, "optimizer.eps": 1e-8, "optimizer.weight_decay": 0.01,
    "optimizer.clip_norm": 0.0, "optimizer.ema_decay": 0.0,
    "nll.parameterisation": "log_variance", "nll.likelihood": "gaussian", "nll.gamma": 0.6,
    "nll.motion_weighting": "none", "nll.log_variance_penalty": 0.0, "nll.prior_weight": 0.0,
    "nll.log_var_clamp": (-20.0, 20.0), "nll.sqrt_info_clamp_trans": (0.1, 100.0),
    "nll.sqrt_info_clamp_rot": (0.1, 200.0), "nll.min_translation": 0.02,
    "head.init": "default", "head.lower_after": 0, "head.lower_near": 0.0, "head.stop_near": 0.0,
}  # fmt: skip


def load(name):
    return importlib.import_module(f"rig3r_jax.configs.{name}").get_config()


def value(config, key):
    for part in key.split("."):
        config = config[part]
    return config


@pytest.fixture
def runnable(tmp_path):
    """A config whose backbone and data are there, as far as the check of a config looks."""

    def build(name="uncertainty"):
        config = load(name)
        config.backbone.path = str(tmp_path)
        for entry in config.data.mixture:
            entry.root = "" if entry.name == "procedural" else str(tmp_path)
        return config

    return build


def some_windows(count=3):
    rng = np.random.default_rng(0)

    def normal(*shape):
        return jnp.asarray(rng.normal(size=shape), jnp.float32)

    scale = WindowScale(jnp.ones((count, 2)), jnp.ones((count, 2)), jnp.full((count, 2), 3))
    return WindowBatch(
        normal(count, 2, 3, 8), 3.0 * normal(count, 2, 3, 6), scale, normal(count, 3), normal(count, 2, 3)
    )


def test_every_value_of_the_plain_set_up():
    config = load("uncertainty")
    for key, expected in SET_UP.items():
        assert value(config, key) == expected, key
    assert [(entry.name, entry.weight) for entry in config.data.mixture] == [("tum", 1.0), ("sevenscenes", 0.0)]
    assert min(config.windows.counts) >= 2000
    assert config.windows.splits == ("train", "validation", "test")
    assert nll_options(config) == NllOptions() and head_options(config) == HeadOptions()


def test_learning_rate_as_built_is_constant():
    config, batch = load("uncertainty"), some_windows()
    nll, options = nll_options(config), head_options(config)
    step, state = jax.jit(make_head_step(nll, options)), initial_state(batch, nll, options, 0)
    for number in (0, 250, 499):
        _, metrics = step(state.replace(step=jnp.int32(number)), batch.take(jnp.array([0])))
        np.testing.assert_allclose(metrics["train/learning_rate"].compute(), 1e-4, rtol=1e-6)
        assert metrics["train/learning_rate_factor"].compute() == 1.0


def test_steps_are_those_of_plain_adamw():
    """Loshchilov & Hutter (2019), algorithm 2, in float64; weights decay, biases do not; no gradient is clipped."""
    config, batch = load("uncertainty"), some_windows()
    nll, options = nll_options(config), head_options(config)
    step, state = jax.jit(make_head_step(nll, options)), initial_state(batch, nll, options, 0)
    gradient = jax.jit(jax.grad(lambda params, rows: HeadObjective(nll).loss(params, *_prepared(nll, rows))[0]))
    expected = jax.tree.map(lambda x: np.asarray(x, np.float64), state.params)
    first = second = jax.tree.map(np.zeros_like, expected)
    for number in range(1, 5):
        rows = batch.take(jnp.array([number % 3]))
        grads = jax.tree.map(lambda x: np.asarray(x, np.float64), gradient(state.params, rows))
        norm = np.sqrt(sum(np.sum(g**2) for g in jax.tree.leaves(grads)))
        assert norm > 1.5  # so that clipping at 1 would show
        first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, grads)
        second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g**2, second, grads)
        expected = jax.tree_util.tree_map_with_path(
            lambda path, p, m, v, n=number: (
                p
                - 1e-4 * (m / (1 - 0.9**n) / (np.sqrt(v / (1 - 0.999**n)) + 1e-8))
                - (1e-4 * 0.01 * p if path[-1].key == "kernel" else 0.0)
            ),
            expected, first, second,
        )  # fmt: skip
        state, metrics = step(state, rows)
        np.testing.assert_allclose(metrics["grad/uncertainty_head_norm"].compute(), norm, rtol=1e-4)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=2e-8), state.params, expected)


def _prepared(nll, rows):
    return HeadObjective(nll).prepare(rows)


def test_recipe_differs_in_exactly_the_keys_it_names():
    recipe, plain = (flat(load(name).to_dict()) for name in ("uncertainty_recipe", "uncertainty"))
    assert recipe.keys() == plain.keys()
    text = (REPO / "rig3r_jax/configs/uncertainty_recipe.py").read_text()
    named = set(re.findall(r"^    config\.([\w.]+) = ", text, re.MULTILINE))
    assert {key for key in plain if recipe[key] != plain[key]} == named
    assert {"name", "head.init", "optimizer.clip_norm", "optimizer.warmup_steps", "train.batch_size"} <= named


def flat(tree, prefix=""):
    if not isinstance(tree, dict):
        return {prefix: tree}
    parts = (flat(item, f"{prefix}.{key}" if prefix else key) for key, item in tree.items())
    return {key: leaf for part in parts for key, leaf in part.items()}


@pytest.mark.parametrize("name", CONFIGS)
def test_configs_pass_their_own_checks(runnable, name):
    validate(runnable(name), task_kind, devices=1)


def test_config_of_the_backbone_passes_its_own_checks():
    config = load("uncertainty_backbone")
    validate(config, rig3r_task, devices=1)
    views = load("calibrate_study").windows.views
    assert (views, 1) in config.sampling.grids  # windows of one camera are among what it learns


CASES = {
    "backbone.path is empty; give the workdir": {"backbone.path": ""},
    "backbone.path is '/nowhere', which does not exist": {"backbone.path": "/nowhere"},
    "backbone.metadata is 'some'; it must be one of none": {"backbone.metadata": "some"},
    "backbone.image_size is 0": {"backbone.image_size": 0},
    "nll: parameterisation is 'sigma'; it must be one of log_variance": {"nll.parameterisation": "sigma"},
    "likelihood is 'cauchy'; it must be one of gaussian": {"nll.likelihood": "cauchy", "nll.gamma": -1.0},
    "gamma is -1.0; it must be positive": {"nll.likelihood": "cauchy", "nll.gamma": -1.0},
    "log_var_clamp is (3.0, 3.0); it must be (lower, upper)": {"nll.log_var_clamp": (3.0, 3.0)},
    "head_init is 'best'; it must be one of default, mle": {"head.init": "best"},
    "stop_patience is 0; it must be positive": {"head.stop_patience": 0},
    "optimizer.ema_decay must be 0": {"optimizer.ema_decay": 0.9},
    "windows: window options: reach=3 must be at least views - 1 = 7": {"windows.reach": 3},
    "windows.splits is ('train', 'test'); it must have one for each of train, validation, test": {
        "windows.splits": ("train", "test")
    },
    "windows.counts is (9, 9, 9, 9); it must have one for each": {"windows.counts": (9, 9, 9, 9)},
    "windows.counts is (); it must have one for each": {"windows.counts": ()},
    "windows.counts is (9, 0, 9); every pool must have at least 1": {"windows.counts": (9, 0, 9)},
    "train.batch_size=9 is more than the 5 training windows": {"train.batch_size": 9, "windows.counts": (5, 9, 9)},
    "one device of one process: --config.mesh.data=1 --config.mesh.fsdp=1": {"mesh.data": 2},
    "evaluation.overlap is 0.0; it must be above 0": {"evaluation.overlap": 0.0},
    "evaluation.trajectories is -1": {"evaluation.trajectories": -1},
    "train.batch_size=3 must be a multiple of mesh.data * mesh.fsdp * train.accumulate = 2": {
        "train.batch_size": 3, "train.accumulate": 2
    },
}  # fmt: skip


@pytest.mark.parametrize("said", CASES)
def test_each_problem_is_named(runnable, said):
    config = runnable()
    for key, wrong in CASES[said].items():
        section, name = key.split(".")
        config[section][name] = wrong
    with pytest.raises(ValueError, match=re.escape(said)):
        validate(config, task_kind, devices=1)


def test_main_names_all_problems_at_once(tmp_path):
    arguments = [
        "--config.backbone.path=/nowhere", "--config.backbone.metadata=some", "--config.nll.likelihood=cauchy",
        "--config.head.init=best", "--config.windows.splits=('a','b')", "--config.windows.counts=(5,5,5)",
        "--config.train.batch_size=9", "--config.mesh.data=2", "--config.nll.log_var_clamp=3",
        "--config.nll.sqrt_info_clamp_rot=()",
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "main.py", "--config=configs/uncertainty.py", f"--workdir={tmp_path / 'w'}", *arguments],
        cwd=REPO, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 2 and "Traceback" not in done.stderr
    for part in (
        "data.mixture[0] (tum) has no root", "'/nowhere', which does not exist", "metadata is 'some'",
        "likelihood is 'cauchy'", "head_init is 'best'", "windows.splits is ('a', 'b')", "more than the 5 training",
        "--config.mesh.data=1", "log_var_clamp is (3,); it must be (lower, upper)", "sqrt_info_clamp_rot is ()",
    ):  # fmt: skip
        assert part in done.stderr, part
    assert not (tmp_path / "w").exists()
