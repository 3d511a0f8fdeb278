"""Data sets in their formats' documented layouts: what their writers put at a place is read at that place."""

import gzip
import json
import shutil

import numpy as np
import pytest

from rig3r_jax.data.frame_bytes import MOVING, OUTSIDE, decode_depth, decode_mask
from rig3r_jax.data.image_bytes import decode_image
from rig3r_jax.data.scene import UNMATCHED, BadRecord
from rig3r_jax.data.scene_rules import check_scene
from rig3r_jax.data.sources import make_source
from tests.data.written.argoverse2 import write_argoverse2
from tests.data.written.co3d import write_co3d
from tests.data.written.mvimgnet import write_mvimgnet
from tests.data.written.pandaset import write_pandaset
from tests.data.written.scenery import write_image
from tests.data.written.singles import write_blendedmvs, write_mapfree, write_pointodyssey
from tests.data.written.tartanair2 import write_tartanair2
from tests.data.written.vkitti2 import write_vkitti2

WRITERS = {  # of a root; options
    "argoverse2": (write_argoverse2, {"window": 2, "stride": 2}),
    "pandaset": (write_pandaset, {"window": 3, "test_share": 0.0}),
    "vkitti2": (write_vkitti2, {"window": 3, "test_share": 0.0}),
    "tartanair2": (write_tartanair2, {"window": 3, "test_share": 0.0}),
    "pointodyssey": (write_pointodyssey, {"window": 3}),
    "blendedmvs": (write_blendedmvs, {"window": 2}),
    "mapfree": (write_mapfree, {"window": 8}),
    "co3d": (write_co3d, {"window": 3}),
    "mvimgnet": (write_mvimgnet, {"window": 8, "test_share": 0.0}),
}


def load(name, root, split="train", **options):
    return [loader() for _, loader in make_source(name, str(root), {**WRITERS[name][1], **options}).scenes(split)]


def assert_points_are_where_they_were_written(scenes, written, tolerance=1e-6):
    """Every frame sees the writer's points at the writer's pixels. Returns how many frames were looked at."""
    looked_at = 0
    for scene in scenes:
        check_scene(scene)
        taken = {(image.camera, image.time): image for image in written.taken if image.sequence in scene.name}
        front = scene.cameras[scene.front_camera]
        assert front.name == written.front and np.array_equal(front.rig_from_camera, np.eye(4))
        first = next(frame for frame in scene.frames if frame.camera == scene.front_camera)
        first = taken[front.name, first.time]
        assert np.abs([frame.world_from_camera[:3, 3] for frame in scene.frames]).max() < 1000  # re-based
        for frame in scene.frames:
            camera = scene.cameras[frame.camera]
            image = taken[camera.name, frame.time]
            points_base = (image.points - first.position) @ first.axes
            base_from_camera = frame.world_from_camera
            points_camera = (points_base - base_from_camera[:3, 3]) @ base_from_camera[:3, :3]
            np.testing.assert_allclose(camera.lens.project(points_camera), image.pixels, atol=tolerance)
            written_place = scene.source_from_world @ base_from_camera[:, 3]
            np.testing.assert_allclose(written_place[:3], image.position, atol=1e-6)
            looked_at += 1
    return looked_at


def assert_rig_is_rigid(scene, step_tolerance):
    """world_from_camera is that of the step's front image times the rig, as far as both were taken at once."""
    fronts = {frame.step: frame for frame in scene.frames if frame.camera == scene.front_camera}
    for frame in scene.frames:
        expected = fronts[frame.step].world_from_camera @ scene.cameras[frame.camera].rig_from_camera
        assert np.abs(frame.world_from_camera[:3, 3] - expected[:3, 3]).max() <= step_tolerance


@pytest.mark.parametrize("name", WRITERS)
def test_points_are_where_they_were_written(name, tmp_path):
    written = WRITERS[name][0](tmp_path)
    scenes = load(name, written.root)
    assert assert_points_are_where_they_were_written(scenes, written) >= 3
    assert not [frame for scene in scenes for frame in scene.left_out]


def test_argoverse2_takes_every_image_at_its_own_time_and_lidar_apart_from_what_moves(tmp_path):
    written = write_argoverse2(tmp_path)
    scenes = load("argoverse2", written.root)
    assert [len({frame.step for frame in scene.frames}) for scene in scenes] == [2, 2]
    assert [camera.name for camera in scenes[0].cameras] == ["ring_front_center", "ring_side_left", "stereo_front_left"]
    assert scenes[0].cameras[0].size == (64, 48) and scenes[0].cameras[0].lens.kind == "pinhole"
    for scene in scenes:
        assert_rig_is_rigid(scene, 10 * 0.03)
        np.testing.assert_allclose(scene.body_from_rig[:3, 3], (1.6, 0.0, 1.4), atol=1e-9)  # on the vehicle
        stereo = [frame.step for frame in scene.frames if scene.cameras[frame.camera].name.startswith("stereo")]
        assert stereo == [0] and not scene.left_out
    front = decode_depth(scenes[0].frames[0].depth)
    assert len(front.depths) == 4 and sorted(front.moving.tolist()) == [False, False, False, True]
    camera = written.taken[0]
    driving = np.array([6014.0, 3001.5, 21.0])  # the point is half a metre from it
    (distance,) = front.depths[front.moving]
    assert abs(distance - np.linalg.norm(driving - camera.position)) < 0.6
    (unannotated, *_) = load("argoverse2", written.root, "test")
    assert decode_depth(unannotated.frames[0].depth).moving is None


def test_argoverse2_counts_images_without_an_image_of_the_front_camera(tmp_path):
    root = write_argoverse2(tmp_path).root
    (log,) = (root / "train").iterdir()
    fronts = sorted((log / "sensors/cameras/ring_front_center").iterdir())
    fronts[2].unlink()
    scenes = load("argoverse2", root, stride=1, window=8)
    assert [(entry.kind, "ring_side_left" in entry.reason) for entry in scenes[0].left_out] == [("unmatched", True)]


def test_argoverse2_without_lidar_has_no_depth(tmp_path):
    root = write_argoverse2(tmp_path).root
    for sweep in root.glob("*/*/sensors/lidar/*"):
        sweep.unlink()
    (scene, _) = load("argoverse2", root)
    assert all(len(decode_depth(frame.depth).depths) == 0 for frame in scene.frames)


def test_pandaset_rig_is_compared_at_one_time_and_cuboids_tell_what_moves(tmp_path):
    written = write_pandaset(tmp_path)
    scene = load("pandaset", written.root, window=8)[0]
    assert [camera.name for camera in scene.cameras] == ["back_camera", "front_camera"]
    (back,) = (camera for camera in scene.cameras if camera.name == "back_camera")
    place = np.array([-1.0 - 1.5, 0.1, 1.5 - 1.6])  # from the front camera's in the vehicle, by CAMERAS
    np.testing.assert_allclose(back.rig_from_camera[:3, 3], [-place[1], -place[2], place[0]], atol=1e-4)
    depth = decode_depth(next(frame for frame in scene.frames if frame.camera == 1).depth)
    nearest = np.linalg.norm(np.array([10.1, -1.5, 1.0]) - [1.5, 0, 1.6])
    assert depth.moving.sum() == 1 and len(depth.moving) == 3
    np.testing.assert_allclose(depth.depths[depth.moving], nearest, rtol=1e-6)


def test_pandaset_places_are_held_out_by_name(tmp_path):
    root = write_pandaset(tmp_path).root
    source = make_source("pandaset", str(root), {"test_share": 0.5})
    assert {source.split_of("001"), source.split_of("002")} == set(source.splits())
    assert make_source("pandaset", str(root), {"test_share": 1.0}).splits() == ("test",)


def test_vkitti2_depth_is_exact_and_pixels_of_what_moves_are_marked(tmp_path):
    scene = load("vkitti2", write_vkitti2(tmp_path).root, variants=("fog",), window=8)[0]
    assert scene.name == "Scene01_fog_00000" and [camera.name for camera in scene.cameras] == ["Camera_0", "Camera_1"]
    np.testing.assert_allclose(scene.cameras[1].rig_from_camera[:3, 3], [0.532725, 0, 0], atol=1e-9)
    assert_rig_is_rigid(scene, 1e-9)
    for frame in scene.frames:
        depth = decode_depth(frame.depth).values
        assert depth[0, 0] == 0  # the sky
        for row, column in ((0, 1), (24, 32), (47, 63)):
            x, y = (column - 31.5) / 72.5, (row - 23.5) / 72.0
            assert abs(depth[row, column] / (12.34 * np.sqrt(1 + x * x + y * y)) - 1) < 5e-4
        mask = decode_mask(frame.mask)
        assert (mask[1:5, 1:5] == MOVING).all() and np.count_nonzero(mask) == 16


def test_vkitti2_without_a_segmentation_a_frame_is_left_out_without_any_nothing_is_marked(tmp_path):
    root = write_vkitti2(tmp_path).root
    segmentations = sorted(root.glob("Scene01/clone/frames/instanceSegmentation/*/*.png"))
    segmentations[0].unlink()
    (scene,) = load("vkitti2", root, variants=("clone",), window=8)
    assert [(entry.kind, entry.frame) for entry in scene.left_out] == [("mask", "Camera_0, rgb_00000.jpg")]
    shutil.rmtree(segmentations[0].parents[1])
    (scene,) = load("vkitti2", root, variants=("clone",), window=8)
    assert len(scene.frames) == 8 and not scene.left_out and {frame.mask for frame in scene.frames} == {b""}


def test_vkitti2_names_renderings_that_there_are_not_and_reads_its_own_files_alone(tmp_path):
    root = write_vkitti2(tmp_path).root
    copied = root / "Scene01/fog/frames/rgb/Camera_0/rgb_00000.jpg"
    copied.with_name("rgb_00000 (1).jpg").write_bytes(copied.read_bytes())
    assert len(load("vkitti2", root, variants=("fog",), window=8)) == 1
    with pytest.raises(BadRecord, match=r"has no renderings \['mist'\]; it has \[.*'fog'.*\]; set variants="):
        load("vkitti2", root, variants=("mist", "fog"))


def test_tartanair2_depth_is_along_the_ray_of_pinholes_and_fisheyes(tmp_path):
    root = write_tartanair2(tmp_path).root
    (scene,) = load("tartanair2", root)
    assert [camera.name for camera in scene.cameras] == ["lcam_front", "lcam_right", "rcam_front", "lcam_fish"]
    assert_rig_is_rigid(scene, 1e-9)
    np.testing.assert_allclose(scene.cameras[2].rig_from_camera[:3, 3], [0.25, 0, 0], atol=1e-9)
    front, _, right, fish = (decode_depth(frame.depth) for frame in scene.frames[:4])
    assert front.values[0, 0] == front.values[0, 1] == 0 and len(right.depths) == 0
    x, y = (639.5 - 320) / 320, (100.5 - 320) / 320
    assert abs(front.values[100, 639] / (7.25 * np.sqrt(1 + x * x + y * y)) - 1) < 5e-4
    assert scene.cameras[3].lens.wide and fish.values[50, 3] == 7.25
    mask = decode_mask(scene.frames[3].mask)
    assert mask[0, 0] == OUTSIDE and mask[50, 0] == mask[50, 50] == 0 and scene.frames[0].mask == b""
    (note,) = make_source("tartanair2", str(root)).notes()
    assert "images of lcam_equirect are of no lens that is read" in note


def test_tartanair2_first_image_of_a_fisheye_costs_its_frame_alone(tmp_path):
    root = write_tartanair2(tmp_path).root
    (first,) = root.glob("*/*/*/image_lcam_fish/000000_lcam_fish.png")
    first.write_bytes(b"")
    (scene,) = load("tartanair2", root)
    assert len(scene.frames) == 7 and scene.cameras[3].size == (100, 100)
    assert [entry.frame for entry in scene.left_out] == ["lcam_fish, 000000_lcam_fish.png"]
    first.with_name("000001_lcam_fish.png").write_bytes(b"")
    with pytest.raises(BadRecord, match="image_lcam_fish: no image can be used: .*000001_lcam_fish.png"):
        load("tartanair2", root)


@pytest.mark.parametrize("name", ["argoverse2", "pandaset", "tartanair2"])
def test_cameras_to_keep_are_checked(name, tmp_path):
    front = {"argoverse2": "ring_front_center", "pandaset": "front_camera", "tartanair2": "lcam_front"}[name]
    with pytest.raises(ValueError, match="must hold each camera once"):
        make_source(name, "", {"cameras": (front, front)})
    with pytest.raises(ValueError, match=f"must hold the front camera '{front}'; add it or set front="):
        make_source(name, "", {"cameras": ("lcam_back",)})
    root = WRITERS[name][0](tmp_path).root
    with pytest.raises(BadRecord, match=r"has no images or calibration of \['rcam_top'\]; it has those of .*front="):
        load(name, root, cameras=(front, "rcam_top"))


def test_pointodyssey_depth_has_a_range(tmp_path):
    root = write_pointodyssey(tmp_path).root
    assert make_source("pointodyssey", str(root)).splits() == ("train", "val")
    depth = decode_depth(load("pointodyssey", root)[0].frames[0].depth).values
    assert depth[0, 0] == depth[0, 1] == 0
    x, y = (10.5 - 32) / 70, (40.5 - 24) / 71
    assert abs(depth[40, 10] / (5 * np.sqrt(1 + x * x + y * y)) - 1) < 2e-3  # 15 mm are one of 65535


def test_blendedmvs_maps_lie_upside_down_and_lists_make_the_splits(tmp_path):
    root = write_blendedmvs(tmp_path).root
    source = make_source("blendedmvs", str(root))
    assert source.splits() == ("train", "validation")
    (note,) = source.notes()
    assert "1 places are in no list and not read, such as 5b21e18c58e2823a67a10dd8" in note
    depth = decode_depth(load("blendedmvs", root)[0].frames[0].depth).values
    for row, metres in ((0, 7.5), (46, 7.5), (47, 2.5)):
        x, y = (63.5 - 32.1) / 70, (row + 0.5 - 24.2) / 71
        assert abs(depth[row, 63] / (metres * np.sqrt(1 + x * x + y * y)) - 1) < 5e-4
    assert depth[0, 0] == 0
    for file in root.glob("*.txt"):
        file.unlink()
    assert make_source("blendedmvs", str(root), {"test_share": 0.2}).splits() == ("train", "test")
    assert make_source("blendedmvs", str(root), {"test_share": 1.0}).splits() == ("test",)


def test_mapfree_images_of_other_focal_lengths_are_brought_to_the_camera(tmp_path):
    written = write_mapfree(tmp_path)
    source = make_source("mapfree", str(written.root))
    assert source.notes() == [f"{written.root}: the 1 places of test have no poses and are not read"]
    assert [name for name, _ in source.scenes("val")] == ["s00460_00000"]  # the one image, and the other scan
    scene = load("mapfree", written.root)[0]
    as_they_are = [(written.root / f"train/s00000/seq0/frame_{i:05d}.jpg").read_bytes() for i in range(5)]
    assert [frame.image == image for frame, image in zip(scene.frames, as_they_are, strict=True)] == [True] * 4 + [
        False
    ]
    before, after = decode_image(as_they_are[4]), decode_image(scene.frames[4].image)
    # The gradient along a row is one grey level per pixel: lines through the rows' means, little moved by JPEG's noise.
    # Columns of the camera's lie 1.05 times as far from the centre in the image.
    centres = np.arange(8, 56) + 0.5
    fit, fit_before = (np.polyfit(centres, image[10:38, 8:56, 2].mean(axis=0), 1) for image in (after, before))
    columns = np.array([5.5, 60.5])
    in_image = 31.5 + (columns - 31.5) * 73.5 / 70
    assert (np.abs(in_image - columns) > 1.2).all()
    np.testing.assert_allclose(np.polyval(fit, columns), np.polyval(fit_before, in_image), atol=0.3)
    mask = decode_mask(scene.frames[4].mask)
    assert (mask[24, [0, 63]] == OUTSIDE).all() and (mask[5:40, 10:50] == 0).all()  # at -1.05 and 65.1 of 0 to 64


def test_co3d_has_two_conventions_and_depth_with_factor_and_mask(tmp_path):
    written = write_co3d(tmp_path)
    assert make_source("co3d", str(tmp_path)).splits() == ("train", "test")
    assert assert_points_are_where_they_were_written(load("co3d", tmp_path, "test"), written) == 3  # ndc_isotropic
    depth = decode_depth(load("co3d", tmp_path)[0].frames[0].depth).values
    assert depth[0, 0] == depth[1, 1] == 0
    x, y = (9.5 - 33) / 70, (39.5 - 22) / 72
    assert abs(depth[39, 9] / (3 * np.sqrt(1 + x * x + y * y)) - 1) < 5e-4
    with pytest.raises(BadRecord, match="set_lists_manyview_dev_0.json: does not exist; set set_list= .*fewview_dev"):
        load("co3d", tmp_path, set_list="manyview_dev_0")
    with pytest.raises(BadRecord, match=r"has no \['pear'\]; it has \['apple'\]; set categories="):
        load("co3d", tmp_path, categories=("pear",))


def test_a_bad_row_of_poses_costs_its_frame(tmp_path):
    root = write_vkitti2(tmp_path).root
    table = root / "Scene01/clone/extrinsic.txt"
    lines = table.read_text().splitlines()
    lines[3] = lines[3].removesuffix("1") + "2"
    table.write_text("\n".join(lines))
    (scene,) = load("vkitti2", root, variants=("clone",), window=8)
    assert len(scene.frames) == 7
    (entry,) = scene.left_out
    assert entry.kind == "pose" and "has no row of frame 1 and Camera_0 (1 rows of it do not read" in entry.reason
    assert "extrinsic.txt, line 4 = " in entry.reason


def test_co3d_frames_that_are_nowhere_or_lack_fields_are_left_out(tmp_path):
    write_co3d(tmp_path)
    file = tmp_path / "apple/frame_annotations.jgz"
    frames = json.loads(gzip.decompress(file.read_bytes()))
    frames[0]["viewpoint"]["T"] = [1e7, 0, 0]
    frames[1]["viewpoint"]["intrinsics_format"] = "pixels"
    frames[2]["depth"]["scale_adjustment"] = None
    file.write_bytes(gzip.compress(json.dumps(frames).encode()))
    (scene,) = load("co3d", tmp_path, window=8)
    assert len(scene.frames) == 1
    for words, entry in zip(("is no place", "'pixels' must be one of", "lacks path or"), scene.left_out, strict=True):
        assert words in entry.reason


@pytest.mark.parametrize("name", ["argoverse2", "tartanair2"])
def test_front_camera_without_images_is_named(name, tmp_path):
    root, front = WRITERS[name][0](tmp_path).root, {"argoverse2": "ring_rear_left", "tartanair2": "lcam_top"}[name]
    with pytest.raises(BadRecord, match=f"has no images of the front camera {front}; .*set front="):
        load(name, root, front=front)


def test_mvimgnet_points_of_small_errors_and_enough_images_are_depth(tmp_path):
    written = write_mvimgnet(tmp_path)
    write_image(tmp_path / "0/0f01c3e5/images/005.jpg", (48, 64))  # that COLMAP could not place
    (scene,) = load("mvimgnet", written.root)
    assert scene.cameras[0].lens.kind == "brown" and len(scene.frames) == 4
    assert [(entry.frame, entry.kind) for entry in scene.left_out] == [("005.jpg", UNMATCHED)]
    for frame, image in zip(scene.frames, written.taken, strict=True):
        depth = decode_depth(frame.depth)
        order = np.argsort(depth.depths)[::-1]
        np.testing.assert_allclose(depth.pixels[order], image.pixels[:2], atol=1e-4)
        np.testing.assert_allclose(
            depth.depths[order], np.linalg.norm(image.points[:2] - image.position, axis=1), rtol=1e-6
        )
