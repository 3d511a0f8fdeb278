"""The clock of benchmarks: what counts, what does not, and how a run of calls becomes one number."""

import types

import jax
import jax.numpy as jnp
import pytest

from rig3r_jax.benchmarks import timing
from rig3r_jax.benchmarks.timing import Timing, peak_bytes, time_calls, time_device


def test_the_median_and_the_quartiles_stand_for_the_calls():
    measured = Timing((1.0, 2.0, 3.0, 4.0, 100.0))
    assert measured.median == 3.0
    assert measured.spread == pytest.approx((52.0 - 1.5) / 2 / 3.0)
    assert Timing((1.0, 9.0)).spread == 0.0


@pytest.fixture
def sleep(monkeypatch):
    """sleep(seconds) on a clock that nothing else moves."""
    now = [0.0]
    monkeypatch.setattr(timing, "time", types.SimpleNamespace(perf_counter=lambda: now[0]))
    return lambda seconds: now.__setitem__(0, now[0] + seconds)


def test_warm_up_does_not_count_and_calls_in_a_row_share_a_wait(sleep):
    calls = []

    def call():
        calls.append(None)
        sleep(0.2 if len(calls) == 1 else 0.01)  # the first one compiles
        return jnp.zeros(())

    measured = time_calls(call, repeats=3, warmup=1, in_a_row=2)
    assert len(calls) == 1 + 3 * 2
    assert measured.seconds == pytest.approx((0.01, 0.01, 0.01))


def test_short_work_is_repeated_and_long_work_is_not(sleep):
    for seconds, in_a_row in ((0.001, 20), (0.03, 1)):
        calls = []

        def call(seconds=seconds, calls=calls):
            calls.append(sleep(seconds))

        measured = time_device(call, repeats=2, least=0.02)
        assert len(calls) == 3 + 2 * in_a_row
        assert measured.seconds == pytest.approx((seconds, seconds))


def test_no_calls_make_no_timing():
    with pytest.raises(ValueError, match="repeats=0"):
        time_calls(lambda: None, repeats=0)


def test_peak_memory_is_a_number_or_unknown():
    peak = peak_bytes(jax.devices()[0])
    assert peak is None or peak >= 0
