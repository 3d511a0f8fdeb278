"""cameras.json: the way there and back, the stated conventions, version 1, and what is refused."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from rig3r_jax.formats.cameras_json import read_cameras, write_cameras
from rig3r_jax.geometry.camera import Brown, Fisheye, Pinhole
from rig3r_jax.geometry.lenses import LENSES, make_lens
from rig3r_jax.schema import (
    CAMERA_SOURCES,
    SCALE_SOURCES,
    Crop,
    PhysicalCamera,
    PosedImage,
    Reconstruction,
    Scale,
)

CROP = Crop(0.0, 60.0, 640.0, 360.0, 512, 288)


def _transform(seed):
    rng = np.random.default_rng(seed)
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec(rng.normal(size=3)).as_matrix()
    matrix[:3, 3] = rng.normal(size=3) * 5
    return matrix


def _lens(index, kind="pinhole"):
    rng = np.random.default_rng(index)
    intrinsics = np.array([[500.0 + index, 0, 320.5], [0, 510.0, 240.25], [0, 0, 1]])
    return make_lens(kind, intrinsics, rng.normal(size=len(LENSES[kind].coefficients)) * 0.01)


def _camera(index, **changes):
    camera = PhysicalCamera(index, f"cam {index}", _lens(index), _transform(100 + index), "given", 0.25)
    return dataclasses.replace(camera, **changes)


def _image(index, **changes):
    root = np.random.default_rng(index).normal(size=(6, 6))
    image = PosedImage(
        name=f"front/{index:03d}.jpg",
        width=640,
        height=480,
        lens=_lens(index % 2),
        world_from_camera=_transform(index),
        camera=index % 2,
        time=0.5 * index,
        covariance=root @ root.T,
        crop=CROP,
    )
    return dataclasses.replace(image, **changes)


def _bare(index):
    return _image(index, camera=None, time=None, covariance=None, crop=None)


def _reconstruction(*images, **changes):
    whole = Reconstruction(images or (_image(0), _image(1)), (_camera(0), _camera(1, source="discovered")))
    return dataclasses.replace(whole, **changes)


def _same(first, second):
    """Equal field by field, arrays by their numbers."""
    for field in dataclasses.fields(first):
        a, b = getattr(first, field.name), getattr(second, field.name)
        if isinstance(a, tuple):
            assert len(a) == len(b)
            for one, other in zip(a, b, strict=True):
                _same(one, other)
        elif isinstance(a, np.ndarray):
            np.testing.assert_array_equal(b, a, err_msg=field.name)
        else:
            assert a == b, field.name


def _random_reconstruction(seed):
    """Any mixture of lenses, known and unknown cameras, crops and the rest."""
    rng = np.random.default_rng(seed)

    def maybe(value):
        return value if rng.random() < 0.6 else None

    def any_lens():
        return _lens(int(rng.integers(10**6)), str(rng.choice(list(LENSES))))

    cameras = [
        PhysicalCamera(
            id=int(number),
            name=f"câmera {number}",
            lens=maybe(any_lens()),
            rig_from_camera=maybe(_transform(int(number))),
            source=str(rng.choice(CAMERA_SOURCES)),
            certainty=maybe(float(rng.random())),
        )
        for number in rng.permutation(50)[: rng.integers(4)]
    ]
    images = []
    for index in range(rng.integers(1, 4)):
        camera = [None, *cameras][rng.integers(len(cameras) + 1)]
        left, top, width, height = (rng.normal(size=4) * 1000).tolist()
        image = PosedImage(
            name=f"ordner/{index}.jpg",
            width=int(rng.integers(1, 10**4)),
            height=int(rng.integers(1, 10**4)),
            lens=(camera and maybe(camera.lens)) or any_lens(),
            world_from_camera=_transform(int(rng.integers(10**6))),
            camera=camera and camera.id,
            time=maybe(float(rng.normal() * 10.0 ** rng.integers(-6, 7))),
            covariance=maybe(np.diag(rng.random(6))),
            crop=maybe(Crop(left, top, abs(width), abs(height), *rng.integers(1, 600, 2).tolist())),
        )
        images.append(image)
    source = str(rng.choice(SCALE_SOURCES))
    scale, unit = maybe(Scale(float(rng.exponential()), source)), "scene" if source == "none" else "metre"
    return Reconstruction(tuple(images), tuple(cameras), unit, scale, None, "a frame", maybe("../images"))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_read_inverts_write(tmp_path_factory, seed):
    path = tmp_path_factory.getbasetemp() / "round_trip.json"
    whole = _random_reconstruction(seed)
    write_cameras(path, whole)
    _same(whole, read_cameras(path))


def test_file_states_its_conventions(tmp_path):
    write_cameras(tmp_path / "cameras.json", _reconstruction(scale=Scale(7.5, "rig baselines"), image_folder="../in"))
    content = json.loads((tmp_path / "cameras.json").read_text())
    assert (content["schema"], content["version"], content["length_unit"]) == ("rig3r-cameras", 2, "metre")
    assert content["frame"] == "OpenCV axes, world = first image's camera"
    assert content["scale"] == {"factor": 7.5, "source": "rig baselines"} and content["image_folder"] == "../in"
    first, second = content["cameras"]
    assert second["lens"] == {"kind": "pinhole", "fx": 501.0, "fy": 510.0, "cx": 320.5, "cy": 240.25}
    assert (first["id"], first["name"], first["source"], first["certainty"]) == (0, "cam 0", "given", 0.25)
    assert second["source"] == "discovered"
    np.testing.assert_array_equal(second["rig_from_camera"], _transform(101))  # rows, not columns
    entry = content["images"][1]
    np.testing.assert_array_equal(entry["world_from_camera"], _transform(1))
    assert entry["crop"] == dataclasses.asdict(CROP) and "left" in content["conventions"]["crop"]


def test_an_image_repeats_its_lens_only_where_it_is_another(tmp_path):
    path = tmp_path / "cameras.json"
    write_cameras(path, _reconstruction(_image(0), _image(1, lens=_lens(5, "fisheye")), _bare(2)))
    shared, other, alone = (image["lens"] for image in json.loads(path.read_text())["images"])
    assert shared is None and other["kind"] == "fisheye" and alone["kind"] == "pinhole"
    assert [type(image.lens) for image in read_cameras(path).images] == [Pinhole, Fisheye, Pinhole]


def test_coefficients_stand_under_their_names(tmp_path):
    lens = Brown(_lens(0).intrinsics, np.array([0.1, 0.2, 0.3, 0.4, 0.5]))
    write_cameras(tmp_path / "cameras.json", _reconstruction(_image(0, lens=lens)))
    stated = json.loads((tmp_path / "cameras.json").read_text())["images"][0]["lens"]
    assert {name: stated[name] for name in ("k1", "k2", "p1", "p2", "k3")} == {
        "k1": 0.1, "k2": 0.2, "p1": 0.3, "p2": 0.4, "k3": 0.5,
    }  # fmt: skip


def test_covariances_state_their_frame_and_are_optional(tmp_path):
    path = tmp_path / "cameras.json"
    certain = _image(0, covariance=np.zeros((6, 6)))  # of the camera that defines the world
    write_cameras(path, _reconstruction(certain, _image(1), _image(2, covariance=None)))
    content = json.loads(path.read_text())
    stated = content["conventions"]["covariance"]
    assert "tangent (v, w) in world_from_camera exp(v, w)" in stated and "camera's own frame" in stated
    assert [np.shape(entry["covariance"]) for entry in content["images"]] == [(6, 6), (6, 6), ()]
    np.testing.assert_array_equal(content["images"][1]["covariance"], _image(1).covariance)


def test_files_without_covariances_are_read(tmp_path):
    path = tmp_path / "cameras.json"
    write_cameras(path, _reconstruction())
    content = json.loads(path.read_text())
    content["conventions"].pop("covariance")
    for entry in content["images"]:
        for key in ("covariance", "crop", "time", "lens"):
            entry.pop(key)
    path.write_text(json.dumps(content))
    assert [image.covariance for image in read_cameras(path).images] == [None, None]


def test_float32_rotations_pass(tmp_path):
    image = _image(0, world_from_camera=_transform(0).astype(np.float32))
    write_cameras(tmp_path / "cameras.json", _reconstruction(image))


def test_fields_that_a_later_writer_added_are_passed_over(tmp_path):
    path = tmp_path / "cameras.json"
    write_cameras(path, _reconstruction(scale=Scale(7.5, "given")))
    content = json.loads(path.read_text())
    for entry in (content, content["scale"], *content["cameras"], *content["images"], content["images"][0]["crop"]):
        entry["added"] = 1
    content["images"][0]["crop"]["left"] = 3  # as others print 3.0
    path.write_text(json.dumps(content))
    assert read_cameras(path).images[0].crop == dataclasses.replace(CROP, left=3.0)


VERSION_1 = """{"schema": "rig3r-cameras", "version": 1, "frame": "OpenCV axes, world = first image's camera",
 "conventions": {"axes": "camera axes: x right, y down, z forward"}, "length_unit": "scene",
 "images": [
  {"name": "front/000.jpg", "width": 640, "height": 480,
   "intrinsics": {"fx": 500.0, "fy": 510.0, "cx": 320.5, "cy": 240.25},
   "world_from_camera": [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]],
   "rig_from_camera": [[0.0, 0.0, 1.0, 0.5], [0.0, 1.0, 0.0, 0.0], [-1.0, 0.0, 0.0, 2.0], [0.0, 0.0, 0.0, 1.0]],
   "camera": {"id": 3, "source": "discovered"}, "time": 0.0, "covariance": null},
  {"name": "front/001.jpg", "width": 640, "height": 480,
   "intrinsics": {"fx": 505.0, "fy": 510.0, "cx": 320.5, "cy": 240.25},
   "world_from_camera": [[1.0, 0.0, 0.0, 0.1], [0.0, 1.0, 0.0, 0.2], [0.0, 0.0, 1.0, 0.3], [0.0, 0.0, 0.0, 1.0]],
   "rig_from_camera": [[0.0, 0.0, 1.0, 0.5], [0.0, 1.0, 0.0, 0.0], [-1.0, 0.0, 0.0, 2.0], [0.0, 0.0, 0.0, 1.0]],
   "camera": {"id": 3, "source": "discovered"}, "time": 0.5},
  {"name": "alone.jpg", "width": 64, "height": 48,
   "intrinsics": {"fx": 50.0, "fy": 50.0, "cx": 32.0, "cy": 24.0},
   "world_from_camera": [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 4.0], [0.0, 0.0, 0.0, 1.0]],
   "rig_from_camera": [[1.0, 0.0, 0.0, 9.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0]],
   "camera": null, "time": null},
  {"name": "bare.jpg", "width": 64, "height": 48,
   "intrinsics": {"fx": 50.0, "fy": 50.0, "cx": 32.0, "cy": 24.0},
   "world_from_camera": [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 5.0], [0.0, 0.0, 0.0, 1.0]],
   "rig_from_camera": null, "camera": null, "time": null}]}"""


def test_version_1_is_read(tmp_path):
    path = tmp_path / "cameras.json"
    path.write_text(VERSION_1)
    old = read_cameras(path)
    assert old.length_unit == "scene" and old.scale is None and old.image_folder is None
    assert [(camera.id, camera.source) for camera in old.cameras] == [(3, "discovered"), (4, "given")]
    np.testing.assert_array_equal(old.cameras[0].rig_from_camera[:3, 3], [0.5, 0.0, 2.0])
    np.testing.assert_array_equal(old.cameras[1].rig_from_camera[:3, 3], [9.0, 0.0, 0.0])
    assert [image.camera for image in old.images] == [3, 3, 4, None]
    assert [image.lens.intrinsics[0, 0] for image in old.images] == [500.0, 505.0, 50.0, 50.0]
    assert [image.time for image in old.images] == [0.0, 0.5, None, None]
    np.testing.assert_array_equal(old.images[1].world_from_camera[:3, 3], [0.1, 0.2, 0.3])
    write_cameras(path, old)  # as version 2
    assert json.loads(path.read_text())["version"] == 2
    _same(old, read_cameras(path))


def test_version_1_with_two_places_of_one_camera_is_refused(tmp_path):
    path = tmp_path / "cameras.json"
    path.write_text(VERSION_1.replace('"camera": null', '"camera": {"id": 3, "source": "discovered"}', 1))
    with pytest.raises(ValueError, match="image 2 .*camera 3 has another source or place in the rig"):
        read_cameras(path)


@pytest.mark.parametrize(
    "name", ["../a.jpg", "a/../../b.jpg", "/etc/a.jpg", "C:/a.jpg", "a\\b.jpg", "", ".", "a//b", "a\n.jpg", "a\0.jpg"]
)
def test_names_that_leave_the_folder_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match="no plain relative path"):
        write_cameras(tmp_path / "cameras.json", _reconstruction(_image(0, name=name)))
    write_cameras(tmp_path / "cameras.json", _reconstruction())
    content = json.loads((tmp_path / "cameras.json").read_text())
    content["images"][0]["name"] = name
    (tmp_path / "cameras.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="no plain relative path"):
        read_cameras(tmp_path / "cameras.json")


def _mirrored():
    matrix = _transform(0)
    matrix[:3, 0] *= -1
    return matrix


def _pinhole(*rows):
    return Pinhole(np.array(rows, np.float64))


@pytest.mark.parametrize(
    "changes, match",
    [
        ({"world_from_camera": _mirrored()}, "world_from_camera .* no rigid transform"),
        ({"world_from_camera": 1.1 * np.eye(4)}, "no rigid transform"),
        ({"lens": _pinhole([-500, 0, 0], [0, 500, 0], [0, 0, 1])}, "must be positive"),
        ({"lens": _pinhole([500, 3, 0], [0, 500, 0], [0, 0, 1])}, "skew"),
        ({"lens": _pinhole([np.nan, 0, 0], [0, 500, 0], [0, 0, 1])}, "finite"),
        ({"width": 0}, "width 0 must be"),
        ({"time": float("nan")}, "time nan is not finite"),
        ({"covariance": -np.eye(6)}, "negative eigenvalue"),
        ({"covariance": np.triu(np.ones((6, 6)))}, "symmetric"),
        ({"camera": 7}, "camera 7 is not in the table"),
        ({"crop": dataclasses.replace(CROP, width=0.0)}, "crop .* positive width"),
        ({"crop": dataclasses.replace(CROP, left=float("inf"))}, "crop .* finite left"),
        ({"crop": dataclasses.replace(CROP, seen_height=0)}, "seen_height 0 must be"),
    ],
)
def test_impossible_images_are_named_and_nothing_is_written(tmp_path, changes, match):
    with pytest.raises(ValueError, match=match) as caught:
        write_cameras(tmp_path / "cameras.json", _reconstruction(_image(0), _image(1, **changes)))
    assert "image 1 (front/001.jpg)" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "changes, match",
    [
        ({"rig_from_camera": np.full((4, 4), np.nan)}, "rig_from_camera .* no rigid transform"),
        ({"lens": _pinhole([500, 0, 0], [0, 0, 0], [0, 0, 1])}, "must be positive"),
        ({"id": -1}, "id -1 must be"),
        ({"id": 0}, "id 0 .* occurs twice"),
        ({"name": "cam 0"}, "'cam 0' occurs twice"),
        ({"name": "a\n"}, "printable"),
        ({"source": "guessed"}, "source 'guessed' must be one of given, discovered, fitted"),
        ({"certainty": 1.5}, "certainty 1.5 must lie in 0..1"),
    ],
)
def test_impossible_cameras_are_named_and_nothing_is_written(tmp_path, changes, match):
    cameras = (_camera(0), _camera(1, **changes))
    with pytest.raises(ValueError, match=match) as caught:
        write_cameras(tmp_path / "cameras.json", _reconstruction(_image(0), cameras=cameras))
    assert "camera 1" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "changes, match",
    [
        ({"images": ()}, "no images"),
        ({"images": (_image(0), _image(0))}, "occurs twice"),
        ({"length_unit": "foot"}, "length unit"),
        ({"scale": Scale(0.0, "given")}, "scale factor 0.0 must be"),
        (
            {"scale": Scale(1.0, "hearsay")},
            "scale source 'hearsay' must be one of given, given poses, rig baselines, none",
        ),
        ({"scale": Scale(1.0, "none")}, 'lengths in "metre" with a scale of source "none"'),
        ({"scale": Scale(2.0, "given"), "length_unit": "scene"}, 'lengths in "scene" with a scale of source "given"'),
        ({"image_folder": ""}, "image folder '' must be a path"),
    ],
)
def test_impossible_files_are_refused(tmp_path, changes, match):
    with pytest.raises(ValueError, match=match):
        write_cameras(tmp_path / "cameras.json", _reconstruction(**changes))
    assert list(tmp_path.iterdir()) == []


def _changed(content, where, **changes):
    """The file with changes in its first camera or image."""
    return {**content, where: [{**content[where][0], **changes}, *content[where][1:]]}


@pytest.mark.parametrize(
    "damage, match",
    [
        (lambda content: "{", "is not JSON"),
        (lambda content: [], "has no"),
        (lambda content: {**content, "version": 3}, "version 3"),
        (lambda content: {**content, "images": {}}, "no list of images"),
        (lambda content: {**content, "version": 1, "images": {}}, "no list of images"),
        (lambda content: {**content, "version": 1}, "image 0 does not follow"),
        (lambda content: {**content, "cameras": None}, "no list of cameras"),
        (lambda content: {**content, "images": [{"name": "a.jpg"}]}, "image 0 does not follow"),
        (lambda content: {**content, "images": [7]}, "image 0 does not follow"),
        (lambda content: {**content, "scale": {"factor": 1.0}}, "scale 0 does not follow"),
        (lambda content: _changed(content, "images", world_from_camera=[[1]]), "shape"),
        (lambda content: _changed(content, "images", world_from_camera=None), "world_from_camera"),
        (lambda content: _changed(content, "images", width="640"), "image 0"),
        (lambda content: _changed(content, "images", camera=9), "camera 9 is not in the table"),
        (lambda content: _changed(content, "images", camera=None, lens=None), "lens"),
        (lambda content: _changed(content, "images", lens={}), "lens"),
        (lambda content: _changed(content, "images", crop={"left": 1.0}), "image 0 does not follow"),
        (lambda content: _changed(content, "cameras", lens={"kind": "mirror"}), "lens 'mirror' is unknown"),
        (lambda content: _changed(content, "cameras", id="0"), "camera 0"),
        (lambda content: _changed(content, "cameras", id=[0]), r"camera 0 .*id of a camera \[0\] must be"),
        (lambda content: _changed(content, "images", camera=False), "image 0 .*id of a camera False must be a whole"),
        (lambda content: json.dumps(content)[:-1] + ', "images": []}', "has the key 'images' twice"),
    ],
)
def test_damaged_files_are_named(tmp_path, damage, match):
    path = tmp_path / "cameras.json"
    write_cameras(path, _reconstruction(_bare(0)))
    damaged = damage(json.loads(path.read_text()))
    path.write_text(damaged if isinstance(damaged, str) else json.dumps(damaged))
    with pytest.raises(ValueError, match=match) as caught:
        read_cameras(path)
    assert str(path) in str(caught.value)
