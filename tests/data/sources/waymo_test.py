"""Waymo: both formats give the same scenes; axes, lens, poses and LiDAR are where a writer of its own put them."""

import dataclasses
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest

from rig3r_jax.data.frame_bytes import decode_depth
from rig3r_jax.data.scene import BadRecord
from rig3r_jax.data.sources.waymo import Waymo
from rig3r_jax.data.sources.waymo_segment import transform
from rig3r_jax.data.sources.waymo_v2 import read_segment
from tests.data.made_drive import check_frames, static_points
from tests.data.records_test import assert_same
from tests.data.two_views import epipolar_degrees
from tests.data.waymo_drive import NAME, lidar_points, write_v1, write_v2

WRITERS = {"parquet": write_v2, "tfrecord": write_v1}
SAMPLE = "realdata/waymo_frame"


def load_all(root, split="train", **options):
    return [load() for _, load in Waymo(str(root), **options).scenes(split)]


@pytest.mark.parametrize("kind", WRITERS)
def test_images_and_lidar_are_where_the_writer_put_them(tmp_path, kind):
    taken = WRITERS[kind](tmp_path / "training")
    (scene,) = load_all(tmp_path)
    assert scene.name == NAME and not scene.left_out and len(scene.frames) == 9
    assert [camera.size for camera in scene.cameras] == [(240, 320), (240, 320), (160, 320)]
    check_frames(scene, taken, static_points())
    for step, scene in enumerate(load_all(tmp_path, window=1)):
        points, on_car = lidar_points(step)
        images = {(camera, 0): image for (camera, number), image in taken.items() if number == step}
        # The poses of the top LiDAR's pixels are float32 of tens of kilometres: 4 mm.
        check_frames(scene, images, static_points(), lidar=points, moving=on_car, lidar_metres=0.01)
        assert sum(decode_depth(frame.depth).moving.sum() for frame in scene.frames) >= 1


def test_both_formats_give_the_same_scenes(tmp_path):
    write_v1(tmp_path / "one" / "validation")
    write_v2(tmp_path / "two" / "validation")
    (one,), (two,) = (load_all(tmp_path / name, "val") for name in ("one", "two"))
    assert_same(one, two)
    assert Waymo(str(tmp_path / "one")).splits() == ("val",)


@pytest.mark.parametrize("kind", WRITERS)
def test_rolling_shutters_are_told_with_their_direction(tmp_path, kind):
    WRITERS[kind](tmp_path, frames=1)
    (scene,) = load_all(tmp_path)
    told = {camera.name: (camera.readout_axis, round(camera.readout, 9)) for camera in scene.cameras}
    assert told == {"FRONT": ("columns", 0.046), "FRONT_LEFT": ("columns", -0.046), "SIDE_RIGHT": ("rows", 0.046)}


@pytest.mark.parametrize("kind", WRITERS)
def test_without_lidar_or_labels(tmp_path, kind):
    WRITERS[kind](tmp_path / "bare", frames=1, lidar=False, labels=False)
    (bare,) = load_all(tmp_path / "bare")
    assert all(len(decode_depth(frame.depth).depths) == 0 for frame in bare.frames)
    WRITERS[kind](tmp_path / "unlabelled", frames=1, labels=False)
    (unlabelled,) = load_all(tmp_path / "unlabelled")
    assert all(decode_depth(frame.depth).moving is None for frame in unlabelled.frames)
    assert all(len(decode_depth(frame.depth).depths) for frame in unlabelled.frames)


def test_cameras_may_be_chosen_and_drives_are_cut(tmp_path):
    write_v2(tmp_path, frames=5)
    source = Waymo(str(tmp_path), cameras=("FRONT", "SIDE_RIGHT"), window=2)
    assert [name for name, _ in source.scenes("train")] == [NAME, f"{NAME}_00001", f"{NAME}_00003"]
    assert [len(load().frames) for _, load in source.scenes("train")] == [2, 4, 4]
    with pytest.raises(BadRecord, match="has no images or calibration of \\['REAR'\\]"):
        dataclasses.replace(source, cameras=("FRONT", "REAR")).scenes("train")[0][1]()


def test_parquet_is_read_where_both_formats_are_there(tmp_path):
    write_v2(tmp_path, frames=2)
    write_v1(tmp_path, frames=1)
    source = Waymo(str(tmp_path))
    assert "is read, not the 1 *.tfrecord beside it" in source.notes()[0]
    assert len(load_all(tmp_path)[0].frames) == 6


@pytest.mark.parametrize("cut", [1, 5, 4000])
def test_a_file_that_is_cut_short_is_named(tmp_path, cut):
    write_v1(tmp_path)
    (path,) = tmp_path.glob("*.tfrecord")
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(BadRecord, match=f"{path.name}: the record at byte .* it is cut short or no TFRecord file"):
        load_all(tmp_path)


def test_a_record_of_another_kind_is_named(tmp_path):
    path = tmp_path / "other.tfrecord"
    for data in (b"\x0a", b"\xff" * 20, b"\x12\x7f\x00", b"\x0b\x01", b"\x0a\x02\x12\x05"):
        path.write_bytes(len(data).to_bytes(8, "little") + bytes(4) + data + bytes(4))
        with pytest.raises(BadRecord, match="other.tfrecord: is no segment of Waymo"):
            load_all(tmp_path)


@pytest.mark.parametrize("component", ["vehicle_pose", "camera_calibration", "lidar_calibration", "camera_image"])
def test_a_component_that_does_not_read_is_named(tmp_path, component):
    write_v2(tmp_path)
    path = tmp_path / component / f"{NAME}.parquet"
    path.write_bytes(b"PAR1 no more")
    with pytest.raises(BadRecord, match=f"{component}/{NAME}.parquet: .*restore the file"):
        load_all(tmp_path)


def test_real_table_of_poses_is_read(shared, tmp_path):
    (real_poses,) = (shared / SAMPLE / "v2" / "vehicle_pose").glob("*.parquet")
    stamps = pq.read_table(real_poses)["key.frame_timestamp_micros"].to_pylist()[:3]
    write_v2(tmp_path, labels=False, stamps=stamps)
    shutil.copy(real_poses, tmp_path / "vehicle_pose" / f"{NAME}.parquet")
    segment = read_segment(tmp_path / "camera_image" / f"{NAME}.parquet", range(3))
    poses = [transform(frame.world_from_vehicle, "real") for frame in segment.frames]
    assert 1e3 < np.abs(poses[0][:2, 3]).max() < 1e5
    (scene,) = load_all(tmp_path)
    assert len(scene.frames) == 9 and not scene.left_out


@pytest.fixture(scope="module")
def real(shared):
    source = Waymo(str(shared / SAMPLE))
    ((name, load),) = source.scenes("train")
    assert name == "pvps_data_one_frame"
    return load()


def test_real_frame_is_read(real):
    assert [camera.name for camera in real.cameras] == ["FRONT", "FRONT_LEFT", "FRONT_RIGHT", "SIDE_LEFT", "SIDE_RIGHT"]
    assert len(real.frames) == 5 and not real.left_out
    assert {camera.size for camera in real.cameras} == {(1280, 1920), (886, 1920)}
    centres = np.array([frame.world_from_camera[:3, 3] for frame in real.frames])
    assert np.abs(centres).max() < 0.3  # they sit together
    ahead = {real.cameras[frame.camera].name: frame.world_from_camera[:3, 2] for frame in real.frames}
    assert ahead["FRONT_LEFT"][0] < -0.5 and ahead["FRONT_RIGHT"][0] > 0.5 and abs(ahead["FRONT"][2]) > 0.999
    assert all(0.04 < camera.readout < 0.05 and camera.readout_axis == "columns" for camera in real.cameras)


@pytest.mark.parametrize(
    "one, other, at_most, features",
    [
        ("FRONT", "FRONT_LEFT", 0.15, 4000),
        ("FRONT", "FRONT_RIGHT", 0.25, 4000),
        ("FRONT_LEFT", "SIDE_LEFT", 0.06, 8000),
        ("FRONT_RIGHT", "SIDE_RIGHT", 0.1, 4000),
    ],
)
def test_real_overlaps_agree_with_axes_and_lens(real, one, other, at_most, features):
    frames = {real.cameras[frame.camera].name: frame for frame in real.frames}
    lenses = {camera.name: camera.lens for camera in real.cameras}
    angle, count = epipolar_degrees(
        [frames[name].image for name in (one, other)],
        [lenses[name] for name in (one, other)],
        [frames[name].world_from_camera for name in (one, other)],
        features=features,
    )
    print(f"{one} {other}: {angle:.3f} degrees over {count} matches")
    assert count >= 20 and angle < at_most
