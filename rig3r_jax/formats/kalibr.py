"""Kalibr's camchain.yaml, and the sensor.yaml of EuRoC: cameras with lenses, places and sizes.

Both put the centre of the first pixel at 0: half a pixel is added here. camchain: T_cam_imu is camera_from_imu,
T_cn_cnm1 camera_from_the_one_before. sensor.yaml: T_BS is body_from_sensor; the line %YAML:1.0 is OpenCV's.
Lenses of the kinds ds (double sphere) and eucm (enhanced unified) become the nearest Kannala-Brandt lens: the camera's
note says how near.
"""

import re
import typing
from pathlib import Path

import numpy as np
from jaxtyping import Float

from rig3r_jax.formats.calibration import CalibratedCamera, RigCalibration, transform_of
from rig3r_jax.formats.text import read_text
from rig3r_jax.geometry import rigid
from rig3r_jax.geometry.camera import Lens
from rig3r_jax.geometry.lenses import make_lens
from rig3r_jax.geometry.sphere_lenses import double_sphere, enhanced_unified, nearest_fisheye

_MODELS = {  # camera and distortion model: kind, and where its coefficients go among those of the kind
    ("pinhole", "none"): ("pinhole", ()),
    ("pinhole", "radtan"): ("brown", (0, 1, 2, 3)),
    ("pinhole", "equidistant"): ("fisheye", (0, 1, 2, 3)),
    ("omni", "radtan"): ("unified", (1, 2, 3, 4)),
    ("omni", "none"): ("unified", ()),
}
_SPHERES = {  # camera model: its profile, and the two numbers before its focal lengths
    "ds": (double_sphere, ("xi", "alpha")),
    "eucm": (enhanced_unified, ("alpha", "beta")),
}
_NEAREST = 0.25  # pixels that a lens may be off the one that is stated
_OTHER_NAMES = {"radial-tangential": "radtan", "equi": "equidistant", "plumb_bob": "radtan", "": "none"}
_OPENCV_LINE = re.compile(r"\A%YAML:1\.0[^\n]*\n(---[^\n]*\n)?")
_NUMBERED = re.compile(r"cam(\d+)")
_DIGITS_TOLERANCE = 1e-2  # of matrices in hand-made files; the nearest rotation is taken


def read_camchain(path: str | Path) -> RigCalibration:
    """The cameras cam0, cam1, ... of a file. The rig's frame is the IMU's where all cameras state it, else cam0's.

    ValueError naming file, camera, value, rule and remedy.
    """
    content = read_yaml(path)
    names = [name for name, entry in content.items() if isinstance(entry, dict) and "camera_model" in entry]
    if not names:
        raise ValueError(
            f"{path}: has no camera (cam0: with camera_model, intrinsics, ...); give Kalibr's camchain.yaml"
        )
    if all(_NUMBERED.fullmatch(name) for name in names):
        names.sort(key=lambda name: int(_NUMBERED.fullmatch(name)[1]))  # the file may have cam10 before cam2
    imu_from_camera, first_from_camera = {}, {}
    before: Float[np.ndarray, "4 4"] | None = np.eye(4)
    for name in names:
        entry, where = content[name], f"{path}, {name}"
        if "T_cam_imu" in entry:
            imu_from_camera[name] = rigid.invert(_transform(entry["T_cam_imu"], f"{where}: T_cam_imu"))
        if name != names[0]:
            step = _transform(entry["T_cn_cnm1"], f"{where}: T_cn_cnm1") if "T_cn_cnm1" in entry else None
            before = None if before is None or step is None else before @ rigid.invert(step)
        first_from_camera[name] = before
    by_imu = len(imu_from_camera) == len(names)
    if not by_imu and any(place is None for place in first_from_camera.values()):
        raise ValueError(f"{path}: cameras {names} have neither all T_cam_imu nor a chain of T_cn_cnm1; calibrate anew")
    places = imu_from_camera if by_imu else first_from_camera
    cameras = tuple(_camera(name, content[name], places[name], f"{path}, {name}") for name in names)
    return RigCalibration(cameras, "the IMU (T_cam_imu)" if by_imu else f"the camera {names[0]}")


def read_sensor_yaml(path: str | Path, name: str) -> CalibratedCamera:
    """The camera of an EuRoC sensor.yaml; the rig is its body. ValueError naming file, value, rule and remedy."""
    content, where = read_yaml(path), str(path)
    if content.get("sensor_type") != "camera":
        raise ValueError(f"{where}: sensor_type {content.get('sensor_type')!r} must be camera; give a camera's file")
    content = content | {"distortion_coeffs": content.get("distortion_coefficients", [])}
    transform = content.get("T_BS")
    transform = transform.get("data") if isinstance(transform, dict) else transform
    return _camera(name, content, _transform(transform, f"{where}: T_BS"), where)


def read_yaml(path: str | Path) -> dict[str, typing.Any]:
    """The mapping of a YAML file, OpenCV's included; ValueError naming the file."""
    import yaml  # of the extra `data`

    try:
        content = yaml.safe_load(_OPENCV_LINE.sub("", read_text(path)))
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: is no YAML ({' '.join(str(error).split())}); restore the file") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: holds no mapping; restore the file")
    return content


def _transform(values: object, where: str) -> Float[np.ndarray, "4 4"]:
    return transform_of(values, where, _DIGITS_TOLERANCE)


def _camera(
    name: str, entry: dict[str, typing.Any], rig_from_camera: Float[np.ndarray, "4 4"], where: str
) -> CalibratedCamera:
    try:
        width, height = (int(side) for side in entry["resolution"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{where}: resolution {entry.get('resolution')!r} must be width, height; add it") from error
    lens, note = _lens(entry, (height, width), where)
    return CalibratedCamera(name, lens, (height, width), rig_from_camera, note)


def _lens(entry: dict[str, typing.Any], size: tuple[int, int], where: str) -> tuple[Lens, str]:
    """The lens, and how it differs from the one that is stated."""
    model = entry.get("camera_model")
    distortion = str(entry.get("distortion_model") or "").lower()
    distortion = _OTHER_NAMES.get(distortion, distortion)
    if model in _SPHERES and distortion == "none":
        return _near_sphere(model, entry.get("intrinsics", ()), size, where)
    if (model, distortion) not in _MODELS:
        models = ", ".join("-".join(names) for names in (*_MODELS, *((model, "none") for model in _SPHERES)))
        raise ValueError(
            f"{where}: camera_model {model} with distortion_model {distortion} is none of {models}; calibrate with one "
            "of these, or undistort the images"
        )
    kind, places = _MODELS[model, distortion]
    try:
        numbers = [float(value) for value in entry.get("intrinsics", ())]
        coefficients = [float(value) for value in entry.get("distortion_coeffs") or ()]
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: intrinsics and coefficients must be numbers ({error}); correct them") from error
    offset = len(numbers) - 4
    if offset != (model == "omni") or len(coefficients) < len(places) or any(coefficients[len(places) :]):
        raise ValueError(
            f"{where}: {len(numbers)} intrinsics and {len(coefficients)} coefficients; {model}-{distortion} has "
            f"{4 + (model == 'omni')} and {len(places)}; correct them"
        )
    fx, fy, cx, cy = numbers[offset:]
    lens_coefficients = np.zeros(5)
    lens_coefficients[:offset] = numbers[:offset]  # xi
    lens_coefficients[list(places)] = coefficients[: len(places)]
    lens = make_lens(kind, np.array([[fx, 0, cx + 0.5], [0, fy, cy + 0.5], [0, 0, 1.0]]), lens_coefficients)
    lens.check(where)
    return lens, ""


def _near_sphere(model: str, intrinsics: object, size: tuple[int, int], where: str) -> tuple[Lens, str]:
    make, (first, second) = _SPHERES[model]
    try:
        a, b, fx, fy, cx, cy = (float(value) for value in intrinsics)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{where}: intrinsics {intrinsics!r} must be {first}, {second}, fu, fv, pu, pv of {model}; correct them"
        ) from error
    matrix = np.array([[fx, 0, cx + 0.5], [0, fy, cy + 0.5], [0, 0, 1.0]])
    try:
        lens, residual = nearest_fisheye(make(a, b), matrix, size)
    except ValueError as error:
        raise ValueError(f"{where}: {model} with {first}={a:g}, {second}={b:g}: {error}; calibrate anew") from error
    if not residual <= _NEAREST:
        raise ValueError(
            f"{where}: {model} with {first}={a:g}, {second}={b:g} is up to {residual:.2f} pixels off every "
            f"pinhole-equidistant lens, more than {_NEAREST}; calibrate with pinhole-equi or omni-radtan"
        )
    lens.check(where)
    return lens, f"{model} taken as the nearest fisheye (Kannala-Brandt), at most {residual:.2g} pixels off"
