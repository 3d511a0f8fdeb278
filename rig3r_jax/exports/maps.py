"""Depth and confidence of every image, as maps on the grid on which the model predicts: PNG, NPY or EXR.

    depth/IMAGE.png        16 bit: value * depth_scale is the depth in the length unit, 0 is none
    confidence/IMAGE.png   16 bit: 1 + (value - 1) * confidence_scale, 0 is none
    depth/IMAGE.npy ..     float32, NaN is none
    IMAGE.exr              float32 channels Z (the depth) and confidence, NaN is none
    maps.json              scales, and of every image what its depth is and where the grid lies in the original

IMAGE is the image's name; its folders stay. Depth is along the camera's axis; of a wide lens (fisheye, unified) along
the ray. Element (row i, column j) is of the original's pixel first_pixel + (j, i) * pixel_step, centres at +0.5.
"""

import typing
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt16
from PIL import Image

from rig3r_jax.exports.job import CannotHold, Job
from rig3r_jax.formats.json_file import write_json
from rig3r_jax.schema import PointMaps, PosedImage

_LARGEST = 65535
_DEPTH_SCALES = {"metre": (1 / 1000, 1 / 256)}  # those of TUM-like tools and of KITTI, the first that all depths fit


def write_png(job: Job, folder: Path) -> Sequence[str]:
    """16-bit maps; the scales are one for all images."""
    points = _points(job)
    depth, confidence = _none_as_nan(points)
    depth_scale = _depth_scale(job.reconstruction.length_unit, depth)
    confidence_scale = max(float(np.nanmax(confidence, initial=1.0)) - 1.0, 1e-6) / (_LARGEST - 1)

    def save(image: PosedImage, z: Float[np.ndarray, "hp wp"], sure: Float[np.ndarray, "hp wp"]) -> None:
        steps = np.clip(np.round(np.nan_to_num(z) / depth_scale), 1, _LARGEST)
        _save_png(folder / "depth" / f"{image.name}.png", np.where(np.isnan(z), 0, steps).astype(np.uint16))
        steps = np.round((np.nan_to_num(sure, nan=1.0) - 1.0) / confidence_scale) + 1
        _save_png(folder / "confidence" / f"{image.name}.png", np.where(np.isnan(sure), 0, steps).astype(np.uint16))

    _write(job, folder, save, {"depth_scale": depth_scale, "confidence_scale": confidence_scale})
    unit = "metres" if job.reconstruction.length_unit == "metre" else "units of the scene"
    return [f"16-bit depth in steps of {depth_scale:.6g} {unit} (maps.json)"]


def write_npy(job: Job, folder: Path) -> Sequence[str]:
    """Float32 maps."""

    def save(image: PosedImage, z: Float[np.ndarray, "hp wp"], sure: Float[np.ndarray, "hp wp"]) -> None:
        for name, values in (("depth", z), ("confidence", sure)):
            path = folder / name / f"{image.name}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, values.astype(np.float32))

    _write(job, folder, save, {})
    return []


def write_exr(job: Job, folder: Path) -> Sequence[str]:
    """Float32 channels Z and confidence, zipped without loss."""
    import OpenEXR  # of the extra `data`

    def save(image: PosedImage, z: Float[np.ndarray, "hp wp"], sure: Float[np.ndarray, "hp wp"]) -> None:
        path = folder / f"{image.name}.exr"
        path.parent.mkdir(parents=True, exist_ok=True)
        header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
        channels = {"Z": z.astype(np.float32), "confidence": sure.astype(np.float32)}
        with OpenEXR.File(header, channels) as file:
            file.write(str(path))

    _write(job, folder, save, {})
    return []


def _points(job: Job) -> PointMaps:
    if job.reconstruction.points is None:
        raise CannotHold("the reconstruction has cameras alone, no depth")
    return job.reconstruction.points


def _none_as_nan(points: PointMaps) -> tuple[Float[np.ndarray, "v hp wp"], Float[np.ndarray, "v hp wp"]]:
    """Depth and confidence, both NaN where there is no depth."""
    has_depth = points.on_image & np.isfinite(points.depth) & (points.depth > 0) & np.isfinite(points.confidence)
    return np.where(has_depth, points.depth, np.nan), np.where(has_depth, points.confidence, np.nan)


def _depth_scale(unit: str, depth: Float[np.ndarray, "v hp wp"]) -> float:
    largest = float(np.nanmax(depth, initial=0.0)) or 1.0
    return next((scale for scale in _DEPTH_SCALES.get(unit, ()) if largest <= scale * _LARGEST), largest / _LARGEST)


def _save_png(path: Path, values: UInt16[np.ndarray, "hp wp"]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def _write(job: Job, folder: Path, save: Callable[..., None], scales: dict[str, float]) -> None:
    """Saves every image's maps, and maps.json."""
    points, entries = _points(job), []
    for image, z, sure, pixels in zip(job.reconstruction.images, *_none_as_nan(points), points.pixels, strict=True):
        save(image, z, sure)
        entries.append({"image": image.name, "depth": "ray" if image.lens.wide else "axis", **_grid(image, pixels)})
    write_json(folder / "maps.json", {"length_unit": job.reconstruction.length_unit, **scales, "maps": entries})


def _grid(image: PosedImage, pixels: Float[np.ndarray, "hp wp 2"]) -> dict[str, typing.Any]:
    rows, columns = pixels.shape[:2]
    step_u = (pixels[0, -1, 0] - pixels[0, 0, 0]) / max(columns - 1, 1)
    step_v = (pixels[-1, 0, 1] - pixels[0, 0, 1]) / max(rows - 1, 1)
    return {
        "width": columns,
        "height": rows,
        "original": [image.width, image.height],
        "first_pixel": pixels[0, 0],
        "pixel_step": [step_u, step_v],
    }
