# ruff: noqa: E501  (lines of XLA)
"""Kernels and collectives of a GPU's program, from a text like XLA's."""

import re

import pytest

from rig3r_jax.benchmarks.hlo import Operations, Program
from rig3r_jax.benchmarks.kernels import kernels, named, operations_of, sendings
from rig3r_jax.benchmarks.program import kernel_rows, sending_rows
from rig3r_jax.models.tokamax_attention import BACKWARD

TEXT = """\
HloModule jit_train_step, is_scheduled=true

%fused_slice (param_0.1: bf16[12,8,4], param_1.1: s32[]) -> bf16[8,4] {
  %param_0.1 = bf16[12,8,4]{2,1,0} parameter(0)
  %param_1.1 = s32[] parameter(1)
  %zero.1 = s32[] constant(0)
  %slice.1 = bf16[1,8,4]{2,1,0} dynamic-slice(%param_0.1, %param_1.1, %zero.1, %zero.1), dynamic_slice_sizes={1,8,4}
  ROOT %bitcast.1 = bf16[8,4]{1,0} bitcast(%slice.1)
}

%fused_update (param_0.2: bf16[12,8,4], param_1.2: bf16[8,4], param_2.2: s32[]) -> bf16[12,8,4] {
  %param_0.2 = bf16[12,8,4]{2,1,0} parameter(0)
  %param_1.2 = bf16[8,4]{1,0} parameter(1)
  %param_2.2 = s32[] parameter(2)
  %zero.2 = s32[] constant(0)
  %bitcast.2 = bf16[1,8,4]{2,1,0} bitcast(%param_1.2)
  ROOT %update.2 = bf16[12,8,4]{2,1,0} dynamic-update-slice(%param_0.2, %bitcast.2, %param_2.2, %zero.2, %zero.2)
}

%fused_scatter (param_0.3: f32[16], param_1.3: s32[4,1], param_2.3: f32[4]) -> f32[16] {
  %param_0.3 = f32[16]{0} parameter(0)
  %param_1.3 = s32[4,1]{1,0} parameter(1)
  %param_2.3 = f32[4]{0} parameter(2)
  ROOT %scatter.3 = f32[16]{0} scatter(%param_0.3, %param_1.3, %param_2.3), to_apply=%add
}

%body (state: (s32[], bf16[12,8,4], bf16[8,4])) -> (s32[], bf16[12,8,4], bf16[8,4]) {
  %state = (s32[], bf16[12,8,4]{2,1,0}, bf16[8,4]{1,0}) parameter(0)
  %turn = s32[] get-tuple-element(%state), index=0
  %stack = bf16[12,8,4]{2,1,0} get-tuple-element(%state), index=1
  %x = bf16[8,4]{1,0} get-tuple-element(%state), index=2
  %layer = bf16[8,4]{1,0} fusion(%stack, %turn), kind=kLoop, calls=%fused_slice, @backward(decoder/stage0/while/body/dynamic_slice)
  %sum-start = bf16[4,4]{1,0} all-reduce-start(%layer), replica_groups={}, to_apply=%add, @backward(decoder/stage0/while/body/mlp/dot_general)
  %q = bf16[1,8,2,2]{3,2,1,0} bitcast(%x)
  %k = bf16[1,8,2,2]{3,2,1,0} bitcast(%layer)
  %backward = (bf16[1,8,2,2]{3,2,1,0}, s8[64]{0}) custom-call(%q, %k), custom_call_target="__cudnn$fmhaSoftmaxBackward", @backward(decoder/stage0/while/body/attn/attend)
  %product = (bf16[8,4]{1,0}, s8[64]{0}) custom-call(%x, %layer), custom_call_target="__cublas$lt$matmul", @backward(decoder/stage0/while/body/mlp/dot_general)
  %sum-done = bf16[4,4]{1,0} all-reduce-done(%sum-start)
  %new = bf16[8,4]{1,0} get-tuple-element(%product), index=0
  %stacked = bf16[12,8,4]{2,1,0} fusion(%stack, %new, %turn), kind=kLoop, calls=%fused_update, @backward(decoder/stage0/while/body/dynamic_update_slice)
  ROOT %next = (s32[], bf16[12,8,4]{2,1,0}, bf16[8,4]{1,0}) tuple(%turn, %stacked, %new)
}

%condition (state.1: (s32[], bf16[12,8,4], bf16[8,4])) -> pred[] {
  %state.1 = (s32[], bf16[12,8,4]{2,1,0}, bf16[8,4]{1,0}) parameter(0)
  %turn.1 = s32[] get-tuple-element(%state.1), index=0
  %limit = s32[] constant(12)
  ROOT %less = pred[] compare(%turn.1, %limit), direction=LT
}

ENTRY %main (stack.0: bf16[12,8,4], x.0: bf16[8,4], at: s32[4,1], values: f32[4], map: f32[16]) -> f32[16] {
  %stack.0 = bf16[12,8,4]{2,1,0} parameter(0)
  %x.0 = bf16[8,4]{1,0} parameter(1)
  %at = s32[4,1]{1,0} parameter(2)
  %values = f32[4]{0} parameter(3)
  %map = f32[16]{0} parameter(4)
  %first = s32[] constant(0)
  %forward = (bf16[8,4]{1,0}, f32[8]{0}, s8[64]{0}) custom-call(%x.0), custom_call_target="dew_flash3_mha_fwd", @forward(encoder/attn/ffi_call)
  %erf = bf16[8,4]{1,0} negate(%x.0), @forward(encoder/mlp/erfc)
  %start = (s32[], bf16[12,8,4]{2,1,0}, bf16[8,4]{1,0}) tuple(%first, %stack.0, %erf)
  %loop = (s32[], bf16[12,8,4]{2,1,0}, bf16[8,4]{1,0}) while(%start), condition=%condition, body=%body, backend_config={"known_trip_count":{"n":"12"}}
  %all = f32[16]{0} all-reduce(%map), replica_groups={}, to_apply=%add, @step(cond/add)
  ROOT %scattered = f32[16]{0} fusion(%all, %at, %values), kind=kInput, calls=%fused_scatter, @backward(point_head/scatter-add)
}
"""


NAMES = {"backward": "transpose(jvp(Rig3R))/", "forward": "jvp(Rig3R)/", "step": ""}


@pytest.fixture
def program() -> Program:
    text = TEXT
    for name, inside in NAMES.items():
        text = re.sub(rf"@{name}\((.*?)\)", rf'metadata={{op_name="jit(train_step)/{inside}\1"}}', text)
    return Program(text)


def test_kernels_are_counted_by_kind_part_and_pass(program):
    found = {(k.kind, k.part, k.backward): k.times for k in kernels(program) if k.kind != "fusions"}
    assert found == {
        ("attention forward", "encoder", False): 1,
        ("attention backward", "decoder", True): 12,
        ("products", "decoder", True): 12,
        ("scatters", "point head", True): 1,
    }
    assert sum(k.times for k in kernels(program) if k.kind == "fusions") == 12 + 12 + 1  # slice, update, negate


def test_fp8_products_are_told_apart():
    text = """\
HloModule jit_train_step, is_scheduled=true

ENTRY %main (x: f8e4m3fn[8,4], w: f8e5m2[2,4], scale: f32[]) -> (bf16[8,2], s8[64]) {
  %x = f8e4m3fn[8,4]{1,0} parameter(0)
  %w = f8e5m2[2,4]{1,0} parameter(1)
  %scale = f32[] parameter(2)
  ROOT %product = (bf16[8,2]{1,0}, s8[64]{0}) custom-call(%x, %w, %scale, %scale), custom_call_target="__cublas$lt$matmul$f8"
}
"""
    (product,) = kernels(Program(text))
    assert product.kind == "FP8 products" and product.bytes == 8 * 4 + 2 * 4 + 2 * 4 + 8 * 2 * 2 + 64


def test_of_a_stack_a_fusion_moves_the_slice_that_it_uses(program):
    layer = 8 * 4 * 2
    sizes = [k.bytes for k in kernels(program) if k.kind == "fusions" and k.part == "decoder"]
    assert sizes == [layer + 4 + layer, layer + 4 + layer]  # read, the number of the turn, written


def test_what_runs_beside_a_collective_is_told(program):
    late, awaited = sendings(program, 8)
    assert (late.kind, late.part, late.backward, late.times, late.bytes) == ("all-reduce", "decoder", True, 12, 64)
    assert late.groups == (tuple(range(8)),) and late.dtype == "bf16"
    assert late.asynchronous and dict(late.beside) == {"attention backward": 1, "products": 1}
    assert late.operations == Operations(linear=2.0 * 8 * 4 * 4, attention=2.5 * 4 * 8 * 8 * 2 * 2)
    assert (awaited.part, awaited.asynchronous, awaited.beside) == ("optimizer", False, ())


def test_operations_are_counted_by_jax_s_name(program):
    assert (named(program, "erfc"), named(program, "scatter-add"), named(program, "erf")) == (1, 1, 0)


def test_rows_add_up(program):
    *rows, total = kernel_rows(kernels(program), bandwidth=1e9)
    assert total["per step"] == sum(row["per step"] for row in rows)
    assert total["GB"] == pytest.approx(sum(row["GB"] for row in rows)) and total["ms"] == pytest.approx(
        1e3 * total["GB"]
    )
    first, _ = sending_rows(sendings(program, 8))
    assert first["of"] == "decoder, backward" and first["beside"] == "attention backward 1, products 1"


@pytest.mark.parametrize(
    ("target", "name", "kind"),
    [
        ("dew_flash3_mha_bwd", "decoder/attn/ffi_call", "attention backward"),
        ("__cudnn$fmhaSoftmax", "decoder/attn/dot_product_attention_fwd", "attention forward"),
        ("mosaic_gpu_v2", "encoder/attn/flash_attention_sm90/mpmd_map", "attention forward"),
        ("mosaic_gpu_v2", "encoder/attn/attention_backward/anonymous/mpmd_map", "attention backward"),
        ("mosaic_gpu_v2", "encoder/mlp/other/mpmd_map", "call of mosaic_gpu_v2"),
        ("__cublas$lt$matmul", "encoder/flash_attention_sm90/dot_general", "products"),
    ],
)
def test_custom_calls_are_told_apart_by_target_and_name(target, name, kind):
    program = _one_call("f32[4]{0}", f'custom_call_target="{target}", metadata={{op_name="jit(f)/{name}"}}')
    assert [kernel.kind for kernel in kernels(program)] == [kind]


@pytest.mark.parametrize("tokens", ["6,4,8", "1,6,4,8"])  # of a batch of 1 a kernel may be given no axis
def test_both_kernels_of_tokamaxs_backward_pass_do_what_one_does(tokens):
    operations = {}
    for target, name in (("dew_flash3_mha_bwd", "ffi_call"), ("mosaic_gpu_v2", f"{BACKWARD}/mpmd_map")):
        program = _one_call(f"bf16[{tokens}]", f'custom_call_target="{target}", metadata={{op_name="jit(f)/{name}"}}')
        body = program.computations[program.entry]
        operations[target] = operations_of(program, body, body["y"]).attention
    assert operations == {"dew_flash3_mha_bwd": 2.5 * 4 * 6 * 6 * 4 * 8, "mosaic_gpu_v2": 1.25 * 4 * 6 * 6 * 4 * 8}


def _one_call(shape: str, attributes: str) -> Program:
    """A program of one custom call, y, of x twice."""
    lines = f"  %x = {shape} parameter(0)\n  ROOT %y = {shape} custom-call(%x, %x), {attributes}\n"
    return Program(f"ENTRY %main (x: {shape}) -> {shape} {{\n{lines}}}\n")
