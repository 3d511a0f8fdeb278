"""The page of an evaluation of systems: one well-formed file, safe against names, whose numbers are the table's."""

import dataclasses
import math
import re

import numpy as np
import pytest
from scipy import stats

from rig3r_jax.evaluation.error_samples import ErrorSamples
from rig3r_jax.evaluation.systems.aligned import aligned_scene
from rig3r_jax.evaluation.systems.options import SystemOptions
from rig3r_jax.evaluation.systems.read import scene_of
from rig3r_jax.evaluation.systems.scene import PosedScene
from rig3r_jax.geometry import rigid
from rig3r_jax.viz.systems import reliability
from rig3r_jax.viz.systems.error_maps import error_maps, relative_errors
from rig3r_jax.viz.systems.page import write_page
from rig3r_jax.viz.systems.scene_section import scene_section
from rig3r_jax.viz.systems.scenes import SceneLook, chosen_scenes, level_from_world, look_at
from tests.evaluation.pose_test import random_cameras
from tests.exports.reconstructions import rig_of_three
from tests.viz.evaluated_systems import FAR, NEAR, SCENES, write_example
from tests.viz.report_test import Page


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    return write_example(tmp_path_factory.mktemp("page"))


def test_it_is_one_file_that_holds_the_tables_numbers(example):
    path, evaluation = example
    text = path.read_text()
    page = Page(text)
    assert page.counts["script"] == 1 and not re.search(r'(src|href)="(?!data:|#)', text)
    cells = {row[0]: row[1:] for row in page.rows if row}
    for system in evaluation.systems:
        assert f"{system.numbers['mAA30'].value:.1f}" in " ".join(cells[system.name])
    missing = f"{sum(system.numbers['images_missing'].value for system in evaluation.systems):.0f}"
    assert missing == "3" and cells["images without a predicted pose"] == ["0", "3"]
    assert all(scene in cells for scene in SCENES)
    words = " ".join(page.text)
    for sentence in (
        "12 of 12 images with a pose",
        "11 of 12 images with a pose",
        "true rig",
        "Reliability of rotation",
    ):
        assert sentence in words
    assert text.count("data:image/png") >= 1 + 3 * 3 * (12 + 11)  # chart, maps of each image by each system


def test_the_worst_and_the_best_scene_are_those_of_the_rates(example):
    _, evaluation = example
    near = evaluation.systems[0]
    rates = {scene.name: scene.measures.values["mAA30"] for scene in near.scenes}
    order = sorted(rates, key=rates.get)
    assert list(chosen_scenes(near, 1)) == [order[0], order[-1]]
    assert sorted(chosen_scenes(near, 2)) == sorted(order)  # each once
    unrated = [dataclasses.replace(scene) for scene in near.scenes[:1]]
    unrated[0].measures.sums["mAA30"], unrated[0].measures.weights["mAA30"] = 0.0, 0.0
    assert chosen_scenes(dataclasses.replace(near, scenes=tuple(unrated)), 2) == {}


def test_scenes_are_read_with_pictures_and_every_system(example):
    _, evaluation = example
    look = look_at(evaluation, SCENES[1], "why")
    assert list(look.systems) == [NEAR, FAR] and len(look.pictures) == 12 and look.pictures_note == ""
    far = look.systems[FAR]
    assert len(far.theirs) == 11 and np.isnan(far.poses[-1]).all() and np.isfinite(far.poses[:-1]).all()


def test_each_system_is_beside_the_part_of_a_true_trajectory_that_it_has():
    true = PosedScene("t.tum", "TUM", random_cameras(np.random.default_rng(0), 12), times=np.arange(12.0))
    parts = {"late": np.arange(5, 12), "all": np.arange(12), "early": np.arange(4)}
    systems = {name: aligned_scene(true.take(rows), true, SystemOptions()) for name, rows in parts.items()}
    look = SceneLook("drive", "why", systems["late"].true, systems, (), {}, "")
    section = scene_section(look, "x")
    for rows in parts.values():
        assert f"{len(rows)} of {len(rows)} images with a pose" in section


def test_predictions_without_files_have_no_scenes(example, tmp_path):
    _, evaluation = example
    write_page(tmp_path / "page.html", evaluation, [], from_files=False)
    words = " ".join(Page((tmp_path / "page.html").read_text()).text)
    assert "Scores" in words and "Scenes" not in words.split("Scores")[1].split("Every scene")[1]


def test_the_level_frame_has_its_y_axis_down():
    scene = scene_of(rig_of_three("pinhole"), "scene")
    world = rigid.from_rotation_translation(np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0], np.ones(3))
    world[:3, 2] *= np.linalg.det(world[:3, :3])
    turned = dataclasses.replace(scene, world_from_camera=world @ scene.world_from_camera)
    for one in (scene, turned):
        level = level_from_world(one) @ one.world_from_camera
        np.testing.assert_allclose(level[0, :3, 3], 0, atol=1e-12)
        assert np.linalg.det(level[0, :3, :3]) == pytest.approx(1.0)
        assert level[:, 1, 1].mean() > 0.99 and level[0, 2, 2] > 0.99
    np.testing.assert_allclose(
        level_from_world(scene) @ scene.world_from_camera,
        level_from_world(turned) @ turned.world_from_camera,
        atol=1e-9,
    )


def test_error_maps_are_shares_of_the_true_depth():
    true = rig_of_three("pinhole")
    points = dataclasses.replace(true.points, depth=1.2 * true.points.depth)
    scene = aligned_scene(
        scene_of(dataclasses.replace(true, points=points), "ours"), scene_of(true, "truth"), SystemOptions()
    )
    for ours, theirs in zip(scene.ours.depths, scene.theirs.depths, strict=True):
        np.testing.assert_allclose(relative_errors(ours, theirs, scene.alignment.scale), 0.2, atol=1e-9)
    assert "front/000.jpg, 20.0%" in error_maps(scene)
    along_rays = tuple(depth.distances for depth in scene.theirs.depths)
    by_distance = dataclasses.replace(scene, theirs=dataclasses.replace(scene.theirs, depths=along_rays))
    assert "front/000.jpg, 20.0%" in error_maps(by_distance)
    no_lens = (dataclasses.replace(scene.ours.depths[0], stretch=None), *scene.ours.depths[1:])
    partly = dataclasses.replace(by_distance, ours=dataclasses.replace(scene.ours, depths=no_lens))
    assert "1 more have depths of another kind" in error_maps(partly)
    bare = dataclasses.replace(scene, theirs=dataclasses.replace(scene.theirs, depths=None))
    assert "truth has no depth maps" in error_maps(bare)


def test_reliability_of_right_covariances_is_the_diagonal():
    rng = np.random.default_rng(0)
    root = rng.normal(size=(4000, 6, 6)) + 3 * np.eye(6)
    covariance = root @ np.swapaxes(root, 1, 2)
    residual = (root @ rng.normal(size=(4000, 6, 1)))[..., 0]
    levels = reliability.LEVELS
    for columns in (slice(0, 3), slice(3, 6)):
        shares = reliability.inside(ErrorSamples(residual, covariance), columns)
        assert np.abs(shares - levels).max() < 0.02
        twice = reliability.inside(ErrorSamples(2 * residual, covariance), columns)  # too sure
        expected = 2 * stats.norm.cdf(stats.norm.ppf(0.5 + levels / 2) / 2) - 1
        assert np.abs(twice - expected).max() < 0.02
    assert reliability.reliability_charts({}) == "" and math.isclose(levels[-1], 0.99)
