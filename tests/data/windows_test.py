"""Windows: never a frame twice, never outside, and a function of (seed, n)."""

import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from rig3r_jax.data import windows
from rig3r_jax.data.options import WindowOptions
from rig3r_jax.data.windows import WindowSampler

MIXTURE = {"varied": 0.2, "consecutive": 0.4, "two_cluster": 0.4}


def circle(frames=240, round_trip=120, seed=0):
    """world_from_camera of a camera that walks a circle of 2 m and comes back after `round_trip` frames."""
    angles = 2 * np.pi * np.arange(frames) / round_trip
    world_from_camera = np.tile(np.eye(4), (frames, 1, 1))
    world_from_camera[:, :3, :3] = Rotation.from_euler("y", angles[:, None]).as_matrix()
    noise = 0.01 * np.random.default_rng(seed).normal(size=(frames, 3))
    world_from_camera[:, :3, 3] = 2 * np.stack([np.sin(angles), 0 * angles, np.cos(angles)], axis=1) + noise
    return world_from_camera


lengths_and_views = st.integers(2, 12).flatmap(lambda views: st.tuples(st.integers(views, 80), st.just(views)))


def good(frames, num_frames, views):
    assert frames.shape == (views,) and frames.dtype.kind == "i"
    assert (np.diff(frames) > 0).all()  # ascending, so none twice
    assert 0 <= frames[0] and frames[-1] < num_frames


@given(lengths_and_views, st.integers(0, 30), st.integers(0, 2**32))
def test_varied_windows_stay_around_a_centre(sizes, more, seed):
    num_frames, views = sizes
    reach = views - 1 + more
    frames = windows.varied_window(np.random.default_rng(seed), num_frames, views, reach)
    good(frames, num_frames, views)
    assert any(np.abs(frames - centre).max() <= reach for centre in frames)


@given(lengths_and_views, st.integers(1, 5), st.integers(0, 2**32))
def test_consecutive_windows_are_evenly_spaced(sizes, stride, seed):
    num_frames, views = sizes
    num_frames *= stride
    frames = windows.consecutive_window(np.random.default_rng(seed), num_frames, views, stride)
    good(frames, num_frames, views)
    assert (np.diff(frames) == stride).all()


@given(lengths_and_views, st.integers(0, 2**32))
def test_two_cluster_windows_are_two_runs_at_a_pair(sizes, seed):
    num_frames, views = sizes
    num_frames += views
    rng = np.random.default_rng(seed)
    first = int(rng.integers(num_frames - views))
    pair = np.array([[first, int(rng.integers(first + views, num_frames))], [0, 1]])  # the second is too near
    frames = windows.two_cluster_window(rng, pair, num_frames, views)
    good(frames, num_frames, views)
    size = views - views // 2
    assert (np.diff(frames[:size]) == 1).all() and (np.diff(frames[size:]) == 1).all()
    assert pair[0, 0] in frames[:size] and pair[0, 1] in frames[size:]


def test_every_frame_is_drawn():
    rng = np.random.default_rng(0)
    varied = Counter(i for _ in range(400) for i in windows.varied_window(rng, 20, 4, 5).tolist())
    consecutive = Counter(i for _ in range(400) for i in windows.consecutive_window(rng, 20, 4).tolist())
    assert set(varied) == set(consecutive) == set(range(20))


def test_short_sequence_is_named():
    rng = np.random.default_rng(0)
    pairs = np.array([[0, 6]])
    with pytest.raises(ValueError, match="desk: has 7 frames, a window needs 8"):
        windows.varied_window(rng, 7, 8, 16, name="desk")
    with pytest.raises(ValueError, match="desk: has 21 frames, a window needs 22"):
        windows.consecutive_window(rng, 21, 8, 3, name="desk")
    with pytest.raises(ValueError, match="desk: has 7 frames, a window needs 8"):
        windows.two_cluster_window(rng, pairs, 7, 8, name="desk")
    with pytest.raises(ValueError, match="desk: of 1 pairs .* none is 8 frames apart"):
        windows.two_cluster_window(rng, pairs, 20, 8, name="desk")
    with pytest.raises(ValueError, match="reach=6 must be at least 7"):
        windows.varied_window(rng, 50, 8, 6)
    with pytest.raises(ValueError, match="stride=0"):
        windows.consecutive_window(rng, 50, 8, 0)


def test_golden_consecutive_windows(shared):
    lists = json.loads((shared / "golden/eval_metrics/eval.json").read_text())["generate_windows"]
    assert len(lists) == 5
    for key, expected in lists.items():
        num_frames, window, overlap = key.split(",")
        assert windows.consecutive_windows(int(num_frames), int(window), float(overlap)).tolist() == expected


@given(st.integers(0, 60), st.integers(1, 12), st.floats(0, 0.99))
def test_consecutive_windows_cover_the_sequence(num_frames, window, overlap):
    spans = windows.consecutive_windows(num_frames, window, overlap)
    if num_frames < window:
        assert spans.shape == (0, 2)
        return
    assert (spans[:, 1] - spans[:, 0] == window).all() and spans[0, 0] == 0 and spans[-1, 1] == num_frames
    steps = np.diff(spans[:, 0])
    assert (steps >= 1).all() and (steps <= max(1.0, window * (1 - overlap) + 1e-6)).all()


def test_consecutive_windows_of_decimal_overlap_and_bad_ones():
    assert np.diff(windows.consecutive_windows(100, 10, 0.8)[:, 0]).tolist() == [2] * 45  # 10 * (1 - 0.8) is 1.99...
    for window, overlap in ((0, 0.5), (8, 1.0), (8, -0.1)):
        with pytest.raises(ValueError, match=f"window={window} .* overlap={overlap}"):
            windows.consecutive_windows(30, window, overlap)


def test_golden_revisits(shared):
    with np.load(shared / "golden/eval_metrics/eval.npz") as file:
        camera_from_world, expected = file["lc__gt_w2c"], file["lc__candidates"]
    pairs = windows.revisits(np.linalg.inv(camera_from_world), 0.3, 15.0, 50)
    assert len(pairs) == len(expected) == 1215
    assert set(map(tuple, pairs.tolist())) == set(map(tuple, expected[:, :2].astype(int).tolist()))


@pytest.mark.parametrize("seed", range(3))
def test_revisits_are_what_brute_force_finds(seed):
    rng = np.random.default_rng(seed)
    world_from_camera = np.tile(np.eye(4), (60, 1, 1))
    world_from_camera[:, :3, 3] = rng.uniform(0, 1, (60, 3))
    world_from_camera[:, :3, :3] = Rotation.from_rotvec(rng.uniform(-0.3, 0.3, (60, 3))).as_matrix()
    expected = []
    for i in range(60):
        for j in range(i + 10, 60):
            relative = np.linalg.inv(world_from_camera[i]) @ world_from_camera[j]
            degrees = np.degrees(Rotation.from_matrix(relative[:3, :3]).magnitude())
            if np.linalg.norm(relative[:3, 3]) < 0.5 and degrees < 20:
                expected.append([i, j])
    assert len(expected) > 20
    assert windows.revisits(world_from_camera, 0.5, 20.0, 10).tolist() == expected
    assert windows.revisits(world_from_camera[:1], 0.5, 20.0, 10).shape == (0, 2)
    with pytest.raises(ValueError, match="max_metres=0.0"):
        windows.revisits(world_from_camera, 0.0, 20.0, 10)


def test_mixture_has_the_ratios_and_good_windows():
    sequences = {"desk": circle(), "room": circle(60, round_trip=1000)}
    options = WindowOptions(views=8, **MIXTURE)
    sampler = WindowSampler(sequences, options, seed=5)
    drawn = [sampler[n] for n in range(2000)]
    pairs = set(map(tuple, windows.revisits(sequences["desk"], 0.3, 15.0, 100).tolist()))
    for window in drawn:
        good(window.frames, len(sequences[window.sequence]), 8)
        if window.kind == "two_cluster":
            assert window.sequence == "desk"  # the camera never comes back in the room
            near = {(i, j) for i in window.frames[:4].tolist() for j in window.frames[4:].tolist()}
            assert near & pairs
    kinds = Counter(window.kind for window in drawn)
    for kind, ratio in MIXTURE.items():
        assert abs(kinds[kind] / 2000 - ratio) < 0.04
    share = Counter(window.sequence for window in drawn if window.kind != "two_cluster")
    assert abs(share["room"] / share.total() - 0.2) < 0.04


def test_window_n_is_a_function_of_seed_and_n():
    sequences = {"desk": circle()}
    options = WindowOptions(views=8, **MIXTURE)

    def draw(seed, numbers):
        sampler = WindowSampler(sequences, options, seed)
        return {n: (sampler[n].kind, sampler[n].frames.tolist()) for n in numbers}

    forwards, backwards = draw(1, range(50)), draw(1, reversed(range(50)))
    assert forwards == backwards and draw(1, [37])[37] == forwards[37]
    assert sum(forwards[n] == other for n, other in draw(2, range(50)).items()) < 5


def test_sampler_refuses_what_it_cannot_draw():
    options = WindowOptions(views=8, consecutive=1.0, stride=3)
    with pytest.raises(ValueError, match="room: has 21 frames, a window needs 22"):
        WindowSampler({"desk": circle(), "room": circle(21)}, options, 0)
    with pytest.raises(ValueError, match="room: has 7 frames, a window needs 8"):
        WindowSampler({"room": circle(7)}, WindowOptions(), 0)
    with pytest.raises(ValueError, match="two_cluster=1.0: in none of desk does the camera come back"):
        WindowSampler({"desk": circle(100)}, WindowOptions(two_cluster=1.0), 0)
    with pytest.raises(ValueError, match="no sequences"):
        WindowSampler({}, WindowOptions(), 0)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"varied": 0.0}, "not all 0"),
        ({"two_cluster": -0.5}, "not negative"),
        ({"views": 1}, "views=1 must be at least 2"),
        ({"views": 32}, r"reach=16 must be at least views - 1 = 31"),
        ({"min_gap": 4}, "min_gap=4 must be at least views = 8"),
        ({"stride": 0, "max_degrees": 0.0}, "stride=0 must be at least 1; max_metres and max_degrees must be positive"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        WindowOptions(**options)
