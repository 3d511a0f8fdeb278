"""What is judged by numbers alone, what is not judged, and that either is said."""

import dataclasses
import math
import re

import numpy as np
import pytest

from rig3r_jax.data.frame_bytes import encode_depth, encode_mask
from rig3r_jax.data.image_bytes import decode_image
from rig3r_jax.data.scene import UNMATCHED, LeftOut, SparseDepth
from rig3r_jax.geometry import rigid
from rig3r_jax.geometry.camera import Brown, Fisheye
from rig3r_jax.inspection import depth_checks
from rig3r_jax.inspection.claims import placed, read_claims
from rig3r_jax.inspection.depth_checks import depth_at, judge_depth
from rig3r_jax.inspection.matches import features
from rig3r_jax.inspection.mistakes import usual_mistakes, with_lenses, with_shots
from rig3r_jax.inspection.motion_checks import judge_motion
from rig3r_jax.inspection.scan import judge_scene
from rig3r_jax.inspection.scene_checks import judge_numbers

replace = dataclasses.replace


def test_one_camera_of_five_that_its_poses_contradict_is_a_fault(drive):
    cameras = list(drive.cameras)
    cameras[3] = replace(cameras[3], rig_from_camera=rigid.invert(cameras[3].rig_from_camera))
    wrong = replace(drive, cameras=tuple(cameras))
    faults = {one.what for one in judge_motion("drive", [placed(wrong, frame) for frame in wrong.frames]) if one.fault}
    assert "rig, directions off its calibration" in faults


def test_cameras_that_fire_one_after_the_other_while_the_rig_turns_are_no_fault(drive):
    """40 degrees a second, 0.05 s from one camera to the next."""
    frames = []
    for frame in drive.frames:
        angle = math.radians(40 * 0.05 * frame.camera)
        turn = rigid.rotation_from_quat_xyzw(np.array([0, math.sin(angle / 2), 0, math.cos(angle / 2)]))
        place = drive.cameras[frame.camera].rig_from_camera
        turned = frame.world_from_camera @ rigid.invert(place) @ rigid.from_rotation_translation(turn, np.zeros(3))
        frames.append(replace(frame, time=frame.time + 0.05 * frame.camera, world_from_camera=turned @ place))
    wrong = replace(drive, frames=tuple(frames))
    assert not [one for one in judge_motion("drive", [placed(wrong, f) for f in wrong.frames]) if one.fault]
    at_once = replace(wrong, frames=tuple(replace(f, time=g.time) for f, g in zip(frames, drive.frames, strict=True)))
    faults = [one.what for one in judge_motion("drive", [placed(at_once, f) for f in at_once.frames]) if one.fault]
    assert "rig, directions off its calibration" in faults


def test_photographs_without_order_have_no_speed_and_no_rate(drive):
    frames = [replace(frame, time=1e-4 * n) for n, frame in enumerate(drive.frames) if frame.camera == 0]
    for ordered in (True, False):
        alone = replace(drive, cameras=drive.cameras[:1], front_camera=0, frames=tuple(frames), ordered=ordered)
        findings = judge_scene(alone, read_claims(alone, 2), [])
        named = {one.what for one in findings if one.fault}
        assert named == ({"images a second", "speed, 95th percentile"} if ordered else set())
        assert ordered == any(one.what.startswith(("images a second", "speed")) for one in findings)


def test_pixels_that_do_not_show_the_scene_have_no_features(drive):
    image = decode_image(drive.frames[0].image)
    left = np.zeros(image.shape[:2], bool)
    left[:, : image.shape[1] // 2] = True
    everywhere, masked = features(image).positions, features(image, left).positions
    assert 0 < len(masked) < len(everywhere) and masked[:, 0].max() < image.shape[1] / 2 + 1
    hidden = replace(drive, frames=tuple(replace(frame, mask=encode_mask(~left)) for frame in drive.frames))
    np.testing.assert_array_equal(read_claims(hidden, 2).shots[0].on_scene, left)


@pytest.mark.parametrize("bad", [1, 8])
def test_frames_that_are_left_out_are_counted_and_too_many_are_a_fault(drive, bad):
    left_out = (*(LeftOut(f"camera, step {n}", "image", f"{n}.jpg: cut short") for n in range(bad)),)
    left_out += (LeftOut("camera, step 99", UNMATCHED, "no pose"),)
    (finding, *_) = judge_numbers(replace(drive, left_out=left_out))
    total = len(drive.frames) + bad
    assert finding.value == pytest.approx(100 * bad / total) and finding.fault == (bad > 0.1 * total)
    assert finding.words == (
        f"{bad + 1} of {total + 1} frames are left out, 1 of them since no depth or pose is near in time; such as "
        "camera, step 0: 0.jpg: cut short"
    )


def test_depth_that_no_match_reaches_is_said_to_be_unjudged(drive):
    findings = {one.what: one for one in judge_depth(read_claims(drive, 2), [])}
    for kind in ("along time", "between cameras"):
        finding = findings[f"depth over that triangulated {kind}"]
        assert math.isnan(finding.value) and not finding.fault and finding.words.startswith("fewer than 20 matches")


def test_points_of_sparse_depth_that_are_not_known_are_none(drive):
    points = SparseDepth(np.array([[5.5, 5.5], [9.5, 9.5], [20.5, 5.5]]), np.array([0.0, np.nan, 7.0]))
    frames = (replace(drive.frames[0], depth=encode_depth(points)), *drive.frames[1:])
    shot = read_claims(replace(drive, frames=frames), 2).shots[0]
    np.testing.assert_array_equal(shot.depths[1], [7.0])
    np.testing.assert_array_equal(depth_at(shot, np.array([[5.5, 5.5], [9.5, 9.5], [21.0, 5.5]])), [np.nan, np.nan, 7])


def test_steps_are_neighbours_by_their_order_whatever_their_numbers(drive):
    """Of every tenth image a pose is known, say."""
    sparse = replace(drive, frames=tuple(replace(frame, step=10 * frame.step) for frame in drive.frames))
    pairs = read_claims(sparse, 4).pairs
    assert pairs == read_claims(drive, 4).pairs and any(pair.along_time for pair in pairs)


def reordered(pose):
    """A file's x y z w, read as w x y z."""
    x, y, z, w = rigid.quat_xyzw_from_rotation(pose[:3, :3])
    return rigid.from_rotation_translation(rigid.rotation_from_quat_xyzw(np.array([y, z, w, x])), pose[:3, 3])


def transposed(pose):
    return rigid.from_rotation_translation(pose[:3, :3].T, pose[:3, 3])


OURS_FROM_AIRCRAFT = np.array([[0, 1.0, 0, 0], [0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
POSES = {
    "rotations look inverted, positions right": transposed,
    "quaternions look like x y z w read as w x y z": reordered,
    "camera axes look like an aircraft's (x forward, y right, z down) read as OpenCV's": (
        lambda pose: pose @ OURS_FROM_AIRCRAFT
    ),
}


@pytest.mark.parametrize("words", POSES)
def test_undoing_a_mistake_gives_the_right_poses_back(drive, words):
    claims = read_claims(drive, 2)
    wrong = with_shots(claims, lambda shot: {"source_from_camera": POSES[words](shot.source_from_camera)})
    (mistake,) = (mistake for mistake in usual_mistakes(wrong) if mistake.words == words)
    for shot, undone in zip(claims.shots, mistake.undone.shots, strict=True):
        np.testing.assert_allclose(undone.source_from_camera, shot.source_from_camera, atol=1e-9)


@pytest.mark.parametrize("right, wrong", [(Fisheye, Brown), (Brown, Fisheye)])
def test_undoing_a_wrong_kind_of_lens_gives_the_right_one_back(drive, right, wrong):
    coefficients = {Fisheye: np.array([0.1, -0.02, 0.003, 0.004]), Brown: np.array([0.1, -0.02, 0.003, 0.004, 0.0])}
    claims = with_lenses(read_claims(drive, 2), lambda lens: wrong(lens.intrinsics, coefficients[wrong]))
    start = {Fisheye: "the lens looks like a fisheye", Brown: "the lens looks like Brown-Conrady's"}[right]
    (mistake,) = (mistake for mistake in usual_mistakes(claims) if mistake.words.startswith(start))
    for shot in mistake.undone.shots:
        assert isinstance(shot.lens, right)
        np.testing.assert_array_equal(shot.lens.distortion, coefficients[right])


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda lens: lens.resize(0.05, 0.05), "focal length .* is not of an image of 256 x 256 pixels"),
        (lambda lens: lens.resize(1, 1.5), "focal lengths .* differ: pixels would not be square"),
        (lambda lens: lens.crop(-110, 0), "principal point .* is far from the middle: of a crop, or swapped?"),
    ],
)
def test_lenses_that_do_not_belong_to_their_images_are_named(drive, change, words):
    cameras = (replace(drive.cameras[0], lens=change(drive.cameras[0].lens)), *drive.cameras[1:])
    (fault,) = (one for one in judge_numbers(replace(drive, cameras=cameras)) if one.fault)
    assert fault.what.startswith(f"lens of {drive.cameras[0].name}") and re.search(words, fault.words)


def test_one_pair_s_poses_do_not_make_a_wrong_unit():
    off, right = np.full(228, 1.29), np.full(129, 1.03)
    assert depth_checks._median([off, right]) == pytest.approx(1.16)  # 1.29 of all matches together
    assert depth_checks._median([off, right, right]) == pytest.approx(1.03)
    assert depth_checks._median([off, off]) == pytest.approx(1.29) and depth_checks._median([off[:19]]) is None
