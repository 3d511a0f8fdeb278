"""Logs of py123d: cameras, LiDAR and boxes are where a writer of the layout put them, and the library's own."""

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest

from rig3r_jax.data.frame_bytes import decode_depth
from rig3r_jax.data.image_bytes import decode_image
from rig3r_jax.data.scene import BadRecord
from rig3r_jax.data.sources.py123d_logs import Py123d
from rig3r_jax.data.sources.py123d_tables import decode_points
from tests.conftest import REPO
from tests.data.made_drive import check_frames, static_points
from tests.data.nuscenes_drive import lidar_points
from tests.data.py123d_drive import SWEEP_US, camera_metadata, numbers_of, write_log, write_table

pa = pytest.importorskip("pyarrow")


def load_all(root, split="train", **options):
    return [load() for _, load in Py123d(str(root), **options).scenes(split)]


def test_images_and_lidar_are_where_the_writer_put_them(tmp_path):
    taken = write_log(tmp_path)
    (scene,) = load_all(tmp_path)
    assert scene.name == "nuscenes_train_scene-0061" and not scene.left_out and len(scene.frames) == 9
    lenses = {camera.name: camera.lens.kind for camera in scene.cameras}
    assert lenses == {"fmcam_r": "unified", "pcam_f0": "brown", "pcam_l0": "pinhole"}
    check_frames(scene, taken, static_points())
    for step, scene in enumerate(load_all(tmp_path, window=1)):
        points, on_car, _ = lidar_points(0.1 * step + SWEEP_US / 1e6)
        on_car = on_car & (np.arange(len(points)) < len(points) - 1)  # the last is before the car
        images = {(camera, 0): image for (camera, number), image in taken.items() if number == step}
        check_frames(scene, images, static_points(), lidar=points, moving=on_car)
        assert sum(decode_depth(frame.depth).moving.sum() for frame in scene.frames) >= 1


def test_images_by_path_and_in_videos(tmp_path):
    write_log(tmp_path / "path", codec="path", lidar="path")
    with pytest.raises(BadRecord, match="row 1: its image is the file .*/1.jpg of the data set; set sensors="):
        load_all(tmp_path / "path")
    (scene,) = load_all(tmp_path / "path", sensors=str(tmp_path / "path/sensors"))
    assert len(scene.frames) == 9 and not any(len(decode_depth(frame.depth).depths) for frame in scene.frames)
    (note,) = Py123d(str(tmp_path / "path")).notes()
    assert "1 of 1 logs state their LiDAR by path, which only py123d reads" in note
    write_log(tmp_path / "video", codec="mp4")
    (scene,) = load_all(tmp_path / "video")
    shown = {(frame.step, round(float(decode_image(frame.image).mean()) / 10)) for frame in scene.frames}
    assert shown == {(0, 1), (1, 2), (2, 3)}  # the first image of each video is of no time step
    (tmp_path / "video/logs/nuscenes_train/scene-0061/camera.pcam_l0.mp4").unlink()
    (scene,) = load_all(tmp_path / "video")
    assert len(scene.left_out) == 3 and "camera.pcam_l0.mp4: image 1 cannot be read" in scene.left_out[0].reason


def test_images_of_no_time_step_are_counted_and_repeated_ones_stay_once(tmp_path):
    write_log(tmp_path, count=4)
    source = Py123d(str(tmp_path), cameras=("pcam_f0", "pcam_l0"))
    assert [(log, entry.frame) for log, entry in source.left_out()] == [
        ("scene-0061", "pcam_f0, row 0"),
        ("scene-0061", "pcam_l0, row 0"),
    ]
    sync = tmp_path / "logs/nuscenes_train/scene-0061/sync.arrow"
    with pa.memory_map(str(sync)) as file:
        table = pa.ipc.open_file(file).read_all()
        columns = {name: (table.schema.field(name).type, table.column(name).to_pylist()) for name in table.column_names}
    columns["camera.pcam_l0"] = (pa.int64(), [1, 1, None, 40])
    write_table(sync.parent, "sync", columns, {"dataset": "nuscenes"})
    scenes = load_all(tmp_path, window=2, cameras=("pcam_f0", "pcam_l0"))
    assert [[(frame.camera, frame.step) for frame in scene.frames] for scene in scenes] == [
        [(0, 0), (1, 0), (0, 1)],
        [(0, 0), (0, 1)],
    ]
    assert "has no row 40, which" in scenes[1].left_out[0].reason


def test_splits_and_datasets_are_of_the_folders_names(tmp_path):
    write_log(tmp_path, "av2-sensor_val")
    taken = write_log(tmp_path, "wod-perception_train", "a")
    (tmp_path / "logs/nuplan_train/unfinished").mkdir(parents=True)
    (tmp_path / "logs/nuplan_train/unfinished/camera.pcam_f0.arrow").write_bytes(b"")
    source = Py123d(str(tmp_path / "logs"))
    assert source.splits() == ("train", "val") and "1 logs have no sync.arrow" in source.notes()[0]
    assert [name for name, _ in source.scenes("val")] == ["av2-sensor_val_scene-0061"]
    assert Py123d(str(tmp_path), datasets=("av2-sensor",)).splits() == ("val",)
    with pytest.raises(BadRecord, match="holds no log of nuplan"):
        Py123d(str(tmp_path), datasets=("nuplan",)).splits()
    # Of Waymo the left border of the first pixel is at 0.
    for image in taken.values():
        image.centre = 0.5
    check_frames(load_all(tmp_path)[0], taken, static_points())


def test_speeds_come_from_tracks_or_else_from_velocities(tmp_path):
    def moving(velocities, **options):
        write_log(tmp_path / str(velocities), velocities=velocities, **options)
        frames = [frame for scene in load_all(tmp_path / str(velocities)) for frame in scene.frames]
        return sum(decode_depth(frame.depth).moving.sum() for frame in frames) > 0

    assert moving(([0.0, 0.0, 0.0], None))  # zeros of who knows no speed
    assert not moving(([0.1, 0.0, 0.0], [0.0, 0.2, 0.0]), count=1)
    assert moving(([4.0, 0.0, 0.0], None), count=1)
    assert moving((None, None), count=1)


def ftheta_metadata(forward):
    return {
        "camera_model": "ftheta",
        "width": 1920,
        "height": 1080,
        "intrinsics": [958.3, 541.7, *forward, 0.0, 1 / forward[1], 0.0, 0.0, 0.0, 0.0],
        "camera_to_imu_se3": numbers_of(np.eye(4)),
    }


def test_ftheta_lenses_become_kannala_brandt_ones_if_they_are_near(tmp_path):
    from rig3r_jax.data.sources.py123d_cameras import camera_of
    from rig3r_jax.data.sources.py123d_tables import LogTable

    forward = [0.0, 905.2, -18.4, 21.7, -30.1, 6.2]
    write_table(tmp_path, "camera.ftcam_f0", {"timestamp_us": (pa.int64(), [1])}, ftheta_metadata(forward))
    camera = camera_of(LogTable(tmp_path / "camera.ftcam_f0.arrow"), "physical-ai-av")
    assert camera.name == "ftcam_f0" and camera.size == (1080, 1920) and camera.lens.kind == "fisheye"
    angle, turn = np.meshgrid(np.linspace(0.01, 1.1, 40), np.linspace(0, 6, 20))
    points = np.stack([np.sin(angle) * np.cos(turn), np.sin(angle) * np.sin(turn), np.cos(angle)], axis=-1)
    radius = sum(number * angle**power for power, number in enumerate(forward))
    expected = np.stack([958.8 + radius * np.cos(turn), 542.2 + radius * np.sin(turn)], axis=-1)
    assert np.abs(camera.lens.project(points.reshape(-1, 3)) - expected.reshape(-1, 2)).max() < 0.25
    write_table(
        tmp_path, "camera.ftcam_f0", {"timestamp_us": (pa.int64(), [1])}, ftheta_metadata([40.0, 905, 400, 0, 0, 0])
    )
    with pytest.raises(BadRecord, match="no Kannala-Brandt lens is within 0.25 pixels .*leave the camera out"):
        camera_of(LogTable(tmp_path / "camera.ftcam_f0.arrow"), "physical-ai-av")


def test_points_of_other_codecs(tmp_path, monkeypatch):
    points = np.array([[1.0, 2.0, 3.0], [-4.0, 5.5, 0.25]])
    laspy = pytest.importorskip("laspy")
    cloud = laspy.create(point_format=0, file_version="1.4")
    cloud.header.scales = [0.001] * 3
    cloud.xyz = points
    cloud.write(str(tmp_path / "cloud.laz"))
    np.testing.assert_allclose(decode_points((tmp_path / "cloud.laz").read_bytes(), "here"), points, atol=1e-3)
    with pytest.raises(BadRecord, match="here: points do not read .*neither Arrow's IPC nor LAZ nor Draco"):
        decode_points(b"PK\x03\x04", "here")
    with pytest.raises(BadRecord, match="here: points do not read"):
        decode_points(b"\xff\xff\xff\xff\x10", "here")
    monkeypatch.setitem(sys.modules, "DracoPy", None)
    with pytest.raises(BadRecord, match="here: reading its points needs .*DracoPy.*: pip install"):
        decode_points(b"DRACO\x02", "here")


def test_unknown_lens_and_front_are_named(tmp_path):
    write_log(tmp_path)
    with pytest.raises(BadRecord, match="has no camera pcam_b0; it has .*; set front="):
        load_all(tmp_path, front="pcam_b0")
    folder = tmp_path / "logs/nuscenes_train/scene-0061"
    metadata = camera_metadata("pcam_l0") | {"camera_model": "orthographic"}
    write_table(folder, "camera.pcam_l0", {"timestamp_us": (pa.int64(), [1])}, metadata)
    with pytest.raises(BadRecord, match="camera_model 'orthographic' is not one of .*leave it out of cameras="):
        load_all(tmp_path)
    assert len(load_all(tmp_path, cameras=("pcam_f0", "fmcam_r"))[0].frames) == 6


@pytest.mark.py123d
def test_logs_of_the_library_itself(tmp_path):
    """With py123d in this environment, or in that of the interpreter that PY123D_PYTHON names."""
    interpreter = os.environ.get("PY123D_PYTHON", sys.executable)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    found = subprocess.run([interpreter, "-c", "import py123d"], env=environment, capture_output=True)
    if found.returncode:
        pytest.skip("py123d is not installed: PY123D_PYTHON=python of an environment with it")
    taken = write_log(tmp_path / "ours")
    script = REPO / "tests/data/written/by_py123d.py"
    codecs = {"jpeg_binary": "laz", "mp4": "ipc_zstd"}
    if importlib.util.find_spec("DracoPy"):
        codecs["png_binary"] = "draco"
    for codec, lidar in codecs.items():
        root = tmp_path / codec
        command = [interpreter, str(script), str(tmp_path / "ours/logs"), str(root / "logs"), codec, lidar]
        subprocess.run(command, env=environment, check=True)
        (scene,) = load_all(root)
        assert len(scene.frames) == 9 and not scene.left_out
        check_frames(scene, taken, static_points())
        for step, scene in enumerate(load_all(root, window=1)):
            points, on_car, _ = lidar_points(0.1 * step + SWEEP_US / 1e6)
            on_car = on_car & (np.arange(len(points)) < len(points) - 1)
            images = {(camera, 0): image for (camera, number), image in taken.items() if number == step}
            check_frames(scene, images, static_points(), lidar=points, moving=on_car, lidar_metres=0.02)
