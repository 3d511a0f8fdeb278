"""Poses, times of names, models and clouds in the layouts of other tools, written here by hand."""

import os
import signal
import struct

import laspy
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from rig3r_jax.formats.colmap import read_model
from rig3r_jax.formats.kapture import read_kapture
from rig3r_jax.formats.kitti_poses import read_poses, write_poses
from rig3r_jax.formats.lzf import decode_lzf
from rig3r_jax.formats.point_cloud import read_points
from rig3r_jax.formats.pose_csv import read_pose_table
from rig3r_jax.formats.times import times_of_names

TURN = Rotation.from_euler("xyz", [10, 20, 30], degrees=True)


def test_kitti_rows_are_world_from_camera(tmp_path):
    row = np.concatenate([TURN.as_matrix(), [[1.0], [2.0], [3.0]]], axis=1)
    (tmp_path / "poses.txt").write_text(" ".join(f"{value:.6e}" for value in row.ravel()) + "\n")
    (pose,) = read_poses(tmp_path / "poses.txt")
    np.testing.assert_allclose(pose[:3], row, atol=1e-6)
    write_poses(tmp_path / "again.txt", pose[None])
    np.testing.assert_allclose(read_poses(tmp_path / "again.txt")[0], pose, atol=1e-15)
    (tmp_path / "poses.txt").write_text("1 0 0 0 0 1 0 0\n")
    with pytest.raises(ValueError, match="poses.txt, line 1: has 8 values, must be 12"):
        read_poses(tmp_path / "poses.txt")


def test_pose_tables_are_read_by_column_names(tmp_path):
    x, y, z, w = TURN.as_quat()
    file = tmp_path / "poses.csv"
    file.write_text(f"image,qw,qx,qy,qz,speed,tx,ty,tz\nfront/1.png,{w},{x},{y},{z},9,1,2,3\n")
    table = read_pose_table(file)
    assert table.images == ("front/1.png",) and table.times is None
    np.testing.assert_allclose(table.world_from_body[0, :3, :3], TURN.as_matrix(), atol=1e-12)
    np.testing.assert_array_equal(table.world_from_body[0, :3, 3], [1, 2, 3])
    euroc = (
        "#timestamp,p_RS_R_x [m],p_RS_R_y [m],p_RS_R_z [m],q_RS_w [],q_RS_x [],q_RS_y [],q_RS_z [],v_RS_R_x [m s^-1]"
    )
    file.write_text(f"{euroc}\n1403715274312143104,1,2,3,{w},{x},{y},{z},7\n")
    table = read_pose_table(file)
    assert table.time_unit == "ns" and abs(table.times[0] - 1403715274.312143104) < 1e-6
    np.testing.assert_allclose(table.world_from_body[0, :3, :3], TURN.as_matrix(), atol=1e-12)
    file.write_text("time,x,y,z\n1,2,3,4\n")
    with pytest.raises(ValueError, match="poses.csv: columns .* lack qx, qy, qz, qw"):
        read_pose_table(file)


def test_pose_tables_are_not_read_from_velocities(tmp_path):
    x, y, z, w = TURN.as_quat()
    file = tmp_path / "poses.csv"
    file.write_text(f"time_ms,v_x,v_y,v_z,pose_position_x,pos_y,t_z,q_x,q_y,q_z,q_w\n5,7,8,9,1,2,3,{x},{y},{z},{w}\n")
    table = read_pose_table(file)
    np.testing.assert_array_equal(table.world_from_body[0, :3, 3], [1, 2, 3])
    assert (table.time_unit, table.times.tolist()) == ("ms", [0.005])
    assert read_pose_table(file, "us").times.tolist() == [5e-6]
    file.write_text(f"time,twist_linear_x,v_y,v_z,qx,qy,qz,qw\n5,7,8,9,{x},{y},{z},{w}\n")
    with pytest.raises(ValueError, match="poses.csv: columns .* lack x, y, z; name the columns so"):
        read_pose_table(file)


def test_euroc_truth_table(shared):
    table = read_pose_table(shared / "realdata/trajectories_gt/euroc_V101_GT.txt")
    assert table.time_unit == "ns" and abs(np.median(np.diff(table.times)) - 0.05) < 1e-6


@pytest.mark.parametrize(
    "names, unit, seconds",
    [
        (["1403715273262142976", "1403715273312143104"], "ns", [1403715273.262142976, 1403715273.312143104]),
        (["1561645824993", "1561645825093"], "ms", [1561645824.993, 1561645825.093]),
        (["12.25", "12.5"], "s", [12.25, 12.5]),
    ],
)
def test_names_that_are_times(names, unit, seconds):
    times, told = times_of_names(names, "auto", "images")
    assert told == unit
    np.testing.assert_array_equal(times, seconds)


def test_names_that_are_no_times():
    assert times_of_names(["000001", "000002"], "auto", "images") is None
    assert times_of_names(["frame-1"], "auto", "images") is None
    np.testing.assert_array_equal(times_of_names(["5000", "5100"], "ms", "images")[0], [5.0, 5.1])


POINTS = np.array([[1.0, 2.0, 3.0], [-4.5, 5.25, 6.0]])


def write_cloud(path):
    """By the formats' own words, without the package."""
    rows = np.concatenate([POINTS, [[7.0], [8.0]]], axis=1)
    if path.suffix == ".bin":
        path.write_bytes(rows.astype("<f4").tobytes())
    elif path.suffix == ".npy":
        np.save(path, rows)
    elif path.suffix == ".ply":
        axes = "".join(f"property float {axis}\n" for axis in "xyz")
        head = f"ply\nformat ascii 1.0\nelement vertex 2\n{axes}end_header\n"
        path.write_text(head + "".join(f"{x} {y} {z}\n" for x, y, z in POINTS))
    elif path.suffix in (".las", ".laz"):
        cloud = laspy.create()
        cloud.x, cloud.y, cloud.z = POINTS.T
        cloud.write(str(path))
    else:
        head = "# .PCD v0.7\nVERSION 0.7\nFIELDS intensity x y z\nSIZE 1 4 4 4\nTYPE U F F F\nCOUNT 1 1 1 1\n"
        head += f"WIDTH 2\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS 2\nDATA {path.stem}\n"
        body = b"".join(struct.pack("<Bfff", 9, *point) for point in POINTS)
        if path.stem == "binary_compressed":
            # All of one field after the other: a byte per point, then floats; each in a run as it is.
            floats = np.concatenate(POINTS.T).astype("<f4").tobytes()
            code = b"\x00\x09" + b"\x00\x09" + bytes([len(floats) - 1]) + floats
            body = struct.pack("<II", len(code), 2 + len(floats)) + code
        if path.stem == "ascii":
            body = "".join(f"9 {x} {y} {z}\n" for x, y, z in POINTS).encode()
        path.write_bytes(head.encode() + body)


@pytest.mark.parametrize(
    "name", ["a.bin", "a.npy", "a.ply", "a.las", "a.laz", "ascii.pcd", "binary.pcd", "binary_compressed.pcd"]
)
def test_points_of_every_kind_of_file(tmp_path, name):
    write_cloud(tmp_path / name)
    np.testing.assert_allclose(read_points(tmp_path / name), POINTS, atol=0.006)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-9])
    with pytest.raises(ValueError, match=name):
        read_points(tmp_path / name)


def test_compressed_points_are_read_in_a_fork_of_a_process_that_has_read_some(tmp_path):
    """Reading as laspy does by itself starts threads, which the fork does not have."""
    write_cloud(tmp_path / "a.laz")
    assert len(laspy.read(tmp_path / "a.laz")) == len(POINTS)
    child = os.fork()
    if not child:
        signal.alarm(20)  # ends it where it waits for them
        os._exit(len(read_points(tmp_path / "a.laz")))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == len(POINTS)


def test_points_that_cannot_be_read(tmp_path):
    (tmp_path / "a.bin").write_bytes(bytes(20))
    with pytest.raises(ValueError, match="a.bin: 20 bytes are no rows of 4 float32 numbers; set lidar_columns"):
        read_points(tmp_path / "a.bin")
    assert len(read_points(tmp_path / "a.bin", 5)) == 1
    write_cloud(tmp_path / "packed.pcd")
    with pytest.raises(ValueError, match="DATA packed must be ascii, binary or binary_compressed; convert it"):
        read_points(tmp_path / "packed.pcd")
    write_cloud(tmp_path / "binary_compressed.pcd")
    content = (tmp_path / "binary_compressed.pcd").read_bytes()
    (tmp_path / "binary_compressed.pcd").write_bytes(content.replace(b"POINTS 2", b"POINTS 2000000000"))
    with pytest.raises(ValueError, match="for 26 of points; .* its header says 26000000000; restore"):
        read_points(tmp_path / "binary_compressed.pcd")
    write_cloud(tmp_path / "ascii.pcd")
    polar = (tmp_path / "ascii.pcd").read_text().replace("FIELDS intensity x y z", "FIELDS intensity r y z")
    (tmp_path / "ascii.pcd").write_text(polar)
    with pytest.raises(ValueError, match="ascii.pcd: has the fields intensity r y z, must have x y z"):
        read_points(tmp_path / "ascii.pcd")
    with pytest.raises(ValueError, match="must be one of .bin"):
        read_points(tmp_path / "a.xyz")


def test_kapture_is_sensor_from_world(tmp_path):
    x, y, z, w = TURN.as_quat()
    folder = tmp_path / "sensors"
    folder.mkdir()
    for name, text in {
        "sensors.txt": "# kapture format: 1.1\n"
        "left, T265, camera, OPENCV_FISHEYE, 848, 800, 285, 286, 425, 399, 0.1, 0.2, 0.3, 0.4\n"
        "right, , camera, PINHOLE, 640, 480, 500, 500, 320, 240\nimu, , other\n",
        "rigs.txt": "rig, left, 1, 0, 0, 0, 0, 0, 0\nrig, right, 1, 0, 0, 0, -0.5, 0, 0\n",
        "trajectories.txt": f"20, rig, {w}, {x}, {y}, {z}, 1, 2, 3\n",
        "records_camera.txt": "20, right, right/20.png\n20, left, left/20.png\n30, left, left/30.png\n",
    }.items():
        (folder / name).write_text(text)
    data = read_kapture(tmp_path)
    left, right, without = data.images
    assert without.world_from_camera is None and [image.name for image in data.images[:2]] == [
        "left/20.png",
        "right/20.png",
    ]
    point_world = np.array([0.3, 0.4, 0.5])
    expected = TURN.apply(point_world) + [1, 2, 3]
    for image, shift in ((left, 0.0), (right, -0.5)):
        point_camera = np.linalg.solve(image.world_from_camera, [*point_world, 1.0])[:3]
        np.testing.assert_allclose(point_camera, expected + [shift, 0, 0], atol=1e-12)
    assert data.rigs["rig"].named("left").lens.kind == "fisheye" and data.rigs["rig"].named("right").size == (480, 640)


def test_a_camera_of_kapture_that_is_no_number_wide_is_named(tmp_path):
    (tmp_path / "sensors").mkdir()
    (tmp_path / "sensors/sensors.txt").write_text("left, , camera, PINHOLE, inf, 480, 500, 500, 320, 240\n")
    with pytest.raises(ValueError, match="sensors.txt.*: a camera has model, width, height and parameters"):
        read_kapture(tmp_path)


def write_text_model(folder, stale=True):
    """Two cameras of a rig at one time; images.txt with poses that are out of date, as COLMAP 4.2 writes it."""
    x, y, z, w = TURN.as_quat()
    files = {
        "cameras": "1 PINHOLE 640 480 500 500 320 240\n2 SIMPLE_RADIAL 640 480 400 320 240 -0.1\n",
        "rigs": "1 2 CAMERA 1 CAMERA 2 1 1 0 0 0 0.5 0 0\n",
        "frames": f"1 1 {w} {x} {y} {z} 1 2 3 2 CAMERA 1 1 CAMERA 2 2\n",
        "images": f"1 {w} {x} {y} {z} 1 2 3 1 a/0.png\n\n2 1 0 0 0 9 9 9 2 b/0.png\n10.5 20.25 1\n",
        "points3D": "1 0.1 0.2 7 255 0 0 0.5 2 0\n",
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.txt").write_text(text)
    return folder


def test_colmap_poses_are_those_of_frames_and_rigs(tmp_path):
    pytest.importorskip("pycolmap")
    model = read_model(write_text_model(tmp_path / "sparse"))
    first, second = model.reconstruction.images
    point_world = np.array([0.3, 0.4, 5.0])
    in_rig = TURN.apply(point_world) + [1, 2, 3]
    np.testing.assert_allclose(np.linalg.solve(first.world_from_camera, [*point_world, 1])[:3], in_rig, atol=1e-12)
    np.testing.assert_allclose(
        np.linalg.solve(second.world_from_camera, [*point_world, 1])[:3], in_rig + [0.5, 0, 0], atol=1e-12
    )
    assert model.frames == {"a/0.png": 1, "b/0.png": 1} and model.rigs == {1: 1, 2: 1}
    np.testing.assert_array_equal(model.reconstruction.cameras[1].rig_from_camera[:3, 3], [-0.5, 0, 0])
    seen = model.observations["b/0.png"]
    assert seen.pixels.tolist() == [[10.5, 20.25]] and model.points_world[seen.points].tolist() == [[0.1, 0.2, 7.0]]
    assert not len(model.observations["a/0.png"].points)


def test_colmap_model_of_the_lund_door(shared):
    pytest.importorskip("pycolmap")
    model = read_model(shared / "realdata/colmap_lund_door/sparse_txt")
    errors = []
    for image in model.reconstruction.images:
        seen = model.observations[image.name]
        camera_from_world = np.linalg.inv(image.world_from_camera)
        points_camera = model.points_world[seen.points] @ camera_from_world[:3, :3].T + camera_from_world[:3, 3]
        errors.append(np.linalg.norm(image.lens.project(points_camera) - seen.pixels, axis=1))
    errors = np.concatenate(errors)
    assert (
        len(errors) == 73327 and round(float(np.median(errors)), 2) == 0.22 and round(float(errors.mean()), 2) == 0.36
    )


def test_damaged_colmap_models_are_one_message(tmp_path):
    pytest.importorskip("pycolmap")
    with pytest.raises(ValueError, match="holds no COLMAP model"):
        read_model(tmp_path)
    folder = write_text_model(tmp_path / "sparse")
    (folder / "cameras.txt").write_text("1 FOV 640 480 500 500 320 240 0.9\n")
    with pytest.raises(ValueError, match="sparse"):
        read_model(folder)
    write_text_model(folder)
    (folder / "images.txt").write_text("1 0.5 what\n\n")
    with pytest.raises(ValueError, match="sparse"):
        read_model(folder)
    write_text_model(folder)
    (folder / "images.txt").write_bytes((folder / "images.txt").read_bytes().replace(b"b/0.png", b"b/\xfd.png"))
    with pytest.raises(ValueError, match="sparse: pycolmap does not read .*images.txt.* codec can't decode"):
        read_model(folder)
    write_text_model(folder)
    (folder / "rigs.txt").write_text("1 2 CAMERA 1 CAMERA 2 0\n")
    with pytest.raises(ValueError, match="sparse: its rig 1 has no pose of camera 2; restore the file of rigs"):
        read_model(folder)
    (folder / "points3D.txt").write_text("version https://git-lfs.github.com/spec/v1\nsize 12\n")
    with pytest.raises(ValueError, match="points3D.txt: is a Git LFS pointer"):
        read_model(folder)


# What liblzf 3.6 makes of PLAIN: runs, a short copy, and long ones that reach into what they write.
PLAIN = bytes(range(60)) + b"rig3r " * 60 + bytes(300)
CODE = (
    b"\x1f" + bytes(range(32)) + b"\x1f" + bytes(range(32, 60)) + b"rig3\x01r \xe0\xff\x05\xe1Q\x07\x00\x00"
    b"\xe0\xff\x00\xe0\x18\x00\x01\x00\x00"
)  # fmt: skip


def test_lzf_decodes_what_liblzf_writes():
    assert decode_lzf(CODE, len(PLAIN)) == PLAIN and decode_lzf(b"", 0) == b""
    for size, message in ((len(PLAIN) + 1, "holds 720 of the 721 bytes"), (10, "more than the 10 bytes that are")):
        with pytest.raises(ValueError, match=message):
            decode_lzf(CODE, size)
    for cut in range(1, len(CODE)):
        with pytest.raises(ValueError, match="ends within|bytes that are stated"):
            decode_lzf(CODE[:cut], len(PLAIN))
    with pytest.raises(ValueError, match="copies from before its start"):
        decode_lzf(b"\x20\x00", 10)
