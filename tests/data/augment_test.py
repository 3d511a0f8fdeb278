import dataclasses

import cv2
import numpy as np
import pytest

from rig3r_jax.data import augment
from rig3r_jax.data import placement as placement_module
from rig3r_jax.data.augment import blank_views, draw_placement, prepare_view
from rig3r_jax.data.frame_bytes import encode_depth
from rig3r_jax.data.options import ViewOptions
from rig3r_jax.data.scene import BadRecord, DenseDepth, SparseDepth
from tests.data.scenes import encode, make_scene

PLAIN = ViewOptions(
    image_size=64,
    aspect_range=(1.0, 1.0),
    crop_scale_range=(1.0, 1.0),
    brightness=0.0,
    contrast=0.0,
    saturation=0.0,
    hue=0.0,
    blur_probability=0.0,
)
CROPPED = dataclasses.replace(PLAIN, aspect_range=(0.6, 1.6), crop_scale_range=(0.6, 1.0))
SIZES = [(64, 64), (121, 193), (193, 121), (40, 31), (64, 48), (128, 128)]


def prepare(size, options, seed=0, image=None, depth=None):
    """A view of the first frame of a scene of `size`, its placement, the frame and its camera."""
    scene = make_scene(seed, steps=1, cameras=1, size=size)
    frame, camera = scene.frames[0], scene.cameras[0]
    if image is not None:
        frame = dataclasses.replace(frame, image=encode(image))
    if depth is not None:
        frame = dataclasses.replace(frame, depth=encode_depth(depth))
    rng = np.random.default_rng(seed)
    placement = draw_placement(camera.size, options, rng)
    return prepare_view(frame, camera, placement, options, rng), placement, frame, camera


def project(points, intrinsics):
    return points @ intrinsics.T / points[..., 2:]


def pixel_grid(height, width):
    """Homogeneous pixel centres (h w 3)."""
    v, u = np.mgrid[:height, :width] + 0.5
    return np.stack([u, v, np.ones_like(u)], axis=-1)


def test_nothing_to_do_changes_nothing():
    view, _, frame, camera = prepare((64, 64), PLAIN)
    np.testing.assert_array_equal(view.image, cv2.imdecode(np.frombuffer(frame.image, np.uint8), 1)[..., ::-1])
    np.testing.assert_array_equal(view.intrinsics, camera.lens.intrinsics)
    assert view.image_mask.all()
    assert 0.7 < view.valid.mean() < 0.9
    assert (view.depth[view.valid] >= 1).all() and (view.depth[~view.valid] == 0).all()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("seed", range(4))
def test_a_point_lands_on_its_painted_pixel(size, seed):
    camera = make_scene(seed, steps=1, cameras=1, size=size).cameras[0]
    point = np.array([0.02, -0.03, 1.0]) * 7
    painted = project(point, camera.lens.intrinsics)
    grid = pixel_grid(*size)
    spot = np.exp(-((grid[..., 0] - painted[0]) ** 2 + (grid[..., 1] - painted[1]) ** 2) / (2 * 2.5**2))
    image = np.repeat(np.round(spot * 255).astype(np.uint8)[..., None], 3, axis=2)
    view, _, _, _ = prepare(size, CROPPED, seed, image=image)
    weights = view.image[..., 1].astype(np.float64)
    centroid = np.einsum("hwc,hw->c", pixel_grid(64, 64), weights) / weights.sum()
    np.testing.assert_allclose(centroid[:2], project(point, view.intrinsics)[:2], atol=0.06)


@pytest.mark.parametrize("size", SIZES)
def test_corner_rays_of_the_crop_are_kept(size):
    for seed in range(20):
        view, p, _, camera = prepare(size, CROPPED, seed)
        for right, bottom in [(0, 0), (1, 0), (0, 1), (1, 1)]:
            stored = np.array([p.left + right * p.width, p.top + bottom * p.height, 1.0])
            corner = np.array([p.pad_left + right * p.new_width, p.pad_top + bottom * p.new_height, 1.0])
            np.testing.assert_allclose(
                np.linalg.solve(view.intrinsics, corner), np.linalg.solve(camera.lens.intrinsics, stored), atol=1e-12
            )


@pytest.mark.parametrize("size", SIZES)
def test_crop_is_centred_in_range_and_fills_the_square(size):
    for seed in range(50):
        p = draw_placement(size, CROPPED, np.random.default_rng(seed))
        assert abs(2 * p.left + p.width - size[1]) <= 1 and abs(2 * p.top + p.height - size[0]) <= 1
        assert abs(2 * p.pad_left + p.new_width - 64) <= 1 and abs(2 * p.pad_top + p.new_height - 64) <= 1
        assert max(p.new_height, p.new_width) == 64
        aspect = (p.width / p.height) / (size[1] / size[0])
        assert 0.55 < aspect < 1.7
        assert 0.55 < max(p.width / size[1], p.height / size[0]) <= 1
        # Sides are whole pixels; their proportions are kept to that.
        assert abs(p.new_width - p.width * 64 / max(p.width, p.height)) <= 0.5


@pytest.mark.parametrize("size", SIZES)
def test_mask_is_where_the_image_is(size):
    view, p, _, _ = prepare(size, CROPPED, 3, image=np.full((*size, 3), 200, np.uint8))
    np.testing.assert_array_equal(view.image_mask, (view.image == 200).all(axis=-1))
    np.testing.assert_array_equal(~view.image_mask, (view.image == 0).all(axis=-1))
    assert view.image_mask.sum() == p.new_width * p.new_height
    assert not view.valid[~view.image_mask].any()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("seed", range(4))
def test_dense_depth_is_read_at_the_pixel_centre(size, seed):
    number = np.arange(1, size[0] * size[1] + 1, dtype=np.float32).reshape(size)
    view, _, _, camera = prepare(size, CROPPED, seed, depth=DenseDepth(number))
    rays = pixel_grid(64, 64) @ np.linalg.inv(view.intrinsics).T
    u, v, _ = np.moveaxis(rays @ camera.lens.intrinsics.T, -1, 0)
    # A centre may lie on the border of two stored pixels: either is right.
    low = [np.floor(x - 1e-6).astype(int).clip(0, n - 1) for x, n in ((v, size[0]), (u, size[1]))]
    high = [np.floor(x + 1e-6).astype(int).clip(0, n - 1) for x, n in ((v, size[0]), (u, size[1]))]
    assert (view.valid == view.image_mask).all()
    rows, columns = np.divmod(view.depth[view.valid].astype(int) - 1, size[1])
    for index, (a, b) in zip((rows, columns), zip(low, high, strict=True), strict=True):
        assert ((index == a[view.valid]) | (index == b[view.valid])).all()


def test_a_view_is_the_same_in_a_row_of_other_arrays():
    options = dataclasses.replace(CROPPED, brightness=0.2, blur_probability=1.0)
    scene = make_scene(5, steps=1, cameras=1, size=(121, 193))
    frame, camera = scene.frames[0], scene.cameras[0]
    placement = draw_placement(camera.size, options, np.random.default_rng(1))
    alone = prepare_view(frame, camera, placement, options, np.random.default_rng(2))
    rows = blank_views(64, 3)
    prepare_view(frame, camera, placement, options, np.random.default_rng(2), type(alone)(*(a[1] for a in rows)))
    for ours, theirs in zip(rows, alone, strict=True):
        np.testing.assert_array_equal(ours[1], theirs)
        assert not ours[[0, 2]].any()


def test_unknown_depth_is_not_valid():
    values = np.full((64, 64), 5.0, np.float32)
    values[0, :5] = [0, np.nan, np.inf, -1, -np.inf]
    view, *_ = prepare((64, 64), PLAIN, depth=DenseDepth(values))
    assert view.valid.sum() == 64 * 64 - 5 and not view.valid[0, :5].any()
    assert np.isfinite(view.depth).all()
    pixels = np.array([[1.5, 1.5], [2.5, 1.5], [np.nan, 1], [3.5, 1.5], [4.5, 1.5]], np.float32)
    sparse = SparseDepth(pixels, np.array([0, np.nan, 1, np.inf, 7], np.float32))
    view, *_ = prepare((64, 64), PLAIN, depth=sparse)
    assert np.argwhere(view.valid).tolist() == [[1, 4]] and view.depth[1, 4] == 7


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("seed", range(3))
def test_sparse_points_land_where_the_intrinsics_project_them(size, seed):
    rng = np.random.default_rng(seed)
    camera = make_scene(seed, steps=1, cameras=1, size=size).cameras[0]
    points = rng.uniform([-3, -3, 2], [3, 3, 30], (300, 3))
    pixels = project(points, camera.lens.intrinsics)[:, :2].astype(np.float32)
    view, p, _, _ = prepare(size, CROPPED, seed, depth=SparseDepth(pixels, points[:, 2].astype(np.float32)))
    expected = {}
    u, v, _ = project(points, view.intrinsics).T
    for column, row, z in zip(np.floor(u).astype(int), np.floor(v).astype(int), points[:, 2], strict=True):
        if 0 <= column - p.pad_left < p.new_width and 0 <= row - p.pad_top < p.new_height:
            expected[row, column] = min(z, expected.get((row, column), np.inf))
    assert len(expected) > 20
    assert {tuple(index) for index in np.argwhere(view.valid).tolist()} == set(expected)
    for index, z in expected.items():
        assert view.depth[index] == np.float32(z)


def test_dense_and_sparse_depth_agree():
    for size, options in [((64, 64), PLAIN), ((128, 128), PLAIN), ((121, 193), CROPPED)]:
        grid = pixel_grid(*size)
        plane = (20 + 0.01 * grid[..., 0] - 0.02 * grid[..., 1]).astype(np.float32)
        points = SparseDepth(grid[..., :2].reshape(-1, 2).astype(np.float32), plane.reshape(-1))
        dense, p, _, _ = prepare(size, options, depth=DenseDepth(plane))
        sparse, *_ = prepare(size, options, depth=points)
        assert (dense.valid == sparse.valid).all()
        # The nearest of the points in a pixel lies at most a pixel's width from its centre.
        bound = 0.03 * p.width / p.new_width if p.width != p.new_width else 1e-6
        assert np.abs(dense.depth - sparse.depth).max() <= bound


def test_resize_keeps_colours_and_averages():
    image = np.zeros((256, 256, 3), np.uint8)
    image[::2, ::2] = (255, 128, 0)  # finer than the view's pixels
    view, *_ = prepare((256, 256), PLAIN, image=image)
    np.testing.assert_allclose(view.image, np.broadcast_to([63.75, 32, 0], (64, 64, 3)), atol=1)


def test_jitter_matches_its_definition():
    options = dataclasses.replace(PLAIN, brightness=0.3, contrast=0.4, saturation=0.5, hue=0.2)
    image = np.random.default_rng(0).integers(60, 190, (16, 16, 3), dtype=np.uint8)
    for seed in range(10):
        b, c, s, h = np.random.default_rng(seed).uniform(-1, 1, 4) * (0.3, 0.4, 0.5, 0.2)
        luma = np.array([0.299, 0.587, 0.114])
        axis = np.ones(3) / np.sqrt(3)
        x = image.astype(np.float64)
        x = np.cos(h) * x + np.sin(h) * np.cross(axis, x) + (1 - np.cos(h)) * (x @ axis)[..., None] * axis
        x = (1 + s) * x + (-s) * (x @ luma)[..., None]
        mean = (image @ luma).mean() * (1 + b)
        x = (1 + c) * ((1 + b) * x - mean) + mean
        jittered = augment.jitter(image, options, np.random.default_rng(seed))
        np.testing.assert_allclose(jittered, np.clip(x, 0, 255), atol=0.9)  # rounded, fixed point


def test_colours_differ_between_frames_and_keep_grey_grey():
    options = dataclasses.replace(PLAIN, saturation=0.5, hue=0.5)
    grey = np.repeat(np.random.default_rng(0).integers(0, 256, (8, 8, 1), dtype=np.uint8), 3, axis=2)
    rng = np.random.default_rng(0)
    assert np.abs(augment.jitter(grey, options, rng).astype(int) - grey).max() <= 1
    colour = np.full((8, 8, 3), (200, 50, 90), np.uint8)
    assert (augment.jitter(colour, options, rng) != augment.jitter(colour, options, rng)).any()


def test_blur_happens_as_often_as_asked_and_not_across_padding():
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    options = dataclasses.replace(PLAIN, blur_probability=0.3)
    rng = np.random.default_rng(1)
    blurred = np.mean([augment.blur(image, options, rng).std() < image.std() - 1 for _ in range(300)])
    assert 0.2 < blurred < 0.4
    options = dataclasses.replace(PLAIN, blur_probability=1.0, blur_sigma_range=(3.0, 3.0))
    view, *_ = prepare((32, 64), options, image=np.full((32, 64, 3), 99, np.uint8))
    assert set(np.unique(view.image)) == {0, 99}


@pytest.mark.parametrize("encoding", [".png", ".jpg"])
@pytest.mark.parametrize("size", [(64, 64), (200, 300)])
def test_broken_images_are_named(encoding, size):
    scene = make_scene(steps=1, cameras=1, size=size, encoding=encoding)
    frame, camera = scene.frames[0], scene.cameras[0]
    rng = np.random.default_rng(0)
    placement = draw_placement(camera.size, PLAIN, rng)
    data = frame.image
    for broken in (b"", data[:1], data[:30], data[: len(data) // 2], b"HEIC" + data, data[:2] + b"\0" * len(data)):
        with pytest.raises(BadRecord, match=r"camera camera_0, step 0: image of .* bytes"):
            prepare_view(dataclasses.replace(frame, image=broken), camera, placement, PLAIN, rng)


def test_image_of_another_size_is_refused_before_it_is_decoded(monkeypatch):
    scene = make_scene(steps=1, cameras=1, size=(64, 64))
    frame, camera = scene.frames[0], scene.cameras[0]
    rng = np.random.default_rng(0)
    placement = draw_placement(camera.size, PLAIN, rng)
    monkeypatch.setattr(placement_module, "decode_image", lambda *_: pytest.fail("decoded"))
    bomb = bytearray(frame.image)
    bomb[16:24] = (60000).to_bytes(4, "big") * 2
    with pytest.raises(BadRecord, match="60000x60000, the camera states 64x64"):
        prepare_view(dataclasses.replace(frame, image=bytes(bomb)), camera, placement, PLAIN, rng)
    with pytest.raises(BadRecord, match="64x64 .* decoded to more than 4095 pixels; store it smaller, or as a JPEG"):
        prepare_view(frame, camera, placement, dataclasses.replace(PLAIN, max_pixels=4095), rng)


def test_depth_of_another_size_is_named():
    with pytest.raises(BadRecord, match=r"camera camera_0, step 0: depth is \(32, 64\)"):
        prepare((64, 64), PLAIN, depth=DenseDepth(np.ones((32, 64), np.float16)))
