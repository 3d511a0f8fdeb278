"""The twin as a contestant: the same loss and the same step as ours in every form that is timed."""

import argparse
import dataclasses
import functools
import os
import subprocess
import sys
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from rig3r_jax.benchmarks import peer, torch_recover  # noqa: E402
from rig3r_jax.benchmarks.setting import host_batch, host_parameters, read_setting  # noqa: E402
from rig3r_jax.benchmarks.torch_fast import attention_on, masked_loss  # noqa: E402
from rig3r_jax.benchmarks.torch_step import TorchTraining  # noqa: E402
from rig3r_jax.benchmarks.train import check_equal_work  # noqa: E402
from rig3r_jax.geometry.camera import Pinhole, cell_centers  # noqa: E402
from rig3r_jax.geometry.recover import recover_camera  # noqa: E402
from rig3r_jax.losses.multitask import LossWeights  # noqa: E402
from rig3r_jax.parity.inputs import random_batch  # noqa: E402
from rig3r_jax.parity.torch_losses import ground_truth, multitask_loss  # noqa: E402
from rig3r_jax.parity.torch_rig3r import Rig3R  # noqa: E402
from rig3r_jax.parity.torch_run import run_torch  # noqa: E402
from rig3r_jax.training.rig3r.objective import MultitaskObjective  # noqa: E402
from rig3r_jax.training.rig3r.setup import build_model  # noqa: E402
from tests.batches import random_rotations  # noqa: E402
from tests.conftest import REPO  # noqa: E402

TINY = [f"--config={REPO}/configs/demo.py", "--config.model.unroll=False", "--config.model.rays_per_patch=2"]
DPT = ["--config.model.point_head=dpt", "--config.model.dpt_features=4", "--config.model.dpt_last=4"]
REMAT = ["--config.model.remat=attention", "--config.model.attention=chunked"]
SHAPE = {"batch": 2, "views": 2, "size": 32}

# The types of arguments are checked in tests, by wrappers that no compiler sees through: here the twin runs as it is.
as_it_is = mock.patch("torch.compile", lambda function, **_: function)


def _setting(*flags):
    return read_setting(argparse.Namespace(kind="train", **SHAPE), [*TINY, *flags], devices=1)


@functools.cache
def _weights(*model):
    """The twin's state dict as PyTorch initialises it; the DPT's last layer smaller: expm1 would run away."""
    built = build_model(_setting(*model).config, backend="cpu")
    torch.manual_seed(0)
    state = Rig3R(**{name: getattr(built, name) for name in Rig3R.FIELDS}).state_dict()
    return {name: 0.1 * value.numpy() if "head3" in name else value.numpy() for name, value in state.items()}


def _twin(*flags, model=()):
    setting = _setting(*model, *flags)
    with mock.patch.object(peer, "export", lambda *_: _weights(*model)):
        return peer.training_peers(setting, {}, host_batch(setting))[0]


def test_the_fast_twin_takes_the_steps_of_the_plain_one():
    """Which is the one that the parity tests compare with ours."""
    fast = _twin(*REMAT, "--config.model.dpt_chunk=1", "--config.optimizer.learning_rate=1e-4", model=DPT)
    rate = fast.recipe.schedule["peak"]
    schedule = {"peak": rate, "end": rate, "warmup_steps": 0, "steps": 3}
    recipe = dataclasses.replace(fast.recipe, steps=3, schedule=schedule)
    plain = run_torch(fast.twin.fields, fast.twin.weights, host_batch(_setting(*DPT)), recipe, "float32")
    assert fast.twin.remat == "attention" and fast.twin.images_per_chunk == 2
    with as_it_is:
        fast.open()
    losses = [fast.first_loss]
    for _ in range(2):
        fast.first_loss = float("nan")
        fast.call()
        losses.append(fast.first_loss)
    np.testing.assert_allclose(losses, plain.curves["loss"], rtol=1e-4)
    assert abs(losses[2] - losses[0]) > 1e-3 * losses[0]
    assert fast.held_model.encoder.patch_embed.weight.dtype == torch.float32
    fast.close()
    assert not hasattr(fast, "held_model")


def test_in_16_bits_its_loss_is_ours():
    """As nearly as a comparison wants it, which is refused with a ValueError else."""
    setting = _setting("--config.model.dtype=bfloat16")
    batch = host_batch(setting)
    params = host_parameters(setting.config, batch.views)
    (theirs,) = peer.training_peers(setting, params, batch)
    objective = MultitaskObjective(build_model(setting.config), LossWeights(**setting.config.loss.to_dict()))
    ours, _ = jax.jit(lambda params, batch: objective.loss(params, *objective.prepare(batch)))(params, batch)
    theirs.build(lambda function: function)
    theirs.call()
    losses = {"ours": float(ours), "theirs": theirs.first_loss}
    check_equal_work(losses, "bfloat16")
    with pytest.raises(ValueError, match="first losses differ"):
        check_equal_work(losses | {"theirs": 1.2 * theirs.first_loss}, "bfloat16")


@pytest.mark.slow
@pytest.mark.sweep("rig3r_jax/benchmarks", "rig3r_jax/parity")
def test_the_twin_is_one_graph(repo):
    """A break would leave a part of it to Python, and the twin were slower than it need be."""
    code = """
import functools, torch
from unittest import mock
from rig3r_jax.benchmarks import peer
from tests.benchmarks import bench_peer_test as this
flags = [*this.REMAT, "--config.model.dtype=bfloat16"]
setting = this._setting(*this.DPT, *flags)
batch, weights = this.host_batch(setting), this._weights(*this.DPT)
with mock.patch.object(peer, "export", lambda *_: weights):
    twins = peer.training_peers(setting, {}, batch, ["flash"])
for twin in twins + peer.inference_peers(setting.config, weights, batch.views, ["flash"]):
    for by_region in (False, True):
        torch.compiler.reset()
        torch._dynamo.utils.counters.clear()
        twin.by_region = by_region
        twin.build(functools.partial(torch.compile, backend="eager", fullgraph=True, dynamic=False))
        twin.call()
        print(by_region, torch._dynamo.utils.counters["stats"]["unique_graphs"])
"""
    environment = {**os.environ, "PYTHONPATH": str(repo)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, cwd=repo)
    # By region: a block of the encoder, one of the decoder, the DPT head, the embedding, a ray head, what follows them.
    assert done.stdout.splitlines() == ["False 1", "True 6"] * 2, done.stdout + done.stderr[-3000:]


def test_activations_of_16_bits_are_16_bits_where_ours_are():
    theirs = _twin("--config.model.dtype=bfloat16", model=DPT)
    theirs.build(lambda function: function)
    kinds = {}
    for name, module in theirs.held_model.named_modules():
        module.register_forward_hook(lambda _, __, out, name=name: kinds.update({name: getattr(out, "dtype", None)}))
    theirs.call()
    half, full = torch.bfloat16, torch.float32
    assert {kinds[f"encoder.{name}"] for name in ("patch_embed", "blocks.0", "blocks.1.norm1", "norm")} == {half}
    assert kinds["decoder.norm"] == kinds["pose_head.directions.fc1"] == half
    assert kinds["rig_embedding"] == kinds["pose_head.directions.fc2"] == kinds["rig_head.center.fc1"] == full
    assert kinds["point_head"] == full and kinds["point_head.dpt.dpt.module.head2"] == half


def test_attention_is_pinned_inside_the_graph():
    """Else a graph that was compiled for one kernel would be taken for another one's."""
    graphs = []

    def look(graph, _):
        graphs.append(str(graph.graph))
        return graph

    q = torch.randn(1, 2, 8, 4)
    expected = attention_on("default")(q, q, q)
    found = torch.compile(attention_on("flash"), backend=look, fullgraph=True)(q, q, q)
    torch.testing.assert_close(found, expected)
    assert "FLASH_ATTENTION" in graphs[0]


def test_a_kernel_that_the_device_has_not_is_no_contestant():
    twin = dataclasses.replace(_twin().twin, kernel="efficient")
    setting = _setting()
    theirs = TorchTraining(twin, host_batch(setting), _twin().recipe)
    with as_it_is, pytest.raises(RuntimeError, match="No available kernel: SDPA efficient"):
        theirs.open()


def test_what_inductor_cannot_compile_runs_eagerly_and_says_so():
    theirs = _twin()

    def broken(function, **_):
        raise RuntimeError("C++ compile error\nlong story")

    with mock.patch("torch.compile", broken):
        theirs.open()
    assert "EAGER" in theirs.name and "C++ compile error" in theirs.remark and np.isfinite(theirs.first_loss)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--config.train.accumulate=2"], "accumulate=1"),
        (["--config.model.linear=fp8"], "kind 'fp8': --config.model.linear=plain"),
        (["--config.model.position=rope", "--config.model.dtype=bfloat16"], "take sincos"),
    ],
)
def test_what_the_twin_does_not_do_is_told(flags, message):
    with pytest.raises(ValueError, match=message):
        _twin(*flags).build(lambda function: function)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_loss_by_masks_is_the_loss_by_gathered_values(reduction):
    batch = jax.tree.map(lambda leaf: torch.from_numpy(np.array(leaf)), random_batch(3, 3, 2, 32))
    truth = ground_truth(batch.targets, batch.views.image_mask, (8, 8), (4, 4))
    generator = torch.Generator().manual_seed(0)
    shapes = {
        "points": (3, 2, 8, 8, 3), "confidence": (3, 2, 8, 8), "pose_directions": (3, 2, 4, 4, 3),
        "pose_center": (3, 2, 3), "rig_directions": (3, 2, 4, 4, 3), "rig_center": (3, 2, 3),
    }  # fmt: skip
    predictions = {
        name: (1 + torch.rand(shape, generator=generator)).requires_grad_() for name, shape in shapes.items()
    }
    weights = {"alpha": 0.3, "beta": 0.7, "lambda_pose": 0.6, "lambda_rig": 1.3, "reduction": reduction}
    expected = multitask_loss(predictions, truth, **weights)[0]
    found = masked_loss(predictions, truth, **weights)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    wanted, got = (torch.autograd.grad(loss, list(predictions.values())) for loss in (expected, found))
    for name, a, b in zip(predictions, got, wanted, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-4, atol=1e-6, err_msg=name)


def test_cameras_of_rays_are_those_of_ours():
    rng = np.random.default_rng(0)
    rotation = random_rotations(rng, 5).astype(np.float32)
    intrinsics = np.tile(np.eye(3, dtype=np.float32), (5, 1, 1))
    intrinsics[:, 0, 0], intrinsics[:, 1, 1] = rng.uniform(30, 90, (2, 5))
    intrinsics[:, 0, 2], intrinsics[:, 1, 2] = 32, 24
    directions = Pinhole(jnp.asarray(intrinsics)).rays(cell_centers(48, 64, 6, 8)[None])
    directions = np.einsum("bij,brcj->brci", rotation, directions) + 0.01 * rng.normal(size=(5, 6, 8, 3))
    directions, center = directions.astype(np.float32), rng.normal(size=(5, 3)).astype(np.float32)
    ours = recover_camera(jnp.asarray(directions), jnp.asarray(center), 48, 64)
    focal, frame = torch_recover.recover_camera(torch.from_numpy(directions), torch.from_numpy(center), 48, 64)
    np.testing.assert_allclose(focal, np.asarray(ours.intrinsics)[:, [0, 1], [0, 1]], rtol=1e-4)
    np.testing.assert_allclose(frame, ours.a_from_camera, atol=1e-5)
