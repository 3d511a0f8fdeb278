import numpy as np
import pytest

from rig3r_jax.geometry import rigid
from rig3r_jax.geometry.fusion.refine_rig import refine_rig
from tests.rig_drives import RigDrive, exp, log

STEPS, CAMERAS = 8, 3


def drive_of(seed):
    rng = np.random.default_rng(seed)
    drive = RigDrive.of(rng, STEPS, CAMERAS)
    camera = np.arange(len(drive)) % CAMERAS
    return rng, drive, camera, rigid.invert(drive.rig_from_camera[0]) @ drive.rig_from_camera[:CAMERAS]


def windows_of(rng, drive, level, stated=True):
    parts = (range(0, 5 * CAMERAS), range(3 * CAMERAS, STEPS * CAMERAS))
    return [drive.window(rng, list(part), level, stated=stated) for part in parts]


def shaken(rng, places, sigma=0.05):
    noise = sigma * rng.normal(size=(len(places), 6))
    noise[0] = 0.0
    return places @ exp(noise)


def in_unit(places, true):
    """Centres in the unit of the true rig: the refined one has that of the rig which it began with."""
    scaled = places.copy()
    scaled[:, :3, 3] *= np.sum(true[:, :3, 3] ** 2) / np.sum(true[:, :3, 3] * places[:, :3, 3])
    return scaled


@pytest.mark.parametrize("stated", [True, False])
def test_exact_windows_give_the_rig_back(stated):
    rng, drive, camera, true = drive_of(0)
    rig = refine_rig(windows_of(rng, drive, stated=stated, level=1e-7), shaken(rng, true), camera, drive.step)
    assert rig.converged
    np.testing.assert_allclose(in_unit(rig.rig_from_camera, true), true, atol=1e-4)
    np.testing.assert_allclose(rig.rig_from_camera[0], np.eye(4), atol=1e-12)
    assert rig.world_from_rig.shape == (STEPS, 4, 4) and not rig.covariance[0].any()


def test_refinement_halves_the_errors_and_says_how_large_they_are():
    before, after, squares = [], [], []
    for seed in range(8):
        rng, drive, camera, true = drive_of(seed)
        first = shaken(rng, true)
        rig = refine_rig(windows_of(rng, drive, 0.01), first, camera, drive.step)
        # The unit is held by the first window's scale, whose error is not the places': turns alone are compared.
        errors = [log(rigid.invert(one[1:]) @ true[1:])[:, 3:] for one in (first, rig.rig_from_camera)]
        before.append(np.linalg.norm(errors[0]))
        after.append(np.linalg.norm(errors[1]))
        squares += [e @ np.linalg.solve(c[3:, 3:], e) for e, c in zip(errors[1], rig.covariance[1:], strict=True)]
    assert np.mean(after) < 0.5 * np.mean(before)
    assert 1.5 < np.mean(squares) < 5.0  # 3 where covariances are true


def test_calibrated_places_are_held_and_give_the_unit():
    rng, drive, camera, true = drive_of(1)
    first, held = shaken(rng, true), np.array([True, False, True])
    first[held] = true[held]
    rig = refine_rig(windows_of(rng, drive, level=1e-7), first, camera, drive.step, held)
    np.testing.assert_allclose(rig.rig_from_camera[held], true[held], atol=1e-14)
    np.testing.assert_allclose(rig.rig_from_camera, true, atol=1e-4)  # in metres: no scale is left open
    assert not rig.covariance[held].any() and rig.covariance[1].any()


def test_images_without_a_camera_are_refused():
    rng, drive, camera, true = drive_of(0)
    camera[2] = -1
    with pytest.raises(ValueError, match="every image must have a step and one of 3 cameras"):
        refine_rig(windows_of(rng, drive, 0.01), true, camera, drive.step)
