"""Poses between those of a trajectory."""

import numpy as np
from scipy.spatial.transform import Rotation

from rig3r_jax.data.trajectory import poses_at


def pose(degrees, x):
    result = np.eye(4)
    result[:3, :3] = Rotation.from_euler("z", degrees, degrees=True).as_matrix()
    result[0, 3] = x
    return result


TIMES = np.array([1.0, 2.0, 9.0])
POSES = np.stack([pose(0, 0), pose(90, 4), pose(180, 5)])


def test_poses_between_are_on_the_way():
    poses, known = poses_at(np.array([1.25, 2.0]), TIMES, POSES, longest_gap=1.0)
    assert known.all()
    np.testing.assert_allclose(poses, [pose(22.5, 1), pose(90, 4)], atol=1e-12)


def test_gaps_and_ends_have_the_nearest_pose_if_any():
    poses, known = poses_at(np.array([0.6, 0.4, 2.4, 5.0, 9.5, 9.6]), TIMES, POSES, longest_gap=1.0)
    assert known.tolist() == [True, False, True, False, True, False]
    np.testing.assert_allclose(poses[[0, 2, 4]], POSES, atol=1e-12)
    np.testing.assert_array_equal(poses[1], np.eye(4))


def test_one_pose_unsorted_and_repeated_times():
    poses, known = poses_at(np.array([3.0]), np.array([3.0]), POSES[1:2], longest_gap=0.1)
    assert known.all() and np.allclose(poses[0], POSES[1])
    order = [2, 0, 1, 1]
    poses, known = poses_at(np.array([1.25]), TIMES[order], POSES[order], longest_gap=1.0)
    np.testing.assert_allclose(poses[0], pose(22.5, 1), atol=1e-12)
    assert not poses_at(np.array([1.0]), np.zeros(0), np.zeros((0, 4, 4)), 1.0)[1].any()
