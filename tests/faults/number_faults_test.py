"""Numbers that are no numbers, or wrong ones: steps that are skipped and counted, runs that stop, steps repeated."""

import platform
import re
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rig3r_jax.formats.json_file import json_line
from rig3r_jax.losses.mean import Mean
from rig3r_jax.training.metrics import read_metrics
from rig3r_jax.training.optimizer import learning_rate_schedule, make_optimizer
from rig3r_jax.training.spikes import SpikeRule
from rig3r_jax.training.state import TrainState, fresh_state
from rig3r_jax.training.step import make_train_step
from tests import runs
from tests.faults.faults import fault

SCHEDULE = learning_rate_schedule(learning_rate=1e-2, end_learning_rate=1e-3, warmup_steps=1, steps=100)
OPTIMIZER = make_optimizer(SCHEDULE, b1=0.9, b2=0.95, eps=1e-8, weight_decay=0.0, clip_norm=1.0)


class Line:
    """Least squares of y = x w: an objective of a few numbers."""

    def prepare(self, batch):
        return batch, jnp.float32(batch["x"].shape[0])

    def loss(self, params, samples, totals):
        errors = samples["x"] @ params["w"]["kernel"] - samples["y"]
        loss = jnp.sum(errors**2) / totals
        return loss, {"loss/total": Mean(loss, jnp.ones(()))}


def batch_of(step: int, scale: float = 1.0) -> dict[str, np.ndarray]:
    """Samples of a step; what is to be predicted is `scale` times what it should be."""
    x = np.random.default_rng(step).normal(size=(8, 3)).astype(np.float32)
    return {"x": x, "y": np.float32(scale) * (x @ np.array([[1.0], [2.0], [-1.0]], np.float32) + 0.1)}


def fresh(optimizer: optax.GradientTransformation = OPTIMIZER) -> TrainState:
    return fresh_state({"w": {"kernel": jnp.zeros((3, 1))}}, optimizer, keep_ema=True)


@fault(
    22,
    what="A batch gives a loss or a gradient that is NaN or infinite.",
    seen="`count/skipped_steps` in the metrics, and `count/bad_steps`: how many in a row.",
    kept="Parameters, moments and average as before the step, bit for bit; the next batch is taken.",
)
@pytest.mark.parametrize("scale", [np.nan, np.inf, 1e30])  # the last one overflows in the square
def test_a_step_that_is_not_finite_changes_nothing(scale):
    """Fault 22: the gradient of a step is NaN."""
    step = jax.jit(make_train_step(Line(), OPTIMIZER, SCHEDULE, ema_decay=0.9))
    before, _ = step(fresh(), batch_of(0))
    after, metrics = step(before, batch_of(1, scale))
    for name in ("params", "opt_state", "ema"):
        jax.tree.map(np.testing.assert_array_equal, getattr(after, name), getattr(before, name))
    assert (after.step, after.bad_steps, after.skipped_steps) == (2, 1, 1)
    assert metrics["count/skipped_steps"].compute() == 1
    after, _ = step(after, batch_of(2))
    assert (after.step, after.bad_steps, after.skipped_steps) == (3, 0, 1)
    assert not np.array_equal(after.params["w"]["kernel"], before.params["w"]["kernel"])


@fault(
    23,
    what="`train.max_bad_steps` steps in a row are not finite: the learning rate is 1e30.",
    seen="`4 steps in a row were not finite; the state is saved at step N`; exit code 1, which nothing starts again.",
    kept="The state before the first of them, in the checkpoints, and `count/skipped_steps` in metrics.jsonl.",
)
@pytest.mark.slow
def test_a_run_that_diverges_stops_with_its_state_saved(records, tmp_path):
    """Fault 23: many steps in a row are not finite."""
    flags = ("--config.optimizer.learning_rate=1e30", "--config.train.max_bad_steps=4", "--config.train.steps=60")
    flags += ("--config.train.log_every=5", "--config.train.batch_size=2")
    output = runs.run_here("train", *runs.demo(tmp_path, records, *flags), code=1)
    assert "4 steps in a row were not finite" in output or "5 steps in a row were not finite" in output
    assert runs.saved_steps(tmp_path)
    assert read_metrics(tmp_path / "metrics.jsonl")[-1]["count/skipped_steps"] >= 4


@fault(
    24,
    what="A batch gives a loss and a gradient that are 100 times the usual ones, under `train.skip_spikes=20`.",
    seen="`train/spikes` in the metrics, the share of a row's steps, and `count/skipped_steps`.",
    kept="Parameters, moments, average and what the rule knows of the steps before, bit for bit; `train.max_bad_steps` "
    "such steps in a row end the run as those do that are not finite.",
)
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_spike_is_skipped(accumulate):
    """Fault 24: a loss of 100 times the usual one."""
    rule = SpikeRule(deviations=20.0, window=16)
    step = jax.jit(make_train_step(Line(), rule.watching(OPTIMIZER), SCHEDULE, spikes=rule, accumulate=accumulate))
    state, losses = fresh(rule.watching(OPTIMIZER)), []
    for number in range(40):
        before = state
        state, metrics = step(state, batch_of(number, 10.0 if number in (5, 30, 31) else 1.0))
        losses.append([float(metrics[name].compute()) for name in ("loss/total", "train/gradient_norm")])
        taken = bool(state.skipped_steps == before.skipped_steps)
        expected = number not in (30, 31)  # step 5 comes before there is a window
        assert taken == expected == (not is_spike(losses, rule)), number
        if not expected:
            jax.tree.map(
                np.testing.assert_array_equal, (state.params, state.opt_state), (before.params, before.opt_state)
            )
            losses.pop()
        assert metrics["train/spikes"].compute() == (not expected)
    assert (state.step, state.skipped_steps, state.bad_steps) == (40, 2, 0)


def is_spike(rows: list[list[float]], rule: SpikeRule) -> bool:
    """The rule in plain float64, of the last of these rows."""
    if len(rows) <= rule.window:
        return False
    recent, last = np.array(rows[-1 - rule.window : -1]), np.array(rows[-1])
    median = np.median(recent, axis=0)
    deviation = np.maximum(1.4826 * np.median(abs(recent - median), axis=0), 0.01 * abs(median))
    return bool(np.any(last > median + rule.deviations * deviation))


def test_without_the_rule_the_step_is_as_it_was():
    """Nothing of it is in the program or in the state."""
    plain = jax.jit(make_train_step(Line(), OPTIMIZER, SCHEDULE))
    assert "sort" not in plain.lower(fresh(), batch_of(0)).as_text()
    rule = SpikeRule(20.0, 16)
    watching = rule.watching(OPTIMIZER)
    skipping = jax.jit(make_train_step(Line(), watching, SCHEDULE, spikes=rule))
    assert "sort" in skipping.lower(fresh(watching), batch_of(0)).as_text()


@pytest.fixture(scope="module")
def logged(records, tmp_path_factory) -> Path:
    """A run of 8 steps with rows at the even ones, checkpoints at 3 and 6."""
    workdir = tmp_path_factory.mktemp("logged")
    flags = ("--config.train.steps=8", "--config.train.log_every=2", "--config.train.checkpoint_every=3")
    runs.run_here("train", *runs.demo(workdir, records, *flags, "--config.train.batch_size=2"))
    return workdir


@fault(
    25,
    what="A bit of a parameter flipped in memory during a step, once, without a word from the hardware: in the log of "
    "a run one loss, or one checksum of the parameters, is not what the step gives.",
    seen="`rig3r replay WORKDIR --step N`: `step 6: loss/total was 0.123, repeated it is 0.124`; exit code 1.",
    kept="The workdir, in which nothing is written; the run may go on meanwhile.",
)
@pytest.mark.slow
def test_a_step_repeated_gives_the_same_bits(logged, tmp_path):
    """Fault 25: the log says what the steps do not give."""
    workdir = Path(shutil.copytree(logged, tmp_path / "run"))
    before = {path: path.stat().st_mtime_ns for path in sorted(workdir.rglob("*"))}
    output = runs.run_here("replay", workdir, "--step=6")
    assert re.fullmatch(r"steps 4 to 6: the same bits in \d\d values of metrics.jsonl\n", output.splitlines(True)[-1])
    assert {path: path.stat().st_mtime_ns for path in sorted(workdir.rglob("*"))} == before

    rows = read_metrics(workdir / "metrics.jsonl")
    for name, step in (("check/parameters", 4), ("loss/total", 6)):
        changed = [
            {**row, name: float(np.nextafter(row[name], np.inf))} if row["step"] == step else row for row in rows
        ]
        (workdir / "metrics.jsonl").write_text("".join(map(json_line, changed)))
        output = runs.run_here("replay", workdir, "--step=6", code=1).splitlines()[-1]
        assert re.fullmatch(rf"step {step}: {name} was [\d.]+, repeated it is [\d.]+", output)
    assert "has no row of step 5; the nearest are" in runs.run_here("replay", workdir, "--step=5", code=2)
    assert "holds no step before 2, only 3, 6, 8" in runs.run_here("replay", workdir, "--step=2", code=2)


COPIES = """
import sys
from unittest import mock
import jax
import numpy as np
from rig3r_jax.training import loop
from tests import runs

def flipped(state):
    leaf = state.params["encoder"]["norm"]["scale"]
    shards = [shard.data for shard in leaf.addressable_shards]
    bits = np.array(shards[1])
    bits.view(np.uint32)[3] ^= 1
    shards[1] = jax.device_put(bits, shards[1].device)
    leaf = jax.make_array_from_single_device_arrays(leaf.shape, leaf.sharding, shards)
    encoder = {**state.params["encoder"], "norm": {**state.params["encoder"]["norm"], "scale": leaf}}
    return state.replace(params={**state.params, "encoder": encoder})

def check(state, step, check=loop.check_copies):
    check(flipped(state) if step == 4 else state, step)

with mock.patch.object(loop, "check_copies", check):
    print(runs.run_here("train", *sys.argv[1:], code=77))
"""


@fault(
    25,
    what="One bit flips in one of two devices' copies of the state, under `train.check_copies_every=2`.",
    seen="`the run stops, and saves nothing more: step 4: the copies of the state differ, and none has a majority: "
    "TFRT_CPU_0 of process 0 on HOST has 0x..., TFRT_CPU_1 ...`; exit code 77, which nothing starts again.",
    kept="The last checkpoint, of a step whose copies were compared before it was saved.",
)
@pytest.mark.slow
def test_a_bit_that_flips_in_one_copy_ends_the_run(records, tmp_path):
    """Fault 25: one of two copies of the state is another."""
    flags = [f"--config.train.{flag}" for flag in ("steps=9", "checkpoint_every=2", "check_copies_every=2")]
    flags = runs.demo(tmp_path, records, *flags, "--config.train.batch_size=2", "--config.mesh.data=2")
    output = runs.finish(runs.start("-c", COPIES, *flags, JAX_NUM_CPU_DEVICES="2"))
    places = rf"\w+:?_?0\b.* of process 0 on {re.escape(platform.node())} has 0x\w+, .* of process 0 on"
    reason = rf"saves nothing more: step 4: the copies of the state differ, .*majority: {places}"
    assert re.search(reason, output), output
    assert runs.saved_steps(tmp_path) == [2]
