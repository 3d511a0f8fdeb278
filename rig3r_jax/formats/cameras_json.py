"""cameras.json: where every image was taken from, with the conventions written into the file.

Schema `rig3r-cameras`, version 1. Readers refuse a version that they do not know; a field may be added
without a new version, a field never changes its meaning. Lists of numbers are row-major.

    {"schema": "rig3r-cameras", "version": 1,
     "frame":  "OpenCV axes, world = first image's camera",
     "conventions": {...}            in words: axes, pixels, transforms, tangents
     "length_unit": "metre"          or "scene": no metric scale was known
     "images": [{
        "name": "front/000.jpg"      a relative path with forward slashes, unique in the file
        "width": 640, "height": 480  pixels
        "intrinsics": {"fx": 500.0, "fy": 500.0, "cx": 320.0, "cy": 240.0}
        "world_from_camera": [[..4], ..4]
        "rig_from_camera":   [[..4], ..4] or null
        "camera": {"id": 0, "source": "given" or "discovered"} or null
        "time": 0.5                  seconds since the first image, or null
        "covariance": [[..6], ..6] or null (or absent), of the tangent (v, w) in world_from_camera exp(v, w): v in the
                                     length unit before w in radians, both in the camera's own frame; the world is
                                     exact, so the covariance of a camera that defines it is zero
     }, ...]}
"""

import dataclasses
import json
import re
import typing
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from rig3r_jax.formats.atomic import write_atomically
from rig3r_jax.geometry import rigid

SCHEMA = "rig3r-cameras"
VERSION = 1
FRAME = "OpenCV axes, world = first image's camera"
CONVENTIONS = {
    "axes": "camera axes: x right, y down, z forward",
    "pixels": "the pixel of row i, column j has its centre at u = j + 0.5, v = i + 0.5",
    "transforms": "a_from_b takes homogeneous column vectors of frame b to frame a; rows of the matrix in order",
    "covariance": "of the tangent (v, w) in world_from_camera exp(v, w): translation in the length unit before the "
    "rotation vector in radians, both in the camera's own frame; the world is exact",
}


@typing.no_type_check
@dataclasses.dataclass(frozen=True)
class ImageCamera:
    """One image: its size, pinhole and place. `covariance` is of the tangent (v, w) in world_from_camera exp(v, w)."""

    name: str
    width: int
    height: int
    intrinsics: Float[np.ndarray, "3 3"]  # pixels
    world_from_camera: Float[np.ndarray, "4 4"]
    rig_from_camera: Float[np.ndarray, "4 4"] | None = None
    camera: int | None = None  # equal for the images of one physical camera
    camera_discovered: bool = False  # found by clustering, not told
    time: float | None = None  # seconds since the first image
    covariance: Float[np.ndarray, "6 6"] | None = None


@dataclasses.dataclass(frozen=True)
class CameraFile:
    """What a cameras.json holds."""

    images: tuple[ImageCamera, ...]
    frame: str
    length_unit: str  # "metre" or "scene"


def write_cameras(
    path: str | Path, images: Sequence[ImageCamera], *, frame: str = FRAME, length_unit: str = "metre"
) -> None:
    """Writes the cameras of `images` in schema version 1.

    Raises:
      ValueError: no images, an unsafe or repeated name, a matrix that is no rigid transform, a focal length that is not
        positive, skew, a covariance that is not symmetric positive semi-definite, or a number that is not finite.
    """
    _check_file(path, images, length_unit)
    content = {
        "schema": SCHEMA,
        "version": VERSION,
        "frame": frame,
        "conventions": CONVENTIONS,
        "length_unit": length_unit,
        "images": [_to_json(image) for image in images],
    }
    text = json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False)
    text = re.sub(r"\[[^\[\]{}\"]*\]", lambda match: re.sub(r"\s+", " ", match[0]), text)  # a matrix row on one line
    write_atomically(path, (text + "\n").encode("utf-8"))


def read_cameras(path: str | Path) -> CameraFile:
    """Reads what `write_cameras` wrote, under the same rules; ValueError names file, image, value, rule and remedy."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: is not JSON ({error}); export the cameras again") from error
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise ValueError(f'{path}: has no "schema": "{SCHEMA}"; give a cameras.json of this package')
    if content.get("version") != VERSION:
        raise ValueError(f"{path}: version {content.get('version')!r}, this reader knows {VERSION}; update the package")
    if not isinstance(content.get("images"), list):
        raise ValueError(f"{path}: has no list of images; export the cameras again")
    images = []
    for index, entry in enumerate(content["images"]):
        try:
            images.append(_from_json(entry))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(
                f"{path}: image {index} does not follow the schema ({error!r}); export it again"
            ) from error
    length_unit = content.get("length_unit")
    _check_file(path, images, length_unit)
    return CameraFile(tuple(images), str(content.get("frame")), length_unit)


def _to_json(image):
    def matrix(values):
        return None if values is None else np.asarray(values, np.float64).tolist()

    k = np.asarray(image.intrinsics, np.float64)
    camera = None
    if image.camera is not None:
        camera = {"id": int(image.camera), "source": "discovered" if image.camera_discovered else "given"}
    return {
        "name": image.name,
        "width": int(image.width),
        "height": int(image.height),
        "intrinsics": {"fx": k[0, 0].item(), "fy": k[1, 1].item(), "cx": k[0, 2].item(), "cy": k[1, 2].item()},
        "world_from_camera": matrix(image.world_from_camera),
        "rig_from_camera": matrix(image.rig_from_camera),
        "camera": camera,
        "time": None if image.time is None else float(image.time),
        "covariance": matrix(image.covariance),
    }


def _from_json(entry):
    def matrix(key, size):
        if entry.get(key) is None:
            return None
        values = np.array(entry[key], dtype=np.float64)
        if values.shape != (size, size):
            raise ValueError(f"{key} has shape {values.shape}, must be ({size}, {size})")
        return values

    k = {key: float(entry["intrinsics"][key]) for key in ("fx", "fy", "cx", "cy")}
    camera = entry.get("camera")
    if camera is not None and camera["source"] not in ("given", "discovered"):
        raise ValueError(f"camera source {camera['source']!r} must be given or discovered")
    if entry.get("world_from_camera") is None:
        raise KeyError("world_from_camera")
    return ImageCamera(
        name=entry["name"],
        width=entry["width"],
        height=entry["height"],
        intrinsics=np.array([[k["fx"], 0.0, k["cx"]], [0.0, k["fy"], k["cy"]], [0.0, 0.0, 1.0]]),
        world_from_camera=matrix("world_from_camera", 4),
        rig_from_camera=matrix("rig_from_camera", 4),
        camera=None if camera is None else int(camera["id"]),
        camera_discovered=camera is not None and camera["source"] == "discovered",
        time=None if entry.get("time") is None else float(entry["time"]),
        covariance=matrix("covariance", 6),
    )


def _check_file(path, images, length_unit):
    """Every rule of the schema, for writer and reader."""
    if length_unit not in ("metre", "scene"):
        raise ValueError(f'{path}: length unit {length_unit!r} must be "metre" or "scene"')
    if not len(images):
        raise ValueError(f"{path}: no images; a camera file needs at least one")
    names = set()
    for index, image in enumerate(images):
        where = f"{path}: image {index}"
        _check_name(where, image.name)
        where = f"{where} ({image.name})"
        if image.name in names:
            raise ValueError(f"{where}: the name occurs twice; names must tell the images apart")
        names.add(image.name)
        for side in ("width", "height"):
            value = getattr(image, side)
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value <= 0:
                raise ValueError(f"{where}: {side} {value!r} must be a positive number of pixels")
        _check_intrinsics(where, np.asarray(image.intrinsics, np.float64))
        for name in ("world_from_camera", "rig_from_camera"):
            if getattr(image, name) is not None:
                rigid.check(getattr(image, name), f"{where}: {name}")
        if image.time is not None and not np.isfinite(image.time):
            raise ValueError(f"{where}: time {image.time} is not finite; give seconds, or None where unknown")
        if image.covariance is not None:
            _check_covariance(where, np.asarray(image.covariance, np.float64))


def _check_name(where, name):
    """Names become paths in other programs: relative, forward slashes, no step upwards, no control characters."""
    safe = isinstance(name, str) and name and name.isprintable() and "\\" not in name
    if not safe or re.match(r"[A-Za-z]:", name) or any(part in ("", ".", "..") for part in name.split("/")):
        raise ValueError(f"{where}: name {name!r} is no plain relative path; use names such as front/000.jpg")


def _check_intrinsics(where, k):
    pinhole = np.array([[k[0, 0], 0.0, k[0, 2]], [0.0, k[1, 1], k[1, 2]], [0.0, 0.0, 1.0]])
    if not np.isfinite(k).all() or k[0, 0] <= 0 or k[1, 1] <= 0:
        raise ValueError(f"{where}: intrinsics {k.tolist()} must be finite with positive focal lengths")
    if np.abs(k - pinhole).max() > 1e-6 * k[0, 0]:
        raise ValueError(f"{where}: intrinsics {k.tolist()} have entries beside fx, fy, cx, cy; remove the skew first")


def _check_covariance(where, covariance):
    scale = np.abs(covariance).max()
    if not np.isfinite(scale) or np.abs(covariance - covariance.T).max() > 1e-5 * scale:
        raise ValueError(f"{where}: covariance must be finite and symmetric; got {covariance.tolist()}")
    if np.linalg.eigvalsh(covariance)[0] < -1e-5 * scale:
        raise ValueError(f"{where}: covariance has a negative eigenvalue; it must be positive semi-definite")
