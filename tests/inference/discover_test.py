"""`rig3r discover` and `discover_rig`, through a model that knows the truth."""

import dataclasses
import json
import os
import xml.etree.ElementTree

import numpy as np
import pytest
from scipy.spatial.distance import pdist

from rig3r_jax import cli
from rig3r_jax.evaluation.pose import rotation_angle_deg
from rig3r_jax.evaluation.rig import rig_id_accuracy
from rig3r_jax.formats.calibration import CalibratedCamera, RigCalibration
from rig3r_jax.formats.cameras_json import read_cameras
from rig3r_jax.formats.rig_config import read_rig_config, write_rig_config
from rig3r_jax.geometry import rigid
from rig3r_jax.geometry.camera import Brown
from rig3r_jax.geometry.rig_discovery import discover_rig
from rig3r_jax.inference.api import LoadedModel
from rig3r_jax.inference.inputs import InputOptions, read_inputs
from rig3r_jax.inference.models import open as models
from rig3r_jax.inference.photographs import find_photographs
from rig3r_jax.inference.rig import camera_names
from tests.inference.truth import LENSES, PLACES, RIG, SIZES, Z_BAR, drive, transform, write_rig_images

STEPS = 4


@pytest.fixture
def shots(tmp_path, monkeypatch):
    """(folder of images, photographs, a model that knows them)."""
    folder = write_rig_images(tmp_path / "shots", STEPS)
    _, photographs = find_photographs([folder])
    _, truth = drive(photographs)
    monkeypatch.setattr(models, "open_model", lambda path: truth)
    return folder, photographs, truth


def test_unordered_images_become_a_rig_for_colmap(shots, tmp_path, capsys):
    folder, photographs, _ = shots
    assert cli.main(["discover", str(folder), "--model=run", f"--out={tmp_path}/out", "--flat"]) == 0
    printed = capsys.readouterr().out
    assert "12 images of 3 cameras, over 99.9% sure" in printed and "| camera0 " in printed
    (rig,) = read_rig_config(tmp_path / "out" / "rig_config.json")
    first = photographs[0].camera
    true = {name: np.linalg.inv(PLACES[first]) @ PLACES[name] for name in SIZES}
    for camera, name in zip(rig.cameras, dict.fromkeys(one.camera for one in photographs), strict=True):
        # Lenses are not known: what is off their middle turns the cameras.
        assert rotation_angle_deg(camera.rig_from_camera[None, :3, :3], true[name][None, :3, :3])[0] < 2.5
        np.testing.assert_allclose(Z_BAR * camera.rig_from_camera[:3, 3], true[name][:3, 3], atol=1e-3)
    cameras = read_cameras(tmp_path / "out" / "cameras.json")
    assert {camera.source for camera in cameras.cameras} == {"discovered"}
    assert min(camera.certainty for camera in cameras.cameras) > 0.99
    camera = np.array([image.camera for image in cameras.images])
    assert rig_id_accuracy(camera, np.array([list(SIZES).index(one.camera) for one in photographs])) == 1.0
    xml.etree.ElementTree.parse(tmp_path / "out" / "rig.svg")
    again, linked = find_photographs([tmp_path / "out" / "images"])
    assert len({one.camera for one in linked}) == 3 and len({one.step for one in linked}) == STEPS
    together = {}
    for one in linked:
        together.setdefault(one.step, set()).add(os.path.basename(os.path.realpath(again / one.name)))
    assert all(len(names) == 1 for names in together.values())  # images of a step have one name


def test_python_finds_the_same_with_cameras_known_in_part(shots):
    folder, photographs, truth = shots
    paths = [photograph.path for photograph in photographs]
    cameras = [photograph.camera if photograph.step == 0 else None for photograph in photographs]
    discovery = LoadedModel(truth).discover_rig(paths, cameras=cameras)
    assert set(discovery.names) == set(SIZES)
    assert [discovery.names[number] for number in discovery.rig.camera] == [
        photograph.camera for photograph in photographs
    ]
    steps = np.array([photograph.step for photograph in photographs])
    assert rig_id_accuracy(discovery.rig.step, steps) == 1.0
    half = np.arange(len(steps)) < 6  # their steps are not known: each has a number of its own
    numbers = [name.rpartition("/")[2] for name in _linked(discovery).values()]
    partly = [name.rpartition("/")[2] for name in _linked(discovery, np.where(half, -1, discovery.rig.step)).values()]
    assert partly[6:] == numbers[6:] and len({*partly[:6]} - {*numbers}) == 6
    with pytest.raises(ValueError, match="name '../../up/.* is no plain relative path"):
        _linked(dataclasses.replace(discovery, names=("../../up", *discovery.names[1:])))
    truth.passes = 0  # its unit is another in every pass
    refined = LoadedModel(truth).discover_rig(paths, cameras=cameras, refine=True)
    for one, other in zip(refined.reconstruction.cameras, discovery.reconstruction.cameras, strict=True):
        np.testing.assert_allclose(one.rig_from_camera, other.rig_from_camera, atol=1e-3)


def test_names_stay_with_their_cameras():
    places = np.tile(np.eye(4), (8, 1, 1))
    places[:, 0, 3] = [0, 0, np.nan, np.nan, 1, 1, 3, 3]
    camera = np.array([0, 0, 1, 1, 2, 2, -1, -1])  # nothing is seen of the second, and one more is there
    rig = discover_rig(places, camera=camera)
    assert camera_names(rig, {0: "camera2", 1: "left", 2: "right"}, camera) == ("camera2", "right", "camera3")
    assert rig.camera.tolist() == [0, 0, -1, -1, 1, 1, 2, 2]


def _linked(discovery, step=None):
    step = discovery.rig.step if step is None else step
    return dataclasses.replace(discovery, rig=dataclasses.replace(discovery.rig, step=step))._link_names()


def test_a_moved_camera_is_named(shots, tmp_path, capsys):
    folder, _, _ = shots
    places = {**PLACES, "left": PLACES["left"] @ transform(2, 0, 0, 0) @ np.linalg.inv(transform(0, 0, 0, 0))}
    lenses = {**LENSES, "left": Brown(LENSES["left"].intrinsics, LENSES["left"].distortion * [1, 1, 1, 1, 0])}
    cameras = (CalibratedCamera(name, lenses[name], None, places[name]) for name in SIZES)
    calibration = RigCalibration(tuple(cameras), "front")
    write_rig_config(tmp_path / "rig.json", calibration)
    words = ["discover", str(folder), "--model=run", f"--check={tmp_path}/rig.json"]
    assert cli.main([*words, f"--out={tmp_path}/out"]) == 0
    printed = capsys.readouterr().out
    assert "left moved: turned by 2 " in printed and "back moved" not in printed
    assert cli.main([*words, f"--out={tmp_path}/out2", "--flat"]) == 2
    assert "which --flat ignores" in capsys.readouterr().err
    assert cli.main(["discover", str(folder), "--model=run", f"--out={tmp_path}/out"]) == 2
    assert "exists already" in capsys.readouterr().err


def test_calibrated_cameras_are_held_and_the_others_follow_in_metres(shots, tmp_path, capsys):
    folder, _, _ = shots
    cameras = (CalibratedCamera(name, LENSES[name], None, PLACES[name]) for name in ("front", "left"))
    write_rig_config(tmp_path / "rig.json", RigCalibration(tuple(cameras), "front"))
    words = ["discover", str(folder), "--model=run", f"--rig={tmp_path}/rig.json", "--refine"]
    assert cli.main([*words, f"--out={tmp_path}/out"]) == 0
    assert "held where the calibration has them" in capsys.readouterr().out
    by_name = {camera.name: camera for camera in read_cameras(tmp_path / "out" / "cameras.json").cameras}
    for name, source in {"front": "given", "left": "given", "back": "discovered"}.items():
        assert by_name[name].source == source
        np.testing.assert_allclose(by_name[name].rig_from_camera[:3, 3], PLACES[name][:3, 3], atol=0.05)
    for name in ("front", "left"):
        np.testing.assert_allclose(by_name[name].rig_from_camera, PLACES[name], atol=1e-9)
    refined = json.loads((tmp_path / "out" / "rig_refined.json").read_text())
    assert refined["unit"] == "m" and len(refined["steps"]) == STEPS
    assert not np.any([one["covariance"] for one in refined["cameras"] if one["name"] in ("front", "left")])
    for extra, words_of in {f"--check={tmp_path}/rig.json": "--rig holds places", "--flat": "which --flat"}.items():
        assert cli.main([*words, f"--out={tmp_path}/out2", extra]) == 2
        assert words_of in capsys.readouterr().err


def test_two_calibrated_places_give_metres_and_one_in_the_origin_does_not(shots):
    _, photographs, truth = shots
    paths, cameras = zip(*((photograph.path, photograph.camera) for photograph in photographs), strict=True)
    rig = RigCalibration(tuple(camera for camera in RIG.cameras if camera.name != "back"), RIG.frame)
    discovery = LoadedModel(truth).discover_rig(paths, cameras=cameras, rig=rig)
    result = discovery.reconstruction
    assert (discovery.unit, result.length_unit, result.scale.source) == ("m", "metre", "rig baselines")
    places = {camera.name: camera.rig_from_camera[:3, 3] for camera in result.cameras}
    np.testing.assert_allclose(places["back"], PLACES["back"][:3, 3], atol=0.05)
    centers = np.stack([image.world_from_camera[:3, 3] for image in result.images])
    true, _ = drive(photographs)
    np.testing.assert_allclose(pdist(centers), pdist(true[:, :3, 3]), rtol=0.01, atol=1e-3)
    truth.passes = 0
    one = LoadedModel(truth).discover_rig(paths, cameras=cameras, rig={"front": np.eye(4)})
    assert one.unit == "units" and " units and " in one.verdict[0] and one.reconstruction.length_unit == "scene"


def through_rays(lens, place):
    """A camera's place by its rays in the rig, in float32."""
    u, v = np.meshgrid(*(np.linspace(0.25, 1.75, 8) * middle for middle in lens.intrinsics[:2, 2]))
    rays = lens.rays(np.stack([u, v], axis=-1)).reshape(-1, 3)
    rays_rig = (rays @ place[:3, :3].T).astype(np.float32)
    return rigid.from_rotation_translation(rigid.nearest_rotation(rays_rig.T @ rays), place[:3, 3].astype(np.float32))


@pytest.mark.parametrize(
    ("source", "folder", "count"), [("nuscenes", "nuscenes_sample", 6), ("hilti", "hilti_exp4_rig", 5)]
)
def test_real_rigs_are_found_from_their_own_rays(shared, tmp_path, source, folder, count):
    pytest.importorskip("yaml")
    inputs = read_inputs(InputOptions([str(shared / "realdata" / folder)], source=source), tmp_path)
    lenses = {one.camera: inputs.known.lenses[one.name].lens for one in inputs.photographs}
    cameras = inputs.known.rig.cameras
    places = np.stack([through_rays(lenses[camera.name], camera.rig_from_camera) for camera in cameras])
    camera, step = np.tile(np.arange(count), 3), np.repeat(np.arange(3), count)
    world_from_rig = np.stack([transform(10 * number, 0.2 * number, 0, number) for number in range(3)])
    rig = discover_rig(places[camera], world_from_camera=world_from_rig[step] @ places[camera])
    assert len(places) == len(rig.rig_from_camera) == count
    np.testing.assert_array_equal(rig.camera, camera)
    np.testing.assert_array_equal(rig.step, step)
