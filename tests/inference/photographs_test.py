"""Photographs through a model that knows the truth: cameras, lenses and points come out exact in original pixels."""

import dataclasses
import json

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from rig3r_jax.data.scene import BadRecord
from rig3r_jax.formats.calibration import RigCalibration
from rig3r_jax.geometry import rigid
from rig3r_jax.geometry.lenses import batch_lens
from rig3r_jax.geometry.rig_poses import world_from_rigs
from rig3r_jax.inference.known import Known
from rig3r_jax.inference.photographs import Photograph, find_photographs, read_upright
from rig3r_jax.inference.seen import fitted_crop, seen_image
from tests.inference.truth import (
    LENSES,
    PLACES,
    RIG,
    SIDE,
    SIZES,
    Z_BAR,
    drive,
    reconstructed,
    transform,
    write_rig_images,
)


@pytest.fixture
def folder(tmp_path):
    """Two steps of a rig."""
    return write_rig_images(tmp_path)


def test_a_rig_s_folder_is_found_by_camera_and_step(folder):
    found, photographs = find_photographs([folder])
    assert found == folder / "images"
    assert [(one.camera, one.step) for one in photographs] == [
        (name, step) for step in (0, 1) for name in sorted(SIZES)
    ]
    assert read_upright(photographs[2]).shape[:2] == SIZES["left"]


def test_files_patterns_and_flat_folders_are_found(folder):
    flat = folder / "images/front"
    _, one_folder = find_photographs([flat])
    _, patterns = find_photographs([str(flat / "*.png")])
    _, files = find_photographs([flat / "000.png", flat / "001.png"])
    assert [one.name for one in one_folder] == [one.name for one in patterns] == [one.name for one in files]
    assert files[0].camera is None
    _, across = find_photographs([str(folder / "images/*/000.png")])
    assert [one.name for one in across] == ["back/000.png", "front/000.png", "left/000.png"]
    with pytest.raises(ValueError, match="there is no such file or folder, nor does the pattern fit any"):
        find_photographs([str(folder / "*.jpg")])
    (folder / "notes.txt").write_text("x")
    with pytest.raises(ValueError, match="notes.txt: is no image file"):
        find_photographs([folder / "notes.txt"])


def test_a_folder_of_recordings_is_no_scene(tmp_path):
    """Else depth maps and masks beside images/, and other recordings, would be taken for photographs."""
    for name in (
        "drive_0/images/a/1.jpg",
        "drive_0/depth/a/1.png",
        "drive_2/images/a/1.jpg",
        "drive_10/images/a/1.jpg",
    ):
        (tmp_path / name).parent.mkdir(parents=True)
        cv2.imwrite(str(tmp_path / name), np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(
        ValueError, match="recordings, each with images/<camera>/ of its own; reconstruct one: .*e_0 .*e_2 .*e_10$"
    ):
        find_photographs([tmp_path])
    assert len(find_photographs([tmp_path / "drive_0"])[1]) == 1


def test_an_image_that_does_not_decode_is_named(folder):
    broken = folder / "images/front/000.png"
    broken.write_bytes(broken.read_bytes()[:60])
    with pytest.raises(BadRecord, match=r"front/000.png: does not decode .*restore it or leave it out"):
        read_upright(Photograph(broken, "000.png"))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_images_are_turned_as_pillow_turns_them(tmp_path, suffix, orientation):
    pixels = cv2.resize(np.random.default_rng(0).integers(0, 255, (3, 4, 3), dtype=np.uint8), (32, 24))
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / f"turned{suffix}", exif=exif)
    upright = read_upright(Photograph(tmp_path / f"turned{suffix}", "turned"))
    expected = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / f"turned{suffix}")))
    assert upright.shape == expected.shape and np.abs(upright.astype(int) - expected).max() <= 2  # of two JPEG decoders


def test_grey_images_of_16_bits_keep_their_shades(tmp_path):
    shades = np.tile(np.arange(16, dtype=np.uint16) * 4096, (8, 1))
    cv2.imwrite(str(tmp_path / "deep.png"), shades)
    upright = read_upright(Photograph(tmp_path / "deep.png", "deep.png"))
    np.testing.assert_array_equal(upright[0, :, 1], np.arange(16) * 16)


@pytest.mark.parametrize("size", [(90, 120), (121, 80), (64, 64), (5, 300)])
def test_the_square_shows_the_image_where_the_crop_says(size):
    crop, (height, width) = fitted_crop(*size, (SIDE, SIDE)), size
    image = np.full((height, width, 3), 200, np.uint8)
    square, mask = seen_image(image, (SIDE, SIDE))
    np.testing.assert_array_equal(mask, (square == 200).all(axis=-1))
    columns, rows = mask.any(axis=0), mask.any(axis=1)
    for seen, offset, extent, length in (
        (columns, crop.left, crop.width, width),
        (rows, crop.top, crop.height, height),
    ):
        inside = offset + (np.arange(SIDE) + 0.5) * extent / SIDE  # in pixels of the image
        np.testing.assert_array_equal(seen, (inside > 0) & (inside < length))


def test_with_everything_known_all_comes_out_as_it_is(folder):
    found, photographs = find_photographs([folder])
    poses, model = drive(photographs)
    times = {one.name: 10.0 + one.step for one in photographs}
    result = reconstructed(model, found, photographs, Known(RIG, times=times))
    assert result.length_unit == "metre" and result.scale.source == "rig baselines"
    np.testing.assert_allclose(result.world_from_camera, rigid.invert(poses[0]) @ poses, atol=1e-6)
    for view, (image, photograph) in enumerate(zip(result.images, photographs, strict=True)):
        assert image.lens is LENSES[photograph.camera] and (image.height, image.width) == SIZES[photograph.camera]
        assert image.time == photograph.step
        points_camera = rigid.apply(rigid.invert(image.world_from_camera), result.points.points_world[view])
        shown = result.points.on_image[view]
        np.testing.assert_allclose(
            image.lens.project(points_camera)[shown], result.points.pixels[view][shown], atol=1e-4
        )
    metadata = model.seen.metadata
    assert metadata.has_rig.all() and metadata.has_camera_id.all() and metadata.has_time.all()
    told = batch_lens(metadata.intrinsics, metadata.distortion).rays(np.array([[[20.0, 30.0]]]))
    np.testing.assert_allclose(told[:, 0], [lens.rays(np.array([20.0, 30.0])) for lens in model.lenses], atol=1e-5)


def test_a_known_rig_is_held_and_lowers_the_error_of_noisy_cameras(folder):
    found, photographs = find_photographs([folder])
    truth, model = drive(photographs, noise=0.1)
    result = reconstructed(model, found, photographs, Known(RIG))
    first = {0: result.world_from_camera[:3], 1: result.world_from_camera[3:]}
    for cameras in first.values():  # every step is the rig, to the last digit
        relative = rigid.invert(cameras[0]) @ cameras
        expected = [rigid.invert(PLACES[photographs[0].camera]) @ PLACES[one.camera] for one in photographs[:3]]
        np.testing.assert_allclose(relative, expected, atol=1e-9)
    unheld = reconstructed(model, found, photographs, Known())
    scale = Z_BAR  # of the predictions; without a rig lengths are in units of the scene
    exact = rigid.invert(truth[0]) @ truth
    held_error = np.linalg.norm(result.world_from_camera[3:, :3, 3] - exact[3:, :3, 3], axis=-1).mean()
    free_error = np.linalg.norm(scale * unheld.world_from_camera[3:, :3, 3] - exact[3:, :3, 3], axis=-1).mean()
    assert unheld.length_unit == "scene" and held_error < 0.8 * free_error


def test_given_poses_that_predictions_have_nothing_to_do_with_leave_lengths_sane(folder):
    found, photographs = find_photographs([folder])
    poses, model = drive(photographs)
    rng = np.random.default_rng(2)
    given = {one.name: pose.copy() for one, pose in zip(photographs, poses, strict=True)}
    for pose in given.values():
        pose[:3, 3] = rng.normal(scale=20.0, size=3)
    result = reconstructed(model, found, photographs, Known(world_from_camera=given))
    np.testing.assert_array_equal(result.world_from_camera, list(given.values()))
    spread = [
        np.sqrt(np.var(centers, axis=0).sum()) for centers in (result.world_from_camera[:, :3, 3], poses[:, :3, 3])
    ]
    assert 1 / 4 < result.scale.factor / (spread[0] / spread[1] * Z_BAR) < 4


def test_a_calibration_of_other_images_is_refused(folder):
    found, photographs = find_photographs([folder])
    _, model = drive(photographs)
    small = RigCalibration(tuple(dataclasses.replace(one, size=(9, 9)) for one in RIG.cameras), "front")
    with pytest.raises(
        ValueError, match=r"is 100 x 100 pixels upright, its calibration \(back\) is for 9 x 9: the image is resized"
    ):
        reconstructed(model, found, photographs, Known(small))


def test_rig_poses_are_the_mean_of_what_cameras_say():
    rng = np.random.default_rng(3)
    places = np.stack(list(PLACES.values()) * 2)
    steps = np.array([4, 4, 4, 7, 7, 7])
    true = {4: transform(20, 1, 2, 3), 7: transform(-120, 0, 5, 1)}
    cameras = np.stack([true[step] for step in steps.tolist()]) @ places
    for step, pose in world_from_rigs(cameras, places, steps).items():
        np.testing.assert_allclose(pose, true[step], atol=1e-12)
    cameras[:, :3, 3] += rng.normal(scale=0.3, size=(6, 3))
    noisy = world_from_rigs(cameras, places, steps)
    assert np.linalg.norm(noisy[4][:3, 3] - true[4][:3, 3]) < 0.6
    np.testing.assert_allclose(noisy[7][:3, :3], true[7][:3, :3], atol=1e-12)


def test_json_of_the_result_is_what_readers_take(folder, tmp_path):
    from rig3r_jax.formats.cameras_json import read_cameras, write_cameras

    found, photographs = find_photographs([folder])
    poses, model = drive(photographs)
    write_cameras(tmp_path / "cameras.json", reconstructed(model, found, photographs, Known(RIG)))
    assert json.loads((tmp_path / "cameras.json").read_text())["images"][0]["name"] == photographs[0].name
    again = read_cameras(tmp_path / "cameras.json")
    np.testing.assert_allclose(again.world_from_camera, rigid.invert(poses[0]) @ poses, atol=1e-6)
