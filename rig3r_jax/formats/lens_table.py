"""Tables of lenses: a row or an object per image, camera or all, with the model and parameters of COLMAP.

    name, model, width, height, params...        CSV, with a line of column names or without
    front, PINHOLE, 1600, 900, 1266, 1266, 816, 491
    {"front": {"model": "PINHOLE", "width": 1600, "height": 900, "params": [1266, 1266, 816, 491]}}

Rows of COLMAP's cameras.txt are such rows: parted by white space, `name` is the number of the camera. Pixel centres lie
at +0.5.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from rig3r_jax.formats.calibration import CalibratedCamera
from rig3r_jax.formats.colmap_lenses import MODELS, lens_of_colmap
from rig3r_jax.formats.text import numbered_lines, read_text, split_words

_KEYS = ("model", "width", "height", "params")


def read_lens_table(path: str | Path) -> dict[str, CalibratedCamera]:
    """The rows of a table by name. ValueError naming file, line, value, rule and remedy."""
    cameras: dict[str, CalibratedCamera] = {}
    for number, line in numbered_lines(read_text(path)):
        if line.startswith("#"):
            continue
        words, where = split_words(line), f"{path}, line {number}"
        if not cameras and [word.lower() for word in words[:2]] == ["name", "model"]:
            continue
        if len(words) < 4:
            raise ValueError(f"{where}: {line!r} must be name, model, width, height and parameters; correct it")
        name, model, width, height, *parameters = words
        if name in cameras:
            raise ValueError(f"{where}: {name} is there twice; remove one of the rows")
        cameras[name] = _camera(name, model, (width, height), [word for word in parameters if word], where)
    if not cameras:
        raise ValueError(f"{path}: holds no row of name, model, width, height and parameters")
    return cameras


def lenses_of_json(content: Mapping[str, object], path: str | Path) -> dict[str, CalibratedCamera]:
    """The objects of a JSON file that was read, by name; ValueError naming file, name, value, rule and remedy."""
    cameras = {}
    for name, entry in content.items():
        where = f"{path}, {name}"
        if not isinstance(entry, Mapping) or set(entry) != set(_KEYS) or not isinstance(entry["params"], list):
            raise ValueError(f"{where}: must be an object of {', '.join(_KEYS)} (a list of numbers); correct it")
        size = (entry["width"], entry["height"])
        cameras[name] = _camera(name, str(entry["model"]), size, entry["params"], where)
    return cameras


def _camera(
    name: str, model: str, width_height: tuple[object, object], parameters: Sequence[object], where: str
) -> CalibratedCamera:
    try:
        width, height = (int(str(side)) for side in width_height)
        numbers = [float(str(value)) for value in parameters]
    except ValueError as error:
        raise ValueError(f"{where}: {error}; sides are whole numbers, parameters numbers; correct it") from error
    if min(width, height) < 1:
        raise ValueError(f"{where}: width {width} and height {height} must be at least 1")
    if model.upper() not in MODELS:
        raise ValueError(f"{where}: camera model {model!r} is none of {', '.join(MODELS)}; correct it")
    return CalibratedCamera(name, lens_of_colmap(model.upper(), numbers, where), (height, width))
