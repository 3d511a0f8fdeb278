"""The TUM reader on a real recording, on those of the golden vectors, and on made ones with one thing broken."""

import dataclasses
import json
import os
import re
from itertools import pairwise

import cv2
import numpy as np
import pytest

from rig3r_jax import cli
from rig3r_jax.data import sampling, scene_rules
from rig3r_jax.data.bad_frames import has_depth
from rig3r_jax.data.build import build_records
from rig3r_jax.data.record_source import RecordSource
from rig3r_jax.data.scene import BadRecord
from rig3r_jax.data.sources import make_source, tum
from rig3r_jax.data.sources.cut_by_time import SPLITS
from rig3r_jax.data.sources.rgbd import CAMERA
from tests.data.recordings import depth_errors, drop_rows, make_recording, z_depth

REAL = "realdata/tum_fr3_cabinet"
LISTS = ("rgb.txt", "depth.txt", "groundtruth.txt")


def load_all(root, split, **options):
    return [load() for _, load in make_source("tum", str(root), options).scenes(split)]


@pytest.fixture
def root(tmp_path):
    """A recording of 40 frames: depth 2 ms later, poses 3 ms later, depth and image tell the frame's number."""
    return make_recording(tmp_path / "rgbd_dataset_freiburg2_made", 40)


def frame_numbers(scene):
    return [cv2.imdecode(np.frombuffer(frame.image, np.uint8), 0)[0, 0].item() for frame in scene.frames]


def test_real_recording_is_read_and_good(shared):
    root = shared / REAL
    assert tum.Tum(str(root)).splits() == SPLITS
    scenes = [scene for split in SPLITS for scene in load_all(root, split, window=16)]
    rows = np.loadtxt(root / "groundtruth.txt")
    frames = [frame for scene in scenes for frame in scene.frames]
    scene_of = {frame.time: scene for scene in scenes for frame in scene.frames}
    np.testing.assert_array_equal([frame.time for frame in frames], rows[:, 0])
    np.testing.assert_array_equal([frame.world_from_camera[:3, 3] for frame in frames], rows[:, 1:4])
    for scene in scenes:
        scene_rules.check_scene(scene)
        assert [camera.name for camera in scene.cameras] == [CAMERA]
        np.testing.assert_allclose(scene.cameras[0].lens.intrinsics, [[535.4, 0, 320.6], [0, 539.2, 248.1], [0, 0, 1]])
    names = [line.split()[1] for line in (root / "depth.txt").read_text().splitlines() if line[0] != "#"]
    for frame, name in list(zip(frames, names, strict=True))[::10]:
        assert (
            frame.image
            == (root / name.replace("depth", "rgb").replace("rgb_imgs", "raw_imgs")).with_suffix(".jpg").read_bytes()
        )
        stored = cv2.imread(str(root / name), cv2.IMREAD_UNCHANGED) / 5000
        depth = z_depth(scene_of[frame.time], frame)
        np.testing.assert_allclose(depth, stored, rtol=1 / 2048)
        assert (depth == 0).any() and (depth > 0).mean() > 0.3


def test_real_depth_reprojects_into_the_next_frame(shared):
    (scene,) = load_all(shared / REAL, "train", window=64)
    moved, unmoved = depth_errors([dataclasses.replace(scene, frames=scene.frames[1:])])
    assert moved < 0.02 < 0.04 < unmoved, (moved, unmoved)


def test_records_of_a_real_recording(shared, tmp_path, capsys):
    settings = [
        "window=16",
        "stride=2",
        "min_frames=4",
        "fractions=[0.5,0.25,0.25]",
        "intrinsics=freiburg3",
        "workers=1",
    ]
    assert (
        cli.main(["build-data", "tum", "--root", str(shared / REAL), "--out", str(tmp_path / "records"), *settings])
        == 0
    )
    text = capsys.readouterr().out
    assert "train 1, validation 1, test 1" in text
    scenes = [RecordSource(tmp_path / "records", split)[0] for split in SPLITS]
    assert [len(scene.frames) for scene in scenes] == [14, 8, 7]
    assert len({frame.time for scene in scenes for frame in scene.frames}) == 29
    drawn = sampling.draw_frames(scenes[0], np.random.default_rng(0), num_views=8, max_cameras=1)
    assert len(set(drawn)) == 8


def test_golden_recordings_survive_as_in_the_reference(shared):
    expected = json.loads((shared / "golden/tum_loader/loader.json").read_text())
    for folder in sorted((shared / "golden/tum_loader/fake_tum").iterdir()):
        recording = tum.read_recording(folder)
        assert [name.split("/")[1] for name in recording.images] == expected[folder.name]["rgb"]
        assert [name.split("/")[1] for name in recording.depths] == expected[folder.name]["depth"]


@pytest.mark.parametrize("gap", [0, 3])
@pytest.mark.parametrize("stride", [1, 2])
def test_splits_share_no_frame(root, gap, stride):
    options = {"window": 7, "min_frames": 1, "gap": gap, "stride": stride, "fractions": (0.5, 0.25, 0.25)}
    numbers = [[i for scene in load_all(root, split, **options) for i in frame_numbers(scene)] for split in SPLITS]
    assert all(block == list(range(block[0], block[-1] + 1, stride)) for block in numbers)
    for before, after in pairwise(numbers):
        assert after[0] - before[-1] == stride * (gap + 1)
    assert sum(map(len, numbers)) == 40 // stride - 2 * gap


def test_image_depth_and_pose_of_a_frame_belong_together(root):
    for scene in load_all(root, "train", window=16):
        scene_rules.check_scene(scene)
        for number, frame in zip(frame_numbers(scene), scene.frames, strict=True):
            depth = z_depth(scene, frame)
            assert depth[0, 0] == 0 and abs(depth[1, 1] - (5000 + number) / 5000) < 1e-3
            assert frame.world_from_camera[0, 3] == number
            assert abs(frame.time - 1311868164.0 - number / 30) < 1e-6


def test_pose_gap_and_missing_depth_are_counted(root, caplog):
    drop_rows(root / "groundtruth.txt", *range(10, 15))
    drop_rows(root / "depth.txt", 3, 12)
    with caplog.at_level("INFO"):
        scenes = load_all(root, "train")
    left = [i for i in range(40) if i not in (3, 10, 11, 12, 13, 14)]
    assert frame_numbers(scenes[0]) == left[:24]
    counts = "34 of 40 images have depth and pose (2 have no depth under 0.02 s away, 4 no pose within 0.02 s)"
    assert f"{counts}: 24 frames for train" in caplog.text


def test_images_without_depth_or_pose_are_in_the_report_and_the_quarantine(root, tmp_path):
    drop_rows(root / "groundtruth.txt", *range(10, 15))
    drop_rows(root / "depth.txt", 3)
    options = {"window": 16, "min_frames": 4}
    report = build_records("tum", make_source("tum", str(root), options), tmp_path / "out", 0.0, progress=False)
    assert report.frames == 34 and "6 of 40 frames left out (unmatched 6)" in report.summary()
    entries = json.loads((tmp_path / "out/quarantine.json").read_text())
    assert {entry["frame"] for entry in entries} == {f"rgb/{i}.png" for i in (3, 10, 11, 12, 13, 14)}
    assert "rgb/3.png has no depth image under 0.02 s away" in entries[0]["reason"]


def edit_row(path, row, text):
    """Replaces a row of a list; its first line is a comment."""
    rows = path.read_text().splitlines()
    rows[row + 1] = text
    path.write_text("\n".join(rows) + "\n")


def repeat_row(root, row):
    rows = (root / "rgb.txt").read_text().splitlines()
    (root / "rgb.txt").write_text("\n".join([*rows[: row + 2], *rows[row + 1 :]]) + "\n")


ROWS = {
    "repeated": (lambda root: repeat_row(root, 5), "time", "rgb/5.png repeats the time", 40),
    "repeated time": (
        lambda root: edit_row(root / "rgb.txt", 5, f"{(root / 'rgb.txt').read_text().split()[11]} rgb/5.png"),
        "time",
        "rgb/5.png repeats the time",
        39,
    ),
    "torn": (
        lambda root: edit_row(root / "rgb.txt", 5, "13118"),
        "row",
        "line 7: '13118' must be a time and a file",
        39,
    ),
    "no time": (lambda root: edit_row(root / "rgb.txt", 5, "soon rgb/5.png"), "row", "'soon' must be a finite", 39),
    "no pose": (
        lambda root: edit_row(root / "groundtruth.txt", 5, f"{1311868164 + 5 / 30 + 0.003} nan 0 0 0 0 0 1"),
        "pose",
        "line 7: 'nan' must be a finite number",
        39,
    ),
    "no rotation": (
        lambda root: edit_row(root / "groundtruth.txt", 5, f"{1311868164 + 5 / 30 + 0.003} 0 0 0 0 0 0 9"),
        "pose",
        "quaternion.*is no rotation",
        39,
    ),
}


@pytest.mark.parametrize("case", ROWS)
def test_bad_row_is_named_and_costs_its_frame(tmp_path, case):
    root = make_recording(tmp_path / "fr2", 40, size=(4, 6))
    change, kind, message, images = ROWS[case]
    change(root)
    recording = tum.read_recording(root)
    (frame,) = recording.left_out
    assert len(recording.images) == images and frame.kind == kind and re.search(message, frame.reason)
    source = make_source("tum", str(root))
    assert source.left_out() == [("fr2", frame)] and len(source.notes()) == (kind == "pose")


def test_recording_without_depth_is_read(tmp_path):
    root = make_recording(tmp_path / "fr2", 12, size=(480, 640))
    (root / "depth.txt").unlink()
    with pytest.raises(BadRecord, match="depth.txt: cannot be read"):
        load_all(root, "train", fractions=(1.0, 0.0, 0.0))
    (root / "depth").rename(tmp_path / "elsewhere")
    (scene,) = load_all(root, "train", fractions=(1.0, 0.0, 0.0))
    scene_rules.check_scene(scene)
    assert len(scene.frames) == 12 and not has_depth(scene)


def test_depth_image_at_a_border_is_in_one_split(root):
    drop_rows(root / "depth.txt", 20)
    rows = (root / "rgb.txt").read_text().splitlines()
    time = float(rows[20].split()[0]) + 0.01  # image 20 now has the depth of image 19
    rows[21] = f"{time:.6f} rgb/20.png"
    (root / "rgb.txt").write_text("\n".join(rows))
    recording = tum.read_recording(root)
    assert recording.depths[19] == recording.depths[20] == "depth/19.png"
    options = {"fractions": (0.5, 0.5, 0.0)}
    (train,), (validation,) = (load_all(root, split, **options) for split in ("train", "validation"))
    assert frame_numbers(train)[-1] == 19 and frame_numbers(validation)[0] == 21
    assert tum.Tum(str(root), **options).splits() == ("train", "validation")
    ((_, frame),) = tum.Tum(str(root), **options).left_out()
    assert frame.frame == "rgb/20.png" and "has the depth image of the last one of the split before" in frame.reason


def test_several_recordings_and_one_bad_among_them(root, tmp_path):
    make_recording(tmp_path / "rgbd_dataset_freiburg1_other", 40)
    bad = make_recording(tmp_path / "rgbd_dataset_freiburg3_bad", 40)
    (bad / "groundtruth.txt").write_text("1.0 0 0 0 0 0 0 0\n")
    loaders = dict(tum.Tum(str(tmp_path)).scenes("train"))
    assert list(loaders) == [
        "rgbd_dataset_freiburg1_other_00000",
        "rgbd_dataset_freiburg2_made_00000",
        "rgbd_dataset_freiburg3_bad",
    ]
    lenses = [loaders[name]().cameras[0].lens for name in list(loaders)[:2]]
    assert [lens.intrinsics[0, 0] for lens in lenses] == [517.3, 520.9]
    # The benchmark's camera matrix and coefficients as OpenCV takes them: the centre of the first pixel at 0.
    matrix = np.array([[517.3, 0, 318.6], [0, 516.5, 255.3], [0, 0, 1]])
    coefficients = np.array([0.2624, -0.9531, -0.0054, 0.0026, 1.1633])
    pixels = np.array([[20.0, 30.0], [600.0, 400.0], [320.0, 100.0]])
    expected = cv2.undistortPoints(pixels[:, None], matrix, coefficients, None, None, None)[:, 0]
    rays = lenses[0].rays(pixels + 0.5)
    np.testing.assert_allclose(rays[:, :2] / rays[:, 2:], expected, atol=1e-3)  # OpenCV stops after 5 steps
    report = build_records(
        "tum", make_source("tum", str(tmp_path)), tmp_path / "out", max_bad_fraction=0.8, progress=False
    )
    assert report.splits == {"train": 2, "validation": 0, "test": 0}
    reasons = dict(report.skipped)
    assert "quaternion" in reasons["train/rgbd_dataset_freiburg3_bad"]
    short = reasons["test/rgbd_dataset_freiburg1_other"]
    assert "6 frames are for test, must be at least 8; lower min_frames" in short


@pytest.mark.parametrize(
    "name, camera",
    [
        ("rgbd_dataset_freiburg1_desk", "freiburg1"),
        ("tum_fr2_xyz", "freiburg2"),
        ("Freiburg3", "freiburg3"),
        ("fr12_desk", None),
        ("refr1desk", None),
        ("desk", None),
    ],
)
def test_camera_is_told_by_the_name(tmp_path, name, camera):
    if camera:
        assert tum.stated_intrinsics(tmp_path / name) == tum.INTRINSICS[camera]
    else:
        with pytest.raises(BadRecord, match=f"the name '{name}' does not tell the camera.*set intrinsics="):
            tum.stated_intrinsics(tmp_path / name)
    assert tum.stated_intrinsics(tmp_path / name, [500.0, 501.5, 320.0, 240.0]) == (500.0, 501.5, 320.0, 240.0)
    assert tum.stated_intrinsics(tmp_path / name, "freiburg2") == tum.INTRINSICS["freiburg2"]


@pytest.mark.parametrize("damage", [0, 30, 500, -20, "middle"])
def test_corrupt_depth_image_is_counted_and_costs_its_frame(root, tmp_path, damage):
    path = root / "depth/9.png"
    whole = path.read_bytes()
    middle = len(whole) // 2
    cut = whole[:middle] + b"12345678" + whole[middle + 8 :] if damage == "middle" else whole[:damage]
    path.write_bytes(cut)
    options = {"window": 8, "min_frames": 4}
    report = build_records("tum", make_source("tum", str(root), options), tmp_path / "out", progress=False)
    assert report.splits == {"train": 4, "validation": 1, "test": 1} and not report.skipped and report.frames == 39
    ((name, frame),) = report.left_out
    assert name.startswith("train/") and (frame.frame, frame.kind) == ("9.png", "depth")
    assert re.search("depth/9.png: depth image of .*(does not decode|is cut short|is empty)", frame.reason)


FILES = {
    "depth of 8 bits": ("depth/9.png", np.zeros((480, 640), np.uint8), "uint8 .*one 16-bit channel"),
    "depth in colour": ("depth/9.png", np.zeros((480, 640, 3), np.uint8), "one 16-bit channel"),
    "depth of 32 bits": (
        "depth/9.png",
        b"Pf\n640 480\n-1\n" + bytes(4 * 640 * 480),
        "depth PPM image holds numbers of 32 bi",
    ),
    "a pointer to depth": (
        "depth/9.png",
        b"version https://git-lfs.github.com/spec/v1\nsize 12\n",
        "is a Git LFS pointer",
    ),
    "depth of another size": (
        "depth/9.png",
        np.ones((240, 320), np.uint16),
        r"is \(240, 320\), its image is \(480, 640\)",
    ),
    "image of another size": ("rgb/9.png", np.zeros((240, 320, 3), np.uint8), "most images of the scene"),
    "no image": ("rgb/9.png", None, "rgb/9.png: cannot be read"),
    "no depth": ("depth/9.png", None, "depth/9.png: cannot be read"),
}


@pytest.mark.parametrize("case", FILES)
def test_bad_file_is_named(root, case):
    file, content, message = FILES[case]
    (root / file).unlink()
    if isinstance(content, bytes):
        (root / file).write_bytes(content)
    elif content is not None:
        cv2.imwrite(str(root / file), content)
    (scene,) = load_all(root, "train")
    ((left_out),) = scene.left_out
    assert left_out.frame == "9.png" and left_out.kind == file.split("/")[0].replace("rgb", "image")
    assert re.search(message, left_out.reason) and [f.step for f in scene.frames] == [*range(9), *range(10, 28)]


def test_named_intrinsics_are_for_the_benchmarks_size(tmp_path):
    small = make_recording(tmp_path / "fr2_small", 12, size=(48, 64))
    with pytest.raises(BadRecord, match=r"\(48, 64\), the benchmark's intrinsics are for \(480, 640\)"):
        load_all(small, "train", fractions=(1.0, 0.0, 0.0))
    (scene,) = load_all(small, "train", fractions=(1.0, 0.0, 0.0), intrinsics=[50.0, 51.0, 31.5, 23.5])
    np.testing.assert_array_equal(scene.cameras[0].lens.intrinsics, [[50, 0, 32], [0, 51, 24], [0, 0, 1]])


@pytest.mark.parametrize("missing", LISTS)
def test_missing_list_is_named(root, missing):
    os.remove(root / missing)
    with pytest.raises(BadRecord, match=missing):
        load_all(root, "train")


@pytest.mark.parametrize(
    "options, message",
    [
        ({"fractions": [0.5, 0.5]}, "must be three shares, of train, validation, test, that sum to 1"),
        ({"fractions": [0.5, 0.5, 0.5]}, "sum to 1"),
        ({"fractions": [1.5, 0.0, -0.5]}, "three shares"),
        ({"window": 0}, "window=0 must be a whole number of frames, at least 1"),
        ({"stride": 0}, "stride=0"),
        ({"gap": -1}, "gap=-1"),
        ({"window": 8}, "min_frames=8 with window=8.*min_frames of at most 4, or window of at least 15"),
        ({"intrinsics": "freiburg4"}, "intrinsics='freiburg4' must be by_name, freiburg1"),
        ({"intrinsics": [500.0]}, "must be fx, fy, cx, cy"),
        ({"depth_scale": 0}, "depth_scale=0.0 must be a positive number of units per metre"),
        ({"plausible_depth": [2, 1]}, "plausible_depth=.2.0, 1.0. must be two ascending numbers"),
        ({"time_unit": "minutes"}, "time_unit='minutes' must be one of auto, s, ms, us, ns"),
    ],
)
def test_bad_options_are_named(root, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        build_records("tum", make_source("tum", str(root), options), tmp_path / "out", progress=False)


def test_folder_without_data_is_one_error(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadRecord, match=r"holds an rgb.txt; give the folder"):
        tum.Tum(str(tmp_path / "empty")).splits()


@pytest.mark.parametrize("count", [0, 1, 7, 58, 596])
@pytest.mark.parametrize("fractions", [(0.7, 0.15, 0.15), (1.0, 0.0, 0.0), (0.0, 0.1, 0.9), (1 / 3, 1 / 3, 1 / 3)])
def test_cut_is_a_partition(count, fractions):
    source = tum.Tum(fractions=fractions, window=16)
    blocks = [source.block(count, split) for split in SPLITS]
    assert [i for block in blocks for i in block] == list(range(count))
    for block in blocks:
        pieces = source.pieces(block)
        assert [i for piece in pieces for i in piece] == list(block)
        assert all(len(piece) <= 16 for piece in pieces)
        assert len(block) < 8 or all(len(piece) >= 8 for piece in pieces)
