"""Certainties of places: laws of probability, and that what the law says is right about as often as it says."""

import numpy as np
import pytest

from rig3r_jax.benchmarks.discovery_certainty import noisy_rigs
from rig3r_jax.evaluation.rig import match_cameras
from rig3r_jax.geometry import rigid
from rig3r_jax.geometry.place_certainty import FREE, GROUPED, Law, certainty, count_probabilities, nearest_separation
from rig3r_jax.geometry.pose_clusters import fit_places


@pytest.fixture(scope="module")
def rigs():
    """(images, fits without groups, fits with them) of noisy rigs, of neither the benchmark's seeds nor the law's."""
    cases = list(noisy_rigs(100, 7, 25))
    poses = [rigid.nearest_rigid(case.rig_from_camera) for case in cases]
    counts = [range(1, min(len(one), 16) + 1) for one in poses]
    return [
        (case, fit_places(one, count), fit_places(one, count, case.step))
        for case, one, count in zip(cases, poses, counts, strict=True)
    ]


def best(fits):
    return max(fits, key=lambda fit: fit.log_evidence)


@pytest.mark.parametrize("law", [FREE, GROUPED, Law(1.0, 1e-9, 1.0)])
def test_certainties_are_probabilities_and_no_place_is_surer_than_its_poses(rigs, law):
    for _, free, _ in rigs:
        sure = certainty(free, best(free), law)
        assert sure.count.sum() == pytest.approx(1.0) and free[sure.count.argmax()] is best(free)
        assert (sure.pose >= 0).all() and (sure.pose <= 1).all()
        for number, place in enumerate(sure.place):
            assert place <= sure.pose[best(free).label == number].min() + 1e-9


def test_a_weaker_law_is_never_surer_of_the_number(rigs):
    for _, free, _ in rigs:
        powers = [count_probabilities(free, Law(1.0, separation, 0.1)).max() for separation in (1e-9, 30.0, 1e9)]
        assert powers[0] >= powers[1] >= powers[2]


def test_places_far_apart_count_in_full():
    poses = np.tile(np.eye(4), (12, 1, 1))
    poses[:, 0, 3] = np.repeat([0.0, 1.0, 2.0], 4) + 1e-4 * np.random.default_rng(0).normal(size=12)
    fits = fit_places(poses, range(1, 7))
    assert best(fits).count == 3 and nearest_separation(best(fits)) > FREE.separation
    np.testing.assert_allclose(count_probabilities(fits, FREE), count_probabilities(fits, Law(1.0, 1e-9, 1.0)))


@pytest.mark.parametrize("grouped", [False, True], ids=["no times", "times"])
def test_stated_certainty_is_the_share_that_is_right(rigs, grouped):
    stated, right = [], []
    for case, free, times in rigs:
        fits = times if grouped else free
        sure = certainty(fits, best(fits), GROUPED if grouped else FREE).pose
        match, _ = match_cameras(best(fits).label, case.camera)
        stated += sure.tolist()
        right += [match.get(int(true)) == label for true, label in zip(case.camera, best(fits).label, strict=True)]
    assert np.mean(right) == pytest.approx(np.mean(stated), abs=0.1)
    surest = np.array(stated) > 0.99
    assert surest.sum() > 50 and np.mean(np.array(right)[surest]) > 0.93  # a wrong number of cameras takes many at once
