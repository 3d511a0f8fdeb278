"""Reconstructions brought to another world: exactly where both agree, with all that depends on lengths."""

import dataclasses

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from rig3r_jax.geometry import rigid
from rig3r_jax.geometry.aligned import aligned, camera_alignment, stretched
from tests.exports.reconstructions import rig_of_three, unordered

TARGET_FROM_WORLD = rigid.from_rotation_translation(
    Rotation.from_euler("xyz", [20, 130, -70], degrees=True).as_matrix(), np.array([3.0, -8.0, 40.0])
)


def known(reconstruction, scale, count=None):
    return {
        image.name: TARGET_FROM_WORLD @ stretched(image.world_from_camera, scale)
        for image in reconstruction.images[:count]
    }


@pytest.mark.parametrize("scale", [0.25, 7.0])
def test_all_of_a_scene_goes_where_its_cameras_are_known_to_be(scale):
    scene = unordered("pinhole")
    covariance = np.diag([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    scene = dataclasses.replace(
        scene, images=tuple(dataclasses.replace(image, covariance=covariance) for image in scene.images)
    )
    result = aligned(scene, known(scene, scale, 2), metric=True)
    expected = np.stack(list(known(scene, scale).values()))
    np.testing.assert_allclose(result.world_from_camera, expected, atol=1e-9)
    assert (result.length_unit, result.scale.source) == ("metre", "given poses")
    assert result.scale.factor == pytest.approx(scale)
    np.testing.assert_allclose(
        result.points.points_world, rigid.apply(TARGET_FROM_WORLD, scale * scene.points.points_world), atol=1e-9
    )
    np.testing.assert_allclose(result.points.depth, scale * scene.points.depth)
    np.testing.assert_allclose(
        np.diag(result.images[0].covariance), np.array([1, 2, 3, 0, 0, 0]) * scale**2 + np.array([0, 0, 0, 4, 5, 6])
    )
    for image, pixels, points in zip(result.images, result.points.pixels, result.points.points_world, strict=True):
        np.testing.assert_allclose(
            image.lens.project(rigid.apply(rigid.invert(image.world_from_camera), points)), pixels, atol=1e-6
        )


def test_metres_stay_metres():
    rig = rig_of_three("pinhole")
    result = aligned(rig, known(rig, 3.0), metric=True)
    relative = rigid.invert(result.world_from_camera[0]) @ result.world_from_camera
    np.testing.assert_allclose(relative, rigid.invert(rig.world_from_camera[0]) @ rig.world_from_camera, atol=1e-12)
    other_unit = aligned(rig, known(rig, 3.0), metric=False)
    np.testing.assert_allclose(other_unit.world_from_camera, np.stack(list(known(rig, 3.0).values())), atol=1e-9)
    np.testing.assert_allclose(other_unit.cameras[1].rig_from_camera[:3, 3], 3 * rig.cameras[1].rig_from_camera[:3, 3])
    assert other_unit.length_unit == "scene"


def test_cameras_on_a_line_determine_the_turn_about_it():
    straight = np.stack([rigid.from_rotation_translation(np.eye(3), np.array([0.0, 0, z])) for z in range(4)])
    alignment = camera_alignment(straight, TARGET_FROM_WORLD @ straight, with_scale=True)
    np.testing.assert_allclose(alignment.target_from_source, TARGET_FROM_WORLD, atol=1e-12)
    assert camera_alignment(straight[:1], TARGET_FROM_WORLD @ straight[:1], with_scale=True).scale == 1.0


def test_a_reference_of_other_images_is_refused():
    with pytest.raises(ValueError, match="no image is of a name of the reference"):
        aligned(unordered("pinhole"), {"else.jpg": np.eye(4)}, metric=True)
