"""Rigs and lenses that a user knows: which file says what, and of which photographs it is.

Lenses are of the upright original images, as viewers show them.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rig3r_jax.data.files import read_bytes
from rig3r_jax.data.image_header import exif_orientation
from rig3r_jax.data.image_names import match_names
from rig3r_jax.data.sources.folder.calibration import read_calibration
from rig3r_jax.formats.calibration import CalibratedCamera, RigCalibration
from rig3r_jax.formats.cameras_json import SCHEMA, is_cameras_json, read_cameras
from rig3r_jax.formats.colmap import FILES, find_model, is_incomplete, read_model, suffix_of_model
from rig3r_jax.formats.json_file import read_json
from rig3r_jax.formats.lens_table import lenses_of_json, read_lens_table
from rig3r_jax.formats.transforms_json import read_transforms
from rig3r_jax.inference.known import Known
from rig3r_jax.inference.photographs import Photograph
from rig3r_jax.schema import Reconstruction

ALL = "*"  # the key of a lens of all images
_SAME_SHAPE = 0.01  # by how much the scales of the two sides may differ for an image to be one resized


def read_rig(path: Path) -> RigCalibration:
    """The rig of COLMAP's rig_config.json, Kalibr's camchain.yaml, or our cameras.json.

    ValueError naming file, value, rule and remedy.
    """
    if not path.is_file():
        raise ValueError(f"{path}: is no file; give a rig_config.json, a camchain.yaml or a cameras.json")
    if path.suffix.lower() == ".json" and is_cameras_json(path):
        return _rig_of(read_cameras(path), path)
    return read_calibration(path)


def camera_of(rig: RigCalibration, photograph: Photograph) -> CalibratedCamera | None:
    """The camera of a rig that took an image: that of its folder; of an image in none, the only one of the rig."""
    if photograph.camera is None:
        return rig.cameras[0] if len(rig.cameras) == 1 else None
    return rig.named(photograph.camera)


def calibration_of(knowledge: Known, photograph: Photograph) -> CalibratedCamera | None:
    """The lens that is stated of an image: that of its name, else of its camera in the rig."""
    in_rig = camera_of(knowledge.rig, photograph) if knowledge.rig else None
    return knowledge.lenses.get(photograph.name) or in_rig


def rig_notes(rig: RigCalibration, path: Path | str, photographs: Sequence[Photograph]) -> list[str]:
    """How many images are of a camera of the rig, which `path` names. ValueError where none is, or cameras of the rig
    do not say where they sit or what lens they have."""
    if unplaced := [camera.name for camera in rig.cameras if camera.rig_from_camera is None]:
        raise ValueError(
            f"{path}: does not say where {', '.join(unplaced)} sits in the rig; add it, or give its lenses alone by "
            "--cameras"
        )
    names = [camera.name for camera in rig.cameras]
    fitting = [one for one in photographs if camera_of(rig, one) is not None]
    if not fitting:
        folders = ", ".join(dict.fromkeys(one.camera or "no folder" for one in photographs))
        raise ValueError(
            f"{path}: the rig's cameras are {', '.join(names)}, the images are of {folders}; put the images of each "
            "camera into a folder of its name, images/<camera>/"
        )
    lenses = sum(camera.lens is not None for camera in rig.cameras)
    return [
        f"rig of {len(names)} cameras ({lenses} with lenses) of {len(fitting)} of {len(photographs)} images; "
        f"its frame is {rig.frame}",
        *rig.notes,
    ]


def read_lenses(path: Path, photographs: Sequence[Photograph]) -> tuple[dict[str, CalibratedCamera], list[str]]:
    """Lenses by the names of the images, with the sizes that they are for, and notes.

    A file may say them by image, by the folder of a camera's images, or for all (`*`); what is more particular counts.
    ValueError naming file, value, rule and remedy, and where none is of an image.
    """
    content = read_json(path) if path.suffix.lower() == ".json" else None
    if isinstance(content, dict) and content.get("schema") == SCHEMA:
        reconstruction = read_cameras(path)
        return _fitted(_by_image(reconstruction), _by_camera(reconstruction), photographs, path)
    if isinstance(content, dict) and "frames" in content:
        frames = read_transforms(path)
        return _fitted(
            {one.name: CalibratedCamera(one.name, one.lens, one.size) for one in frames}, {}, photographs, path
        )
    if isinstance(content, dict):
        table = lenses_of_json(content, path)
        return _fitted(table, table, photographs, path)
    if content is not None or path.suffix.lower() in (".yaml", ".yml"):
        calibration = read_calibration(path)
        cameras = {camera.name: camera for camera in calibration.cameras if camera.lens is not None}
        if not cameras:
            raise ValueError(f"{path}: states no lens; add camera_model_name and camera_params")
        lenses, notes = _fitted({}, _of_only(cameras), photographs, path)
        return lenses, [*notes, *calibration.notes]
    if path.is_dir() or path.name.startswith("cameras."):
        return _of_colmap(path, photographs)
    table = read_lens_table(path)
    return _fitted(table, table, photographs, path)


def check_size(photograph: Photograph, size: tuple[int, int], camera: CalibratedCamera) -> None:
    """ValueError where a calibration is for another size than that of the upright image (height, width): how the two
    differ, and the remedy."""
    if camera.size is None or camera.size == size:
        return
    stated = f"{photograph.path}: is {size[1]} x {size[0]} pixels upright, its calibration ({camera.name}) is for "
    stated += f"{camera.size[1]} x {camera.size[0]}"
    if camera.size == size[::-1]:
        turned = photograph.pixels is None and exif_orientation(read_bytes(photograph.path)) >= 5
        why = "the image as it is stored, before its EXIF orientation turns it" if turned else "an image on its side"
        raise ValueError(
            f"{stated}: {why}; calibrate the upright image, or store its pixels upright and calibrate that"
        )
    down, across = size[0] / camera.size[0], size[1] / camera.size[1]
    if abs(down / across - 1) < _SAME_SHAPE:
        raise ValueError(
            f"{stated}: the image is resized by {across:.4g}; give the original images, or multiply width, height, "
            f"focal lengths and centre by {across:.4g}"
        )
    raise ValueError(f"{stated}, of another shape; give the calibration of these images, or the images before cropping")


def _rig_of(reconstruction: Reconstruction, path: Path) -> RigCalibration:
    placed = [camera for camera in reconstruction.cameras if camera.rig_from_camera is not None]
    if not placed:
        raise ValueError(f"{path}: none of its cameras has a rig_from_camera; it states no rig")
    if reconstruction.length_unit != "metre":
        raise ValueError(f"{path}: its lengths are units of a scene, those of a rig must be metres; scale it first")
    by_name = _by_camera(reconstruction)
    cameras = (
        dataclasses.replace(
            by_name.get(camera.name, CalibratedCamera(camera.name)), rig_from_camera=camera.rig_from_camera
        )
        for camera in placed
    )
    return RigCalibration(tuple(cameras), "that of rig_from_camera")


def _by_image(reconstruction: Reconstruction) -> dict[str, CalibratedCamera]:
    cameras = {camera.id: camera.name for camera in reconstruction.cameras}
    return {
        image.name: CalibratedCamera(cameras.get(image.camera, image.name), image.lens, (image.height, image.width))
        for image in reconstruction.images
    }


def _by_camera(reconstruction: Reconstruction) -> dict[str, CalibratedCamera]:
    """Of the cameras that have a lens of their own, with the size of their images where that is one."""
    cameras = {}
    for camera in reconstruction.cameras:
        sizes = {(image.height, image.width) for image in reconstruction.images if image.camera == camera.id}
        if camera.lens is not None:
            cameras[camera.name] = CalibratedCamera(camera.name, camera.lens, min(sizes) if len(sizes) == 1 else None)
    return cameras


def _of_colmap(path: Path, photographs: Sequence[Photograph]) -> tuple[dict[str, CalibratedCamera], list[str]]:
    """Of a model, by image; or of a cameras.txt alone, for all images where it has one camera."""
    folder = path if path.is_dir() else path.parent
    model = find_model(folder) if path.is_dir() else (folder if suffix_of_model(folder) else None)
    if model is not None or is_incomplete(folder) and path.is_dir():
        return _fitted(_by_image(read_model(model or folder).reconstruction), {}, photographs, path)
    if path.is_dir():
        raise ValueError(
            f"{path}: holds no COLMAP model ({', '.join(FILES)}, .bin or .txt); give its folder, or a file"
        )
    if path.suffix.lower() == ".bin":
        raise ValueError(f"{path}: is read with its model alone; give the folder of cameras, images and points3D")
    table = read_lens_table(path)
    if len(table) > 1:
        raise ValueError(
            f"{path}: has {len(table)} cameras, and no images.txt beside it says which images are whose; give the "
            "folder of the model"
        )
    return _fitted({}, _of_only(table), photographs, path)


def _of_only(cameras: Mapping[str, CalibratedCamera]) -> dict[str, CalibratedCamera]:
    """The same; the only camera of a calibration is that of all images, whatever its name."""
    return {ALL: next(iter(cameras.values()))} if len(cameras) == 1 else dict(cameras)


def _fitted(
    by_image: dict[str, CalibratedCamera],
    by_camera: dict[str, CalibratedCamera],
    photographs: Sequence[Photograph],
    path: Path,
) -> tuple[dict[str, CalibratedCamera], list[str]]:
    folders = {one.name: one.camera or one.name.rpartition("/")[0] for one in photographs}
    named = {name: camera for name, camera in by_image.items() if name != ALL and name not in folders.values()}
    matched = match_names(named, list(folders), path)
    of_image = {image: named[name] for name, image in matched.items()}
    lenses = {}
    for name, folder in folders.items():
        camera = of_image.get(name) or _of_folder(folder, by_camera) or by_camera.get(ALL)
        if camera is not None:
            lenses[name] = camera
    if not lenses:
        some, images = ", ".join([*(by_image | by_camera)][:3]), ", ".join(list(folders)[:3])
        raise ValueError(
            f"{path}: states lenses of {some}, which are none of the {len(folders)} images, such as {images}, nor "
            f"folders of them; name both alike, or name a lens of all images {ALL}"
        )
    note = f"intrinsics of {len(lenses)} of {len(folders)} images ({_kinds(lenses.values())}) from {path.name}"
    others = [name for name in named if name not in matched]
    note += f"; {len(others)} others are of no image here, such as {others[0]}" if others else ""
    return lenses, [note]


def _of_folder(folder: str, by_camera: Mapping[str, CalibratedCamera]) -> CalibratedCamera | None:
    """Of the longest of the cameras' names that the folder is, or lies in: of cam0, that of cam0/data."""
    parts = folder.split("/")
    ancestors = ("/".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next((by_camera[name] for name in ancestors if name in by_camera), None)


def _kinds(cameras: Iterable[CalibratedCamera]) -> str:
    return ", ".join(dict.fromkeys(camera.lens.kind for camera in cameras))
