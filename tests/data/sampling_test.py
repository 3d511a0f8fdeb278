import collections
import dataclasses
import hashlib

import numpy as np
import pytest

from rig3r_jax.data import sampling
from rig3r_jax.data.overlap import overlapping_cameras
from rig3r_jax.data.sampling import can_fill, draw_frames
from rig3r_jax.data.scene import BadRecord
from rig3r_jax.geometry.camera import Fisheye
from tests.data.scenes import make_scene

SCENE = make_scene(steps=12, cameras=5, size=(4, 4), front_camera=2)


def draw(seed, scene=SCENE, num_views=6, max_cameras=5, **options):
    return draw_frames(scene, np.random.default_rng(seed), num_views, max_cameras, **options)


def grid(frames, scene=SCENE):
    """Steps, and cameras, of the drawn frames."""
    return sorted({scene.frames[i].step for i in frames}), sorted({scene.frames[i].camera for i in frames})


@pytest.mark.parametrize("num_views", [1, 2, 5, 6, 11, 24])
def test_distinct_frames_with_the_front_camera_at_every_time(num_views):
    for seed in range(100):
        frames = draw(seed, num_views=num_views, max_stride=5)
        assert len(set(frames)) == len(frames) == num_views
        steps, cameras = grid(frames)
        assert 2 in cameras
        fronts = [SCENE.frames[i].step for i in frames if SCENE.frames[i].camera == 2]
        # Over-full grids lose other cameras' frames first, so the front camera sees every time.
        assert sorted(fronts) == steps
        assert len(steps) * len(cameras) >= num_views
        assert len(set(np.diff(steps))) <= 1


def test_every_camera_count_stride_and_reference_occurs():
    drawn = [draw(seed, num_views=12, max_stride=3) for seed in range(600)]
    counts = collections.Counter(len(grid(frames)[1]) for frames in drawn)
    assert set(counts) == {1, 2, 3, 4, 5}
    assert min(counts.values()) > 80
    strides = {step for frames in drawn for step in np.diff(grid(frames)[0])}
    assert strides == {1, 2, 3}
    references = collections.Counter(SCENE.frames[frames[0]].camera for frames in drawn)
    assert set(references) == {0, 1, 2, 3, 4}
    # The order is uniform: earliest frames and front cameras come first no more often than last.
    for which in (0, -1):
        pairs = [draw(seed, grids=((2, 3),)) for seed in range(600)]
        earliest = np.mean([SCENE.frames[f[which]].step == grid(f)[0][0] for f in pairs])
        front = np.mean([SCENE.frames[f[which]].camera == SCENE.front_camera for f in pairs])
        assert abs(earliest - 1 / 2) < 0.06 and abs(front - 1 / 3) < 0.06


def test_camera_range_and_stride_are_kept():
    for seed in range(50):
        steps, cameras = grid(draw(seed, min_cameras=2, max_cameras=3, min_stride=2, max_stride=2))
        assert len(cameras) in (2, 3)
        assert set(np.diff(steps)) == {2}


def test_grids():
    shapes = collections.Counter()
    for seed in range(200):
        steps, cameras = grid(draw(seed, grids=((2, 3), (3, 2))))
        shapes[len(steps), len(cameras)] += 1
    assert set(shapes) == {(2, 3), (3, 2)}
    assert min(shapes.values()) > 70
    assert len(draw(0, grids=((4, 4),))) == 6
    # The front camera's frames go last: of 4 x 4 with 6 views all 4 stay.
    assert sum(SCENE.frames[i].camera == 2 for i in draw(0, grids=((4, 4),))) == 4
    # A grid that the scene cannot fill is passed over.
    assert len(grid(draw(0, grids=((1, 6), (3, 2))))[0]) == 3


def test_missing_frames_are_drawn_around():
    missing = [f for f in SCENE.frames if not (f.camera == 0 and f.step % 2) and not (f.camera == 2 and f.step == 5)]
    scene = dataclasses.replace(SCENE, frames=tuple(missing))
    for seed in range(100):
        frames = draw(seed, scene, num_views=6, max_stride=3)
        steps, cameras = grid(frames, scene)
        assert len(set(frames)) == 6
        assert 5 not in steps
        assert 0 not in cameras or not any(step % 2 for step in steps)


def test_the_one_window_that_is_whole_is_found():
    """Of a long drive with hardly any images of its second camera, every draw takes the two steps that have them."""
    scene = make_scene(steps=200, cameras=2, size=(4, 4))
    kept = tuple(frame for frame in scene.frames if frame.camera == 0 or frame.step in (150, 151))
    scene = dataclasses.replace(scene, frames=kept)
    rule = {"num_views": 4, "max_cameras": 2, "min_cameras": 2}
    assert can_fill(scene, **rule)
    for seed in range(20):
        frames = sorted(draw_frames(scene, np.random.default_rng(seed), **rule))
        assert [scene.frames[i].step for i in frames] == [150, 150, 151, 151]
    alone = dataclasses.replace(scene, frames=tuple(f for f in kept if f.camera == 0 or f.step == 150))
    assert not can_fill(alone, **rule)


def test_scene_too_small_is_named():
    with pytest.raises(BadRecord, match=r"scene_3: 4 frames, 2 steps .* 2 cameras .* 6 views .* lower num_views"):
        draw(0, make_scene(3, steps=2, cameras=2, size=(4, 4)))
    with pytest.raises(BadRecord, match="stride of at least 9"):
        draw(0, num_views=15, min_stride=9, max_stride=9)
    no_front = dataclasses.replace(SCENE, frames=tuple(f for f in SCENE.frames if f.camera != 2))
    with pytest.raises(BadRecord, match="0 steps with the front camera"):
        draw(0, no_front)


def test_same_generator_same_frames():
    assert draw(7) == draw(7)
    assert len({tuple(draw(seed)) for seed in range(20)}) > 15


def at_rate(scene, seconds):
    """The scene with its steps so far apart."""
    frames = (dataclasses.replace(f, time=seconds * f.step + 0.001 * f.camera) for f in scene.frames)
    return dataclasses.replace(scene, frames=tuple(frames))


def seconds_between(frames, scene):
    return {round(gap, 6) for gap in np.diff(sorted({round(scene.frames[i].time, 2) for i in frames}))}


@pytest.mark.parametrize(
    "interval, gaps",
    [(0.5, {0.5, 1.0}), (0.25, {0.5, 0.75, 1.0}), (0.1, {0.5, 0.6, 0.7, 0.8, 0.9, 1.0}), (0.7, {0.7}), (1.04, {1.04})],
)
def test_strides_by_seconds_are_those_of_each_rate(interval, gaps):
    scene = at_rate(make_scene(steps=24, cameras=2, size=(4, 4)), interval)
    rule = dict(num_views=4, max_cameras=2, min_cameras=2, min_seconds=0.5, max_seconds=1.0, max_stride=1)
    assert can_fill(scene, **rule)
    found = {
        gap
        for seed in range(150)
        for gap in seconds_between(draw_frames(scene, np.random.default_rng(seed), **rule), scene)
    }
    assert found == gaps


def test_steps_too_far_apart_give_single_times_alone():
    scene = at_rate(make_scene(steps=9, cameras=3, size=(4, 4)), 2.0)
    for seed in range(20):
        assert len(grid(draw(seed, scene, num_views=3, max_cameras=3, max_seconds=1.0), scene)[0]) == 1
    with pytest.raises(BadRecord, match=r"9 steps .* \(1 to 3 cameras, steps 0 to 1 s apart\)"):
        draw(0, scene, num_views=4, max_cameras=3, max_seconds=1.0)
    assert not can_fill(scene, 4, 3, max_seconds=1.0) and can_fill(scene, 4, 3)
    assert can_fill(make_scene(steps=1, cameras=3, size=(4, 4)), 3, 3, max_seconds=1.0)


def test_strides_by_seconds_do_not_cross_gaps_of_the_recording():
    scene = at_rate(make_scene(steps=20, cameras=1, size=(4, 4)), 0.1)
    frames = (dataclasses.replace(f, time=f.time + 60.0 * (f.step >= 15)) for f in scene.frames)
    scene = dataclasses.replace(scene, frames=tuple(frames))
    starts = set()
    for seed in range(200):
        steps = grid(draw(seed, scene, num_views=4, max_cameras=1, max_seconds=0.1), scene)[0]
        assert steps[-1] < 15 or steps[0] >= 15
        starts.add(steps[0])
    assert starts == {*range(12), 15, 16}


def test_cameras_that_overlap_or_that_do_not(monkeypatch):
    """Neighbours of this rig are 60 degrees apart, of fields of 64 degrees: 2 is the front camera."""
    scene = make_scene(steps=4, cameras=5, front_camera=2)
    overlaps = overlapping_cameras(scene.cameras)
    assert (overlaps == (np.abs(np.subtract.outer(range(5), range(5))) <= 1)).all()

    def found_before(cameras):  # 10 ms for each of 840 draws
        assert cameras is scene.cameras
        return overlaps

    monkeypatch.setattr(sampling, "overlapping_cameras", found_before)
    for seed in range(60):
        cameras = grid(draw(seed, scene, num_views=6, grids=((2, 3),), overlapping=1.0))[1]
        assert cameras == list(range(cameras[0], cameras[0] + 3)) and 2 in cameras
        assert grid(draw(seed, scene, num_views=4, grids=((2, 2),), apart=1.0))[1] in ([0, 2], [2, 4])
        assert grid(draw(seed, scene, num_views=3, grids=((1, 3),), apart=1.0))[1] == [0, 2, 4]
        assert len(grid(draw(seed, scene, num_views=4, grids=((1, 4),), apart=1.0))[1]) == 4  # as far as that goes
    mixed = collections.Counter(
        tuple(grid(draw(seed, scene, num_views=4, grids=((2, 2),), overlapping=0.5, apart=0.25))[1])
        for seed in range(600)
    )
    assert abs((mixed[1, 2] + mixed[2, 3]) / 600 - (0.5 + 0.25 / 2)) < 0.06 and len(mixed) == 4


def test_wide_lenses_overlap_by_what_they_see():
    lens = Fisheye(np.array([[2.2, 0, 2], [0, 2.2, 2], [0, 0, 1]]), np.zeros(4))  # 52 degrees to a side, 74 to a corner
    cameras = [dataclasses.replace(camera, lens=lens) for camera in SCENE.cameras]
    apart = np.abs(np.subtract.outer(range(5), range(5))) * 60
    assert (overlapping_cameras(cameras) == (np.minimum(apart, 360 - apart) < 180)).all()


def test_samples_of_older_options_are_what_they_were():
    """As drawn before there were strides in seconds and overlaps."""
    missing = [f for f in SCENE.frames if not (f.camera == 0 and f.step % 2) and not (f.camera == 2 and f.step == 5)]
    rules = (
        dict(num_views=6, max_cameras=5, max_stride=3),
        dict(num_views=6, max_cameras=4, grids=((2, 3), (3, 2))),
        dict(num_views=1, max_cameras=1),
        dict(num_views=9, max_cameras=3, min_cameras=2, min_stride=2, max_stride=3),
    )
    drawn = [
        draw(seed, scene, **rule)
        for scene in (SCENE, dataclasses.replace(SCENE, frames=tuple(missing)))
        for seed in range(200)
        for rule in rules
    ]
    assert hashlib.md5(repr(drawn).encode()).hexdigest() == "3ee44361c13c9e48155b84df3bb8ee3f"
