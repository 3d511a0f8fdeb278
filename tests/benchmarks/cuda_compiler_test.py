"""The paper's step as XLA compiles it for H100s, of which none need be there: what it would run, and hide."""

import collections
import functools

import pytest

from rig3r_jax.benchmarks.gpu_program import GpuProgram, compile_for_gpus
from rig3r_jax.benchmarks.kernels import kernels, named, sendings
from rig3r_jax.benchmarks.scaling_model import Machine, exposed_seconds, link_seconds, scheduled
from rig3r_jax.benchmarks.scaling_program import mesh_config
from rig3r_jax.configs import demo, full

pytestmark = pytest.mark.cuda_compiler
LAYERS = 48
ATTENTION = ("cudnn", "flash3")
MACHINE = Machine(per_node=8, matmul=650e12, attention=430e12, memory=3.35e12, node=450e9, network=50e9, hop=1e-5)


@functools.cache
def compiled(attention: str, hosts: int, per_host: int) -> GpuProgram:
    config = mesh_config(full.get_config(), hosts * per_host, fsdp=1, frames=1)
    config.model.attention = attention
    return compile_for_gpus(config, "h100", hosts, per_host)


@pytest.mark.parametrize(("hosts", "per_host"), [(1, 1), (16, 8)])
@pytest.mark.parametrize("attention", ATTENTION)
def test_every_layer_attends_once_forward_and_once_backward(attention, hosts, per_host):
    found = compiled(attention, hosts, per_host)
    assert found.attention == (attention, attention) and found.devices == hosts * per_host
    counts: collections.Counter = collections.Counter()
    for kernel in kernels(found.program):
        counts[kernel.kind] += kernel.times
    assert counts["attention forward"] == counts["attention backward"] == LAYERS
    assert counts["scatters"] == named(found.program, "scatter-add") == named(found.program, "erfc") == 0
    assert found.held < 60e9
    # The products read the tokens three times for q, k and v, and nothing is copied for the kernel: 425 GB then.
    assert sum(kernel.times * kernel.bytes for kernel in kernels(found.program)) < 440e9


@pytest.mark.parametrize("attention", ATTENTION)
def test_gradients_travel_while_the_backward_pass_computes(attention):
    found = sendings(compiled(attention, 16, 8).program, 128)
    gradients = [one for one in found if one.bytes > 1e6]
    assert {one.kind for one in gradients} == {"all-reduce"}  # every device attends to its own rows: none is gathered
    assert all(one.asynchronous and one.dtype == "bf16" for one in gradients if one.part in ("encoder", "decoder"))
    traffic = scheduled(found, MACHINE)
    sent = sum(one.times * link_seconds(one, MACHINE) for one in traffic)
    exposed = exposed_seconds(traffic, compiled(attention, 16, 8).program, MACHINE)
    assert 5e-3 < sent < 50e-3 and exposed < 0.25 * sent


def test_tokamax_attends_by_one_kernel_forward_and_two_backward_on_the_rows_of_each_device():
    config = mesh_config(full.get_config(), 8, fsdp=1, frames=1)
    config.model.update({"attention": "tokamax", "encoder_depth": 1, "decoder_depth": 4})
    found = compile_for_gpus(config, "h100", 1, 8)
    assert found.attention == ("tokamax", "tokamax")
    counts: collections.Counter = collections.Counter()
    for kernel in kernels(found.program):
        counts[kernel.kind, kernel.part] += kernel.times
    for part, layers in (("encoder", 1), ("decoder", 4)):
        assert counts["attention forward", part] == layers and counts["attention backward", part] == 2 * layers
    assert not [kind for kind, _ in counts if kind.startswith("call of mosaic")]
    assert {one.kind for one in sendings(found.program, 8) if one.bytes > 1e6} == {"all-reduce"}


def test_linear_layers_of_all_blocks_multiply_in_fp8():
    config = demo.get_config()
    config.model.update({"dtype": "bfloat16", "linear": "fp8", "remat": "dots"})
    counts: collections.Counter = collections.Counter()
    for kernel in kernels(compile_for_gpus(mesh_config(config, 1, fsdp=1, frames=1), "h100", 1, 1).program):
        counts[kernel.kind, kernel.part, kernel.backward] += kernel.times
    layers = {"encoder": 2, "decoder": 4}
    for part, depth in layers.items():
        found = counts["FP8 products", part, False], counts["FP8 products", part, True]
        assert found == (4 * depth, 8 * depth)  # qkv, proj, fc1, fc2; backward each for its input and its weights
    assert sum(times for (kind, *_), times in counts.items() if kind == "FP8 products") == 12 * sum(layers.values())


def test_auto_is_flash3_on_an_h100():
    assert compiled("auto", 1, 1).attention == ("flash3", "flash3")
