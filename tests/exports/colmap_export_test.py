"""COLMAP models open in pycolmap with the reconstruction's poses, lenses, rigs and frames, and their points land on the
pixels that they come from."""

import dataclasses
import re

import numpy as np
import pycolmap
import pytest
from scipy.spatial.transform import Rotation

from rig3r_jax.exports.export import export
from rig3r_jax.exports.options import ExportOptions
from rig3r_jax.formats.colmap import read_model
from rig3r_jax.geometry import rigid
from rig3r_jax.schema import Reconstruction
from tests.exports.reconstructions import rig_of_three, unordered

ALL = ExportOptions(confident=1.0, edges=None)
MODELS = {"pinhole": "PINHOLE", "brown": "OPENCV", "brown_k3": "FULL_OPENCV", "fisheye": "OPENCV_FISHEYE"}


def exported(reconstruction: Reconstruction, out, options=ALL):
    report = export(reconstruction, out, ["colmap"], options)
    model = pycolmap.Reconstruction(str(out / "colmap" / "sparse" / "0"))
    return model, report


def reprojection_errors(model) -> np.ndarray:
    """Pixels between every observation and COLMAP's own projection of its point."""
    errors = []
    for point in model.points3D.values():
        for element in point.track.elements:
            image = model.images[element.image_id]
            errors.append(image.project_point(point.xyz) - image.points2D[element.point2D_idx].xy)
    return np.linalg.norm(errors, axis=1)


def in_front(reconstruction: Reconstruction) -> np.ndarray:
    """The points that COLMAP can project: seen, and before the image planes of their cameras."""
    camera_from_world = rigid.invert(reconstruction.world_from_camera)[:, None, None]
    z = (camera_from_world[..., 2, :3] * reconstruction.points.points_world).sum(-1) + camera_from_world[..., 2, 3]
    return reconstruction.points.on_image & (z > 0)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("size", ["landscape", "portrait"])
def test_a_rig_opens_in_pycolmap_and_points_land_on_their_pixels(tmp_path, kind, size):
    reconstruction = rig_of_three(kind, size)
    model, report = exported(reconstruction, tmp_path / "out")
    front = in_front(reconstruction)
    notes = [f"{front.sum()} points"]
    if behind := int((reconstruction.points.on_image & ~front).sum()):
        assert kind == "fisheye" and size == "portrait"
        notes.append(f"{behind} points beside or behind their camera are left out: COLMAP projects none of them")
    assert report.notes == {"colmap": tuple(notes)}
    assert {camera.model_name for camera in model.cameras.values()} == {MODELS[kind]}
    assert model.num_points3D() == front.sum() > 200
    errors = reprojection_errors(model)
    assert len(errors) == front.sum() and errors.max() < 1e-6
    np.testing.assert_allclose([point.error for point in model.points3D.values()], 0, atol=1e-6)
    colors = np.sort([point.color for point in model.points3D.values()], axis=0)
    np.testing.assert_array_equal(colors, np.sort(reconstruction.points.colors[front], axis=0))
    for image in reconstruction.images:
        found = model.find_image_with_name(image.name)
        np.testing.assert_allclose(found.cam_from_world().matrix() @ image.world_from_camera, np.eye(4)[:3], atol=1e-12)
        assert (found.camera.width, found.camera.height) == (image.width, image.height)


def test_rigs_and_frames_are_as_given(tmp_path):
    reconstruction = rig_of_three("fisheye")
    model, _ = exported(reconstruction, tmp_path / "out")
    assert (model.num_rigs(), model.num_frames(), model.num_cameras()) == (1, 4, 3)
    (rig,) = model.rigs.values()
    names = {camera_id: image.name.split("/")[0] for image in model.images.values() for camera_id in [image.camera_id]}
    places = {camera.name: camera.rig_from_camera for camera in reconstruction.cameras}
    assert names[rig.ref_sensor_id.id] == "front"
    for sensor in rig.non_ref_sensors:
        camera_from_rig = rig.sensor_from_rig(sensor).matrix()
        np.testing.assert_allclose(camera_from_rig @ places[names[sensor.id]], np.eye(4)[:3], atol=1e-12)
    for frame in model.frames.values():
        steps = {model.images[data.id].name.split("/")[1] for data in frame.image_ids}
        assert len(steps) == 1 and frame.num_data_ids() == 3


@pytest.mark.parametrize("steps", [4, 1])
def test_cameras_that_expose_one_after_the_other_share_the_frames_of_their_rig(tmp_path, steps):
    rig = rig_of_three("pinhole")
    late = [dataclasses.replace(image, time=image.time + 0.04 * image.camera) for image in rig.images[: 3 * steps]]
    model, _ = exported(dataclasses.replace(rig, images=tuple(late), points=None), tmp_path / "out")
    assert [frame.num_data_ids() for frame in model.frames.values()] == [3] * steps
    turned = dataclasses.replace(late[1], world_from_camera=late[2].world_from_camera)
    off = dataclasses.replace(rig, images=(late[0], turned, *late[2:]), points=None)
    model, _ = exported(off, tmp_path / "off")
    assert model.num_frames() == steps + 1


def test_points_that_are_off_their_pixels_are_told(tmp_path):
    reconstruction = rig_of_three("pinhole")
    points = reconstruction.points
    moved = dataclasses.replace(points, points_world=points.points_world + [0.0, 0.5, 0.0])
    _, report = exported(dataclasses.replace(reconstruction, points=moved), tmp_path / "out")
    told = re.search(r"lie ([0-9.]+) px \(median\) off the pixels", " ".join(report.notes["colmap"]))
    assert 5 < float(told[1]) < 50


def test_our_reader_gives_the_reconstruction_back(tmp_path):
    reconstruction = rig_of_three("brown")
    exported(reconstruction, tmp_path / "out")
    back = read_model(tmp_path / "out" / "colmap" / "sparse" / "0")
    assert len(set(back.frames.values())) == 4 and set(back.rigs.values()) == {1}
    for image, other in zip(reconstruction.images, back.reconstruction.images, strict=True):
        assert other.name == image.name and other.lens == image.lens
        np.testing.assert_allclose(other.world_from_camera, image.world_from_camera, atol=1e-12)


@pytest.mark.parametrize("kind", MODELS)
def test_unordered_images_have_cameras_rigs_and_frames_of_their_own(tmp_path, kind):
    reconstruction = unordered(kind)
    model, _ = exported(reconstruction, tmp_path / "out")
    assert (model.num_rigs(), model.num_frames(), model.num_cameras(), model.num_reg_images()) == (3, 3, 3, 3)
    assert reprojection_errors(model).max() < 1e-6


def test_poses_that_are_off_the_rig_stay_as_they_are_in_frames_of_their_own(tmp_path):
    """The rig stays as given, too."""
    reconstruction = rig_of_three("pinhole")
    turn = rigid.from_rotation_translation(Rotation.from_rotvec([0, 1e-3, 0]).as_matrix(), np.array([0.02, 0.0, 0.0]))
    images = list(reconstruction.images)
    images[4] = dataclasses.replace(images[4], world_from_camera=images[4].world_from_camera @ turn)
    model, report = exported(dataclasses.replace(reconstruction, images=tuple(images)), tmp_path / "out")
    assert report.notes == {
        "colmap": (
            "360 points",
            "1 frames more than moments: their images' poses are off the rig's",
        )
    }
    assert (model.num_rigs(), model.num_frames()) == (1, 5)
    for image in images:
        found = model.find_image_with_name(image.name)
        np.testing.assert_allclose(found.cam_from_world().matrix() @ image.world_from_camera, np.eye(4)[:3], atol=1e-9)


def test_a_camera_of_no_known_place_is_a_rig_alone_and_nothing_is_said_to_be_off(tmp_path):
    reconstruction = rig_of_three("pinhole")
    cameras = [dataclasses.replace(c, rig_from_camera=None) if c.id == 2 else c for c in reconstruction.cameras]
    model, report = exported(dataclasses.replace(reconstruction, cameras=tuple(cameras)), tmp_path / "out")
    assert report.notes == {"colmap": ("360 points",)}
    assert (model.num_rigs(), model.num_frames()) == (2, 8)  # four of the rig of two, four of the camera alone


def test_a_rig_whose_frame_is_no_camera_is_told_from_its_first_one(tmp_path):
    reconstruction = rig_of_three("pinhole")
    vehicle_from_rig = rigid.from_rotation_translation(np.eye(3), np.array([1.5, 0.0, 2.0]))
    cameras = [
        dataclasses.replace(c, rig_from_camera=vehicle_from_rig @ c.rig_from_camera) for c in reconstruction.cameras
    ]
    model, report = exported(dataclasses.replace(reconstruction, cameras=tuple(cameras)), tmp_path / "out")
    assert report.notes == {
        "colmap": (
            "360 points",
            "the rig's frame is that of camera front: COLMAP's is always a camera's",
        )
    }
    assert (model.num_rigs(), model.num_frames()) == (1, 4)
    assert reprojection_errors(model).max() < 1e-6


def test_images_of_one_camera_with_lenses_of_their_own_stay_in_its_rig(tmp_path):
    reconstruction = rig_of_three("pinhole")
    images = [
        dataclasses.replace(image, lens=image.lens.resize(1 + 1e-3 * number, 1.0))
        for number, image in enumerate(reconstruction.images)
    ]
    model, _ = exported(dataclasses.replace(reconstruction, images=tuple(images), points=None), tmp_path / "out")
    assert (model.num_rigs(), model.num_frames(), model.num_cameras(), model.num_points3D()) == (1, 4, 12, 0)
    for image in images:
        found = model.find_image_with_name(image.name)
        np.testing.assert_allclose(found.camera.calibration_matrix(), image.lens.intrinsics, rtol=1e-12)


def test_budget_draws_the_same_points_for_equal_seeds(tmp_path):
    reconstruction = rig_of_three("pinhole")
    clouds = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        options = dataclasses.replace(ALL, sparse_budget=50, seed=seed)
        model, report = exported(reconstruction, tmp_path / name, options)
        assert model.num_points3D() == 50 and report.notes["colmap"] == ("50 points, 310 more are beyond the budget",)
        assert reprojection_errors(model).max() < 1e-6
        clouds.append(np.array([point.xyz for _, point in sorted(model.points3D.items())]))
    np.testing.assert_array_equal(clouds[0], clouds[1])
    assert not np.array_equal(clouds[0], clouds[2])


def test_a_unified_lens_is_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match=r"export of colmap: front/000.jpg: COLMAP has no model of a unified lens"):
        export(rig_of_three("unified"), tmp_path / "out", ["colmap"])
    assert not list(tmp_path.iterdir())
