"""KITTI odometry, KITTI's raw data and KITTI-360: every image where a writer of its own put it."""

import numpy as np
import pytest

from rig3r_jax.data.frame_bytes import decode_depth
from rig3r_jax.data.scene import BadRecord
from rig3r_jax.data.sources.kitti360 import Kitti360
from rig3r_jax.data.sources.kitti_odometry import KittiOdometry
from rig3r_jax.data.sources.kitti_raw import TEST_DRIVES, KittiRaw
from tests.data.kitti_drives import (
    BASELINES,
    DRIVE,
    points_360,
    tracked_car,
    write_360,
    write_boxes_360,
    write_odometry,
    write_raw,
    write_tracklets,
)
from tests.data.made_drive import check_frames, static_points


def of_drive(taken, *keys, first=0):
    """{(camera, step): image} of one drive, or of one of its scenes."""
    return {(key[-2], key[-1] - first): image for key, image in taken.items() if key[: len(keys)] == keys}


@pytest.mark.parametrize("cameras", [("image_2", "image_3"), ("image_0", "image_1", "image_2", "image_3")])
def test_odometry_is_where_the_writer_put_it(tmp_path, cameras):
    taken = write_odometry(tmp_path, sizes={"09": (200, 300)})
    source = KittiOdometry(str(tmp_path), cameras=cameras)
    assert source.splits() == ("train", "val") and not source.notes() and not source.left_out()
    for split, name, size in (("train", "00", (240, 320)), ("val", "09", (200, 300))):
        ((found, load),) = source.scenes(split)
        scene = load()
        assert found == name and [camera.name for camera in scene.cameras] == list(cameras)
        assert {camera.size for camera in scene.cameras} == {size} and len(scene.frames) == 4 * len(cameras)
        check_frames(scene, of_drive(taken, name), static_points(), lidar=static_points())
        front = scene.cameras[scene.front_camera]
        across = scene.cameras[-1].rig_from_camera[:3, 3] - front.rig_from_camera[:3, 3]
        np.testing.assert_allclose(across, [BASELINES[3] - BASELINES[2], 0, 0], atol=1e-9)


def test_odometry_of_older_files_without_names_and_of_grey_images_alone(tmp_path):
    taken = write_odometry(tmp_path / "dataset", ["00"], named=False, cameras=(0, 1))
    ((_, load),) = KittiOdometry(str(tmp_path), cameras=("image_0", "image_1"), front="image_0").scenes("train")
    scene = load()
    check_frames(scene, of_drive(taken, "00"), static_points())
    assert all(len(decode_depth(frame.depth).depths) == 0 for frame in scene.frames)  # no Tr
    with pytest.raises(BadRecord, match="has no images or calibration of .*image_2.*it has those of .*image_0"):
        KittiOdometry(str(tmp_path)).scenes("train")[0][1]()


def test_odometry_counts_what_has_no_pose(tmp_path):
    write_odometry(tmp_path, ["00", "11"], unposed=1)
    (tmp_path / "poses" / "11.txt").unlink()
    source = KittiOdometry(str(tmp_path))
    assert source.notes() == [f"{tmp_path}: sequences without poses are not read: 11"]
    assert [entry.frame.split("/")[-2:] for _, entry in source.left_out()] == [
        ["image_2", "000003.png"],
        ["image_3", "000003.png"],
    ]
    path = tmp_path / "poses" / "00.txt"
    rows = path.read_text().splitlines()
    path.write_text("\n".join([rows[0], "1 0 0 0 0 1 0 0 0 0 2 0", rows[2]]) + "\n")
    scene = source.scenes("train")[0][1]()
    assert len(scene.left_out) == 2 and all("00.txt, line 2" in entry.reason for entry in scene.left_out)
    assert {frame.step for frame in scene.frames} == {0, 2}


def test_odometry_with_poses_that_cannot_be_read_is_a_bad_scene_of_a_build_that_ends(tmp_path):
    write_odometry(tmp_path, ["00", "01"])
    path = tmp_path / "poses" / "00.txt"
    path.write_bytes(b"\xff\xfe1")  # UTF-16 that is cut short
    source = KittiOdometry(str(tmp_path))
    assert source.left_out() == []
    ((name, load), (good, load_good)) = source.scenes("train")
    assert (name, good) == ("00", "01") and len(load_good().frames) == 8
    with pytest.raises(BadRecord, match="poses/00.txt: "):
        load()


@pytest.mark.parametrize(
    "row, message",
    [
        ("P2: 1 2 3", "calib.txt: P2 must be 3 x 4 numbers, has 3 numbers"),
        ("P2: 0 0 1 0 0 1 0 0 0 0 1 0", "P2: .* is no projection of a rectified camera"),
        ("P2: a b", "calib.txt"),
    ],
)
def test_odometry_names_a_bad_calibration(tmp_path, row, message):
    write_odometry(tmp_path, ["00"])
    path = tmp_path / "sequences" / "00" / "calib.txt"
    rows = path.read_text().splitlines()
    path.write_text("\n".join([*rows[:2], row, *rows[3:]]))
    with pytest.raises(BadRecord, match=message):
        KittiOdometry(str(tmp_path)).scenes("train")[0][1]()


def test_real_poses_of_odometry_go_forward_along_the_camera(shared, tmp_path):
    write_odometry(tmp_path, ["00"], frames=30)
    real = shared / "realdata/trajectories_gt"
    for name, path in (("gt", "poses/00.txt"), ("gt_times", "sequences/00/times.txt")):
        rows = (real / f"KITTI_00_{name}.txt").read_text().splitlines()[:30]
        (tmp_path / path).write_text("\n".join(rows) + "\n")
    scenes = [load() for _, load in KittiOdometry(str(tmp_path), cameras=("image_2",)).scenes("train")]
    frames = [frame for scene in scenes for frame in scene.frames]
    assert len(frames) == 30 and not any(scene.left_out for scene in scenes)
    for before, after in zip(frames, frames[1:], strict=False):
        if after.step > before.step:
            way = before.world_from_camera[:3, :3].T @ (after.world_from_camera - before.world_from_camera)[:3, 3]
            assert way[2] > 0.98 * np.linalg.norm(way) and 0.3 < np.linalg.norm(way) < 2
            assert 0.09 < after.time - before.time < 0.12


def test_raw_images_and_sweeps_have_poses_of_their_own_times(tmp_path):
    taken, points = write_raw(tmp_path)
    source = KittiRaw(str(tmp_path), cameras=("image_00", "image_02", "image_03"))
    assert source.splits() == ("train",)
    ((_, load),) = source.scenes("train")
    scene = load()
    assert len(scene.frames) == 15 and not scene.left_out
    # Poses are of a map whose numbers are millions of metres: float64 of degrees holds nanometres to micrometres.
    check_frames(scene, taken, points, lidar=points, tolerance=1e-5)


def test_raw_poses_are_the_numbered_files(tmp_path):
    taken, points = write_raw(tmp_path)
    (tmp_path / "2011_09_26/2011_09_26_drive_0001_sync/oxts/data/readme.txt").write_text("30 numbers")
    scene = KittiRaw(str(tmp_path)).scenes("train")[0][1]()
    check_frames(scene, taken, points, tolerance=1e-5)


def test_raw_images_beyond_the_poses_are_left_out(tmp_path):
    write_raw(tmp_path)
    folder = tmp_path / "2011_09_26" / "2011_09_26_drive_0001_sync"
    for frame in (2, 3, 5):
        (folder / "oxts" / "data" / f"{frame:010d}.txt").unlink()
    scene = KittiRaw(str(tmp_path)).scenes("train")[0][1]()
    assert {frame.step for frame in scene.frames} == {0}  # 1 to 3 lie in a gap of 0.3 s, 4 beyond the end
    assert len(scene.left_out) == 8 and all("has no pose" in entry.reason for entry in scene.left_out)
    assert {entry.kind for entry in scene.left_out} == {"unmatched"}


@pytest.mark.parametrize("speed, moves", [(3.0, True), (0.2, False)])
def test_raw_points_of_tracklets_that_move_are_told(tmp_path, speed, moves):
    def on_car(time):
        car = tracked_car(time, speed)
        return np.array([[2.0, 0.5, -0.7], [-2.0, -0.8, 0.7], [0.0, 1.2, 0.0]]) @ car[:3, :3].T + car[:3, 3]

    taken, points = write_raw(tmp_path, more_points=on_car)
    folder = tmp_path / "2011_09_26" / "2011_09_26_drive_0001_sync"
    write_tracklets(folder, 4, speed, first=1)
    for frame, (_, load) in enumerate(KittiRaw(str(tmp_path), window=1).scenes("train")):
        images = {(camera, 0): image for (camera, number), image in taken.items() if number == frame}
        moving = np.zeros(len(points) + 3, bool)
        moving[-3:-1] = moves and 1 <= frame < 4  # the last point is 0.35 m beside the car
        everything = np.concatenate([points, on_car(0.1 * frame + 0.02)])
        check_frames(load(), images, points, lidar=everything, moving=moving, tolerance=1e-5)
    (folder / "tracklet_labels.xml").write_text("<tracklets>")
    with pytest.raises(BadRecord, match="tracklet_labels.xml: does not read as tracklets of KITTI"):
        KittiRaw(str(tmp_path)).scenes("train")[0][1]()


def test_raw_splits_are_eigens(tmp_path):
    assert len(TEST_DRIVES) == 28
    write_raw(tmp_path, drive="0002", frames=2)
    write_raw(tmp_path, drive="0001", frames=2)
    source = KittiRaw(str(tmp_path))
    assert {split: [name for name, _ in source.scenes(split)] for split in source.splits()} == {
        "train": ["2011_09_26_drive_0001_sync"],
        "test": ["2011_09_26_drive_0002_sync"],
    }


def test_360_is_where_the_writer_put_it_through_fisheyes_too(tmp_path):
    taken = write_360(tmp_path)
    source = Kitti360(str(tmp_path))
    names = [name for name, _ in source.scenes("train")]
    assert names == [f"{DRIVE}_0000000003", f"{DRIVE}_0000000018"]  # parted where poses are missing for long
    for (_, load), frames in zip(source.scenes("train"), ((3, 4, 5, 6), (18, 19)), strict=True):
        scene = load()
        assert [camera.lens.kind for camera in scene.cameras] == ["pinhole", "pinhole", "unified", "unified"]
        assert len(scene.frames) == 4 * len(frames) and not scene.left_out
        check_frames(scene, of_drive(taken, first=frames[0]), static_points(240))


@pytest.mark.parametrize("boxes", [True, False])
def test_360_tells_points_of_boxes_that_move(tmp_path, boxes):
    taken = write_360(tmp_path)
    if boxes:
        write_boxes_360(tmp_path)
    loaders = Kitti360(str(tmp_path), window=1).scenes("train")
    for (_, load), frame in zip(loaders, (3, 4, 5, 6, 18, 19), strict=True):
        scene, (points, on_van) = load(), points_360(frame)
        images = of_drive(taken, first=frame)
        moving = on_van if boxes else None
        check_frames(scene, images, static_points(240), lidar=points, moving=moving)
        if boxes:
            assert sum(decode_depth(image.depth).moving.sum() for image in scene.frames) >= 2


def test_360_names_boxes_that_do_not_read(tmp_path):
    write_360(tmp_path)
    path = write_boxes_360(tmp_path)
    for change in (("<rows>4", "<rows>5"), ("</opencv_storage>", ""), ("<timestamp>3", "<timestamp>x")):
        text = path.read_text()
        path.write_text(text.replace(*change))
        with pytest.raises(BadRecord, match=f"{DRIVE}.xml: does not read as boxes of KITTI-360"):
            Kitti360(str(tmp_path)).scenes("train")[0][1]()
        path.write_text(text)


def test_360_counts_images_without_pose(tmp_path):
    write_360(tmp_path)
    left_out = Kitti360(str(tmp_path)).left_out()
    assert len(left_out) == 3 * 4 and {entry.kind for _, entry in left_out} == {"unmatched"}
    assert "0000000007.png" in left_out[2][1].reason and "has no pose of frame 7" in left_out[2][1].reason
    chosen = Kitti360(str(tmp_path), cameras=("image_00", "image_02"), validation=(DRIVE,))
    assert len(chosen.left_out()) == 3 * 2 and chosen.splits() == ("val",)


def test_360_names_a_camera_that_there_is_not(tmp_path):
    write_360(tmp_path)
    source = Kitti360(str(tmp_path), cameras=("image_00", "image_09"))
    assert len(source.left_out()) == 3
    with pytest.raises(BadRecord, match=r"has no images or calibration of \['image_09'\]; .*set cameras="):
        source.scenes("train")[0][1]()


def test_360_names_a_fisheye_that_lacks_a_number(tmp_path):
    write_360(tmp_path)
    path = tmp_path / "calibration" / "image_03.yaml"
    path.write_text(path.read_text().replace("gamma2", "gamma3"))
    with pytest.raises(BadRecord, match="image_03.yaml: lacks what a camera of Mei's model has .*gamma2"):
        Kitti360(str(tmp_path)).scenes("train")[0][1]()
