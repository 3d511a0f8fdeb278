"""What the points of a reconstruction may be coloured by: a colour per image, or a ramp over the confidence."""

import colorsys
import typing

import numpy as np
from jaxtyping import Float, UInt8

from rig3r_jax.exports.frusta import camera_colors
from rig3r_jax.exports.steps import time_steps
from rig3r_jax.formats.colormap import colormap
from rig3r_jax.schema import Reconstruction

UNKNOWN = (128, 128, 128)  # of an image of no known camera or time, or off the rig

COLORINGS = {
    "colors": "image colours",
    "confidence": "confidence (light: sure)",
    "image": "image",
    "camera": "camera",
    "time": "time (blue to violet)",
    "rig": "place of the rig (grey: off it)",
}
_GOLDEN = 0.618033988749895  # of the circle: hues of neighbours in a long row stay apart

RgbTable = UInt8[np.ndarray, "n 3"]


def image_colorings(reconstruction: Reconstruction) -> dict[str, RgbTable]:
    """Of the COLORINGS that tell images apart and have something to tell, a colour per image."""
    images, count = reconstruction.images, len(reconstruction.images)
    tables = {"image": _hues(np.arange(count))}
    if any(image.camera is not None for image in images):
        has_camera = np.array([image.camera is not None for image in images])
        tables["camera"] = _where(has_camera, camera_colors(reconstruction))
    times = np.array([np.nan if image.time is None else image.time for image in images])
    if np.isfinite(times).any() and np.nanmax(times) > np.nanmin(times):
        shares = (times - np.nanmin(times)) / (np.nanmax(times) - np.nanmin(times))
        tables["time"] = _where(np.isfinite(times), colormap(shares, "time")[:, :3])
    placed = {camera.id for camera in reconstruction.cameras if camera.rig_from_camera is not None}
    if placed:
        step_of = np.zeros(count, np.int64)
        for step, numbers in enumerate(time_steps(reconstruction)):
            step_of[numbers] = step
        tables["rig"] = _where(np.array([image.camera in placed for image in images]), _hues(step_of))
    return tables


def confidence_ramp() -> UInt8[np.ndarray, "256 3"]:
    """From the least sure to the surest."""
    return colormap(np.linspace(0.0, 1.0, 256), "confidence")[:, :3]


@typing.no_type_check
def confidence_ranks(confidence: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """The share of the points that are less sure, 0..1; equal ones have equal shares."""
    _, places, counts = np.unique(confidence, return_inverse=True, return_counts=True)
    return ((np.cumsum(counts) - counts) / max(len(confidence), 1))[places.reshape(-1)]


def _hues(numbers: np.ndarray) -> RgbTable:
    colors = [colorsys.hls_to_rgb((0.58 + number * _GOLDEN) % 1.0, 0.56, 0.62) for number in numbers.tolist()]
    return np.rint(255 * np.array(colors)).astype(np.uint8)


def _where(colored: np.ndarray, colors: RgbTable) -> RgbTable:
    """Grey elsewhere."""
    return np.where(colored[:, None], colors, np.uint8(UNKNOWN))
