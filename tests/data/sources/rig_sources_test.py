"""Data sets of rigs in their documented layouts and as real samples: points and matched features fall where they do."""

import cv2
import numpy as np
import pytest

from rig3r_jax.data.build import build_records
from rig3r_jax.data.frame_bytes import OUTSIDE, decode_depth, decode_mask
from rig3r_jax.data.image_bytes import decode_image
from rig3r_jax.data.scene import BadRecord
from rig3r_jax.data.scene_rules import check_scene
from rig3r_jax.data.sources import make_source
from tests.data import rig_folders
from tests.data.rig_folders import POINTS_WORLD, STEPS, TRUTH

ALL = {"fractions": [1, 0, 0]}
NAMES = {"euroc": ("cam0", "cam1"), "hilti": ("cam0", "cam1")}  # of the cameras left and right; else by these words


def whole(name, root, **options):
    """All of a recording as one scene, and the source."""
    source = make_source(name, str(root), ALL | {"window": 64} | options)
    scene = source.scenes("train")[0][1]()
    check_scene(scene)
    return scene, source


@pytest.mark.parametrize(
    "name, make, options",
    [
        ("colmap", rig_folders.make_colmap, {}),
        ("transforms", rig_folders.make_transforms, {}),
        ("wayvescenes", rig_folders.make_wayve, {"front": "left"}),
        ("euroc", rig_folders.make_euroc, {}),
        ("hilti", rig_folders.make_hilti, {}),
        ("kapture", rig_folders.make_kapture, {}),
    ],
)
def test_points_fall_where_the_writer_put_them(tmp_path, name, make, options):
    if name in ("colmap", "wayvescenes"):
        pytest.importorskip("pycolmap")
    scene, _ = whole(name, make(tmp_path / "data"), **options)
    base_from_world = np.linalg.inv(TRUTH.world_from_camera("left", 0))
    points_base = POINTS_WORLD @ base_from_world[:3, :3].T + base_from_world[:3, 3]
    written = dict(zip(NAMES.get(name, ("left", "right")), ("left", "right"), strict=True))
    assert {camera.name for camera in scene.cameras} == set(written) and len(scene.frames) == 2 * STEPS
    for frame in scene.frames:
        camera = scene.cameras[frame.camera]
        camera_from_base = np.linalg.inv(frame.world_from_camera)
        points_camera = points_base @ camera_from_base[:3, :3].T + camera_from_base[:3, 3]
        expected = TRUTH.pixels(written[camera.name], frame.step)
        np.testing.assert_allclose(camera.lens.project(points_camera), expected, atol=1e-6)
        np.testing.assert_allclose(camera.rig_from_camera, TRUTH.rig_from_camera[written[camera.name]], atol=1e-7)
        placed = scene.source_from_world @ frame.world_from_camera
        np.testing.assert_allclose(placed, TRUTH.world_from_camera(written[camera.name], frame.step), atol=1e-6)
    body_from_rig = rig_folders.BODY_FROM_RIG if name in ("euroc", "hilti") else np.eye(4)
    np.testing.assert_allclose(scene.body_from_rig, body_from_rig, atol=1e-6)
    times = np.array([frame.time for frame in scene.frames[::2]])
    np.testing.assert_allclose(np.diff(times), 0.1, atol=1e-5)


def test_wayvescenes_masks_hide_what_is_black(tmp_path):
    pytest.importorskip("pycolmap")
    scene, _ = whole("wayvescenes", rig_folders.make_wayve(tmp_path / "data"), front="left")
    bits = decode_mask(scene.frames[2].mask)
    assert (bits[-5:] == OUTSIDE).all() and not bits[:-5].any()


def test_scannetpp_is_split_by_scenes(tmp_path):
    pytest.importorskip("pycolmap")
    root = rig_folders.make_scannetpp(tmp_path / "data")
    source = make_source("scannetpp", str(root), {"fractions": [0.5, 0.5, 0], "window": 64})
    names = [[name for name, _ in source.scenes(split)] for split in source.splits()]
    assert names == [["0a5c013435"], ["1ada7a0617"]]
    scene = source.scenes("train")[0][1]()
    check_scene(scene)
    assert [camera.lens.kind for camera in scene.cameras] == ["fisheye"]
    base_from_world = np.linalg.inv(TRUTH.world_from_camera("right", 0))
    points_base = POINTS_WORLD @ base_from_world[:3, :3].T + base_from_world[:3, 3]
    for frame in scene.frames:
        camera_from_base = np.linalg.inv(frame.world_from_camera)
        points_camera = points_base @ camera_from_base[:3, :3].T + camera_from_base[:3, 3]
        pixels = scene.cameras[0].lens.project(points_camera)
        np.testing.assert_allclose(pixels, TRUTH.pixels("right", frame.step), atol=1e-6)


def test_euroc_counts_what_is_absent_and_trains_on_no_images_without_truth(tmp_path):
    root = rig_folders.make_euroc(tmp_path / "V1_01")
    _, source = whole("euroc", root)
    assert [entry.reason.split(": ")[1] for _, entry in source.left_out()] == ["is listed in data.csv, absent"] * 2
    (root / "mav0/state_groundtruth_estimate0/data.csv").unlink()
    with pytest.raises(BadRecord, match="camera cam0, step 0: world_from_camera is not known, which training needs"):
        whole("euroc", root)
    source = make_source("euroc", str(root), ALL)
    assert "no poses: " in source.notes()[0]
    with pytest.raises(
        BadRecord, match="world_from_camera is not known, which training needs; add the recording's poses"
    ):
        build_records("euroc", source, tmp_path / "records", progress=False)
    assert not (tmp_path / "records").exists()


def epipolar_degrees(scene, first, second):
    """Median angle of matched SIFT features of two frames off their epipolar planes, by the rig's calibration, of those
    under a degree; and how many matches there are."""
    sift = cv2.SIFT_create()
    found = []
    for frame in (first, second):
        grey = cv2.cvtColor(decode_image(frame.image), cv2.COLOR_RGB2GRAY)
        keypoints, descriptors = sift.detectAndCompute(grey, None)
        found.append((np.array([keypoint.pt for keypoint in keypoints]) + 0.5, descriptors))
    pairs = cv2.BFMatcher().knnMatch(found[0][1], found[1][1], k=2)
    matches = [best for best, other in pairs if best.distance < 0.7 * other.distance]
    if len(matches) < 12:
        return None, len(matches)
    cameras = [scene.cameras[frame.camera] for frame in (first, second)]
    rays_a = cameras[0].lens.rays(found[0][0][[match.queryIdx for match in matches]])
    rays_b = cameras[1].lens.rays(found[1][0][[match.trainIdx for match in matches]])
    b_from_a = np.linalg.inv(cameras[1].rig_from_camera) @ cameras[0].rig_from_camera
    normals = np.cross(b_from_a[:3, 3], rays_a @ b_from_a[:3, :3].T)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    degrees = np.degrees(np.abs(np.arcsin(np.clip((normals * rays_b).sum(axis=1), -1, 1))))
    return float(np.median(degrees[degrees < 1.0])), len(matches)


def test_euroc_sample(shared):
    """Epipolar median 0.013 degrees by its notes; with pixel centres at 0, or T_BS inverted, it is many times that."""
    options = {"poses": "../trajectories_gt/euroc_V101_GT.txt"}
    scene, source = whole("euroc", shared / "realdata/euroc_stereo", **options)
    assert len(scene.frames) == 6 and scene.cameras[0].lens.kind == "brown"
    degrees, count = epipolar_degrees(scene, *scene.frames[:2])
    assert count > 200 and degrees < 0.02
    assert abs(np.linalg.norm(scene.cameras[1].rig_from_camera[:3, 3]) - 0.1101) < 1e-4
    assert len(source.left_out()) == 188  # 94 of 95 pairs but three and one without a pose


def test_hilti_sample(shared):
    """Fisheyes in four directions: 0.05 to 0.09 degrees by its notes for cameras that overlap."""
    scene, _ = whole("hilti", shared / "realdata/hilti_exp4_rig")
    assert len(scene.frames) == 16 and {camera.lens.kind for camera in scene.cameras} == {"fisheye"}
    for first, second in ((0, 1), (0, 4), (1, 4)):
        degrees, _ = epipolar_degrees(scene, scene.frames[first], scene.frames[second])
        assert degrees is not None and degrees < 0.12, (first, second, degrees)
    degrees, _ = epipolar_degrees(scene, scene.frames[0], scene.frames[1])
    assert degrees < 0.07


def test_lund_door_sample(shared):
    """Sparse depth of a model alone: points of two images that are one point in the world."""
    pytest.importorskip("pycolmap")
    scene, source = whole("colmap", shared / "realdata/colmap_lund_door")
    assert len(scene.frames) == 12 and scene.cameras[0].lens.kind == "brown"
    lens, points, errors = scene.cameras[0].lens, [], []
    for frame in scene.frames:
        depth = decode_depth(frame.depth)
        rays = lens.rays(depth.pixels.astype(np.float64))
        points_camera = rays * depth.depths[:, None]
        points.append(points_camera @ frame.world_from_camera[:3, :3].T + frame.world_from_camera[:3, 3])
    for i, other in enumerate(scene.frames[1:]):
        camera_from_world = np.linalg.inv(other.world_from_camera)
        points_camera = points[i] @ camera_from_world[:3, :3].T + camera_from_world[:3, 3]
        pixels, seen = lens.project(points_camera), decode_depth(other.depth).pixels
        apart = np.sqrt(((pixels[::20, None] - seen[None]) ** 2).sum(axis=-1)).min(axis=1)
        errors.append(np.median(apart))
    assert np.median(errors) < 0.6  # pixels of 1296x1936, twice the model's own 0.22
    assert "11240 of 11384 points of the model" in "\n".join(source.notes())
