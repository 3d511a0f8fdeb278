"""Points of a model whose points and cameras do not agree: by default they fall on the pixels that they are from."""

import dataclasses

import numpy as np
import pytest

from rig3r_jax import cli
from tests.inference.exact_files_test import by_opencv


@pytest.fixture
def arrays(rig, tmp_path, monkeypatch):
    """Of a reconstruction with this --points-from, of points a tenth of their distance off."""
    folder, poses, truth, words = rig
    predict = type(truth).predict

    def off(self, views):
        predictions = predict(self, views)
        rng = np.random.default_rng(0)
        points = predictions.points * (1 + 0.1 * rng.normal(size=predictions.points.shape))
        return dataclasses.replace(predictions, points=points)

    monkeypatch.setattr(type(truth), "predict", off)

    def of(points_from):
        truth.passes = 0
        out = tmp_path / points_from
        assert cli.main([*words, f"--out={out}", f"--points-from={points_from}", "--export=npz"]) == 0
        with np.load(out / "reconstruction.npz") as file:
            return dict(file)

    return of


def pixels_off(arrays):
    """Median distances between points' images by OpenCV and their pixels, of each image."""
    medians = []
    for row, world_from_camera in enumerate(arrays["world_from_camera"]):
        points_camera = (arrays["points_world"][row] - world_from_camera[:3, 3]) @ world_from_camera[:3, :3]
        usable = arrays["on_image"][row] & (points_camera[..., 2] > 0)
        lens = (str(arrays["lens_kinds"][row]), arrays["intrinsics"][row], arrays["lens_coefficients"][row])
        off = by_opencv(*lens, points_camera[usable]) - arrays["pixels"][row][usable]
        medians.append(np.median(np.linalg.norm(off, axis=-1)))
    return np.array(medians)


def test_points_fall_on_their_pixels_at_the_depths_of_the_point_map(arrays):
    on_rays, as_predicted = arrays("depth"), arrays("pointmap")
    assert pixels_off(on_rays).max() < 0.05 and pixels_off(as_predicted).min() > 1
    np.testing.assert_array_equal(on_rays["depth"], as_predicted["depth"])
    away = on_rays["points_world"] - on_rays["world_from_camera"][:, None, None, :3, 3]
    z = np.einsum("vhwj,vj->vhw", away, on_rays["world_from_camera"][:, :3, 2])
    is_wide = (on_rays["lens_kinds"] == "fisheye")[:, None, None]
    depth = np.where(is_wide, np.linalg.norm(away, axis=-1), z)
    on_image = on_rays["on_image"]
    np.testing.assert_allclose(depth[on_image], on_rays["depth"][on_image], rtol=1e-9, atol=1e-9)
