"""Times and poses that belong together are kept, whatever the clock; those that cannot are named with the numbers."""

import dataclasses

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from rig3r_jax.data.bad_frames import without_bad_frames
from rig3r_jax.data.rig_rules import MOST_GAP, MOST_SKEW, check_rig_poses, frames_off_in_time
from rig3r_jax.data.scene import BadRecord
from rig3r_jax.data.scene_rules import check_scene
from tests.data.records_test import change_frame
from tests.data.scenes import make_scene

SIZE = (16, 16)


def timed(scene, of_frame):
    for number, frame in enumerate(scene.frames):
        scene = change_frame(scene, number, time=of_frame(frame))
    return scene


@pytest.mark.parametrize("start", [0.0, 1.7e9, -5.0])
@pytest.mark.parametrize("period", [0.02, 0.5, 40.0, 86400.0])
def test_steady_times_are_kept_whatever_clock_and_rate(start, period):
    scene = timed(make_scene(0, steps=6, size=SIZE), lambda f: start + period * f.step + 0.9 * MOST_SKEW * f.camera / 2)
    assert not frames_off_in_time(scene)
    check_scene(scene)


def test_photographs_without_order_have_any_times():
    scene = timed(make_scene(0, steps=6, cameras=1, size=SIZE), lambda frame: 10.0 ** (2 * frame.step))
    assert frames_off_in_time(scene) and not frames_off_in_time(dataclasses.replace(scene, ordered=False))


@pytest.mark.parametrize("jump, lost", [(0.9 * MOST_GAP, 0), (1.1 * MOST_GAP, 4), (-1e7, 4)])
def test_a_jump_leaves_the_longest_run(jump, lost):
    scene = timed(make_scene(0, steps=6, cameras=2, size=SIZE), lambda f: 100.0 + f.step + (jump if f.step > 3 else 0))
    off = frames_off_in_time(scene)
    assert len(off) == lost and all(scene.frames[number].step > 3 for number in off)
    if lost:
        assert f"times jump by {jump + 1:+.6g} s from step 3 to step 4, may by 60 s" in off[8]
        kept = without_bad_frames(scene)
        assert len(kept.frames) == 8 and {frame.kind for frame in kept.left_out} == {"time"}
        check_scene(kept)
        with pytest.raises(BadRecord, match="step 4: (times jump|time .* must ascend)"):
            check_scene(scene)


def moved(scene, angle, distance, seconds=0.0, steps=range(99)):
    """Camera 1 turned and moved from where the rig has it, and exposed later."""
    error = np.eye(4)
    error[:3, :3], error[:3, 3] = Rotation.from_euler("x", angle, degrees=True).as_matrix(), (0, 0, distance)
    for number, frame in enumerate(scene.frames):
        if frame.camera == 1 and frame.step in steps:
            pose, time = frame.world_from_camera @ error, frame.time + seconds
            scene = change_frame(scene, number, world_from_camera=pose, time=time)
    return scene


def test_poses_that_contradict_the_rig_are_told():
    scene = make_scene(3, steps=5, size=SIZE)
    check_rig_poses(moved(scene, 4, 0.3))
    check_rig_poses(moved(scene, 0, 0, steps=()))
    check_rig_poses(moved(scene, 90, 0, steps=(0, 1)))  # of two steps in five
    check_rig_poses(moved(scene, 30, 20.0, seconds=0.5))  # what a vehicle does in half a second
    for angle, distance, words in ((7, 0, r"7 degrees and"), (0, 3.0, r"0 degrees and")):
        with pytest.raises(BadRecord, match=rf"camera_1: its poses are {words} .* where the rig puts it"):
            check_scene(moved(scene, angle, distance, seconds=-0.01))


def test_a_rig_is_held_against_the_poses_where_a_calibration_states_it():
    scene = make_scene(3, steps=5, size=SIZE)
    together = [dataclasses.replace(camera, rig_from_camera=np.eye(4)) for camera in scene.cameras]
    for contradicting in (moved(scene, 7, 0), dataclasses.replace(scene, cameras=tuple(together))):
        with pytest.raises(BadRecord, match="camera_1: its poses are .* from where the rig puts it"):
            without_bad_frames(contradicting)
        unstated = dataclasses.replace(contradicting, rig_is_stated=False)
        assert without_bad_frames(unstated).frames == unstated.frames
