import collections
import dataclasses

import numpy as np
import pytest

from rig3r_jax.data.sampling import can_fill, draw_frames
from rig3r_jax.data.scene import BadRecord
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
