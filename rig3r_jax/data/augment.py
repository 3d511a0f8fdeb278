"""One stored frame -> one square view: decode, centred crop, resize, padding, colours, blur; depth and K follow.

Only the frames that were drawn are decoded. Geometry is drawn once per camera of a sample (`draw_placement`), since a
physical camera has one calibration; colours and blur are drawn per frame.
"""

import dataclasses
import math
import struct
import typing

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8

from rig3r_jax.data.scene import BadRecord, DenseDepth, Frame, RigCamera, decode_depth


@dataclasses.dataclass(frozen=True)
class ViewOptions:
    """What may happen to one view. `1 +- x` means a factor uniform in [1 - x, 1 + x]; zeros and (1, 1) switch off."""

    image_size: int = 512  # pixels, side of the square
    aspect_range: tuple[float, float] = (0.75, 1.33)  # width/height of the crop over that of the image, log-uniform
    crop_scale_range: tuple[float, float] = (0.8, 1.0)  # side of the crop over the largest crop of its aspect
    brightness: float = 0.2  # 1 +- x
    contrast: float = 0.2  # 1 +- x, about the image's mean luma
    saturation: float = 0.2  # 1 +- x
    hue: float = 0.1  # radians, +- x about the grey axis
    blur_probability: float = 0.1  # per frame
    blur_sigma_range: tuple[float, float] = (0.3, 1.0)  # pixels of the finished view
    max_pixels: int = 2**25  # larger images are refused before they are decoded

    def problems(self) -> list[str]:
        """One line for every value that cannot be used: key, value, rule."""
        rules = [("image_size", self.image_size >= 1, "at least 1"), ("max_pixels", self.max_pixels >= 1, "at least 1")]
        for key in ("aspect_range", "crop_scale_range", "blur_sigma_range"):
            low, high = getattr(self, key)
            rules.append((key, 0 < low <= high, "0 < low <= high"))
        rules.append(("crop_scale_range", self.crop_scale_range[1] <= 1, "at most 1"))
        for key in ("brightness", "contrast", "saturation", "blur_probability"):
            rules.append((key, 0 <= getattr(self, key) <= 1, "in [0, 1]"))
        rules.append(("hue", 0 <= self.hue <= math.pi, "in [0, pi]"))
        return [f"{key}={getattr(self, key)!r} must be {rule}" for key, holds, rule in rules if not holds]


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

    def to_view(self, pixels: np.ndarray) -> np.ndarray:
        """Positions (n 2) in the stored image -> positions in the view, float64; pixel centres are at +0.5 in both."""
        scale = (self.new_width / self.width, self.new_height / self.height)
        return (pixels.astype(np.float64) - (self.left, self.top)) * scale + (self.pad_left, self.pad_top)

    def intrinsics(self, stored: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "3 3"]:
        """Intrinsics of the view: the map of `to_view` times those of the stored image."""
        scale_u, scale_v = self.new_width / self.width, self.new_height / self.height
        view_from_stored = np.array(
            [
                [scale_u, 0, self.pad_left - self.left * scale_u],
                [0, scale_v, self.pad_top - self.top * scale_v],
                [0, 0, 1],
            ]
        )
        return view_from_stored @ stored

    @property
    def inside(self) -> tuple[slice, slice]:
        """Rows and columns of the view that show the image."""
        rows = slice(self.pad_top, self.pad_top + self.new_height)
        return rows, slice(self.pad_left, self.pad_left + self.new_width)


class PreparedView(typing.NamedTuple):
    """One view of a sample."""

    image: UInt8[np.ndarray, "s s 3"]  # RGB, black on padding
    image_mask: Bool[np.ndarray, "s s"]  # false on padding
    depth: Float32[np.ndarray, "s s"]  # metres along the camera's z axis, 0 where not valid
    valid: Bool[np.ndarray, "s s"]
    intrinsics: Float[np.ndarray, "3 3"]  # float64, pixels of the view


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


def prepare_view(
    frame: Frame, camera: RigCamera, placement: Placement, options: ViewOptions, rng: np.random.Generator
) -> PreparedView:
    """The view of `frame`; BadRecord (naming camera and step) when image or depth cannot be used."""
    try:
        size = encoded_size(frame.image)
        if size != camera.size or size[0] * size[1] > options.max_pixels:
            raise BadRecord(
                f"image is {size[0]}x{size[1]}, the camera states {camera.size[0]}x{camera.size[1]} and the limit is "
                f"{options.max_pixels} pixels (height x width); build the records again from images of the stated size"
            )
        image = place_image(decode_image(frame.image), placement)
        depth, valid = place_depth(frame.depth, camera.size, placement)
    except BadRecord as error:
        raise BadRecord(f"camera {camera.name}, step {frame.step}: {error}") from error
    image = blur(jitter(image, options, rng), options, rng)
    side, (rows, columns) = placement.size, placement.inside
    if image.shape[:2] == (side, side):
        mask = np.ones((side, side), bool)
    else:
        mask = np.zeros((side, side), bool)
        mask[rows, columns] = True
        image, unpadded = np.zeros((side, side, 3), np.uint8), image
        image[rows, columns] = unpadded
    return PreparedView(image, mask, depth, valid, placement.intrinsics(camera.intrinsics))


def encoded_size(data: bytes) -> tuple[int, int]:
    """Height and width that the header of a JPEG or PNG states; BadRecord when it is cut short or of another kind."""
    size = None
    try:
        if data[:8] == b"\x89PNG\r\n\x1a\n" and b"IEND" in data[-64:]:
            width, height = struct.unpack_from(">II", data, 16)
            size = (height, width)
        elif data[:2] == b"\xff\xd8":
            size = _jpeg_size(data)
    except (struct.error, IndexError):
        size = None
    if not size or 0 in size:
        raise BadRecord(
            f"image of {len(data)} bytes beginning with {data[:4]!r} is no whole JPEG or PNG; "
            "fetch the file anew and build the records again"
        )
    return size


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Walks the segments to the start of frame; None when there is none or no end of image follows it."""
    position = 2
    while data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:  # a fill byte
            position += 1
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # these three are tables and a reserved one
            height, width = struct.unpack_from(">HH", data, position + 5)
            # Decoders fill what is missing of a cut file with grey and only warn: ask for the end marker here.
            return (height, width) if data.rfind(b"\xff\xd9") > position else None
        position += 2 + struct.unpack_from(">H", data, position + 2)[0]
    return None


def decode_image(data: bytes) -> UInt8[np.ndarray, "h w 3"]:
    """RGB pixels of a JPEG or PNG as stored: the calibration knows nothing of an EXIF orientation."""
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    except cv2.error:
        image = None
    if image is None:
        raise BadRecord(f"image of {len(data)} bytes does not decode; fetch the file anew and build the records again")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def place_image(image: UInt8[np.ndarray, "h w 3"], placement: Placement) -> UInt8[np.ndarray, "nh nw 3"]:
    """The crop, resized (not yet padded)."""
    p = placement
    crop = image[p.top : p.top + p.height, p.left : p.left + p.width]
    if (p.new_height, p.new_width) == crop.shape[:2]:
        return crop
    # INTER_AREA averages when it shrinks; when it enlarges it has other pixel centres than ours.
    shrinks = p.new_height <= p.height and p.new_width <= p.width
    return cv2.resize(crop, (p.new_width, p.new_height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def place_depth(
    data: bytes, size: tuple[int, int], placement: Placement
) -> tuple[Float32[np.ndarray, "s s"], Bool[np.ndarray, "s s"]]:
    """Depth of the view and where it is known; `size` is (height, width) of the stored image.

    Dense depth is read at the stored pixel that holds the centre of the view's pixel. Points of sparse depth fall into
    the pixel that holds them, the nearest wins. Depths that are not finite and positive are unknown.
    """
    stored, p = decode_depth(data), placement
    if isinstance(stored, DenseDepth):
        values = stored.values
        if values.shape != size:
            raise BadRecord(f"depth is {values.shape}, the image is {size} (height, width); build the records again")
        if (p.width, p.height) != (p.new_width, p.new_height):
            values = values[p.top + _source_indices(p.height, p.new_height)]
            values = values[:, p.left + _source_indices(p.width, p.new_width)]
        elif (p.height, p.width) != size:
            values = values[p.top : p.top + p.height, p.left : p.left + p.width]
        depth = values.astype(np.float32)  # a copy
        if depth.shape != (p.size, p.size):
            depth, unpadded = np.zeros((p.size, p.size), np.float32), depth
            depth[p.inside] = unpadded
        valid = (depth > 0) & (depth < np.inf)  # false for NaN
        if not valid.all():
            depth[~valid] = 0
        return depth, valid
    return _splat(stored.pixels, stored.depths, placement)


def _source_indices(count: int, new_count: int) -> np.ndarray:
    """For each of `new_count` pixels of a resized line, the one of `count` pixels that holds its centre."""
    return (2 * np.arange(new_count) + 1) * count // (2 * new_count)


def _splat(pixels: np.ndarray, depths: np.ndarray, placement: Placement) -> tuple[np.ndarray, np.ndarray]:
    """Points of sub-pixel position and depth -> depth image of the view and where it is known."""
    rows, columns = placement.inside
    known = np.isfinite(pixels).all(axis=1) & (depths > 0) & (depths < np.inf)
    column, row = np.floor(placement.to_view(pixels[known])).astype(np.int64).T
    shown = (row >= rows.start) & (row < rows.stop) & (column >= columns.start) & (column < columns.stop)
    depth = np.full(placement.size**2, np.inf, np.float32)
    np.minimum.at(depth, row[shown] * placement.size + column[shown], depths[known][shown].astype(np.float32))
    valid = depth < np.inf
    depth[~valid] = 0
    return depth.reshape(placement.size, placement.size), valid.reshape(placement.size, placement.size)


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
