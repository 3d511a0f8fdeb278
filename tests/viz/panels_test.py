"""Panels: PNGs that another decoder reads back, colours, scales and sizes."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from rig3r_jax.formats.colormap import colormap
from rig3r_jax.viz.above import scene_from_above
from rig3r_jax.viz.panels import depth_range, encode_png, fit_for_display, png_data_uri, view_panels


def _decode(uri):
    head, data = uri.split(",", 1)
    assert head == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


@pytest.mark.parametrize("shape", [(1, 1, 3), (5, 7, 3), (64, 48, 4)])
def test_pillow_reads_back_every_byte(shape):
    image = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    np.testing.assert_array_equal(_decode(png_data_uri(image)), image)
    with pytest.raises(ValueError, match="no PNG"):
        encode_png(image[:0])


@pytest.mark.parametrize("name, sign", [("depth", -1), ("confidence", 1)])
def test_colormaps_are_monotone_in_lightness(name, sign):
    rgba = colormap(np.linspace(0, 1, 101), name).astype(float)
    lightness = rgba[:, :3] @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(lightness) * sign >= -0.5).all() and abs(lightness[-1] - lightness[0]) > 120
    assert (rgba[:, 3] == 255).all() and colormap(np.array([np.nan, 0.0]), name)[0, 3] == 0
    np.testing.assert_array_equal(colormap(np.array([-3.0, 9.0]), name), colormap(np.array([0.0, 1.0]), name))


def test_small_images_are_repeated_and_large_ones_averaged():
    small = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    np.testing.assert_array_equal(fit_for_display(small)[1::3, 1::3], small)
    large = np.random.default_rng(1).uniform(1, 9, (800, 400))
    large[::2] = np.nan
    displayed = fit_for_display(large)
    assert displayed.shape == (200, 100)
    np.testing.assert_allclose(displayed[3, 7], np.nanmean(large[12:16, 28:32]))
    assert np.isnan(fit_for_display(np.full((800, 800), np.nan))).all()


def test_depth_range_leaves_out_what_is_no_depth():
    depth = np.concatenate([np.linspace(2.0, 10.0, 1001), [np.nan, np.inf, 0.0, -5.0]])
    np.testing.assert_allclose(depth_range(depth, None), (2.16, 9.84))
    assert np.isnan(depth_range(None)).all() and np.isnan(depth_range(np.zeros(4))).all()
    low, high = depth_range(np.full(9, 3.0))
    assert low < 3 < high


def _views(count, height=8, width=12):
    rng = np.random.default_rng(count)
    images = rng.integers(0, 256, (count, height, width, 3)).astype(np.uint8)
    depth = rng.uniform(1, 30, (count, height, width)).astype(np.float32)
    return images, depth, rng.uniform(1, 5, (count, height // 4, width // 4)), rng.uniform(size=depth.shape) < 0.7


@pytest.mark.parametrize("count, bands", [(1, 1), (6, 1), (9, 2), (24, 3)])
def test_every_view_has_its_four_panels(count, bands):
    images, depth, confidence, valid = _views(count)
    markup = view_panels(images, depth, depth[:, ::2, ::2], confidence, valid, [f"view <{i}>" for i in range(count)])
    sources = re.findall(r'<img src="([^"]+)" alt="([^"]+)"', markup)
    assert len(sources) == 4 * count and markup.count('class="band"') == bands
    assert "<0>" not in markup and "&lt;0&gt;" in markup
    np.testing.assert_array_equal(_decode(sources[0][0])[8::16, 8::16], images[0])
    per_band = -(-count // bands)
    true_depth = _decode(sources[per_band][0])
    np.testing.assert_array_equal(true_depth[8::16, 8::16, 3] > 0, valid[0])


def test_missing_rows_are_left_out_and_nothing_known_is_no_error():
    images, depth, confidence, valid = _views(2)
    assert view_panels(images, None, None, None, None, ["a", "b"]).count("<img") == 2
    assert view_panels(images, depth, None, confidence, np.zeros_like(valid), ["a", "b"]).count("<img") == 6
    assert (
        view_panels(images, None, np.full_like(depth, np.nan), confidence * np.nan, None, ["a", "b"]).count("<img") == 6
    )
    with pytest.raises(ValueError, match="1 labels for 2 views"):
        view_panels(images, None, None, None, None, ["a"])


def _cameras(count):
    matrices = np.tile(np.eye(4), (count, 1, 1))
    matrices[:, 2, 3] = 2.0 * np.arange(count)
    return matrices


def test_scene_puts_x_to_the_right_and_z_up():
    cameras = _cameras(2)
    cameras[1, 0, 3] = 1.0
    none = np.zeros((0, 3)), np.zeros((0, 3), np.uint8)
    markup = scene_from_above(cameras, cameras, *none, ["a", "b"], title="t")
    spots = [tuple(map(float, spot)) for spot in re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)"', markup)]
    assert len(spots) == 4 and spots[:2] == spots[2:]
    (x0, y0), (x1, y1) = spots[:2]
    np.testing.assert_allclose((y0 - y1) / (x1 - x0), 2.0, rtol=1e-2)
    assert x1 > x0 and y1 < y0


def test_highest_point_is_painted_last():
    points = np.array([[0.0, -5.0, 2.0], [0.0, 1.0, 2.0], [0.0, -1.0, 2.0]])  # y points down: the first is the highest
    colors = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)
    markup = scene_from_above(_cameras(3), None, points, colors, "abc", title="t")
    picture = _decode(re.search(r'<image href="([^"]+)"', markup)[1])
    np.testing.assert_array_equal(np.unique(picture[picture[..., 3] > 0], axis=0), [[255, 0, 0, 255]])


def test_wild_predictions_are_counted_not_drawn():
    wild = _cameras(3)
    wild[1, 0, 3], wild[2] = 1e9, np.nan
    points = np.random.default_rng(0).normal(size=(50, 3)) * 10
    points[7] = np.nan
    colors = np.zeros((50, 3), np.uint8)
    markup = scene_from_above(_cameras(3), wild, points, colors, "abc", title="t")
    assert "1 camera lies outside the section. 1 camera has no pose." in markup
    assert markup.count('class="camera predicted"') == 1 and "nan" not in markup
    assert 'class="camera true"' in scene_from_above(_cameras(1), None, points, colors, "a", title="t")
    with pytest.raises(ValueError, match="neither true nor predicted"):
        scene_from_above(None, None, points, colors, "", title="t")
