"""What is known of images and does not fit, or comes in another frame or unit: held as it was given, or refused."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rig3r_jax.formats.calibration import CalibratedCamera
from rig3r_jax.formats.ply import read_ply
from rig3r_jax.geometry import rigid
from rig3r_jax.inference.api import LoadedModel
from rig3r_jax.inference.known import Known
from rig3r_jax.inference.photographs import Photograph, find_photographs
from rig3r_jax.inference.shots import lens_notes, read_shots
from tests.inference.truth import LENSES, PLACES, RIG, SIZES, drive, transform, write_rig_images


@pytest.fixture(scope="module")
def rig(tmp_path_factory):
    """(a model that knows a rig's images, their paths, names of their cameras, their poses)."""
    folder = write_rig_images(tmp_path_factory.mktemp("knowledge"))
    _, photographs = find_photographs([folder])
    poses, model = drive(photographs)
    return LoadedModel(model), [one.path for one in photographs], [one.camera for one in photographs], poses


def test_a_rig_of_no_image_is_refused(rig):
    model, paths, _, _ = rig
    with pytest.raises(ValueError, match=r"rig: the rig's cameras are front, left, back, the images are of no folder"):
        model.reconstruct(paths, rig=PLACES)


def test_a_model_that_takes_no_rig_is_told(rig, monkeypatch):
    model, paths, cameras, _ = rig
    monkeypatch.setattr(type(model.model), "takes_rig", False)
    result = model.reconstruct(paths, cameras=cameras, rig=RIG)
    assert "truth takes no rig: its predicted cameras are fitted to the one that is given" in result.notes


def test_a_rig_comes_out_in_the_frame_that_it_was_given_in(rig):
    model, paths, cameras, poses = rig
    of_vehicle = {name: transform(30, 1.0, 2.0, 3.0) @ place for name, place in PLACES.items()}
    result = model.reconstruct(paths, cameras=cameras, rig=of_vehicle, intrinsics=LENSES)
    for camera in result.cameras:
        np.testing.assert_array_equal(camera.rig_from_camera, of_vehicle[camera.name])
    np.testing.assert_allclose(result.world_from_camera, rigid.invert(poses[0]) @ poses, atol=1e-5)


def test_times_are_numbers_of_any_kind_and_nan_is_none(rig):
    model, paths, cameras, _ = rig
    times = np.array([7.0, 7.0, 7.0, 8.0, 8.0, np.nan])
    result = model.reconstruct(paths, cameras=cameras, times=times, rig=RIG)
    assert [image.time for image in result.images] == [0.0, 0.0, 0.0, 1.0, 1.0, None]
    assert [image.pose_source for image in result.images] == ["fitted"] * 5 + ["predicted"]


def test_an_array_of_another_shape_than_its_calibration_is_named(rig):
    model, _, _, _ = rig
    height, width = SIZES["left"]
    with pytest.raises(ValueError, match=r"0000: is 120 x 80 pixels upright, its calibration \(left\) is for 80 x 120"):
        model.reconstruct([np.zeros((width, height, 3), np.uint8)], cameras=["left"], rig=RIG)


def test_images_that_are_given_twice_are_told(rig):
    model, paths, _, _ = rig
    result = model.reconstruct([*paths, paths[0]])
    assert len(result.images) == 6 and "1 images were given twice; each is taken once" in result.notes


def test_metres_and_units_of_the_scene_do_not_mix(rig):
    model, paths, _, poses = rig
    with pytest.raises(ValueError, match="the scale is in metres, the poses are in units of the scene"):
        model.reconstruct(paths, poses=poses, pose_unit="scene", scale=2.0)


@pytest.mark.parametrize("max_views", [None, 4])
def test_a_scale_multiplies_what_comes_out_without_it(rig, max_views):
    model, paths, cameras, _ = rig

    def centers(**more):
        model.model.passes = 0  # so that it predicts in the same units
        return model.reconstruct(paths, cameras=cameras, max_views=max_views, **more).world_from_camera[:, :3, 3]

    np.testing.assert_allclose(centers(scale=2.5), 2.5 * centers(), atol=1e-6)


def test_the_lens_of_an_image_is_that_of_its_camera(rig):
    model, paths, cameras, _ = rig
    first = {camera: cameras.index(camera) for camera in SIZES}
    lenses = [LENSES[camera] if first[camera] == row else None for row, camera in enumerate(cameras)]
    result = model.reconstruct(paths, cameras=cameras, intrinsics=lenses)
    assert [image.lens for image in result.images] == [LENSES[camera] for camera in cameras]
    assert {image.lens_source for image in result.images} == {"given"}
    note = "the lens of 1 other images of front is that of its images whose lens is given"
    assert note in result.notes
    alone = model.reconstruct(paths, intrinsics=lenses)  # whose images are of one camera is not known
    assert [image.lens_source for image in alone.images] == ["given"] * 3 + ["predicted"] * 3


def test_of_several_lenses_of_a_camera_none_is_that_of_its_other_images(rig):
    model, paths, _, _ = rig
    front = [path for path in paths if path.parent.name == "front"]
    shots = [np.asarray(Image.open(path)) for path in (*front, front[0])]
    lenses = [LENSES["front"], LENSES["front"].resize(1.1, 1.1), None]
    photographs = [Photograph(Path(name), name, "front", pixels=shot) for name, shot in zip("abc", shots, strict=True)]
    knowledge = Known(lenses={name: CalibratedCamera(name, lens) for name, lens in zip("ab", lenses, strict=False)})
    read = read_shots(photographs, knowledge, (64, 64), 0)
    assert [shot.lens for shot in read] == lenses
    assert lens_notes(read, knowledge) == ["several lenses are given of images of front: 1 others have a predicted one"]


def test_nothing_is_refined_where_no_pose_is_given(rig):
    model, paths, _, _ = rig
    with pytest.raises(ValueError, match="refine lets given poses move, and none is given"):
        model.reconstruct(paths, refine=True)


@pytest.mark.parametrize("unit", [1e-3, 1.0, 1e3])
def test_refined_poses_of_a_scene_do_not_depend_on_its_unit(rig, unit):
    model, paths, _, poses = rig

    def moved(factor):
        model.model.passes = 0  # so that it predicts in the same unit
        given = poses.copy()
        given[:, :3, 3] += np.random.default_rng(0).normal(scale=0.03, size=(6, 3))
        given[:, :3, 3] *= factor
        result = model.reconstruct(paths, refine=True, poses=given, pose_unit="scene")
        return (result.world_from_camera - given)[:, :3, 3] / factor

    np.testing.assert_allclose(moved(unit), moved(1.0), atol=1e-4)
    assert 5e-5 < np.abs(moved(unit)).max() < 0.1


def test_memory_and_points_are_positive(rig):
    model, paths, _, _ = rig
    with pytest.raises(ValueError, match="max_memory=-5 must be at least 1"):
        model.reconstruct(paths, max_memory=-5)
    with pytest.raises(ValueError, match="points=0 must be at least 1"):
        model.reconstruct(paths, points=0)


def test_predicted_cameras_that_the_others_outvote_are_counted_and_named(rig, monkeypatch):
    model, paths, cameras, _ = rig
    wild = model.model.poses.copy()
    wild[4] = wild[4] @ transform(40, 1.0, 2.0, 3.0)
    monkeypatch.setattr(model.model, "poses", wild)
    (note,) = (note for note in model.reconstruct(paths, cameras=cameras, rig=RIG).notes if "count little" in note)
    name = paths[4].relative_to(paths[4].parents[1]).as_posix()
    assert note == f"1 of 6 predicted cameras do not fit the others and count little: {name}"


def test_masks_may_leave_no_point(rig, tmp_path):
    model, paths, cameras, _ = rig
    result = model.reconstruct(paths, masks=[np.zeros(SIZES[camera], bool) for camera in cameras])
    assert not result.points.confident().any()
    with pytest.raises(ValueError, match="export of ply: no point is on an image that is not masked"):
        result.export("ply", tmp_path / "points.ply")


def test_points_far_from_the_origin_keep_their_places(rig, tmp_path):
    model, paths, cameras, poses = rig
    far = rigid.from_rotation_translation(np.eye(3), np.array([500_123.25, 5_300_456.75, 412.0])) @ poses
    result = model.reconstruct(paths, cameras=cameras, rig=RIG, poses=far)
    result.export("ply", tmp_path / "points.ply")
    cloud = read_ply(tmp_path / "points.ply")
    away = np.linalg.norm(cloud.points_world[:, None] - far[:, :3, 3], axis=-1)
    np.testing.assert_allclose(np.abs(away - 5.0).min(axis=1), 0.0, atol=1e-4)
    np.testing.assert_allclose(cloud.properties["error"], result.points.error.min(), rtol=1e-6)
