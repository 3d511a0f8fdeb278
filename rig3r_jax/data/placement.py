"""Where a crop of a stored image lies in a square view, and image and depth brought there.

The image is averaged in whole blocks of pixels first, by the decoder where it can, then read between pixels.
"""

import typing

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8

from rig3r_jax.data.frame_bytes import decode_depth, decode_mask
from rig3r_jax.data.image_bytes import MAX_PIXELS, decode_image, decoded_reduction
from rig3r_jax.data.scene import BadRecord, SparseDepth
from rig3r_jax.geometry.camera import Lens


class Placement(typing.NamedTuple):
    """Where a crop of the stored image lies in the square view. Whole pixels all, so that intrinsics are exact."""

    size: int  # side of the square
    left: int  # crop, in pixels of the stored image
    top: int
    width: int
    height: int
    new_width: int  # the crop after the resize
    new_height: int
    pad_left: int  # where the resized crop begins in the square
    pad_top: int

    def to_view(self, pixels: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n 2"]:
        """Positions in the stored image -> positions in the view, float64; pixel centres are at +0.5 in both."""
        scale = (self.new_width / self.width, self.new_height / self.height)
        return (pixels.astype(np.float64) - (self.left, self.top)) * scale + (self.pad_left, self.pad_top)

    def lens(self, stored: Lens) -> Lens:
        """The lens of the view, of that of the stored image: what `to_view` does to its pixels."""
        scale_u, scale_v = self.new_width / self.width, self.new_height / self.height
        left, top = self.left * scale_u - self.pad_left, self.top * scale_v - self.pad_top
        return stored.resize(scale_u, scale_v).crop(left, top)

    @property
    def shrink(self) -> float:
        """Pixels of the stored image per pixel of the view, along the side where they are fewer."""
        return min(self.width / self.new_width, self.height / self.new_height)

    @property
    def inside(self) -> tuple[slice, slice]:
        """Rows and columns of the view that show the image."""
        rows = slice(self.pad_top, self.pad_top + self.new_height)
        return rows, slice(self.pad_left, self.pad_left + self.new_width)


def place_image(
    data: bytes, size: tuple[int, int], placement: Placement, max_pixels: int = MAX_PIXELS
) -> UInt8[np.ndarray, "nh nw 3"]:
    """The crop of an encoded image, resized, not yet padded.

    Args:
        data: the encoded image.
        size: its height and width; BadRecord where it decodes to another.
        placement: of the view.
        max_pixels: to which it may be decoded; BadRecord where it would be more.
    """
    p = placement
    reduction = decoded_reduction(data, size, p.shrink, max_pixels)
    image = decode_image(data, reduction)
    if image.shape[:2] != tuple(-(-side // reduction) for side in size):
        raise BadRecord(f"image decodes to {image.shape[:2]} of {size} pixels over {reduction}; fetch the file anew")
    blocks = max(1, int(p.shrink / reduction))
    if blocks * reduction == 1:
        crop = image[p.top : p.top + p.height, p.left : p.left + p.width]
        return crop if crop.shape[:2] == (p.new_height, p.new_width) else cv2.resize(crop, (p.new_width, p.new_height))
    image = _average_blocks(image, blocks) if blocks > 1 else image
    return _sample_image(image, blocks * reduction, placement)


def _average_blocks(image: np.ndarray, count: int) -> np.ndarray:
    """Means of blocks of `count` x `count` pixels; sides are rounded up, the last pixels repeated."""
    rows, columns = -image.shape[0] % count, -image.shape[1] % count
    if rows or columns:
        image = cv2.copyMakeBorder(image, 0, rows, 0, columns, cv2.BORDER_REPLICATE)
    return cv2.resize(image, (image.shape[1] // count, image.shape[0] // count), interpolation=cv2.INTER_AREA)


def _sample_image(reduced: np.ndarray, reduction: int, placement: Placement) -> np.ndarray:
    """The crop, read linearly between the pixels of the reduced image, of which it need not have a whole number."""
    p = placement
    step_u, step_v = p.width / p.new_width, p.height / p.new_height  # stored pixels
    # OpenCV has pixel centres at whole numbers: the first one of the view is half a step into the crop.
    reduced_from_crop = np.array(
        [
            [step_u / reduction, 0, (p.left + step_u / 2) / reduction - 0.5],
            [0, step_v / reduction, (p.top + step_v / 2) / reduction - 0.5],
        ]
    )
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    new_size = (p.new_width, p.new_height)
    return cv2.warpAffine(reduced, reduced_from_crop, new_size, flags=flags, borderMode=cv2.BORDER_REPLICATE)


def place_depth(
    data: bytes,
    size: tuple[int, int],
    placement: Placement,
    depth: Float32[np.ndarray, "s s"],
    valid: Bool[np.ndarray, "s s"],
    moving: bool = True,
) -> None:
    """Writes the depth of the view, and where it is known, into two arrays of zeros.

    Dense depth is read at the stored pixel that holds the centre of the view's pixel. Points of sparse depth fall into
    the pixel that holds them, the nearest wins. Depths that are not finite and positive are unknown.

    Args:
        data: what `encode_depth` gave.
        size: (height, width) of the stored image; BadRecord where dense depth has another.
        placement: of the view.
        depth: metres along the rays; stays 0 where not known.
        valid: where it is known.
        moving: whether points count that are told to be of what moves.
    """
    stored = decode_depth(data)
    if isinstance(stored, SparseDepth):
        _splat(stored, placement, depth, valid, moving)
        return
    if stored.values.shape != size:
        raise BadRecord(f"depth is {stored.values.shape}, the image is {size} (height, width); build the records again")
    depth[placement.inside], valid[placement.inside] = _with_validity(_sample_stored(stored.values, placement))


def place_mask(data: bytes, size: tuple[int, int], placement: Placement) -> UInt8[np.ndarray, "nh nw"]:
    """The bits of an encoded mask at the centres of the view's pixels, without the padding.

    BadRecord where it is not of `size`, the (height, width) of the stored image.
    """
    bits = decode_mask(data)
    if bits.shape != size:
        raise BadRecord(f"mask is {bits.shape}, the image is {size} (height, width); build the records again")
    return _sample_stored(bits, placement)


def _sample_stored(values: np.ndarray, placement: Placement) -> np.ndarray:
    """The stored values at the centres of the view's pixels, without the padding."""
    p = placement
    if p.height == p.new_height:
        values = values[p.top : p.top + p.height]
    else:
        values = values.take(p.top + _source_indices(p.height, p.new_height), axis=0)
    if p.width == p.new_width:
        return values[:, p.left : p.left + p.width]
    return values.take(p.left + _source_indices(p.width, p.new_width), axis=1)


def _source_indices(count: int, new_count: int) -> np.ndarray:
    """For each of `new_count` pixels of a resized line, the one of `count` pixels that holds its centre."""
    return (2 * np.arange(new_count) + 1) * count // (2 * new_count)


def _with_validity(values: np.ndarray) -> tuple[Float32[np.ndarray, "h w"], Bool[np.ndarray, "h w"]]:
    """Depths in float32, 0 where they are not finite and positive, and where they are."""
    if values.dtype == np.float16:
        # By bits, since numpy converts float16 one by one: those of positive finite numbers are 1..0x7bff. Moved to the
        # place of float32's exponent and mantissa they are the number over 2**112, subnormal ones too.
        bits = values.view(np.uint16)
        valid = bits - np.uint16(1) < np.uint16(0x7BFF)
        values = (bits.astype(np.uint32) << 13).view(np.float32) * np.float32(2.0**112)
    else:
        valid = (values > 0) & (values < np.inf)  # false for NaN
        values = values.astype(np.float32)  # a copy
    if not valid.all():
        values[~valid] = 0
    return values, valid


def _splat(stored: SparseDepth, placement: Placement, depth: np.ndarray, valid: np.ndarray, moving: bool) -> None:
    """Writes points of sub-pixel position and depth into their pixels."""
    assert depth.flags.c_contiguous and valid.flags.c_contiguous  # or the flat arrays below would be copies
    rows, columns = placement.inside
    u, v = placement.to_view(stored.pixels).T
    inside = (u >= columns.start) & (u < columns.stop) & (v >= rows.start) & (v < rows.stop)  # false for NaN
    inside &= (stored.depths > 0) & (stored.depths < np.inf)
    if stored.moving is not None and not moving:
        inside &= ~stored.moving
    index = v[inside].astype(np.int64) * placement.size + u[inside].astype(np.int64)
    depth.reshape(-1)[index] = np.inf
    np.minimum.at(depth.reshape(-1), index, stored.depths[inside])
    valid.reshape(-1)[index] = True
