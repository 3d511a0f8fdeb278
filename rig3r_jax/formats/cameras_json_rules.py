"""The rules of cameras.json, for writer and reader: every refusal names file, image or camera, value and rule."""

import math
import typing

import numpy as np
from jaxtyping import Float

from rig3r_jax.formats.plain_name import check_plain_name
from rig3r_jax.geometry import rigid
from rig3r_jax.schema import (
    CAMERA_SOURCES,
    NUMBER_SOURCES,
    SCALE_SOURCES,
    Crop,
    LensLike,
    PhysicalCamera,
    PosedImage,
    Reconstruction,
)


def check_cameras(path: str, reconstruction: Reconstruction) -> None:
    """Raises ValueError for a reconstruction whose cameras no file may hold.

    These are: no images, an unsafe or repeated name, an id that is used twice or not in the table, a matrix that is no
    rigid transform, a lens with useless numbers or skew, a covariance that is not symmetric positive semi-definite, a
    number that is not finite, an unknown unit or source.
    """
    if reconstruction.length_unit not in ("metre", "scene"):
        raise ValueError(f'{path}: length unit {reconstruction.length_unit!r} must be "metre" or "scene"')
    if not reconstruction.images:
        raise ValueError(f"{path}: no images; a camera file needs at least one")
    _check_scale(path, reconstruction)
    folder = reconstruction.image_folder
    if folder is not None and not (isinstance(folder, str) and folder and folder.isprintable()):
        raise ValueError(f"{path}: image folder {folder!r} must be a path, or null where names are no files")
    ids, names = set(), set()
    for index, camera in enumerate(reconstruction.cameras):
        _check_camera(f"{path}: camera {index}", camera)
        if camera.id in ids or camera.name in names:
            raise ValueError(f"{path}: camera {index}: id {camera.id} or name {camera.name!r} occurs twice; rename it")
        ids.add(camera.id)
        names.add(camera.name)
    names = set()
    for index, image in enumerate(reconstruction.images):
        check_plain_name(f"{path}: image {index}", image.name)
        where = f"{path}: image {index} ({image.name})"
        if image.name in names:
            raise ValueError(f"{where}: the name occurs twice; names must tell the images apart")
        if image.camera is not None and image.camera not in ids:
            raise ValueError(f"{where}: camera {image.camera!r} is not in the table of cameras; add it")
        names.add(image.name)
        _check_image(where, image)


def _check_scale(path: str, reconstruction: Reconstruction) -> None:
    if (scale := reconstruction.scale) is None:
        return
    if scale.source not in SCALE_SOURCES:
        raise ValueError(f"{path}: scale source {scale.source!r} must be one of {', '.join(SCALE_SOURCES)}")
    if not (_is_number(scale.factor) and scale.factor > 0):
        raise ValueError(f"{path}: scale factor {scale.factor!r} must be a positive number")
    if (scale.source == "none") != (reconstruction.length_unit == "scene"):
        raise ValueError(
            f'{path}: lengths in "{reconstruction.length_unit}" with a scale of source "{scale.source}"; '
            'without a scale the unit is "scene", with one "metre"'
        )


def _check_camera(where: str, camera: PhysicalCamera) -> None:
    if isinstance(camera.id, bool) or not isinstance(camera.id, int | np.integer) or camera.id < 0:
        raise ValueError(f"{where}: id {camera.id!r} must be a number from 0 on")
    if not (isinstance(camera.name, str) and camera.name and camera.name.isprintable()):
        raise ValueError(f"{where}: name {camera.name!r} must be printable text")
    where = f"{where} ({camera.name})"
    if camera.source not in CAMERA_SOURCES:
        raise ValueError(f"{where}: source {camera.source!r} must be one of {', '.join(CAMERA_SOURCES)}")
    if camera.certainty is not None and not (_is_number(camera.certainty) and 0 <= camera.certainty <= 1):
        raise ValueError(f"{where}: certainty {camera.certainty!r} must lie in 0..1; give null where it is not known")
    if camera.lens is not None:
        _check_lens(where, camera.lens)
    if camera.rig_from_camera is not None:
        rigid.check(camera.rig_from_camera, f"{where}: rig_from_camera")


def _check_image(where: str, image: PosedImage) -> None:
    _check_pixels(where, {"width": image.width, "height": image.height})
    _check_lens(where, image.lens)
    rigid.check(image.world_from_camera, f"{where}: world_from_camera")
    if image.time is not None and not np.isfinite(image.time):
        raise ValueError(f"{where}: time {image.time} is not finite; give seconds, or None where unknown")
    if image.covariance is not None:
        _check_covariance(where, np.asarray(image.covariance, np.float64))
    if image.crop is not None:
        _check_crop(where, image.crop)
    for name in ("lens_source", "pose_source"):
        value = getattr(image, name)
        if value is not None and value not in NUMBER_SOURCES:
            raise ValueError(f"{where}: {name} {value!r} must be one of {', '.join(NUMBER_SOURCES)}, or null")


def _check_lens(where: str, lens: LensLike) -> None:
    try:
        lens.to_numbers()
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _check_crop(where: str, crop: Crop) -> None:
    box = (crop.left, crop.top, crop.width, crop.height)
    if not all(map(_is_number, box)) or crop.width <= 0 or crop.height <= 0:
        raise ValueError(f"{where}: crop {box} must be finite left, top, and positive width, height")
    _check_pixels(where, {"seen_width": crop.seen_width, "seen_height": crop.seen_height})


def _check_pixels(where: str, sides: dict[str, typing.Any]) -> None:
    for side, value in sides.items():
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value <= 0:
            raise ValueError(f"{where}: {side} {value!r} must be a positive number of pixels")


def _check_covariance(where: str, covariance: Float[np.ndarray, "6 6"]) -> None:
    scale = np.abs(covariance).max()
    if not np.isfinite(scale) or np.abs(covariance - covariance.T).max() > 1e-5 * scale:
        raise ValueError(f"{where}: covariance must be finite and symmetric; got {covariance.tolist()}")
    if np.linalg.eigvalsh(covariance)[0] < -1e-5 * scale:
        raise ValueError(f"{where}: covariance has a negative eigenvalue; it must be positive semi-definite")


def _is_number(value: typing.Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool) and math.isfinite(value)
