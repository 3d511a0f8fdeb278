"""TUM's text files: what is written comes back, what is no pose is named, times are matched as by brute force."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from rig3r_jax.formats import tum


def transforms(count, seed=0, angle=np.pi):
    rng = np.random.default_rng(seed)
    axes = rng.normal(size=(count, 3))
    matrices = np.tile(np.eye(4), (count, 1, 1))
    turns = angle * axes / np.linalg.norm(axes, axis=1, keepdims=True)
    matrices[:, :3, :3] = Rotation.from_rotvec(turns).as_matrix()
    matrices[:, :3, 3] = rng.normal(size=(count, 3)) * 10.0 ** rng.integers(-6, 4, (count, 1))
    return matrices


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1.0, np.pi - 1e-7, np.pi])
@pytest.mark.parametrize("count", [1, 50])
def test_trajectory_round_trip(tmp_path, count, angle):
    times = 1305031100.0 + np.sort(np.random.default_rng(1).uniform(0, 1, count))
    matrices = transforms(count, angle=angle)
    path = tmp_path / "deep" / "groundtruth.txt"
    tum.write_trajectory(path, times, matrices)
    read = tum.read_trajectory(path)
    np.testing.assert_array_equal(read.times, times)
    np.testing.assert_array_equal(read.world_from_camera[:, :3, 3], matrices[:, :3, 3])
    np.testing.assert_allclose(read.world_from_camera, matrices, atol=1e-14)


def test_quaternion_is_scalar_last_and_normalised(tmp_path):
    path = tmp_path / "groundtruth.txt"
    path.write_text("# a comment\n\n  # another\n1.5 1 2 3 0 0 0.72 0.72\r\n1.5 4 5 6 0 0 0 -1\n")
    read = tum.read_trajectory(path)
    np.testing.assert_allclose(read.world_from_camera[0], [[0, -1, 0, 1], [1, 0, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1]])
    np.testing.assert_allclose(read.world_from_camera[1, :3, :3], np.eye(3))
    np.testing.assert_array_equal(read.times, [1.5, 1.5])  # TUM's own files repeat times


@pytest.mark.parametrize("name", ["fr2_desk_groundtruth", "freiburg1_xyz-rgbdslam"])
def test_real_trajectory_against_the_quaternion_formula(shared, name):
    path = shared / f"realdata/trajectories_gt/{name}.txt"
    table = np.loadtxt(path)
    x, y, z, w = (table[:, 4:] / np.linalg.norm(table[:, 4:], axis=1, keepdims=True)).T
    expected = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    read = tum.read_trajectory(path)
    np.testing.assert_array_equal(read.times, table[:, 0])
    np.testing.assert_allclose(read.world_from_camera[:, :3, :3], np.moveaxis(expected, -1, 0), atol=1e-12)
    np.testing.assert_array_equal(read.world_from_camera[:, :3, 3], table[:, 1:4])


ROWS = {
    "1.0 0 0 0 0 0 0": "line 2: has 7 values, must be 8",
    "1.0 0 0 0 0 0 0 1 9": "line 2: has 9 values",
    "1.0 0 0 0 0 0 0 0": "line 2: quaternion .*length 0, must be 1; remove",
    "1.0 0 0 0 0 0 0 2": "length 2, must be 1",
    "1.0 nan 0 0 0 0 0 1": "line 2: 'nan' must be a finite number",
    "soon 0 0 0 0 0 0 1": "'soon' must be a finite number",
    "1e999 0 0 0 0 0 0 1": "'1e999' must be a finite",
    "5.0 0 0 0 0 0 0 1\n4.0 0 0 0 0 0 0 1": "line 3: time 4.0 comes after 5.0; sort the rows",
    "": "holds no pose",
}


@pytest.mark.parametrize("rows", ROWS)
def test_row_that_is_no_pose_is_named(tmp_path, rows):
    path = tmp_path / "groundtruth.txt"
    path.write_text(f"# header\n{rows}\n")
    with pytest.raises(ValueError, match=f"groundtruth.txt.*{ROWS[rows]}"):
        tum.read_trajectory(path)


def test_files_that_do_not_read_are_named(tmp_path):
    for read in (tum.read_trajectory, tum.read_file_list, tum.read_associations):
        with pytest.raises(ValueError, match="nowhere.txt: cannot be read .No such file"):
            read(tmp_path / "nowhere.txt")
        (tmp_path / "image.txt").write_bytes(b"\x89PNG\r\n\x1a\n\xff\xfe")
        with pytest.raises(ValueError, match="image.txt: is no text"):
            read(tmp_path / "image.txt")


@pytest.mark.parametrize("case", ["scaled", "mirrored", "not finite", "last row", "time", "order", "none"])
def test_what_is_no_trajectory_is_not_written(tmp_path, case):
    times, matrices = np.arange(3.0), transforms(3)
    if case == "scaled":
        matrices[1, :3, :3] *= 1.01
    elif case == "mirrored":
        matrices[1, :3, :3] *= -1
    elif case == "not finite":
        matrices[1, 0, 3] = np.inf
    elif case == "last row":
        matrices[1, 3, 0] = 1
    elif case == "time":
        times[1] = np.nan
    elif case == "order":
        times[1] = -1
    else:
        times, matrices = times[:0], matrices[:0]
    with pytest.raises(ValueError, match="at least one" if case == "none" else "row 1"):
        tum.write_trajectory(tmp_path / "groundtruth.txt", times, matrices)
    assert not any(tmp_path.iterdir())


def test_lists_of_windows_and_of_tables(tmp_path):
    path = tmp_path / "rgb.txt"
    for row in ("1.5 rgb\\a b.png", '"1.5","rgb/a b.png"', '1.5,"rgb\\a b.png"'):
        path.write_text(row + "\n")
        assert tum.read_file_list(path).files == ("rgb/a b.png",)
    path.write_text("1.5 rgb\\a.png 1.6 depth\\a.png\n")
    images, depths = tum.read_associations(path)
    assert images.files + depths.files == ("rgb/a.png", "depth/a.png")


def test_a_comma_in_the_fraction_of_a_time_is_named(tmp_path):
    path, bad_rows = tmp_path / "rgb.txt", []
    path.write_text("1305031102,175 rgb/a.png\n1.5 rgb/b.png\n")
    message = "rgb.txt, line 1: '1305031102,175 rgb/a.png' has a comma in the time's fraction; write a point"
    with pytest.raises(ValueError, match=message):
        tum.read_file_list(path)
    assert tum.read_file_list(path, bad_rows).files == ("rgb/b.png",) and len(bad_rows) == 1


def test_file_list(tmp_path):
    path = tmp_path / "rgb.txt"
    path.write_text("# color images\n1305031100.033300 rgb/a b.png\r\n1305031099.5\trgb/c.png\n")
    read = tum.read_file_list(path)
    assert read.files == ("rgb/a b.png", "rgb/c.png")
    np.testing.assert_array_equal(read.times, [1305031100.0333, 1305031099.5])
    for content, message in (("1.0\n", "line 1: '1.0' must be a time and a file"), ("# none", "lists no file")):
        path.write_text(content)
        with pytest.raises(ValueError, match=message):
            tum.read_file_list(path)


POSES = [[1.5, 1, 2, 3, 0, 0, 0, 1], [1.75, 4, 5, 6, 0, 0, 0, -1]]
AS_TOOLS_WRITE = {
    "commas under names": ("timestamp,tx,ty,tz,qx,qy,qz,qw\n", ",", "\n"),
    "commas and spaces": ("# time, x, y, z, q_x, q_y, q_z, q_w\n", ", ", "\n"),
    "a last comma": ("", ",", ",\r\n"),
    "names without commas": ("\ufefftime tx ty tz qx qy qz qw\n", " ", "\n\n"),
    "tabs": ("# Größe\n", "\t", "\n"),
}


@pytest.mark.parametrize("case", AS_TOOLS_WRITE)
def test_trajectories_of_other_tools(tmp_path, case):
    names, between, end = AS_TOOLS_WRITE[case]
    path = tmp_path / "poses.csv"
    text = names + "".join(between.join(map(str, row)) + end for row in POSES)
    path.write_text(text, encoding="utf-8", newline="")
    read = tum.read_trajectory(path)
    np.testing.assert_array_equal(read.times, [1.5, 1.75])
    np.testing.assert_array_equal(read.world_from_camera[:, :3, 3], [[1, 2, 3], [4, 5, 6]])


@pytest.mark.parametrize(
    "names",
    [
        "timestamp,tx,ty,tz,qw,qx,qy,qz",
        "#timestamp [ns], p_RS_R_x [m], p_RS_R_y [m], p_RS_R_z [m], q_RS_w [], q_RS_x [], q_RS_y [], q_RS_z []",
    ],
)
def test_other_order_of_the_quaternion_is_refused(tmp_path, names):
    path = tmp_path / "poses.csv"
    path.write_text(f"{names}\n1,0,0,0,1,0,0,0\n")
    with pytest.raises(ValueError, match="poses.csv, line 1: names the quaternion in the order wxyz, must be xyzw"):
        tum.read_trajectory(path)


def test_times_come_in_seconds(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("#timestamp [ns],filename\n1403636579763555584,1.png\n1403636579796888917,2.png\n")
    read = tum.read_file_list(path)
    assert read.time_unit == "ns" and read.files == ("1.png", "2.png")
    np.testing.assert_allclose(np.diff(read.times), [1 / 30], atol=1e-6)
    path.write_text("0 a.png 0 b.png\n33.3 c.png 33.4 d.png\n")
    with pytest.raises(ValueError, match=r"data.csv: its times are 33.3 apart .* set time_unit=ms \(0.0333 s apart\)"):
        tum.read_associations(path)
    images, depths = tum.read_associations(path, "ms")
    np.testing.assert_allclose([images.times[1], depths.times[1]], [0.0333, 0.0334])
    path.write_text("1403636579763.5 0 0 0 0 0 0 1\n")
    assert tum.read_trajectory(path).times.tolist() == [1403636579.7635]


@pytest.mark.parametrize("name, count", [("fr1_desk", 573), ("fr2_desk", 2893), ("fr3_office", 2488)])
def test_real_associations_come_back(shared, tmp_path, name, count):
    images, depths = tum.read_associations(shared / f"realdata/trajectories_gt/assoc_{name}.txt")
    assert len(images.files) == len(depths.files) == len(depths.times) == count
    assert np.abs(images.times - depths.times).max() < 0.021
    assert images.files[0].startswith("rgb/") and depths.files[0].startswith("depth/")
    tum.write_associations(tmp_path / "again.txt", images, depths)
    for ours, theirs in zip(tum.read_associations(tmp_path / "again.txt"), (images, depths), strict=True):
        assert ours.files == theirs.files
        np.testing.assert_array_equal(ours.times, theirs.times)


def test_bad_associations_are_named(tmp_path):
    path = tmp_path / "associations.txt"
    one = tum.FileList(np.array([1.0]), ("a.png",))
    for content, message in (("1.0 a.png 2.0\n", "has 3 values, must be 4"), ("", "associates nothing")):
        path.write_text(content)
        with pytest.raises(ValueError, match=message):
            tum.read_associations(path)
    with pytest.raises(ValueError, match="'a b.png' must be one word"):
        tum.write_associations(path, one, tum.FileList(np.array([1.0]), ("a b.png",)))
    with pytest.raises(ValueError, match="equally many"):
        tum.write_associations(path, one, tum.FileList(np.array([1.0, 2.0]), ("a", "b")))


ticks = st.lists(st.integers(0, 40).map(lambda tick: tick / 8), max_size=12)  # eighths: ties are exact


@given(ticks, ticks, st.sampled_from([0.0, 0.125, 0.25, 9.0]), st.booleans())
def test_nearest_is_what_brute_force_finds(times, candidates, within, strict):
    expected = []
    for time in times:
        ranked = sorted((abs(time - c), c, i) for i, c in enumerate(candidates))  # nearest, earliest, first
        good = ranked and (ranked[0][0] < within or (ranked[0][0] == within and not strict))
        expected.append(ranked[0][2] if good else -1)
    found = tum.nearest(np.array(times, np.float64), np.array(candidates, np.float64), within, strict=strict)
    assert found.tolist() == expected
