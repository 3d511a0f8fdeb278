"""Numbers that are no numbers, or wrong ones: steps that are skipped and counted, runs that stop, steps repeated."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rig3r_jax.losses.mean import Mean
from rig3r_jax.training.metrics import read_metrics
from rig3r_jax.training.optimizer import learning_rate_schedule, make_optimizer
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


def fresh() -> TrainState:
    return fresh_state({"w": {"kernel": jnp.zeros((3, 1))}}, OPTIMIZER, keep_ema=True)


@pytest.fixture(scope="module")
def records(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("records")


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
