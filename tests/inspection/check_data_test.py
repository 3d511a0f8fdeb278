"""Mistakes planted into a rendered drive are named; the drive itself, and real recordings, are found consistent."""

import dataclasses
import math
import re

import numpy as np
import pytest

from rig3r_jax.cli import main
from rig3r_jax.data.frame_bytes import decode_depth, encode_depth
from rig3r_jax.data.scene import BadRecord, DenseDepth
from rig3r_jax.geometry import rigid
from rig3r_jax.geometry.camera import Brown
from rig3r_jax.inspection.claims import placed, read_claims
from rig3r_jax.inspection.depth_checks import judge_depth
from rig3r_jax.inspection.evidence import by_accident
from rig3r_jax.inspection.judgement import judge_geometry
from rig3r_jax.inspection.matches import consensus
from rig3r_jax.inspection.motion_checks import judge_motion
from rig3r_jax.inspection.page import table_of, write_page
from rig3r_jax.inspection.repeats import FirstImage, repeated_images
from rig3r_jax.inspection.residuals import arc_angles, triangulated
from rig3r_jax.inspection.scan import judge_scene, scan
from rig3r_jax.inspection.scene_checks import judge_numbers

replace = dataclasses.replace


def with_poses(scene, change):
    return replace(scene, frames=tuple(replace(f, world_from_camera=change(f.world_from_camera)) for f in scene.frames))


def with_lenses(scene, change):
    return replace(scene, cameras=tuple(replace(camera, lens=change(camera.lens)) for camera in scene.cameras))


def with_depths(scene, change):
    def changed(frame):
        values = change(decode_depth(frame.depth).values.astype(np.float32))
        return replace(frame, depth=encode_depth(DenseDepth(values.astype(np.float32))))

    return replace(scene, frames=tuple(map(changed, scene.frames)))


def exchanged(scene, i, j):
    """The images of two cameras under each other's name."""
    other, images = {i: j, j: i}, {(frame.step, frame.camera): frame.image for frame in scene.frames}
    frames = (replace(f, image=images[f.step, other.get(f.camera, f.camera)]) for f in scene.frames)
    return replace(scene, frames=tuple(frames))


def misread_quaternion(pose):
    x, y, z, w = rigid.quat_xyzw_from_rotation(pose[:3, :3])  # the file's order is w x y z
    rotation = rigid.rotation_from_quat_xyzw(np.array([w, x, y, z]))
    return rigid.from_rotation_translation(rotation, pose[:3, 3])


def scaled(pose):
    return rigid.from_rotation_translation(pose[:3, :3], 10 * pose[:3, 3])


BODY = rigid.from_rotation_translation(
    rigid.rotation_from_quat_xyzw(np.array([0.5, 0.5, 0.5, 0.5])), np.array([1, 0, 2.0])
)


def of_a_body(scene, poses=None, places=None):
    """The scene as files have it that hold poses of a body, or places of cameras in it, that are changed."""
    cameras = tuple(
        replace(camera, rig_from_camera=rigid.invert(BODY) @ changed(places, BODY @ camera.rig_from_camera))
        for camera in scene.cameras
    )
    frames = []
    for frame in scene.frames:
        body_from_camera = BODY @ scene.cameras[frame.camera].rig_from_camera
        world_from_body = changed(poses, frame.world_from_camera @ rigid.invert(body_from_camera))
        place = BODY @ cameras[frame.camera].rig_from_camera
        frames.append(replace(frame, world_from_camera=world_from_body @ place))
    return replace(scene, cameras=cameras, frames=tuple(frames), body_from_rig=BODY)


def changed(change, pose):
    return change(pose) if change else pose


FLIPPED = np.diag([1.0, -1.0, -1.0, 1.0])
FORWARD = np.array([[0, -1.0, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
BENT = np.array([-0.3, 0.1, 0.0, 0.0, 0.0])
GEOMETRY = {
    "inverted poses": (lambda s: with_poses(s, np.linalg.inv), "camera_from_world read as world_from_camera"),
    "swapped axes": (lambda s: with_poses(s, lambda pose: pose @ FLIPPED), "camera axes look like OpenGL's"),
    "a vehicle's axes": (lambda s: with_poses(s, lambda pose: pose @ FORWARD), "camera axes look like a vehicle's"),
    "quaternion order": (lambda s: with_poses(s, misread_quaternion), "quaternions look like w x y z read as x y z w"),
    "half a pixel": (lambda s: with_lenses(s, lambda lens: lens.crop(0.5, 0.5)), "at whole numbers read as at \\+0.5"),
    "wrong lens": (
        lambda s: with_lenses(s, lambda lens: Brown(lens.intrinsics, BENT)),
        "images look undistorted already",
    ),
    "inverted poses of a body": (
        lambda s: of_a_body(s, poses=rigid.invert),
        "poses of the rig look like rig_from_world read as world_from_rig",
    ),
    "quaternions of a body": (
        lambda s: of_a_body(s, poses=misread_quaternion),
        "the rig's quaternions look like w x y z read as x y z w",
    ),
    "inverted places": (
        lambda s: of_a_body(s, places=rigid.invert),
        "places on the rig look like camera_from_rig read as rig_from_camera",
    ),
    "intrinsics of another size": (lambda s: with_lenses(s, lambda lens: lens.resize(2, 2)), "images 2 times as wide"),
}


@pytest.mark.parametrize("planted", GEOMETRY)
def test_planted_mistakes_of_geometry_are_named(drive, matched, planted):
    plant, words = GEOMETRY[planted]
    faults = [one for one in judge_geometry(read_claims(plant(drive), 6), matched)[0] if one.fault]
    assert faults and all(re.search(words, one.words) for one in faults), faults


def test_a_drive_as_it_is_has_no_faults(drive, matched):
    claims = read_claims(drive, 6)
    findings = judge_scene(drive, claims, matched)
    assert not [one for one in findings if one.fault]
    values = {one.what: one.value for one in findings}
    assert values["epipolar, along time"] < 0.15 and values["epipolar, between cameras"] < 0.15
    assert values["depth over that triangulated along time"] == pytest.approx(1, abs=0.02)
    assert values["depth moved into other images"] < 0.02


@pytest.mark.parametrize(
    ("plant", "words"),
    [
        (lambda s: with_depths(s, lambda depth: 5 * depth), "5 times that stated \\(5000, not 1000\\)"),
        (lambda s: with_depths(s, lambda depth: depth / 1000), "metres read as millimetres"),
        (lambda s: with_poses(s, scaled), "10 times too long|10 times too near"),
        (lambda s: with_depths(s, lambda depth: np.roll(depth, (0, 18), (0, 1))), "shifted by 18, 0 pixels"),
    ],
    ids=["depth scale", "millimetres", "poses' scale", "unregistered"],
)
def test_planted_mistakes_of_depth_are_named(drive, matched, plant, words):
    faults = [one.words for one in judge_depth(read_claims(plant(drive), 6), matched) if one.fault]
    assert any(re.search(words, one) for one in faults), faults
    assert not any(one.startswith("depths of neighbouring images disagree") for one in faults)  # but "goes with: ..."


@pytest.mark.parametrize(("unit", "name"), [(1e9, "ns"), (1e6, "us"), (1e3, "ms")])
def test_times_of_another_unit_are_named(drive, unit, name):
    wrong = replace(drive, frames=tuple(replace(frame, time=frame.time * unit) for frame in drive.frames))
    (rate,) = [one for one in judge_numbers(wrong) if one.what == "images a second"]
    assert rate.fault and rate.words == f"times look like {name} read as seconds"


def test_a_rig_that_its_poses_contradict_is_a_fault(drive):
    cameras = (
        drive.cameras[0],
        *(replace(c, rig_from_camera=rigid.invert(c.rig_from_camera)) for c in drive.cameras[1:]),
    )
    wrong = replace(drive, cameras=cameras)
    places = [placed(wrong, frame) for frame in wrong.frames]
    faults = {one.what for one in judge_motion("drive", places) if one.fault}
    assert faults == {"rig, positions off its calibration", "rig, directions off its calibration"}


def test_exchanged_cameras_and_repeated_scenes_are_named_on_a_page(drive, tmp_path):
    def unreadable():
        raise BadRecord("scene lost: its file is gone")

    wrong = exchanged(drive, 1, 2)
    again = replace(drive, name="other")
    loaders = {"train": [(drive.name, lambda: wrong), ("lost", unreadable)], "val": [(drive.name, lambda: again)]}
    found = scan(loaders, scenes=2, steps=6)
    assert found.faulty and found.unread == {"train/lost": "scene lost: its file is gone"}
    text = table_of(found)
    assert found.summary.endswith("faults in 1 of 2 scenes of train, 1 of 1 scenes of val")
    assert re.fullmatch(
        rf"train/{drive.name}: images of 5 of 6 time steps compared; \d+ of 95 pairs of images have matches enough",
        str(found.scenes[0]),
    )
    names = [camera.name for camera in drive.cameras]
    assert f"images of {names[1]} and {names[2]} look exchanged" in text
    assert re.search(r"FAULT: train and val, scenes in both splits: .*scores on val are none of new scenes", text)
    assert "FAULT: train/lost does not read: scene lost: its file is gone" in text
    write_page(tmp_path / "page.html", found, "A check")
    page = (tmp_path / "page.html").read_text()
    assert page.count("<figure>") >= 6 and "look exchanged" in page and 'src="http' not in page


def test_faults_that_follow_from_a_mistake_go_with_it(drive, matched):
    wrong = with_depths(of_a_body(drive, poses=misread_quaternion), lambda depth: 5 * depth)
    found = {one.what: one for one in judge_scene(wrong, read_claims(wrong, 6), matched) if one.fault}
    mistake = "the rig's quaternions look like w x y z read as x y z w"
    assert found["depth moved into other images"].words == f"goes with: {mistake}"
    scale = found["depth over that triangulated along time"]
    assert scale.words.startswith("depth_scale looks like 5 times") and scale.words.endswith(f"(beside: {mistake})")
    assert scale.value == pytest.approx(5, rel=0.05)


def test_what_agrees_is_told_where_no_mistake_explains_the_rest(drive, matched):
    rng = np.random.default_rng(0)
    turns = {step: rigid.rotation_from_quat_xyzw(np.array([*rng.normal(0, 0.02, 3), 1])) for step in range(6)}
    frames = []
    for frame in drive.frames:
        place = drive.cameras[frame.camera].rig_from_camera
        turned = rigid.from_rotation_translation(turns[frame.step], np.zeros(3))
        pose = frame.world_from_camera @ rigid.invert(place) @ turned @ place
        frames.append(replace(frame, world_from_camera=pose))
    findings, mistake = judge_geometry(read_claims(replace(drive, frames=tuple(frames)), 6), matched)
    (fault,) = [one for one in findings if one.fault]
    assert mistake is None and fault.what == "epipolar, along time"
    assert "no usual mistake explains it; between cameras the calibration agrees with the images" in fault.words


def test_wrong_matches_along_a_horizon_are_no_evidence():
    rng = np.random.default_rng(0)
    tangents = np.stack([rng.uniform(-0.8, 0.8, (2, 60)), rng.normal(0, 0.005, (2, 60)), np.ones((2, 60))], axis=-1)
    rays_a, rays_b = tangents / np.linalg.norm(tangents, axis=-1, keepdims=True)
    kept = consensus(rays_a, rays_b)
    assert kept.sum() > 40 and by_accident(kept, rays_a, rays_b)
    spread = rng.uniform(-0.8, 0.8, (60, 3)) * (1, 1, 0) + (0, 0, 1)
    rays_a, rays_b = (rays / np.linalg.norm(rays, axis=-1, keepdims=True) for rays in (spread, spread + (0.1, 0, 0)))
    kept = consensus(rays_a, rays_b)
    assert kept.all() and not by_accident(kept, rays_a, rays_b)


def test_images_that_are_alike_at_other_times_are_no_repeated_scene():
    first, later, copy = FirstImage(b"a", 5.0, 0b1111), FirstImage(b"b", 9.0, 0b1110), FirstImage(b"c", 5.0, 0b1101)
    (alike,) = repeated_images({("train", "x"): first, ("val", "y"): later})
    assert not alike.fault and alike.words == "train/x and val/y begin alike, 4 s apart: the rig stands there?"
    (same,) = repeated_images({("train", "x"): first, ("val", "z"): copy})
    assert same.fault and same.words == "train/x and val/z begin with the same image"
    at_0, also_at_0 = replace(first, time=0.0), replace(copy, time=0.0)  # as many recordings begin
    (alike,) = repeated_images({("train", "x"): at_0, ("val", "z"): also_at_0})
    assert not alike.fault


def test_nothing_to_look_at_is_a_fault():
    found = scan({"train": []}, scenes=2, steps=2)
    assert found.faulty and table_of(found) == "FAULT: there is no scene to look at"
    assert found.summary == "1 fault in 0 of 0 scenes of train"


def test_the_arc_of_a_ray_ends_where_the_point_is_far_and_where_it_is_near():
    rays = np.array([[0.0, 0.0, 1.0]])
    to_the_right = rigid.from_rotation_translation(np.eye(3), np.array([-1.0, 0, 0]))  # b stands right of a

    def off(degrees_left, up=0.0):
        angle = math.radians(degrees_left)
        seen = np.array([[-math.sin(angle), -math.tan(math.radians(up)), math.cos(angle)]])
        return arc_angles(rays, seen / np.linalg.norm(seen), to_the_right)[0]

    assert off(0.0) < 1e-6 and off(45.0) < 1e-6 and off(89.0) < 1e-6  # far, one metre ahead, very near
    assert off(-10.0) == pytest.approx(10) and off(100.0) == pytest.approx(10)  # behind one of the cameras
    assert off(45.0, up=2.0) == pytest.approx(2 * math.cos(math.radians(45)) / math.cos(math.radians(45)), abs=0.6)
    still = arc_angles(rays, np.array([[math.sin(0.1), 0, math.cos(0.1)]]), np.eye(4))
    assert still[0] == pytest.approx(math.degrees(0.1))
    distance, parallax = triangulated(rays, np.array([[-1.0, 0, 1.0]]) / math.sqrt(2), to_the_right)
    assert distance[0] == pytest.approx(1.0) and parallax[0] == pytest.approx(45.0)


@pytest.mark.parametrize(
    ("arguments", "bands"),
    [
        (("ddad", "ddad_dgp_rig"), {"epipolar, along time": 0.1, "epipolar, between cameras": 0.25}),
        (("tum", "tum_fr3_cabinet", "intrinsics=freiburg3"), {"epipolar, along time": 0.6}),
        (("sevenscenes", "sevenscenes_redkitchen"), {"epipolar, along time": 0.3}),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_real_recordings_are_consistent(shared, tmp_path, capsys, arguments, bands):
    name, folder, *settings = arguments
    root = str(shared / "realdata" / folder)
    code = main(
        ["check-data", name, *settings, "--root", root, "--scenes=1", "--steps=4", f"--out={tmp_path}/page.html"]
    )
    text = capsys.readouterr().out
    faults = [line for line in text.splitlines() if line.startswith("FAULT")]
    repeated = [line for line in faults if "in both splits" in line]  # of ddad's sample, which says so
    assert faults == repeated and code == int(bool(repeated)), text
    for what, band in bands.items():
        values = [
            float(line.split("|")[3]) for line in text.splitlines() if f"| {what} |" in line and "| - |" not in line
        ]
        assert values and max(values) < band, text
