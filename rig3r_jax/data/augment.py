"""One stored frame -> one square view: decode, centred crop, resize, padding, colours, blur; depth and K follow.

Only the frames that were drawn are decoded. Geometry is drawn once per camera of a sample (`draw_placement`), since a
physical camera has one calibration; colours and blur are drawn per frame.
"""

import math
import typing

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8

from rig3r_jax.data.frame_bytes import MOVING, OUTSIDE
from rig3r_jax.data.image_header import encoded_size
from rig3r_jax.data.options import ViewOptions
from rig3r_jax.data.placement import Placement, place_depth, place_image, place_mask
from rig3r_jax.data.scene import BadRecord, Frame, RigCamera
from rig3r_jax.geometry.camera import Lens
from rig3r_jax.geometry.lenses import MOST_COEFFICIENTS, padded_coefficients


class PreparedView(typing.NamedTuple):
    """One view of a sample."""

    image: UInt8[np.ndarray, "s s 3"]  # RGB, black on padding
    image_mask: Bool[np.ndarray, "s s"]  # false on padding, and where the image shows no part of the scene
    depth: Float32[np.ndarray, "s s"]  # metres along the rays, 0 where not valid
    valid: Bool[np.ndarray, "s s"]
    intrinsics: Float[np.ndarray, "3 3"]  # float64, pixels of the view
    coefficients: Float[np.ndarray, " n"]  # float64, of the lens beside them, followed by zeros


def draw_placement(size: tuple[int, int], options: ViewOptions, rng: np.random.Generator) -> Placement:
    """A centred crop of random aspect and scale of an image of `size` (height, width), fitted into the square."""
    low, high = options.aspect_range
    aspect = math.exp(rng.uniform(math.log(low), math.log(high)))
    scale = rng.uniform(*options.crop_scale_range)
    height = max(1, round(size[0] * min(1.0, 1 / aspect) * scale))
    width = max(1, round(size[1] * min(1.0, aspect) * scale))
    side = options.image_size
    new_height = max(1, round(height * side / max(height, width)))
    new_width = max(1, round(width * side / max(height, width)))
    return Placement(
        size=side,
        left=(size[1] - width) // 2,
        top=(size[0] - height) // 2,
        width=width,
        height=height,
        new_width=new_width,
        new_height=new_height,
        pad_left=(side - new_width) // 2,
        pad_top=(side - new_height) // 2,
    )


def blank_views(side: int, *counts: int) -> PreparedView:
    """Arrays of zeros for `prepare_view` to write to, with leading dimensions of these counts."""
    shape = (*counts, side, side)
    return PreparedView(
        image=np.zeros((*shape, 3), np.uint8),
        image_mask=np.zeros(shape, bool),
        depth=np.zeros(shape, np.float32),
        valid=np.zeros(shape, bool),
        intrinsics=np.zeros((*counts, 3, 3)),
        coefficients=np.zeros((*counts, MOST_COEFFICIENTS)),
    )


def prepare_view(
    frame: Frame,
    camera: RigCamera,
    placement: Placement,
    options: ViewOptions,
    rng: np.random.Generator,
    out: PreparedView | None = None,
) -> PreparedView:
    """The view of `frame`; BadRecord (naming camera and step) when image, depth or mask cannot be used.

    `out` are arrays of zeros to write it to, such as rows of a sample's; by default new ones.
    """
    out = blank_views(placement.size) if out is None else out
    try:
        size = encoded_size(frame.image)
        if size != camera.size:
            raise BadRecord(
                f"image is {size[0]}x{size[1]}, the camera states {camera.size[0]}x{camera.size[1]} (height x width); "
                "build the records again from images of the stated size"
            )
        image = place_image(frame.image, size, placement, options.max_pixels)
        place_depth(frame.depth, size, placement, out.depth, out.valid, options.moving_points)
        mask = place_mask(frame.mask, size, placement) if frame.mask else None
    except BadRecord as error:
        raise BadRecord(f"camera {camera.name}, step {frame.step}: {error}") from error
    out.image[placement.inside] = blur(jitter(image, options, rng), options, rng)
    lens = placement.lens(camera.lens)
    out.image_mask[placement.inside] = _on_scene(lens, placement, mask)
    if mask is not None and not options.moving_points:
        moving = (mask & MOVING) != 0
        out.valid[placement.inside][moving], out.depth[placement.inside][moving] = False, 0
    out.intrinsics[:], out.coefficients[:] = lens.intrinsics, padded_coefficients(lens)
    return out


def _on_scene(lens: Lens, placement: Placement, mask: np.ndarray | None) -> np.ndarray | bool:
    """Which pixels of the view, without its padding, show the scene by the lens and by the mask."""
    seen = True
    if lens.wide:
        rows, columns = placement.inside
        u, v = np.meshgrid(np.arange(columns.start, columns.stop) + 0.5, np.arange(rows.start, rows.stop) + 0.5)
        seen = lens.sees(np.stack([u, v], axis=-1))
    return seen if mask is None else seen & ((mask & OUTSIDE) == 0)


_EYE = np.eye(3)
_LUMA = np.array([0.299, 0.587, 0.114])
_GREY = np.full((3, 3), 1 / 3)  # projection on the grey axis
_GREY_CROSS = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)  # cross product with it


def jitter(
    image: UInt8[np.ndarray, "h w 3"], options: ViewOptions, rng: np.random.Generator
) -> UInt8[np.ndarray, "h w 3"]:
    """Random hue, saturation, contrast and brightness. All four are affine in RGB, so one 3x4 matrix does them."""
    ranges = (options.brightness, options.contrast, options.saturation, options.hue)
    if not any(ranges):
        return image
    draws = rng.uniform(-1, 1, 4) * ranges
    brightness, contrast, saturation = 1 + draws[:3]
    cosine, sine = math.cos(draws[3]), math.sin(draws[3])
    rotate = cosine * _EYE + sine * _GREY_CROSS + (1 - cosine) * _GREY  # Rodrigues
    saturate = saturation * _EYE + (1 - saturation) * _LUMA  # each row: towards the luma
    gain = contrast * brightness * (saturate @ rotate)
    mean_luma = brightness * (_LUMA @ cv2.mean(image)[:3])
    offset = np.full((3, 1), (1 - contrast) * mean_luma)
    return cv2.transform(image, np.concatenate([gain, offset], axis=1))  # rounds and saturates


def blur(
    image: UInt8[np.ndarray, "h w 3"], options: ViewOptions, rng: np.random.Generator
) -> UInt8[np.ndarray, "h w 3"]:
    """Gaussian blur of random width, with `blur_probability`."""
    if not options.blur_probability:
        return image
    happens, sigma = rng.random(), rng.uniform(*options.blur_sigma_range)
    return cv2.GaussianBlur(image, (0, 0), sigma) if happens < options.blur_probability else image
