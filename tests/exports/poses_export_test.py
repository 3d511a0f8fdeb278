"""Rig files, trajectories and transforms.json hold the cameras as they are, and their readers say so."""

import dataclasses
import json

import numpy as np
import pytest

from rig3r_jax.exports.export import export
from rig3r_jax.formats.cameras_json import read_cameras
from rig3r_jax.formats.kitti_poses import read_poses
from rig3r_jax.formats.rig_config import read_rig_config
from rig3r_jax.formats.transforms_json import read_transforms
from rig3r_jax.formats.tum import read_trajectory
from rig3r_jax.geometry import rigid
from tests.exports.reconstructions import rig_of_three, unordered

KINDS = ["pinhole", "brown", "brown_k3", "fisheye"]


@pytest.mark.parametrize("make", [rig_of_three, unordered])
@pytest.mark.parametrize("kind", [*KINDS, "unified"])
def test_cameras_json_comes_back_exactly(tmp_path, make, kind):
    reconstruction = make(kind)
    export(reconstruction, tmp_path / "out", ["cameras"])
    back = read_cameras(tmp_path / "out" / "cameras.json")
    for image, other in zip(reconstruction.images, back.images, strict=True):
        np.testing.assert_array_equal(other.world_from_camera, image.world_from_camera)
        assert other.lens == image.lens


@pytest.mark.parametrize("kind", KINDS)
def test_rig_config_holds_the_rig_by_the_folders_of_images(tmp_path, kind):
    pycolmap = pytest.importorskip("pycolmap")
    reconstruction = rig_of_three(kind)
    report = export(reconstruction, tmp_path / "out", ["rig"])
    assert report.notes == {}
    (rig,) = read_rig_config(tmp_path / "out" / "rig_config.json")
    for camera, found in zip(reconstruction.cameras, rig.cameras, strict=True):
        assert found.name == camera.name and found.lens == camera.lens
        np.testing.assert_allclose(found.rig_from_camera, camera.rig_from_camera, atol=1e-12)
    (config,) = pycolmap.read_rig_config(tmp_path / "out" / "rig_config.json")
    assert [camera.image_prefix for camera in config.cameras] == ["front/", "left/", "right/"]


def test_rig_config_without_folders_has_the_cameras_names(tmp_path):
    reconstruction = rig_of_three("pinhole")
    images = [dataclasses.replace(image, name=image.name.replace("/", "_")) for image in reconstruction.images]
    report = export(dataclasses.replace(reconstruction, images=tuple(images)), tmp_path / "out", ["rig"])
    (note,) = report.notes["rig"]
    assert note.startswith("image_prefix are the names of the cameras")
    (rig,) = read_rig_config(tmp_path / "out" / "rig_config.json")
    assert [camera.name for camera in rig.cameras] == ["front", "left", "right"]


def test_trajectories_of_cameras_and_rig(tmp_path):
    reconstruction = rig_of_three("fisheye")
    export(reconstruction, tmp_path / "out", ["tum", "kitti"])
    files = {path.stem for path in (tmp_path / "out" / "trajectories_tum").iterdir()}
    assert files == {"front", "left", "right", "rig"}
    for number, name in enumerate(["front", "left", "right", "rig"]):
        track = read_trajectory(tmp_path / "out" / "trajectories_tum" / f"{name}.tum")
        poses = read_poses(tmp_path / "out" / "trajectories_kitti" / f"{name}.txt")
        times = np.loadtxt(tmp_path / "out" / "trajectories_kitti" / f"{name}.times.txt")
        camera = number % 3  # the rig's frame is that of camera 0
        expected = reconstruction.world_from_camera[camera::3]
        np.testing.assert_allclose(track.world_from_camera, expected, atol=1e-12)
        np.testing.assert_allclose(poses, expected, atol=1e-12)
        np.testing.assert_array_equal(track.times, [0, 0.25, 0.5, 0.75])
        np.testing.assert_array_equal(times, track.times)


def test_the_rigs_trajectory_is_of_its_own_frame_even_where_the_front_image_is_absent(tmp_path):
    reconstruction = rig_of_three("pinhole")
    vehicle_from_rig = rigid.from_rotation_translation(np.eye(3), np.array([1.5, 0.0, 2.0]))
    cameras = [
        dataclasses.replace(c, rig_from_camera=vehicle_from_rig @ c.rig_from_camera) for c in reconstruction.cameras
    ]
    images = reconstruction.images[:3] + reconstruction.images[4:]  # the front camera's second image is absent
    changed = dataclasses.replace(reconstruction, images=images, cameras=tuple(cameras), points=None)
    export(changed, tmp_path / "out", ["tum"])
    track = read_trajectory(tmp_path / "out" / "trajectories_tum" / "rig.tum")
    expected = reconstruction.world_from_camera[::3] @ rigid.invert(vehicle_from_rig)
    np.testing.assert_allclose(track.world_from_camera, expected, atol=1e-12)


def test_times_that_are_not_known_are_numbers_and_said_to_be(tmp_path):
    report = export(unordered("pinhole"), tmp_path / "out", ["tum", "kitti"])
    assert report.notes == {"tum": ("times are not known: numbers 0, 1, .. stand for seconds",)}
    track = read_trajectory(tmp_path / "out" / "trajectories_tum" / "images.tum", time_unit="s")
    np.testing.assert_array_equal(track.times, [0, 1, 2])
    assert [path.name for path in (tmp_path / "out" / "trajectories_kitti").iterdir()] == ["images.txt"]


@pytest.mark.parametrize(("timed", "told"), [("front", "of left, right "), ("front left right", ""), ("", "")])
def test_trajectories_without_times_are_named_where_others_have_them(tmp_path, timed, told):
    rig = rig_of_three("pinhole")
    images = [
        one if one.name.split("/")[0] in timed.split() else dataclasses.replace(one, time=None) for one in rig.images
    ]
    notes = export(dataclasses.replace(rig, images=tuple(images)), tmp_path / "out", ["tum"]).notes
    expected = {"tum": (f"times {told}are not known: numbers 0, 1, .. stand for seconds",)}
    assert notes == (expected if len(timed.split()) < 3 else {})


def test_cameras_names_are_no_paths(tmp_path):
    reconstruction = rig_of_three("pinhole")
    names = iter(["../../front cam", "a/b", "a b"])
    cameras = tuple(dataclasses.replace(camera, name=next(names)) for camera in reconstruction.cameras)
    export(dataclasses.replace(reconstruction, cameras=cameras), tmp_path / "out", ["tum"])
    files = {path.name for path in (tmp_path / "out" / "trajectories_tum").iterdir()}
    assert files == {"_.._front_cam.tum", "a_b.tum", "a_b_2.tum", "rig.tum"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("make", [rig_of_three, unordered])
@pytest.mark.parametrize("kind", KINDS)
def test_transforms_come_back(tmp_path, make, kind):
    reconstruction = dataclasses.replace(make(kind), image_folder="../images")
    export(reconstruction, tmp_path / "out", ["transforms"])
    frames = read_transforms(tmp_path / "out" / "transforms.json")
    for image, frame in zip(reconstruction.images, frames, strict=True):
        np.testing.assert_allclose(frame.world_from_camera, image.world_from_camera, atol=1e-9)
        assert frame.lens == image.lens and frame.size == (image.height, image.width)
        assert frame.name == f"../images/{image.name}" and frame.time == image.time


def test_transforms_are_in_opengls_axes_with_what_is_common_said_once(tmp_path):
    images = rig_of_three("brown").images[::3]
    reconstruction = dataclasses.replace(rig_of_three("brown"), images=images, points=None)
    export(reconstruction, tmp_path / "out", ["transforms"])
    content = json.loads((tmp_path / "out" / "transforms.json").read_text())
    assert content["camera_model"] == "OPENCV" and content["k1"] == -0.11 and (content["w"], content["h"]) == (640, 480)
    assert set(content["frames"][1]) == {"file_path", "time", "transform_matrix"}
    assert "ply_file_path" not in content
    matrix = np.array(content["frames"][1]["transform_matrix"])
    np.testing.assert_array_equal(matrix[:, 2], -images[1].world_from_camera[:, 2])  # looks along -z
    np.testing.assert_array_equal(matrix[:, 3], images[1].world_from_camera[:, 3])


def test_a_unified_lens_is_refused_by_name(tmp_path):
    with pytest.raises(
        ValueError, match=r"export of transforms: frame 0 \(photo 0.png\): .* no model of a unified lens"
    ):
        export(unordered("unified"), tmp_path / "out", ["transforms"])
    with pytest.raises(ValueError, match="export of rig: camera front: COLMAP has no model of a unified lens"):
        export(rig_of_three("unified"), tmp_path / "out", ["rig"])
    assert not list(tmp_path.iterdir())
