"""Bytes reckoned beforehand: as measured, as the state has them, and growing as they must."""

import dataclasses
import math

import jax
import pytest

from rig3r_jax.configs import demo, full
from rig3r_jax.training.rig3r.layout import Layout
from rig3r_jax.training.rig3r.memory import evaluation_memory, parameter_bytes, step_memory
from rig3r_jax.training.rig3r.setup import PlacedModel, abstract_params, build_model
from rig3r_jax.training.sharding import PARAMETER_RULES, SMALLEST_CUT

FULL = full.get_config()
MODEL = build_model(FULL, backend="cpu")
OWN = Layout.of(FULL)  # one sample of 24 images of 512x512 on each device


@pytest.fixture(scope="module")
def params():
    return abstract_params(MODEL)


def step(params, **changes):
    return step_memory(FULL, MODEL, params, dataclasses.replace(OWN, **changes))


def test_the_papers_step_needs_what_an_h200_measured(params):
    memory = step(params)
    assert memory.total == pytest.approx(36.27e9, rel=0.1)  # docs/results.md
    arguments = memory.parameters + memory.moments + memory.batch / 2
    assert arguments == pytest.approx(7_625_806_772, rel=1e-3)  # as XLA counted them there
    predictions = evaluation_memory(FULL, MODEL, params, OWN, batch_size=128)
    assert predictions.total - predictions.moments == pytest.approx(3.81e9, rel=0.1)
    alone = evaluation_memory(FULL, MODEL, params, OWN, batch_size=128, trains=False)
    assert alone == dataclasses.replace(predictions, moments=0, average=0)


def test_parameters_and_moments_are_those_of_the_state():
    config = demo.get_config()
    config.optimizer.ema_decay = 0.9
    placed = PlacedModel(config, jax.devices()[:1])
    memory = step_memory(config, placed.model, placed.abstract_params, Layout.of(config))
    state = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(placed.abstract_state))
    assert memory.parameters + memory.moments + memory.average == pytest.approx(state, abs=64)  # and a few counters


def test_only_large_kernels_are_cut(params):
    leaves = jax.tree_util.tree_leaves_with_path(params)
    kernels = [leaf for path, leaf in leaves if path[-1].key == "kernel" and math.prod(leaf.shape) >= SMALLEST_CUT]
    whole, cut = parameter_bytes(params, 1), parameter_bytes(params, 8)
    assert whole == sum(4 * math.prod(leaf.shape) for _, leaf in leaves)
    assert whole - cut == pytest.approx(7 / 8 * sum(4 * math.prod(leaf.shape) for leaf in kernels), rel=1e-3)
    assert PARAMETER_RULES[0] == ("kernel$", "cut")


def test_each_part_follows_its_cause(params):
    one = step(params)
    many = step(params, data=8)  # 16 samples on a device
    assert many.activations == 16 * one.activations and many.parameters == one.parameters
    micro = step(params, data=8, accumulate=16)
    assert micro.activations == one.activations and micro.batch == many.batch == 16 * one.batch
    assert micro.gradients == 2 * one.gradients
    halves = step(params, data=64, frames=2)
    assert halves.activations == one.activations and halves.batch == one.batch  # two samples, half the images of each
    kept = [step(params, remat=policy).activations for policy in ("none", "dots", "qkv", "attention", "full")]
    assert kept == sorted(kept, reverse=True) and len(set(kept)) == 5
    cut = step(params, data=16, fsdp=8)
    assert cut.activations == one.activations and cut.moments == 2 * cut.parameters < one.parameters
