"""COLMAP's rig_config.json: the cameras of a rig by the folders of their images, and where they sit.

    [{"cameras": [
        {"image_prefix": "front/", "ref_sensor": true,
         "camera_model_name": "PINHOLE", "camera_params": [500, 500, 320, 240]},
        {"image_prefix": "left/",
         "cam_from_rig_rotation": [0.707, 0, 0.707, 0],         quaternion w x y z of camera_from_rig
         "cam_from_rig_translation": [0, 0, 0]}]}]              metres

The rig's frame is that of the camera with "ref_sensor": true. Lenses may be left out, where a COLMAP model has them.
"""

import typing
from pathlib import Path

import numpy as np

from rig3r_jax.formats.calibration import CalibratedCamera, RigCalibration, quat_wxyz_of, transform_of_quat_wxyz
from rig3r_jax.formats.colmap_lenses import colmap_of_lens, lens_of_colmap
from rig3r_jax.formats.json_file import read_json, write_json
from rig3r_jax.geometry import rigid

_ROTATION, _TRANSLATION = "cam_from_rig_rotation", "cam_from_rig_translation"
_MODEL, _PARAMETERS = "camera_model_name", "camera_params"


def read_rig_config(path: str | Path) -> tuple[RigCalibration, ...]:
    """The rigs of a file; a camera's name is its image_prefix without the slash at the end.

    ValueError naming file, rig, camera, value, rule and remedy.
    """
    rigs = read_json(path)
    if not isinstance(rigs, list) or not rigs or not all(isinstance(rig, dict) and "cameras" in rig for rig in rigs):
        raise ValueError(f'{path}: must be a list of rigs, [{{"cameras": [...]}}], as COLMAP writes it; correct it')
    return tuple(_rig(rig["cameras"], f"{path}, rig {number}") for number, rig in enumerate(rigs))


def write_rig_config(path: str | Path, rig: RigCalibration) -> None:
    """Writes one rig, whose first camera with an identity for rig_from_camera is the reference.

    ValueError where none has, a camera has no place, or COLMAP has no model of its lens.
    """
    places = [camera.rig_from_camera for camera in rig.cameras]
    reference = next(
        (i for i, place in enumerate(places) if place is not None and np.array_equal(place, np.eye(4))), -1
    )
    if reference < 0 or any(place is None for place in places):
        raise ValueError(f"{path}: every camera must have a rig_from_camera, one of them the identity")
    entries = []
    for number, camera in enumerate(rig.cameras):
        entry: dict[str, typing.Any] = {"image_prefix": f"{camera.name}/"}
        if number == reference:
            entry["ref_sensor"] = True
        else:
            camera_from_rig = rigid.invert(camera.rig_from_camera)
            entry |= {_ROTATION: quat_wxyz_of(camera_from_rig), _TRANSLATION: camera_from_rig[:3, 3]}
        if camera.lens is not None:
            entry[_MODEL], entry[_PARAMETERS] = colmap_of_lens(camera.lens)
        entries.append(entry)
    write_json(path, [{"cameras": entries}])


def _rig(entries: object, where: str) -> RigCalibration:
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError(f"{where}: cameras must be a list of objects; correct it")
    cameras = tuple(_camera(entry, f"{where}, camera {number}") for number, entry in enumerate(entries))
    names = [camera.name for camera in cameras]
    references = [camera.name for camera, entry in zip(cameras, entries, strict=True) if entry.get("ref_sensor")]
    if len(references) != 1 or len(set(names)) < len(names):
        raise ValueError(
            f"{where}: cameras {names} with ref_sensor at {references}: each image_prefix must come once, and exactly "
            "one camera be the ref_sensor; correct it"
        )
    return RigCalibration(cameras, f"the camera {references[0]} (ref_sensor)")


def _camera(entry: dict[str, typing.Any], where: str) -> CalibratedCamera:
    prefix = entry.get("image_prefix")
    if not isinstance(prefix, str):
        raise ValueError(f"{where}: image_prefix {prefix!r} must be the folder of its images, such as front/")
    where = f"{where} ({prefix})"
    lens = None
    if _MODEL in entry or _PARAMETERS in entry:
        parameters = entry.get(_PARAMETERS)
        if not isinstance(parameters, list) or not all(isinstance(value, int | float) for value in parameters):
            raise ValueError(f"{where}: {_PARAMETERS} {parameters!r} must be a list of numbers; correct it")
        lens = lens_of_colmap(str(entry.get(_MODEL)), parameters, where)
    if entry.get("ref_sensor"):
        if _ROTATION in entry or _TRANSLATION in entry:
            raise ValueError(f"{where}: is the ref_sensor and has a place; remove one of the two")
        rig_from_camera = np.eye(4)
    elif _ROTATION in entry and _TRANSLATION in entry:
        rig_from_camera = rigid.invert(transform_of_quat_wxyz(entry[_ROTATION], entry[_TRANSLATION], where))
    elif _ROTATION in entry or _TRANSLATION in entry:
        raise ValueError(f"{where}: has one of {_ROTATION}, {_TRANSLATION}; give both, or none")
    else:
        rig_from_camera = None  # COLMAP estimates it from the poses
    return CalibratedCamera(prefix.rstrip("/"), lens, None, rig_from_camera)
