"""COLMAP models, text or binary, with rigs or without, through pycolmap: cameras, images and their points.

camera_from_world w x y z in the files; pixel centres at +0.5; lengths in the model's own unit. Of a model with rigs the
images' poses are composed of frames and rigs: those in images.txt may be stale.
"""

import dataclasses
import re
import typing
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from rig3r_jax.formats.colmap_lenses import lens_of_colmap
from rig3r_jax.formats.colmap_sizes import check_binary_model
from rig3r_jax.formats.foreign import HEAD, describe, is_in_place_of_text
from rig3r_jax.geometry import rigid
from rig3r_jax.schema import PhysicalCamera, PosedImage, Reconstruction

if typing.TYPE_CHECKING:
    import pycolmap

FILES, SUFFIXES = ("cameras", "images", "points3D"), (".bin", ".txt")  # of a model, each file of one suffix
PLACES = ("", "sparse/0", "sparse", "colmap/sparse/0", "colmap", "0")  # below a folder, where models lie


@dataclasses.dataclass(frozen=True)
class Observations:
    """The points of a model that one image shows."""

    pixels: Float[np.ndarray, "n 2"]  # where the image shows them
    points: Int[np.ndarray, " n"]  # rows of ColmapModel.points_world


@dataclasses.dataclass(frozen=True)
class ColmapModel:
    """A model's registered images as a reconstruction, with what else it holds."""

    reconstruction: Reconstruction  # cameras of a rig have a rig_from_camera, others None
    frames: dict[str, int]  # of images by name: number of the frame, which images of a rig share
    rigs: dict[int, int]  # of cameras by id: number of the rig
    points_world: Float[np.ndarray, "n 3"]
    errors: Float[np.ndarray, " n"]  # mean reprojection error of each point, pixels
    observations: dict[str, Observations]  # of images by name


def find_model(folder: Path) -> Path | None:
    """The folder of a model at or below a folder, by the places where COLMAP and its users put it; None for none."""
    return next((folder / place for place in PLACES if suffix_of_model(folder / place)), None)


def suffix_of_model(folder: Path) -> str:
    """.bin or .txt of the model that a folder holds; "" for none."""
    complete = (suffix for suffix in SUFFIXES if all((folder / f"{name}{suffix}").is_file() for name in FILES))
    return next(complete, "")


def is_incomplete(folder: Path) -> bool:
    """Whether a folder holds some file of a model, but no whole one."""
    holds_some = any((folder / f"{name}{suffix}").is_file() for name in FILES for suffix in SUFFIXES)
    return holds_some and not suffix_of_model(folder)


def read_model(folder: str | Path) -> ColmapModel:
    """Reads the model of a folder, the binary one where there are both.

    ValueError naming folder or file and rule: no model, one that does not read, a camera model that no lens here is.
    """
    import pycolmap  # of the extra `data`

    folder = Path(folder)
    if is_incomplete(folder):
        absent = [name for name in FILES if not any((folder / f"{name}{end}").is_file() for end in SUFFIXES)]
        lacks = ", ".join(f"{name}.txt (or .bin)" for name in absent) or "a file of one kind: they are .bin and .txt"
        raise ValueError(f"{folder}: holds a part of a COLMAP model and lacks {lacks}; restore the files")
    if not (suffix := suffix_of_model(folder)):
        raise ValueError(
            f"{folder}: holds no COLMAP model (cameras, images and points3D, .bin or .txt); give its folder"
        )
    _check_files(folder, suffix)
    if suffix == ".bin":
        check_binary_model(folder)
    model = pycolmap.Reconstruction()
    try:
        (model.read_binary if suffix == ".bin" else model.read_text)(str(folder))
        converted = _converted(model, folder)
    except Exception as error:  # pycolmap raises what its C++ threw, and for names that are no UTF-8
        if isinstance(error, ValueError) and re.match(rf"{re.escape(str(folder))}[:,/]", str(error)):
            raise
        first = (str(error).strip() or "no reason given").splitlines()[0]
        files = ", ".join(f"{name}{suffix}" for name in FILES)
        raise ValueError(f"{folder}: pycolmap does not read {files} ({first}); restore the files") from error
    if not model.num_reg_images():
        raise ValueError(f"{folder}: has no image with a pose; give a model that COLMAP has finished")
    return converted


def _check_files(folder: Path, suffix: str) -> None:
    for name in FILES:
        with open(folder / f"{name}{suffix}", "rb") as file:
            head = file.read(HEAD)
        without_points = name == "points3D" and suffix == ".txt"  # empty beside poses that were known
        if (not head and not without_points) or is_in_place_of_text(head):
            raise ValueError(f"{folder / f'{name}{suffix}'}: {describe(head)}")


def _converted(model: "pycolmap.Reconstruction", folder: Path) -> ColmapModel:
    cameras, rigs = {}, {}
    for number, camera in model.cameras.items():
        lens = lens_of_colmap(camera.model_name, camera.params.tolist(), f"{folder}, camera {number}")
        cameras[number] = PhysicalCamera(id=number, name=f"camera_{number}", lens=lens)
    for rig_number, rig in model.rigs.items():
        sensors = [sensor for sensor in rig.sensor_ids() if "CAMERA" in str(sensor.type)]
        for sensor in sensors:
            rigs[sensor.id] = rig_number
            if len(sensors) > 1:
                place = _rig_from_camera(rig, sensor, folder)
                cameras[sensor.id] = dataclasses.replace(cameras[sensor.id], rig_from_camera=place)
    images, frames, names = [], {}, {}
    for number, image in sorted(model.images.items()):
        if not image.has_pose:
            continue
        camera = model.cameras[image.camera_id]
        frames[image.name], names[number] = image.frame_id, image.name
        images.append(
            PosedImage(
                name=image.name,
                width=camera.width,
                height=camera.height,
                lens=cameras[image.camera_id].lens,
                world_from_camera=rigid.invert(_matrix(image.cam_from_world())),
                camera=image.camera_id,
            )
        )
    reconstruction = Reconstruction(
        images=tuple(images),
        cameras=tuple(cameras[number] for number in sorted(cameras)),
        length_unit="scene",
        frame="COLMAP's world",
    )
    points_world, errors, observations = _points(model, names)
    return ColmapModel(reconstruction, frames, rigs, points_world, errors, observations)


def _rig_from_camera(rig: "pycolmap.Rig", sensor: "pycolmap.sensor_t", folder: Path) -> Float[np.ndarray, "4 4"]:
    if rig.is_ref_sensor(sensor):
        return np.eye(4)
    if (camera_from_rig := rig.sensor_from_rig(sensor)) is None:
        raise ValueError(f"{folder}: its rig {rig.rig_id} has no pose of camera {sensor.id}; restore the file of rigs")
    return rigid.invert(_matrix(camera_from_rig))


def _points(
    model: "pycolmap.Reconstruction", names: dict[int, str]
) -> tuple[Float[np.ndarray, "n 3"], Float[np.ndarray, " n"], dict[str, Observations]]:
    points = list(model.points3D.values())
    pixels_of = {number: [] for number in names}
    rows_of: dict[int, list[int]] = {number: [] for number in names}
    for row, point in enumerate(points):
        for element in point.track.elements:
            if element.image_id in pixels_of:
                pixels_of[element.image_id].append(element.point2D_idx)
                rows_of[element.image_id].append(row)
    observations = {}
    for number, name in names.items():
        seen = model.images[number].points2D
        pixels = np.array([seen[index].xy for index in pixels_of[number]], np.float64).reshape(-1, 2)
        observations[name] = Observations(pixels, np.array(rows_of[number], np.int64))
    points_world = np.array([point.xyz for point in points], np.float64).reshape(-1, 3)
    return points_world, np.array([point.error for point in points], np.float64), observations


def _matrix(transform: "pycolmap.Rigid3d") -> Float[np.ndarray, "4 4"]:
    """Of the normalised quaternion: text models print six digits of it."""
    rotation = rigid.rotation_from_quat_xyzw(np.asarray(transform.rotation.quat, np.float64))
    return rigid.from_rotation_translation(rotation, np.asarray(transform.translation, np.float64))
