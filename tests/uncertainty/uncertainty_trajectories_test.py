"""Predicted uncertainty as weights of pose graphs: it pays where errors are uneven, and files say what was solved."""

import dataclasses
import itertools
import json
import math

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rig3r_jax.evaluation.edge_weighting import CHAINED, WEIGHTINGS, constant_sigma, information_of
from rig3r_jax.evaluation.pose_graph import Edges, PoseGraph, marginal_covariances, optimize
from rig3r_jax.evaluation.trajectory import absolute_errors, align_trajectory, statistics
from rig3r_jax.evaluation.weighting_comparison import (
    LEGEND,
    REPORTED_KERNELS,
    compare_over_trajectories,
    format_comparisons,
)
from rig3r_jax.formats.cameras_json import read_cameras
from rig3r_jax.formats.g2o import read_g2o
from rig3r_jax.formats.tum import read_trajectory
from rig3r_jax.geometry import se3
from rig3r_jax.losses.pose_nll import NllOptions, covariance
from rig3r_jax.uncertainty.features import WindowFeatures
from rig3r_jax.uncertainty.head import error_samples
from rig3r_jax.uncertainty.trajectories import covering_windows, trajectory_predictions
from rig3r_jax.uncertainty.trajectory_files import TrajectoryImages, write_trajectory

FRAMES, VIEWS = 30, 6
SIGMA = np.repeat([0.01, 0.004], 3)
WORSE = 10.0  # times, the sigmas of some windows
NLL = NllOptions()


def exp(tangents):
    with jax.enable_x64(True):
        return np.array(se3.exp(jnp.asarray(tangents)))


def telling_head(outputs):
    """Parameters under which the head says its first `outputs` features: gelu(x) - gelu(-x) = x."""
    one, zero = np.eye(outputs, dtype=np.float32), np.zeros
    return {
        "fc1": {
            "kernel": np.pad(np.concatenate([one, -one], axis=1), ((0, 3 * outputs), (0, 0))),
            "bias": zero(2 * outputs, np.float32),
        },
        "fc2": {"kernel": np.concatenate([one, -one]), "bias": zero(outputs, np.float32)},
    }


def trajectory(seed, *, worse=WORSE, outputs=6, frame_count=FRAMES):
    """(windows, frames, truth): Gaussian errors, a third of the windows with `worse` sigmas; features tell which."""
    rng = np.random.default_rng(seed)
    turn, ahead = 0.1 * rng.normal(size=(frame_count, 3)), np.array([0.0, 0.0, 0.25])
    steps = exp(np.concatenate([ahead + 0.05 * rng.normal(size=(frame_count, 3)), turn], axis=-1))
    true = np.stack(list(itertools.accumulate(steps, np.matmul)))
    frames = covering_windows(f"scene {seed}", frame_count, VIEWS, 0.6)
    bad = rng.permutation(len(frames)) < len(frames) // 3
    sigma = SIGMA * np.where(bad, worse, 1.0)[:, None, None] * np.ones((1, VIEWS, 1))
    noise = sigma * rng.normal(size=sigma.shape)
    noise[:, 0] = 0.0
    first_from_camera = np.linalg.inv(true[frames[:, :1]]) @ true[frames] @ exp(noise)
    first_from_camera[..., :3, 3] /= rng.uniform(0.5, 2.0, size=(len(frames), 1, 1))  # units of their own
    features = np.zeros((2, len(frames), VIEWS, 4 * outputs), np.float32)
    features[..., :6] = 2 * np.log(sigma)
    predicted = np.linalg.inv(first_from_camera)
    windows = WindowFeatures(
        features,
        np.stack([np.broadcast_to(np.eye(4), predicted.shape), predicted]).astype(np.float32),
        np.linalg.inv(true[frames]).astype(np.float32),
        tuple(f"scene {seed}, window {n}" for n in range(len(frames))),
    )
    return windows, frames, true


def predictions(seed, **options):
    return trajectory_predictions(*trajectory(seed, **options), telling_head(6), NLL)


def images(count):
    return TrajectoryImages(
        tuple(f"rgb/{frame:04d}.png" for frame in range(count)),
        np.tile([64, 48], (count, 1)),
        np.tile(np.array([[60.0, 0, 32], [0, 60, 24], [0, 0, 1]]), (count, 1, 1)),
        1.7e9 + 0.1 * np.arange(count),
    )


@pytest.fixture(scope="module")
def training_sigma():
    return constant_sigma(np.concatenate([predictions(100 + n).residual() for n in range(6)]))


@pytest.fixture(scope="module")
def comparisons(training_sigma):
    found = {f"scene {seed}": predictions(seed) for seed in range(8)}
    return [compare_over_trajectories(found, training_sigma, kernel) for kernel in REPORTED_KERNELS]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder, found = tmp_path_factory.mktemp("written") / "new/folder", predictions(3)
    return folder, found, write_trajectory(folder, "scene 3", found, images(FRAMES))


def test_predictions_are_those_of_training():
    """Residuals and covariances of the graph's edges are the very ones that the head is trained on."""
    windows, frames, true = trajectory(0)
    found = trajectory_predictions(windows, frames, true, telling_head(6), NLL)
    samples = error_samples(telling_head(6), windows, NLL)
    np.testing.assert_allclose(found.residual().reshape(-1, 6), samples.residual, atol=1e-5)  # float32 there
    np.testing.assert_array_equal(found.covariance.reshape(-1, 6), samples.covariance)
    np.testing.assert_allclose(found.covariance, np.exp(windows.features[-1, :, 1:, :6]), rtol=1e-4)
    np.testing.assert_array_equal(found.windows, frames)
    assert found.first_from_camera.dtype == found.covariance.dtype == np.float64
    # Lengths are metres again: every window had a unit of its own.
    unscaled = np.linalg.inv(windows.camera_from_world_predicted[-1, :, -1])[:, :3, 3]
    ratio = np.linalg.norm(unscaled, axis=-1) / np.linalg.norm(found.first_from_camera[:, -1, :3, 3], axis=-1)
    assert ratio.max() > 1.5 * ratio.min()


@pytest.mark.parametrize("nll", [NllOptions(likelihood="student_t", dof=4.0), NllOptions("cholesky")])
def test_covariances_are_predictive_and_whole(nll):
    outputs = 21 if nll.parameterisation == "cholesky" else 6
    windows, frames, true = trajectory(1, outputs=outputs)
    windows.features[..., 6:outputs] = 0.3 * np.random.default_rng(0).normal(size=(*windows.features.shape[:3], 1))
    found = trajectory_predictions(windows, frames, true, telling_head(outputs), nll)
    raw = jnp.asarray(windows.features[-1, :, 1:, :outputs])
    whole = np.asarray(covariance(raw, nll))
    expected = whole if outputs == 21 else np.diagonal(whole, axis1=-2, axis2=-1)
    np.testing.assert_allclose(found.covariance, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())
    assert found.covariance.ndim == (4 if outputs == 21 else 3)


def test_predicted_weights_beat_constant_ones_where_errors_are_uneven(comparisons):
    plain, robust = comparisons
    assert plain.overall["predicted"].ate_of_constant < 0.6
    assert plain.overall["predicted"].better == 8 and plain.sign_test == pytest.approx(2 / 2**8)
    assert plain.overall["predicted"].wins >= 7
    assert plain.overall["predicted"].ate_m < plain.overall["constant"].ate_m < plain.overall[CHAINED].ate_m
    # The kernel finds some of the bad edges by their residuals; predicted weights still know better.
    assert robust.overall["constant"].ate_m < plain.overall["constant"].ate_m
    assert robust.overall["predicted"].ate_of_constant < 0.8


def test_overall_figures_are_of_the_trajectories(comparisons):
    for comparison in comparisons:
        assert list(comparison.overall) == [CHAINED, *WEIGHTINGS]
        rows = comparison.trajectories
        for weighting, found in comparison.overall.items():
            ates = np.array([scores[weighting].ate_m for scores in rows.values()])
            ratios = ates / [scores["constant"].ate_m for scores in rows.values()]
            assert found.ate_m == pytest.approx(ates.mean())
            assert found.rpe_rot_deg == pytest.approx(np.mean([s[weighting].rpe_rot_deg for s in rows.values()]))
            assert found.ate_of_constant == pytest.approx(np.median(ratios))
            assert found.ate_of_constant_p25 <= found.ate_of_constant <= found.ate_of_constant_p75
            assert (found.better, found.worse) == ((ratios < 1 - 1e-6).sum(), (ratios > 1 + 1e-6).sum())
        wins = [found.wins for found in comparison.overall.values()]
        assert wins[-1] is None and sum(wins[:-1]) == len(rows)


def test_where_the_head_is_wrong_the_table_says_so(training_sigma):
    """Sigmas told the wrong way round: the constant wins, in figures and words."""
    wrong = {}
    for seed in range(5):
        found = predictions(seed)
        wrong[str(seed)] = dataclasses.replace(found, covariance=1e-8 / found.covariance)
    comparison = compare_over_trajectories(wrong, training_sigma)
    found = comparison.overall["predicted"]
    assert found.ate_of_constant > 1.2 and found.wins == 0
    assert f"lower than with the constant ones on {found.better} and higher on {found.worse} of 5" in (
        format_comparisons([comparison])
    )


def test_table_has_a_row_per_kernel_and_weighting_and_one_legend(comparisons):
    text = format_comparisons(comparisons)
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("|")][2:]
    names = [CHAINED, "uniform", "constant", "predicted", "oracle (sees the truth)"]
    assert [tuple(row[:2]) for row in rows] == [(f"| {kernel}", name) for kernel in REPORTED_KERNELS for name in names]
    assert text.count(LEGEND) == 1 and text.count("median") == 1 + len(REPORTED_KERNELS)
    predicted = comparisons[0].overall["predicted"]
    assert rows[3][2] == f"{predicted.ate_m:.4g}" and rows[3][4:6] == [str(predicted.better), str(predicted.wins)]
    assert rows[2][4] == rows[4][5] == "-" and rows[2][3].startswith("1 (1 to 1")


def test_json_has_no_nan(comparisons, written):
    def refuse(token):
        raise AssertionError(token)

    for found in (*comparisons, written[2]):
        text = json.dumps(found.to_json(), allow_nan=False)
        assert json.loads(text, parse_constant=refuse) == found.to_json()
    scores = comparisons[0].to_json()["trajectories"]["scene 0"]
    assert scores[CHAINED]["cost"] is None and scores["predicted"]["cost"] > 0


def test_a_head_that_says_the_constant_is_a_tie(training_sigma):
    found = predictions(2)
    same = dataclasses.replace(found, covariance=np.broadcast_to(training_sigma**2, found.covariance.shape))
    comparison = compare_over_trajectories({"same": same}, training_sigma)
    predicted, constant = (comparison.overall[name] for name in ("predicted", "constant"))
    assert (predicted.better, predicted.worse) == (0, 0) and predicted.wins == constant.wins
    assert math.isnan(comparison.sign_test) and comparison.to_json()["sign_test"] is None
    assert "(p = -)" in format_comparisons([comparison])


def test_g2o_holds_the_graph_that_was_solved(written):
    folder, found, result = written
    graph = read_g2o(folder / "pose_graph.g2o")
    others = found.windows[:, 1:]
    pairs = np.stack([np.broadcast_to(found.windows[:, :1], others.shape), others], axis=-1)
    np.testing.assert_array_equal(graph.pairs, pairs.reshape(-1, 2))
    np.testing.assert_allclose(graph.first_from_second, found.first_from_camera[:, 1:].reshape(-1, 4, 4), atol=1e-12)
    information = information_of("predicted", found, SIGMA).reshape(-1, 6, 6)
    np.testing.assert_allclose(graph.information, information, rtol=1e-12)
    again = PoseGraph(
        graph.world_from_camera, Edges(graph.pairs.astype(np.int64), graph.first_from_second, graph.information)
    )
    best = optimize(again)
    assert best.converged and result.converged
    np.testing.assert_allclose(best.world_from_camera, graph.world_from_camera, atol=1e-6)  # it was the optimum


def test_tum_files_have_the_ate_that_is_told(written, training_sigma):
    folder, found, result = written
    estimated, true = (read_trajectory(folder / f"{name}.tum") for name in ("estimated", "true"))
    np.testing.assert_array_equal(estimated.times, images(FRAMES).times)
    aligned = align_trajectory(estimated.world_from_camera, true.world_from_camera, "se3").world_from_camera
    ate = statistics(absolute_errors(aligned, true.world_from_camera))["rmse"]
    assert result.ate_m == pytest.approx(ate, rel=1e-9)
    scores = compare_over_trajectories({"scene 3": found}, training_sigma).trajectories["scene 3"]["predicted"]
    for name in ("ate_m", "rpe_trans_m", "rpe_rot_deg"):
        assert getattr(result, name) == pytest.approx(getattr(scores, name), rel=1e-6)


def test_camera_covariances_grow_away_from_the_first_frame(written):
    folder, found, _ = written
    file = read_cameras(folder / "cameras.json")
    assert [image.name for image in file.images] == list(images(FRAMES).names)
    assert file.images[5].time == pytest.approx(0.5, abs=1e-6) and file.images[5].camera == 0
    covariances = np.stack([image.covariance for image in file.images])
    np.testing.assert_array_equal(covariances[0], np.zeros((6, 6)))
    np.testing.assert_array_equal(file.images[0].world_from_camera, np.eye(4))
    np.testing.assert_allclose(covariances, np.swapaxes(covariances, 1, 2), rtol=1e-12)
    assert np.linalg.eigvalsh(covariances[1:]).min() > 0
    spread = np.trace(covariances[:, :3, :3], axis1=1, axis2=2)
    assert spread[-1] > 5 * spread[1:6].max() and np.all(spread[10::5] > spread[5:-5:5])
    graph = read_g2o(folder / "pose_graph.g2o")
    edges = Edges(graph.pairs.astype(np.int64), graph.first_from_second, graph.information)
    again = marginal_covariances(PoseGraph(graph.world_from_camera, edges))
    np.testing.assert_allclose(covariances, again, rtol=1e-6, atol=1e-30)  # some entries are rounding's alone


def test_right_covariances_make_cameras_calibrated(tmp_path, monkeypatch):
    """Independent errors of known covariance: squares of the graph's errors are as large as its covariances say."""
    monkeypatch.setattr("rig3r_jax.uncertainty.trajectory_files.write_trajectory_chart", lambda *_: None)
    d2 = [write_trajectory(tmp_path, str(seed), predictions(seed), images(FRAMES)).d2 for seed in range(20)]
    means = {part: np.mean([row[part] for row in d2]) for part in d2[0]}
    # The windows' fitted scale takes an error's part away: a little less than 3, 3 and 6.
    assert 2.0 < means["trans"] < 3.8 and 2.0 < means["rot"] < 3.8 and 4.2 < means["pose"] < 7.4


def test_chart_is_drawn(written):
    folder, _, result = written
    assert {path.name for path in folder.iterdir()} == {path.name for path in result.paths}
    image = cv2.imread(str(folder / "trajectory.png")).astype(int)
    assert min(image.shape[:2]) > 500
    assert np.mean(np.ptp(image, axis=2) > 60) > 0.001 and np.mean(image.min(axis=2) > 250) > 0.5


def test_what_cannot_be_joined_is_named():
    windows, frames, true = trajectory(4)
    head = telling_head(6)
    with pytest.raises(ValueError, match="desk: has 5 frames, a window needs 6; leave it out"):
        covering_windows("desk", 5, VIEWS)
    with pytest.raises(ValueError, match="desk: .*parts.*share no frame.*windows that overlap"):
        covering_windows("desk", 12, VIEWS, 0.0)
    ends = np.array([0, len(frames) - 1])
    parts = WindowFeatures(
        windows.features[:, ends],
        windows.camera_from_world_predicted[:, ends],
        windows.camera_from_world_true[ends],
        tuple(windows.names[n] for n in ends),
    )
    gap = f"fall into {2 + FRAMES - 2 * VIEWS} parts.*{FRAMES - 2 * VIEWS} frames are in no window"
    with pytest.raises(ValueError, match=f"desk: its 2 windows {gap}"):
        trajectory_predictions(parts, frames[ends], true, head, NLL, name="desk")
    found = predictions(4)
    found = dataclasses.replace(
        found,
        windows=frames[ends],
        first_from_camera=found.first_from_camera[ends],
        covariance=found.covariance[ends],
    )
    with pytest.raises(ValueError, match=f"desk: its 2 windows {gap}"):
        compare_over_trajectories({"desk": found}, SIGMA)
    with pytest.raises(ValueError, match="no trajectories"):
        compare_over_trajectories({}, SIGMA)


def test_bad_input_is_named(tmp_path):
    windows, frames, true = trajectory(5)
    head = telling_head(6)
    with pytest.raises(ValueError, match="desk: frames of shape"):
        trajectory_predictions(windows, frames[:, 1:], true, head, NLL, name="desk")
    with pytest.raises(ValueError, match="desk: window scene 5, window 0 has other true cameras than frames"):
        trajectory_predictions(windows, frames[::-1], true, head, NLL, name="desk")
    with pytest.raises(ValueError, match=r"desk: windows count frames 0\.\.30 of 30"):
        shifted = np.where(frames == FRAMES - 1, FRAMES, frames)
        trajectory_predictions(windows, shifted, true, head, NLL, name="desk")
    found = predictions(5)
    broken = dataclasses.replace(found, covariance=np.nan * found.covariance)
    with pytest.raises(ValueError, match="desk: information of edge 0"):
        compare_over_trajectories({"desk": broken}, SIGMA)
    with pytest.raises(ValueError, match="desk: information of edge 0"):
        write_trajectory(tmp_path, "desk", broken, images(FRAMES))
    with pytest.raises(ValueError, match="desk: names of 29 images for 30 frames"):
        write_trajectory(tmp_path, "desk", found, images(FRAMES - 1))
    assert not list(tmp_path.iterdir())
