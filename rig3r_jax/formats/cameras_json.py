"""cameras.json: where every image was taken from and with which camera, with the conventions written into the file.

Schema `rig3r-cameras`, version 2; version 1 is read too. Readers refuse a version that they do not know; a field may be
added without a new version, a field never changes its meaning. Lists of numbers are row-major.

    {"schema": "rig3r-cameras", "version": 2,
     "frame": "OpenCV axes, world = first image's camera",
     "conventions": {...}            in words: axes, pixels, transforms, tangents, crops
     "length_unit": "metre"          or "scene": no metric scale was known
     "scale": {"factor": 7.5, "source": "rig baselines"} or null (not stated): lengths here over those predicted;
                                     source: given, given poses, rig baselines, none
     "image_folder": "../images"     where the images' names are files, relative to this file's folder or absolute; or
                                     null: they are no files
     "cameras": [{                   physical cameras; each took any number of the images
        "id": 0, "name": "front"
        "lens": {"kind": "pinhole", "fx": 500.0, "fy": 500.0, "cx": 320.0, "cy": 240.0} or null: its images have lenses
                                     of their own; or brown with k1 k2 p1 p2 k3, fisheye with k1 k2 k3 k4
        "rig_from_camera": [[..4], ..4] or null
        "source": "given"            or discovered, fitted
        "certainty": 0.98 or null    0..1 that its images, and no others, are of one camera
     }, ...]
     "images": [{
        "name": "front/000.jpg"      a relative path with forward slashes, unique in the file
        "width": 640, "height": 480  of the original image, upright; pixels of lenses are its pixels
        "crop": {"left": 0.0, "top": 60.0, "width": 640.0, "height": 360.0, "seen_width": 512, "seen_height": 288} or
                                     null: what a network saw, see `schema.Crop`
        "camera": 0 or null          id of its physical camera
        "lens": {...} or null        where it has no camera, or another lens than its camera
        "world_from_camera": [[..4], ..4]
        "time": 0.5 or null          seconds since the first image
        "covariance": [[..6], ..6] or null, of the tangent (v, w) in world_from_camera exp(v, w): v in the length unit
                                     before w in radians, both in the camera's own frame; the world is exact, so the
                                     covariance of a camera that defines it is zero
        "lens_source": "given"       or predicted (by a model), fitted (to what it said of several images), null
        "pose_source": "predicted"   likewise, of world_from_camera
     }, ...]}

Version 1 knows pinholes alone: no table of cameras; each image has "intrinsics", "rig_from_camera" or null, and
"camera": {"id", "source"} or null.
"""

import dataclasses
import json
import re
import typing
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Float

from rig3r_jax.formats.atomic import write_atomically
from rig3r_jax.formats.cameras_json_rules import check_cameras
from rig3r_jax.formats.json_file import read_json
from rig3r_jax.geometry.camera import Lens
from rig3r_jax.geometry.lenses import lens_from_numbers
from rig3r_jax.schema import Crop, PhysicalCamera, PosedImage, Reconstruction, Scale

SCHEMA = "rig3r-cameras"
VERSION = 2
CONVENTIONS = {
    "axes": "camera axes: x right, y down, z forward",
    "pixels": "the pixel of row i, column j has its centre at u = j + 0.5, v = i + 0.5; of the original image",
    "transforms": "a_from_b takes homogeneous column vectors of frame b to frame a; rows of the matrix in order",
    "covariance": "of the tangent (v, w) in world_from_camera exp(v, w): translation in the length unit before the "
    "rotation vector in radians, both in the camera's own frame; the world is exact",
    "crop": "seen u = (u - left) * seen_width / width, seen v = (v - top) * seen_height / height",
}

Json = dict[str, typing.Any]


def write_cameras(path: str | Path, reconstruction: Reconstruction) -> None:
    """Writes the cameras of a reconstruction (not its points) in schema version 2.

    Raises ValueError for what `cameras_json_rules.check_cameras` refuses; then nothing is written.
    """
    check_cameras(str(path), reconstruction)
    content = {
        "schema": SCHEMA,
        "version": VERSION,
        "frame": reconstruction.frame,
        "conventions": CONVENTIONS,
        "length_unit": reconstruction.length_unit,
        "scale": reconstruction.scale and dataclasses.asdict(reconstruction.scale),
        "image_folder": reconstruction.image_folder,
        "cameras": [_camera_to_json(camera) for camera in reconstruction.cameras],
        "images": [_image_to_json(image, reconstruction.camera_of(image)) for image in reconstruction.images],
    }
    text = json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False)
    text = re.sub(r"\[[^\[\]{}\"]*\]", lambda match: re.sub(r"\s+", " ", match[0]), text)  # a matrix row on one line
    write_atomically(path, (text + "\n").encode("utf-8"))


def read_cameras(path: str | Path) -> Reconstruction:
    """Reads what `write_cameras` wrote, and version 1, under the same rules; a reconstruction without points.

    ValueError names file, image or camera, value, rule and remedy.
    """
    content = read_json(path)
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise ValueError(f'{path}: has no "schema": "{SCHEMA}"; give a cameras.json of this package')
    if content.get("version") not in (1, VERSION):
        raise ValueError(
            f"{path}: version {content.get('version')!r}, this reader knows 1 and {VERSION}; update the package"
        )
    if content["version"] == 1:
        content = _from_version_1(path, content)
    for key in ("cameras", "images"):
        if not isinstance(content.get(key), list):
            raise ValueError(f"{path}: has no list of {key}; export the cameras again")
    for key, kinds in (("length_unit", str), ("image_folder", str | None)):
        if not isinstance(content.get(key), kinds):
            raise ValueError(f"{path}: {key} is {content.get(key)!r}, must be text; export the cameras again")
    cameras = tuple(_entries(path, "camera", content["cameras"], _camera_from_json))
    lenses = {camera.id: camera.lens for camera in cameras}
    images = _entries(path, "image", content["images"], lambda entry: _image_from_json(entry, lenses))
    (scale,) = _entries(path, "scale", [content], lambda entry: _optional(entry, "scale", _scale_from_json))
    reconstruction = Reconstruction(
        images=tuple(images),
        cameras=cameras,
        length_unit=content.get("length_unit"),
        scale=scale,
        frame=str(content.get("frame")),
        image_folder=content.get("image_folder"),
    )
    check_cameras(str(path), reconstruction)
    return reconstruction


def is_cameras_json(path: str | Path) -> bool:
    """Whether a JSON file says that it is one, whatever its name."""
    content = read_json(path)
    return isinstance(content, dict) and content.get("schema") == SCHEMA


def _entries(path: str | Path, what: str, entries: list, parse: Callable[[Json], typing.Any]) -> list:
    """Parsed entries of the file; a ValueError names the one that cannot be."""
    parsed = []
    for index, entry in enumerate(entries):
        try:
            parsed.append(parse(entry))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(
                f"{path}: {what} {index} does not follow the schema ({error!r}); export it again"
            ) from error
    return parsed


def _numbers(values: Float[np.ndarray, "n n"] | None) -> list[list[float]] | None:
    return None if values is None else np.asarray(values, np.float64).tolist()


def _camera_to_json(camera: PhysicalCamera) -> Json:
    return {
        "id": int(camera.id),
        "name": camera.name,
        "lens": camera.lens and camera.lens.to_numbers(),
        "rig_from_camera": _numbers(camera.rig_from_camera),
        "source": camera.source,
        "certainty": None if camera.certainty is None else float(camera.certainty),
    }


def _image_to_json(image: PosedImage, camera: PhysicalCamera | None) -> Json:
    return {
        "name": image.name,
        "width": int(image.width),
        "height": int(image.height),
        "crop": image.crop and dataclasses.asdict(image.crop),
        "camera": None if image.camera is None else int(image.camera),
        "lens": None if camera is not None and camera.lens == image.lens else image.lens.to_numbers(),
        "world_from_camera": _numbers(image.world_from_camera),
        "time": None if image.time is None else float(image.time),
        "covariance": _numbers(image.covariance),
        "lens_source": image.lens_source,
        "pose_source": image.pose_source,
    }


def _optional(entry: Json, key: str, parse: Callable[[typing.Any], typing.Any]) -> typing.Any:
    return None if entry.get(key) is None else parse(entry[key])


def _matrix(entry: Json, key: str, size: int) -> Float[np.ndarray, "n n"] | None:
    values = _optional(entry, key, lambda rows: np.array(rows, dtype=np.float64))
    if values is not None and values.shape != (size, size):
        raise ValueError(f"{key} has shape {values.shape}, must be ({size}, {size})")
    return values


def _scale_from_json(entry: Json) -> Scale:
    return Scale(float(entry["factor"]), entry["source"])


def _crop_from_json(entry: Json) -> Crop:
    left, top, width, height = (float(entry[key]) for key in ("left", "top", "width", "height"))
    return Crop(left, top, width, height, entry["seen_width"], entry["seen_height"])


def _camera_from_json(entry: Json) -> PhysicalCamera:
    return PhysicalCamera(
        id=_camera_id(entry["id"]),
        name=entry["name"],
        lens=_optional(entry, "lens", lens_from_numbers),
        rig_from_camera=_matrix(entry, "rig_from_camera", 4),
        source=entry["source"],
        certainty=_optional(entry, "certainty", float),
    )


def _camera_id(value: typing.Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"id of a camera {value!r} must be a whole number")
    return value


def _image_from_json(entry: Json, lenses: dict[typing.Any, Lens | None]) -> PosedImage:
    """`lenses` are those of the table of cameras, by id."""
    camera, lens = _optional(entry, "camera", _camera_id), _optional(entry, "lens", lens_from_numbers)
    if camera is not None and camera not in lenses:
        raise ValueError(f"camera {camera!r} is not in the table of cameras")
    lens = lens or lenses.get(camera)
    if lens is None:
        raise KeyError("lens")
    if entry.get("world_from_camera") is None:
        raise KeyError("world_from_camera")
    return PosedImage(
        name=entry["name"],
        width=entry["width"],
        height=entry["height"],
        lens=lens,
        world_from_camera=_matrix(entry, "world_from_camera", 4),
        camera=camera,
        time=_optional(entry, "time", float),
        covariance=_matrix(entry, "covariance", 6),
        crop=_optional(entry, "crop", _crop_from_json),
        lens_source=entry.get("lens_source"),
        pose_source=entry.get("pose_source"),
    )


def _from_version_1(path: str | Path, content: Json) -> Json:
    """The content in version 2: cameras of equal id become one; an image with a place in a rig but no id, one alone."""
    if not isinstance(content.get("images"), list):
        return content
    cameras: dict[int, Json] = {}

    def convert(entry: Json) -> Json:
        camera, lens = entry.get("camera"), {"kind": "pinhole"} | entry["intrinsics"]
        if camera is None and entry.get("rig_from_camera") is not None:
            taken = [other["camera"]["id"] for other in content["images"] if other.get("camera")]
            camera = {"id": max([-1, *taken, *cameras]) + 1, "source": "given"}
        if camera is not None:
            place = {"rig_from_camera": entry.get("rig_from_camera"), "source": camera["source"]}
            row = {"id": camera["id"], "name": f"camera {camera['id']}", "lens": lens, **place}
            row = cameras.setdefault(camera["id"], row)
            if any(row[key] != value for key, value in place.items()):
                raise ValueError(f"camera {camera['id']} has another source or place in the rig in an image before")
        return entry | {"camera": camera and camera["id"], "lens": lens}

    images = _entries(path, "image", content["images"], convert)
    return content | {"images": images, "cameras": list(cameras.values())}
