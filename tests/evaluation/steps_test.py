"""One step of a rig: different cameras, near in time, nearer than either camera's next frame."""

import numpy as np
import pytest

from rig3r_jax.evaluation.steps import same_step


def pairs(time, cameras, tolerance=0.05):
    """{(i, j)} of one step."""
    i, j = np.triu_indices(len(time), k=1)
    of_one = same_step(np.array(time), None if cameras is None else np.array(cameras), tolerance)
    return set(zip(i[of_one].tolist(), j[of_one].tolist(), strict=True))


@pytest.mark.parametrize(
    "time, cameras, expected",
    [
        ([0.0, 0.0, 1.0, 1.0], [0, 1, 0, 1], {(0, 1), (2, 3)}),
        ([0.0, 0.0, 0.0], [0, 1, 2], {(0, 1), (0, 2), (1, 2)}),
        ([0.0, 0.04, 0.1, 0.14], [0, 1, 0, 1], {(0, 1), (2, 3)}),  # a rig that spins: nuScenes, Waymo
        ([0.0, 0.033, 0.066], [0, 0, 0], set()),  # one camera at 30 Hz
        ([0.0, 0.0, 0.033, 0.033], [0, 1, 0, 1], {(0, 1), (2, 3)}),  # two of them
        ([0.0, 0.0, 0.0], [0, 0, 1], {(0, 2), (1, 2)}),  # times in whole seconds tell no more
        ([0.0, 0.06], [0, 1], set()),
        ([0.0, 0.05], [0, 1], set()),  # the tolerance itself is no longer one step
        ([0.0, 0.033, 0.066], [0, 1, 0], set()),  # in the middle between two frames
        ([0.0, 0.01, 0.02], [3, 9, 3], set()),
        ([0.0, 0.0, np.nan], [0, 1, 2], {(0, 1)}),
        ([0.0, 0.01], None, {(0, 1)}),
        ([0.0], [0], set()),
    ],
)
def test_pairs_of_one_step(time, cameras, expected):
    assert pairs(time, cameras) == expected


def test_samples_of_a_batch_are_apart_and_order_does_not_matter():
    rng = np.random.default_rng(0)
    time = np.tile(np.repeat(np.arange(4) * 0.02, 3), (5, 1)) + rng.uniform(0, 0.005, (5, 12))
    cameras = np.tile([0, 1, 2], (5, 4))
    order = rng.permutation(12)
    for sample_time, sample_cameras in zip(time, cameras, strict=True):
        found = pairs(sample_time, sample_cameras)
        assert found == {(a, b) for a in range(12) for b in range(a + 1, 12) if a // 3 == b // 3}
        renamed = pairs(sample_time[order], sample_cameras[order] + 7)
        assert {tuple(sorted((int(order[a]), int(order[b])))) for a, b in renamed} == found
    batch = same_step(time, cameras, 0.05)
    assert batch.shape == (5, 66) and np.array_equal(batch[2], same_step(time[2], cameras[2], 0.05))
