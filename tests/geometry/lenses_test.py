"""Lenses of several kinds at once, the unified model, and depth along rays and axes, against formulas in float64."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rig3r_jax.geometry.camera import Brown, Fisheye, Pinhole, Unified
from rig3r_jax.geometry.depth import along_axis, along_rays
from rig3r_jax.geometry.lenses import KINDS, LENSES, Lenses, batch_lens, make_lens, padded_coefficients, stacked
from rig3r_jax.schema import Distortion

INTRINSICS = np.array([[310.0, 0.0, 322.0], [0.0, 305.0, 244.0], [0.0, 0.0, 1.0]])
COEFFICIENTS = {
    "pinhole": [],
    "brown": [-0.28, 0.09, 0.0012, -0.0007, -0.012],
    "fisheye": [0.021, -0.013, 0.004, -0.0006],
    "unified": [2.2, 0.016, 1.65, 0.0004, 0.0003],  # of the size of KITTI-360's
}
ONE_OF_EACH = [make_lens(kind, INTRINSICS, np.array(COEFFICIENTS[kind])) for kind in KINDS]
PIXELS = np.random.default_rng(0).uniform([260, 190], [390, 300], (50, 2))  # where the unified lens has rays


def unified_pixel(point, xi, k1, k2, p1, p2):
    """Mei and Rives 2007, equations 2 to 7, number by number."""
    length = math.sqrt(sum(x * x for x in point))
    x, y = (component / length / (point[2] / length + xi) for component in point[:2])
    r2 = x * x + y * y
    radial = 1 + k1 * r2 + k2 * r2 * r2
    bent_x = x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x)
    bent_y = y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y
    return 310.0 * bent_x + 322.0, 305.0 * bent_y + 244.0


@pytest.mark.parametrize("coefficients", [COEFFICIENTS["unified"], [0.8, -0.1, 0.02, 0.001, -0.002], [0.0] * 5])
def test_unified_lens_is_the_formula_and_its_inverse(coefficients):
    lens = Unified(INTRINSICS, np.array(coefficients))
    angle, turn = np.meshgrid(np.linspace(0, 1.2, 9), np.linspace(0, 2 * np.pi, 12))
    points = np.stack([np.sin(angle) * np.cos(turn), np.sin(angle) * np.sin(turn), np.cos(angle)], axis=-1) * 7.0
    pixels = lens.project(points)
    expected = [[unified_pixel(point, *coefficients) for point in row] for row in points]
    np.testing.assert_allclose(pixels, expected, atol=1e-10)
    np.testing.assert_allclose(lens.rays(pixels), points / 7.0, atol=1e-9)
    assert lens.sees(pixels).all()


def test_unified_lens_without_xi_and_distortion_is_a_pinhole():
    np.testing.assert_allclose(
        Unified(INTRINSICS, np.zeros(5)).rays(PIXELS), Pinhole(INTRINSICS).rays(PIXELS), atol=1e-12
    )


def test_a_wide_lens_sees_behind_its_plane_and_no_further_than_its_circle():
    equidistant = Fisheye(np.array([[100.0, 0, 320], [0, 100, 320], [0, 0, 1]]), np.zeros(4))
    np.testing.assert_allclose(equidistant.rays(np.array([320.0 + 100 * 1.9, 320.0])), [np.sin(1.9), 0, np.cos(1.9)])
    assert equidistant.wide and not Brown(INTRINSICS, np.zeros(5)).wide
    bounded = Unified(INTRINSICS, np.array([2.0, 0, 0, 0, 0]))  # rays meet the plane within 1 / sqrt(xi^2 - 1)
    edge = 310.0 / math.sqrt(3.0)
    assert bounded.sees(np.array([322.0 + 0.99 * edge, 244.0])) and not bounded.sees(np.array([322 + 1.01 * edge, 244]))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_lenses_of_several_kinds_are_each_what_they_are_alone(dtype):
    many = stacked(ONE_OF_EACH)
    assert isinstance(many, Lenses) and many.wide.tolist() == [False, False, True, True]
    with jax.enable_x64(dtype == "float64"):
        on_device = jax.tree.map(lambda x: jnp.asarray(x, dtype if x.dtype.kind == "f" else None), many)
        rays = jax.jit(Lenses.rays)(on_device, jnp.asarray(PIXELS[None], dtype))
        points = 9.0 * rays
        pixels = jax.jit(Lenses.project)(on_device, points)
    assert rays.dtype == dtype and rays.shape == (4, 50, 3)
    for lens, of_lens, back in zip(ONE_OF_EACH, rays, pixels, strict=True):
        np.testing.assert_allclose(of_lens, lens.rays(PIXELS), atol=1e-12 if dtype == "float64" else 3e-6)
        np.testing.assert_allclose(back, PIXELS, rtol=1e-10 if dtype == "float64" else 2e-5)
    in_numpy = many.rays(PIXELS[None])
    assert isinstance(in_numpy, np.ndarray) and in_numpy.dtype == np.float64


def test_pinholes_stay_pinholes():
    assert isinstance(stacked(ONE_OF_EACH[:1] * 2), Pinhole) and isinstance(batch_lens(INTRINSICS, None), Pinhole)
    kind = np.zeros((2, 3), np.int32)
    lenses = batch_lens(np.tile(INTRINSICS, (2, 3, 1, 1)), Distortion(kind, np.zeros((2, 3, 5))))
    np.testing.assert_allclose(lenses.rays(PIXELS[None, None])[1, 2], Pinhole(INTRINSICS).rays(PIXELS))


def test_coefficients_are_padded_in_their_order():
    assert [padded_coefficients(lens).tolist() for lens in ONE_OF_EACH] == [
        COEFFICIENTS[kind] + [0.0] * (5 - len(COEFFICIENTS[kind])) for kind in LENSES
    ]


@pytest.mark.parametrize("lens", ONE_OF_EACH[:2], ids=lambda lens: lens.kind)
def test_depth_along_rays_and_along_the_axis_are_inverse(lens):
    depth = np.random.default_rng(1).uniform(1, 50, (480, 640))
    depth[3, 5] = 0.0
    distance = along_rays(depth, lens)
    ray = lens.rays(np.array([100.5, 200.5]))
    assert distance[200, 100] == pytest.approx(depth[200, 100] / ray[2], rel=1e-12) and distance[3, 5] == 0
    with jax.enable_x64(True):
        np.testing.assert_allclose(along_axis(jnp.asarray(distance), lens), depth, rtol=1e-8)


def test_depth_of_wide_lenses_stays_the_distance():
    distance = jnp.asarray(np.random.default_rng(2).uniform(1, 50, (4, 32, 48)).astype(np.float32))
    shown = along_axis(distance, jax.tree.map(jnp.asarray, stacked(ONE_OF_EACH)))
    np.testing.assert_array_equal(shown[2:], distance[2:])
    assert (np.asarray(shown[:2]) < distance[:2]).all()
