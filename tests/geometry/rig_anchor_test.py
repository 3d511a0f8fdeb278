"""Rigs of which some cameras are calibrated: these hold, the others come out in their frame and unit."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from rig3r_jax.geometry import rigid
from rig3r_jax.geometry.rig_discovery import discover_rig
from rig3r_jax.geometry.rig_motion import moved_cameras
from tests.geometry.rig_discovery_test import drawn_rig, images

CALIBRATED = (1, 3)


def calibrated_rig(rng, unit=7.0):
    """Places in metres, and the same in a frame and unit of a predictor's."""
    metres = drawn_rig(rng, "surround", 5, unit=1.0)
    turn = rigid.from_rotation_translation(Rotation.random(rng=rng).as_matrix(), rng.normal(size=3))
    predicted = turn @ metres
    predicted[:, :3, 3] /= unit
    return metres, predicted


def discovered(rng, metres, predicted, sigma_length=0.0, sigma_deg=0.0):
    in_rig, _, camera, step = images(rng, predicted, 8, sigma_length, sigma_deg)
    labels = np.where(np.isin(camera, CALIBRATED), camera, -1)
    rig = discover_rig(in_rig, step=step, camera=labels, calibrated={n: metres[n] for n in CALIBRATED})
    true = np.array([camera[np.argmax(rig.camera == number)] for number in range(len(rig.rig_from_camera))])
    return in_rig, rig, true


def test_calibrated_places_are_held_and_give_frame_and_unit():
    rng = np.random.default_rng(0)
    metres, predicted = calibrated_rig(rng)
    in_rig, rig, true = discovered(rng, metres, predicted)
    np.testing.assert_allclose(rig.rig_from_camera, metres[true], atol=1e-4)
    np.testing.assert_array_equal(rig.calibrated, np.isin(true, CALIBRATED))
    np.testing.assert_allclose(rig.rig_from_camera[rig.calibrated], metres[true[rig.calibrated]], atol=1e-14)
    assert not rig.covariance[rig.calibrated].any() and rig.covariance[~rig.calibrated].any()
    moved = moved_cameras(rig.rig_from_predicted, in_rig.astype(float))
    np.testing.assert_allclose(moved, rig.rig_from_camera[rig.camera], atol=1e-4)
    assert any("held where the calibration has them" in words for words in rig.verdict)


def test_covariances_are_those_of_the_errors_with_the_frame_s():
    squares = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        metres, predicted = calibrated_rig(rng)
        _, rig, true = discovered(rng, metres, predicted, 0.01, 0.5)
        for number in np.flatnonzero(~rig.calibrated):
            error = rigid.invert(rig.rig_from_camera[number]) @ metres[true[number]]
            tangent = np.append(error[:3, 3], Rotation.from_matrix(error[:3, :3]).as_rotvec())
            squares.append(tangent @ np.linalg.solve(rig.covariance[number], tangent))
    assert 4.0 < np.mean(squares) < 8.5  # 6 where true


def test_one_place_tells_a_frame_but_no_unit():
    rng = np.random.default_rng(1)
    metres, predicted = calibrated_rig(rng, unit=1.0)
    in_rig, _, camera, step = images(rng, predicted, 4)
    labels = np.where(camera == 2, 2, -1)
    with pytest.raises(ValueError, match="takes two places that lie apart"):
        discover_rig(in_rig, step=step, camera=labels, calibrated={2: metres[2]})
    rig = discover_rig(in_rig, step=step, camera=labels, calibrated={2: metres[2]}, metric=True)
    true = [camera[np.argmax(rig.camera == number)] for number in range(5)]
    np.testing.assert_allclose(rig.rig_from_camera, metres[true], atol=1e-4)


def test_calibrations_that_cannot_be_used_are_named():
    rng = np.random.default_rng(2)
    metres, predicted = calibrated_rig(rng)
    in_rig, _, camera, step = images(rng, predicted, 2)
    with pytest.raises(ValueError, match="camera 9 is calibrated, but no image .* cameras: 0, 1, 2, 3, 4"):
        discover_rig(in_rig, step=step, camera=camera, calibrated={9: metres[0]})
    with pytest.raises(ValueError, match="camera 1: its calibrated rig_from_camera .* is no rigid transform"):
        discover_rig(in_rig, step=step, camera=camera, calibrated={1: 2 * np.eye(4)})
