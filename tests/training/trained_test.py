"""Parameters that are frozen by name, and learning rates by layer: what a step moves, and by how much."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rig3r_jax.configs import demo
from rig3r_jax.training.config import flat_config, load_config, save_config
from rig3r_jax.training.rig3r import task
from rig3r_jax.training.rig3r.flops import forward_parts, train_flops
from rig3r_jax.training.rig3r.layer_rates import layer_rates
from rig3r_jax.training.rig3r.layout import Layout
from rig3r_jax.training.rig3r.memory import step_memory
from rig3r_jax.training.rig3r.setup import PlacedModel, abstract_params, build_model
from rig3r_jax.training.task import validate
from rig3r_jax.training.trained import frozen_problems, join, split
from rig3r_jax.weights.engine import flatten
from tests import runs
from tests.batches import random_batch

FROZEN = ("encoder/*", "decoder/stage0/*", "*_null")
TINY = {"width": 16, "heads": 2, "encoder_depth": 2, "decoder_depth": 5, "ray_hidden": 16, "unroll": False}


def config_of(**optimizer):
    """Of a model of few parameters, whose decoder has stages of 2, 1 and 2 blocks."""
    config = demo.get_config()
    config.sampling.num_views, config.sampling.image_size = 2, 32
    config.train.batch_size = 2
    config.model.update(TINY)
    config.optimizer.update({"warmup_steps": 0, "ema_decay": 0.5, **optimizer})
    return config


def batch_of(config):
    return random_batch(batch=config.train.batch_size, views=config.sampling.num_views)


@pytest.fixture(scope="module")
def stepped():
    """(state before, state after three steps, metrics of the last) of a run with frozen parts."""
    placed = PlacedModel(config_of(frozen=FROZEN))
    state = placed.init()
    before = jax.device_get(state)
    batch = batch_of(placed.config)
    for _ in range(3):
        state, metrics = placed.train_step(state, batch)
    return before, jax.device_get(state), metrics


def test_frozen_leaves_keep_their_bits_and_all_others_move(stepped):
    before, after, _ = stepped
    for old, new in ((before.params, after.params), (before.ema, after.ema)):
        old, new = flatten(old), flatten(new)
        assert old.keys() == new.keys()
        for name, leaf in old.items():
            same = leaf.tobytes() == new[name].tobytes()
            frozen = name.startswith(("encoder/", "decoder/stage0/")) or name.endswith("_null")
            # What hidden metadata alone would move, and biases whose gradient is zero by the model's form, may stay.
            assert same or not frozen, name
            if not frozen and name.endswith("kernel"):
                assert not same, name


def test_frozen_parts_have_no_moments_and_no_share_in_the_norm(stepped):
    before, after, metrics = stepped
    moments = after.opt_state[1][0].mu
    trained = flatten(split(after.params, FROZEN)[0])
    assert flatten(moments).keys() == trained.keys() and not any(name.startswith("encoder/") for name in trained)
    everything = PlacedModel(config_of())
    state, of_all = everything.train_step(everything.init(), batch_of(everything.config))
    part = optax.tree.norm(split(state.opt_state[1][0].mu, FROZEN)[0]) / optax.tree.norm(state.opt_state[1][0].mu)
    frozen_run = PlacedModel(config_of(frozen=FROZEN))
    _, of_part = frozen_run.train_step(frozen_run.init(), batch_of(frozen_run.config))
    whole, partial = (float(one["train/gradient_norm"].compute()) for one in (of_all, of_part))
    assert partial == pytest.approx(float(part) * whole, rel=1e-4) and partial < whole


def test_split_and_join_are_inverse():
    params = {"a": {"b": 1, "c": {"d": 2}}, "e": 3}
    assert split(params, ()) == (params, {})
    assert split(params, ("a/c/*",)) == ({"a": {"b": 1}, "e": 3}, {"a": {"c": {"d": 2}}})
    assert join(*split(params, ("a/*", "e"))) == params
    (problem,) = frozen_problems(params, ("x/*", "e"))
    assert "'x/*', which is no parameter's name; take some of a/*, e/*" in problem
    (problem,) = frozen_problems(params, ("*",))
    assert problem.endswith("nothing is left to train; take fewer")


def by_hand(name, layer, decay, encoder=2, decoder=5):
    """The factor of a parameter of BEiT's rule, written for one layer of a stack at a time."""
    last = encoder + decoder + 1
    if name.startswith("encoder/patch_embed"):
        depth = 0
    elif name.startswith("encoder/blocks"):
        depth = 1 + layer
    elif name.startswith("encoder/norm"):
        depth = encoder
    elif name.startswith("rig_embedding"):
        depth = encoder + 1
    elif name.startswith("decoder/stage"):
        depth = encoder + 1 + layer + sum({"0": (), "1": (2,), "2": (2, 1)}[name[len("decoder/stage")]])
    else:
        depth = last
    rate = 1.0
    for _ in range(last - depth):
        rate *= decay
    return rate


def test_rates_by_layer_are_those_of_the_formula():
    """First steps of AdamW without decay of weights move every number by the learning rate: what each layer moves
    against the same step without decay of rates is its factor."""
    plain, layered = (PlacedModel(config_of(layer_decay=decay, weight_decay=0.0)) for decay in (1.0, 0.7))
    batch, moved = batch_of(plain.config), []
    for placed in (plain, layered):
        state = placed.init()
        before = jax.device_get(state.params)
        state, _ = placed.train_step(state, batch)
        moved.append(flatten(jax.tree.map(np.subtract, jax.device_get(state.params), before)))
    heads = set()
    for name, whole in moved[0].items():
        layers = range(len(whole)) if "/block/" in name else [None]
        for layer in layers:
            one, other = (moves[name] if layer is None else moves[name][layer] for moves in moved)
            factor = by_hand(name, layer or 0, 0.7)
            heads |= {name.split("/")[0]} if factor == 1 else set()
            # What is compared are differences of float32 numbers.
            np.testing.assert_allclose(other, factor * one, rtol=2e-2, atol=1e-6, err_msg=name)
    assert heads == {"decoder", "point_head", "pose_head", "rig_head"}


def test_rates_of_a_part_are_those_of_the_whole():
    model = build_model(config_of(), backend="cpu")
    params = abstract_params(model)
    whole, part = layer_rates(model, params, 0.5), layer_rates(model, split(params, ("encoder/*",))[0], 0.5)
    jax.tree.map(np.testing.assert_array_equal, split(whole, ("encoder/*",))[0], part)
    assert flatten(whole)["encoder/patch_embed/kernel"] == 0.5**8
    with pytest.raises(ValueError, match="no rule matches the parameters neck/kernel"):
        layer_rates(model, {"neck": {"kernel": jnp.zeros(2)}}, 0.5)


def test_memory_and_operations_leave_out_what_is_frozen():
    config = config_of()
    model = build_model(config, backend="cpu")
    params, layout = abstract_params(model), Layout.of(config)
    whole = step_memory(config, model, params, layout)
    config.optimizer.frozen = ("encoder/*",)
    part = step_memory(config, model, params, layout)
    of_encoder = sum(leaf.size * 4 for leaf in jax.tree.leaves(params["encoder"]))
    assert (whole.moments - part.moments, whole.gradients - part.gradients) == (2 * of_encoder, of_encoder)
    assert part.parameters == whole.parameters and part.average == whole.average
    assert part.activations < whole.activations
    config.optimizer.frozen = ("encoder/norm/*",)  # the backward pass goes through it all the same
    assert step_memory(config, model, params, layout).activations == whole.activations
    parts = forward_parts(model, 2, 32, 32)
    of_encoder = parts["patch_embed"] + parts["encoder_linear"] + parts["encoder_attention"]
    saved = train_flops(model, 2, 32, 32) - train_flops(model, 2, 32, 32, trains_encoder=False)
    assert saved == pytest.approx(2 * of_encoder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frozen": ("encodr/*",)}, "optimizer.frozen has 'encodr/*', which is no parameter's name; take some of "),
        ({"frozen": ("*",)}, "nothing is left to train"),
        ({"layer_decay": 0.0}, "optimizer.layer_decay is 0.0; it must be above 0, and at most 1"),
    ],
)
def test_what_cannot_be_is_told_before_the_first_step(change, message):
    with pytest.raises(ValueError, match="this configuration cannot run") as raised:
        validate(config_of(**change), task)
    assert message in str(raised.value)


def test_the_config_of_an_older_run_trains_everything_at_one_rate(tmp_path, caplog):
    config = config_of(frozen=("encoder/*",))
    save_config(config, tmp_path / "config.json")
    assert flat_config(load_config(tmp_path / "config.json"))["optimizer.frozen"] == ["encoder/*"]
    for key in ("frozen", "layer_decay"):
        del config.optimizer[key]
    save_config(config, tmp_path / "config.json")
    older = load_config(tmp_path / "config.json")
    assert (older.optimizer.frozen, older.optimizer.layer_decay) == ((), 1.0) and not caplog.messages


@pytest.mark.slow
def test_a_fine_tuned_run_is_resumed_exactly(tmp_path):
    """From a workdir, by layer, in part frozen: killed in its fifth step of six, it ends in the same bits."""
    short = ["--config.optimizer.warmup_steps=0", "--config.train.batch_size=2"]
    runs.run_here("train", *runs.demo(tmp_path / "first", tmp_path / "records"), *short, "--config.train.steps=2")
    flags = [
        *runs.demo(tmp_path / "whole", tmp_path / "records"), *short, f"--config.model.init_from={tmp_path / 'first'}",
        "--config.optimizer.frozen=('encoder/*',)", "--config.optimizer.layer_decay=0.7",
        "--config.optimizer.ema_decay=0.9", "--config.train.steps=6", "--config.train.checkpoint_every=3",
    ]  # fmt: skip
    log = runs.run_here("train", *flags)
    assert "freshly initialised arrays: nothing" in log

    def kill(step):
        if step == 5:
            raise runs.Killed

    flags[1] = f"--workdir={tmp_path / 'cut'}"
    with pytest.raises(runs.Killed):
        runs.run_here("train", *flags, before_step=kill)
    assert "resumed at step 3" in runs.run_here("train", *flags)
    saved = runs.assert_ends_alike(tmp_path / "cut", tmp_path / "whole")
    first = runs.Saved.of(tmp_path / "first")
    names = [name for name in saved.arrays if name.startswith("params.encoder")]
    assert names and not any("encoder" in name for name in saved.arrays if name.startswith("opt_state"))
    for name in names:
        np.testing.assert_array_equal(saved.arrays[name], first.arrays[name])
    flags[flags.index("--config.optimizer.frozen=('encoder/*',)")] = "--config.optimizer.frozen=()"
    assert "optimizer.frozen was ['encoder/*'] and is now []" in runs.run_here("train", *flags, code=2)
