"""Pixels, depth and intrinsics of a view agree, however the image was made smaller."""

import dataclasses

import cv2
import numpy as np
import pytest

from rig3r_jax.data import placement as placement_module
from rig3r_jax.data.augment import draw_placement, prepare_view
from rig3r_jax.data.frame_bytes import decode_depth, encode_depth, encode_mask
from rig3r_jax.data.options import ViewOptions
from rig3r_jax.data.placement import place_image
from rig3r_jax.data.scene import BadRecord, DenseDepth, SparseDepth
from rig3r_jax.geometry.camera import Brown, Fisheye, Pinhole
from tests.data.scenes import encode, make_scene

# Stored images that are shrunk by less than 1 up to 20: by no reduction, each of 2, 4 and 8, and by blocks on top.
OPTIONS = ViewOptions(
    image_size=96, aspect_range=(0.5, 2.0), crop_scale_range=(0.7, 1.0), brightness=0.0, contrast=0.0,
    saturation=0.0, hue=0.0, blur_probability=0.0,
)  # fmt: skip
SIZES = [(90, 70), (150, 170), (333, 517), (480, 640), (607, 803), (1216, 1936)]


def camera_and_placement(size, seed):
    scene = make_scene(seed, steps=1, cameras=1, size=(8, 8))
    intrinsics = np.array([[0.8 * size[1], 0, 0.48 * size[1]], [0, 0.8 * size[1], 0.53 * size[0]], [0, 0, 1]])
    camera = dataclasses.replace(scene.cameras[0], size=size, lens=Pinhole(intrinsics))
    return scene.frames[0], camera, draw_placement(size, OPTIONS, np.random.default_rng(seed))


def project(point, intrinsics):
    return (intrinsics @ point / point[2])[:2]


def centres(size):
    v, u = np.mgrid[: size[0], : size[1]] + 0.5
    return u, v


@pytest.mark.parametrize("kind", [".jpg", ".png"])
@pytest.mark.parametrize("size", SIZES)
def test_points_are_seen_where_the_intrinsics_say(size, kind):
    """Spots are painted where three points project: image, dense and sparse depth show them there in the view too."""
    for seed in range(3):
        frame, camera, p = camera_and_placement(size, seed)
        spread = 2.0 * max(p.shrink, 1)  # stored pixels
        painted = np.array(
            [(p.left + a * p.width, p.top + b * p.height) for a, b in [(0.297, 0.313), (0.519, 0.717), (0.745, 0.437)]]
        )
        points = np.stack([np.linalg.solve(camera.lens.intrinsics, [u, v, 1]) for u, v in painted]) * [[5], [6], [7]]
        u, v = centres(size)
        image, depth = np.zeros((*size, 3)), np.full(size, 50, np.float32)
        for (pu, pv), point in zip(painted, points, strict=True):
            distance = (u - pu) ** 2 + (v - pv) ** 2
            image += np.exp(-distance / (2 * spread**2))[..., None] * [230, 120, 60]
            depth[distance <= (1.5 * spread) ** 2] = point[2]
        frame = dataclasses.replace(frame, image=encode(image.astype(np.uint8), kind))
        dense, sparse = (
            prepare_view(
                dataclasses.replace(frame, depth=encode_depth(stored)), camera, p, OPTIONS, np.random.default_rng()
            )
            for stored in (DenseDepth(depth), SparseDepth(painted.astype(np.float32), points[:, 2].astype(np.float32)))
        )
        np.testing.assert_array_equal(dense.image, sparse.image)
        u, v = centres((96, 96))
        for point in points:
            expected = project(point, dense.intrinsics)
            radius = 8 * spread / 2 * p.new_width / p.width
            near = (np.abs(u - expected[0]) < radius) & (np.abs(v - expected[1]) < radius)
            for channel in (0, 1):
                weight = np.where(near, np.maximum(dense.image[..., channel].astype(float) - 12, 0), 0)
                centroid = np.array([(u * weight).sum(), (v * weight).sum()]) / weight.sum()
                np.testing.assert_allclose(centroid, expected, atol=0.1)
            disc = near & (dense.depth == np.float32(point[2]))
            np.testing.assert_allclose([u[disc].mean(), v[disc].mean()], expected, atol=0.5)  # of whole pixels
            column, row = np.floor(expected).astype(int)
            assert sparse.valid[row, column] and sparse.depth[row, column] == np.float32(point[2])
        assert sparse.valid.sum() == 3


@pytest.mark.parametrize("kind", [".jpg", ".png"])
@pytest.mark.parametrize("size", SIZES[1:])
def test_shrunken_image_is_close_to_its_means(size, kind):
    noise = np.random.default_rng(0).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    image = cv2.resize(noise, size[::-1], interpolation=cv2.INTER_CUBIC)
    _, _, p = camera_and_placement(size, 2)
    crop = image[p.top : p.top + p.height, p.left : p.left + p.width]
    means = cv2.resize(crop, (p.new_width, p.new_height), interpolation=cv2.INTER_AREA)
    placed = place_image(encode(image, kind), size, p)
    assert placed.shape == means.shape
    assert np.abs(placed.astype(float) - means).mean() < 5
    shifted = np.abs(placed[:, 1:].astype(float) - means[:, :-1]).mean()
    assert shifted > 2 * np.abs(placed.astype(float) - means).mean()


def test_every_float16_depth_is_converted_as_numpy_does():
    values = np.arange(2**16, dtype=np.uint16).view(np.float16).reshape(256, 256)
    depth, valid = placement_module._with_validity(values)
    assert depth.dtype == np.float32
    np.testing.assert_array_equal(valid, (values > 0) & (values < np.inf))
    np.testing.assert_array_equal(depth, np.where(valid, values, 0).astype(np.float32))
    others = np.array([[1.5, 0, -2], [np.nan, np.inf, 1e-30]], np.float32)
    depth, valid = placement_module._with_validity(others)
    np.testing.assert_array_equal(depth, np.float32([[1.5, 0, 0], [0, 0, 1e-30]]))
    np.testing.assert_array_equal(valid, depth > 0)


def test_image_that_decodes_to_another_size_is_refused():
    _, _, p = camera_and_placement((480, 640), 0)
    with pytest.raises(BadRecord, match=r"decodes to \(\d+, \d+\) of \(480, 640\) pixels"):
        place_image(encode(np.zeros((400, 640, 3), np.uint8), ".jpg"), (480, 640), p)


@pytest.mark.parametrize("lens", [Pinhole, Brown, Fisheye])
def test_every_lens_follows_its_image_into_the_view(lens):
    coefficients = [np.random.default_rng(1).normal(0, 0.02, len(lens.coefficients))] if lens.coefficients else []
    stored = lens(np.array([[100.0, 0.5, 97], [0, 90, 60], [0, 0, 1]]), *coefficients)
    options = ViewOptions(image_size=64, aspect_range=(0.6, 0.7), crop_scale_range=(0.7, 0.8))
    placement = draw_placement((121, 193), options, np.random.default_rng(0))
    assert placement.left and placement.top and placement.pad_left + placement.pad_top
    points_camera = np.random.default_rng(2).uniform(-1, 1, (50, 3)) + [0, 0, 3]
    expected = placement.to_view(stored.project(points_camera))
    np.testing.assert_allclose(placement.lens(stored).project(points_camera), expected, atol=1e-11)


def fisheye_view(mask=b"", depth=None, **options):
    """The view, 64 pixels wide, of a fisheye of 128 whose circle of 180 degrees touches the image's sides."""
    scene = make_scene(steps=1, cameras=1, size=(128, 128))
    lens = Fisheye(np.array([[64 / (np.pi / 2), 0, 64], [0, 64 / (np.pi / 2), 64], [0, 0, 1]]), np.zeros(4))
    camera, frame = dataclasses.replace(scene.cameras[0], lens=lens), dataclasses.replace(scene.frames[0], mask=mask)
    frame = frame if depth is None else dataclasses.replace(frame, depth=encode_depth(depth))
    plain = dataclasses.replace(OPTIONS, image_size=64, aspect_range=(1.0, 1.0), crop_scale_range=(1.0, 1.0), **options)
    placement = draw_placement(camera.size, plain, np.random.default_rng(0))
    return prepare_view(frame, camera, placement, plain, np.random.default_rng(0))


def test_a_fisheye_view_states_its_lens():
    view = fisheye_view()
    np.testing.assert_allclose(view.intrinsics, [[64 / np.pi, 0, 32], [0, 64 / np.pi, 32], [0, 0, 1]])
    np.testing.assert_array_equal(view.coefficients, np.zeros(5))
    assert view.image_mask.all()  # an equidistant lens has rays beyond 180 degrees too


def test_masked_pixels_are_no_part_of_the_image_and_what_moves_has_no_depth():
    outside, moving = np.zeros((128, 128), bool), np.zeros((128, 128), bool)
    outside[:32], moving[64:96, :64] = True, True
    data = encode_mask(outside, moving)
    stored = DenseDepth(np.full((128, 128), 5.0, np.float32))
    view = fisheye_view(data, stored)
    assert not view.image_mask[:16].any() and view.image_mask[16:].all()
    still = np.ones((64, 64), bool)
    still[32:48, :32] = False
    np.testing.assert_array_equal(view.valid, still)
    np.testing.assert_allclose(view.depth, np.where(still, 5.0, 0.0))
    assert fisheye_view(data, stored, moving_points=True).valid.all()
    assert encode_mask(np.zeros((4, 4), bool), np.zeros((4, 4), bool)) == b""
    with pytest.raises(BadRecord, match=r"camera_0, step 0: mask is \(64, 64\), the image is \(128, 128\)"):
        fisheye_view(encode_mask(outside[:64, :64]))
    with pytest.raises(BadRecord, match="mask of 3 bytes does not decode, must be an 8-bit grey PNG of 0..3"):
        fisheye_view(b"PNG")


def test_points_that_move_count_when_asked_for():
    pixels = np.array([[10.5, 20.5], [90.5, 100.5], [40.5, 41.5]], np.float32)
    depth = SparseDepth(pixels, np.array([3.0, 4.0, 5.0], np.float32), np.array([False, True, False]))
    again = decode_depth(encode_depth(depth))
    np.testing.assert_array_equal(again.moving, depth.moving)
    assert fisheye_view(depth=depth).valid.sum() == 2
    assert fisheye_view(depth=depth, moving_points=True).valid.sum() == 3
    with pytest.raises(BadRecord, match="bytes of flags for 3 points"):
        decode_depth(encode_depth(depth)[:-1])


def test_a_phone_s_48_megapixels_are_decoded_smaller_than_the_limit():
    """Three quarters of the image are dark; the view shows the bright one in its place, from an eighth of the sides."""
    image = np.full((6048, 8064), 20, np.uint8)
    image[3024:, 4032:] = 220
    data = cv2.imencode(".jpg", image)[1].tobytes()
    placement = draw_placement(
        image.shape,
        dataclasses.replace(OPTIONS, crop_scale_range=(1.0, 1.0), aspect_range=(1.0, 1.0)),
        np.random.default_rng(0),
    )
    view = place_image(data, image.shape, placement, max_pixels=image.size // 64)
    assert view.shape == (72, 96, 3)
    assert np.abs(view[37:, 49:].astype(int) - 220).max() <= 2 and np.abs(view[:35, :47].astype(int) - 20).max() <= 2
    png = encode(image[:600, :800], ".png")
    with pytest.raises(BadRecord, match="600x800 .* decoded to more than 1000 pixels"):
        place_image(png, (600, 800), placement, max_pixels=1000)
