"""Maps and arrays hold what the reconstruction does, to the steps that they state."""

import dataclasses
import json

import cv2
import numpy as np
import pytest

from rig3r_jax.exports.export import export
from rig3r_jax.exports.npz import ARRAYS
from tests.exports.reconstructions import rig_of_three, unordered


@pytest.fixture
def with_hole():
    """A rig whose first image has two elements without depth."""
    reconstruction = rig_of_three("fisheye")
    points = reconstruction.points
    on_image, depth = points.on_image.copy(), points.depth.copy()
    on_image[0, 0, 0], depth[0, 1, 1] = False, np.nan
    return dataclasses.replace(reconstruction, points=dataclasses.replace(points, on_image=on_image, depth=depth))


def test_png_maps_are_in_their_stated_steps(tmp_path, with_hole):
    report = export(with_hole, tmp_path / "out", ["png"])
    assert report.notes["png"] == ("16-bit depth in steps of 0.001 metres (maps.json)",)
    folder = tmp_path / "out" / "maps_png"
    content = json.loads((folder / "maps.json").read_text())
    for number, (entry, image) in enumerate(zip(content["maps"], with_hole.images, strict=True)):
        depth = cv2.imread(str(folder / "depth" / f"{entry['image']}.png"), cv2.IMREAD_UNCHANGED)
        sure = cv2.imread(str(folder / "confidence" / f"{entry['image']}.png"), cv2.IMREAD_UNCHANGED)
        assert depth.dtype == sure.dtype == np.uint16 and entry["image"] == image.name and entry["depth"] == "ray"
        known = with_hole.points.on_image[number] & np.isfinite(with_hole.points.depth[number])
        np.testing.assert_array_equal(depth > 0, known)
        np.testing.assert_array_equal(sure > 0, known)
        expected = with_hole.points.depth[number][known]
        np.testing.assert_allclose(depth[known] * content["depth_scale"], expected, atol=0.0005001)
        expected = with_hole.points.confidence[number][known]
        found = 1 + (sure[known] - 1.0) * content["confidence_scale"]
        np.testing.assert_allclose(found, expected, atol=0.501 * content["confidence_scale"])
        columns, rows = np.meshgrid(np.arange(entry["width"]), np.arange(entry["height"]))
        u = entry["first_pixel"][0] + columns * entry["pixel_step"][0]
        v = entry["first_pixel"][1] + rows * entry["pixel_step"][1]
        np.testing.assert_allclose(np.stack([u, v], -1), with_hole.points.pixels[number], atol=1e-9)


@pytest.mark.parametrize("factor, scale", [(1, 1 / 1000), (20, 1 / 256), (200, None)])
def test_depth_beyond_a_step_takes_the_next(tmp_path, factor, scale):
    reconstruction = rig_of_three("pinhole")
    points = dataclasses.replace(reconstruction.points, depth=factor * reconstruction.points.depth)
    export(dataclasses.replace(reconstruction, points=points), tmp_path / "out", ["png"])
    content = json.loads((tmp_path / "out" / "maps_png" / "maps.json").read_text())
    assert content["depth_scale"] == (scale or points.depth.max() / 65535) and content["maps"][0]["depth"] == "axis"


def test_npy_and_exr_maps_are_float32(tmp_path, with_hole):
    OpenEXR = pytest.importorskip("OpenEXR")
    export(with_hole, tmp_path / "out", ["npy", "exr"])
    known = with_hole.points.on_image & np.isfinite(with_hole.points.depth)
    for number, image in enumerate(with_hole.images):
        files = [tmp_path / "out" / "maps_npy" / name / f"{image.name}.npy" for name in ("depth", "confidence")]
        with OpenEXR.File(str(tmp_path / "out" / "maps_exr" / f"{image.name}.exr")) as file:
            channels = {name: channel.pixels for name, channel in file.channels().items()}
        arrays = [(np.load(file), channels[name]) for file, name in zip(files, ("Z", "confidence"), strict=True)]
        for (npy, exr), values in zip(arrays, (with_hole.points.depth, with_hole.points.confidence), strict=True):
            expected = np.where(known[number], values[number], np.nan).astype(np.float32)
            np.testing.assert_array_equal(npy, expected)
            np.testing.assert_array_equal(exr, expected)


@pytest.mark.parametrize("make", [rig_of_three, unordered])
def test_npz_holds_everything_without_pickles(tmp_path, make):
    reconstruction = make("brown")
    export(reconstruction, tmp_path / "out", ["npz"])
    with np.load(tmp_path / "out" / "reconstruction.npz", allow_pickle=False) as arrays:
        assert list(arrays) == [name for name in ARRAYS if name != "error"]  # of which nothing is known here
        np.testing.assert_array_equal(arrays["world_from_camera"], reconstruction.world_from_camera)
        np.testing.assert_array_equal(arrays["intrinsics"], reconstruction.intrinsics)
        np.testing.assert_array_equal(arrays["lens_coefficients"][0], reconstruction.images[0].lens.distortion)
        assert arrays["names"].tolist() == [image.name for image in reconstruction.images]
        assert arrays["length_unit"].item() == reconstruction.length_unit
        for name in ("pixels", "points_world", "depth", "confidence", "on_image", "colors"):
            np.testing.assert_array_equal(arrays[name], getattr(reconstruction.points, name))
        assert arrays["rig_from_camera"].shape == (len(reconstruction.cameras), 4, 4)
