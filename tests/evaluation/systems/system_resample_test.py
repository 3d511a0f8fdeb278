"""Intervals hold the truth as often as they say, and tests of no difference are false as seldom."""

import numpy as np
import pytest

from rig3r_jax import cli
from rig3r_jax.benchmarks.intervals import coverage, rates
from rig3r_jax.evaluation.systems.resample import difference, interval


@pytest.mark.parametrize("name, scenes", [("rates", 15), ("rates", 50), ("skewed errors", 50)])
def test_intervals_cover(name, scenes):
    assert 93 <= coverage(name, scenes, 500, resamples=500, seed=7) <= 97


def test_the_command_prints_a_row_for_each_number_of_scenes(capsys):
    words = ["bench", "intervals", "--scenes", "3", "9", "--evaluations", "20", "--resamples", "100", "--out", ""]
    assert cli.main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:4:3]] == ["scenes", "9"] and "standard error of 4.9" in lines[-1]


def test_few_scenes_have_students_interval_and_two_none():
    rng = np.random.default_rng(8)
    held = []
    for _ in range(500):
        found = interval(rng.normal(3.0, 1.0, 5), np.ones(5))
        held.append(found.low <= 3.0 <= found.high)
    assert 0.93 <= np.mean(held) <= 0.97
    assert np.isnan(interval(np.ones(2), np.ones(2)).low)
    assert np.isnan(interval(np.zeros(4), np.zeros(4)).value)
    same = interval(np.full(9, 100.0), np.ones(9))
    assert (same.value, same.low, same.high) == (100.0, 100.0, 100.0)


def test_intervals_are_a_function_of_the_seed():
    sums, weights, _ = rates(np.random.default_rng(0), 12)
    assert interval(sums, weights, 300, 5) == interval(sums, weights, 300, 5) != interval(sums, weights, 300, 6)


@pytest.mark.parametrize("scenes, repeats", [(9, 400), (14, 60)])
def test_p_values_of_equal_systems_are_uniform(scenes, repeats):
    rng = np.random.default_rng(9)
    p_values = []
    for _ in range(repeats):
        common = rng.normal(0, 2, scenes)  # scenes are hard or easy for both
        a, b = common + rng.normal(0, 1, scenes), common + rng.normal(0, 1, scenes)
        p_values.append(difference((a, b), (np.ones(scenes),) * 2, 100).p_value)
    # Within three standard errors of 5%, and of a half.
    assert abs(np.mean(np.array(p_values) <= 0.05) - 0.05) < 3 * np.sqrt(0.05 * 0.95 / repeats)
    assert abs(np.mean(p_values) - 0.5) < 3 * np.sqrt(1 / 12 / repeats)


def test_a_true_difference_is_found_though_scenes_differ_more():
    rng = np.random.default_rng(10)
    common = rng.normal(0, 5, 15)
    a, b = common + rng.normal(0, 0.3, 15), common + 0.8 + rng.normal(0, 0.3, 15)
    found = difference((a, b), (np.ones(15), np.ones(15)))
    assert found.p_value < 0.001 and found.low > 0.4 and found.high < 1.2
    back = difference((b, a), (np.ones(15), np.ones(15)))
    assert back.value == pytest.approx(-found.value)


def test_only_scenes_that_both_have_count():
    a, b = np.array([1.0, 2.0, 3.0, 50.0]), np.array([2.0, 3.0, 4.0, 0.0])
    found = difference((a, b), (np.ones(4), np.array([1.0, 1.0, 1.0, 0.0])))
    assert (found.value, found.scenes) == (1.0, 3)
    assert found.p_value == pytest.approx(2 / 8)  # of eight swaps, none and all
