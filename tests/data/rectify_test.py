"""Scenes of wide and bent lenses as pinholes: the same points, at the pixels where a pinhole sees them."""

import cv2
import numpy as np
import pytest

from rig3r_jax.data.frame_bytes import MOVING, OUTSIDE, decode_depth, decode_mask, encode_depth, encode_mask
from rig3r_jax.data.image_bytes import decode_image
from rig3r_jax.data.rectify import WIDEST_DEG, plan_of, rectified
from rig3r_jax.data.scene import BadRecord, DenseDepth, Frame, RigCamera, Scene, SparseDepth
from rig3r_jax.geometry.camera import Brown, Fisheye, Pinhole, Unified

SIZE = (240, 320)  # height, width
K = np.array([[110.0, 0, 163.0], [0, 112.0, 118.0], [0, 0, 1]])
LENSES = {
    "fisheye": Fisheye(K, np.array([0.05, -0.01, 0.002, -0.0005])),
    "brown": Brown(np.diag([2.5, 2.5, 1.0]) @ K - np.array([[0, 0, 1.5 * 163], [0, 0, 1.5 * 118], [0, 0, 0]]),
                   np.array([-0.3, 0.1, 0.001, -0.002, 0.0])),
    "unified": Unified(np.diag([2.0, 2.0, 1.0]) @ K - np.array([[0, 0, 163.0], [0, 0, 118.0], [0, 0, 0]]),
                       np.array([1.2, -0.1, 0.02, 0.001, 0.0])),
}  # fmt: skip
POINTS = np.array([[0.3, -0.2, 2.0], [-1.0, 0.4, 2.5], [0.9, 0.5, 3.0]])
COLORS = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255]], np.uint8)


def scene_of(lens, suffix=".png"):
    """Discs of a radius of 5 pixels around the points, with their depth there; the middle one moves."""
    pixels = lens.project(POINTS)
    u, v = np.meshgrid(np.arange(SIZE[1]) + 0.5, np.arange(SIZE[0]) + 0.5)
    image, depth, moving = np.full((*SIZE, 3), 40, np.uint8), np.zeros(SIZE, np.float32), np.zeros(SIZE, bool)
    for pixel, point, color in zip(pixels, POINTS, COLORS, strict=True):
        disc = np.hypot(u - pixel[0], v - pixel[1]) < 5
        image[disc], depth[disc] = color, np.linalg.norm(point)
        moving |= disc & (color[1] > 0)
    data = cv2.imencode(suffix, image[..., ::-1])[1].tobytes()
    camera = RigCamera("wide", lens, SIZE, np.eye(4), readout=0.02)
    sparse = SparseDepth(pixels.astype(np.float32), np.linalg.norm(POINTS, axis=1).astype(np.float32))
    frames = (
        Frame(0, 0.0, 0, np.eye(4), data, encode_depth(DenseDepth(depth)), encode_mask(np.zeros(SIZE, bool), moving)),
        Frame(0, 0.1, 1, np.eye(4), data, encode_depth(sparse)),
    )
    return Scene("scene", (camera,), 0, frames)


@pytest.mark.parametrize("kind", LENSES)
def test_a_known_point_is_where_the_pinhole_sees_it(kind):
    scene = rectified(scene_of(LENSES[kind]))
    (camera,) = scene.cameras
    k = camera.lens.intrinsics
    assert isinstance(camera.lens, Pinhole) and camera.size == SIZE and camera.readout == 0.02
    assert k[0, 0] == k[1, 1] and (k[:2, 2] == [160, 120]).all()
    image, depth = decode_image(scene.frames[0].image), decode_depth(scene.frames[0].depth).values
    bits = decode_mask(scene.frames[0].mask)
    u, v = np.meshgrid(np.arange(SIZE[1]) + 0.5, np.arange(SIZE[0]) + 0.5)
    for point, color in zip(POINTS, COLORS, strict=True):
        expected = k[:2, :2] @ point[:2] / point[2] + k[:2, 2]
        like = np.abs(image.astype(int) - color).max(axis=-1) < 60
        center = np.array([u[like].mean(), v[like].mean()])
        assert np.abs(center - expected).max() < 0.5, (kind, center, expected)
        column, row = expected.astype(int)
        assert abs(depth[row, column] - np.linalg.norm(point)) < 1e-5
        assert bits[row, column] == (MOVING if color[1] else 0)
    sparse = decode_depth(scene.frames[1].depth)
    np.testing.assert_allclose(sparse.pixels, (POINTS @ k.T / POINTS[:, 2:])[:, :2], atol=1e-3)
    np.testing.assert_allclose(sparse.depths, np.linalg.norm(POINTS, axis=1), rtol=1e-6)


@pytest.mark.parametrize("kind", LENSES)
def test_the_pinhole_is_the_largest_inside_the_image(kind):
    plan = plan_of(scene_of(LENSES[kind]).cameras[0])
    assert plan.seen.all()
    k = plan.camera.lens.intrinsics
    width_deg = 2 * np.degrees(np.arctan(SIZE[1] / 2 / k[0, 0]))
    margins = np.concatenate([plan.maps.min(axis=(0, 1)) + 0.5, SIZE[::-1] - (plan.maps.max(axis=(0, 1)) + 0.5)])
    assert width_deg <= WIDEST_DEG + 1e-6 and (abs(width_deg - WIDEST_DEG) < 1e-6 or 0 <= margins.min() < 1.5)


def test_180_degrees_give_120():
    camera = RigCamera(
        "around", Fisheye(np.array([[100.0, 0, 200], [0, 100, 200], [0, 0, 1]]), np.zeros(4)), (400, 400), np.eye(4)
    )
    plan = plan_of(camera)
    assert abs(2 * np.degrees(np.arctan(200 / plan.camera.lens.intrinsics[0, 0])) - 120) < 1e-9


def test_pinholes_stay_as_they_are_and_jpegs_stay_jpegs():
    pinholes = scene_of(Pinhole(K))
    assert rectified(pinholes) is pinholes
    assert rectified(scene_of(LENSES["fisheye"], ".jpg")).frames[0].image.startswith(b"\xff\xd8\xff")


def test_what_cannot_be_rectified_is_named():
    scene = scene_of(LENSES["fisheye"])
    broken = Scene(
        "scene",
        scene.cameras,
        0,
        (scene.frames[0].__class__(0, 0.0, 0, np.eye(4), b"\x89PNG", b"S\0\0\0\0"), scene.frames[1]),
    )
    result = rectified(broken)
    assert [entry.kind for entry in result.left_out] == ["image"] and len(result.frames) == 1
    beside = K.copy()
    beside[0, 2] = -20
    with pytest.raises(BadRecord, match="camera wide: the axis of its fisheye lens is not in its image"):
        rectified(scene_of(Fisheye(beside, np.zeros(4))))


def test_a_mask_stays_outside():
    scene = scene_of(LENSES["fisheye"])
    outside = np.zeros(SIZE, bool)
    outside[-60:] = True
    frame = Frame(0, 0.0, 0, np.eye(4), scene.frames[0].image, scene.frames[0].depth, encode_mask(outside))
    bits = decode_mask(rectified(Scene("scene", scene.cameras, 0, (frame,))).frames[0].mask)
    assert (bits[-1] == OUTSIDE).all() and not bits[:100].any()
