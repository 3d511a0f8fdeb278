"""Programs read from their text: turns of loops, groups of devices, bytes of rings, and what may run beside what."""

import json
import os
import subprocess
import sys

import pytest

from rig3r_jax.benchmarks.hlo import Program, arrays, bits_of, ring_factor
from rig3r_jax.benchmarks.hlo_groups import replica_groups

_SCANS = """
import json, os
import jax, jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec as P
from rig3r_jax.benchmarks.hlo import Program

mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
layers, parts = 5, 3

def loss(weights, x):
    turn = lambda x, w: (jnp.tanh(x @ w), None)
    return jax.lax.scan(jax.checkpoint(turn, prevent_cse=False), x, weights)[0].sum()

def step(weights, x):
    body = lambda total, part: (total + jax.grad(loss)(weights, part), None)
    return jax.lax.scan(body, jnp.zeros_like(weights), x)[0]

weights = jax.ShapeDtypeStruct((layers, 32, 32), jnp.float32, sharding=NamedSharding(mesh, P()))
x = jax.ShapeDtypeStruct((parts, 16, 32), jnp.float32, sharding=NamedSharding(mesh, P(None, "data")))
program = Program(jax.jit(step, out_shardings=NamedSharding(mesh, P())).lower(weights, x).compile().as_text())
found = [[c.kind, c.bytes, c.times, len(c.groups), len(c.groups[0])] for c in program.collectives(4)]
print(json.dumps({"collectives": found, "linear": program.operations().linear}))
"""


def test_scans_are_counted_as_often_as_they_turn(repo):
    flags = "--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=0"
    done = subprocess.run(
        [sys.executable, "-c", _SCANS],
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(repo)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    # Per micro-batch: forward, once more in the backward pass, and two products of that, on 4 of the 16 rows.
    assert found["linear"] == 3 * 5 * 4 * (2 * 4 * 32 * 32)
    # However the compiler places the sum of the gradients, it moves all of them for every micro-batch or once.
    assert {(kind, groups, size) for kind, _, _, groups, size in found["collectives"]} == {("all-reduce", 1, 4)}
    moved = sum(size * times for _, size, times, _, _ in found["collectives"])
    assert moved in (5 * 32 * 32 * 4, 3 * 5 * 32 * 32 * 4)


_LOOP = """HloModule step

%sum (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %add.9 = f32[] add(%a, %b)
}

%body (p: (s32[], f32[8], bf16[6,8], f32[6,8])) -> (s32[], f32[8], bf16[6,8], f32[6,8]) {
  %p = (s32[], f32[8]{0}, bf16[6,8]{1,0}, /*index=3*/f32[6,8]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %x = f32[8]{0} get-tuple-element(%p), index=1
  %weights = bf16[6,8]{1,0} get-tuple-element(%p), index=2
  %grads = f32[6,8]{1,0} get-tuple-element(%p), index=3
  %one = s32[] constant(1)
  %zero = s32[] constant(0)
  %slice = bf16[1,8]{1,0} dynamic-slice(%weights, %i, %zero), dynamic_slice_sizes={1,8}
  %w = bf16[8]{0} reshape(%slice)
  %early = bf16[32]{0} all-gather(%w), channel_id=1, replica_groups=[2,4]<=[8], dimensions={0}
  %part = bf16[8]{0} slice(%early), slice={[0:8]}
  %wide = f32[8]{0} convert(%part)
  %product = f32[8]{0} multiply(%x, %wide)
  %awaited = f32[8]{0} all-reduce(%product), channel_id=2, replica_groups={{0,1},{2,3},{4,5},{6,7}}, to_apply=%sum
  %next = f32[8]{0} tanh(%awaited)
  %late = f32[8]{0} all-reduce(%next), channel_id=3, replica_groups=[2,4]<=[4,2]T(1,0), to_apply=%sum
  %row = f32[1,8]{1,0} reshape(%late)
  %stacked = f32[6,8]{1,0} dynamic-update-slice(%grads, %row, %i, %zero)
  %whole = f32[8]{0} all-reduce(%product), channel_id=4, replica_groups={}, to_apply=%sum
  %share = f32[1]{0} dynamic-slice(%whole, %i), dynamic_slice_sizes={1}
  %norm = f32[1]{0} sqrt(%share)
  %more = s32[] add(%i, %one)
  ROOT %out = (s32[], f32[8]{0}, bf16[6,8]{1,0}, f32[6,8]{1,0}) tuple(%more, %next, %weights, %stacked)
}

%condition (q: (s32[], f32[8], bf16[6,8], f32[6,8])) -> pred[] {
  %q = (s32[], f32[8]{0}, bf16[6,8]{1,0}, f32[6,8]{1,0}) parameter(0)
  %j = s32[] get-tuple-element(%q), index=0
  %turns = s32[] constant(6)
  ROOT %less = pred[] compare(%j, %turns), direction=LT
}

ENTRY %main (s: (s32[], f32[8], bf16[6,8], f32[6,8])) -> f32[8] {
  %s = (s32[], f32[8]{0}, bf16[6,8]{1,0}, f32[6,8]{1,0}) parameter(0)
  %loop = (s32[], f32[8]{0}, bf16[6,8]{1,0}, f32[6,8]{1,0}) while(%s), condition=%condition, body=%body KNOWN
  %y = f32[8]{0} get-tuple-element(%loop), index=1
  ROOT %last = f32[8]{0} all-reduce(%y), channel_id=5, replica_groups=[1,8]<=[8], to_apply=%sum
}
"""


@pytest.mark.parametrize("known, turns", [("", 6), (', backend_config={"known_trip_count":{"n":"7"}}', 7)])
def test_roles_inside_a_loop(known, turns):
    found = Program(_LOOP.replace(" KNOWN", known)).collectives(8)
    assert [(one.kind, one.role, one.times, one.bytes) for one in found] == [
        ("all-gather", "early", turns, 4 * 16),
        ("all-reduce", "awaited", turns, 32),
        ("all-reduce", "late", turns, 32),
        ("reduce-scatter", "awaited", turns, 32),
        ("all-reduce", "awaited", 1, 32),
    ]
    assert found[0].groups == ((0, 1, 2, 3), (4, 5, 6, 7))
    assert found[2].groups == ((0, 2, 4, 6), (1, 3, 5, 7))
    assert found[0].wire_bytes == 3 / 4 * 64 and found[4].wire_bytes == 2 * 7 / 8 * 32


def test_a_loop_without_a_bound_is_refused():
    with pytest.raises(ValueError, match="no constant number of turns"):
        Program(_LOOP.replace("direction=LT", "direction=NE").replace(" KNOWN", "")).collectives(8)
    with pytest.raises(ValueError, match="no HLO module"):
        Program("{}")


@pytest.mark.parametrize(
    "text, groups",
    [
        ("replica_groups={{0,1},{2,3}}, x", ((0, 1), (2, 3))),
        ("replica_groups={}, x", ((0, 1, 2, 3),)),
        ("channel_id=1", ((0, 1, 2, 3),)),
        ("replica_groups=[2,2]<=[2,2]T(1,0), x", ((0, 2), (1, 3))),
        ("source_target_pairs={{0,1},{1,0}}", ((0, 1), (1, 0))),
        ("replica_groups=mesh['a'=2,'b'=1,'c'=2] {'a'}, x", ((0, 2), (1, 3))),
        ("replica_groups=mesh['a'=2,'b'=2] {'a','b'}, x", ((0, 1, 2, 3),)),
        ("replica_groups=mesh['a'=2,'b'=2], device_ids=([2,2]T(1,0)) {'b'}, x", ((0, 2), (1, 3))),
        ("replica_groups=mesh['a'=4] {'a':(2)2}, x", ((0, 1), (2, 3))),
        ("replica_groups=mesh['a'=4] {'a':(1)2}, x", ((0, 2), (1, 3))),
    ],
)
def test_groups_in_every_form(text, groups):
    assert replica_groups(text, 4) == groups


def test_groups_in_an_unknown_form():
    with pytest.raises(ValueError, match="unknown form"):
        replica_groups("replica_groups=what", 4)


def test_widths_of_types_stand_in_their_names():
    kinds = {"pred": 8, "s4": 4, "u8": 8, "f8e4m3fn": 8, "f8e5m2": 8, "bf16": 16, "s32": 32, "f64": 64, "c64": 64}
    assert {kind: bits_of(kind) for kind in kinds} == kinds and bits_of("token") == 0


def test_shapes_and_rings():
    assert arrays("(f32[2,3]{1,0}, /*index=1*/s32[], pred[4]{0})") == [("f32", (2, 3)), ("s32", ()), ("pred", (4,))]
    assert ring_factor("all-reduce", 1) == 0 and ring_factor("all-reduce", 2) == 1
    assert ring_factor("all-gather", 4) == ring_factor("reduce-scatter", 4) == ring_factor("all-to-all", 4) == 0.75
    assert ring_factor("collective-permute", 8) == 1
