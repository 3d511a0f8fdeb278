"""A folder of your own: whichever files say where things are, points fall where the writer put them."""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rig3r_jax.data.build import build_records
from rig3r_jax.data.record_source import RecordSource
from rig3r_jax.data.scene import BadRecord
from rig3r_jax.data.scene_rules import check_scene
from rig3r_jax.data.sources import make_source
from rig3r_jax.data.sources.folder.images import ImageFile, time_steps
from rig3r_jax.formats.exif import read_exif
from tests.data import rig_folders
from tests.data.folder_scenes import ALL, assert_true, load, pose_file, without
from tests.data.rig_folders import STEPS, TRUTH, make_folder


def test_rig_config_and_trajectory_of_the_rig(tmp_path):
    scene, source = load(make_folder(tmp_path / "rig"))
    assert_true(scene)
    np.testing.assert_allclose([frame.time for frame in scene.frames[::2]], TRUTH.times)
    notes = "\n".join(source.notes())
    for words in (
        "24 of 24 have lens, pose and time, 2 cameras",
        "1 brown, 1 fisheye",
        "the camera left",
        "poses.txt",
        "12 time steps by equal names",
    ):
        assert words in notes, notes
    assert source.left_out() == []


def test_front_camera_and_kept_cameras_are_options(tmp_path):
    scene, _ = load(make_folder(tmp_path / "rig"), front="right")
    assert scene.front_camera == 1
    assert_true(scene)
    scene, _ = load(tmp_path / "rig", cameras=["right"], front="right")
    assert [camera.name for camera in scene.cameras] == ["right"] and len(scene.frames) == STEPS
    with pytest.raises(BadRecord, match="has no camera 'rear'; it has left, right"):
        load(tmp_path / "rig", front="rear")


KINDS = ("per camera", "kitti", "csv by time", "csv by image", "transforms", "colmap", "colmap rigs")


@pytest.mark.parametrize("kind", KINDS)
def test_every_file_of_poses_says_the_same(tmp_path, kind):
    folder = make_folder(tmp_path / "rig")
    pose_file(folder, kind)
    scene, source = load(folder)
    assert_true(scene)
    assert not source.left_out()
    if kind == "transforms":
        assert any("1 of images that are not here" in note for note in source.notes())


def test_camchain_without_rig_config(tmp_path):
    folder = make_folder(tmp_path / "rig")
    without(folder, "rig_config.json")
    rig_folders.write_camchain(folder / "camchain.yaml")
    scene, source = load(folder)
    assert_true(scene)
    assert any("camchain.yaml" in note for note in source.notes())


def test_cameras_json_brings_everything(tmp_path):
    from rig3r_jax.formats.cameras_json import write_cameras
    from rig3r_jax.geometry.camera import Brown, Fisheye
    from rig3r_jax.schema import PhysicalCamera, PosedImage, Reconstruction

    folder = make_folder(tmp_path / "rig")
    without(folder, "rig_config.json", "poses.txt", "times.txt")
    lenses = {
        "left": Brown(rig_folders.MATRICES["left"], np.array([*rig_folders.BROWN, 0.0])),
        "right": Fisheye(rig_folders.MATRICES["right"], np.array(rig_folders.FISHEYE)),
    }
    cameras = tuple(PhysicalCamera(i, name, lenses[name], TRUTH.rig_from_camera[name]) for i, name in enumerate(lenses))
    images = tuple(
        PosedImage(f"{name}/{step:06d}.png", *rig_folders.SIZES[name][::-1], lenses[name],
                   TRUTH.world_from_camera(name, step), i, 0.1 * step)
        for step in range(STEPS) for i, name in enumerate(lenses)
    )  # fmt: skip
    write_cameras(folder / "cameras.json", Reconstruction(images, cameras))
    scene, _ = load(folder)
    assert_true(scene)
    np.testing.assert_allclose([frame.time for frame in scene.frames[::2]], 0.1 * np.arange(STEPS), atol=1e-12)


def test_rig_is_found_from_the_poses_of_a_model_without_rigs(tmp_path):
    folder = make_folder(tmp_path / "rig")
    pose_file(folder, "colmap")
    _, source = load(folder)
    assert any("rig from poses: single images about it by" in note for note in source.notes())


def test_times_of_names_and_steps_by_time(tmp_path):
    """Cameras that are named by times of their own, 5 ms apart."""
    folder = tmp_path / "rig"
    rig_folders.write_images(folder / "images", ("left",), lambda step: str(round(TRUTH.times[step] * 1000) * 10**6))
    rig_folders.write_images(
        folder / "images", ("right",), lambda step: str(round(TRUTH.times[step] * 1000 + 5) * 10**6)
    )
    rig_folders.write_rig_config(folder / "rig_config.json")
    late = np.append(TRUTH.times, TRUTH.times[-1] + 0.1)
    track = np.concatenate([TRUTH.world_from_rig, TRUTH.world_from_rig[-1:]])
    (folder / "poses.txt").write_text(rig_folders.tum_rows(late, track))
    scene, source = load(folder)
    assert [(frame.step, frame.camera) for frame in scene.frames] == [(s, c) for s in range(STEPS) for c in (0, 1)]
    assert abs(scene.frames[1].time - scene.frames[0].time - 0.005) < 1e-6
    notes = "\n".join(source.notes())
    assert "names of images, ns" in notes and "times within 0.02 s" in notes
    between = scene.frames[1].world_from_camera @ np.linalg.inv(TRUTH.rig_from_camera["right"])
    first, second = (np.linalg.inv(TRUTH.world_from_rig[0]) @ TRUTH.world_from_rig[i] for i in (0, 1))
    np.testing.assert_allclose(between[:3, 3], first[:3, 3] + 0.05 * (second - first)[:3, 3], atol=1e-6)


def test_times_of_exif(tmp_path):
    folder = tmp_path / "rig"
    (folder / "images").mkdir(parents=True)
    for step in range(STEPS):
        exif = Image.Exif()
        exif.get_ifd(0x8769).update({0x9003: f"2024:05:06 07:08:{step:02d}", 0x9291: "25"})
        Image.new("RGB", (64, 48)).save(folder / f"images/{step}.jpg", exif=exif)
    (folder / "poses.txt").write_text(rig_folders.kitti_rows(TRUTH.world_from_rig))
    rig_folders.write_camchain(folder / "camchain.yaml")
    text = (folder / "camchain.yaml").read_text()
    (folder / "camchain.yaml").write_text(text[: text.index("right:")])
    scene, source = load(folder)
    np.testing.assert_allclose(np.diff([frame.time for frame in scene.frames]), 1.0)
    assert scene.frames[0].time % 1 == 0.25 and "EXIF" in "\n".join(source.notes())


def test_an_image_that_claims_to_be_huge_has_no_exif(tmp_path):
    """What is wrong with it is told when it is read, by name."""
    Image.new("RGB", (64, 48)).save(tmp_path / "a.png")
    content = bytearray((tmp_path / "a.png").read_bytes())
    content[16:24] = (2**20).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(tmp_path / "a.png")
    assert read_exif(tmp_path / "a.png") == {}


def test_metres_scale_a_model_with_its_rig(tmp_path):
    folder = make_folder(tmp_path / "rig")
    pose_file(folder, "colmap rigs")
    assert_true(load(folder, metres=3.0)[0], scale=3.0)


def test_cameras_that_move_against_each_other_are_no_rig(tmp_path):
    folder = make_folder(tmp_path / "rig")
    pose_file(folder, "per camera")
    (folder / "rig_config.json").write_text(
        (folder / "rig_config.json").read_text().split(', "cam_from_rig_rotation"')[0] + "}]}]"
    )
    moved = np.array(rig_folders.of_camera("right"))
    moved[:, :3, 3] += np.random.default_rng(0).normal(0, 2.0, (STEPS, 3))
    (folder / "poses/right.txt").write_text(rig_folders.tum_rows(TRUTH.times, moved))
    scene, source = load(folder)
    assert "cameras move against each other" in "\n".join(source.notes())
    assert all((camera.rig_from_camera == np.eye(4)).all() for camera in scene.cameras)
    assert not scene.rig_is_stated


def test_rectified_records_are_of_pinholes(tmp_path):
    source = make_source("folder", str(make_folder(tmp_path / "rig")), ALL | {"rectify": True, "window": 64})
    report = build_records("folder", source, tmp_path / "records", progress=False)
    scene = RecordSource(report.path, "train")[0]
    check_scene(scene)
    assert report.lenses == {"train": ["pinhole"]} and scene.pinholes_only and len(scene.frames) == 2 * STEPS
    for frame, plain in zip(scene.frames, load(tmp_path / "rig")[0].frames, strict=True):
        np.testing.assert_array_equal(frame.world_from_camera, plain.world_from_camera)


def test_several_recordings_are_split_by_time_or_whole(tmp_path):
    for name in ("a", "b", "c", "d"):
        make_folder(tmp_path / "rigs" / name)
    by_time = make_source("folder", str(tmp_path / "rigs"), {"fractions": [0.5, 0.25, 0.25]})
    assert [name for name, _ in by_time.scenes("validation")] == [f"{name}_00006" for name in "abcd"]
    options = {"fractions": [0.5, 0.25, 0.25], "split_by": "recording", "gap": 2}  # of time steps, not of recordings
    whole = make_source("folder", str(tmp_path / "rigs"), options)
    assert [[name for name, _ in whole.scenes(split)] for split in whole.splits()] == [["a", "b"], ["c"], ["d"]]


def test_folders_of_cameras_may_be_links(tmp_path):
    folder = make_folder(tmp_path / "rig")
    (folder / "images/right").rename(tmp_path / "elsewhere")
    (folder / "images/right").symlink_to(tmp_path / "elsewhere")
    (folder / "images/left/.hidden.png").write_bytes(b"of a file manager")
    assert_true(load(folder)[0])


def test_a_camera_may_be_named_as_the_folder_of_images_begins(tmp_path):
    folder = make_folder(tmp_path / "rig")
    for part in ("images", "depth", "masks"):
        (folder / part / "left").rename(folder / part / "images_left")
    config = folder / "rig_config.json"
    config.write_text(config.read_text().replace('"left/"', '"images_left/"'))
    scene, _ = load(folder)
    assert [camera.name for camera in scene.cameras] == ["images_left", "right"] and len(scene.frames) == 2 * STEPS


def test_steps_are_in_the_order_of_times_though_one_has_none():
    images = [ImageFile(Path(f"{stem}.png"), f"{stem}.png", "camera", stem) for stem in ("a", "b", "c")]
    steps, _ = time_steps(images, {"a.png": 2.0, "c.png": 1.0}, {}, 0.0)
    assert steps == {"c.png": 0, "a.png": 1, "b.png": 2}


def test_places_are_of_one_file_where_the_model_has_another_reference(tmp_path):
    """The calibration's rig is the right camera and leaves out the left one, which is the reference of the model."""
    folder = make_folder(tmp_path / "rig")
    left, right = json.loads((folder / "rig_config.json").read_text())[0]["cameras"]
    right = {key: value for key, value in right.items() if "from_rig" not in key} | {"ref_sensor": True}
    pose_file(folder, "colmap rigs")
    (folder / "rig_config.json").write_text(json.dumps([{"cameras": [left | {"ref_sensor": False}, right]}]))
    assert_true(load(folder)[0])
