"""`rig3r example-rig`: a folder that build-data reads as it was rendered."""

import json

import numpy as np
import pytest

from rig3r_jax.cli.program import main
from rig3r_jax.data.frame_bytes import MOVING, decode_depth, decode_mask
from rig3r_jax.data.scene_rules import check_scene
from rig3r_jax.data.sources import make_source

ARGUMENTS = ["--drives", "1", "--cameras", "2", "--steps", "2", "--image-size", "64", "--seed", "3"]


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    folder = tmp_path_factory.mktemp("example") / "my_rig"
    assert main(["example-rig", str(folder), *ARGUMENTS]) == 0
    return folder


def test_the_folder_holds_the_worlds_that_were_rendered(example):
    source = make_source("folder", str(example), {"fractions": [1, 0, 0]})
    ((_, load),) = source.scenes("train")
    scene = load()
    check_scene(scene)
    options = {"train_worlds": 1, "min_cameras": 2, "max_cameras": 2, "fixed_rigs": 1}
    worlds = make_source("procedural", "", options | {"steps": 2, "image_size": 64, "seed": 3})
    truth = worlds.scenes("train")[0][1]()
    base_from_world = np.linalg.inv(truth.frames[0].world_from_camera)
    names = {camera.name: camera for camera in truth.cameras}
    assert len(scene.frames) == len(truth.frames) == 4
    for camera in scene.cameras:
        np.testing.assert_allclose(camera.rig_from_camera, names[camera.name].rig_from_camera, atol=1e-12)
        np.testing.assert_array_equal(camera.lens.intrinsics, names[camera.name].lens.intrinsics)
    for frame in scene.frames:
        name = scene.cameras[frame.camera].name
        (true,) = (f for f in truth.frames if f.step == frame.step and truth.cameras[f.camera].name == name)
        assert frame.image == true.image and frame.time == true.time
        np.testing.assert_allclose(frame.world_from_camera, base_from_world @ true.world_from_camera, atol=1e-9)
        depth, rendered = (decode_depth(data.depth).values.astype(float) for data in (frame, true))
        known = depth > 0
        assert np.abs(depth - rendered)[known].max() < 0.002  # millimetres along the axis
        assert (rendered[~known & (rendered > 0)] > 60).all()  # 16 bits end at 65 m
        moving = (decode_mask(frame.mask) == MOVING) if frame.mask else np.zeros(depth.shape, bool)
        assert moving.mean() < 0.2


def test_a_folder_with_something_in_it_is_left_alone(example, capsys):
    before = sorted(example.rglob("*"))
    assert main(["example-rig", str(example), *ARGUMENTS]) == 2
    assert "exists and is not empty; give a new folder" in capsys.readouterr().err
    assert sorted(example.rglob("*")) == before
    assert json.loads((example / "drive_00/rig_config.json").read_text())[0]["cameras"][0]["ref_sensor"]


def test_fisheyes_have_distances_along_rays(tmp_path, capsys):
    assert main(["example-rig", str(tmp_path / "wide"), *ARGUMENTS, "--lenses", "fisheye"]) == 0
    told = capsys.readouterr().out
    assert "distances along rays" in told and told.strip().endswith("wide_records depth_kind=ray")
    ((_, load),) = make_source("folder", str(tmp_path / "wide"), {"fractions": [1, 0, 0], "depth_kind": "ray"}).scenes(
        "train"
    )
    scene = load()
    check_scene(scene)
    options = {"train_worlds": 1, "min_cameras": 2, "max_cameras": 2, "fixed_rigs": 1, "lenses": "fisheye"}
    worlds = make_source("procedural", "", options | {"steps": 2, "image_size": 64, "seed": 3})
    truth = worlds.scenes("train")[0][1]()
    names = [camera.name for camera in truth.cameras]
    assert {camera.lens.kind for camera in scene.cameras} == {"fisheye"} and len(scene.frames) == 4
    for frame in scene.frames:
        camera = names.index(scene.cameras[frame.camera].name)
        (true,) = (other for other in truth.frames if (other.step, other.camera) == (frame.step, camera))
        depth, rendered = (decode_depth(data.depth).values.astype(float) for data in (frame, true))
        known = depth > 0
        assert known.mean() > 0.1 and np.abs(depth - rendered)[known].max() < 0.001
        assert (rendered[~known & (rendered > 0)] > 65).all()


REFUSED = [
    (["--cameras", "9"], "max_cameras=9"),
    (["--drives", "0"], "--drives is 0"),
    (["--lenses", "mirror"], "lenses='mirror' must be one of pinhole, fisheye"),
]


@pytest.mark.parametrize("words, message", REFUSED)
def test_numbers_that_cannot_be_are_refused(tmp_path, capsys, words, message):
    assert main(["example-rig", str(tmp_path / "out"), *words]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
