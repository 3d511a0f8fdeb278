"""The evaluation of predictions that are known to be right, wrong, in another frame, or about hidden metadata."""

import math
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from rig3r_jax.evaluation import baselines, evaluator
from rig3r_jax.evaluation.rows import SETTINGS, SUBSETS
from rig3r_jax.evaluation.scores import ScoreOptions
from rig3r_jax.losses.ground_truth import ground_truth
from rig3r_jax.schema import Distortion, Predictions
from tests.evaluation.exact_predictions import GRID, POINTS, SIZE, exact, make_batch, mean_z, perfect_fn


@pytest.mark.parametrize("known_intrinsics", [True, False])
def test_perfect_predictions_score_100_in_every_row(known_intrinsics):
    rng = np.random.default_rng(0)
    batches = [make_batch(rng), make_batch(rng, samples=1, cameras=4)]
    options = evaluator.EvaluationOptions(known_intrinsics=known_intrinsics)
    result = evaluator.evaluate(perfect_fn(batches), iter(batches), options=options)
    assert set(result) == {*SETTINGS, *baselines.BASELINES}
    pairs = 2 * 15 + 28
    for name in SETTINGS:
        row = result[name]
        for scores in (row, *(row[subset] for subset in SUBSETS)):
            rates = {k: v for k, v in scores.items() if k[:3] in ("RRA", "RTA", "mAA")}
            assert len(rates) == 8 and set(rates.values()) == {100.0}
        assert (row["pairs"], row["samples"]) == (pairs, 3)
        assert row["same_time"]["pairs"] + row["across_times"]["pairs"] == pairs
        assert row["near"]["pairs"] + row["far"]["pairs"] == pairs
        assert row["rig_id_accuracy"] == row["rig_mAA30_unfolded"] == row["rig_ari"] * 100 == 100.0
        assert row["camera_count_error"] == 0
        assert row["chamfer_m"] < 1e-3 and row["focal_error_percent"] < 1e-2
    same_time = 2 * 2 * 3 + 2 * 6
    assert result["none"]["same_time"]["pairs"] == same_time


@pytest.mark.parametrize("known_intrinsics", [True, False])
def test_fisheyes_are_recovered_and_their_focal_lengths_scored_where_they_are_fitted(known_intrinsics):
    batch = make_batch(np.random.default_rng(0), cameras=2)
    targets, mask = batch.targets, batch.views.image_mask
    coefficients = np.zeros((*targets.camera_index.shape, 5))
    coefficients[..., :4] = 0.03, -0.01, 2e-3, -1e-4
    targets = targets.replace(distortion=Distortion(np.full(targets.camera_index.shape, 2), coefficients))
    truth = ground_truth(jax.tree.map(jnp.asarray, targets), jnp.asarray(mask), (POINTS, POINTS), (6, 6))
    fields = ("pose_directions", "pose_center", "rig_directions", "rig_center")
    right = Predictions(truth.points, jnp.ones(truth.points.shape[:-1]), *(getattr(truth, name) for name in fields))
    options = evaluator.EvaluationOptions(known_intrinsics)
    result = evaluator.evaluate(lambda views: right, [batch.replace(targets=targets)], ["all"], options=options)
    row = result["all"]
    assert row["RRA5"] == row["RTA5"] == row["rig_mAA30_unfolded"] == 100.0
    assert math.isnan(row["focal_error_percent"]) if known_intrinsics else row["focal_error_percent"] < 0.05


@pytest.mark.parametrize("metres", [0.064, 0.11, 0.54])
@pytest.mark.parametrize("mean_depth", [2.0, 5.0, 15.0])
@pytest.mark.parametrize("known_intrinsics", [True, False])
def test_exact_predictions_of_parallel_stereo_find_both_cameras(metres, mean_depth, known_intrinsics):
    batch = make_batch(np.random.default_rng(4), cameras=2, times=3)
    parallel = np.broadcast_to(np.eye(4), (*batch.targets.camera_index.shape, 4, 4)).copy()
    parallel[..., 0, 3] = metres * batch.targets.camera_index
    batch = batch.replace(targets=batch.targets.replace(rig_from_camera=parallel))
    options = evaluator.EvaluationOptions(known_intrinsics, scores=ScoreOptions(min_baseline=0.05))
    predict = perfect_fn([batch], scale=np.full(2, mean_depth))
    scores = evaluator.evaluate(predict, [batch], ["none"], with_baselines=False, options=options)["none"]
    assert scores["rig_id_accuracy"] == scores["rig_mAA30_unfolded"] == 100.0
    assert scores["rig_ari"] == 1.0 and scores["camera_count_error"] == 0


def test_samples_without_depth_score_poses_and_no_points():
    batch = make_batch(np.random.default_rng(0))
    targets = batch.targets.replace(valid=np.zeros_like(batch.targets.valid))
    batch = batch.replace(targets=targets)
    result = evaluator.evaluate(perfect_fn([batch], scale=np.ones(2)), [batch], ["all"])["all"]
    assert result["mAA30"] == result["rig_id_accuracy"] == 100.0 and result["samples_with_points"] == 0
    points = ("accuracy_m", "completeness_m", "chamfer_m", "accuracy_relative", "completeness_relative")
    assert all(math.isnan(result[key]) for key in (*points, "chamfer_relative"))


def test_scale_and_frame_of_predictions_do_not_matter():
    rng = np.random.default_rng(1)
    batch = make_batch(rng)
    turn, shift = Rotation.random(random_state=rng).as_matrix().astype(np.float32), np.array([1, 2, 3], np.float32)

    def spoiled(views):
        predictions = exact(batch.targets, views.image_mask)
        noise = np.random.default_rng(2)
        return predictions.replace(
            pose_center=predictions.pose_center + noise.normal(scale=0.1, size=predictions.pose_center.shape),
            points=predictions.points + noise.normal(scale=0.02, size=predictions.points.shape),
        )

    def moved(views):
        predictions = spoiled(views)
        return predictions.replace(
            pose_directions=predictions.pose_directions @ turn.T,
            pose_center=3 * predictions.pose_center @ turn.T + shift,
            points=3 * predictions.points @ turn.T + shift,
        )

    first, second = (evaluator.evaluate(f, [batch], ["none"], with_baselines=False)["none"] for f in (spoiled, moved))
    assert 0 < first["mAA30_unfolded"] < 100 and first["chamfer_m"] > 0.01
    for key in ("RRA15", "RTA15", "mAA30", "mAA30_unfolded", "chamfer_m", "chamfer_relative", "rig_mAA30"):
        assert first[key] == pytest.approx(second[key], rel=1e-4)


@pytest.mark.parametrize("setting", list(SETTINGS))
@pytest.mark.parametrize("blank", [False, True])
def test_hidden_values_do_not_reach_predict_fn(setting, blank):
    rng = np.random.default_rng(3)
    batch, other = make_batch(rng), make_batch(rng)
    groups = SETTINGS[setting]
    metadata, others = batch.views.metadata, other.views.metadata
    fields = {"camera_id": ["camera_id"], "time": ["time"], "rig": ["rig_from_camera", "intrinsics"]}
    hidden = {f: getattr(others, f) for group in fields if group not in groups for f in fields[group]}
    # Two worlds that differ in the hidden fields (and, where blank, the images) alone must look the same.
    twin = batch.views.replace(
        metadata=metadata.replace(**hidden), images=other.views.images if blank else batch.views.images
    )
    seen = []

    def predict(views):
        seen.append(views)
        return exact(batch.targets, views.image_mask)

    for views in (batch.views, twin):
        settings = dict(settings=[], blank_settings=[setting]) if blank else dict(settings=[setting])
        evaluator.evaluate(predict, [batch.replace(views=views)], with_baselines=False, **settings)
    jax.tree.map(np.testing.assert_array_equal, *seen)
    masks = {
        "camera_id": seen[0].metadata.has_camera_id,
        "time": seen[0].metadata.has_time,
        "rig": seen[0].metadata.has_rig,
    }
    for group, mask in masks.items():
        assert mask.all() if group in groups else not mask.any()
        for field in fields[group] if group in groups else ():
            np.testing.assert_array_equal(getattr(seen[0].metadata, field), getattr(metadata, field))
    np.testing.assert_array_equal(seen[0].metadata.frame_index, metadata.frame_index)


def test_blank_images_are_mid_grey_and_absent_metadata_stays_absent():
    views = make_batch(np.random.default_rng(4)).views
    assert set(np.unique(evaluator.apply_setting(views, "all", True).images)) == {np.float32(0.5)}
    as_bytes = views.replace(images=(255 * views.images).astype(np.uint8))
    blank = evaluator.apply_setting(as_bytes, "all", True).images
    assert blank.dtype == np.uint8 and set(np.unique(blank)) == {128}
    absent = views.metadata.has_time.copy()
    absent[0, 2] = False
    partly = views.replace(metadata=views.metadata.replace(has_time=absent))
    metadata_shown = evaluator.apply_setting(partly, "time").metadata
    np.testing.assert_array_equal(metadata_shown.has_time, absent)
    assert metadata_shown.time[0, 2] == 0


def test_rays_and_points_of_padding_count_for_nothing():
    rng = np.random.default_rng(5)
    batch = make_batch(rng, padding=SIZE // GRID)

    def predict(views):
        predictions = exact(batch.targets, views.image_mask)
        for field in ("pose_directions", "rig_directions", "points"):
            values = getattr(predictions, field).copy()
            values[..., : values.shape[-2] // GRID, :] = rng.normal(
                size=values[..., : values.shape[-2] // GRID, :].shape
            )
            predictions = predictions.replace(**{field: values})
        return predictions

    row = evaluator.evaluate(predict, [batch], ["none"], with_baselines=False)["none"]
    assert row["mAA30_unfolded"] == row["rig_mAA30_unfolded"] == 100 and row["chamfer_m"] < 1e-3


def test_point_errors_are_in_metres():
    batch = make_batch(np.random.default_rng(6), samples=1)
    mean_depth = mean_z(batch.targets, batch.targets.valid)[0]

    def predict(views):
        predictions = exact(batch.targets, views.image_mask)
        noise = np.random.default_rng(7).normal(size=predictions.points.shape)
        noise *= 0.01 / np.linalg.norm(noise, axis=-1, keepdims=True)
        return predictions.replace(points=predictions.points + noise / mean_depth)

    row = evaluator.evaluate(predict, [batch], ["none"], with_baselines=False)["none"]
    for key in ("accuracy", "completeness", "chamfer"):
        assert row[f"{key}_m"] == pytest.approx(0.01, rel=0.05)
        assert row[f"{key}_relative"] == pytest.approx(row[f"{key}_m"] / mean_depth, rel=1e-4)


def test_baseline_rows_pool_like_the_others_and_have_poses_only():
    rng = np.random.default_rng(8)
    batches = [make_batch(rng, turn=0.0), make_batch(rng, samples=1, turn=0.0)]
    result = evaluator.evaluate(perfect_fn(batches), batches, [])
    assert set(result) == set(baselines.BASELINES)
    straight = result["no network: rig + time closed form"]
    assert straight["RTA15_unfolded"] == 100.0 and straight["same_time"]["mAA30"] == 100.0
    assert result["no network: identity, forward motion"]["mAA30"] < 50
    assert straight["pairs"] == 45 and math.isnan(straight["chamfer_m"]) and math.isnan(straight["rig_id_accuracy"])


def test_broken_predictions_are_wrong_not_right():
    batch = make_batch(np.random.default_rng(9))

    def predict(views):
        return jax.tree.map(lambda a: np.full_like(a, np.nan), exact(batch.targets, views.image_mask))

    row = evaluator.evaluate(predict, [batch], ["none"], with_baselines=False)["none"]
    assert row["RRA15"] == row["RTA15"] == row["mAA30"] == row["rig_mAA30"] == 0
    assert math.isnan(row["chamfer_m"])


def test_nothing_evaluated_is_nan_and_unknown_settings_are_refused():
    row = evaluator.evaluate(lambda views: None, [], ["none"])["none"]
    numbers = {k: v for k, v in row.items() if isinstance(v, float)}
    assert len(numbers) > 15 and all(math.isnan(v) for v in numbers.values())
    with pytest.raises(ValueError, match="everything.*choose from none"):
        evaluator.evaluate(lambda views: None, [], ["everything"])


def test_a_hundred_samples_in_two_rows_take_seconds():
    batches = [make_batch(np.random.default_rng(10), samples=20) for _ in range(5)]
    answers = [exact(b.targets, b.views.image_mask) for b in batches]
    lookup = {b.views.images.tobytes(): a for b, a in zip(batches, answers, strict=True)}
    evaluator.evaluate(lambda v: lookup[v.images.tobytes()], batches[:1], ["none"])
    start = time.thread_time()
    result = evaluator.evaluate(lambda v: lookup[v.images.tobytes()], batches, ["none", "all"])
    assert time.thread_time() - start < 15
    assert result["none"]["samples"] == 100
