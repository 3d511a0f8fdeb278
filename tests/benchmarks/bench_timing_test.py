"""The clock of benchmarks: what counts, what does not, and how a run of calls becomes one number."""

import time

import jax
import jax.numpy as jnp
import pytest

from rig3r_jax.benchmarks.timing import Timing, peak_bytes, time_calls, time_device


def test_the_median_and_the_quartiles_stand_for_the_calls():
    timing = Timing((1.0, 2.0, 3.0, 4.0, 100.0))
    assert timing.median == 3.0
    assert timing.spread == pytest.approx((52.0 - 1.5) / 2 / 3.0)
    assert Timing((1.0, 9.0)).spread == 0.0


def test_warm_up_does_not_count_and_calls_in_a_row_share_a_wait():
    calls = []

    def call():
        calls.append(None)
        time.sleep(0.2 if len(calls) == 1 else 0.01)  # the first one compiles
        return jnp.zeros(())

    timing = time_calls(call, repeats=3, warmup=1, in_a_row=2)
    assert len(calls) == 1 + 3 * 2 and len(timing.seconds) == 3
    assert all(0.01 <= seconds < 0.2 for seconds in timing.seconds)


def test_short_work_is_repeated_and_long_work_is_not():
    for seconds, least in ((0.0, 20), (0.03, 1)):
        calls = []

        def call(seconds=seconds, calls=calls):
            calls.append(time.sleep(seconds))

        time_device(call, repeats=2, least=0.02)
        assert len(calls) >= 3 + 2 * least
    assert len(calls) == 3 + 2


def test_no_calls_make_no_timing():
    with pytest.raises(ValueError, match="repeats=0"):
        time_calls(lambda: None, repeats=0)


def test_peak_memory_is_a_number_or_unknown():
    peak = peak_bytes(jax.devices()[0])
    assert peak is None or peak >= 0
