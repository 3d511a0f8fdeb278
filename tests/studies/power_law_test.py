"""The law of errors and compute: found again from its own points, beside SciPy's curve_fit, honest about how sure."""

import numpy as np
import pytest
from scipy.optimize import curve_fit

from rig3r_jax.studies.power_law import PowerLaw, fit, predict, resampled_fits

TRUE = PowerLaw(floor=0.2, scale=0.5, slope=0.3, unit=1e15)
COMPUTE = np.geomspace(1e13, 1e16, 9)


def noisy(seed, sigma=0.02, compute=COMPUTE):
    return TRUE.at(compute) * np.exp(sigma * np.random.default_rng(seed).normal(size=len(compute)))


def test_a_law_is_found_again_from_its_points():
    law = fit(COMPUTE, TRUE.at(COMPUTE))
    assert (law.floor, law.slope) == (pytest.approx(0.2, rel=1e-6), pytest.approx(0.3, rel=1e-6))
    np.testing.assert_allclose(law.at(1e18), TRUE.at(1e18), rtol=1e-6)
    without_floor = fit(COMPUTE, 3.0 * (COMPUTE / 1e15) ** -0.2)
    assert without_floor.floor < 1e-4 and without_floor.slope == pytest.approx(0.2, rel=1e-4)  # the bound is neared


def test_small_noise_is_fitted_as_by_curve_fit():
    """In logarithms, where residuals are small against the loss's bend."""
    errors = noisy(1, 0.005)

    def logarithm(x, floor, log_scale, slope):
        return np.log(floor + np.exp(log_scale - slope * x))

    other, _ = curve_fit(logarithm, np.log(COMPUTE / 1e15), np.log(errors), p0=(0.1, -0.5, 0.5), xtol=1e-12)
    law = fit(COMPUTE, errors)
    assert (law.floor, law.slope) == (pytest.approx(other[0], rel=1e-4), pytest.approx(other[2], rel=1e-4))


def test_one_wild_run_does_not_own_the_law():
    errors = TRUE.at(COMPUTE)
    errors[4] *= 2
    assert fit(COMPUTE, errors).at(1e17) == pytest.approx(TRUE.at(1e17), rel=0.05)


@pytest.mark.parametrize("runs", [6, 9])
def test_predictions_hold_the_next_run(runs):
    """Of runs drawn by the law nearly as many as the interval says; wider farther away."""
    held, widths, compute = [], [], np.geomspace(1e13, 1e16, runs)
    for seed in range(24):
        errors = noisy(seed, 0.03, compute)
        law = fit(compute, errors)
        resampled = resampled_fits(law, compute, errors, resamples=40)
        near, far = (predict(law, resampled, compute, errors, at) for at in (2e16, 2e19))
        run = TRUE.at(2e16) * np.exp(0.03 * np.random.default_rng(100 + seed).normal())
        held.append(near.low <= run <= near.high)
        widths.append((near.high - near.low) / near.value < (far.high - far.low) / far.value)
        assert near.low <= near.value <= near.high
    assert np.mean(held) >= 0.9 and np.mean(widths) > 0.8


def test_too_few_runs_have_no_law():
    compute = np.array([1e13, 1e14, 1e15, 1e15])  # of four runs three computes
    law = fit(compute, np.array([3.0, 2.0, 1.5, 1.4]))
    assert np.isnan([law.floor, law.scale, law.slope, law.at(1e16)]).all()
    assert resampled_fits(law, compute, np.ones(4)) == []
    four = np.array([1e13, 1e14, 1e15, 1e16])  # three numbers leave them hardly a residual
    assert resampled_fits(fit(four, TRUE.at(four)), four, TRUE.at(four)) == []
    assert np.isnan(predict(law, [], compute, np.ones(4), 1e16).high)
    with pytest.raises(ValueError, match="positive computes and errors"):
        fit(COMPUTE, 0 * COMPUTE)
