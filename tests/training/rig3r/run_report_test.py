"""The scene that a run's report shows and writes: right predictions become the true scene."""

import jax
import numpy as np
import pytest

from rig3r_jax.formats.cameras_json import read_cameras
from rig3r_jax.formats.ply import read_ply
from rig3r_jax.geometry.camera import Fisheye, cell_centers
from rig3r_jax.losses.ground_truth import ground_truth
from rig3r_jax.schema import CONFIDENT, Distortion, Predictions
from rig3r_jax.training.rig3r import report
from rig3r_jax.viz.panels import view_panels
from tests.batches import random_batch


@pytest.fixture(scope="module")
def sample():
    """(views, targets, right predictions, z-bar) of a sample of four cameras."""
    batch = random_batch(seed=4, batch=1, views=4)
    targets = batch.targets.replace(camera_index=np.array([[2, 0, 5, 1]], np.int32))
    truth = jax.jit(ground_truth, static_argnums=(2, 3))(targets, batch.views.image_mask, (8, 8), (4, 4))
    predictions = Predictions(
        points=truth.points,
        confidence=1.0 + np.random.default_rng(0).random((1, 4, 8, 8)),
        pose_directions=truth.pose_directions,
        pose_center=truth.pose_center,
        rig_directions=truth.rig_directions,
        rig_center=truth.rig_center,
    )
    views, targets, predictions = jax.tree.map(lambda x: np.asarray(x)[0], (batch.views, targets, predictions))
    return views, targets, predictions, float(truth.scale[0])


@pytest.mark.parametrize(("with_rig", "known_intrinsics"), [(True, True), (True, False), (False, True)])
def test_scene_of_right_predictions_is_the_true_one(sample, with_rig, known_intrinsics):
    views, targets, predictions, scale = sample
    scene = report._reconstruction(views, targets, predictions, with_rig=with_rig, known_intrinsics=known_intrinsics)
    assert scene.scale.source == ("rig baselines" if with_rig else "given")
    # Without the rig the scale is that of all valid depths, padding too, as the report has always said.
    assert scene.scale.factor == pytest.approx(scale, rel=1e-4 if with_rig else 0.05)
    factor = scene.scale.factor / scale
    np.testing.assert_allclose(scene.world_from_camera[:, :3, :3], targets.reference_from_camera[:, :3, :3], atol=1e-4)
    np.testing.assert_allclose(
        scene.world_from_camera[:, :3, 3], factor * targets.reference_from_camera[:, :3, 3], atol=1e-4
    )
    np.testing.assert_allclose(scene.intrinsics, targets.intrinsics, rtol=1e-4)
    rows = np.arange(2, 32, 4)
    valid = targets.valid[:, rows[:, None], rows] & scene.points.on_image
    u, v = np.meshgrid(rows + 0.5, rows + 0.5)
    focal, middle = targets.intrinsics[:, 0, 0, None, None], 16.0
    along_axis = focal / np.sqrt((u - middle) ** 2 + (v - middle) ** 2 + focal**2)
    depth = factor * targets.depth[:, rows[:, None], rows] * along_axis
    np.testing.assert_allclose(scene.points.depth[valid], depth[valid], rtol=1e-3)
    assert [camera.id for camera in scene.cameras] == ([2, 0, 5, 1] if with_rig else [])


def test_fisheyes_that_are_not_known_are_fitted(sample):
    views, targets, predictions, _ = sample
    bends = np.array([0.02, -0.01, 2e-3, -1e-4, 0.0])
    targets = targets.replace(distortion=Distortion(np.full(4, 2, np.int32), np.tile(bends, (4, 1))))
    lens = Fisheye(targets.intrinsics[0], bends[:4])
    cells = np.asarray(cell_centers(32, 32, 6, 6), np.float64)
    directions = [
        Fisheye(k, bends[:4]).rays(cells) @ pose[:3, :3].T
        for k, pose in zip(targets.intrinsics, targets.reference_from_camera, strict=True)
    ]
    predictions = predictions.replace(pose_directions=np.stack(directions))
    views = views.replace(image_mask=np.ones_like(views.image_mask))
    scene = report._reconstruction(views, targets, predictions, with_rig=True, known_intrinsics=False)
    np.testing.assert_allclose(scene.intrinsics, targets.intrinsics, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(scene.images[0].lens.rays(cells), lens.rays(cells), atol=1e-4)
    known = report._reconstruction(views, targets, predictions, with_rig=True, known_intrinsics=True)
    assert [image.lens.kind for image in known.images] == ["fisheye"] * 4


def test_files_and_picture_are_of_the_same_scene(sample, tmp_path):
    views, targets, predictions, _ = sample
    scene = report._reconstruction(views, targets, predictions, with_rig=True, known_intrinsics=True)
    report._write_scene(tmp_path, scene)
    example = report._example("title", scene, views, targets)
    assert example.title == "title; scale from the rig baselines"
    np.testing.assert_array_equal(example.images, views.images)
    cloud = read_ply(tmp_path / "points.ply")
    assert example.reconstruction is scene and example.unit == "m"
    chosen = scene.points.confident()
    np.testing.assert_allclose(cloud.points_world, scene.points.points_world[chosen], rtol=1e-6)
    np.testing.assert_array_equal(cloud.colors, scene.points.colors[chosen])
    assert len(cloud.points_world) == pytest.approx(CONFIDENT * scene.points.on_image.sum(), abs=1)
    file = read_cameras(tmp_path / "cameras.json")
    assert [(image.name, image.width, image.camera) for image in file.images] == [
        (f"view_0{view}", 32, number) for view, number in enumerate([2, 0, 5, 1])
    ]
    assert (file.length_unit, file.scale) == ("metre", scene.scale)
    np.testing.assert_array_equal(file.world_from_camera, scene.world_from_camera)
    np.testing.assert_allclose([camera.rig_from_camera for camera in file.cameras], targets.rig_from_camera, atol=1e-6)


@pytest.mark.parametrize(("with_rig", "words"), [(True, "scale from the rig baselines"), (False, "no depth is known")])
def test_scene_without_depth_is_shown_without_truth(sample, with_rig, words):
    views, targets, predictions, _ = sample
    targets = targets.replace(valid=np.zeros_like(targets.valid), depth=np.zeros_like(targets.depth))
    scene = report._reconstruction(views, targets, predictions, with_rig=with_rig, known_intrinsics=True)
    assert scene.scale.source == ("rig baselines" if with_rig else "none")
    example = report._example("title", scene, views, targets)
    assert example.title.startswith(f"title; {words}") and example.unit == ("m" if with_rig else "scene units")
    labels = ["view"] * len(example.images)
    text = view_panels(example.images, example.depth_true, scene.points.depth, None, example.valid, labels)
    assert "Depth, predicted" in text and "Depth, true" not in text
