"""Images and what is known of them, as Python callers have them, checked and gathered."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from rig3r_jax.formats.calibration import CalibratedCamera, RigCalibration
from rig3r_jax.geometry import rigid
from rig3r_jax.geometry.camera import Lens, Pinhole
from rig3r_jax.inference.inputs import Inputs
from rig3r_jax.inference.known import METRE, Known
from rig3r_jax.inference.known_lenses import read_rig, rig_notes
from rig3r_jax.inference.photographs import Photograph, find_photographs, usable

AnyImage = str | Path | np.ndarray | Image.Image
AnyImages = str | Path | Sequence[AnyImage] | np.ndarray
AnyLens = Lens | np.ndarray | None
AnyLenses = AnyLens | Sequence[AnyLens] | Mapping[str, AnyLens]
AnyRig = RigCalibration | Mapping[str, np.ndarray] | str | Path | None


def gathered(
    images: AnyImages,
    *,
    intrinsics: AnyLenses = None,
    cameras: Sequence[str | None] | None = None,
    times: Sequence[float | None] | np.ndarray | None = None,
    rig: AnyRig = None,
    poses: Sequence[np.ndarray | None] | np.ndarray | None = None,
    masks: Sequence[np.ndarray | str | Path | None] | np.ndarray | None = None,
    scale: float | None = None,
    pose_unit: str = METRE,
) -> Inputs:
    """Arguments and errors as of `api.LoadedModel.reconstruct`."""
    calibration, notes = _rig(rig), []
    prefixes = [camera.name for camera in calibration.cameras] if calibration else []
    folder, photographs = _photographs(images, prefixes, notes)
    names = [photograph.name for photograph in photographs]
    seconds = _by_name(names, times, "times", _seconds)
    seconds = {name: time for name, time in seconds.items() if time is not None}
    if cameras is not None:
        cameras = _one_each(cameras, len(names), "cameras")
        photographs = _of_cameras(photographs, cameras, times is not None, seconds)
    if calibration is not None:
        notes += rig_notes(calibration, rig if isinstance(rig, str | Path) else "rig", photographs)
    knowledge = Known(
        rig=calibration,
        lenses=_lenses(intrinsics, photographs),
        times=seconds,
        world_from_camera=_by_name(names, _finite(poses), "poses", _pose),
        masks=_by_name(names, masks, "masks", _mask),
        scale=scale,
        pose_unit=pose_unit,
    )
    sizes, _ = usable(photographs)
    return Inputs(folder, tuple(photographs), sizes, knowledge, truth=None, notes=tuple(notes), left_out=())


def _photographs(images: AnyImages, prefixes: Sequence[str], notes: list[str]) -> tuple[Path | None, list[Photograph]]:
    """The folder of image files, None where some are in memory, and the images in the order given. `prefixes` and
    `notes` as of `find_photographs`."""
    if isinstance(images, str | Path):
        return find_photographs([images], prefixes, notes)
    if not len(images):
        raise ValueError("there is no image; give paths, arrays, PIL images or a folder")
    if all(isinstance(image, str | Path) for image in images):
        return find_photographs(images, prefixes, notes)
    photographs = []
    for number, image in enumerate(images):
        if isinstance(image, str | Path):
            photographs.append(Photograph(Path(image), f"{number:04d}_{Path(image).name}"))
            continue
        name = f"{number:04d}"
        pixels = np.asarray(image.convert("RGB")) if isinstance(image, Image.Image) else np.asarray(image)
        if pixels.ndim != 3 or pixels.shape[-1] != 3 or pixels.dtype != np.uint8 or not pixels.size:
            raise ValueError(
                f"image {number} is an array of shape {pixels.shape} and {pixels.dtype}; it must be (h, w, 3) bytes, "
                "RGB (of floats in 0..1: (255 * image).round().astype('uint8'))"
            )
        photographs.append(Photograph(Path(name), name, pixels=pixels))
    return None, photographs


def _of_cameras(
    photographs: Sequence[Photograph],
    cameras: Sequence[str | None],
    by_time: bool,
    seconds: Mapping[str, float],
) -> list[Photograph]:
    """With the names of their cameras, and steps: by equal times, else by the place among the camera's images."""
    counts: dict[str | None, int] = {}
    moments = {time: step for step, time in enumerate(sorted(set(seconds.values())))}
    result = []
    for photograph, camera in zip(photographs, cameras, strict=True):
        place = counts.get(camera, 0)
        counts[camera] = place + 1
        step = moments.get(seconds.get(photograph.name)) if by_time else place
        result.append(dataclasses.replace(photograph, camera=camera, step=None if camera is None else step))
    return result


def _rig(rig: AnyRig) -> RigCalibration | None:
    if rig is None or isinstance(rig, RigCalibration):
        return rig
    if isinstance(rig, str | Path):
        return read_rig(Path(rig))
    places = {name: rigid.check(place, f"rig_from_camera of {name}") for name, place in rig.items()}
    cameras = (CalibratedCamera(name, rig_from_camera=place) for name, place in places.items())
    return RigCalibration(tuple(cameras), "as given")


def _lenses(intrinsics: AnyLenses, photographs: Sequence[Photograph]) -> dict[str, CalibratedCamera]:
    """By name of the image."""
    if intrinsics is None:
        return {}
    if isinstance(intrinsics, Mapping):
        cameras = {photograph.camera for photograph in photographs}
        if unknown := [name for name in intrinsics if name not in cameras]:
            named = ", ".join(sorted(map(str, cameras - {None}))) or "none has one"
            raise ValueError(f"intrinsics of {unknown[0]!r}, but no image is of that camera; cameras: {named}")
        each = [intrinsics.get(photograph.camera) for photograph in photographs]
    elif isinstance(intrinsics, Lens) or np.shape(intrinsics) == (3, 3):
        each = [intrinsics] * len(photographs)
    else:
        each = _one_each(intrinsics, len(photographs), "intrinsics")
    return {
        photograph.name: CalibratedCamera(photograph.name, _lens(lens, photograph.name))
        for photograph, lens in zip(photographs, each, strict=True)
        if lens is not None
    }


def _lens(lens: Lens | np.ndarray, name: str) -> Lens:
    if not isinstance(lens, Lens):
        matrix = np.asarray(lens, np.float64)
        if matrix.shape != (3, 3):
            raise ValueError(f"intrinsics of {name} have shape {matrix.shape}; give (3, 3), or a lens")
        lens = Pinhole(matrix)
    lens.check(f"intrinsics of {name}")
    return lens


def _finite(poses: Sequence[np.ndarray | None] | np.ndarray | None) -> list[np.ndarray | None] | None:
    """None for poses of NaN."""
    if poses is None:
        return None
    return [None if pose is None or np.isnan(pose).all() else np.asarray(pose, np.float64) for pose in poses]


def _seconds(time: float, name: str) -> float | None:
    """None for NaN."""
    if np.isinf(float(time)):
        raise ValueError(f"time of {name} is {time}; it must be a number of seconds, None or NaN where not known")
    return None if np.isnan(float(time)) else float(time)


def _pose(pose: np.ndarray, name: str) -> np.ndarray:
    return rigid.check(pose, f"pose of {name}")


def _mask(mask: np.ndarray | str | Path, name: str) -> np.ndarray | Path:
    return Path(mask) if isinstance(mask, str | Path) else np.asarray(mask).astype(bool)


def _by_name(names: Sequence[str], values: Sequence | np.ndarray | None, what: str, convert: Callable) -> dict:
    """By name of the image, of those that have one."""
    if values is None:
        return {}
    pairs = zip(names, _one_each(values, len(names), what), strict=True)
    return {name: convert(value, name) for name, value in pairs if value is not None}


def _one_each(values: Sequence | np.ndarray, count: int, what: str) -> list:
    if len(values) != count:
        raise ValueError(f"{len(values)} {what} for {count} images; give one to each, None where not known")
    return list(values)
