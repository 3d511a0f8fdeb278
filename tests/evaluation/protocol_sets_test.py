"""Protocols of public data sets, each by its recipe from a drive in the data set's own files."""

import pytest

from rig3r_jax import cli
from rig3r_jax.data.sources import make_source
from rig3r_jax.evaluation.protocol import read_protocol
from rig3r_jax.evaluation.protocol_recipes import RECIPES
from rig3r_jax.formats.cameras_json import read_cameras
from tests.data import waymo_drive
from tests.data.kitti_drives import write_360
from tests.data.nuscenes_drive import write_nuscenes
from tests.data.recordings import copy_rig
from tests.data.written import argoverse2 as argoverse2_log

AV2_VAL = "02678d04-cc9f-3148-9f95-1ba66347dff9"  # a log of the devkit's split val
DRAWS = ["--views", "4", "--min-cameras", "2", "--max-cameras", "2", "--samples", "2", "--min-seconds", "0.05"]


def nuscenes(folder, _):
    """scene-0003 is of val, by the devkit's list; the others are of train."""
    scenes = ("scene-0001", "scene-0003", "scene-0002", "scene-0012")
    write_nuscenes(folder, "v1.0-trainval", scenes, keys=6, vehicles=("n008", "n008", "n015", "n020"))


def waymo(folder, _):
    for split in ("training", "validation"):
        waymo_drive.write_v2(folder / split, frames=4, lidar=False)


def waymo_v1(folder, _):
    waymo_drive.write_v1(folder / "validation", frames=4, lidar=False)


def argoverse2(folder, _):
    for log in ("train/00a6ffc1-6ce9-3bc3-a060-6006e9893a1a", f"val/{AV2_VAL}"):
        argoverse2_log.write_log(folder / log, [])


def kitti360(folder, _):
    for drive in ("2013_05_28_drive_0000_sync", "2013_05_28_drive_0010_sync"):
        write_360(folder, drive, frames=range(6), unposed=())


def ddad(folder, shared):
    copy_rig(shared, folder)


# name: recipe, writer, words of the command, scenes of the protocol, its cameras
SETS = {
    "nuscenes": ("nuscenes_val", nuscenes, ["--max-seconds", "1"], ["scene-0003", "scene-0012"], "CAM_FRONT"),
    "waymo": ("waymo_val", waymo, ["--max-seconds", "0.2"], [waymo_drive.NAME], "FRONT"),
    "waymo version 1": ("waymo_val", waymo_v1, ["--max-seconds", "0.2"], [waymo_drive.NAME], "FRONT"),
    "argoverse2": (
        "argoverse2_val",
        argoverse2,
        ["cameras=ring_front_center,ring_side_left", "stride=1", "--max-seconds", "0.1"],
        [f"{AV2_VAL}_00000"],
        "ring_front_center",
    ),
    "kitti360": (
        "kitti360_val",
        kitti360,
        ["--max-seconds", "0.3"],
        ["2013_05_28_drive_0010_sync_0000000000"],
        "image_00",
    ),
    "ddad": ("ddad_val", ddad, ["--max-seconds", "1"], ["scene_01", "scene_02"], "CAMERA_01"),
}


@pytest.mark.parametrize("name", SETS)
def test_a_recipe_makes_the_protocol_of_its_split(name, shared, tmp_path, capsys):
    recipe, write, words, scenes, front = SETS[name]
    write(tmp_path / "data", shared)
    root = ["--root", str(tmp_path / "data")]
    made = ["make-protocol", recipe, *words, *DRAWS, *root]
    assert cli.main([*made, "--out", str(tmp_path / f"{recipe}.json")]) == 0
    printed = capsys.readouterr().out
    if (expected := RECIPES[recipe].scenes) is not None:
        assert f"val has {expected} scenes ({RECIPES[recipe].counted_in}), " in printed
    protocol = read_protocol(tmp_path / f"{recipe}.json")
    assert protocol.split == "val" and protocol.source == RECIPES[recipe].source
    assert [(one.scene, one.number) for one in protocol.samples] == [(s, n) for s in scenes for n in (0, 1)]
    loaders = dict(make_source(protocol.source, root[1], protocol.options).scenes("val"))
    for sample in protocol.samples:
        assert front in sample.cameras and len(sample.cameras) == 2 and len(set(sample.images)) == 4
        scene = loaders[sample.scene]()
        times = {(scene.cameras[frame.camera].name, frame.step): frame.time for frame in scene.frames}
        for camera, step, since in sample.frames:
            assert times[camera, step] == pytest.approx(sample.start + since, abs=1e-4)
    assert cli.main(["protocol-data", str(tmp_path / f"{recipe}.json"), *root, "--out", str(tmp_path / "out")]) == 0
    for sample in protocol.samples:
        rig = read_cameras(tmp_path / "out/told" / sample.name / "rig.json").cameras
        cameras = {camera.name: camera for camera in loaders[sample.scene]().cameras}
        assert all((camera.rig_from_camera == cameras[camera.name].rig_from_camera).all() for camera in rig)
        assert all(camera.lens.kind == cameras[camera.name].lens.kind for camera in rig)
    assert cli.main(["validate", str(tmp_path / "out/truth"), "--protocol", str(tmp_path / f"{recipe}.json")]) == 0


# what takes rigs apart: the table of logs, the key of the calibration, what it holds
@pytest.mark.parametrize("name", ["waymo", "argoverse2", "kitti360", "ddad"])
def test_a_rig_of_the_training_is_not_unseen(name, shared, tmp_path, capsys):
    recipe, write, words, *_ = SETS[name]
    write(tmp_path / "data", shared)
    made = ["make-protocol", recipe, *words, *DRAWS, "--root", str(tmp_path / "data"), "--unseen-in", "train"]
    assert cli.main([*made, "--out", str(tmp_path / "none.json")]) == 2
    said = capsys.readouterr().err
    assert " scenes has a sample; the first: " in said and "its rig " in said and " is one of the " in said


def test_other_calibrations_are_other_rigs(tmp_path, monkeypatch):
    """Of data sets that name no vehicle."""
    waymo(tmp_path / "waymo", None)
    argoverse2(tmp_path / "av2", None)
    monkeypatch.setattr(waymo_drive, "INTRINSIC", [301.0, *waymo_drive.INTRINSIC[1:]])
    monkeypatch.setitem(argoverse2_log.CAMERAS, "ring_side_left", (1.71, *argoverse2_log.CAMERAS["ring_side_left"][1:]))
    waymo_drive.write_v1(tmp_path / "waymo/testing", frames=1, lidar=False)
    argoverse2_log.write_log(tmp_path / "av2/test" / AV2_VAL, [])
    for source in (make_source("waymo", str(tmp_path / "waymo")), make_source("argoverse2", str(tmp_path / "av2"))):
        rigs = {split: source.rigs(split) for split in ("train", "val", "test")}
        assert all(len(named) == 1 for named in rigs.values())
        (train,), (val,), (test,) = (named.values() for named in rigs.values())
        assert train == val != test


def test_vehicles_that_the_training_has_not_seen(tmp_path, capsys):
    nuscenes(tmp_path / "data", None)
    source = make_source("nuscenes", str(tmp_path / "data"))
    assert source.rigs("val") == {"scene-0003": "n008", "scene-0012": "n020"}
    made = ["make-protocol", "nuscenes_val", "--root", str(tmp_path / "data"), "--max-seconds", "1", *DRAWS]
    made += ["--min-seconds", "0.5"]
    assert cli.main([*made, "--unseen-in", "train", "--out", str(tmp_path / "unseen.json")]) == 0
    protocol = read_protocol(tmp_path / "unseen.json")
    assert {sample.scene for sample in protocol.samples} == {"scene-0012"} and protocol.rules.unseen_in == "train"
    assert protocol.left_out == {"scene-0003": "scene scene-0003: its rig n008 is one of the 2 of train"}
    (tmp_path / "data/v1.0-trainval/log.json").unlink()
    assert cli.main([*made, "--unseen-in", "train", "--out", str(tmp_path / "again.json")]) == 2
    assert "does not tell the rigs of val and train apart" in capsys.readouterr().err
