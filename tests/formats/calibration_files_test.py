"""Calibrations of other tools, written here by hand: lenses against OpenCV, places by their own arithmetic."""

import json
import re

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from rig3r_jax.formats.calibration import CalibratedCamera, RigCalibration
from rig3r_jax.formats.colmap_lenses import MODELS, colmap_of_lens, lens_of_colmap
from rig3r_jax.formats.kalibr import read_camchain, read_sensor_yaml
from rig3r_jax.formats.rig_config import read_rig_config, write_rig_config
from rig3r_jax.formats.transforms_json import read_transforms
from rig3r_jax.geometry.camera import Fisheye, Pinhole, Unified

POINTS = np.array([[0.3, -0.2, 1.0], [-0.8, 0.5, 2.0], [0.1, 0.6, 1.5]])
PARAMETERS = {
    "f": 400.0, "fx": 400.0, "fy": 410.0, "cx": 322.5, "cy": 239.0, "k1": -0.1, "k2": 0.02, "p1": 1e-3, "p2": -2e-3,
    "k3": 0.004, "k4": 0.0, "k5": 0.0, "k6": 0.0,
}  # fmt: skip


@pytest.mark.parametrize("model", MODELS)
def test_colmap_models_project_as_pycolmap_does(model):
    pycolmap = pytest.importorskip("pycolmap")
    parameters = [PARAMETERS[name] for name in MODELS[model][1]]
    camera = pycolmap.Camera(model=model, width=640, height=480, params=parameters)
    expected = np.array([camera.img_from_cam(point) for point in POINTS])
    lens = lens_of_colmap(model, parameters, "here")
    np.testing.assert_allclose(lens.project(POINTS), expected, atol=1e-9)
    again = lens_of_colmap(*colmap_of_lens(lens), "here")
    np.testing.assert_array_equal(again.project(POINTS), lens.project(POINTS))


def test_colmap_models_that_no_lens_is_are_named():
    with pytest.raises(
        ValueError, match="cameras.bin, camera 3: camera model THIN_PRISM_FISHEYE is none of .*undistort"
    ):
        lens_of_colmap("THIN_PRISM_FISHEYE", [1.0] * 12, "cameras.bin, camera 3")
    with pytest.raises(ValueError, match="FULL_OPENCV with {'k5': 0.1}.*undistort"):
        lens_of_colmap("FULL_OPENCV", [400, 400, 320, 240, 0, 0, 0, 0, 0, 0, 0.1, 0], "here")
    with pytest.raises(ValueError, match="PINHOLE has 3 parameters, must be fx, fy, cx, cy"):
        lens_of_colmap("PINHOLE", [400, 320, 240], "here")
    with pytest.raises(ValueError, match="COLMAP has no model of a unified lens.*rectify=true"):
        colmap_of_lens(Unified(np.eye(3), np.zeros(5)))


def rows(rotation, translation):
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation, translation
    return matrix


TURN = Rotation.from_euler("y", 90, degrees=True).as_matrix()


def test_rig_config_is_camera_from_rig_wxyz(tmp_path):
    half = np.sqrt(0.5)
    file = tmp_path / "rig_config.json"
    left = {"image_prefix": "left/", "cam_from_rig_rotation": [half, 0, half, 0], "cam_from_rig_translation": [1, 2, 3]}
    front = {
        "image_prefix": "front/",
        "ref_sensor": True,
        "camera_model_name": "PINHOLE",
        "camera_params": [5, 6, 7, 8],
    }
    file.write_text(json.dumps([{"cameras": [left, front]}]))
    (rig,) = read_rig_config(file)
    point_rig = np.array([0.4, 0.5, 0.6, 1.0])
    np.testing.assert_allclose(
        np.linalg.solve(rig.named("left").rig_from_camera, point_rig)[:3], TURN @ point_rig[:3] + [1, 2, 3]
    )
    np.testing.assert_array_equal(rig.named("front").rig_from_camera, np.eye(4))
    assert rig.named("front").lens.to_numbers() == {"kind": "pinhole", "fx": 5.0, "fy": 6.0, "cx": 7.0, "cy": 8.0}
    write_rig_config(tmp_path / "again.json", rig)
    (again,) = read_rig_config(tmp_path / "again.json")
    assert [camera.name for camera in again.cameras] == ["left", "front"]
    np.testing.assert_allclose(again.named("left").rig_from_camera, rig.named("left").rig_from_camera, atol=1e-15)


def test_rig_config_reads_in_pycolmap(tmp_path):
    pycolmap = pytest.importorskip("pycolmap")
    lens = Fisheye(np.array([[300.0, 0, 320], [0, 301, 240], [0, 0, 1]]), np.array([0.1, 0.02, 0.003, 0.0004]))
    cameras = (CalibratedCamera("a", lens, None, np.eye(4)), CalibratedCamera("b", None, None, rows(TURN, [1, 2, 3])))
    write_rig_config(tmp_path / "rig_config.json", RigCalibration(cameras, "a"))
    (config,) = pycolmap.read_rig_config(tmp_path / "rig_config.json")
    first, second = config.cameras
    assert (first.image_prefix, first.ref_sensor, second.ref_sensor) == ("a/", True, False)
    assert first.camera.model_name == "OPENCV_FISHEYE" and list(first.camera.params[4:]) == [0.1, 0.02, 0.003, 0.0004]
    np.testing.assert_allclose(second.cam_from_rig.inverse().matrix(), rows(TURN, [1, 2, 3])[:3], atol=1e-12)


@pytest.mark.parametrize(
    "content, message",
    [
        ({"cameras": []}, "must be a list of rigs"),
        ([{"cameras": [{"image_prefix": "a/"}, {"image_prefix": "b/"}]}], r"ref_sensor at \[\].*exactly one"),
        ([{"cameras": [{"ref_sensor": True}]}], "image_prefix None must be the folder"),
        ([{"cameras": [{"image_prefix": "a/", "cam_from_rig_rotation": [1, 0, 0, 0]}]}], "give both, or none"),
        (
            [
                {
                    "cameras": [
                        {
                            "image_prefix": "a/",
                            "cam_from_rig_rotation": [2, 0, 0, 0],
                            "cam_from_rig_translation": [0] * 3,
                        }
                    ]
                }
            ],
            "length 2, must be 1",
        ),
    ],
)
def test_broken_rig_configs_are_one_message(tmp_path, content, message):
    (tmp_path / "rig_config.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=f"rig_config.json.*{message}"):
        read_rig_config(tmp_path / "rig_config.json")


CAMCHAIN = """
cam0:
  T_cam_imu: [[0, 0, -1, 0.1], [0, 1, 0, 0.2], [1, 0, 0, 0.3], [0, 0, 0, 1]]
  camera_model: pinhole
  distortion_coeffs: [-0.28, 0.07, 0.0002, 1.76e-05]
  distortion_model: radtan
  intrinsics: [458.0, 457.0, 367.0, 248.0]
  resolution: [752, 480]
cam1:
  T_cn_cnm1: [[1, 0, 0, -0.11], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
  camera_model: pinhole
  distortion_coeffs: [-0.04, -0.005, 0.004, -0.002]
  distortion_model: equidistant
  intrinsics: [350.0, 351.0, 360.0, 270.0]
  resolution: [720, 540]
cam2:
  T_cn_cnm1: [[1, 0, 0, -0.11], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
  camera_model: omni
  distortion_coeffs: [-0.2, 0.03, 0.001, -0.002]
  distortion_model: radtan
  intrinsics: [1.2, 700.0, 701.0, 360.0, 270.0]
  resolution: [720, 540]
"""


def test_camchain_chains_and_moves_pixel_centres(tmp_path):
    file = tmp_path / "camchain.yaml"
    file.write_text(CAMCHAIN)
    rig = read_camchain(file)
    assert rig.frame == "the camera cam0" and [camera.size for camera in rig.cameras] == [(480, 752), *[(540, 720)] * 2]
    np.testing.assert_allclose(rig.cameras[2].rig_from_camera[:3, 3], [0.22, 0, 0], atol=1e-12)
    k = np.array([[458.0, 0, 367], [0, 457, 248], [0, 0, 1]])
    expected, _ = cv2.projectPoints(POINTS, np.zeros(3), np.zeros(3), k, np.array([-0.28, 0.07, 0.0002, 1.76e-5]))
    np.testing.assert_allclose(rig.cameras[0].lens.project(POINTS), expected[:, 0] + 0.5, atol=1e-9)
    k = np.array([[350.0, 0, 360], [0, 351, 270], [0, 0, 1]])
    expected, _ = cv2.fisheye.projectPoints(
        POINTS[:, None], np.zeros(3), np.zeros(3), k, np.array([-0.04, -0.005, 0.004, -0.002])
    )
    np.testing.assert_allclose(rig.cameras[1].lens.project(POINTS), expected[:, 0] + 0.5, atol=1e-6)
    on_sphere = POINTS / np.linalg.norm(POINTS, axis=1, keepdims=True)
    x, y = (on_sphere[:, :2] / (on_sphere[:, 2:] + 1.2)).T
    r2 = x * x + y * y
    radial = 1 - 0.2 * r2 + 0.03 * r2**2
    u = x * radial + 2 * 0.001 * x * y - 0.002 * (r2 + 2 * x * x)
    v = y * radial + 0.001 * (r2 + 2 * y * y) - 2 * 0.002 * x * y
    expected = np.stack([700 * u + 360.5, 701 * v + 270.5], axis=1)
    np.testing.assert_allclose(rig.cameras[2].lens.project(POINTS), expected, atol=1e-9)


def test_camchain_goes_by_the_numbers_of_its_cameras(tmp_path):
    """Kalibr writes keys in the order of the alphabet, where cam10 comes before cam2."""
    (tmp_path / "camchain.yaml").write_text(CAMCHAIN)
    expected = read_camchain(tmp_path / "camchain.yaml").cameras
    cam0, cam1, cam2 = re.split(r"\n(?=cam)", CAMCHAIN.strip())
    (tmp_path / "camchain.yaml").write_text("\n".join([cam0, cam2.replace("-0.11", "-0.33"), cam1]))
    cameras = read_camchain(tmp_path / "camchain.yaml").cameras
    assert [camera.name for camera in cameras] == ["cam0", "cam1", "cam2"]
    np.testing.assert_allclose(cameras[1].rig_from_camera, expected[1].rig_from_camera)
    np.testing.assert_allclose(cameras[2].rig_from_camera[:3, 3], [0.44, 0, 0], atol=1e-12)


def test_camchain_with_the_imu_and_refusals(tmp_path):
    file = tmp_path / "camchain.yaml"
    file.write_text("\n".join(CAMCHAIN.split("cam1:")[:1]))
    rig = read_camchain(file)
    point_imu = np.array([0.7, -0.3, 2.0, 1.0])
    point_camera = [-2.0 + 0.1, -0.3 + 0.2, 0.7 + 0.3, 1.0]  # rows of T_cam_imu, by hand
    np.testing.assert_allclose(rig.cameras[0].rig_from_camera @ point_camera, point_imu, atol=1e-12)
    assert rig.frame == "the IMU (T_cam_imu)"
    for old, new, message in (
        ("radtan", "fov", "pinhole with distortion_model fov is none of .*undistort"),
        ("pinhole\n", "ds\n", "camera_model ds"),
        ("458.0, ", "", "3 intrinsics and 4 coefficients; pinhole-radtan has 4 and 4"),
        ("[-0.28, 0.07, 0.0002, 1.76e-05]", "[]", "4 intrinsics and 0 coefficients; pinhole-radtan has 4 and 4"),
        ("resolution: [752, 480]", "", "resolution None must be width, height"),
        ("[0, 0, -1, 0.1]", "[0, 0, 1, 0.1]", "T_cam_imu.*determinant -1"),
    ):
        file.write_text(CAMCHAIN.split("cam1:")[0].replace(old, new))
        with pytest.raises(ValueError, match=f"camchain.yaml, cam0.*{message}"):
            read_camchain(file)
    file.write_text("cam0: [1")
    with pytest.raises(ValueError, match="camchain.yaml: is no YAML"):
        read_camchain(file)


def test_sensor_yaml_of_euroc(shared):
    """T_BS is body_from_camera: 0.11 m of baseline."""
    folder = shared / "realdata/euroc_stereo/mav0"
    left, right = (read_sensor_yaml(folder / name / "sensor.yaml", name) for name in ("cam0", "cam1"))
    baseline = np.linalg.norm(left.rig_from_camera[:3, 3] - right.rig_from_camera[:3, 3])
    assert abs(baseline - 0.1101) < 1e-4 and left.size == (480, 752) and left.lens.kind == "brown"
    np.testing.assert_allclose(left.lens.intrinsics[:2, 2], [367.715, 248.875])


def test_transforms_json_has_opengl_axes(tmp_path):
    content = {
        "camera_angle_x": 2 * np.arctan(0.5), "w": 200, "h": 100, "k1": 0.1, "p2": 0.01,
        "frames": [
            {"file_path": "./images/b", "transform_matrix": rows(np.eye(3), [1, 2, 3]).tolist()},
            {"file_path": "images/a.png", "fl_x": 90, "fl_y": 91, "cx": 99, "cy": 51, "k1": 0, "p2": 0, "time": 0.5,
             "transform_matrix": rows(TURN, [0, 0, 0]).tolist()},
        ],
    }  # fmt: skip
    (tmp_path / "transforms.json").write_text(json.dumps(content))
    first, second = read_transforms(tmp_path / "transforms.json")
    assert (first.name, second.name, second.time, first.size) == ("images/b", "images/a.png", 0.5, (100, 200))
    # A point 2 m in front of an OpenGL camera at (1, 2, 3), 0.2 right and 0.1 up of its axis.
    point_camera = np.linalg.solve(first.world_from_camera, [1.2, 2.1, 1.0, 1.0])[:3]
    np.testing.assert_allclose(point_camera, [0.2, -0.1, 2.0], atol=1e-12)
    k, coefficients = np.array([[200.0, 0, 100], [0, 200, 50], [0, 0, 1]]), np.array([0.1, 0, 0, 0.01])
    expected, _ = cv2.projectPoints(point_camera[None], np.zeros(3), np.zeros(3), k, coefficients)
    np.testing.assert_allclose(first.lens.project(point_camera), expected[0, 0], atol=1e-9)
    assert isinstance(second.lens, Pinhole) and second.lens.intrinsics[1, 1] == 91
    for change, message in (
        ({"k4": 0.1}, "brown lens .* has no"),
        ({"camera_model": "EQUIRECTANGULAR"}, "is none of"),
        ({"cx": "wide"}, "cx 'wide' must be a finite number"),
        ({"frames": []}, "list of frames"),
        ({"frames": ["images/a.png"]}, "list of frames, each an object"),
        ({"frames": [content["frames"][1] | {"mask_path": 3}]}, "mask_path 3 must be the path of a file"),
    ):
        (tmp_path / "transforms.json").write_text(json.dumps(content | change))
        with pytest.raises(ValueError, match=f"transforms.json.*{message}"):
            read_transforms(tmp_path / "transforms.json")
