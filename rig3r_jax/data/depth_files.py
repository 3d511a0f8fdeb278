"""Depth images and masks in files of their own: 16-bit PNG, EXR, NPY; and the decoder of all images of numbers."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Integer, Shaped
from PIL import Image

from rig3r_jax.data.files import read_bytes
from rig3r_jax.data.frame_bytes import MOVING, OUTSIDE, encode_mask
from rig3r_jax.data.image_header import encoded_size
from rig3r_jax.data.scene import BadRecord, DenseDepth, RigCamera
from rig3r_jax.formats.declared import check_pixels, exr_size
from rig3r_jax.formats.npz import read_npy_or_npz

AXIS, RAY = "axis", "ray"  # depth along the camera's axis (z), or distance along the pixel's ray
_FARTHEST = 1e5  # metres; renderers write 1e10 and the like for the sky
_CHANNELS = ("Z", "Depth.Z", "depth.Z", "V", "Y", "R", "D")  # of an EXR, the first that there is


def read_depth_file(path: Path, camera: RigCamera, scale: float, kind: str) -> DenseDepth:
    """Metres along rays, float32, 0 where unknown (0, negative, not finite, farther than 100 km).

    Args:
        path: .png (16 bits), .exr, .npy or .npz.
        camera: whose image it belongs to; of the same size.
        scale: whole numbers hold this for 1 metre; floating-point numbers are metres.
        kind: AXIS or RAY.

    Raises:
        BadRecord: names the file, what it is and what it must be.
    """
    from rig3r_jax.geometry.depth import along_rays  # imports JAX: not where options are read

    values = DEPTH_READERS[path.suffix.lower()](path)
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[..., 0]
    if values.shape != camera.size:
        raise BadRecord(f"{path}: is {values.shape}, its image is {camera.size} (height, width); store it at that size")
    metres = values / scale if values.dtype.kind in "iu" else np.asarray(values, np.float64)
    usable = np.isfinite(metres) & (metres > 0) & (metres < _FARTHEST)
    metres = np.where(usable, metres, 0.0).astype(np.float32)
    if kind == RAY:
        return DenseDepth(metres)
    if camera.lens.wide:
        raise BadRecord(f"{path}: depth along the axis of a {camera.lens.kind} lens; give distances and depth_kind=ray")
    return DenseDepth(along_rays(metres, camera.lens))


def read_pixels(path: Path, what: str = "depth", grey: bool = False) -> Shaped[np.ndarray, "h w *channels"]:
    """The numbers of an image as they are stored: of one with a palette the places in it.

    Args:
        path: of the image.
        what: it holds, for messages.
        grey: whether colours and black and white become 8-bit grey.

    Raises:
        BadRecord: names the file that does not decode.
    """
    data = read_bytes(path)
    try:
        check_pixels("the image", *encoded_size(data))
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image.convert("L") if grey and image.mode in ("1", "RGB", "RGBA", "LA") else image)
    except BadRecord as error:
        raise BadRecord(f"{path}: {what} {error}") from error
    except (Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        reason = f"does not decode ({error}); restore the file"
        raise BadRecord(f"{path}: {what} image of {len(data)} bytes {reason}") from error


def read_whole_numbers(path: Path) -> Integer[np.ndarray, "h w"]:
    """The numbers of a depth image of one channel of at least 16 bits; BadRecord, naming the file, for any other."""
    values = read_pixels(path)
    if values.ndim != 2 or values.dtype.kind not in "iu" or values.dtype.itemsize < 2:
        raise BadRecord(f"{path}: is {values.dtype} of shape {values.shape}; a depth image has one 16-bit channel")
    return values


def _npy(path: Path) -> np.ndarray:
    data = read_bytes(path)
    try:
        values = read_npy_or_npz(data, path)
    except ValueError as error:
        raise BadRecord(str(error)) from error
    if values.dtype.kind not in "fiu":
        raise BadRecord(f"{path}: holds {values.dtype}, must hold numbers")
    return values


def _exr(path: Path) -> np.ndarray:
    import OpenEXR  # of the extra `data`

    data = read_bytes(path)
    try:
        check_pixels("the image", *exr_size(data))
        channels = OpenEXR.File(str(path), separate_channels=True).channels()
    except Exception as error:  # what its C++ threw
        raise BadRecord(f"{path}: does not read ({error}); restore the file") from error
    name = next((name for name in _CHANNELS if name in channels), None)
    if name is None:
        raise BadRecord(f"{path}: has channels {', '.join(channels)}, none of {', '.join(_CHANNELS)}; name the depth Z")
    return np.asarray(channels[name].pixels)


DEPTH_READERS: dict[str, Callable[[Path], np.ndarray]] = {
    ".png": read_whole_numbers,
    ".exr": _exr,
    ".npy": _npy,
    ".npz": _npy,
}


def read_mask_file(path: Path, camera: RigCamera, hidden_is_black: bool) -> bytes:
    """The mask of a frame from an 8-bit grey image of its size, encoded (see `frame_bytes.encode_mask`).

    0 shows the scene; 1 or 255 what is no part of it, 2 or 128 what moves, 3 both. Where `hidden_is_black`, as COLMAP's
    masks, 0 is no part of the scene and all else is.
    """
    values = read_pixels(path, "mask", grey=True)
    if values.shape != camera.size:
        raise BadRecord(f"{path}: is {values.shape}, its image is {camera.size} (height, width); store it at that size")
    if hidden_is_black:
        return encode_mask(values == 0)
    bits = np.select([values == 255, values == 128], [OUTSIDE, MOVING], values.astype(np.int64))
    if (bits > 3).any():
        raise BadRecord(
            f"{path}: holds the value {int(bits.max())}; 0 shows the scene, 1 or 255 what is no part of it, 2 or 128 "
            "what moves (a mask of COLMAP's, where black is hidden, is named <image>.png, as 0001.jpg.png)"
        )
    return encode_mask((bits & OUTSIDE) > 0, (bits & MOVING) > 0)
