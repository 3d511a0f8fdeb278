"""Depths, masks, LiDAR and points of a folder of your own: in the pixels and at the distances where they are."""

import cv2
import numpy as np
import pytest
from PIL import Image

from rig3r_jax.data.frame_bytes import MOVING, OUTSIDE, decode_depth, decode_mask
from rig3r_jax.data.scene import BadRecord
from tests.data import rig_folders
from tests.data.folder_scenes import assert_true, load, pose_file, without
from tests.data.rig_folders import POINTS_WORLD, STEPS, TRUTH, make_folder


@pytest.mark.parametrize("kind", ["png", "npy", "exr"])
@pytest.mark.parametrize("along", ["axis", "ray"])
def test_depth_is_along_rays_whatever_its_file(tmp_path, kind, along):
    if kind == "exr":
        pytest.importorskip("OpenEXR")
    folder = make_folder(tmp_path / "rig")
    without(folder, "depth")
    metres = rig_folders.write_depth(folder / "depth", kind)
    scene, source = load(folder, depth_kind=along)
    depth = decode_depth(scene.frames[0].depth).values
    row, column = 5, 40
    # On the plane z = 1, by iteration with OpenCV's own projection: no inverse of ours.
    k, point = rig_folders.MATRICES["left"], np.zeros(2)
    for _ in range(50):
        there, _ = cv2.projectPoints(
            np.append(point, 1.0)[None], np.zeros(3), np.zeros(3), k, np.array(rig_folders.BROWN)
        )
        point -= (there[0, 0] - [column + 0.5, row + 0.5]) / [k[0, 0], k[1, 1]]
    stretch = np.sqrt(1 + point @ point) if along == "axis" else 1.0
    assert abs(depth[row, column] - metres[row, column] * stretch) < 1e-5
    assert (depth[:, 0] == 0).all()
    assert len(decode_depth(scene.frames[1].depth).depths) == 0  # the right camera has none
    assert any(f"12 of 24 images (.{kind}" in note for note in source.notes())


def test_wrong_depth_scale_is_asked_for(tmp_path):
    folder = make_folder(tmp_path / "rig")
    with pytest.raises(BadRecord, match="set depth_scale=1000 .millimetres: 2.32 m"):
        load(folder, depth_scale=1.0)


def test_masks_of_both_conventions(tmp_path):
    folder = make_folder(tmp_path / "rig")
    mask = np.full(rig_folders.SIZES["left"], 255, np.uint8)
    mask[:, :4] = 0  # COLMAP's: black is hidden
    Image.fromarray(mask).save(folder / "masks/left/000004.png.png")
    scene, _ = load(folder)
    bits = decode_mask(scene.frames[6].mask)
    assert (bits[:2] == OUTSIDE).all() and (bits[-3:] == MOVING).all() and not bits[2:-3].any()
    bits = decode_mask(scene.frames[8].mask)
    assert (bits[:, :4] == OUTSIDE).all() and not bits[:, 4:].any()
    assert scene.frames[0].mask == b""


@pytest.mark.parametrize("frame", ["world", "rig", "rig_from_lidar.txt", "lidar_poses.txt"])
def test_lidar_falls_on_its_points(tmp_path, frame):
    folder = make_folder(tmp_path / "rig")
    without(folder, "depth")
    (folder / "lidar").mkdir()
    rig_from_lidar = rig_folders.matrix(np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]]), [0.1, -0.3, 0.2])
    for step in range(STEPS):
        world_from_points = {"world": np.eye(4), "rig": TRUTH.world_from_rig[step]}.get(
            frame, TRUTH.world_from_rig[step] @ rig_from_lidar
        )
        inverse = np.linalg.inv(world_from_points)
        points = POINTS_WORLD @ inverse[:3, :3].T + inverse[:3, 3]
        np.save(folder / "lidar" / f"{step:06d}.npy", points)
    options = {"lidar_frame": frame} if frame in ("world", "rig") else {}
    if frame == "rig_from_lidar.txt":
        np.savetxt(folder / frame, rig_from_lidar)
    if frame == "lidar_poses.txt":
        (folder / frame).write_text(rig_folders.tum_rows(TRUTH.times, TRUTH.world_from_rig @ rig_from_lidar))
        rig_folders.write_times(folder / "lidar_times.txt")
    scene, _ = load(folder, **options)
    for shot in scene.frames:
        camera = scene.cameras[shot.camera].name
        depth, expected = decode_depth(shot.depth), TRUTH.pixels(camera, shot.step)
        height, width = rig_folders.SIZES[camera]
        inside = ((expected >= 0) & (expected < [width, height])).all(axis=1)
        apart = np.linalg.norm(depth.pixels[:, None] - expected[inside], axis=-1)  # nearer ones may hide a point
        assert len(depth.pixels) >= 2 and apart.min(axis=1).max() < 1e-4
        distances = np.linalg.norm(POINTS_WORLD - TRUTH.world_from_camera(camera, shot.step)[:3, 3], axis=1)
        np.testing.assert_allclose(depth.depths, distances[inside][apart.argmin(axis=1)], rtol=1e-6)


def test_model_alone_gives_sparse_depth(tmp_path):
    folder = make_folder(tmp_path / "rig")
    pose_file(folder, "colmap")
    without(folder, "depth", "masks", "times.txt")
    scene, source = load(folder, metres=2.0)
    assert_true(scene, scale=2.0)
    for frame in scene.frames:
        camera, depth = scene.cameras[frame.camera].name, decode_depth(frame.depth)
        expected = TRUTH.pixels(camera, frame.step)[1:]  # the first point has an error of 9 pixels
        order = np.argsort(expected[:, 0])
        given = np.argsort(depth.pixels[:, 0])
        np.testing.assert_allclose(depth.pixels[given], expected[order], atol=1e-4)
        distances = np.linalg.norm(POINTS_WORLD[1:] - TRUTH.world_from_camera(camera, frame.step)[:3, 3], axis=1)
        np.testing.assert_allclose(depth.depths[given], 2 * distances[order], rtol=1e-6)
    notes = "\n".join(source.notes())
    assert "2 of 3 points of the model" in notes and "0.1 s apart" in notes


def test_depth_of_other_names_is_refused(tmp_path):
    folder = make_folder(tmp_path / "rig")
    (folder / "depth/left").rename(folder / "depth/cam_left")
    with pytest.raises(BadRecord, match="depth/cam_left/0000.*.png: is of no image.*such as depth/left/000000"):
        load(folder)


def test_a_sweep_beyond_the_trajectory_is_no_depth(tmp_path):
    """The last sweep ends 0.15 s after the last pose, of its image: the rig has moved on."""
    folder = make_folder(tmp_path / "rig")
    without(folder, "depth")
    (folder / "lidar").mkdir()
    for step in range(STEPS):
        inverse = np.linalg.inv(TRUTH.world_from_rig[step])
        np.save(folder / "lidar" / f"{step:06d}.npy", POINTS_WORLD @ inverse[:3, :3].T + inverse[:3, 3])
    times = [*TRUTH.times[:-1], TRUTH.times[-1] + 0.15]
    rows = (f"{float(time)!r} {step:06d}" for step, time in enumerate(times))
    (folder / "lidar_times.txt").write_text("\n".join(rows) + "\n")
    scene, source = load(folder, lidar_frame="rig")
    counts = [len(decode_depth(frame.depth).depths) for frame in scene.frames]
    assert min(counts[:-2]) >= 2 and counts[-2:] == [0, 0]
    assert any("22 of 24 images, 12 sweeps" in note for note in source.notes())
