"""Poses and times that a user knows, by every format that is read, of any subset of the images."""

import json

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from rig3r_jax.data.image_names import match_names
from rig3r_jax.formats.calibration import CalibratedCamera, RigCalibration
from rig3r_jax.formats.cameras_json import write_cameras
from rig3r_jax.geometry.camera import Pinhole
from rig3r_jax.inference.known_poses import read_poses
from rig3r_jax.inference.known_times import read_times, with_steps
from rig3r_jax.inference.photographs import Photograph
from rig3r_jax.schema import PosedImage, Reconstruction

LENS = Pinhole(np.array([[95.0, 0, 58.0], [0, 96.0, 47.0], [0, 0, 1]]))


def pose(angle, *position):
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("yx", [angle, 5.0], degrees=True).as_matrix()
    matrix[:3, 3] = position
    return matrix


POSES = [pose(10, 1, 2, 3), pose(20, 1.5, 2, 3.5), pose(40, 3, 2, 4)]
PLACES = {"front": np.eye(4), "left": pose(-70, -0.8, 0.1, -0.4)}
RIG = RigCalibration(tuple(CalibratedCamera(name, LENS, None, place) for name, place in PLACES.items()), "front")


@pytest.fixture
def flat(tmp_path):
    return [Photograph(tmp_path / f"shot{n}.jpg", f"shot{n}.jpg") for n in range(3)]


@pytest.fixture
def rig_images(tmp_path):
    names = [(f"{camera}/{step}.jpg", camera, step) for step in range(3) for camera in PLACES]
    return [Photograph(tmp_path / name, name, camera, step) for name, camera, step in names]


def tum_row(first, matrix):
    x, y, z, w = Rotation.from_matrix(matrix[:3, :3]).as_quat()
    return f"{first} {' '.join(f'{value:.12f}' for value in (*matrix[:3, 3], x, y, z, w))}"


def check(result, expected, unit):
    poses, stated_unit, notes = result
    assert stated_unit == unit and poses.keys() == expected.keys()
    for name, matrix in expected.items():
        np.testing.assert_allclose(poses[name], matrix, atol=1e-9)
    assert f"of {len(expected)} of " in notes[0]


def test_rows_of_tum_by_name_are_of_a_subset(tmp_path, flat):
    rows = [tum_row(f"../images/shot{n}.jpg", POSES[n]) for n in (2, 0)]
    (tmp_path / "poses.txt").write_text("# name tx ty tz qx qy qz qw\n" + "\n".join(rows))
    result = read_poses(tmp_path / "poses.txt", flat, {})
    check(result, {"shot0.jpg": POSES[0], "shot2.jpg": POSES[2]}, "metre")
    (tmp_path / "poses.txt").write_text("\n".join([rows[0], rows[0]]))
    with pytest.raises(ValueError, match=r"line 2: ../images/shot2.jpg is there twice"):
        read_poses(tmp_path / "poses.txt", flat, {})
    (tmp_path / "poses.txt").write_text("other.jpg 0 0 0 0 0 0 1")
    with pytest.raises(
        ValueError, match="such as other.jpg, are of none of the 3 images, such as shot0.jpg, shot1.jpg"
    ):
        read_poses(tmp_path / "poses.txt", flat, {})
    (tmp_path / "poses.txt").write_text("shot0.jpg 0 0 0 0 0 0 7")
    with pytest.raises(ValueError, match="line 1: quaternion .* has length 7"):
        read_poses(tmp_path / "poses.txt", flat, {})


def test_a_trajectory_by_time_wants_times(tmp_path, flat):
    (tmp_path / "poses.txt").write_text("\n".join(tum_row(0.1 * n, POSES[n]) for n in range(3)))
    with pytest.raises(ValueError, match="go by time, and nothing tells when the images were taken; give --times"):
        read_poses(tmp_path / "poses.txt", flat, {})
    times = {"shot0.jpg": 0.1, "shot1.jpg": 0.15, "shot2.jpg": 7.0}
    poses, _, notes = read_poses(tmp_path / "poses.txt", flat, times)
    np.testing.assert_allclose(poses["shot0.jpg"], POSES[1], atol=1e-9)
    np.testing.assert_allclose(poses["shot1.jpg"][:3, 3], (POSES[1][:3, 3] + POSES[2][:3, 3]) / 2)
    assert "shot2.jpg" not in poses and notes[0].startswith("poses in poses.txt of 2 of 3 images")
    named = [Photograph(tmp_path / f"0.{n}.jpg", f"0.{n}.jpg") for n in range(3)]  # by their times
    check(read_poses(tmp_path / "poses.txt", named, {}), {one.name: POSES[n] for n, one in enumerate(named)}, "metre")


def test_a_rig_s_trajectory_places_every_camera(tmp_path, rig_images):
    (tmp_path / "poses.txt").write_text("\n".join(tum_row(n, POSES[n]) for n in range(3)))
    times = {one.name: float(one.step) for one in rig_images}
    expected = {one.name: POSES[one.step] @ PLACES[one.camera] for one in rig_images}
    check(read_poses(tmp_path / "poses.txt", rig_images, times, RIG), expected, "metre")
    with pytest.raises(ValueError, match="nothing says where front, left sits in it; give --rig"):
        read_poses(tmp_path / "poses.txt", rig_images, times)
    kitti = [" ".join(map(repr, matrix[:3].ravel().tolist())) for matrix in POSES]
    (tmp_path / "kitti.txt").write_text("\n".join(kitti))
    check(read_poses(tmp_path / "kitti.txt", rig_images, {}, RIG), expected, "metre")
    (tmp_path / "each").mkdir()
    (tmp_path / "each/left.txt").write_text("\n".join(tum_row(n, POSES[n]) for n in range(3)))
    of_left = {one.name: POSES[one.step] for one in rig_images if one.camera == "left"}
    check(read_poses(tmp_path / "each", rig_images, times), of_left, "metre")


def test_poses_of_colmap_are_inverted_and_of_no_known_unit(tmp_path, flat):
    pytest.importorskip("pycolmap")
    folder = tmp_path / "sparse/0"
    folder.mkdir(parents=True)
    (folder / "cameras.txt").write_text("1 PINHOLE 120 90 95 96 58 47\n")
    rows = []
    for number in (0, 2):
        camera_from_world = np.linalg.inv(POSES[number])
        x, y, z, w = Rotation.from_matrix(camera_from_world[:3, :3]).as_quat()
        values = " ".join(f"{value:.12f}" for value in (w, x, y, z, *camera_from_world[:3, 3]))
        rows.append(f"{number + 1} {values} 1 shot{number}.jpg\n\n")
    (folder / "images.txt").write_text("".join(rows))
    (folder / "points3D.txt").write_text("")
    expected = {"shot0.jpg": POSES[0], "shot2.jpg": POSES[2]}
    for path in (tmp_path, folder, folder / "images.txt"):
        check(read_poses(path, flat, {}), expected, "scene")


def test_poses_of_csv_transforms_and_our_own_file(tmp_path, flat):
    x, y, z, w = Rotation.from_matrix(POSES[1][:3, :3]).as_quat()
    numbers = ",".join(f"{value:.12f}" for value in (w, x, y, z, *POSES[1][:3, 3]))
    (tmp_path / "poses.csv").write_text(f"image,qw,qx,qy,qz,x,y,z\nshot1.jpg,{numbers}\n")
    expected = {"shot1.jpg": POSES[1]}
    check(read_poses(tmp_path / "poses.csv", flat, {}), expected, "metre")
    frame = {"file_path": "images/shot1", "transform_matrix": (POSES[1] @ np.diag([1, -1, -1, 1])).tolist()}
    content = {"fl_x": 95, "cx": 58, "cy": 47, "frames": [frame]}
    (tmp_path / "transforms.json").write_text(json.dumps(content))
    check(read_poses(tmp_path / "transforms.json", flat, {}), expected, "scene")
    for unit in ("metre", "scene"):
        image = PosedImage("shot1.jpg", 120, 90, LENS, POSES[1])
        write_cameras(tmp_path / "mine.json", Reconstruction((image,), length_unit=unit))
        check(read_poses(tmp_path / "mine.json", flat, {}), expected, unit)


@pytest.mark.parametrize(
    "text, unit",
    [
        ("10.0 shot0.jpg\n10.5 shot1.jpg", "auto"),  # TUM
        ("shot0.jpg 10.0\nshot1.jpg 10.5\n", "auto"),
        ("image, time [ms]\nshot0.jpg, 10000\nshot1.jpg, 10500", "auto"),
        ("time_ns,image\n10000000000,a/shot0.jpg\n10500000000,a/shot1.jpg", "auto"),
        ("# no header\n10000 shot0\n10500 shot1", "ms"),
    ],
)
def test_times_are_read_in_any_order_and_unit(tmp_path, flat, text, unit):
    (tmp_path / "times.txt").write_text(text)
    times, notes = read_times(tmp_path / "times.txt", flat, unit)
    assert times == {"shot0.jpg": 10.0, "shot1.jpg": 10.5}
    assert notes[0].startswith("times of 2 of 3 images (times.txt, ")


def test_times_of_names_with_spaces_numbers_and_of_no_names(tmp_path, flat):
    spaced = [Photograph(tmp_path / "my shot 1.jpg", "my shot 1.jpg")]
    (tmp_path / "times.txt").write_text("0.5 my shot 1.jpg")
    assert read_times(tmp_path / "times.txt", spaced)[0] == {"my shot 1.jpg": 0.5}
    (tmp_path / "times.txt").write_text("0\n0.5\n1.0")
    assert read_times(tmp_path / "times.txt", flat)[0] == {"shot0.jpg": 0.0, "shot1.jpg": 0.5, "shot2.jpg": 1.0}
    (tmp_path / "times.txt").write_text("0\n0.5")
    with pytest.raises(ValueError, match="has 2 times and no names, for 3 images; give a row for each"):
        read_times(tmp_path / "times.txt", flat)
    numbered = [Photograph(tmp_path / f"{n:06d}.png", f"{n:06d}.png") for n in (1, 2)]
    (tmp_path / "times.txt").write_text("000001 0.05\n000002 0.10")
    assert read_times(tmp_path / "times.txt", numbered)[0] == {"000001.png": 0.05, "000002.png": 0.1}
    stamped = [Photograph(tmp_path / f"{n}.png", f"{n}.png") for n in (1403715273262142976, 1403715273312143104)]
    seconds = read_times("names", stamped)[0]
    np.testing.assert_allclose(np.diff([*seconds.values()]), 0.050000128, atol=3e-7)
    with pytest.raises(ValueError, match="shot0.jpg is no time"):
        read_times("names", flat)


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "holds no time"),
        ("1.0 a.jpg\n2.0 b.jpg", "its names, such as a.jpg, b.jpg, are of none of the 3 images, such as shot0.jpg"),
        ("1.0 shot0.jpg\n2.0 shot0.jpg", "lists shot0.jpg twice"),
        ("1.0 shot0.jpg\nx shot1.jpg", "line 2: 'x' must be a finite number"),
        ("1.0 shot0.jpg\n2.0", "line 2: '2.0' must be a time and an image"),
        ("1,2,shot0.jpg", "must be a time and an image"),
    ],
)
def test_times_that_cannot_be_used_are_refused_in_a_line(tmp_path, flat, text, message):
    (tmp_path / "times.txt").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_times(tmp_path / "times.txt", flat)


def test_cameras_share_times_by_name(tmp_path, rig_images):
    (tmp_path / "times.txt").write_text("0.0 0\n0.5 1\n1.0 2.jpg")
    times, notes = read_times(tmp_path / "times.txt", rig_images)
    assert times == {one.name: one.step / 2 for one in rig_images} and "of names that cameras share" in notes[0]


def test_time_steps_are_of_times_where_no_names_are_shared(tmp_path):
    files = [("a", "100"), ("b", "101"), ("a", "200"), ("b", "201"), ("b", "305")]
    images = [Photograph(tmp_path / f"{c}/{n}.jpg", f"{c}/{n}.jpg", c, step) for step, (c, n) in enumerate(files)]
    times = {one.name: int(one.path.stem) / 1000 for one in images[:-1]}
    stepped, notes = with_steps(images, times)
    assert [(one.name, one.step) for one in stepped] == [
        ("a/100.jpg", 0), ("b/101.jpg", 0), ("a/200.jpg", 1), ("b/201.jpg", 1), ("b/305.jpg", 2)
    ]  # fmt: skip
    assert notes == ["2 time steps of cameras within 0.02 s; 1 images without a time"]
    assert with_steps(images, {}) == (images, [
        "no two cameras share a name: no image counts as taken together with another (--times)"
    ])  # fmt: skip


def test_names_are_matched_by_their_ends_and_never_guessed():
    images = ["front/0.jpg", "left/0.jpg", "1.jpg", "x/1.jpg", "a b/ü.jpg"]
    listed = {
        "front/0.jpg": "front/0.jpg",
        "..\\images\\left\\0.jpg": "left/0.jpg",
        "/abs/olute/left/0.jpg": None,  # the same once more, below
        "0.jpg": None,  # of two
        "1.jpg": "1.jpg",
        "./x/1": "x/1.jpg",
        "ü.jpg": "a b/ü.jpg",
        "../../etc/passwd": None,
    }
    del listed["/abs/olute/left/0.jpg"]
    assert match_names(listed, images, "f") == {name: image for name, image in listed.items() if image}
    with pytest.raises(ValueError, match="f: both left/0.jpg and /abs/left/0.jpg are the image left/0.jpg"):
        match_names(["left/0.jpg", "/abs/left/0.jpg"], images, "f")
