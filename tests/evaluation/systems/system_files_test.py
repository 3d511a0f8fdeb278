"""Files of other systems' scripts, which image is which, and what is refused."""

import dataclasses
import shutil

import numpy as np
import pytest

from rig3r_jax.evaluation.systems.match import match
from rig3r_jax.evaluation.systems.options import SystemOptions
from rig3r_jax.evaluation.systems.read import read_scene
from rig3r_jax.evaluation.systems.scene import DepthMap, PosedScene
from rig3r_jax.evaluation.systems.score import scenes_of, score_folder
from rig3r_jax.formats.cameras_json import write_cameras
from rig3r_jax.formats.kitti_poses import write_poses
from rig3r_jax.formats.tum import write_trajectory
from tests.evaluation.pose_test import random_cameras
from tests.exports.reconstructions import rig_of_three, unordered

POSES = random_cameras(np.random.default_rng(0), 5)
DEPTH = np.random.default_rng(1).uniform(1, 5, (5, 6, 8)).astype(np.float32)
INTRINSICS = np.tile([[7.0, 0, 4], [0, 7.5, 3], [0, 0, 1]], (5, 1, 1)).astype(np.float32)


def arrays_of(system):
    """What the demo scripts save of these cameras."""
    camera_from_world = np.linalg.inv(POSES).astype(np.float32)
    points, mask = np.random.default_rng(2).normal(size=(5, 6, 8, 3)), DEPTH > 1.5
    common = {"intrinsic": INTRINSICS, "depth": DEPTH[..., None], "world_points": points}
    return {
        "Depth Anything 3": {"extrinsics": camera_from_world[:, :3], "intrinsics": INTRINSICS, "depth": DEPTH},
        "VGGT": {"extrinsic": camera_from_world[:, :3], **common},
        "MapAnything": {"extrinsic": POSES.astype(np.float32), **common, "final_mask": mask},
        "any system": {"world_from_camera": POSES, "names": np.array(list("abcde")), "times": np.arange(5.0)},
    }[system]


@pytest.mark.parametrize("system", ["Depth Anything 3", "VGGT", "MapAnything", "any system"])
def test_arrays_of_demo_scripts(tmp_path, system):
    np.savez(tmp_path / "predictions.npz", **arrays_of(system), conf=np.ones(3))
    scene = read_scene(tmp_path)
    assert scene.kind == f"arrays of {system}"
    np.testing.assert_allclose(scene.world_from_camera, POSES, atol=1e-5)
    if system == "any system":
        assert scene.names == tuple("abcde") and scene.times.tolist() == [0, 1, 2, 3, 4]
        return
    np.testing.assert_allclose(scene.focals[0], [7, 7.5])
    assert scene.sizes[0].tolist() == [8, 6] and len(scene.depths) == 5
    values, valid = scene.depths[2].nearest(np.array([[0.5 / 8, 0.5 / 6], [7.4 / 8, 5.6 / 6], [1.2, 0.5]]))
    np.testing.assert_allclose(values[:2], DEPTH[2][[0, 5], [0, 7]])
    assert not valid[2] and (valid[:2] == (DEPTH[2][[0, 5], [0, 7]] > (1.5 if system == "MapAnything" else 0))).all()
    masked = system == "MapAnything"
    expected = None if system == "Depth Anything 3" else (DEPTH > 1.5).sum() if masked else DEPTH.size
    assert (None if scene.points_world is None else len(scene.points_world)) == expected


def test_where_depth_anything_puts_its_arrays(tmp_path):
    (tmp_path / "exports/mini_npz").mkdir(parents=True)
    np.savez(tmp_path / "exports/mini_npz/results.npz", **arrays_of("Depth Anything 3"))
    assert len(read_scene(tmp_path)) == 5


@pytest.mark.parametrize(
    "arrays, message",
    [
        ({"depth": DEPTH}, "has depth; must have extrinsics, extrinsic or world_from_camera"),
        ({"extrinsics": np.zeros((5, 4))}, r"extrinsics has shape \(5, 4\), must be"),
        ({"extrinsics": 2 * POSES}, "extrinsics of image 0 = .* is no rigid transform"),
        ({"extrinsics": POSES, "depth": DEPTH[:3]}, r"depth has shape \(3, 6, 8\) for 5 poses; give one to each"),
        ({"extrinsics": POSES, "depth": DEPTH[:, None, None]}, "depth has shape"),
        ({"extrinsics": POSES, "names": np.array(["a", {}], object)}, "does not open as arrays without pickles"),
    ],
)
def test_arrays_that_do_not_fit(tmp_path, arrays, message):
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(ValueError, match=f"x.npz: {message}"):
        read_scene(tmp_path / "x.npz")


@pytest.mark.parametrize("name", ["x.npz", "x.foo", "folder", "x.json", "x.txt", "x.ply"])
def test_what_is_no_scene_is_named(tmp_path, name):
    (tmp_path / "folder").mkdir()
    if name != "folder":
        (tmp_path / name).write_text("1 2 3\n" if name == "x.txt" else "{}")
    with pytest.raises(ValueError, match=name):
        read_scene(tmp_path / name)


def scene(names=None, times=None, cameras=None, count=4):
    return PosedScene("file", "made", np.tile(np.eye(4), (count, 1, 1)), names, times, cameras)


def test_names_that_differ_in_folders_and_suffixes():
    true = scene(("front/0.jpg", "front/1.jpg", "left/0.jpg", "left/1.jpg"))
    found = match(scene(("x/left/1.png", "left/1", "/data/front/0.jpg", "other.jpg")), true)
    assert (found.predicted.tolist(), found.true.tolist(), found.strangers) == ([2, 1], [0, 3], 2)


def test_times_within_a_gap_each_once_and_by_camera():
    true = scene(times=np.array([0.0, 0.1, 0.2, 0.3]))
    found = match(scene(times=np.array([0.005, 0.008, 0.2, 9.0])), true)
    assert (found.predicted.tolist(), found.true.tolist(), found.strangers) == ([0, 2], [0, 2], 2)
    by_camera = scene(times=np.array([0.0, 0.0, 0.1, 0.1]), cameras=("a", "b", "a", "b"))
    found = match(scene(times=np.array([0.1, 0.1, 0.0, 0.0]), cameras=("b", "a", "b", "a")), by_camera)
    assert found.predicted.tolist() == [3, 2, 1, 0]
    alone = dataclasses.replace(scene(times=np.array([0.0, 0.1]), count=2), source="somewhere/b.tum")
    assert match(alone, by_camera).true.tolist() == [1, 3]
    with pytest.raises(ValueError, match="images were taken at one time, and .* name trajectories after them: a, b"):
        match(scene(times=np.array([0.0, 0.1, 0.2, 0.3])), by_camera)


@pytest.mark.parametrize(
    "predicted, way, message",
    [
        (scene(), "auto", "neither names nor times in common; give --match order"),
        (scene(count=3), "order", "3 and 4 images; by order there must be as many in both"),
        (scene(), "name", "states no names of its images"),
        (scene(("a", "b", "c", "d")), "name", "no image in common by name: a, b there, 0.jpg, 1.jpg here"),
        (scene(times=np.arange(4.0) + 100), "time", "100.000 to 103.000 s and 0.000 to 3.000 s, .* raise --max-gap"),
        (scene(), "guess", "match 'guess' is unknown"),
    ],
)
def test_images_that_cannot_be_told(predicted, way, message):
    true = scene(("0.jpg", "1.jpg", "2.jpg", "3.jpg"), np.arange(4.0))
    with pytest.raises(ValueError, match=message):
        match(predicted, true, way)


def test_folders_of_scenes(tmp_path):
    for folder, scenes in (("truth", "abc"), ("system", "ab")):
        (tmp_path / folder).mkdir()
        for name in scenes:
            write_cameras(tmp_path / folder / f"{name}.json", rig_of_three("pinhole"))
    shutil.copytree(tmp_path / "system", tmp_path / "other")
    (tmp_path / "other/b.json").unlink()
    (tmp_path / "other/b").mkdir()
    write_cameras(tmp_path / "other/b/cameras.json", rig_of_three("pinhole"))
    assert list(scenes_of(tmp_path / "other")) == ["a", "b"]
    with pytest.raises(ValueError, match="lacks 1 of the 3 scenes of .*truth, such as c; .* --skip-missing"):
        score_folder(tmp_path / "system", tmp_path / "truth", SystemOptions())
    scores, missing = score_folder(tmp_path / "other", tmp_path / "truth", SystemOptions(), skip_missing=True)
    assert [one.name for one in scores] == ["a", "b"] and missing == ["c"]
    with pytest.raises(ValueError, match="nowhere: there is no such file or folder"):
        score_folder(tmp_path / "nowhere", tmp_path / "truth", SystemOptions())
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty: is no scene and holds none"):
        score_folder(tmp_path / "system", tmp_path / "empty", SystemOptions())


def test_single_trajectories(tmp_path):
    times = np.arange(5.0)
    write_trajectory(tmp_path / "a.txt", times, POSES)
    write_poses(tmp_path / "k.txt", POSES)
    for path, kind in (("a.txt", "TUM"), ("k.txt", "KITTI")):
        read = read_scene(tmp_path / path)
        assert read.kind == kind
        np.testing.assert_allclose(read.world_from_camera, POSES, atol=1e-9)
    values = score_folder(tmp_path / "k.txt", tmp_path / "a.txt", SystemOptions(match="order"))[0][0].measures.values
    assert values["ATE_m"] == pytest.approx(0, abs=1e-9) and np.isnan(values["rig_ari"])
    (tmp_path / "k.times.txt").write_text("0\n1\n")
    with pytest.raises(ValueError, match="k.times.txt: has 2 times for 5 poses"):
        read_scene(tmp_path / "k.txt")


def test_a_dense_true_trajectory_has_no_missing_images(tmp_path):
    times = np.repeat(np.arange(20.0), [1] * 19 + [2]) / 10  # the last time is there twice, as in real files
    poses = random_cameras(np.random.default_rng(1), 21)
    write_trajectory(tmp_path / "truth.txt", times, poses)
    write_trajectory(tmp_path / "system.txt", times[1:12:2] + 0.004, poses[1:12:2])
    values = score_folder(tmp_path / "system.txt", tmp_path / "truth.txt", SystemOptions())[0][0].measures.values
    assert (values["images"], values["images_missing"], values["RRA3"]) == (6, 0, pytest.approx(100))


def test_many_images_make_pairs_of_some(tmp_path):
    poses = random_cameras(np.random.default_rng(1), 30)
    write_poses(tmp_path / "k.txt", poses)
    options = SystemOptions(match="order", max_images=10)
    values = score_folder(tmp_path / "k.txt", tmp_path / "k.txt", options)[0][0].measures.values
    assert values["images"] == 30 and values["pairs"] == 45


@pytest.mark.parametrize(
    "system, truth, options, ate",
    [  # of evo_ape, with -a, -as, -as
        ("freiburg1_xyz-rgbdslam", "freiburg1_xyz-groundtruth", {"align": "se3", "longest_gap": 0.01}, 0.013470),
        ("fr2_desk_ORB", "fr2_desk_groundtruth", {"longest_gap": 0.01}, 0.006123),
        ("KITTI_00_ORB", "KITTI_00_gt", {"match": "order"}, 0.937709),
    ],
)
def test_real_trajectories_have_the_errors_that_evo_finds(shared, system, truth, options, ate):
    folder = shared / "realdata/trajectories_gt"
    options = SystemOptions(**options, max_images=20)
    ((scores,), _) = score_folder(folder / f"{system}.txt", folder / f"{truth}.txt", options)
    assert scores.measures.values["ATE_m"] == pytest.approx(ate, abs=1e-6)


def test_units_that_are_no_metre_have_no_scale_error(tmp_path):
    write_cameras(tmp_path / "system.json", dataclasses.replace(unordered("pinhole"), points=None))
    metric = dataclasses.replace(unordered("pinhole"), points=None, length_unit="metre", scale=None)
    write_cameras(tmp_path / "truth.json", metric)
    measures = score_folder(tmp_path / "system.json", tmp_path / "truth.json", SystemOptions())[0][0].measures
    assert measures.reasons["scale_error_percent"].endswith("system.json says that its unit is no metre")


def test_a_depth_map_of_one_row():
    values, valid = DepthMap.of_image(np.array([[1.0, 2.0, np.nan]])).nearest(np.array([[0.5, 0.5], [0.9, 0.2]]))
    assert values[0] == 2 and valid.tolist() == [True, False]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"missing": "no"}, "missing 'no' is unknown"),
        ({"thresholds": (0.1, 0.05)}, "thresholds .* must be positive and ascend"),
        ({"resamples": 3}, "resamples is 3; it must be 100 at least"),
        ({"longest_gap": -1.0}, "longest_gap is -1.0"),
    ],
)
def test_options_that_do_not_fit(change, message):
    with pytest.raises(ValueError, match=message):
        SystemOptions(**change)
