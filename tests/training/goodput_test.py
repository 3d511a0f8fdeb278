"""Where the time of a run goes: causes inside each other, several starts, steps that are done again."""

import pytest

from rig3r_jax.training import goodput
from rig3r_jax.training.goodput import Goodput, summary


@pytest.fixture
def clock(monkeypatch):
    """clock(seconds): that many go by."""
    now = [100.0]
    monkeypatch.setattr(goodput.time, "perf_counter", lambda: now[0])

    def pass_by(seconds: float) -> None:
        now[0] += seconds

    return pass_by


def spend(account: Goodput, clock, training: float, saving: float) -> dict[str, float]:
    with account.spending("training"):
        clock(training)
        with account.spending("saving"):
            clock(saving)
    return account.scalars()


def test_every_second_has_one_cause(clock):
    account = Goodput()
    clock(2.0)
    row = spend(account, clock, training=5.0, saving=3.0)
    assert row["goodput/percent"] == 50.0 and row["goodput/starting_seconds"] == 2.0
    assert sum(value for name, value in row.items() if name.endswith("_seconds")) == 10.0
    assert summary(row) == "50.0% of 0.2 min trained; saving 30.0%, starting and compiling 20.0%"
    assert summary({"loss/total": 1.0}) == ""


def test_a_run_that_was_killed_lost_what_it_does_again(clock):
    account, rows = Goodput(), []
    for step in (10, 20, 30):
        rows.append({"step": step, **spend(account, clock, training=9.0, saving=1.0)})
    again = Goodput()
    again.go_on([*rows, {"step": 30, "evaluation/x": 1.0}], step=10)
    clock(5.0)
    row = again.scalars()
    assert row["goodput/training_seconds"] == 9.0 and row["goodput/lost_seconds"] == 20.0
    assert row["goodput/starting_seconds"] == 5.0 and row["goodput/percent"] == pytest.approx(100 * 9 / 35)
    stopped = Goodput()
    stopped.go_on(rows, step=30)
    assert {"step": 30, **stopped.scalars()} == rows[-1]
