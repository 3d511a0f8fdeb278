"""The DGP reader on real photographs and LiDAR, and on copies of them with one thing broken."""

import io
import json
import re
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from rig3r_jax.data import scene_rules
from rig3r_jax.data.bad_frames import has_depth
from rig3r_jax.data.build import build_records
from rig3r_jax.data.frame_bytes import decode_depth
from rig3r_jax.data.record_source import RecordSource
from rig3r_jax.data.scene import BadRecord
from rig3r_jax.data.sources import make_source
from rig3r_jax.data.sources.dgp import Dgp
from rig3r_jax.data.sources.dgp_listing import windows_of
from tests.data.recordings import RIG, copy_rig


def load(root, name="scene_02", split="train", **options):
    return dict(make_source("ddad", str(root), options).scenes(split))[name]()


def matrix(fields):
    rotation, translation = fields["rotation"], fields["translation"]
    transform = np.eye(4)
    transform[:3, :3] = Rotation.from_quat([rotation[key] for key in ("qx", "qy", "qz", "qw")]).as_matrix()
    transform[:3, 3] = [translation[key] for key in "xyz"]
    return transform


@pytest.fixture
def root(shared, tmp_path):
    """A copy of the data that a test may break: links, and real files for the JSON."""
    return copy_rig(shared, tmp_path / "ddad")


def edit(path: Path, change):
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def scene_file(root):
    return next((root / "scene_02").glob("scene_*.json"))


def calibration_file(root):
    return next((root / "scene_02/calibration").glob("*.json"))


def test_scenes_are_read_and_good(shared):
    root = str(shared / RIG)
    assert Dgp(root).splits() == ("train", "val")
    loaders = Dgp(str(root)).scenes("train")
    assert [name for name, _ in loaders] == ["scene_01", "scene_02"]
    for (_, loader), cameras in zip(loaders, (3, 6), strict=True):
        scene = loader()
        scene_rules.check_scene(scene)
        assert scene.front_camera == 0 and scene.cameras[0].name == "CAMERA_01"
        assert [(f.step, f.camera) for f in scene.frames] == [(s, c) for s in range(3) for c in range(cameras)]
        times = [frame.time for frame in scene.frames if frame.camera == 0]
        np.testing.assert_allclose(np.diff(times), 0.1, atol=1e-4)  # ten per second


def test_images_are_untouched_and_transforms_are_the_files(shared):
    root = shared / RIG
    scene = load(root)
    document = json.loads(scene_file(root).read_text())
    datums = {(d["id"]["name"], d["datum"]["image"]["filename"]): d for d in document["data"] if "image" in d["datum"]}
    calibration = json.loads(calibration_file(root).read_text())
    world_from_front = None
    for frame in scene.frames:
        name = scene.cameras[frame.camera].name
        files = sorted((root / "scene_02/rgb" / name).glob("*.jpg"))
        assert frame.image == files[frame.step].read_bytes()
        world_from_camera = matrix(datums[name, f"rgb/{name}/{files[frame.step].name}"]["datum"]["image"]["pose"])
        world_from_front = world_from_camera if world_from_front is None else world_from_front
        expected = np.linalg.inv(world_from_front) @ world_from_camera
        np.testing.assert_allclose(frame.world_from_camera, expected, atol=1e-9)
    assert np.abs([frame.world_from_camera[:3, 3] for frame in scene.frames]).max() < 10  # re-based: 2 km before
    vehicle_from = dict(zip(calibration["names"], map(matrix, calibration["extrinsics"]), strict=True))
    for camera in scene.cameras:
        expected = np.linalg.inv(vehicle_from["CAMERA_01"]) @ vehicle_from[camera.name]
        np.testing.assert_allclose(camera.rig_from_camera, expected, atol=1e-12)
    # Left cameras are at the left, the rear camera looks back.
    by_name = {camera.name: camera.rig_from_camera for camera in scene.cameras}
    assert by_name["CAMERA_05"][0, 3] < -0.1 < 0.1 < by_name["CAMERA_06"][0, 3]
    assert by_name["CAMERA_09"][2, 2] < -0.9


def test_rig_and_world_agree(shared):
    # The vehicle moves as one: rig_from_camera follows from the world transforms of one step, to the data's 9 mm.
    scene = load(shared / RIG)
    for step in range(3):
        frames = [frame for frame in scene.frames if frame.step == step]
        for frame in frames:
            rig_from_camera = np.linalg.inv(frames[0].world_from_camera) @ frame.world_from_camera
            np.testing.assert_allclose(rig_from_camera, scene.cameras[frame.camera].rig_from_camera, atol=0.02)


def sample(image, pixels):
    columns, rows = (pixels - 0.5).astype(np.float32).T
    return cv2.remap(image, columns[None], rows[None], cv2.INTER_LINEAR)[0].astype(np.float64)


def test_lidar_reprojects_into_the_next_frame(shared):
    """Grey values at LiDAR points agree better with the next frame when they are moved by the loaded transforms."""
    scene = load(shared / RIG)
    moved, unmoved = [], []
    for index, camera in enumerate(scene.cameras):
        frames = [frame for frame in scene.frames if frame.camera == index]
        grey = [cv2.imdecode(np.frombuffer(frame.image, np.uint8), cv2.IMREAD_GRAYSCALE) for frame in frames]
        for (now, image_now), (then, image_then) in pairwise(zip(frames, grey, strict=True)):
            depth = decode_depth(now.depth)
            ahead = np.concatenate([depth.pixels, np.ones((len(depth.pixels), 1))], axis=1)
            rays = ahead @ np.linalg.inv(camera.lens.intrinsics).T
            points_now = rays / np.linalg.norm(rays, axis=1, keepdims=True) * depth.depths[:, None]
            then_from_now = np.linalg.inv(then.world_from_camera) @ now.world_from_camera
            points_then = points_now @ then_from_now[:3, :3].T + then_from_now[:3, 3]
            projected = points_then @ camera.lens.intrinsics.T
            pixels_then = projected[:, :2] / projected[:, 2:]
            height, width = camera.size
            inside = (projected[:, 2] > 0.1) & ((pixels_then > 1) & (pixels_then < [width - 1, height - 1])).all(axis=1)
            before = sample(image_now, depth.pixels[inside])
            moved.append(np.abs(sample(image_then, pixels_then[inside]) - before))
            unmoved.append(np.abs(sample(image_then, depth.pixels[inside]) - before))
    moved, unmoved = np.concatenate(moved), np.concatenate(unmoved)
    assert len(moved) > 50_000
    assert np.median(moved) < 0.5 * np.median(unmoved), (np.median(moved), np.median(unmoved))


def test_lidar_depth_is_along_the_axis_and_dense_enough(shared):
    for frame in (scene := load(shared / RIG)).frames:
        depth = decode_depth(frame.depth)
        assert 3000 < len(depth.depths) < 13000
        assert len(np.unique(depth.pixels.astype(int), axis=0)) == len(depth.pixels)  # one point per pixel
        assert (depth.pixels < scene.cameras[frame.camera].size[::-1]).all() and depth.depths.min() > 0.5


def test_options_choose_cameras_and_cut_drives(shared):
    root = shared / RIG
    scene = load(root, cameras=["CAMERA_09", "CAMERA_01"], front="CAMERA_01")
    assert [camera.name for camera in scene.cameras] == ["CAMERA_09", "CAMERA_01"] and scene.front_camera == 1
    scene_rules.check_scene(scene)
    loaders = Dgp(str(root), window=2).scenes("val")
    assert [name for name, _ in loaders] == ["scene_01", "scene_01_00001", "scene_02", "scene_02_00001"]
    last = loaders[-1][1]()
    scene_rules.check_scene(last)
    assert [frame.step for frame in last.frames] == [0] * 6 + [1] * 6
    np.testing.assert_allclose(last.frames[0].world_from_camera, np.eye(4), atol=1e-12)
    with pytest.raises(ValueError, match="must hold the front camera 'CAMERA_01'"):
        Dgp(str(root), cameras=("CAMERA_05",))
    with pytest.raises(ValueError, match="window=0"):
        Dgp(str(root), window=0)
    with pytest.raises(BadRecord, match="CAMERA_07"):  # scene_01 has three cameras
        load(root, "scene_01", cameras=["CAMERA_01", "CAMERA_07"])


def test_records_of_real_data(shared, tmp_path):
    report = build_records(
        "ddad", make_source("ddad", str(shared / RIG), {"window": 2}), tmp_path / "records", progress=False
    )
    assert report.splits == {"train": 4, "val": 4} and not report.skipped
    train = RecordSource(report.path, "train")
    scene = load(shared / RIG, window=2)
    assert train[2].name == "scene_02"
    for ours, theirs in zip(train[2].frames, scene.frames, strict=True):
        assert ours.image == theirs.image and ours.depth == theirs.depth and ours.time == theirs.time
        np.testing.assert_array_equal(ours.world_from_camera, theirs.world_from_camera)


def test_missing_image_is_counted_and_costs_itself(root, tmp_path):
    image = next((root / "scene_02/rgb/CAMERA_07").glob("*.jpg"))
    image.unlink()
    out, source = tmp_path / "records", make_source("ddad", str(root))
    with pytest.raises(BadRecord, match=f"2 of 54 frames are bad(.|\n)*image 2(.|\n)*{image.name}: cannot be read"):
        build_records("ddad", source, out, max_bad_fraction=0.01, progress=False)
    report = build_records("ddad", source, out, progress=False)
    assert report.splits == {"train": 2, "val": 2} and not report.skipped and report.frames == 52
    assert [(scene, frame.kind) for scene, frame in report.left_out] == [
        ("train/scene_02", "image"),
        ("val/scene_02", "image"),
    ]
    assert "2 of 54 frames left out (image 2)" in report.summary()
    assert "train and val name the same scenes, 2 of them (scene_01, scene_02)" in report.summary()
    assert build_records("ddad", source, out, progress=False).summary() == report.summary().replace(
        "records: scenes", "records: reused, scenes"
    )


@pytest.mark.parametrize("content", [b"", b"\xff\xd8\xff\xe0 then nothing"])
def test_corrupt_image_is_named(root, content):
    image = next((root / "scene_02/rgb/CAMERA_07").glob("*.jpg"))
    image.unlink()
    image.write_bytes(content)
    (frame,) = load(root).left_out
    assert frame.kind == "image" and f"CAMERA_07/{image.name}: image of {len(content)} bytes" in frame.reason


CALIBRATION = {
    "no rotation": (lambda c: c["extrinsics"][2]["rotation"].update(qw=2.0), "CAMERA_05: quaternion.*no rotation"),
    "all zero": (
        lambda c: c["extrinsics"][2].update(rotation=dict.fromkeys(("qw", "qx", "qy", "qz"), 0)),
        "no rotation",
    ),
    "distortion": (lambda c: c["intrinsics"][2].update(k1=-0.3), "CAMERA_05: {'k1': -0.3} must be zero"),
    "skew": (lambda c: c["intrinsics"][2].update(skew=0.1), "skew"),
    "fisheye": (lambda c: c["intrinsics"][2].update(fisheye=True), "fisheye"),
    "no focal length": (
        lambda c: c["intrinsics"][2].pop("fx"),
        "calibration/.*json: lacks what a DGP calibration holds.*fx",
    ),
    "no names": (lambda c: c.pop("names"), "lacks.*names"),
    "a name too many": (lambda c: c["names"].append("CAMERA_11"), "names, intrinsics and extrinsics"),
    "focal length zero": (lambda c: c["intrinsics"][2].update(fx=0.0), "focal lengths 0.0"),
    "focal length negative": (lambda c: c["intrinsics"][2].update(fy=-1000.0), "must be positive"),
}


def swap_times(document):
    first, second = (d for d in document["data"][:14] if d["id"]["name"] == "CAMERA_06")
    first["id"], second["id"] = second["id"], first["id"]


def repeat_times(document):
    first, second = (d for d in document["data"][:14] if d["id"]["name"] == "CAMERA_06")
    second["id"] = first["id"]


SCENES = {
    "times out of order": (swap_times, "CAMERA_06, step 1: time .* must ascend"),
    "times repeated": (repeat_times, "CAMERA_06, step 1: time .* must ascend"),
    "no number": (lambda s: s["data"][1]["datum"]["image"].update(height="tall"), "lacks.*tall"),
    "no data": (lambda s: s.pop("data"), "lacks.*data"),
    "no samples": (lambda s: s.update(samples=[]), "no samples"),
    "two calibrations": (lambda s: s["samples"][1].update(calibration_key="0"), "2 calibrations"),
}


BROKEN = [(calibration_file, *case) for case in CALIBRATION.values()] + [
    (scene_file, *case) for case in SCENES.values()
]


@pytest.mark.parametrize("file_of, change, message", BROKEN, ids=[*CALIBRATION, *SCENES])
def test_bad_calibration_or_scene_file_is_named(root, file_of, change, message):
    edit(file_of(root), change)
    with pytest.raises(BadRecord, match=message):
        scene_rules.check_scene(load(root))


def camera_datum(document, name="CAMERA_06"):
    return next(datum for datum in document["data"] if datum["id"]["name"] == name)


FRAMES = {
    "no time": (lambda s: camera_datum(s)["id"].update(timestamp="yesterday"), "time", "'yesterday'"),
    "no pose": (lambda s: camera_datum(s)["datum"]["image"].pop("pose"), "pose", "lacks.*pose"),
    "infinite pose": (
        lambda s: camera_datum(s)["datum"]["image"]["pose"]["translation"].update(x=-np.inf),
        "pose",
        "-inf.*not finite",
    ),
    "no rotation": (
        lambda s: camera_datum(s)["datum"]["image"]["pose"]["rotation"].update(qw=3.0),
        "pose",
        "no rotation",
    ),
    "no datum": (lambda s: s["data"].remove(camera_datum(s)), "row", "lacks"),
    "datum twice": (
        lambda s: s["samples"][0]["datum_keys"].append(camera_datum(s)["key"]),
        "row",
        "second of CAMERA_06",
    ),
    "datum without image": (lambda s: camera_datum(s).update(datum={}), "row", "lacks.*image"),
}


@pytest.mark.parametrize("case", FRAMES)
def test_bad_frame_is_named_and_costs_itself(root, case):
    change, kind, message = FRAMES[case]
    edit(scene_file(root), change)
    scene = load(root)
    scene_rules.check_scene(scene)
    (frame,) = scene.left_out
    assert frame.kind == kind and re.search(message, frame.reason)
    assert len(scene.frames) == (18 if case == "datum twice" else 17)


@pytest.mark.parametrize("time", [1.5, "1.5", None, True, {"seconds": 1556658180}, float("nan")])
def test_a_time_of_no_known_form_is_named_with_the_forms(root, time):
    edit(scene_file(root), lambda s: camera_datum(s)["id"].update(timestamp=time))
    (frame,) = load(root).left_out
    assert frame.kind == "time" and f"timestamp {time!r} is neither of the form 2020-01-31T12" in frame.reason


def test_bad_pose_of_the_front_camera_moves_the_world_to_its_next(root):
    edit(scene_file(root), lambda s: camera_datum(s, "CAMERA_01")["datum"]["image"]["pose"]["rotation"].update(qw=3.0))
    scene = load(root)
    assert [frame.frame for frame in scene.left_out] == ["CAMERA_01, step 0"]
    second = next(frame for frame in scene.frames if frame.camera == 0)
    np.testing.assert_allclose(second.world_from_camera, np.eye(4), atol=1e-9)


def test_recording_without_lidar_has_no_depth(root):
    edit(scene_file(root), lambda s: [x["datum_keys"].pop(0) for x in s["samples"]])
    scene = load(root)
    scene_rules.check_scene(scene)
    assert len(scene.frames) == 18 and not scene.left_out and not has_depth(scene)


def test_bad_lidar_file_costs_the_images_of_its_step(root):
    sweep = sorted((root / "scene_02/point_cloud/LIDAR").glob("*.npz"))[1]
    flat = io.BytesIO()
    np.savez(flat, data=np.zeros((5, 2)))
    for content in (b"", b"PK no sweep", flat.getvalue()):
        sweep.unlink()
        sweep.write_bytes(content)
        scene = load(root)
        assert {frame.step for frame in scene.frames} == {0, 2} and len(scene.left_out) == 6
        assert all(frame.kind == "depth" and f"{sweep.name}: is no LiDAR" in frame.reason for frame in scene.left_out)
    sweep.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 2345\n")
    assert "is no LiDAR sweep but is a Git LFS pointer to a file of 2,345 bytes" in load(root).left_out[0].reason


@pytest.mark.parametrize(
    "steps, window, lengths", [(50, 16, [12, 13, 12, 13]), (100, 16, [14, 14, 14, 15, 14, 14, 15])]
)
def test_drives_are_cut_evenly(tmp_path, steps, window, lengths):
    (tmp_path / "000001").mkdir()
    scene = tmp_path / "000001/scene_a.json"
    scene.write_text(json.dumps({"samples": [{}] * steps}))
    windows = windows_of(scene, window)
    assert [len(window) for window in windows] == lengths
    assert [step for window in windows for step in window] == list(range(steps))


@pytest.mark.parametrize(
    "names, chosen",
    [
        (
            ["scene_dataset_v1.2.json", "scene_dataset_v1.10.json", "scene_dataset_v1.9.json"],
            "scene_dataset_v1.10.json",
        ),
        (["ddad.json", "ddad_overfit.json"], "ddad.json"),
        (["ddad_overfit.json", "scene_dataset_v2.json"], "scene_dataset_v2.json"),
        (["scene_dataset.json", "scene_dataset_v1.0.json"], "scene_dataset_v1.0.json"),
        (["ddad_overfit.json"], "ddad_overfit.json"),
    ],
)
def test_newest_listing_is_read_and_the_choice_is_told(tmp_path, names, chosen):
    for name in names:
        table = {"0": {"filenames": [f"{name}/scene_x.json"]}}
        (tmp_path / name).write_text(json.dumps({"scene_splits": table}))
    source = Dgp(str(tmp_path))
    assert [name for name, _ in source.scenes("train")] == [chosen]
    notes = " ".join(source.notes())
    assert f"{chosen} is read, not" in notes if len(names) > 1 else not notes
    assert all(name in notes for name in names if len(names) > 1)


def test_dropped_image_of_one_camera_is_left_out(root):
    def drop(document):
        sample = document["samples"][1]
        names = {datum["key"]: datum["id"]["name"] for datum in document["data"]}
        sample["datum_keys"] = [key for key in sample["datum_keys"] if names[key] != "CAMERA_07"]

    edit(scene_file(root), drop)
    scene = load(root)
    scene_rules.check_scene(scene)
    assert len(scene.frames) == 17 and len(scene.cameras) == 6


def test_folder_without_data_is_one_error(tmp_path):
    with pytest.raises(BadRecord, match="holds no scene_dataset"):
        build_records("ddad", make_source("ddad", str(tmp_path)), tmp_path / "records")
    (tmp_path / "scene_dataset_v1.json").write_text('{"scene_splits": {}}')
    with pytest.raises(BadRecord, match="lists no scenes"):
        Dgp(str(tmp_path)).splits()
    (tmp_path / "scene_dataset_v1.json").write_text("[")
    with pytest.raises(BadRecord, match="no DGP data set listing"):
        Dgp(str(tmp_path)).splits()
    (tmp_path / "scene_dataset_v1.json").write_text('{"scene_splits": {"0": {"filenames": ["a/scene_b.json"]}}}')
    ((name, loader),) = Dgp(str(tmp_path)).scenes("train")
    with pytest.raises(BadRecord, match="scene_b.json: cannot be read"):
        loader()
