"""Fisheyes fitted to rays: exact ones give its coefficients back, noisy and wrong ones it within stated errors."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from rig3r_jax.geometry import fit_lens
from rig3r_jax.geometry.camera import Fisheye, Pinhole
from rig3r_jax.geometry.fit_lens import LEAST_RAYS, TooFewRays, fit_fisheye, fitted_lenses
from rig3r_jax.geometry.lenses import one_lens

HEIGHT, WIDTH = 480, 640


def lens_of(seed):
    """A lens of up to 190 degrees across the image's width, its pixels not quite square."""
    rng = np.random.default_rng(seed)
    bends = rng.uniform(-1, 1, 4) * (0.05, 0.01, 2e-3, 2e-4)
    focal = WIDTH / rng.uniform(2.8, 3.3) * np.array([1.0, rng.uniform(0.97, 1.03)])
    middle = np.array([WIDTH, HEIGHT]) * (0.5 + rng.uniform(-0.03, 0.03, 2))
    return Fisheye(np.array([[focal[0], 0, middle[0]], [0, focal[1], middle[1]], [0, 0, 1]]), bends)


def rays_of(lens, rows, cols):
    """Rays of the cells, zeros more than 95 degrees from the axis; which are seen."""
    v, u = np.meshgrid((np.arange(rows) + 0.5) * HEIGHT / rows, (np.arange(cols) + 0.5) * WIDTH / cols, indexing="ij")
    rays = lens.rays(np.stack([u, v], axis=-1))
    seen = rays[..., 2] > np.cos(np.radians(95))
    return np.where(seen[..., None], rays, 0.0), seen


@pytest.mark.parametrize("field", fit_lens._FIELDS_DEG[[0, 3, 6]])
def test_rays_that_the_first_guess_meets_exactly_leave_it_as_it_is(field):
    """An equidistant lens of a field that is tried, its axis through the middle: no error tells the noise."""
    focal = WIDTH / np.radians(field)
    lens = Fisheye(np.array([[focal, 0, WIDTH / 2], [0, focal, HEIGHT / 2], [0, 0, 1]]), np.zeros(4))
    rays, _ = rays_of(lens, 18, 24)
    fitted, rotation = fit_fisheye(rays, HEIGHT, WIDTH)
    np.testing.assert_allclose(fitted.intrinsics, lens.intrinsics, atol=1e-6)
    np.testing.assert_allclose(fitted.distortion, 0.0, atol=1e-7)
    np.testing.assert_allclose(rotation, np.eye(3), atol=1e-8)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("grid", [(6, 8), (18, 24)])
def test_exact_rays_give_the_lens_back(seed, grid):
    lens, rotation = lens_of(seed), Rotation.random(rng=seed).as_matrix()
    rays, _ = rays_of(lens, *grid)
    lengths = np.random.default_rng(seed).uniform(0.2, 5.0, (*grid, 1))
    fitted, a_from_camera = fit_fisheye(lengths * rays @ rotation.T, HEIGHT, WIDTH)
    scale = np.abs(lens.distortion).max()
    np.testing.assert_allclose(fitted.distortion, lens.distortion, atol=1e-4 * scale)
    np.testing.assert_allclose(fitted.intrinsics, lens.intrinsics, rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(a_from_camera, rotation, atol=1e-6)
    fitted.check("fitted")


def test_rays_beyond_90_degrees_are_among_those():
    angles = [np.degrees(np.arccos(rays_of(lens_of(seed), 18, 24)[0][..., 2].min())) for seed in range(8)]
    assert max(angles) > 92


@pytest.mark.parametrize("seed", range(6))
def test_noise_of_a_degree_and_a_tenth_of_wrong_rays_move_the_lens_by_little(seed):
    """Of 16 x 16 rays: 0.8 degrees a ray (root mean square), 3 % of the focals, 1 % of the image, 1.2 degrees."""
    rng, lens, rotation = np.random.default_rng(seed), lens_of(seed), Rotation.random(rng=seed).as_matrix()
    rays, seen = rays_of(lens, 16, 16)
    noisy = rays @ rotation.T + np.radians(1.0) * rng.normal(size=rays.shape)
    wrong = rng.random(seen.shape) < 0.1
    noisy[wrong] = rng.normal(size=(wrong.sum(), 3))
    fitted, a_from_camera = fit_fisheye(np.where(seen[..., None], noisy, 0.0), HEIGHT, WIDTH)
    rays_fitted, _ = rays_of(fitted, 16, 16)
    both = seen & rays_fitted.any(axis=-1)
    turned = np.sum((rays_fitted @ a_from_camera.T)[both] * (rays @ rotation.T)[both], axis=-1)
    assert np.sqrt(np.mean(np.degrees(np.arccos(np.clip(turned, -1, 1))) ** 2)) < 0.8 and both.sum() > 0.97 * seen.sum()
    focal, true_focal = (x.intrinsics[[0, 1], [0, 1]] for x in (fitted, lens))
    assert (np.abs(focal / true_focal - 1) < 0.03).all()
    assert (np.abs(fitted.intrinsics - lens.intrinsics)[:2, 2] < 0.01 * WIDTH).all()
    assert np.degrees(Rotation.from_matrix(a_from_camera.T @ rotation).magnitude()) < 1.2


def test_derivatives_are_those_of_the_errors():
    rng = np.random.default_rng(0)
    cells, start = rng.uniform(0, 1, (20, 2)), Rotation.random(rng=0).as_matrix()
    unknowns = np.array([0.3, 0.33, 0.51, 0.48, 0.03, -0.01, 1e-3, 3e-4, 0.3, -0.2, 0.5])
    jacobian = fit_lens._jacobian(unknowns, start, cells)
    for i, step in enumerate(1e-6 * np.eye(11)):
        after, before = (fit_lens._errors(unknowns + sign * step, start, cells, np.zeros((20, 3))) for sign in (1, -1))
        np.testing.assert_allclose(jacobian[..., i], (after - before) / 2e-6, atol=1e-5 * np.abs(jacobian).max())


def test_rays_that_are_not_finite_count_for_nothing_and_too_few_tell_nothing():
    lens = lens_of(1)
    rays, _ = rays_of(lens, 8, 8)
    rays[0] = np.nan
    np.testing.assert_allclose(fit_fisheye(rays, HEIGHT, WIDTH)[0].intrinsics, lens.intrinsics, rtol=1e-5, atol=1e-3)
    rays[:, :7] = 0.0
    with pytest.raises(TooFewRays, match=f"7 rays do not tell a fisheye lens; give {LEAST_RAYS} or more"):
        fit_fisheye(rays, HEIGHT, WIDTH)


def test_lenses_of_a_batch_are_fisheyes_where_wide_and_pinholes_elsewhere():
    wide = lens_of(2)
    straight = Pinhole(np.array([[300.0, 0, WIDTH / 2], [0, 320.0, HEIGHT / 2], [0, 0, 1]]))
    rays = np.stack([rays_of(lens, 6, 8)[0] for lens in (wide, straight, wide)])[None]
    mask = np.ones((1, 3, HEIGHT, WIDTH), bool)
    mask[0, 2] = False
    lenses = fitted_lenses(rays, mask, np.array([[True, False, True]]))
    np.testing.assert_allclose(one_lens(lenses, (0, 0)).distortion, wide.distortion, atol=1e-6)
    np.testing.assert_allclose(one_lens(lenses, (0, 1)).intrinsics, straight.intrinsics, rtol=1e-6)
    assert [one_lens(lenses, (0, i)).kind for i in range(3)] == ["fisheye", "pinhole", "fisheye"]
    assert np.isnan(lenses.intrinsics[0, 2]).all()  # all of it is padding
