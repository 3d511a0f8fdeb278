"""The 7-Scenes reader on a real sequence, and on made ones in the official layout with one thing broken."""

import cv2
import numpy as np
import pytest

from rig3r_jax import cli
from rig3r_jax.data import scene_rules
from rig3r_jax.data.build import build_records
from rig3r_jax.data.record_source import RecordSource
from rig3r_jax.data.scene import BadRecord
from rig3r_jax.data.sources import make_source
from rig3r_jax.data.sources.cut_by_time import SPLITS
from rig3r_jax.data.sources.sevenscenes import SevenScenes, read_world_from_camera
from tests.data.recordings import depth_errors, make_listed_scene, make_sequence, z_depth

REAL = "realdata/sevenscenes_redkitchen"
SMALL = {"window": 8, "min_frames": 4}


def load_all(root, split, **options):
    return [load() for _, load in make_source("sevenscenes", str(root), options).scenes(split)]


@pytest.fixture(scope="module")
def real(shared):
    """Scenes of each split of the real sequence."""
    root = shared / REAL
    return {split: load_all(root, split) for split in SevenScenes(str(root)).splits()}


@pytest.fixture
def scene_folder(tmp_path):
    return make_listed_scene(tmp_path / "sets" / "chess")


def keys(scenes):
    """(sequence, frame) of all frames, as their images tell."""
    images = [cv2.imdecode(np.frombuffer(frame.image, np.uint8), 1) for scene in scenes for frame in scene.frames]
    return [(int(image[0, 0, 1]), int(image[0, 0, 0])) for image in images]


def test_real_sequence_is_read_and_good(shared, real):
    root = shared / REAL
    assert {split: [len(scene.frames) for scene in of_split] for split, of_split in real.items()} == {
        "train": [35, 35],
        "validation": [15],
        "test": [15],
    }
    frames = [frame for of_split in real.values() for scene in of_split for frame in scene.frames]
    np.testing.assert_allclose([frame.time for frame in frames], np.arange(100) / 3, atol=1e-9)
    for of_split in real.values():
        for scene in of_split:
            scene_rules.check_scene(scene)
            np.testing.assert_array_equal(scene.cameras[0].lens.intrinsics, [[525, 0, 320], [0, 525, 240], [0, 0, 1]])
    worst = 0.0
    for number, frame in enumerate(frames):
        stored = np.loadtxt(root / f"frame-{10 * number:06d}.pose.txt")
        np.testing.assert_allclose(frame.world_from_camera, stored, atol=1e-3)
        rotation, projected = stored[:3, :3], frame.world_from_camera[:3, :3]
        np.testing.assert_allclose(projected.T @ projected, np.eye(3), atol=1e-14)
        np.testing.assert_allclose(projected.T @ rotation, (projected.T @ rotation).T, atol=1e-12)  # the nearest one
        worst = max(worst, np.abs(rotation.T @ rotation - np.eye(3)).max())
        if number % 20 == 0:
            assert frame.image == (root / f"frame-{10 * number:06d}.color.jpg").read_bytes()
            depth = cv2.imread(str(root / f"frame-{10 * number:06d}.depth.png"), cv2.IMREAD_UNCHANGED) / 1000
            registered = z_depth(scene, frame)
            assert abs(np.median(registered[registered > 0]) - np.median(depth[depth > 0])) < 0.1
    assert 1e-4 < worst < 1e-3  # records would refuse the rotations as they are


def test_poses_are_as_near_to_rigid_as_files_print_them(tmp_path):
    """A last row off by rounding is read as 0 0 0 1; a rotation that records refuse is moved to the nearest."""
    path = tmp_path / "frame-000000.pose.txt"
    written = np.eye(4)
    written[0, 1], written[3, 2:] = 4e-4, (5e-7, 1 - 5e-7)
    np.savetxt(path, written, fmt="%.9f")
    world_from_camera = read_world_from_camera(path)
    np.testing.assert_array_equal(world_from_camera[3], [0, 0, 0, 1])
    np.testing.assert_allclose(world_from_camera[:2, :2], [[1, 2e-4], [-2e-4, 1]], atol=1e-7)
    written[3, 2] = 2e-6
    np.savetxt(path, written, fmt="%.9f")
    with pytest.raises(BadRecord, match="ends in 0 0 0 1"):
        read_world_from_camera(path)


def test_real_depth_reprojects_into_the_next_frame(real):
    moved, unmoved = depth_errors(real["train"])
    assert moved < 0.015 < 0.03 < unmoved, (moved, unmoved)


def test_records_of_a_real_sequence(shared, tmp_path, capsys):
    settings = ["window=16", "stride=3", "min_frames=4", "workers=1"]
    assert (
        cli.main(
            ["build-data", "sevenscenes", "--root", str(shared / REAL), "--out", str(tmp_path / "records"), *settings]
        )
        == 0
    )
    text = capsys.readouterr().out
    assert "train 2, validation 1, test 1" in text
    train = RecordSource(tmp_path / "records", "train")
    assert [len(train[i].frames) for i in range(2)] == [12, 12]


@pytest.mark.parametrize("level", ["scene", "sets"])
def test_official_splits(scene_folder, level):
    root = scene_folder if level == "scene" else scene_folder.parent
    assert SevenScenes(str(root)).splits() == SPLITS
    by_split = {split: keys(load_all(root, split, fractions=(0.6, 0.2, 0.2), **SMALL)) for split in SPLITS}
    assert by_split["train"] == [(s, i) for s in (1, 3) for i in range(15)]
    assert by_split["validation"] == [(s, i) for s in (1, 3) for i in range(15, 20)]
    assert by_split["test"] == [(2, i) for i in range(20)]
    names = [name for name, _ in SevenScenes(str(root), **SMALL).scenes("test")]
    assert names == ["chess_seq-02_000000", "chess_seq-02_000006", "chess_seq-02_000013"]


def test_official_splits_without_validation(scene_folder):
    options = {"fractions": (0.7, 0.0, 0.3)}
    assert SevenScenes(str(scene_folder), **options).splits() == ("train", "test")
    assert keys(load_all(scene_folder, "train", **options)) == [(s, i) for s in (1, 3) for i in range(20)]


def test_sequences_without_lists_are_cut_by_time(scene_folder):
    for file in scene_folder.glob("*.txt"):
        file.unlink()
    options = {"fractions": (0.5, 0.25, 0.25), "gap": 1, **SMALL}
    by_split = {split: keys(load_all(scene_folder, split, **options)) for split in SPLITS}
    expected = {"train": range(10), "validation": range(11, 15), "test": range(16, 20)}
    assert by_split == {split: [(s, i) for s in (1, 2, 3) for i in numbers] for split, numbers in expected.items()}


def test_frame_is_read(scene_folder):
    for scene in load_all(scene_folder, "train", fractions=(1.0, 0.0, 0.0)):
        scene_rules.check_scene(scene)
        published = [[525, 0, 320], [0, 525, 240], [0, 0, 80]]  # of 640 x 480, these images are an 80th
        np.testing.assert_allclose(scene.cameras[0].lens.intrinsics * 80, published)
        for (sequence, number), frame in zip(keys([scene]), scene.frames, strict=True):
            np.testing.assert_allclose(frame.world_from_camera[:3, 3], [number, sequence, 0])
            depth = z_depth(scene, frame)
            assert depth[0, :2].tolist() == [0, 0]  # both marks of no depth
            assert abs(depth[2, 2] - (1.002 + number / 1000)) < 1e-3
            assert abs(frame.time - number / 30) < 1e-9


def test_flat_folder_of_jpegs_with_intrinsics(tmp_path):
    folder = make_sequence(tmp_path / "kitchen", 20, suffix="jpg")
    np.savetxt(folder / "camera-intrinsics.txt", [[5, 0, 3], [0, 5, 2], [0, 0, 1]])
    (scene,) = load_all(folder, "train", stride=2, **SMALL)
    assert scene.name == "kitchen_000000" and len(scene.frames) == 7
    assert [round(frame.time * 30) for frame in scene.frames] == [0, 2, 4, 6, 8, 10, 12]
    np.testing.assert_array_equal(scene.cameras[0].lens.intrinsics, [[5, 0, 3], [0, 5, 2], [0, 0, 1]])
    stored = cv2.imread(str(folder / "frame-000000.depth.png"), -1) % 65535 / 1000
    np.testing.assert_allclose(z_depth(scene, scene.frames[0]), stored, rtol=1 / 2048)


def test_cameras_are_those_that_the_user_gives(tmp_path):
    folder = make_sequence(tmp_path / "kitchen", 20)
    options = {"intrinsics": [9, 9, 4, 3], "depth_intrinsics": [9, 9, 4, 3], "depth_origin": [0, 0, 0.5], **SMALL}
    scene, _ = load_all(folder, "train", **options)
    np.testing.assert_array_equal(scene.cameras[0].lens.intrinsics, [[9, 0, 4], [0, 9, 3], [0, 0, 1]])
    assert abs(z_depth(scene, scene.frames[0])[3, 4] - 1.5) < 1e-3
    scene, _ = load_all(folder, "train", register_depth=False, **SMALL)
    assert abs(z_depth(scene, scene.frames[0])[3, 4] - 1.0) < 1e-3
    np.savetxt(folder / "camera-intrinsics.txt", [[585, 0, 320], [0, 585, 240], [0, 0, 1]])
    scene, _ = load_all(folder, "train", **SMALL)  # that of 7-Scenes' depth camera is not the colour camera's
    assert scene.cameras[0].lens.intrinsics[0, 0] == 525 / 80
    np.savetxt(folder / "camera-intrinsics.txt", [[600, 0, 320], [0, 600, 240], [0, 0, 1]], delimiter=", ")
    scene, _ = load_all(folder, "train", **SMALL)
    assert scene.cameras[0].lens.intrinsics[0, 0] == 600


@pytest.mark.parametrize(
    "text", ["sequence1, sequence 03\n", "# x\nseq-01\nseq-03\n", "1\r\n3\r\n", "Sequence1\nseq_3"]
)
def test_lists_name_sequences_as_people_do(scene_folder, text):
    (scene_folder / "TrainSplit.txt").write_text(text)
    names = [name for name, _ in SevenScenes(str(scene_folder)).scenes("train")]
    assert names == ["chess_seq-01_000000", "chess_seq-03_000000"]


def test_sequences_that_are_packed_are_told(scene_folder):
    assert not SevenScenes(str(scene_folder)).notes()
    for packed in ("chess/seq-01.zip", "chess/seq-04.zip", "fire/seq-01.zip"):  # the first is unpacked beside
        (scene_folder.parent / packed).parent.mkdir(exist_ok=True)
        (scene_folder.parent / packed).write_bytes(b"PK")
    (note,) = SevenScenes(str(scene_folder.parent)).notes()
    assert note == f"2 sequences are packed and not read, such as {scene_folder}/seq-04.zip: unpack them"


def test_depth_that_registration_loses_is_named(tmp_path):
    options = {"intrinsics": [9, 9, 4, 3], "depth_intrinsics": [9, 9, 4000, 3], **SMALL}
    loaders = make_source("sevenscenes", str(make_sequence(tmp_path / "kitchen", 20)), options).scenes("train")
    with pytest.raises(
        BadRecord, match=r"depth.png: none of its 46 depths falls into the colour image; correct intrin"
    ):
        loaders[0][1]()


def test_images_of_other_sides_want_intrinsics(tmp_path):
    folder = make_sequence(tmp_path / "kitchen", 20, size=(6, 9))
    message = r"kitchen: images are \(6, 9\), the published intrinsics are for \(480, 640\) .* set intrinsics="
    with pytest.raises(BadRecord, match=message):
        load_all(folder, "train", **SMALL)


def test_depth_of_another_unit_is_named(tmp_path):
    folder = make_sequence(tmp_path / "kitchen", 20)
    message = (
        r"frame-000000.depth.png: median depth of 5 images .* is 0.201 m with depth_scale=5000.*set depth_scale=1000"
    )
    with pytest.raises(BadRecord, match=message):
        load_all(folder, "train", depth_scale=5000.0, **SMALL)


def test_suffixes_in_capitals(tmp_path):
    folder = make_sequence(tmp_path / "kitchen", 20, suffix="JPG")
    for path in folder.glob("*.depth.png"):
        path.rename(path.with_suffix(".PNG"))
    assert sum(len(scene.frames) for scene in load_all(folder, "train", **SMALL)) == 14


FILES = {
    "no rotation": ("pose.txt", "2 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1", "is no rigid transform"),
    "mirror": ("pose.txt", "-1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1", "must be +1"),
    "last row": ("pose.txt", "1 0 0 0 0 1 0 0 0 0 1 0 0 0 1 1", "ends in 0 0 0 1"),
    "lost track": ("pose.txt", "nan " * 16, "must be 4 x 4 finite numbers"),
    "cut short": ("pose.txt", "1 0 0 0 0 1 0 0", "must be 4 x 4 finite numbers"),
    "words": ("pose.txt", "1 0 zero 0", "does not read"),
    "no pose": ("pose.txt", None, "pose.txt: cannot be read"),
    "corrupt depth": ("depth.png", "no image", "depth.png: depth image of 8 bytes does not decode"),
    "no depth": ("depth.png", None, "depth.png: cannot be read"),
    "corrupt image": ("color.png", "no image", "color.png: image of 8 bytes"),
}


@pytest.mark.parametrize("case", FILES)
def test_bad_file_is_counted_and_costs_its_frame(scene_folder, tmp_path, case):
    suffix, content, message = FILES[case]
    path = scene_folder / f"seq-03/frame-000002.{suffix}"
    path.unlink()
    if content is not None:
        path.write_text(content)
    options = {**SMALL, "fractions": [0.7, 0.0, 0.3]}
    source = make_source("sevenscenes", str(scene_folder), options)
    report = build_records("sevenscenes", source, tmp_path / "out", progress=False)
    assert report.splits == {"train": 6, "test": 3} and not report.skipped and report.frames == 59
    ((name, frame),) = report.left_out
    assert name == "train/chess_seq-03_000000" and frame.frame == path.name.split(".")[0] + ".color.png"
    assert frame.kind == {"pose.txt": "pose", "depth.png": "depth", "color.png": "image"}[suffix]
    assert "frame-000002" in frame.reason and message in frame.reason


def test_sequence_without_depth_is_read(scene_folder, tmp_path):
    for path in scene_folder.glob("seq-*/*.depth.png"):
        path.unlink()
    source = make_source("sevenscenes", str(scene_folder), {**SMALL, "fractions": [0.7, 0.0, 0.3]})
    report = build_records("sevenscenes", source, tmp_path / "out", progress=False)
    assert report.frames == 60 and report.without_depth == 9 and not report.left_out
    assert "9 scenes have no depth: their poses and rays are trained on, no points" in report.summary()


def test_sequence_too_short_or_still_packed_is_a_bad_scene(scene_folder):
    with pytest.raises(BadRecord, match="seq-01: has 3 frames for validation, must be at least 8"):
        load_all(scene_folder, "validation", fractions=(0.7, 0.15, 0.15), gap=1)
    for path in (scene_folder / "seq-02").iterdir():
        path.unlink()
    with pytest.raises(BadRecord, match="seq-02: has 0 frames for test"):
        load_all(scene_folder, "test")
    (scene_folder / "seq-02.zip").write_bytes(b"PK")
    with pytest.raises(BadRecord, match=r"seq-02: holds no frames; unpack seq-02.zip"):
        load_all(scene_folder, "test")


@pytest.mark.parametrize(
    "file, content, message",
    [
        ("TestSplit.txt", "sequence1\n", "lists seq-01 for training and for testing"),
        ("TestSplit.txt", "the second\n", "TestSplit.txt: line 1 'the second' must be of the form sequence1"),
        ("TestSplit.txt", "", "lists no sequence"),
        ("TestSplit.txt", None, "has no TestSplit.txt beside its other list"),
        ("TrainSplit.txt", None, "has no TrainSplit.txt"),
    ],
)
def test_bad_lists_are_named(scene_folder, file, content, message):
    (scene_folder / file).unlink()
    if content is not None:
        (scene_folder / file).write_text(content)
    with pytest.raises(BadRecord, match=message):
        SevenScenes(str(scene_folder)).splits()


def test_bad_options_and_folders_are_named(scene_folder, tmp_path):
    with pytest.raises(ValueError, match="three shares"):
        SevenScenes(str(scene_folder), fractions=(0.5, 0.5))
    with pytest.raises(ValueError, match="stride=0"):
        SevenScenes(str(scene_folder), stride=0)
    with pytest.raises(ValueError, match="intrinsics='kinect' must be auto or fx, fy, cx, cy in pixels"):
        SevenScenes(str(scene_folder), intrinsics="kinect")
    for key in ("intrinsics", "depth_intrinsics"):
        for wrong in ((np.nan, 9, 4, 3), (np.inf, 9, 4, 3), (9, 9, np.inf, 3), (9, 0, 4, 3), (9, 9, 4)):
            with pytest.raises(ValueError, match=rf"{key}=\(.*\) must be auto or fx, fy, cx, cy in pixels, finite"):
                make_source("sevenscenes", str(scene_folder), {key: wrong})
    for wrong in ((np.nan, 0, 0), (-25.6, 0.1, 2.0)):  # the latter is in millimetres
        with pytest.raises(
            ValueError, match=r"depth_origin=\(.*\) must be three numbers of metres, each nearer than 1"
        ):
            make_source("sevenscenes", str(scene_folder), {"depth_origin": wrong})
    with pytest.raises(ValueError, match="register_depth='yes' must be auto, True or False"):
        SevenScenes(str(scene_folder), register_depth="yes")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadRecord, match="holds no frame-XXXXXX.color.png"):
        SevenScenes(str(tmp_path / "empty")).splits()
