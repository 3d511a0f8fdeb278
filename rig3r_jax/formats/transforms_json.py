"""transforms.json of NeRF, instant-ngp and nerfstudio: camera_to_world in OpenGL's axes, intrinsics once or per frame.

The camera's y and z axes are turned here (OpenGL looks along -z). Lengths are in a unit of the scene. The frames are in
the file's order, which need not be that of their names.
"""

import dataclasses
import math
import typing
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rig3r_jax.formats.calibration import transform_of
from rig3r_jax.formats.json_file import read_json, write_json
from rig3r_jax.formats.text import with_slashes
from rig3r_jax.geometry.camera import Lens
from rig3r_jax.geometry.lenses import LENSES, lens_from_numbers

_OPENGL_FROM_OPENCV = np.diag([1.0, -1.0, -1.0, 1.0])
_KINDS = {
    "": "", "PINHOLE": "pinhole", "SIMPLE_PINHOLE": "pinhole", "OPENCV": "brown", "SIMPLE_RADIAL": "brown",
    "RADIAL": "brown", "OPENCV_FISHEYE": "fisheye",
}  # fmt: skip
_MODELS = {"pinhole": "PINHOLE", "brown": "OPENCV", "fisheye": "OPENCV_FISHEYE"}  # as written
_OWN = ("file_path", "transform_matrix", "time", "depth_file_path", "mask_path")  # of each frame, not of the file
_COEFFICIENTS = ("k1", "k2", "k3", "k4", "p1", "p2")


@dataclasses.dataclass(frozen=True)
class TransformsFrame:
    """One listed image; its file may be absent."""

    name: str  # below the folder of the file, forward slashes; may lack its suffix
    lens: Lens
    size: tuple[int, int] | None  # height, width, where stated
    world_from_camera: np.ndarray  # (4, 4) float64, OpenCV's axes
    time: float | None  # seconds, where stated
    depth: str | None  # depth_file_path of nerfstudio
    mask: str | None  # mask_path


def read_transforms(path: str | Path) -> tuple[TransformsFrame, ...]:
    """The frames of a file. ValueError naming file, frame, value, rule and remedy."""
    content = read_json(path)
    frames = content.get("frames") if isinstance(content, dict) else None
    if not isinstance(frames, list) or not frames or not all(isinstance(frame, dict) for frame in frames):
        raise ValueError(f"{path}: has no list of frames, each an object; give a transforms.json")
    return tuple(_frame(content | frame, f"{path}, frame {number}") for number, frame in enumerate(frames))


def write_transforms(path: str | Path, frames: Sequence[TransformsFrame], **more: typing.Any) -> None:
    """Writes what `read_transforms` reads: what all frames have in common once, numbers lose nothing.

    Args:
        path: the file.
        frames: the images; their names are paths from the file's folder, or absolute.
        **more: other keys of the file, such as ply_file_path.

    Raises:
        ValueError: no frames, or a lens that the format has no model of.
    """
    if not frames:
        raise ValueError(f"{path}: no frames to write; give one or more")
    entries = [_entry(frame, f"{path}, frame {number} ({frame.name})") for number, frame in enumerate(frames)]
    shared = [key for key in entries[0] if key not in _OWN]
    common = {key: entries[0][key] for key in shared if all(entry.get(key) == entries[0][key] for entry in entries)}
    own = [{key: value for key, value in entry.items() if key not in common} for entry in entries]
    write_json(path, {**more, **common, "frames": own})


def _entry(frame: TransformsFrame, where: str) -> dict[str, typing.Any]:
    numbers = frame.lens.to_numbers()
    if (kind := numbers.pop("kind")) not in _MODELS:
        raise ValueError(f"{where}: transforms.json has no model of a {kind} lens; make pinholes of the images first")
    entry: dict[str, typing.Any] = {"file_path": frame.name, "camera_model": _MODELS[kind]}
    if frame.size is not None:
        entry |= {"h": frame.size[0], "w": frame.size[1]}
    entry |= {{"fx": "fl_x", "fy": "fl_y"}.get(name, name): value for name, value in numbers.items()}
    optional = {"time": frame.time, "depth_file_path": frame.depth, "mask_path": frame.mask}
    entry |= {key: value for key, value in optional.items() if value is not None}
    return entry | {"transform_matrix": frame.world_from_camera @ _OPENGL_FROM_OPENCV}


def _frame(entry: dict[str, typing.Any], where: str) -> TransformsFrame:
    name = entry.get("file_path")
    if not isinstance(name, str) or not name:
        raise ValueError(f"{where}: file_path {name!r} must be the path of an image; correct it")
    where = f"{where} ({name})"
    world_from_opengl = transform_of(entry.get("transform_matrix"), f"{where}: transform_matrix")
    width, height = _number(entry, "w", where), _number(entry, "h", where)
    return TransformsFrame(
        name=with_slashes(name).removeprefix("./"),
        lens=_lens(entry, width, height, where),
        size=(int(height), int(width)) if width and height else None,
        world_from_camera=world_from_opengl @ _OPENGL_FROM_OPENCV,
        time=_number(entry, "time", where),
        depth=_file(entry, "depth_file_path", where),
        mask=_file(entry, "mask_path", where),
    )


def _lens(entry: dict[str, typing.Any], width: float | None, height: float | None, where: str) -> Lens:
    numbers = {name: _number(entry, name, where) for name in ("fl_x", "fl_y", "cx", "cy", *_COEFFICIENTS)}
    for focal, angle, side in (("fl_x", "camera_angle_x", width), ("fl_y", "camera_angle_y", height)):
        radians = _number(entry, angle, where)
        if numbers[focal] is None and radians and side:
            numbers[focal] = side / 2 / math.tan(radians / 2)
    fx, cx, cy = numbers["fl_x"], numbers["cx"], numbers["cy"]
    cx, cy = width / 2 if cx is None and width else cx, height / 2 if cy is None and height else cy
    if fx is None or cx is None or cy is None:
        raise ValueError(f"{where}: lacks fl_x (or camera_angle_x with w), or cx, cy (or w, h); add them")
    fy = fx if numbers["fl_y"] is None else numbers["fl_y"]
    model = str(entry.get("camera_model", ""))
    if model not in _KINDS or entry.get("is_fisheye"):
        model = "is_fisheye" if entry.get("is_fisheye") and model in _KINDS else model
        raise ValueError(f"{where}: camera_model {model} is none of {', '.join(filter(None, _KINDS))}; undistort first")
    bent = {name: numbers[name] for name in _COEFFICIENTS if numbers[name]}
    kind = _KINDS[model] or ("brown" if bent else "pinhole")
    if unknown := set(bent) - set(LENSES[kind].coefficients):
        raise ValueError(f"{where}: a {kind} lens ({model or 'no camera_model'}) has no {sorted(unknown)}; correct it")
    coefficients = {name: bent.get(name, 0.0) for name in LENSES[kind].coefficients}
    return lens_from_numbers({"kind": kind, "fx": fx, "fy": fy, "cx": cx, "cy": cy, **coefficients}, where)


def _file(entry: dict[str, typing.Any], key: str, where: str) -> str | None:
    name = entry.get(key)
    if name is not None and not isinstance(name, str):
        raise ValueError(f"{where}: {key} {name!r} must be the path of a file; correct or remove it")
    return with_slashes(name) if name else None


def _number(entry: dict[str, typing.Any], key: str, where: str) -> float | None:
    value = entry.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{where}: {key} {value!r} must be a finite number; correct it")
    return float(value)
