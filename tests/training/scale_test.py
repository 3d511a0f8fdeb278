"""The paper's step, compiled ahead of time over 128 simulated devices; and meshes that agree with one device."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from tests.conftest import COMPILE_QUICKLY

COVERED = ("rig3r_jax/losses", "rig3r_jax/models", "rig3r_jax/training")

_COMPILE = """
import json, sys
import jax
from rig3r_jax.configs import full
from rig3r_jax.training.sharding import batch_sharding
from rig3r_jax.training.rig3r.setup import PlacedModel, abstract_batch

config = full.get_config()
config.mesh.data, config.mesh.fsdp, config.model.unroll = int(sys.argv[1]), int(sys.argv[2]), False
run = PlacedModel(config)
rows = batch_sharding(run.mesh)
batch = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=rows), abstract_batch(config, 128))
memory = run.train_step.lower(run.abstract_state, batch).compile().memory_analysis()
size = lambda tree: sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))
print(json.dumps({
    "arguments": memory.argument_size_in_bytes, "temporaries": memory.temp_size_in_bytes,
    "donated": memory.alias_size_in_bytes, "outputs": memory.output_size_in_bytes,
    "parameters": sum(x.size for x in jax.tree.leaves(run.abstract_state.params)), "state": size(run.abstract_state),
}))
"""

_MESHES = """
import jax, json, sys
import numpy as np
from rig3r_jax.configs import demo
from rig3r_jax.training.transfer import to_device
from rig3r_jax.training.rig3r.setup import PlacedModel
from tests.batches import random_batch

batch = random_batch(batch=8, views=4)
losses, gradients, shares, first = [], [], [], None
for data, fsdp, frames, accumulate in json.loads(sys.argv[2]):
    config = demo.get_config()
    config.mesh.data, config.mesh.fsdp, config.mesh.frames, config.train.accumulate = data, fsdp, frames, accumulate
    config.sampling.num_views, config.sampling.image_size, config.model.unroll = 4, 32, False
    config.model.update(json.loads(sys.argv[1]))
    run = PlacedModel(config, jax.devices()[: data * fsdp * frames])
    if first is None:
        first = jax.tree.map(np.asarray, run.init())  # the same on every mesh, as other tests show: compiled once
    state = jax.tree.map(lambda leaf, like: jax.device_put(leaf, like.sharding), first, run.abstract_state)
    state, metrics = run.train_step(state, to_device(batch, run.mesh))
    losses.append([float(metrics[k].compute()) for k in ("loss/total", "train/gradient_norm")])
    # After one step the first moment is the clipped gradient times 1 - b1.
    gradients.append([np.asarray(leaf) for leaf in jax.tree.leaves(state.opt_state[1][0].mu)])
    if fsdp == 8:
        cut = [x for x in jax.tree.leaves(state.opt_state) if x.size >= 2**14]
        shares = [x.size / x.addressable_shards[0].data.size for x in cut]
largest = [[float(np.abs(leaf).max()) for leaf in leaves] for leaves in gradients]
errors = [max(np.abs(a - b).max() / np.abs(b).max() for a, b in zip(g, gradients[0])) for g in gradients]
print(json.dumps({"losses": losses, "errors": [float(e) for e in errors], "least": min(map(min, largest)),
                  "shares": shares}))
"""

_ATTENTION = """
import json, re
import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from rig3r_jax.models.attention import IMPLEMENTATIONS
from rig3r_jax.training.sharding import BATCH_AXES, FRAMES, make_mesh, over_frames, over_rows

cut_rows, cut_images = make_mesh(4, 2, 1), make_mesh(2, 2, 2)
arrays = jax.random.normal(jax.random.key(0), (4, 8, 300, 2, 4))  # tokens: no multiple of a chunk of queries
rows, images = PartitionSpec(BATCH_AXES), PartitionSpec(BATCH_AXES, FRAMES)
every = PartitionSpec((*BATCH_AXES, FRAMES))

def both(attend):
    def run(q, k, v, cotangent):
        out, pullback = jax.vjp(attend, q, k, v)
        return out, *pullback(cotangent)
    return jax.jit(run)

found = []
for name in ("dense", "chunked"):
    attend = IMPLEMENTATIONS[name]
    expected = both(attend)(*arrays)
    for way, mesh, cut, placed in (
        ("rows", cut_rows, rows, over_rows(attend, cut_rows)),
        ("all", cut_images, every, over_rows(attend, cut_images)),
        ("frames", cut_images, images, over_frames(attend, cut_images)),
    ):
        given = [jax.device_put(x, NamedSharding(mesh, cut)) for x in arrays]
        compiled = both(placed).lower(*given).compile()
        got = compiled(*given)
        errors = [float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(got, expected)]
        sent = sorted(set(re.findall(r" (all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute)[(-]",
                                     compiled.as_text())))
        share = got[0].addressable_shards[0].data.shape
        found.append([name, way, errors, sent, share])
print(json.dumps(found))
"""


def _run(repo, devices, code, *arguments):
    flags = f"--xla_force_host_platform_device_count={devices} {' '.join(COMPILE_QUICKLY)}"
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(repo)}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=repo, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.strip().splitlines()[-1]


@pytest.mark.slow
@pytest.mark.sweep(*COVERED)
@pytest.mark.parametrize("mesh", [(128, 1), (1, 128)], ids=["data-parallel", "state-cut"])
def test_full_step_compiles_for_128_devices_within_80_gigabytes(repo, mesh):
    found = json.loads(_run(repo, 128, _COMPILE, *map(str, mesh)))
    assert 620e6 < found["parameters"] < 645e6
    held = found["arguments"] + found["temporaries"] + found["outputs"] - found["donated"]
    assert held < 80e9
    whole_state = mesh[1] == 1
    assert (found["arguments"] > found["state"]) == whole_state
    if not whole_state:
        assert found["arguments"] < 0.1 * found["state"]


def test_attention_on_a_mesh_is_that_of_one_device(repo):
    """Outputs and gradients, whole rows without a word between devices: what is asked of a fused kernel, too."""
    found = json.loads(_run(repo, 8, _ATTENTION))
    assert len(found) == 2 * 3
    for _, way, errors, sent, share in found:
        assert len(errors) == 4 and max(errors) < 1e-5
        assert share == {"rows": [1, 300, 2, 4], "all": [1, 300, 2, 4], "frames": [2, 150, 2, 4]}[way]
        assert ("all-gather" in sent) if way == "frames" else not sent


# (data, fsdp, frames, accumulate)
_ALL = [(1, 1, 1, 1), (8, 1, 1, 1), (1, 8, 1, 1), (2, 2, 2, 1), (2, 1, 4, 2), (1, 2, 2, 2)]
_DPT = {"point_head": "dpt", "dpt_features": 16, "dpt_last": 8, "remat": "attention", "attention": "chunked"}
_CASES = {
    "linear": ({}, _ALL),
    "dpt": (_DPT, [(1, 1, 1, 1), (2, 2, 2, 1)]),
    "rotary": ({"position": "rope", "qk_norm": True}, [(1, 1, 1, 1), (2, 1, 4, 1)]),
}


_FP8 = """
import jax, json
import jax.numpy as jnp
import numpy as np
from rig3r_jax.models.linear import fp8_product
from rig3r_jax.training.sharding import batch_sharding, make_mesh

x, gradient = 10.0 ** jnp.arange(-3, 5)[:, None] * jax.random.normal(jax.random.key(0), (2, 8, 32))
kernel = jax.random.normal(jax.random.key(1), (32, 32))

def step(x, kernel, gradient):
    out, pull = jax.vjp(lambda x, k: fp8_product(x, k, (((1,), (0,)), ((), ()))), x, kernel)
    return out, *pull(gradient)

rows = batch_sharding(make_mesh(4, 2, 1))
alone = jax.jit(step)(x, kernel, gradient)
cut = jax.jit(step)(jax.device_put(x, rows), kernel, jax.device_put(gradient, rows))
assert len(cut[0].sharding.device_set) == 8 and cut[0].addressable_shards[0].data.shape == (1, 32)
print(json.dumps([float(jnp.abs(a - b).max() / jnp.abs(b).max()) for a, b in zip(cut, alone)]))
"""


@pytest.mark.slow
def test_fp8_scales_are_those_of_the_whole_batch(repo):
    """Every device holds one row, and the largest is 10 million times the smallest: scales of its own would tell."""
    assert max(json.loads(_run(repo, 8, _FP8))) < 1e-6


@pytest.mark.slow
@pytest.mark.sweep(*COVERED)
@pytest.mark.parametrize("case", _CASES)
def test_every_mesh_takes_the_same_step(repo, case):
    fields, meshes = _CASES[case]
    found = json.loads(_run(repo, 8, _MESHES, json.dumps(fields), json.dumps(meshes)))
    assert len(found["losses"]) == len(found["errors"]) == len(meshes)
    for loss_and_gradient_norm, error in zip(found["losses"], found["errors"], strict=True):
        np.testing.assert_allclose(loss_and_gradient_norm, found["losses"][0], rtol=1e-5)
        assert error < 1e-5  # of every parameter's gradient, relative to its largest number
    assert found["least"] > 0  # no gradient vanishes: all were compared
    if case == "linear":
        assert found["shares"] and set(found["shares"]) == {8.0}  # each of 8 devices holds an eighth of the moments
