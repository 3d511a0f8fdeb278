"""Images of one camera that are each calibrated by themselves, brought to one calibration.

A phone's focal length changes from image to image as it focuses, and a data set may state one for every image, while
a camera of a scene has one. Pinhole images from one place show the same rays, so that each is stretched and shifted
to what the camera would have taken: exactly, but for interpolation and one more JPEG compression. Pixels whose rays
it did not take are OUTSIDE in the mask.
"""

import dataclasses
import typing
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from rig3r_jax.data.image_bytes import decode_image
from rig3r_jax.data.scene import DenseDepth, SparseDepth

if typing.TYPE_CHECKING:
    import rig3r_jax.geometry.camera

_NEGLIGIBLE = 0.1  # pixels between both calibrations at a corner, below which the image stays as it is
_JPEG_QUALITY = 97


def middle_lens(lenses: Sequence["rig3r_jax.geometry.camera.Lens"]) -> "rig3r_jax.geometry.camera.Lens":
    """The pinhole of the medians of these pinholes' numbers."""
    return lenses[0].replace(intrinsics=np.median([lens.intrinsics for lens in lenses], axis=0))


@dataclasses.dataclass(frozen=True)
class SameRays:
    """From pixels of the camera's common calibration to those of an image's own; both of `size`, first pixels' centres
    at 0.5."""

    own_from_common: np.ndarray  # (3, 3) float64
    size: tuple[int, int]  # height, width

    @classmethod
    def between(
        cls,
        own: "rig3r_jax.geometry.camera.Lens",
        common: "rig3r_jax.geometry.camera.Lens",
        size: tuple[int, int],
    ) -> "SameRays":
        """Of two pinholes at one place that look the same way."""
        return cls(np.asarray(own.intrinsics) @ np.linalg.inv(common.intrinsics), size)

    @property
    def worth_it(self) -> bool:
        """Whether the calibrations differ by what could matter."""
        height, width = self.size
        corners = np.array([[0, 0, 1], [width, 0, 1], [0, height, 1], [width, height, 1]], np.float64)
        return bool(np.abs(corners @ (self.own_from_common - np.eye(3)).T).max() > _NEGLIGIBLE)

    def bring(self, values: np.ndarray, nearest: bool) -> np.ndarray:
        """An image of these values, zeros outside; interpolated, or the value of the nearest pixel."""
        import cv2  # where options of sources are read nobody waits for it

        half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])  # OpenCV's first pixel has its centre at 0
        matrix = (np.linalg.inv(half) @ self.own_from_common @ half)[:2]
        flags = cv2.WARP_INVERSE_MAP | (cv2.INTER_NEAREST if nearest else cv2.INTER_CUBIC)
        return cv2.warpAffine(values, matrix, self.size[::-1], flags=flags, borderMode=cv2.BORDER_CONSTANT)

    def bring_mask(self, mask: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
        """A mask, false outside."""
        return self.bring(mask.astype(np.uint8), nearest=True).astype(bool)

    def outside(self) -> Bool[np.ndarray, "h w"]:
        """Pixels of the common calibration whose rays the image does not show."""
        height, width = self.size
        u, v = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
        pixels = np.stack([u, v, np.ones_like(u)], axis=-1) @ self.own_from_common.T
        return ((pixels[..., :2] < 0) | (pixels[..., :2] > [width, height])).any(axis=-1)


def bring_image(image: bytes, same_rays: SameRays) -> bytes:
    """The image as the common calibration would have it, as JPEG."""
    import cv2

    brought = same_rays.bring(decode_image(image), nearest=False)
    brought = cv2.cvtColor(brought, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", brought, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1].tobytes()


def bring_depth(depth: DenseDepth | SparseDepth, same_rays: SameRays) -> DenseDepth | SparseDepth:
    """Distances along the same rays at the common calibration's pixels; of pixels that of the nearest, as depth has
    edges."""
    if isinstance(depth, DenseDepth):
        brought = same_rays.bring(depth.values.astype(np.float32), nearest=True)
        return DenseDepth(brought.astype(depth.values.dtype))
    pixels = _moved(depth.pixels, np.linalg.inv(same_rays.own_from_common))
    inside = ((pixels >= 0) & (pixels < np.array(same_rays.size[::-1]))).all(axis=1)
    moving = None if depth.moving is None else depth.moving[inside]
    return SparseDepth(pixels[inside], depth.depths[inside], moving)


def _moved(pixels: Float[np.ndarray, "n 2"], matrix: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "n 2"]:
    return (np.column_stack([pixels, np.ones(len(pixels))]) @ matrix.T)[:, :2].astype(np.float32)
