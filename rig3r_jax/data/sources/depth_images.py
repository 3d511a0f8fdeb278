"""Depth images in the codes that data sets use, as distances along rays.

Every reader gives depths along the camera's axis in the data set's unit, (h, w), 0 where none is stated; `dense_depth`
makes distances along rays of them. BadRecord, naming the file, for what is no such image.
"""

import io
from pathlib import Path

import numpy as np
from jaxtyping import Float, Integer
from PIL import Image

from rig3r_jax.data.depth_files import read_pixels, read_whole_numbers
from rig3r_jax.data.files import read_bytes
from rig3r_jax.data.scene import BadRecord, DenseDepth, RigCamera
from rig3r_jax.formats.declared import check_pixels

_LARGEST = float(np.finfo(np.float16).max)


def read_float_png(path: Path) -> Float[np.ndarray, "h w"]:
    """float32 numbers whose four bytes, the lowest first, are blue, green, red and alpha of a PNG (TartanAir)."""
    values = read_pixels(path)
    if values.dtype != np.uint8 or values.ndim != 3 or values.shape[2] != 4:
        raise BadRecord(f"{path}: is {values.dtype} of shape {values.shape}, must be 8-bit RGBA that holds float32")
    return np.ascontiguousarray(values[..., [2, 1, 0, 3]]).view("<f4")[..., 0].astype(np.float32)


def read_half_png(path: Path) -> Float[np.ndarray, "h w"]:
    """float16 numbers whose bits are the 16-bit numbers of a PNG (CO3D)."""
    values = read_whole_numbers(path)
    if values.max(initial=0) > np.iinfo(np.uint16).max:
        raise BadRecord(f"{path}: holds {values.max()}, must be the 16 bits of a float16")
    return values.astype(np.uint16).view(np.float16).astype(np.float32)


def read_pfm(path: Path) -> Float[np.ndarray, "h w"]:
    """float32 numbers of a portable float map of one channel, which is stored from the bottom up."""
    data = read_bytes(path)
    if not data.startswith(b"Pf"):
        raise BadRecord(f"{path}: begins with {data[:2]!r}, a portable float map of one channel with b'Pf'; restore it")
    try:
        with Image.open(io.BytesIO(data), formats=("PPM",)) as image:
            check_pixels("the image", image.height, image.width)
            return np.asarray(image, np.float32)
    except (Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        raise BadRecord(f"{path}: depth image of {len(data)} bytes does not decode ({error}); restore it") from error


def dense_depth(
    depth: Float[np.ndarray, "h w"], camera: RigCamera, path: Path, farthest: float = _LARGEST, along: str = "axis"
) -> DenseDepth:
    """Distances along the rays of a camera, unknown where not finite, not positive or beyond `farthest`.

    float16 rounds by 1 part in 2000 at most and halves the records. BadRecord, naming the depth image at `path`, unless
    it is as large as the camera's images.

    Args:
        depth: as the reader gives it.
        camera: by whose lens `depth` along its axis becomes distances.
        path: of the depth image, for messages.
        farthest: what is beyond is sky, or as good as that.
        along: "axis", or "ray" where `depth` is the distance already.
    """
    from rig3r_jax.geometry.depth import along_rays

    if depth.shape != tuple(camera.size):
        raise BadRecord(
            f"{path}: is {depth.shape}, its image is {tuple(camera.size)} (height, width); restore the file"
        )
    usable = np.isfinite(depth) & (depth > 0) & (depth <= farthest)
    depth = np.where(usable, depth, 0).astype(np.float32)
    distances = depth if along == "ray" else along_rays(depth, camera.lens)
    return DenseDepth(np.where(distances <= _LARGEST, distances, 0).astype(np.float16))


def read_indices(path: Path, size: tuple[int, int]) -> Integer[np.ndarray, "h w"]:
    """The numbers of a segmentation: of the palette, where the image has one, or grey values."""
    values = read_pixels(path, "segmentation")
    if values.ndim != 2 or values.dtype.kind not in "iu" or values.shape != tuple(size):
        rule = f"must hold one number per pixel of its image, {tuple(size)} (height, width)"
        raise BadRecord(f"{path}: is {values.dtype} of shape {values.shape}, {rule}")
    return values
