"""Covariances of a reconstruction are those of its errors: many times through a model whose noise is known."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rig3r_jax.geometry import rigid, se3
from rig3r_jax.inference.known import Known
from rig3r_jax.inference.photographs import find_photographs
from tests.inference.truth import RIG, Z_BAR, Truth, drive, reconstructed, write_rig_images

TRIALS = 8


def noise_covariance():
    """Of tangents (v, w), in the model's unit and radians, with correlations."""
    factor = np.random.default_rng(0).normal(size=(6, 6))
    covariance = factor @ factor.T
    sigmas = np.array([0.002, 0.004, 0.003, 0.004, 0.002, 0.003]) / np.sqrt(np.diag(covariance))
    return covariance * np.outer(sigmas, sigmas)


class Noisy(Truth):
    """It knows all but its own noise; the first camera of a pass defines the world."""

    def draw(self, seed):
        self.rng = np.random.default_rng(seed)

    def estimate(self, views, lenses, wide):
        self.passes = 0  # always in the same unit
        exact = super().estimate(views, lenses, wide)
        rows = [self.row_of[image.tobytes()] for image in views.images]
        true = rigid.invert(self.poses[rows[0]]) @ self.poses[rows]
        true[:, :3, 3] /= Z_BAR
        covariance = np.tile(noise_covariance(), (len(views.images), 1, 1))
        covariance[0] = 0.0
        noise = self.rng.multivariate_normal(np.zeros(6), noise_covariance(), len(covariance))
        noise[0] = 0.0
        with jax.enable_x64(True):
            poses = true @ np.asarray(se3.exp(jnp.asarray(noise)))
        moved = poses @ rigid.invert(exact.world_from_camera)
        points = np.einsum("vij,vhwj->vhwi", moved[:, :3, :3], exact.points) + moved[:, None, None, :3, 3]
        return dataclasses.replace(
            exact, world_from_camera=poses, points=points, covariance=covariance, rig_from_camera=None
        )


@pytest.fixture(scope="module")
def rig(tmp_path_factory):
    """(folder, photographs, the true poses, the model of them)."""
    folder = write_rig_images(tmp_path_factory.mktemp("covariances"), steps=3)
    _, photographs = find_photographs([folder])
    poses, truth = drive(photographs)
    return folder, photographs, rigid.invert(poses[0]) @ poses, Noisy(photographs, poses, truth.rig, truth.lenses)


@pytest.mark.parametrize(
    ("known", "options"),
    [(Known(), {}), (Known(scale=Z_BAR), {}), (Known(rig=RIG), {}), (Known(scale=Z_BAR), {"max_views": 6})],
    ids=["one pass", "one pass in metres", "a rig", "passes"],
)
def test_errors_are_as_large_as_covariances_say(rig, known, options):
    folder, photographs, poses, model = rig
    squares = []
    for seed in range(TRIALS):
        model.draw(seed)
        result = reconstructed(model, folder, photographs, known, **options)
        true = poses.copy()
        true[:, :3, 3] /= 1.0 if result.length_unit == "metre" else Z_BAR
        with jax.enable_x64(True):
            errors = np.asarray(se3.log(jnp.asarray(rigid.invert(true) @ result.world_from_camera)))
        covariance = result.covariance
        uncertain = covariance.any(axis=(1, 2))
        np.testing.assert_allclose(errors[~uncertain], 0.0, atol=1e-8)
        solved = np.linalg.solve(covariance[uncertain], errors[uncertain][..., None])[..., 0]
        squares.append(np.sum(errors[uncertain] * solved, axis=-1).mean() / 6)
    # Of 8 draws of some 40 numbers that do not all vary by themselves.
    assert 0.6 < np.mean(squares) < 1.5
