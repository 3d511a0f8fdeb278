"""Exact predictions become exact reconstructions, in the pixels of the originals, whatever the network saw of them."""

import dataclasses
import math

import jax
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from rig3r_jax.geometry import rigid
from rig3r_jax.geometry.camera import Brown, Fisheye, Pinhole, cell_centers, stride_pixels
from rig3r_jax.geometry.reconstruct import SourceImage, original_lens, reconstruction_of, rig_scale, seen_lens
from rig3r_jax.schema import Crop, PhysicalCamera, Predictions, RigMetadata, Scale, Views

SEEN = (48, 64)  # height, width of the network's input
RAYS, POINTS = (6, 8), (12, 16)
SCALE = 7.5  # metres per predicted length
CROPS = [
    Crop(0.0, 0.0, 640.0, 480.0, 64, 48),  # resized whole
    Crop(100.0, 20.0, 320.0, 240.0, 64, 48),  # cut out
    Crop(-60.0, 0.0, 720.0, 540.0, 64, 48),  # padded left and right
    Crop(0.0, 8.0, 512.0, 768.0, 64, 48),  # a portrait, squeezed
]
SIZES = [(640, 480), (640, 480), (600, 540), (512, 800)]  # width, height of the originals


def centred_lens(index):
    """A pinhole whose principal point is the centre of what the network saw, so that rays tell all of it."""
    crop = CROPS[index]
    return Pinhole(
        np.array(
            [
                [400.0 + 50 * index, 0, crop.left + crop.width / 2],
                [0, 420.0 + 20 * index, crop.top + crop.height / 2],
                [0, 0, 1],
            ]
        )
    )


@pytest.fixture(scope="module")
def scene():
    """(sources, rig, views, predictions, world_from_camera, depth) of four images of two cameras at two times."""
    rng = np.random.default_rng(0)
    rig_from_camera = np.stack([np.eye(4), rigid.from_rotation_translation(np.eye(3), np.array([0.6, 0, 0]))])
    turn = Rotation.from_euler("y", 10, degrees=True).as_matrix()
    world_from_rig = np.stack([np.eye(4), rigid.from_rotation_translation(turn, np.array([0.2, 0, 3.0]))])
    numbers = [0, 1, 0, 1]
    world_from_camera = world_from_rig[[0, 0, 1, 1]] @ rig_from_camera[numbers]
    lenses = [centred_lens(index) for index in range(4)]
    sources = [
        SourceImage(f"cam{number}/{n}.jpg", *SIZES[n], crop=CROPS[n], camera=number, time=0.5 * (n // 2))
        for n, number in enumerate(numbers)
    ]
    rig = [PhysicalCamera(number, f"cam{number}", None, rig_from_camera[number]) for number in (0, 1)]
    depth = rng.uniform(2, 20, (4, *POINTS))
    rows, columns = (stride_pixels(size, count) for size, count in zip(SEEN, POINTS, strict=True))
    seen_pixels = np.stack(np.meshgrid(columns + 0.5, rows + 0.5), axis=-1)
    points, directions = np.zeros((4, *POINTS, 3)), np.zeros((4, *RAYS, 3))
    for view, lens in enumerate(seen_lens(*pair) for pair in zip(lenses, CROPS, strict=True)):
        rays = lens.rays(seen_pixels)
        points[view] = rigid.apply(world_from_camera[view], rays / rays[..., 2:] * depth[view][..., None])
        cells = np.asarray(cell_centers(*SEEN, *RAYS), np.float64)
        directions[view] = 3.0 * lens.rays(cells) @ world_from_camera[view, :3, :3].T
    mask = np.ones((4, *SEEN), bool)
    mask[2, :, :5], mask[2, :, -5:] = False, False  # 60 of 720 pixels on both sides, in whole columns
    directions[2, :, 0], directions[2, :, -1] = np.nan, np.nan
    predictions = Predictions(
        points=points / SCALE,
        confidence=1.0 + rng.random((4, *POINTS)),
        pose_directions=directions,
        pose_center=world_from_camera[:, :3, 3] / SCALE,
        rig_directions=directions,
        rig_center=rig_from_camera[numbers, :3, 3] / SCALE,
    )
    images = rng.integers(0, 256, (4, *SEEN, 3), dtype=np.uint8)
    views = Views(images, mask, RigMetadata(*(None,) * 8))
    return sources, rig, views, predictions, world_from_camera, depth, lenses


def test_cameras_points_and_depths_are_exact_in_original_pixels(scene):
    sources, rig, views, predictions, world_from_camera, depth, lenses = scene
    result = reconstruction_of(predictions, views, sources, rig)
    assert result.length_unit == "metre" and result.scale.source == "rig baselines"
    assert result.scale.factor == pytest.approx(SCALE, rel=1e-5)  # the closed form runs in float32
    exact = reconstruction_of(predictions, views, sources, rig, Scale(SCALE, "given"))
    np.testing.assert_allclose(exact.world_from_camera, world_from_camera, atol=1e-9)
    np.testing.assert_allclose(exact.intrinsics, [lens.intrinsics for lens in lenses], rtol=1e-9)
    np.testing.assert_allclose(exact.points.depth, depth, rtol=1e-9)
    for view, image in enumerate(exact.images):
        points_camera = rigid.apply(rigid.invert(image.world_from_camera), exact.points.points_world[view])
        np.testing.assert_allclose(image.lens.project(points_camera), exact.points.pixels[view], atol=1e-7)
        assert (image.name, image.width, image.height) == (sources[view].name, *SIZES[view])
        assert (image.crop, image.camera, image.time) == (CROPS[view], view % 2, 0.5 * (view // 2))
        assert exact.camera_of(image) is rig[view % 2]
    rows, columns = (stride_pixels(size, count) for size, count in zip(SEEN, POINTS, strict=True))
    np.testing.assert_array_equal(exact.points.on_image, views.image_mask[:, rows[:, None], columns])
    np.testing.assert_array_equal(exact.points.colors, views.images[:, rows[:, None], columns])
    inside = exact.points.pixels[2, ..., 0]
    np.testing.assert_array_equal((inside > 0) & (inside < 600), exact.points.on_image[2])


@pytest.mark.parametrize("kind", [Pinhole, Fisheye, Brown])
def test_a_given_lens_is_kept_and_gives_an_exact_camera_where_rays_alone_do_not(scene, kind):
    """One image's, off-centre or bent; those of the others are found as before."""
    sources, rig, views, predictions, world_from_camera, depth, lenses = scene
    shifted = lenses[1].crop(25.0, -15.0)
    given = shifted if kind is Pinhole else kind(shifted.intrinsics, 0.01 * np.arange(1, len(kind.coefficients) + 1))
    rays = seen_lens(given, CROPS[1]).rays(np.asarray(cell_centers(*SEEN, *RAYS), np.float64))
    directions = predictions.pose_directions.copy()
    directions[1] = rays @ world_from_camera[1, :3, :3].T
    predictions = predictions.replace(pose_directions=directions)
    with_lens = [*sources[:1], dataclasses.replace(sources[1], lens=given), *sources[2:]]
    result = reconstruction_of(predictions, views, with_lens, rig, Scale(SCALE, "given"))
    assert result.images[1].lens is given
    np.testing.assert_allclose(result.world_from_camera, world_from_camera, atol=1e-9)
    lengths = np.linalg.norm(result.points.points_world[1] - world_from_camera[1, :3, 3], axis=-1)
    np.testing.assert_allclose(result.points.depth[1], lengths if given.wide else depth[1], rtol=1e-9)
    without = reconstruction_of(predictions, views, sources, rig, Scale(SCALE, "given"))
    assert np.abs(without.world_from_camera[1] - world_from_camera[1]).max() > 1e-2


def test_without_a_rig_lengths_are_those_predicted(scene):
    sources, _, views, predictions, world_from_camera, *_ = scene
    alone = [dataclasses.replace(image, camera=None) for image in sources]
    result = reconstruction_of(predictions, views, alone)
    assert result.length_unit == "scene" and result.scale == Scale(1.0, "none")
    np.testing.assert_allclose(result.world_from_camera[:, :3, 3] * SCALE, world_from_camera[:, :3, 3], atol=1e-9)
    np.testing.assert_allclose(result.points.points_world, predictions.points)


@pytest.mark.parametrize("known", [(0,), (), (0, 1)])
def test_scale_needs_baselines(scene, known):
    sources, rig, _, predictions, *_ = scene
    scale = rig_scale(predictions.rig_center, sources, [camera for camera in rig if camera.id in known])
    assert (scale is None) == (len(known) < 2)
    backwards = predictions.replace(rig_center=-predictions.rig_center)
    assert rig_scale(backwards.rig_center, sources, rig) is None


def test_confident_points_are_the_surest_on_images(scene):
    sources, rig, views, predictions, *_ = scene
    points = reconstruction_of(predictions, views, sources, rig).points
    chosen = points.confident(0.7)
    assert not (chosen & ~points.on_image).any()
    assert chosen.sum() == pytest.approx(0.7 * points.on_image.sum(), abs=1)
    assert points.confidence[chosen].min() >= points.confidence[points.on_image & ~chosen].max()


def test_images_as_numbers_of_0_to_1_have_the_same_colours(scene):
    sources, rig, views, predictions, *_ = scene
    as_float = views.replace(images=(views.images / 255.0).astype(np.float32))
    first, second = (reconstruction_of(predictions, v, sources, rig).points.colors for v in (views, as_float))
    np.testing.assert_array_equal(first, second)


def test_seen_and_original_lenses_are_inverse_to_each_other():
    for crop in CROPS:
        lens = Fisheye(np.array([[300.0, 0, 310], [0, 290, 250], [0, 0, 1]]), np.array([0.1, -0.02, 0.003, 0.0]))
        again = original_lens(seen_lens(lens, crop), crop)
        np.testing.assert_allclose(again.intrinsics, lens.intrinsics, rtol=1e-12)
        pixels = np.array([[crop.left + 0.25 * crop.width, crop.top + 0.75 * crop.height]])
        np.testing.assert_allclose(seen_lens(lens, crop).rays(np.array([[16.0, 36.0]])), lens.rays(pixels), atol=1e-12)


def test_what_does_not_fit_is_named(scene):
    sources, rig, views, predictions, *_ = scene
    other = [dataclasses.replace(sources[0], crop=dataclasses.replace(CROPS[0], seen_width=32)), *sources[1:]]
    with pytest.raises(ValueError, match=r"cam0/0.jpg: was seen at 32x48 pixels.*64x48"):
        reconstruction_of(predictions, views, other, rig)


def test_points_of_other_images_are_refused(scene):
    sources, rig, views, predictions, *_ = scene
    result = reconstruction_of(predictions, views, sources, rig)
    with pytest.raises(ValueError, match="points of 4 images for 3"):
        dataclasses.replace(result, images=result.images[:3])


def test_predictions_that_are_not_numbers_stay_so(scene):
    sources, rig, views, predictions, *_ = scene
    broken = jax.tree.map(lambda values: np.full_like(values, math.nan), predictions)
    result = reconstruction_of(broken, views, sources, rig)
    assert result.length_unit == "scene" and np.isnan(result.world_from_camera[:, :3]).all()


def test_lenses_said_to_be_wide_are_fitted_fisheyes(scene):
    sources, rig, views, predictions, world_from_camera, *_ = scene
    lens = Fisheye(np.array([[310.0, 0, 300], [0, 300.0, 250], [0, 0, 1]]), np.array([0.02, -0.01, 2e-3, -2e-4]))
    cells = np.asarray(cell_centers(*SEEN, *RAYS), np.float64)
    directions = np.array(predictions.pose_directions)
    for view in (0, 1):
        rays = seen_lens(lens, CROPS[view]).rays(cells)
        directions[view] = rays @ world_from_camera[view, :3, :3].T
    wide = [dataclasses.replace(image, wide=index < 2) for index, image in enumerate(sources)]
    result = reconstruction_of(predictions.replace(pose_directions=directions), views, wide, rig)
    for image in result.images[:2]:
        np.testing.assert_allclose(image.lens.intrinsics, lens.intrinsics, rtol=1e-4)
        np.testing.assert_allclose(image.lens.distortion, lens.distortion, atol=1e-5)
    assert [image.lens.kind for image in result.images] == ["fisheye", "fisheye", "pinhole", "pinhole"]
    np.testing.assert_allclose(result.world_from_camera[:, :3, :3], world_from_camera[:, :3, :3], atol=1e-6)
