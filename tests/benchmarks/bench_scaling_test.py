"""Scaling on paper: the laws of the model, and the command on a small step."""

import dataclasses
import json
import math

import pytest

from rig3r_jax import cli
from rig3r_jax.benchmarks.hlo import Operations, Program
from rig3r_jax.benchmarks.scaling_model import Machine, Traffic, compute_seconds, exposed_seconds, link_seconds
from rig3r_jax.models.rig3r import build
from rig3r_jax.training.rig3r.flops import train_flops
from rig3r_jax.training.rig3r.memory import activation_bytes

MACHINE = Machine(per_node=8, matmul=650e12, attention=430e12, memory=3e12, node=450e9, network=50e9, hop=0.0)
GRADIENTS = Traffic(
    kind="all-reduce",
    dtype="bf16",
    arrays=8,
    bytes=25_000_000,
    size=8,
    nodes=1,
    role="late",
    trips=24,
    outer=1,
    where="body",
    source="",
    wire_bytes=0.0,
)


class Loop(Program):
    """A program whose body takes so many seconds."""

    def __init__(self, seconds: float):
        self._work = Operations(linear=seconds * MACHINE.matmul)

    def operations(self, computation: str | None = None) -> Operations:
        assert computation == "body"
        return self._work


def changed(**fields) -> Traffic:
    return dataclasses.replace(GRADIENTS, **fields)


def test_rings():
    assert link_seconds(GRADIENTS, MACHINE) == pytest.approx(2 * 7 / 8 * 25e6 / 450e9)
    # Over 16 nodes each of a node's 8 devices carries an eighth between the nodes.
    both = link_seconds(changed(size=128, nodes=16), MACHINE)
    assert both == pytest.approx(2 * 7 / 8 * 25e6 / 450e9 + 2 * 15 / 16 * 25e6 / 8 / 50e9)
    assert link_seconds(changed(size=16, nodes=16), MACHINE) == pytest.approx(2 * 15 / 16 * 25e6 / 50e9)
    assert link_seconds(changed(kind="reduce-scatter"), MACHINE) == pytest.approx(link_seconds(GRADIENTS, MACHINE) / 2)
    slow = dataclasses.replace(MACHINE, hop=1e-5)
    assert link_seconds(changed(size=128, nodes=16), slow) == pytest.approx(both + 2 * 4 * 1e-5)


def test_what_leaves_an_iteration_runs_beside_the_next():
    once = link_seconds(GRADIENTS, MACHINE)

    def exposed(turn: float, **fields) -> float:
        return exposed_seconds([changed(**fields)], Loop(turn), MACHINE)

    assert exposed(10 * once) == pytest.approx(once)  # all hidden but the last
    assert exposed(0.0) == pytest.approx(24 * once)
    assert exposed(once / 2) == pytest.approx(once + 23 * once / 2)
    assert exposed(10 * once, outer=3) == pytest.approx(3 * once)
    assert exposed(10 * once, role="awaited") == pytest.approx(24 * once)
    assert exposed_seconds([GRADIENTS], Loop(1.0), MACHINE, hide=False) == pytest.approx(24 * once)
    two = exposed_seconds([GRADIENTS, GRADIENTS], Loop(1.5 * once), MACHINE)  # they share the links
    assert two == pytest.approx(2 * once + 23 * once / 2)


def test_more_nodes_cost_more_and_only_where_nodes_are_spanned():
    spanning = changed(size=16, nodes=2)
    seconds = [exposed_seconds([spanning], Loop(0.0), MACHINE, grow=grow) for grow in (1, 2, 4, 1024)]
    assert seconds == sorted(seconds) and seconds[0] < seconds[-1] < 2 * seconds[0]
    assert exposed_seconds([GRADIENTS], Loop(0.0), MACHINE, grow=64) == exposed_seconds([GRADIENTS], Loop(0.0), MACHINE)


def test_compute_is_the_models_operations_at_the_rates():
    model = build(variant="large", dtype="bfloat16", remat="dots", backend="cpu")
    work = compute_seconds(model, 24, 512, 1, 633_000_000, dataclasses.replace(MACHINE, matmul=1.0, attention=1.0))
    # Beyond 3 times the forward pass: half the attention once more, and the point head.
    assert 1.08 < (work.linear + work.attention) / train_flops(model, 24, 512, 512) < 1.14
    repeated = [
        compute_seconds(model.clone(remat=remat), 24, 512, 1, 0, MACHINE).total for remat in ("dots", "qkv", "full")
    ]
    assert repeated == sorted(repeated) and len(set(repeated)) == 3
    halves = compute_seconds(model, 24, 512, 2, 0, MACHINE)
    assert halves.total == pytest.approx(repeated[0] / 2)


def test_activations_fit_a_device():
    model = build(variant="large", dtype="bfloat16", remat="dots", backend="cpu")
    assert 24e9 < activation_bytes(model, 24, 512) < 30e9
    half, single = (activation_bytes(build(variant="tiny", dtype=dtype), 4, 64) for dtype in ("bfloat16", "float32"))
    assert single == 2 * half > 0  # the table is of 16-bit activations


@pytest.mark.parametrize(
    "flags, said",
    [
        (["--devices", "6", "--fsdp", "4"], "--devices 6 must be a multiple of --fsdp * --frames = 4"),
        (["--devices", "4", "--frames", "4"], "--frames 4 must divide sampling.num_views=6"),
        (["--network-gb-s", "0"], "--network-gb-s is 0.0; it must be positive"),
    ],
)
def test_flags_that_cannot_be(repo, monkeypatch, capsys, flags, said):
    monkeypatch.chdir(repo)
    assert cli.main(["bench", "scaling", "--config=configs/demo.py", *flags]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.sweep("rig3r_jax/benchmarks", "rig3r_jax/losses", "rig3r_jax/models", "rig3r_jax/training")
def test_command_on_a_small_step(repo, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(repo)
    small = ["--config.model.dtype=bfloat16", "--config.model.unroll=False", "--config.sampling.image_size=32"]
    flags = ["--devices", "4", "--fsdp", "2", "--per-node", "2", "--out", str(tmp_path), "--name", "small"]
    assert cli.main(["bench", "scaling", *flags, "--config=configs/demo.py", *small]) == 0
    printed = capsys.readouterr().out
    assert "2x2x1" in printed and "first wall" in printed
    result = json.loads((tmp_path / "small.json").read_text())
    (row,) = result["rows"]
    assert row["samples"] == 4 and row["moments"] == pytest.approx(2 * row["params"], rel=1e-4)
    assert row["gradients"] == row["params"] and row["exposed s"] <= row["unhidden s"]
    assert row["wire"] == pytest.approx(sum(line["wire MB/step"] for line in result["collectives"]) / 1e3)
    # Every gradient is summed over all four devices, in one kind of sum or in two.
    summed = sum(
        line["MB"] * line["times"] * math.log2(line["group"])
        for line in result["collectives"]
        if line["collective"] in ("all-reduce", "reduce-scatter")
    )
    assert summed > 0
    assert {line["nodes"] for line in result["collectives"]} == {1, 2}
