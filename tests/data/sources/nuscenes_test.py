"""nuScenes: every image by the pose at its own time, LiDAR through its own; a real keyframe and written drives."""

import itertools
import json

import numpy as np
import pytest
from scipy.spatial import cKDTree

from rig3r_jax.data.files import read_json_rows
from rig3r_jax.data.frame_bytes import decode_depth
from rig3r_jax.data.scene import BadRecord
from rig3r_jax.data.sources.nuscenes import NuScenes
from rig3r_jax.data.sources.nuscenes_splits import VALIDATION, split_of
from tests.data.made_drive import check_frames, static_points
from tests.data.nuscenes_drive import lidar_points, write_nuscenes
from tests.data.two_views import epipolar_degrees

SAMPLE = "realdata/nuscenes_sample"


def of_scene(taken, scene, first=0):
    return {(camera, step - first): image for (name, camera, step), image in taken.items() if name == scene}


def test_images_and_lidar_are_where_the_writer_put_them(tmp_path):
    taken = write_nuscenes(tmp_path)
    source = NuScenes(str(tmp_path))
    assert source.splits() == ("train", "val") and not source.notes() and not source.left_out()
    for split, name in (("train", "scene-0061"), ("val", "scene-0103")):
        ((found, load),) = source.scenes(split)
        scene = load()
        assert found == scene.name == name and not scene.left_out
        assert [camera.name for camera in scene.cameras] == ["CAM_BACK", "CAM_FRONT", "CAM_FRONT_LEFT"]
        assert len(scene.frames) == 9
        check_frames(scene, of_scene(taken, name), static_points())


@pytest.mark.parametrize("key", [0, 1, 2])
def test_points_on_a_car_that_drives_are_told_from_others(tmp_path, key):
    taken = write_nuscenes(tmp_path)
    ((_, load), *_) = NuScenes(str(tmp_path), window=1).scenes("train")[key:]
    scene = load()
    points, on_car, beside = lidar_points(0.5 * key)
    on_car[beside] = False  # 0.4 m before it
    images = of_scene(taken, "scene-0061", key)
    check_frames(scene, images, static_points(), lidar=points, moving=on_car)
    assert any(decode_depth(frame.depth).moving.sum() >= 2 for frame in scene.frames)


def test_without_labels_nothing_is_known_to_move(tmp_path):
    write_nuscenes(tmp_path, labels=False)
    ((_, load),) = NuScenes(str(tmp_path)).scenes("train")
    assert all(decode_depth(frame.depth).moving is None for frame in load().frames)


def test_images_between_keyframes_have_their_own_poses_sweeps_and_boxes(tmp_path):
    taken = write_nuscenes(tmp_path, keys=2, between=5)
    source = NuScenes(str(tmp_path), sweeps=True, window=4)
    names = [name for name, _ in source.scenes("train")]
    assert names == ["scene-0061", "scene-0061_00003"]
    for (_, load), first in zip(source.scenes("train"), (0, 3), strict=True):
        scene = load()
        images = of_scene(taken, "scene-0061", first)
        assert len(scene.frames) == 3 * (3 if first == 0 else 4) and not scene.left_out
        check_frames(scene, images, static_points())
    points, on_car, beside = lidar_points(1 / 12)
    on_car[beside] = False
    ((_, load), *_) = NuScenes(str(tmp_path), sweeps=True, window=1).scenes("train")[1:]
    check_frames(load(), of_scene(taken, "scene-0061", 1), static_points(), lidar=points, moving=on_car)


def test_an_image_that_no_front_image_is_near_to_is_counted(tmp_path):
    write_nuscenes(tmp_path, keys=2, between=5)
    path = tmp_path / "v1.0-mini" / "sample_data.json"
    rows = json.loads(path.read_text())
    gone = sorted(row["filename"] for row in rows if "CAM_FRONT__" in row["filename"] and "0061" in row["filename"])[3]
    path.write_text(json.dumps([row for row in rows if row["filename"] != gone]))
    source = NuScenes(str(tmp_path), sweeps=True)
    left_out = source.left_out()
    assert len(left_out) == 2 and all(drive == "scene-0061" and "CAM_FRONT" in one.reason for drive, one in left_out)
    ((_, load),) = source.scenes("train")
    assert len(load().frames) == 3 * 7 - 3


def test_versions_and_splits_are_the_devkits(tmp_path):
    assert len(VALIDATION["v1.0-trainval"]) == 150 and len(VALIDATION["v1.0-mini"]) == 2
    splits = [split_of("v1.0-trainval", f"scene-{number:04d}") for number in (1, 3, 12, 918, 919, 1073, 1110)]
    assert splits == ["train", "val", "val", "train", "val", "val", "train"]
    write_nuscenes(tmp_path, "v1.0-mini", ["scene-0061"])
    write_nuscenes(tmp_path, "v1.0-trainval", ["scene-0061", "scene-0012"])
    write_nuscenes(tmp_path, "v1.0-test", ["scene-0077"])
    source = NuScenes(str(tmp_path))
    assert source.splits() == ("train", "val", "test")
    assert [name for split in source.splits() for name, _ in source.scenes(split)] == [
        "scene-0061",
        "scene-0012",
        "scene-0077",
    ]
    assert "v1.0-trainval, v1.0-test is read, not v1.0-mini" in source.notes()[0]
    with pytest.raises(ValueError, match="version='v2' must be one of v1.0-trainval, v1.0-mini, v1.0-test"):
        NuScenes(str(tmp_path), version="v2")
    with pytest.raises(BadRecord, match="has no images or calibration of \\['CAM_SIDE'\\]"):
        NuScenes(str(tmp_path), front="CAM_SIDE").scenes("train")[0][1]()


@pytest.mark.parametrize(
    "table, change, message",
    [
        ("ego_pose", lambda row: row.update(rotation=[0.5, 0.5, 0.5, 0.6]), "quaternion .x y z w."),
        ("ego_pose", lambda row: row.update(token="lost"), "has no row ego-"),
        ("calibrated_sensor", lambda row: row.update(camera_intrinsic=[]), "camera_intrinsic .* must be 3x3"),
        ("sample_data", lambda row: row.pop("filename"), "sample_data.json: a row lacks .*filename"),
        ("sample_annotation", lambda row: row.pop("size"), "sample_annotation.json: a row lacks .*size"),
        ("sample", lambda row: row.update(timestamp={}), "sample.json: a row lacks what a table of nuScenes holds"),
    ],
)
def test_a_damaged_table_is_named(tmp_path, table, change, message):
    write_nuscenes(tmp_path, scenes=["scene-0061"])
    path = tmp_path / "v1.0-mini" / f"{table}.json"
    rows = json.loads(path.read_text())
    for row in rows:
        change(row)
    path.write_text(json.dumps(rows))
    with pytest.raises(BadRecord, match=message):
        NuScenes(str(tmp_path)).scenes("train")[0][1]()


def test_rows_of_a_table_come_one_by_one(tmp_path, monkeypatch):
    rows = [{"token": f"{i}", "name": 'a "[{,}]" b', "values": [{"x": i}, [1.5, None]]} for i in range(50)]
    path = tmp_path / "table.json"
    for chunk, indent in itertools.product((1, 7, 2**20), (None, 0, 2)):
        monkeypatch.setattr("rig3r_jax.data.files._CHUNK", chunk)
        path.write_text(json.dumps(rows, indent=indent))
        assert list(read_json_rows(path)) == rows
    path.write_text("[]")
    assert list(read_json_rows(path)) == []
    for text in ("", "[", '[{"a": 1}', '[{"a": 1}, {"a": ]', '[{"a": 1} x {"a": 1}]', "\xff{]"):
        path.write_text(text)
        with pytest.raises(BadRecord, match="table.json: is no list of JSON objects; restore the file"):
            list(read_json_rows(path))


@pytest.fixture(scope="module")
def real(shared):
    source = NuScenes(str(shared / SAMPLE))
    assert source.splits() == ("test",)
    ((_, load),) = source.scenes("test")
    return load()


def test_real_keyframe_has_lidar_in_all_six_cameras_as_mmdetection_places_it(real, shared):
    info = json.loads((shared / SAMPLE / "mmdet3d_info.json").read_text())["images"]
    (path,) = (shared / SAMPLE / "samples" / "LIDAR_TOP").iterdir()
    points_lidar = np.fromfile(path, "<f4").reshape(-1, 5)[:, :3].astype(np.float64)
    assert len(real.frames) == len(info) == 6 and not real.left_out
    for frame in real.frames:
        camera = real.cameras[frame.camera]
        peer = info[camera.name]
        points_camera = np.c_[points_lidar, np.ones(len(points_lidar))] @ np.array(peer["lidar2cam"]).T
        ahead = points_camera[points_camera[:, 2] > 0.5, :3]
        pixels = ahead @ np.array(peer["cam2img"]).T
        pixels = pixels[:, :2] / pixels[:, 2:] + 0.5
        depth = decode_depth(frame.depth)
        assert 2900 < len(depth.depths) < 4800 and depth.moving is None
        distances, nearest = cKDTree(pixels).query(depth.pixels)
        assert distances.max() < 0.05  # mmdetection3d's numbers are float32
        np.testing.assert_allclose(depth.depths, np.linalg.norm(ahead, axis=1)[nearest], atol=5e-3)
        assert abs(frame.time - peer["timestamp"]) < 1e-5
        assert camera.readout == 0


@pytest.mark.parametrize(
    "one, other, at_most",
    [
        ("CAM_FRONT", "CAM_FRONT_LEFT", 0.1),
        ("CAM_FRONT", "CAM_FRONT_RIGHT", 0.25),
        ("CAM_BACK", "CAM_BACK_RIGHT", 0.2),
        ("CAM_FRONT_LEFT", "CAM_BACK_LEFT", 0.9),
        ("CAM_FRONT_RIGHT", "CAM_BACK_RIGHT", 0.6),
    ],
)
def test_real_overlaps_agree_with_the_poses(real, one, other, at_most):
    frames = {real.cameras[frame.camera].name: frame for frame in real.frames}
    lenses = {camera.name: camera.lens for camera in real.cameras}
    angle, count = epipolar_degrees(
        [frames[name].image for name in (one, other)],
        [lenses[name] for name in (one, other)],
        [frames[name].world_from_camera for name in (one, other)],
    )
    print(f"{one} {other}: {angle:.3f} degrees over {count} matches")
    assert count >= 15 and angle < at_most
