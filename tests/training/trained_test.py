"""Parameters that are frozen by name, and learning rates by layer: what a step moves, and by how much."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rig3r_jax.configs import demo
from rig3r_jax.training.checkpoint import Checkpoints
from rig3r_jax.training.config import config_differences, flat_config, load_config, save_config
from rig3r_jax.training.rig3r import task
from rig3r_jax.training.rig3r.flops import forward_parts, train_flops
from rig3r_jax.training.rig3r.layer_rates import layer_rates
from rig3r_jax.training.rig3r.layout import Layout
from rig3r_jax.training.rig3r.memory import step_memory
from rig3r_jax.training.rig3r.setup import PlacedModel, abstract_params, build_model, build_optimizer
from rig3r_jax.training.sharding import shardings_of
from rig3r_jax.training.task import validate
from rig3r_jax.training.trained import frozen_problems, join, split
from rig3r_jax.weights.engine import flatten
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
def placed():
    return PlacedModel(config_of(frozen=FROZEN, layer_decay=0.7, clip_norm=0.0))


@pytest.fixture(scope="module")
def steps(placed):
    """States before the first step and after each of four, and the metrics of each."""
    state, batch = placed.init(), batch_of(placed.config)
    states, metrics = [jax.device_get(state)], []
    for _ in range(4):
        state, of_step = placed.train_step(state, batch)
        states.append(jax.device_get(state))
        metrics.append(of_step)
    return states, metrics


def test_frozen_leaves_keep_their_bits_and_all_others_move(steps):
    before, *_, after = steps[0]
    for old, new in ((before.params, after.params), (before.ema, after.ema)):
        old, new = flatten(old), flatten(new)
        assert old.keys() == new.keys()
        for name, leaf in old.items():
            same = leaf.tobytes() == new[name].tobytes()
            frozen = name.startswith(("encoder/", "decoder/stage0/")) or name.endswith("_null")
            assert same or not frozen, name
            if not frozen and name.endswith("kernel"):  # biases may have no gradient, by the model's form
                assert not same, name


def test_frozen_parts_have_no_moments_and_no_share_in_the_norm(steps):
    (_, first, *_), (metrics, *_) = steps
    moments = _moments(first)
    trained = flatten(split(first.params, FROZEN)[0])
    assert flatten(moments).keys() == trained.keys() and not any(name.startswith("encoder/") for name in trained)
    of_trained = float(optax.tree.norm(moments)) / (1 - 0.9)  # first moments after one step, of gradients as they are
    assert float(metrics["train/gradient_norm"].compute()) == pytest.approx(of_trained, rel=1e-5)


def _moments(state):
    """The first moments of AdamW."""
    leaves = jax.tree.leaves(state.opt_state, is_leaf=lambda leaf: isinstance(leaf, optax.ScaleByAdamState))
    return next(leaf.mu for leaf in leaves if isinstance(leaf, optax.ScaleByAdamState))


def test_a_run_goes_on_from_its_checkpoint_with_the_same_bits(placed, steps, tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.save(2, jax.device_put(steps[0][2], shardings_of(placed.abstract_state)), {"seed": 0})
    checkpoints.wait()
    state, _ = checkpoints.restore(placed.abstract_state)
    checkpoints.close()
    for _ in range(2):
        state, _ = placed.train_step(state, batch_of(placed.config))
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(state), steps[0][4])


def test_another_choice_of_frozen_parts_is_another_run(placed, tmp_path):
    save_config(placed.config, tmp_path / "config.json")
    assert config_differences(placed.config, tmp_path) == []
    with pytest.raises(ValueError, match=r"optimizer.frozen was \['encoder/\*', .* and is now \[\]; give another"):
        config_differences(config_of(layer_decay=0.7, clip_norm=0.0), tmp_path)


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
    """What each layer moves in two steps of the optimizer, against the same steps at one rate, is its factor."""
    rng = np.random.default_rng(0)
    shapes = abstract_params(build_model(config_of(), backend="cpu"))
    params, grads = (jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), shapes) for _ in range(2))
    moved = []
    for decay in (1.0, 0.7):
        optimizer, _ = build_optimizer(config_of(layer_decay=decay))
        state = optimizer.init(params)
        for _ in range(2):
            updates, state = optimizer.update(grads, state, params)
        moved.append(flatten(updates))
    heads = set()
    for name, whole in moved[0].items():
        for layer in range(len(whole)) if "/block/" in name else [None]:
            one, other = (moves[name] if layer is None else moves[name][layer] for moves in moved)
            factor = by_hand(name, layer or 0, 0.7)
            heads |= {name.split("/")[0]} if factor == 1 else set()
            np.testing.assert_allclose(other, factor * one, rtol=1e-5, err_msg=name)
    assert heads == {"decoder", "point_head", "pose_head", "rig_head"}  # of the decoder its last norm


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
