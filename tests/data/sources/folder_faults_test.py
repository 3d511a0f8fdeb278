"""What is missing or wrong in a folder of your own: left out by name, or one message with a remedy."""

import json

import numpy as np
import pytest
from PIL import Image

from rig3r_jax.data.scene import BadRecord
from tests.data import rig_folders
from tests.data.folder_scenes import assert_true, load, pose_file, without
from tests.data.rig_folders import STEPS, TRUTH, make_folder


def test_what_is_left_out_is_named(tmp_path):
    folder = make_folder(tmp_path / "rig")
    rows = (folder / "poses.txt").read_text().splitlines()
    (folder / "poses.txt").write_text("\n".join(rows[:9]) + "\n")
    scene, source = load(folder, longest_gap=0.15)
    left_out = source.left_out()
    assert {entry.frame for _, entry in left_out} == {
        f"{camera}/{step:06d}.png" for camera in ("left", "right") for step in (9, 10, 11)
    }  # step 8 has the last pose
    assert all("poses.txt: has no pose of" in entry.reason and entry.kind == "unmatched" for _, entry in left_out)
    assert any("18 of 24 have lens" in note for note in source.notes())


@pytest.mark.parametrize(
    "break_it, message",
    [
        (lambda f: without(f, "poses.txt"), "rig: has no poses, which training needs; add poses.txt"),
        (lambda f: without(f, "times.txt"), "poses.txt: its poses go by time, and nothing tells the times"),
        (lambda f: without(f, "rig_config.json"), "000000.png: no file tells its lens.*add a rig_config.json"),
        (lambda f: (f / "images/right").rename(f / "images/rear"), "calibrates left, right, but .* images of rear"),
        (
            lambda f: rig_folders.write_times(f / "times.txt", 1.001),
            "poses.txt: its times, .* hold none of the images'",
        ),
        (lambda f: (f / "poses.txt").write_text("1 0 0 0 0 1 0 0 0 0 1 0\n" * 5), "has 5 rows for 12 time steps"),
        (lambda f: without(f, "images/left", "images/right"), "images: holds no image"),
        (
            lambda f: (f / "times.txt").write_text("1.0 a\n1.1 b\n"),
            "times.txt: names no image, such as left/000000.png",
        ),
        (lambda f: (f / "poses.txt").write_text("1.0 0 0 0 9 0 0 1\n"), "poses.txt, line 1: quaternion"),
    ],
)
def test_what_is_missing_or_wrong_is_one_message(tmp_path, break_it, message):
    folder = make_folder(tmp_path / "rig")
    break_it(folder)
    with pytest.raises(BadRecord, match=message):
        load(folder)


def test_a_bad_row_of_poses_costs_that_row(tmp_path):
    folder = make_folder(tmp_path / "rig")
    rows = (folder / "poses.txt").read_text().splitlines()
    rows[4] = " ".join([*rows[4].split()[:4], "9", "0", "0", "1"])
    (folder / "poses.txt").write_text("\n".join(rows) + "\n")
    scene, source = load(folder, longest_gap=0.15)
    np.testing.assert_allclose([frame.time for frame in scene.frames[::2]], np.delete(TRUTH.times, 4))
    assert len(source.left_out()) == 2 and "poses.txt, line 5: quaternion" in "\n".join(source.notes())


def test_poses_of_another_unit_than_the_calibration_are_refused(tmp_path):
    """As a model of images alone beside a rig in metres; 0.4 m is the distance of the two cameras."""
    folder = make_folder(tmp_path / "rig")
    config = (folder / "rig_config.json").read_text()
    pose_file(folder, "colmap")
    (folder / "rig_config.json").write_text(config)
    assert_true(load(folder)[0])
    with pytest.raises(BadRecord, match="two cameras lie 2.008 apart, by .*rig_config.json 0.4016 m; set metres=0.2 "):
        load(folder, metres=5.0)


def test_an_image_twice_costs_one(tmp_path):
    folder = make_folder(tmp_path / "rig")
    Image.new("RGB", (64, 48)).save(folder / "images/left/000003.jpg")
    scene, source = load(folder)
    ((_, entry),) = source.left_out()
    assert len(scene.frames) == 2 * STEPS and "is of the same camera and time step as" in entry.reason


def test_images_of_another_size_cost_their_frames(tmp_path):
    folder = make_folder(tmp_path / "rig")
    Image.new("RGB", (32, 24)).save(folder / "images/left/000003.png")
    (folder / "depth/left/000004.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    scene, _ = load(folder)
    kinds = {entry.frame: (entry.kind, entry.reason) for entry in scene.left_out}
    assert set(kinds) == {"left, 000003.png", "left, 000004.png"} and len(scene.frames) == 2 * STEPS - 2
    assert (
        kinds["left, 000003.png"][0] == "image"
        and "(24, 32), most images of the camera are (48, 64)" in kinds["left, 000003.png"][1]
    )
    assert kinds["left, 000004.png"][0] == "depth" and "000004.png: depth image of" in kinds["left, 000004.png"][1]


@pytest.mark.parametrize("camera, other", [("left", "right"), ("right", "left")])
def test_a_camera_without_a_trajectory_costs_its_images(tmp_path, camera, other):
    folder = make_folder(tmp_path / "rig")
    pose_file(folder, "per camera")
    without(folder, f"poses/{camera}.txt")
    scene, source = load(folder)
    assert {scene.cameras[frame.camera].name for frame in scene.frames} == {other} and len(scene.frames) == STEPS
    assert {entry.frame for _, entry in source.left_out()} == {f"{camera}/{step:06d}.png" for step in range(STEPS)}
    (folder / f"poses/{other}.txt").rename(folder / "poses/rear.txt")
    with pytest.raises(BadRecord, match="poses/<camera>: rear: has a trajectory of none of the cameras left, right"):
        load(folder)


def test_trajectories_of_cameras_in_another_unit_than_the_calibration_are_refused(tmp_path):
    folder = make_folder(tmp_path / "rig")
    pose_file(folder, "per camera")
    assert_true(load(folder)[0])
    with pytest.raises(BadRecord, match="two cameras lie 2.008 apart, by .*rig_config.json 0.4016 m; set metres=0.2 "):
        load(folder, metres=5.0)


def test_an_image_that_the_file_of_lenses_lacks_is_without_a_pose(tmp_path):
    folder = make_folder(tmp_path / "rig")
    pose_file(folder, "transforms")
    content = json.loads((folder / "transforms.json").read_text())
    content["frames"] = [frame for frame in content["frames"] if frame["file_path"] != "images/left/000000.png"]
    (folder / "transforms.json").write_text(json.dumps(content))
    scene, source = load(folder)
    ((_, entry),) = source.left_out()
    assert (entry.frame, entry.kind) == ("left/000000.png", "unmatched") and len(scene.frames) == 2 * STEPS - 1
    assert entry.reason.endswith("transforms.json: has no pose of left/000000.png")


def test_depth_files_of_a_kind_that_is_not_read_are_named(tmp_path):
    folder = make_folder(tmp_path / "rig")
    pose_file(folder, "transforms")
    content = json.loads((folder / "transforms.json").read_text())
    content["frames"][0]["depth_file_path"] = "depth/right/11.tiff"
    (folder / "transforms.json").write_text(json.dumps(content))
    with pytest.raises(BadRecord, match="depth/right/11.tiff: a file of depth must be one of .png, .exr"):
        load(folder)
