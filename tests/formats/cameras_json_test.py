"""cameras.json: the way there and back, the stated conventions, and what is refused."""

import dataclasses
import json

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from rig3r_jax.formats.cameras_json import FRAME, ImageCamera, read_cameras, write_cameras


def _transform(seed):
    rng = np.random.default_rng(seed)
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec(rng.normal(size=3)).as_matrix()
    matrix[:3, 3] = rng.normal(size=3) * 5
    return matrix


def _image(index, **changes):
    root = np.random.default_rng(index).normal(size=(6, 6))
    image = ImageCamera(
        name=f"front/{index:03d}.jpg",
        width=640,
        height=480,
        intrinsics=np.array([[500.0 + index, 0, 320.5], [0, 510.0, 240.25], [0, 0, 1]]),
        world_from_camera=_transform(index),
        rig_from_camera=_transform(100 + index),
        camera=index % 2,
        camera_discovered=index == 1,
        time=0.5 * index,
        covariance=root @ root.T,
    )
    return dataclasses.replace(image, **changes)


def _bare(index):
    return _image(index, rig_from_camera=None, camera=None, camera_discovered=False, time=None, covariance=None)


def test_read_inverts_write(tmp_path):
    images = [_image(0), _image(1), _bare(2)]
    write_cameras(tmp_path / "cameras.json", images, length_unit="scene")
    read = read_cameras(tmp_path / "cameras.json")
    assert (read.frame, read.length_unit) == (FRAME, "scene")
    for given, found in zip(images, read.images, strict=True):
        for field in dataclasses.fields(ImageCamera):
            np.testing.assert_array_equal(getattr(found, field.name), getattr(given, field.name), err_msg=field.name)


def test_file_states_its_conventions(tmp_path):
    write_cameras(tmp_path / "cameras.json", [_image(0), _image(1)])
    content = json.loads((tmp_path / "cameras.json").read_text())
    assert (content["schema"], content["version"], content["length_unit"]) == ("rig3r-cameras", 1, "metre")
    assert content["frame"] == "OpenCV axes, world = first image's camera"
    entry = content["images"][1]
    assert entry["intrinsics"] == {"fx": 501.0, "fy": 510.0, "cx": 320.5, "cy": 240.25}
    assert entry["camera"] == {"id": 1, "source": "discovered"}
    assert content["images"][0]["camera"] == {"id": 0, "source": "given"}
    np.testing.assert_array_equal(entry["world_from_camera"], _transform(1))  # rows, not columns


def test_covariances_state_their_frame_and_are_optional(tmp_path):
    path = tmp_path / "cameras.json"
    certain = _image(0, covariance=np.zeros((6, 6)))  # of the camera that defines the world
    write_cameras(path, [certain, _image(1), _image(2, covariance=None)])
    content = json.loads(path.read_text())
    stated = content["conventions"]["covariance"]
    assert "tangent (v, w) in world_from_camera exp(v, w)" in stated and "camera's own frame" in stated
    assert [np.shape(entry["covariance"]) for entry in content["images"]] == [(6, 6), (6, 6), ()]
    np.testing.assert_array_equal(content["images"][1]["covariance"], _image(1).covariance)


def test_files_without_covariances_are_read(tmp_path):
    path = tmp_path / "cameras.json"
    write_cameras(path, [_image(0), _image(1)])
    content = json.loads(path.read_text())
    content["conventions"].pop("covariance")
    for entry in content["images"]:
        entry.pop("covariance")
    path.write_text(json.dumps(content))
    assert [image.covariance for image in read_cameras(path).images] == [None, None]


def test_float32_rotations_pass(tmp_path):
    write_cameras(tmp_path / "cameras.json", [_image(0, world_from_camera=_transform(0).astype(np.float32))])


@pytest.mark.parametrize(
    "name", ["../a.jpg", "a/../../b.jpg", "/etc/a.jpg", "C:/a.jpg", "a\\b.jpg", "", ".", "a//b", "a\n.jpg", "a\0.jpg"]
)
def test_names_that_leave_the_folder_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match="no plain relative path"):
        write_cameras(tmp_path / "cameras.json", [_image(0, name=name)])
    write_cameras(tmp_path / "cameras.json", [_image(0)])
    content = json.loads((tmp_path / "cameras.json").read_text())
    content["images"][0]["name"] = name
    (tmp_path / "cameras.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="no plain relative path"):
        read_cameras(tmp_path / "cameras.json")


def _mirrored():
    matrix = _transform(0)
    matrix[:3, 0] *= -1
    return matrix


@pytest.mark.parametrize(
    "changes, match",
    [
        ({"world_from_camera": _mirrored()}, "world_from_camera .* no rigid transform"),
        ({"world_from_camera": 1.1 * np.eye(4)}, "no rigid transform"),
        ({"rig_from_camera": np.full((4, 4), np.nan)}, "rig_from_camera .* no rigid transform"),
        ({"intrinsics": np.diag([-500.0, 500.0, 1.0])}, "positive focal"),
        ({"intrinsics": np.array([[500.0, 3.0, 0], [0, 500.0, 0], [0, 0, 1]])}, "skew"),
        ({"width": 0}, "width 0 must be"),
        ({"time": float("nan")}, "time nan is not finite"),
        ({"covariance": -np.eye(6)}, "negative eigenvalue"),
        ({"covariance": np.triu(np.ones((6, 6)))}, "symmetric"),
    ],
)
def test_impossible_cameras_are_named_and_nothing_is_written(tmp_path, changes, match):
    with pytest.raises(ValueError, match=match) as caught:
        write_cameras(tmp_path / "cameras.json", [_image(0), _image(1, **changes)])
    assert "image 1 (front/001.jpg)" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_empty_and_repeated_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no images"):
        write_cameras(tmp_path / "cameras.json", [])
    with pytest.raises(ValueError, match="occurs twice"):
        write_cameras(tmp_path / "cameras.json", [_image(0), _image(0)])
    with pytest.raises(ValueError, match="length unit"):
        write_cameras(tmp_path / "cameras.json", [_image(0)], length_unit="foot")


@pytest.mark.parametrize(
    "damage, match",
    [
        (lambda content: "{", "is not JSON"),
        (lambda content: [], "has no"),
        (lambda content: {**content, "version": 2}, "version 2"),
        (lambda content: {**content, "images": {}}, "no list of images"),
        (lambda content: {**content, "images": [{"name": "a.jpg"}]}, "image 0 does not follow"),
        (lambda content: {**content, "images": [7]}, "image 0 does not follow"),
        (lambda content: {**content, "images": [{**content["images"][0], "world_from_camera": [[1]]}]}, "shape"),
        (lambda content: {**content, "images": [{**content["images"][0], "width": "640"}]}, "image 0"),
    ],
)
def test_damaged_files_are_named(tmp_path, damage, match):
    path = tmp_path / "cameras.json"
    write_cameras(path, [_bare(0)])
    damaged = damage(json.loads(path.read_text()))
    path.write_text(damaged if isinstance(damaged, str) else json.dumps(damaged))
    with pytest.raises(ValueError, match=match) as caught:
        read_cameras(path)
    assert str(path) in str(caught.value)
