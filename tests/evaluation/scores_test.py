"""Scores of plain arrays: right is 100, frames and scales do not matter, parts add up, what is not known is NaN."""

import math

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from rig3r_jax.evaluation.rows import SUBSETS
from rig3r_jax.evaluation.scores import ScoreOptions, Scorer


def cameras(rng, count):
    matrices = np.broadcast_to(np.eye(4), (count, 4, 4)).copy()
    matrices[:, :3, :3] = Rotation.from_rotvec(rng.normal(scale=0.4, size=(count, 3))).as_matrix()
    matrices[:, :3, 3] = rng.uniform(-6, 6, (count, 3))
    return matrices


def scenes(seed, count=4):
    """Noisy predictions of scenes of 4 to 6 images, in worlds and scales of their own."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        views = int(rng.integers(4, 7))
        true, noise = cameras(rng, views), cameras(rng, views)
        noise[:, :3, :3] = Rotation.from_rotvec(rng.normal(scale=0.1, size=(views, 3))).as_matrix()
        noise[:, :3, 3] *= 0.2
        points = rng.normal(size=(50, 3)) * 5
        yield {
            "predicted": true @ noise,
            "true": true,
            "time": np.repeat([0.0, 0.5], [2, views - 2]),
            "camera_index": np.arange(views) % 3,
            "points": points + rng.normal(scale=0.05, size=points.shape),
            "points_true": points,
        }


def add(scorer, scene, mean_depth=10.0):
    scorer.add_poses(scene["predicted"], scene["true"], scene["time"])
    scorer.add_rigs(scene["predicted"], scene["true"], scene["camera_index"])
    scorer.add_focals(np.full((2, 2), 500.0), np.full((2, 2), 400.0))
    scorer.add_points(scene["points"], scene["points_true"], mean_depth)
    return scorer


def same(first, second, rel):
    for key, value in first.items():
        if isinstance(value, dict):
            same(value, second[key], rel)
        else:
            assert second[key] == pytest.approx(value, rel=rel, nan_ok=True), key


def test_the_truth_scores_100_with_nothing_off():
    scorer = Scorer()
    for scene in scenes(0):
        scorer.add_poses(scene["true"], scene["true"], scene["time"])
        rigid = scene["true"][scene["camera_index"]]  # three cameras, seen again and again
        scorer.add_rigs(rigid, rigid, scene["camera_index"])
        scorer.add_focals(np.full((2, 2), 500.0), np.full((2, 2), 400.0))
        scorer.add_points(scene["points_true"], scene["points_true"])
    scores = scorer.scores()
    for part in (scores, *(scores[subset] for subset in SUBSETS)):
        rates = {key: value for key, value in part.items() if key[:3] in ("RRA", "RTA", "mAA")}
        assert len(rates) == 8 and set(rates.values()) == {100.0}
    assert scores["chamfer_m"] < 1e-9 and scores["focal_error_percent"] == 25.0 and scores["samples"] == 4
    assert scores["rig_id_accuracy"] == scores["rig_mAA30"] == 100 * scores["rig_ari"] == 100.0
    assert scores["camera_count_error"] == 0


def test_world_and_scale_of_predictions_do_not_matter():
    rng, plain, moved = np.random.default_rng(1), Scorer(), Scorer()
    for scene in scenes(1):
        turn, shift, scale = Rotation.random(random_state=rng).as_matrix(), rng.normal(size=3), rng.uniform(0.1, 9)
        predicted = scene["predicted"].copy()
        predicted[:, :3, :3] = turn @ predicted[:, :3, :3]
        predicted[:, :3, 3] = scale * predicted[:, :3, 3] @ turn.T + shift
        points = scale * scene["points"] @ turn.T + shift
        for scorer, changes in ((plain, {}), (moved, {"predicted": predicted, "points": points})):
            changed = scene | changes
            scorer.add_poses(changed["predicted"], scene["true"], scene["time"])
            scorer.add_points(changed["points"], scene["points_true"])
    assert 0 < plain.scores()["mAA30_unfolded"] < 100
    same(plain.scores(), moved.scores(), rel=1e-9)


def test_parts_merge_to_the_whole():
    every = list(scenes(2, count=5))
    whole = Scorer()
    for scene in every:
        add(whole, scene)
    parts = [Scorer(), Scorer(), Scorer()]
    for part, share in zip(parts, (every[:2], [], every[2:]), strict=True):
        for scene in share:
            add(part, scene)
    merged = Scorer.merged(parts)
    assert merged.scores() == whole.scores() and merged.options == whole.options
    assert [len(part.pairs) for part in parts] == [2, 0, 3]  # parts stay what they were


def test_samples_in_one_array_are_samples_one_by_one():
    rng = np.random.default_rng(3)
    predicted, true = cameras(rng, 12).reshape(3, 4, 4, 4), cameras(rng, 12).reshape(3, 4, 4, 4)
    time = np.broadcast_to([0.0, 0.01, 1.0, 1.01], (3, 4))
    together, apart = Scorer(), Scorer()
    cameras_of_images = np.array([[0, 1, 0, 1], [0, 0, 0, 0], [3, 2, 1, 0]])
    together.add_poses(predicted, true, time)
    together.add_rigs(predicted, true, cameras_of_images)
    for sample in zip(predicted, true, time, cameras_of_images, strict=True):
        apart.add_poses(*sample[:3])
        apart.add_rigs(*sample[:2], sample[3])
    same(together.scores(), apart.scores(), rel=1e-12)
    assert together.scores()["samples"] == 3 and together.scores()["same_time"]["pairs"] == 3 * 2


def test_pairs_without_times_belong_to_no_time_and_unknown_depths_have_no_relative_error():
    scorer, scene = Scorer(), next(scenes(4))
    scorer.add_poses(scene["predicted"], scene["true"])
    scorer.add_points(scene["points"], scene["points_true"])
    scores = scorer.scores()
    assert scores["pairs"] > 0 and scores["same_time"]["pairs"] == scores["across_times"]["pairs"] == 0
    assert scores["near"]["pairs"] + scores["far"]["pairs"] == scores["pairs"]
    assert scores["chamfer_m"] > 0 and math.isnan(scores["chamfer_relative"])
    assert math.isnan(scores["rig_ari"]) and math.isnan(scores["focal_error_percent"])


def test_two_frames_of_one_camera_are_never_of_one_time():
    """A stereo pair at 50 Hz, its clock rounded: 3 steps make 3 pairs of one time, not all 15."""
    rng = np.random.default_rng(6)
    true, index = cameras(rng, 6), np.array([0, 1, 0, 1, 0, 1])
    for time in ([0.0, 0.001, 0.02, 0.021, 0.04, 0.041], [0.0, 0.0, 0.02, 0.02, 0.04, 0.04]):
        scorer = Scorer()
        scorer.add_poses(true, true, np.array(time), index)
        scores = scorer.scores()
        assert (scores["same_time"]["pairs"], scores["across_times"]["pairs"]) == (3, 12)
    alone = Scorer()
    alone.add_poses(true, true, np.zeros(6), np.zeros(6, int))
    assert alone.scores()["same_time"]["pairs"] == 0 and math.isnan(alone.scores()["same_time"]["mAA30"])
    assert alone.scores()["across_times"]["pairs"] == 15


def test_a_truth_that_stands_still_has_no_direction_and_no_scale():
    rng = np.random.default_rng(7)
    still, moving = cameras(rng, 5), cameras(rng, 5)
    still[:, :3, 3] = [3.0, -2.0, 7.0]
    scorer = Scorer(ScoreOptions(min_baseline=0.0))
    scorer.add_poses(moving, still)
    scorer.add_points(rng.normal(size=(20, 3)), np.ones((20, 3)), mean_depth=5.0)
    scores = scorer.scores()
    assert scores["pairs_without_direction"] == scores["pairs"] == 10
    directions = [key for key in scores if key.startswith(("RTA", "mAA", "chamfer", "accuracy", "completeness"))]
    assert len(directions) == 12 and all(math.isnan(scores[key]) for key in directions)


def test_thresholds_that_cannot_be_used_are_all_named():
    with pytest.raises(
        ValueError, match=r"min_baseline=-1.0 must be at least 0; near_baseline=-2.0 must be at least 0"
    ):
        ScoreOptions(min_baseline=-1.0, near_baseline=-2.0)


def test_nothing_is_not_a_number_never_zero():
    scores = Scorer().scores()
    counts = {"pairs", "pairs_without_direction", "samples", "samples_with_points"}
    for part in (scores, *(scores[subset] for subset in SUBSETS)):
        for key, value in part.items():
            assert isinstance(value, dict) or (value == 0 if key in counts else math.isnan(value)), key


def test_options_move_what_they_name():
    scene = next(scenes(5))

    def scores(**options):
        return add(Scorer(ScoreOptions(**options)), scene).scores()

    assert scores(min_baseline=1e3)["pairs_without_direction"] == scores()["pairs"]
    assert scores(near_baseline=1e3)["far"]["pairs"] == 0
    assert scores(same_time_seconds=1e3)["across_times"]["pairs"] == 0
    scene["points"] = scene["points"] + np.random.default_rng(0).normal(size=(50, 3))  # whose nearest points are others
    assert scores(icp=True)["chamfer_m"] < scores()["chamfer_m"]
    few = Scorer()
    few.add_points(scene["points"][:2], scene["points_true"][:2])
    assert few.scores()["samples_with_points"] == 0
