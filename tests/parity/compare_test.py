"""The measure of difference and the table that shows it."""

import numpy as np
import pytest

from rig3r_jax.parity.compare import FLOAT32_TOLERANCE, FLOAT64_TOLERANCE, Skipped, compare, report


def test_error_is_measured_against_the_largest_number():
    row = compare("a", np.array([1.0, 100.0 + 1e-6]), np.array([1.0, 100.0]))
    assert row.absolute == pytest.approx(1e-6) and row.relative == pytest.approx(1e-8)
    assert not row.passed and row.tolerance == FLOAT64_TOLERANCE
    assert compare("a", np.float64(1.0 + 1e-6), np.float32(1.0)).passed
    assert compare("a", np.float64(1.0), np.float32(1.0)).tolerance == FLOAT32_TOLERANCE
    assert compare("a", [1.1], [1.0], tolerance=0.11).passed


def test_errors_against_zero_are_absolute_and_a_floor_is_a_size():
    assert compare("a", np.array([1e-10]), np.array([0.0])).passed
    row = compare("a", np.array([3e-12]), np.array([1e-15]))
    assert not row.passed
    row = compare("a", np.array([3e-12]), np.array([1e-15]), floor=1.0)
    assert row.passed and row.relative == pytest.approx(3e-12, rel=1e-2)
    assert compare("a", [2.0], [4.0], floor=1.0).relative == 0.5  # a larger size stays


@pytest.mark.parametrize("theirs", [np.array([1, 2]), np.array([True, False]), np.array(["a", "b"])])
def test_what_is_counted_must_be_equal(theirs):
    assert compare("a", theirs.copy(), theirs).passed
    assert not compare("a", theirs[::-1], theirs).passed
    assert not compare("a", theirs[::-1], theirs, tolerance=1e9).passed


@pytest.mark.parametrize("theirs", [np.zeros(0), np.zeros(0, int), np.array([], "U1"), np.array([np.nan, np.inf])])
def test_nothing_to_compare_never_passes(theirs):
    assert not compare("a", theirs, theirs).passed


def test_other_shapes_and_other_places_of_nan_never_pass():
    numbers = np.array([1.0, np.nan, np.inf])
    assert compare("a", numbers, numbers).passed
    for ours in (np.array([1.0, 2.0, np.inf]), np.array([np.nan, np.nan, np.inf]), np.array([1.0, np.nan, -np.inf])):
        row = compare("a", ours, numbers, tolerance=1e9)
        assert not row.passed and "finite" in row.note
    row = compare("a", numbers[:2], numbers, tolerance=1e9)
    assert not row.passed and "(2,)" in row.note
    assert not compare("a", numbers[:1], np.float64(1.0)).passed  # no broadcasting


def test_report_names_verdicts_reasons_and_counts():
    rows = [
        compare("good", np.ones((2, 3)), np.ones((2, 3))),
        compare("bad", np.zeros(2), np.ones(2), note="why"),
        Skipped("left", "another thing"),
    ]
    lines = report(rows).splitlines()
    assert "2x3" in lines[1] and lines[1].endswith("ok")
    assert "BEYOND  (why)" in lines[2]
    assert lines[3].split(maxsplit=1) == ["left", "not compared: another thing"]
    assert lines[-1] == "2 compared, 1 beyond tolerance, 1 not compared"
    assert "0 compared" in report([])
