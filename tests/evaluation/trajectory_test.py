"""Trajectory errors against evo's numbers, plain loops with scipy, and laws."""

import math

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from rig3r_jax.evaluation import trajectory


def random_trajectory(rng, n=12, step=1.0):
    cameras = np.broadcast_to(np.eye(4), (n, 4, 4)).copy()
    turns = Rotation.from_rotvec(0.2 * rng.normal(size=(n, 3))).as_matrix()
    for i in range(1, n):
        cameras[i, :3, :3] = cameras[i - 1, :3, :3] @ turns[i]
        cameras[i, :3, 3] = cameras[i - 1, :3, 3] + step * rng.normal(size=3)
    return cameras


def noisy(cameras, rng, size=0.1):
    moved = cameras.copy()
    moved[:, :3, :3] = Rotation.from_rotvec(size * rng.normal(size=(len(cameras), 3))).as_matrix() @ cameras[:, :3, :3]
    moved[:, :3, 3] += size * rng.normal(size=(len(cameras), 3))
    return moved


def moved_by_similarity(cameras, rng, scale):
    turn, offset = Rotation.random(random_state=rng).as_matrix(), rng.normal(size=3)
    moved = cameras.copy()
    moved[:, :3, :3] = turn @ cameras[:, :3, :3]
    moved[:, :3, 3] = scale * cameras[:, :3, 3] @ turn.T + offset
    return moved


@pytest.mark.parametrize("alignment", trajectory.ALIGNMENTS)
def test_golden_rmse_of_every_alignment(shared, alignment):
    with np.load(shared / "golden/evo_metrics/evo.npz") as golden:
        for case in ("smooth30", "noisy12", "short3"):
            true, estimated = golden[f"{case}/gt_c2w"], golden[f"{case}/est_c2w"]
            aligned = trajectory.align_trajectory(estimated, true, alignment).world_from_camera
            np.testing.assert_allclose(aligned, golden[f"{case}/{alignment}/est_aligned_c2w"], atol=1e-12)
            absolute = trajectory.statistics(trajectory.absolute_errors(aligned, true))
            relative = trajectory.statistics(trajectory.relative_errors(aligned, true, "rot_deg"))
            assert absolute["rmse"] == pytest.approx(golden[f"{case}/{alignment}/ape_trans/rmse"], abs=1e-12)
            assert relative["rmse"] == pytest.approx(golden[f"{case}/{alignment}/rpe_rot_deg_d1/rmse"], abs=1e-11)


def test_alignment_removes_what_it_may_remove():
    rng = np.random.default_rng(0)
    true = random_trajectory(rng)
    for alignment, scale in (("se3", 1.0), ("sim3", 0.3), ("sim3", 40.0)):
        moved = moved_by_similarity(true, rng, scale)
        aligned = trajectory.align_trajectory(moved, true, alignment)
        np.testing.assert_allclose(aligned.world_from_camera, true, atol=1e-10)
        assert aligned.fit.scale == pytest.approx(1 / scale if alignment == "sim3" else 1.0)
    moved = moved_by_similarity(true, rng, 3.0)
    scaled = trajectory.align_trajectory(moved, true, "scale_only").world_from_camera
    np.testing.assert_allclose(scaled[:, :3, 3], moved[:, :3, 3] / 3)
    np.testing.assert_array_equal(scaled[:, :3, :3], moved[:, :3, :3])
    started = trajectory.align_trajectory(moved_by_similarity(true, rng, 1.0), true, "origin").world_from_camera
    np.testing.assert_allclose(started, true, atol=1e-10)
    np.testing.assert_array_equal(trajectory.align_trajectory(moved, true, "none").world_from_camera, moved)


@pytest.mark.parametrize("part", trajectory.PARTS)
def test_errors_are_those_of_plain_loops(part):
    rng = np.random.default_rng(1)
    true = random_trajectory(rng, 9)
    estimated = noisy(true, rng)

    def size(error):
        if part == "trans":
            return np.linalg.norm(error[:3, 3])
        if part == "rot_deg":
            return np.degrees(Rotation.from_matrix(error[:3, :3]).magnitude())
        return np.linalg.norm(error - np.eye(4))

    expected = [size(np.linalg.inv(a) @ b) for a, b in zip(true, estimated, strict=True)]
    np.testing.assert_allclose(trajectory.absolute_errors(estimated, true, part), expected, rtol=1e-9)
    for delta, all_pairs in ((1, False), (1, True), (2, True), (2, False), (4, False), (8, True)):
        starts = range(0, 9 - delta, 1 if all_pairs else delta)
        motions = [[np.linalg.inv(x[i]) @ x[i + delta] for i in starts] for x in (true, estimated)]
        expected = [size(np.linalg.inv(a) @ b) for a, b in zip(*motions, strict=True)]
        relative = trajectory.relative_errors(estimated, true, part, delta, all_pairs)
        np.testing.assert_allclose(relative, expected, rtol=1e-9)


def test_relative_errors_ignore_the_world_and_absolute_ones_do_not():
    rng = np.random.default_rng(2)
    true = random_trajectory(rng)
    moved = moved_by_similarity(true, rng, 1.0)
    assert trajectory.relative_errors(moved, true).max() < 1e-12
    assert trajectory.absolute_errors(moved, true).max() > 0.1
    stretched = moved_by_similarity(true, rng, 1.1)  # each motion is a tenth too long
    steps = np.linalg.norm(np.diff(true[:, :3, 3], axis=0), axis=-1)
    np.testing.assert_allclose(trajectory.relative_errors(stretched, true), 0.1 * steps, rtol=1e-9)


def test_relative_error_is_not_that_of_camera_from_world_matrices():
    rng = np.random.default_rng(3)
    true = random_trajectory(rng)
    estimated = noisy(true, rng)
    textbook = trajectory.relative_errors(estimated, true)
    inverted = trajectory.relative_errors(np.linalg.inv(estimated), np.linalg.inv(true))
    assert np.abs(textbook - inverted).max() > 0.01


def test_a_straight_trajectory_is_aligned_by_its_centres():
    rng = np.random.default_rng(4)
    true = np.broadcast_to(np.eye(4), (6, 4, 4)).copy()
    true[:, 2, 3] = np.arange(6) * 1.5
    aligned = trajectory.align_trajectory(moved_by_similarity(true, rng, 2.0), true, "sim3").world_from_camera
    assert trajectory.absolute_errors(aligned, true).max() < 1e-12


def test_statistics_and_what_has_none():
    statistics_of_four = trajectory.statistics(np.array([3.0, 4.0, 0.0, 1.0]))
    rmse, std = math.sqrt(26 / 4), math.sqrt(26 / 4 - 4)
    expected = {"rmse": rmse, "mean": 2.0, "median": 2.0, "std": std, "min": 0.0, "max": 4.0, "sse": 26.0}
    assert statistics_of_four == pytest.approx(expected)
    true = random_trajectory(np.random.default_rng(5), 3)
    errors = trajectory.relative_errors(true, true, delta=3)
    assert errors.shape == (0,)
    assert all(math.isnan(value) for value in trajectory.statistics(errors).values())


def test_bad_input_is_refused_by_name():
    true = random_trajectory(np.random.default_rng(6), 4)
    with pytest.raises(ValueError, match="3 estimated and 4 true"):
        trajectory.absolute_errors(true[:3], true)
    with pytest.raises(ValueError, match="without cameras"):
        trajectory.absolute_errors(true[:0], true[:0])
    with pytest.raises(ValueError, match="at least 3"):
        trajectory.align_trajectory(true[:2], true[:2], "sim3")
    with pytest.raises(ValueError, match="'sim2'.*sim3"):
        trajectory.align_trajectory(true, true, "sim2")
    with pytest.raises(ValueError, match="'angle'.*rot_deg"):
        trajectory.relative_errors(true, true, "angle")
    with pytest.raises(ValueError, match="delta is 0"):
        trajectory.relative_errors(true, true, delta=0)


@pytest.mark.parametrize("origin", [0.0, 5e6])
def test_a_truth_that_stands_still_has_no_scale_and_no_scaled_error(origin):
    """A scale of 0 would move every estimate onto it; errors without a scale stay what they are."""
    still, estimated = np.tile(np.eye(4), (2, 6, 1, 1))
    still[:, :3, 3] = origin
    estimated[:, 0, 3] = np.arange(6.0)
    for alignment in ("sim3", "scale_only"):
        aligned = trajectory.align_trajectory(estimated, still, alignment)
        assert np.isnan(aligned.fit.scale)
        assert np.isnan(trajectory.absolute_errors(aligned.world_from_camera, still)).all()
    moved = trajectory.align_trajectory(estimated, still, "se3").world_from_camera
    assert trajectory.statistics(trajectory.absolute_errors(moved, still))["max"] == pytest.approx(2.5)
    creeping = still.copy()
    creeping[:, 1, 3] += 1e-3 * np.arange(6.0)  # a millimetre a frame is motion, far from the origin too
    fit = trajectory.align_trajectory(estimated, creeping, "sim3").fit
    assert fit.scale == pytest.approx(1e-3, rel=1e-5)
