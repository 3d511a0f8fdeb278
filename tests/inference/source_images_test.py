"""Scenes of data sets as inputs: their images as they are, with the rig, lenses, times and masks that sets state."""

import io
import json

import cv2
import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

from rig3r_jax.data.frame_bytes import encode_mask
from rig3r_jax.formats.cameras_json import read_cameras, write_cameras
from rig3r_jax.geometry import rigid
from rig3r_jax.inference.inputs import InputOptions, read_inputs
from rig3r_jax.inference.masks import read_mask
from rig3r_jax.inference.photographs import read_upright
from rig3r_jax.inference.source_images import _as_stored, _black_outside


def read(out, source, *words, **options):
    return read_inputs(InputOptions([str(word) for word in words], source=source, **options), out)


def test_nuscenes_comes_as_its_tables_say(shared, tmp_path):
    root = shared / "realdata/nuscenes_sample"
    inputs = read(tmp_path, "nuscenes", root, given=("poses",))
    tables = {name: json.loads((root / f"v1.0-test/{name}.json").read_text()) for name in (
        "sample_data", "calibrated_sensor", "ego_pose", "sensor")}  # fmt: skip
    by_token = {row["token"]: row for rows in tables.values() for row in rows}
    assert len(inputs.photographs) == 6 and inputs.known.pose_unit == "metre"
    truth, places = {}, {}
    for row in tables["sample_data"]:
        calibrated, ego = by_token[row["calibrated_sensor_token"]], by_token[row["ego_pose_token"]]
        name = by_token[calibrated["sensor_token"]]["channel"]
        if not name.startswith("CAM"):
            continue
        (one,) = (one for one in inputs.photographs if one.camera == name)
        assert one.path.read_bytes() == (root / row["filename"]).read_bytes()
        intrinsics = np.array(calibrated["camera_intrinsic"])
        intrinsics[:2, 2] += 0.5  # nuScenes has the first pixel's centre at 0
        np.testing.assert_array_equal(inputs.known.lenses[one.name].lens.intrinsics, intrinsics)
        places[name] = matrix(calibrated)
        truth[name] = matrix(ego) @ places[name]
    for one in inputs.photographs:
        stated = inputs.known.world_from_camera["CAM_FRONT/000000.jpg"]
        relative = rigid.invert(stated) @ inputs.known.world_from_camera[one.name]
        np.testing.assert_allclose(relative, rigid.invert(truth["CAM_FRONT"]) @ truth[one.camera], atol=1e-9)
        in_rig = rigid.invert(places["CAM_FRONT"]) @ places[one.camera]
        np.testing.assert_allclose(inputs.known.rig.named(one.camera).rig_from_camera, in_rig, atol=1e-9)
    write_cameras(tmp_path / "truth.json", inputs.truth)
    assert read_cameras(tmp_path / "truth.json").image_folder == "images"


def matrix(row):
    w, x, y, z = row["rotation"]
    return rigid.from_rotation_translation(Rotation.from_quat([x, y, z, w]).as_matrix(), np.array(row["translation"]))


def test_the_fisheye_rig_of_hilti_comes_whole(shared, tmp_path):
    pytest.importorskip("yaml")
    root = shared / "realdata/hilti_exp4_rig"
    inputs = read(tmp_path, "hilti", root)
    assert len(inputs.photographs) == 16 and len(inputs.known.rig.cameras) == 5  # three rig frames and one image
    assert {camera.lens.kind for camera in inputs.known.lenses.values()} == {"fisheye"}
    assert inputs.known.world_from_camera == {} and len(inputs.truth.images) == 16
    for number, one in enumerate(inputs.photographs):
        assert one.path.read_bytes() == (root / f"images/{number}.jpg").read_bytes()
    assert "poses are compared with, not given (--given poses)" in inputs.notes


def test_a_colmap_model_has_no_unit(shared, tmp_path):
    pytest.importorskip("pycolmap")
    root = shared / "realdata/colmap_lund_door"
    inputs = read(tmp_path, "colmap", root, given=("poses",))
    assert len(inputs.photographs) == 12 and inputs.known.pose_unit == "scene" and inputs.known.rig is None
    assert inputs.known.times == {} and set(inputs.sizes.values()) == {(1936, 1296)}
    assert inputs.known.lenses["camera/000000.jpg"].lens.to_numbers()["fx"] == pytest.approx(2435.38, abs=0.01)


def test_metres_give_a_model_its_unit(tmp_path):
    pixels = Image.fromarray(np.zeros((8, 16, 3), np.uint8))
    poses = [np.eye(4), np.eye(4)]
    poses[1][:3, 3] = 1, 2, 3
    frames = [{"file_path": f"{n}.png", "transform_matrix": pose.tolist()} for n, pose in enumerate(poses)]
    (tmp_path / "scene").mkdir()
    for frame in frames:
        pixels.save(tmp_path / "scene" / frame["file_path"])
    content = {"fl_x": 9, "cx": 8, "cy": 4, "frames": frames}
    (tmp_path / "scene/transforms.json").write_text(json.dumps(content))
    for words, unit, factor in (([], "scene", 1), (["metres=2"], "metre", 2)):
        inputs = read(tmp_path / unit, "transforms", tmp_path / "scene", *words, given=("poses",))
        first, second = inputs.known.world_from_camera.values()
        relative = rigid.invert(first) @ second
        np.testing.assert_allclose(relative[:3, 3], factor * np.array([1, -2, -3]), atol=1e-9)
        assert inputs.known.pose_unit == inputs.truth.length_unit == unit


def test_stereo_of_euroc_one_scene_of_ddad_and_a_sequence_of_tum(shared, tmp_path):
    real = shared / "realdata"
    pytest.importorskip("yaml")
    euroc = read(tmp_path / "euroc", "euroc", real / "euroc_stereo", f"poses={real}/trajectories_gt/euroc_V101_GT.txt")
    assert {one.camera for one in euroc.photographs} == {"cam0", "cam1"} and len(euroc.known.rig.cameras) == 2
    left, right = euroc.photographs[:2]
    files = {int(path.stem) / 1e9: path for path in (real / "euroc_stereo/mav0/cam0/data").glob("*.png")}
    taken = min(files, key=lambda seconds: abs(seconds - euroc.known.times[left.name]))
    np.testing.assert_array_equal(read_upright(left)[..., 0], np.asarray(Image.open(files[taken])))
    assert right.step == left.step and any("images are in no scene, such as" in note for note in euroc.notes)
    unposed = read(tmp_path / "unposed", "euroc", real / "euroc_stereo")  # the sample holds no truth
    assert unposed.truth is None and not unposed.known.world_from_camera and len(unposed.known.rig.cameras) == 2
    assert {one.name for one in euroc.photographs} <= {one.name for one in unposed.photographs}
    assert "the data set has no poses of these images to compare with" in unposed.notes
    with pytest.raises(ValueError, match="--given poses: the data set has no poses of these images"):
        read(tmp_path / "again", "euroc", real / "euroc_stereo", given=("poses",))
    with pytest.raises(ValueError, match=r"has 4 scenes; choose one by --scene: train/scene_01, train/scene_02, val/"):
        read(tmp_path / "ddad", "ddad", real / "ddad_dgp_rig")
    with pytest.raises(ValueError, match=r"has no scene 'scene_03'; choose one by --scene: train/scene_01"):
        read(tmp_path / "ddad", "ddad", real / "ddad_dgp_rig", scene="scene_03")
    ddad = read(tmp_path / "ddad", "ddad", real / "ddad_dgp_rig", scene="val/scene_02", every=2)
    assert len(ddad.photographs) == 12 and {one.step for one in ddad.photographs} == {0, 2}
    tum = read(tmp_path / "tum", "tum", real / "tum_fr3_cabinet", "window=10", scene="tum_fr3_cabinet_00000")
    seconds = [float(line.split()[0]) for line in (real / "tum_fr3_cabinet/rgb.txt").read_text().splitlines()
               if not line.startswith("#")]  # fmt: skip
    times = [tum.known.times[one.name] for one in tum.photographs]
    np.testing.assert_allclose(times, seconds[: len(times)], atol=1e-6)


def test_an_image_on_its_side_stays_as_its_calibration_has_it():
    pixels = np.random.default_rng(0).integers(0, 255, (6, 9, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "PNG", exif=exif)
    stored, suffix = _as_stored(data.getvalue())
    assert suffix == ".png"
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(stored))), pixels)
    plain = cv2.imencode(".png", pixels)[1].tobytes()
    assert _as_stored(plain) == (plain, ".png")


def test_masks_of_scenes_become_those_of_users(tmp_path):
    outside = np.zeros((6, 9), bool)
    outside[:2] = True
    (tmp_path / "a.png").write_bytes(_black_outside(encode_mask(outside, moving=~outside)))
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png", (6, 9)), ~outside)


def test_roots_and_options_that_cannot_be_are_refused(tmp_path):
    (tmp_path / "rig").mkdir()
    for words, message in (
        ([tmp_path / "rig", "windo=3"], "has no option windo; did you mean window"),
        ([tmp_path / "rig", tmp_path / "rig"], "give one folder, that of images/<camera>/"),
        ([tmp_path / "none"], "data folder does not exist"),
        ([tmp_path / "rig"], "rig: .*holds images"),
    ):
        with pytest.raises(ValueError, match=message):
            read(tmp_path / "no", "folder", *words)
    assert not (tmp_path / "no").exists()
