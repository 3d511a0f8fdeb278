"""Windows hold every image, share enough with one before, and keep what belongs together."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rig3r_jax.inference.loops import loop_pairs
from rig3r_jax.inference.retrieval import retrieval_windows, similarities
from rig3r_jax.inference.windows import LEAST_SHARED, Facts, plan_windows, snake


def rig_facts(steps, cameras, missing=(), times=False):
    step, camera = (side.ravel() for side in np.meshgrid(np.arange(steps), np.arange(cameras), indexing="ij"))
    kept = ~np.isin(np.arange(steps * cameras), list(missing))
    time = 0.5 * step if times else np.full(steps * cameras, np.nan)
    return Facts(step[kept], time[kept], camera[kept])


def sequence(count):
    return Facts(np.full(count, -1), np.full(count, np.nan), np.full(count, -1))


def unit(rng, count, width=16):
    vectors = rng.normal(size=(count, width))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def places_on_a_way(positions, rng, width=256):
    """Unit descriptors whose products fall with the distance between positions (random Fourier features)."""
    phases = positions @ rng.normal(size=(positions.shape[1], width)) + rng.uniform(0, 2 * np.pi, width)
    features = np.cos(phases) + rng.normal(scale=0.1, size=phases.shape)
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def assert_joined(windows, count, size):
    assert set(np.concatenate(windows).tolist()) == set(range(count))
    for number, window in enumerate(windows):
        assert len(window) <= size and (np.diff(window) > 0).all()
        shared = [len(np.intersect1d(window, other)) for other in windows[:number]]
        assert not number or max(shared) >= LEAST_SHARED


@given(
    st.integers(1, 12),
    st.integers(1, 7),
    st.integers(3, 24),
    st.floats(0, 0.9),
    st.booleans(),
    st.sets(st.integers(0, 83), max_size=12),
)
def test_sequences_of_rigs_are_covered_and_chained(steps, cameras, size, overlap, times, missing):
    facts = rig_facts(steps, cameras, missing, times)
    count = len(facts.step)
    if not count:
        return
    windows = plan_windows(facts, size, overlap).windows
    assert_joined(windows, count, size)
    for before, after in zip(windows, windows[1:], strict=False):
        assert len(np.intersect1d(before, after)) >= LEAST_SHARED


@given(st.integers(2, 12), st.integers(1, 6), st.integers(2, 5), st.integers(0, 5))
def test_whole_steps_stay_together_where_two_fit(steps, cameras, steps_of_window, more):
    size = max(3, steps_of_window * cameras + min(more, cameras - 1))
    for window in plan_windows(rig_facts(steps, cameras), size).windows:
        assert len(window) % cameras == 0 and (np.bincount(window // cameras) % cameras == 0).all()
        assert len(window) == min(steps * cameras, size // cameras * cameras)  # the last one too


def test_every_step_is_whole_in_a_window_where_one_and_two_images_fit():
    windows = plan_windows(rig_facts(9, 6), 8).windows
    held = {step for window in windows for step in range(9) if np.isin(6 * step + np.arange(6), window).all()}
    assert held == set(range(9)) and {len(window) for window in windows[:-1]} == {8}


def test_cameras_of_a_step_that_does_not_fit_are_shared_by_neighbours():
    windows = plan_windows(rig_facts(3, 6), 4).windows
    assert_joined(windows, 18, 4)
    order, moment = snake(rig_facts(2, 3))
    assert order.tolist() == [0, 1, 2, 5, 4, 3] and moment.tolist() == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("overlap", [0.0, 0.34, 0.5])
def test_one_camera_s_windows_overlap_as_asked_and_are_of_one_size(overlap):
    windows = plan_windows(sequence(101), 12, overlap).windows
    assert {len(window) for window in windows} == {12}
    shared = [len(np.intersect1d(*pair)) for pair in zip(windows, windows[1:], strict=False)]
    assert set(shared[:-1]) == {max(2, int(np.ceil(overlap * 12)))} and shared[-1] >= shared[0]


def test_known_times_are_the_order_and_unknown_ones_leave_it():
    facts = sequence(30)
    time = np.arange(30.0)[::-1]
    windows = plan_windows(Facts(facts.step, time, facts.camera), 10).windows
    assert windows[0].tolist() == list(range(20, 30))
    time[3] = np.nan
    assert plan_windows(Facts(facts.step, time, facts.camera), 10).windows[0].tolist() == list(range(10))


@given(st.integers(4, 60), st.integers(3, 14), st.floats(0, 0.9), st.integers(0, 2**32 - 1))
def test_photographs_without_order_are_covered_and_joined_whatever_they_show(count, size, overlap, seed):
    descriptors = unit(np.random.default_rng(seed), count)
    plan = plan_windows(sequence(count), size, overlap, ordered=False, descriptors=descriptors)
    assert_joined(plan.windows, count, size)
    if count > size:
        assert {len(window) for window in plan.windows} == {size}


def test_windows_of_shuffled_photographs_hold_neighbours():
    rng = np.random.default_rng(0)
    position = rng.permutation(80).astype(float)
    descriptors = places_on_a_way(position[:, None] / 3, rng)
    windows = retrieval_windows(similarities(descriptors), 12, 4)
    assert_joined(windows, 80, 12)
    assert max(np.ptp(position[window]) for window in windows) < 30 and len(windows) < 20


def test_a_photograph_like_no_other_has_a_window_and_is_named():
    rng = np.random.default_rng(0)
    descriptors = places_on_a_way(np.arange(40.0)[:, None] / 4, rng)
    descriptors[17] = unit(rng, 1, descriptors.shape[1])
    plan = plan_windows(sequence(40), 10, ordered=False, descriptors=descriptors)
    assert plan.lonely == (17,)
    assert_joined(plan.windows, 40, 10)


def two_laps(count, lap, rng):
    angle = 2 * np.pi * np.arange(count) / lap
    return places_on_a_way(lap / 12 * np.stack([np.cos(angle), np.sin(angle)], axis=-1), rng)


def test_a_second_lap_is_found_and_its_windows_hold_both_times():
    descriptors = two_laps(150, 100, np.random.default_rng(0))
    plan = plan_windows(sequence(150), 12, descriptors=descriptors)
    assert 3 <= len(plan.loops) <= len(plan.windows) // 2
    for (earlier, later), window in zip(plan.loops, plan.windows[-len(plan.loops) :], strict=True):
        assert abs(later - earlier - 100) <= 2
        assert len(window) == 12 and {earlier, later} <= set(window.tolist())
        assert (window <= earlier + 6).sum() == 6
    assert_joined(plan.windows, 150, 12)
    assert len(plan_windows(sequence(150), 12, descriptors=descriptors, most_loops=2).loops) == 2
    first, second = np.array(plan.loops)[:, 0], np.array(plan.loops)[:, 1]
    apart = np.maximum(*(np.abs(side[:, None] - side[None]) for side in (first, second)))
    assert apart[np.triu_indices(len(apart), 1)].min() > 6  # half a window


def test_a_way_without_return_has_no_loop():
    rng = np.random.default_rng(0)
    straight = places_on_a_way(np.arange(150.0)[:, None] / 3, rng)
    assert plan_windows(sequence(150), 12, descriptors=straight).loops == ()
    assert loop_pairs(similarities(straight), np.arange(150), 80, 9) == []  # no two steps are further apart


def test_a_way_back_is_found_though_it_is_driven_the_other_way_round():
    rng = np.random.default_rng(0)
    there_and_back = np.abs(np.arange(160.0) - 80)[:, None] / 3
    loops = plan_windows(sequence(160), 12, descriptors=places_on_a_way(there_and_back, rng)).loops
    assert len(loops) >= 3 and all(abs(one + other - 160) <= 1 for one, other in loops)


def test_a_rig_s_loop_holds_whole_steps():
    rng = np.random.default_rng(0)
    facts = rig_facts(60, 4)
    laps = two_laps(60, 40, rng)[facts.step]
    of_camera = 0.5 * unit(rng, 4, laps.shape[1])[facts.camera]
    descriptors = laps + of_camera
    descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
    plan = plan_windows(facts, 16, descriptors=descriptors)
    assert plan.loops
    for window in plan.windows:
        assert len(window) == 16 and (np.bincount(window // 4)[np.unique(window // 4)] == 4).all()


def test_what_cannot_be_joined_is_told():
    with pytest.raises(ValueError, match="let a pass take at least 3"):
        plan_windows(sequence(5), 2)
    with pytest.raises(ValueError, match="overlap=1"):
        plan_windows(sequence(5), 4, overlap=1.0)
    with pytest.raises(ValueError, match="without an order"):
        plan_windows(sequence(5), 4, ordered=False)
    with pytest.raises(ValueError, match="descriptor of image 2 has length 2"):
        similarities(np.eye(4) * [[1], [1], [2], [1]])
    assert [window.tolist() for window in plan_windows(sequence(3), 3).windows] == [[0, 1, 2]]
