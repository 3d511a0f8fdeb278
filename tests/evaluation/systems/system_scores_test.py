"""Scores of files are those of what was written, whatever the format, and agree with the other tools that exist."""

import dataclasses

import numpy as np
import pytest
from scipy.linalg import expm
from scipy.spatial.transform import Rotation

from rig3r_jax.evaluation.options import ScoreOptions
from rig3r_jax.evaluation.scores import Scorer
from rig3r_jax.evaluation.systems.cameras import tangent
from rig3r_jax.evaluation.systems.options import SystemOptions
from rig3r_jax.evaluation.systems.pairs import AUCS
from rig3r_jax.evaluation.systems.read import scene_of
from rig3r_jax.evaluation.systems.scene import PosedScene
from rig3r_jax.evaluation.systems.score import score_folder, score_scene
from rig3r_jax.evaluation.systems.summary import evaluate_systems
from rig3r_jax.exports.export import export
from rig3r_jax.geometry import rigid, se3
from rig3r_jax.geometry.aligned import stretched
from tests.evaluation.pose_test import noisy, random_cameras
from tests.exports.reconstructions import rig_of_three

POSES = ("RRA", "RTA", "mAA", "AUC", "ATE", "RPE", "scale", "same", "across")  # keys of poses begin so
KINDS = ["cameras", "npz", "colmap", "tum", "kitti", "transforms", "ply"]
FILES = {  # below the folder of an export
    "cameras.json": (),
    "colmap": ("focal_error_percent",),
    "trajectories_tum": (),
    "transforms.json": ("focal_error_percent",),
}


def shaken(reconstruction, seed=0, size=0.05):
    """The same with cameras that are a little off, by the rig and by the trajectory, and points too."""
    rng = np.random.default_rng(seed)
    off = [
        rigid.from_rotation_translation(
            Rotation.from_rotvec(size * rng.normal(size=3)).as_matrix(), size * rng.normal(size=3)
        )
        for _ in range(8)
    ]
    cameras = tuple(
        dataclasses.replace(camera, rig_from_camera=camera.rig_from_camera @ off[camera.id])
        for camera in reconstruction.cameras
    )
    images = []
    for image in reconstruction.images:
        old = reconstruction.cameras[image.camera].rig_from_camera
        world_from_rig = image.world_from_camera @ rigid.invert(old) @ off[3 + round(4 * image.time)]
        pose = world_from_rig @ cameras[image.camera].rig_from_camera
        images.append(dataclasses.replace(image, world_from_camera=pose))
    points = reconstruction.points
    points = dataclasses.replace(points, points_world=points.points_world + 0.02, depth=1.05 * points.depth)
    return dataclasses.replace(reconstruction, images=tuple(images), cameras=cameras, points=points)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("systems")
    truth, system = rig_of_three("pinhole"), shaken(rig_of_three("pinhole"))
    export(truth, folder / "truth", KINDS)
    export(system, folder / "system", KINDS)
    return folder, truth, system


@pytest.mark.parametrize("file", FILES)
def test_files_give_the_numbers_of_what_was_written(written, file):
    folder, truth, system = written
    options = SystemOptions()
    direct = score_scene(scene_of(system, "system"), scene_of(truth, "truth"), options).measures.values
    scores, _ = score_folder(folder / "system" / file, folder / "truth", options)
    values = scores[0].measures.values
    keys = [
        key for key in direct if key.startswith(("RRA", "RTA", "mAA", "AUC", "ATE", "RPE", "scale", "same", "across"))
    ]
    assert len(keys) > 60 and not np.isnan([direct[key] for key in keys]).any()
    for key in [*keys, *FILES[file]]:
        assert values[key] == pytest.approx(direct[key], abs=1e-6), key
    assert 0 < direct["RRA5"] < 100 and direct["ATE_m"] > 0.01


def test_numbers_are_those_of_the_evaluation_of_trainings(written):
    _, truth, system = written
    values = score_scene(scene_of(system, "s"), scene_of(truth, "t"), SystemOptions()).measures.values
    scorer = Scorer(ScoreOptions())
    index = np.array([image.camera for image in truth.images])
    times = np.array([image.time for image in truth.images])
    scorer.add_poses(system.world_from_camera, truth.world_from_camera, times, index)
    expected = scorer.scores()
    for key in (
        "RRA5",
        "RRA15",
        "RTA5",
        "RTA15",
        "RTA5_unfolded",
        "RTA15_unfolded",
        "mAA30",
        "mAA30_unfolded",
        "pairs",
    ):
        assert values[key] == pytest.approx(expected[key], abs=1e-9), key
    for key in ("RRA15", "mAA30"):
        assert values[f"same time step/{key}"] == pytest.approx(expected["same_time"][key], abs=1e-9)
        assert values[f"baseline from 3 m/{key}"] == pytest.approx(expected["far"][key], abs=1e-9)


def test_kitti_by_order_and_its_times(written):
    folder, _, _ = written
    scores, _ = score_folder(folder / "system/trajectories_kitti", folder / "truth", SystemOptions())
    direct, _ = score_folder(folder / "system", folder / "truth", SystemOptions())
    assert scores[0].matched_by == "time"
    assert scores[0].measures.values["ATE_m"] == pytest.approx(direct[0].measures.values["ATE_m"], abs=1e-9)
    front = folder / "system/trajectories_kitti/front.txt"
    by_order, _ = score_folder(front, folder / "truth/trajectories_kitti/front.txt", SystemOptions(match="order"))
    assert by_order[0].measures.values["images"] == 4


EVO = {"ATE_m": "ape_trans", "ATE_rot_deg": "ape_rot_deg", "RPE_m": "rpe_trans_d1", "RPE_rot_deg": "rpe_rot_deg_d1"}


@pytest.mark.parametrize("ours, evo", [("none", "none"), ("se3", "se3"), ("sim3", "sim3"), ("first", "origin")])
def test_golden_trajectory_errors_of_evo(shared, ours, evo):
    with np.load(shared / "golden/evo_metrics/evo.npz") as golden:
        for case in ("smooth30", "noisy12", "short3"):
            scenes = [PosedScene(name, "golden", golden[f"{case}/{name}_c2w"]) for name in ("est", "gt")]
            values = score_scene(*scenes, SystemOptions(align=ours, match="order")).measures.values
            for key, name in EVO.items():
                assert values[key] == pytest.approx(golden[f"{case}/{evo}/{name}/rmse"], abs=1e-9), (case, key)


def test_what_is_right_is_perfect_and_nothing_is_missing(written):
    folder, _, _ = written
    values = score_folder(folder / "truth", folder / "truth", SystemOptions())[0][0].measures.values
    for key in ("RRA3", "RTA3_unfolded", "mAA30", "AUC3_da3", "rig_id_accuracy", "rig_mAA30", "depth_delta_103"):
        assert values[key] == pytest.approx(100), key
    for key in ("ATE_m", "RPE_m", "scale_error_percent", "focal_error_percent", "depth_abs_rel", "chamfer_m"):
        assert values[key] == pytest.approx(0, abs=1e-6), key
    assert values["depth_coverage"] == 100 and values["fscore_0.05m"] == 100


def test_depth_and_points_follow_the_alignment(written):
    folder, truth, system = written
    scene = scene_of(system, "s")
    scenes = scene, scene_of(truth, "t")
    first = score_scene(*scenes, SystemOptions(align="none")).measures.values
    assert first["depth_abs_rel"] == pytest.approx(0.05, abs=1e-6)
    assert first["depth_abs_rel_median"] == pytest.approx(0, abs=1e-6)
    assert first["depth_delta_103"] == 0 and first["depth_delta1"] == 100
    halved = dataclasses.replace(
        scene,
        world_from_camera=stretched(scene.world_from_camera, 0.5),
        points_world=scene.points_world / 2,
        depths=tuple(dataclasses.replace(one, depth=one.depth / 2) for one in scene.depths),
    )
    ours, theirs = (score_scene(s, scenes[1], SystemOptions()).measures.values for s in (scene, halved))
    for key in ("ATE_m", "depth_abs_rel", "chamfer_m", "fscore_0.25m"):
        assert theirs[key] == pytest.approx(ours[key], abs=1e-9), key
    assert theirs["scale_error_percent"] == pytest.approx(50, abs=5)


def test_depths_along_axes_and_along_rays_are_compared_where_the_lens_is_known(written):
    """Maps that nothing turns into the other kind are counted, and what is not predicted is not covered."""
    _, truth, _ = written
    true = scene_of(truth, "t")
    along_rays = dataclasses.replace(true, depths=tuple(one.distances for one in true.depths))
    for pair in ((along_rays, true), (true, along_rays)):
        values = score_scene(*pair, SystemOptions()).measures.values
        assert values["depth_abs_rel"] == pytest.approx(0, abs=1e-6)
        assert (values["depth_coverage"], values["depth_maps_left_out"]) == (100, 0)
    no_lens = dataclasses.replace(true.depths[0], stretch=None)
    half = dataclasses.replace(true, depths=(no_lens, None, *true.depths[2:]))
    measures = score_scene(half, along_rays, SystemOptions()).measures
    counts = [int(one.valid.sum()) for one in true.depths]
    assert measures.values["depth_maps_left_out"] == 1
    assert measures.values["depth_coverage"] == pytest.approx(100 * sum(counts[2:]) / sum(counts[1:]))
    none = dataclasses.replace(true, depths=(no_lens,) * len(true))
    measures = score_scene(none, along_rays, SystemOptions()).measures
    assert measures.values["depth_maps_left_out"] == len(true) and "without lenses" in measures.reasons["depth_abs_rel"]


def scene(poses, **more):
    return PosedScene("here", "made", poses, tuple(f"{row}.png" for row in range(len(poses))), **more)


def test_missing_images_fail_or_are_left_out():
    true = random_cameras(np.random.default_rng(0), 6)
    whole, part = scene(true), scene(true).take(np.arange(4))
    failed = score_scene(part, whole, SystemOptions()).measures.values
    for key in ("RRA5", "RTA5", "RTA30_unfolded", "mAA30", "AUC30_vggt", "AUC30_da3"):
        assert failed[key] == pytest.approx(100 * 6 / 15), key
    assert failed["images_missing"] == 2
    left_out = score_scene(part, whole, SystemOptions(missing="leave-out")).measures.values
    assert left_out["RRA5"] == left_out["AUC30_da3"] == 100 and left_out["pairs"] == 6
    none = scene(true).take(np.arange(0))
    failed = score_scene(none, whole, SystemOptions()).measures.values
    assert {failed[key] for key in ("RRA5", "mAA30", *AUCS)} == {0.0}
    left_out = score_scene(none, whole, SystemOptions(missing="leave-out")).measures.values
    assert all(np.isnan(left_out[key]) for key in ("RRA5", "mAA30", *AUCS))


def test_an_image_whose_place_in_the_rig_is_not_finite_is_of_no_camera():
    true = scene_of(rig_of_three("pinhole"), "truth")
    places = true.rig_from_camera.copy()
    places[0] = np.nan
    system = dataclasses.replace(true, rig_from_camera=places, cameras=("camera -1", *true.cameras[1:]))
    values = score_scene(system, true, SystemOptions()).measures.values
    assert values["rig_id_accuracy"] == pytest.approx(100 * (len(true) - 1) / len(true))
    assert values["camera_count_error"] == 0 and values["rig_mAA30"] == 100


def test_a_robust_alignment_is_not_pulled():
    rng = np.random.default_rng(1)
    true = random_cameras(rng, 12)
    predicted = noisy(true, rng, 0.1, 0.005)
    predicted[[2, 7], :3, 3] += 40.0
    moved = random_cameras(rng, 1)[0] @ predicted
    errors = {}
    for how in ("sim3", "robust"):
        values = score_scene(scene(moved).take(np.arange(12)), scene(true), SystemOptions(align=how)).measures.values
        errors[how] = values["ATE_rot_deg"]
    assert errors["robust"] < 0.5 < errors["sim3"]


def test_covariances_that_are_right_have_d2_of_3_and_6():
    rng = np.random.default_rng(2)
    true = random_cameras(rng, 400)
    sigma = np.array([0.3, 0.1, 0.2, 0.02, 0.03, 0.01])
    mix = np.linalg.qr(rng.normal(size=(6, 6)))[0] * sigma
    covariance = mix @ mix.T
    xi = rng.normal(size=(400, 6)) @ mix.T
    xi[0] = 0
    predicted = true @ rigid.invert(np.asarray(se3.exp(xi), np.float64))
    predicted[:, 3] = [0, 0, 0, 1]
    predicted = rigid.nearest_rigid(predicted)
    given = scene(predicted, covariances=np.tile(covariance, (400, 1, 1)))
    values = score_scene(given, scene(true), SystemOptions(align="first")).measures.values
    assert values["d2_trans"] == pytest.approx(3, abs=0.4) and values["d2_rot"] == pytest.approx(3, abs=0.4)
    assert values["d2_pose"] == pytest.approx(6, abs=0.6)
    assert values["coverage_1sigma"] == pytest.approx(68.3, abs=3)
    assert values["coverage_2sigma"] == pytest.approx(95.4, abs=2)


@pytest.mark.parametrize("size", [1e-7, 1e-3, 0.5, 3.0])
def test_tangent_inverts_the_exponential(size):
    xi = np.random.default_rng(3).normal(size=(50, 6))
    xi[:, 3:] *= size / np.linalg.norm(xi[:, 3:], axis=1, keepdims=True)
    hat = np.zeros((50, 4, 4))
    hat[:, :3, :3] = np.stack([np.cross(w, np.eye(3)) for w in xi[:, 3:]]).swapaxes(1, 2)
    hat[:, :3, 3] = xi[:, :3]
    np.testing.assert_allclose(tangent(expm(hat)), xi, atol=1e-8)


def test_no_system_is_refused(written):
    with pytest.raises(ValueError, match="no predictions; give the files or the folder of one system"):
        evaluate_systems([], written[0] / "truth", SystemOptions())


def test_clouds_alone_are_scored_as_they_are(written):
    folder, _, _ = written
    true, system = folder / "truth/points.ply", folder / "system/points.ply"
    scores = score_folder(system, true, SystemOptions(align="none"))[0][0].measures
    assert 0 < scores.values["chamfer_m"] < 0.2 and scores.reasons["RRA5"] == "no pairs of images"
    lack = score_folder(system, true, SystemOptions())[0][0].measures
    assert np.isnan(lack.values["chamfer_m"]) and "--align none" in lack.reasons["chamfer_m"]
