"""A scene survives its record to the byte; every broken rule is named."""

import dataclasses
import typing

import jax
import numpy as np
import pytest

from rig3r_jax.data import records, scene_rules
from rig3r_jax.data.frame_bytes import encode_depth
from rig3r_jax.data.scene import BadRecord, DenseDepth, RigCamera, SparseDepth
from rig3r_jax.geometry.camera import Brown, Fisheye, Lens, Pinhole
from tests.data.scenes import encode, make_scene

HEIGHT, WIDTH = 24, 32
NOISE = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def street():
    scene = make_scene(steps=3, cameras=2, size=(HEIGHT, WIDTH), front_camera=1, encoding=".jpg")
    return dataclasses.replace(scene, name="street")


def change_frame(scene, index, **fields):
    frames = list(scene.frames)
    frames[index] = dataclasses.replace(frames[index], **fields)
    return dataclasses.replace(scene, frames=tuple(frames))


def change_camera(scene, index, **fields):
    cameras = list(scene.cameras)
    cameras[index] = dataclasses.replace(cameras[index], **fields)
    return dataclasses.replace(scene, cameras=tuple(cameras))


def assert_same(scene, other):
    assert (scene.name, scene.front_camera, scene.ordered) == (other.name, other.front_camera, other.ordered)
    for ours, theirs in [
        *zip(scene.cameras, other.cameras, strict=True),
        *zip(scene.frames, other.frames, strict=True),
    ]:
        for field in dataclasses.fields(ours):
            a, b = getattr(ours, field.name), getattr(theirs, field.name)
            assert type(a) is type(b), field.name
            np.testing.assert_array_equal(a, b, err_msg=field.name)
            ours_dtypes, theirs_dtypes = ([getattr(x, "dtype", None) for x in jax.tree.leaves(y)] for y in (a, b))
            assert ours_dtypes == theirs_dtypes, field.name


LENSES = [Pinhole(np.eye(3)), Brown(np.eye(3), np.arange(1.0, 6)), Fisheye(np.eye(3), np.array([0.1, 1 / 3, 0, 0]))]


@pytest.mark.parametrize("lens", LENSES, ids=[lens.kind for lens in LENSES])
def test_record_returns_the_scene_exactly(lens):
    # Zeros at the end and bytes that are no text must survive.
    scene = change_frame(
        dataclasses.replace(change_camera(street(), 0, lens=lens), name="Straße"),
        2,
        image=b"\xff\xd8\x80" + bytes(range(256)) + b"\0\0",
        depth=b"D\0\0\0",
    )
    scenes, frames = records.scene_features(), records.frame_features()
    data = scenes.serialize_example(records.scene_to_example(scene, 7))
    stored = [frames.serialize_example(records.frame_to_example(frame)) for frame in scene.frames]
    read = []

    def read_frame(number):
        read.append(number)
        return frames.deserialize_example_np(stored[number - 7])

    read_back = records.example_to_scene(scenes.deserialize_example_np(data), read_frame)
    assert not read
    assert read_back.frames[3].depth == scene.frames[3].depth and read == [10]  # image and depth of that frame alone
    assert_same(scene, read_back)
    assert sorted(read) == list(range(7, 13))  # each once
    assert dataclasses.replace(read_back.frames[0], image=b"").depth == scene.frames[0].depth


@pytest.mark.parametrize("kind", [".jpg", ".png", ".gif", ".webp", ".bmp", ".tiff"])
def test_good_scene_passes(kind):
    scene_rules.check_scene(change_frame(street(), 0, image=encode(NOISE, kind)))
    scene_rules.check_scene(make_scene(sparse=True))
    scene_rules.check_scene(change_frame(street(), 2, world_from_camera=ROUNDED))


MIRROR = np.diag([1.0, 1.0, -1.0, 1.0])
STRETCH = np.diag([1.0, 1.001, 1.0, 1.0])
SLIGHT, ROUNDED = (np.diag([1.0, 1 + error, 1.0, 1.0]) for error in (6e-5, 4e-5))  # 1.2e-4 and 0.8e-4 off orthonormal
NOT_FINITE = np.where(np.eye(4) == 1, 1.0, np.nan)
AWAY = np.array([[1.0, 0, 0, 1e30], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
BAD_FRAMES = {
    "empty image": (dict(image=b""), "0 bytes does not decode"),
    "no image": (dict(image=b"certainly not a picture"), "does not decode"),
    "image cut short": (dict(image=encode(NOISE, ".jpg")[:-40]), "cut short"),
    "PNG cut short": (dict(image=encode(NOISE, ".png")[:-12]), "cut short"),
    "GIF cut short": (dict(image=encode(NOISE, ".gif")[:-400]), "does not decode"),
    "mirrored": (dict(world_from_camera=MIRROR), "determinant -1"),
    "stretched": (dict(world_from_camera=STRETCH), "no rotation"),
    "stretched slightly": (dict(world_from_camera=SLIGHT), "must be at most 0.0001"),
    "not finite": (dict(world_from_camera=NOT_FINITE), "finite"),
    "farther than the earth": (dict(world_from_camera=AWAY), "is at .1e\\+30, 0.0, 0.0., must be within 1e\\+08 m"),
    "depth cut short": (dict(depth=encode_depth(DenseDepth(np.ones((4, 4), np.float32)))[:-3]), "does not decode"),
    "depth of another size": (dict(depth=encode_depth(DenseDepth(np.ones((4, 4), np.float32)))), "depth is \\(4, 4\\)"),
    "point outside": (dict(depth=encode_depth(SparseDepth(np.float32([[40, 3]]), np.float32([1])))), "outside"),
    "camera of no rig": (dict(camera=2), "camera number 2 of 2"),
    "frame twice": (dict(step=0), "must ascend"),
    "frames out of order": (dict(step=5), "must ascend"),
    "same time twice": (dict(time=1e6), "must ascend"),
    "no time": (dict(time=np.nan), "must ascend"),
}


@pytest.mark.parametrize("case", BAD_FRAMES)
def test_bad_frame_is_named(case):
    fields, message = BAD_FRAMES[case]
    with pytest.raises(BadRecord, match=f"street.*{message}"):
        scene_rules.check_scene(change_frame(street(), 2, **fields))


BAD_CAMERAS = {
    "focal zero": (dict(lens=Pinhole(np.diag([0.0, 30, 1]))), "focal lengths 0.0, 30.0 must be positive"),
    "focal negative": (dict(lens=Pinhole(np.diag([30.0, -30, 1]))), "must be positive"),
    "focal missing": (dict(lens=Pinhole(np.diag([np.nan, 30, 1]))), "finite 3x3"),
    "row order": (dict(lens=Pinhole(np.array([[30.0, 0, 0], [0, 30, 0], [16, 12, 1]]))), "upper triangular"),
    "too few coefficients": (
        dict(lens=Brown(np.diag([30.0, 30, 1]), np.zeros(4))),
        "a brown lens must be finite k1 k2 p1",
    ),
    "coefficient missing": (dict(lens=Fisheye(np.diag([30.0, 30, 1]), np.full(4, np.nan))), "must be finite k1 k2 k3"),
    "mirrored": (dict(rig_from_camera=MIRROR), "determinant -1"),
    "stretched slightly": (dict(rig_from_camera=SLIGHT), "must be at most 0.0001"),
    "image of another size": (dict(size=(48, 64)), "calibration is for 48 x 64"),
    "name twice": (dict(name="camera_1"), "each name once"),
}


@pytest.mark.parametrize("case", BAD_CAMERAS)
def test_bad_camera_is_named(case):
    fields, message = BAD_CAMERAS[case]
    with pytest.raises(BadRecord, match=f"street.*{message}"):
        scene_rules.check_scene(change_camera(street(), 0, **fields))


def test_annotations_of_a_camera_resolve():
    assert typing.get_type_hints(RigCamera)["lens"] is Lens


def test_bad_scene_is_named():
    scene = street()
    for bad, message in [
        (dataclasses.replace(scene, frames=()), "no frames"),
        (dataclasses.replace(scene, front_camera=2), "number 2 of 2"),
        (dataclasses.replace(scene, front_camera=0), "must be the identity"),
    ]:
        with pytest.raises(BadRecord, match=f"street.*{message}"):
            scene_rules.check_scene(bad)
