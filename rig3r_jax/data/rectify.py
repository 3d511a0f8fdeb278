"""Scenes of other lenses as scenes of pinholes: images, depths and masks resampled along rays."""

import dataclasses
import functools
import math

import cv2
import numpy as np
from jaxtyping import Bool, Float

from rig3r_jax.data.frame_bytes import MOVING, OUTSIDE, decode_depth, decode_mask, encode_depth, encode_mask
from rig3r_jax.data.image_bytes import decode_image
from rig3r_jax.data.scene import (
    BadRecord,
    DenseDepth,
    Frame,
    RigCamera,
    Scene,
    SparseDepth,
    about,
    leaving_out,
    no_frame_left,
)
from rig3r_jax.geometry.camera import Lens, Pinhole

WIDEST_DEG = 120.0  # of the pinhole, across its width and its height: farther out its pixels are stretched fourfold
_JPEG_QUALITY = 95
_STEPS = 32  # of the search for the border of the image, each of which halves what is left
_BORDER_POINTS = 64  # per side of the pinhole's image
_JPEG_START = b"\xff\xd8\xff"


@dataclasses.dataclass(frozen=True)
class Rectification:
    """From a camera's images to those of a pinhole with the same centre and axes."""

    camera: RigCamera  # the pinhole
    source: Lens
    maps: Float[np.ndarray, "h w 2"]  # for cv2.remap: where each pixel of the pinhole is in the source (centres at 0)
    seen: Bool[np.ndarray, "h w"]  # pixels of the pinhole that lie in the source image

    def frame(self, frame: Frame) -> Frame:
        """A frame of the pinhole. BadRecord where its image, depth or mask does not decode."""
        with about("image"):
            image = cv2.remap(decode_image(frame.image), self.maps, None, cv2.INTER_LINEAR)
        with about("depth"):
            depth = self._depth(decode_depth(frame.depth))
        with about("mask"):
            mask = self._mask(frame.mask)
        return dataclasses.replace(frame, image=_encode(image, frame.image), depth=encode_depth(depth), mask=mask)

    def _depth(self, depth: DenseDepth | SparseDepth) -> DenseDepth | SparseDepth:
        """Distances along rays stay what they are: only their pixels move."""
        if isinstance(depth, DenseDepth):  # of the nearest pixel: no depth between a near and a far one
            values = cv2.remap(depth.values.astype(np.float32), self.maps, None, cv2.INTER_NEAREST)
            return DenseDepth(np.where(self.seen, values, 0).astype(depth.values.dtype))
        rays = self.source.rays(depth.pixels.astype(np.float64))
        pixels = self.camera.lens.project(rays)
        height, width = self.camera.size
        kept = (rays[:, 2] > 0) & ((pixels >= 0) & (pixels < [width, height])).all(axis=1)
        moving = None if depth.moving is None else depth.moving[kept]
        return SparseDepth(pixels[kept].astype(np.float32), depth.depths[kept], moving)

    def _mask(self, mask: bytes) -> bytes:
        bits = np.zeros(self.seen.shape, np.uint8)
        if mask:
            bits = cv2.remap(decode_mask(mask), self.maps, None, cv2.INTER_NEAREST)
        return encode_mask(((bits & OUTSIDE) > 0) | ~self.seen, (bits & MOVING) > 0)


def rectified(scene: Scene) -> Scene:
    """The scene with pinholes for all cameras of other lenses; a frame that does not decode is left out.

    Each gets the largest pinhole, of the same number of pixels, that stays inside its image, up to WIDEST_DEG.
    """
    if scene.pinholes_only:
        return scene
    plans = {number: plan_of(camera) for number, camera in enumerate(scene.cameras) if camera.lens.kind != "pinhole"}
    left_out, frames = list(scene.left_out), []
    for frame in scene.frames:
        with leaving_out(left_out, f"{scene.cameras[frame.camera].name}, step {frame.step}"):
            plan = plans.get(frame.camera)
            frames.append(frame if plan is None else plan.frame(frame))
    if not frames:
        raise no_frame_left(scene.name, left_out)
    cameras = tuple(plans[i].camera if i in plans else camera for i, camera in enumerate(scene.cameras))
    return dataclasses.replace(scene, cameras=cameras, frames=tuple(frames), left_out=tuple(left_out))


def plan_of(camera: RigCamera) -> Rectification:
    """How a camera's images become a pinhole's. BadRecord where its image holds no pinhole around its axis."""
    return _plan(
        camera.name, camera.lens, camera.size, camera.readout, camera.readout_axis, camera.rig_from_camera.tobytes()
    )


@functools.lru_cache(maxsize=16)
def _plan(name: str, lens: Lens, size: tuple[int, int], readout: float, axis: str, place: bytes) -> Rectification:
    rig_from_camera = np.frombuffer(place).reshape(4, 4)
    height, width = size
    half = _half_angles(lens, size)
    if half is None:
        raise BadRecord(f"camera {name}: the axis of its {lens.kind} lens is not in its image; it cannot be rectified")
    along_u, along_v = half
    focal_u, focal_v = width / 2 / math.tan(along_u), height / 2 / math.tan(along_v)
    focal = max(focal_u, focal_v)  # square pixels, and nothing from outside the image
    pinhole = Pinhole(np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]]))
    u, v = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    pixels = lens.project(pinhole.rays(np.stack([u, v], axis=-1)))
    seen = ((pixels >= 0) & (pixels <= [width, height])).all(axis=-1)
    maps = (pixels - 0.5).astype(np.float32)
    return Rectification(RigCamera(name, pinhole, size, rig_from_camera, readout, axis), lens, maps, seen)


def _half_angles(lens: Lens, size: tuple[int, int]) -> tuple[float, float] | None:
    """Half of the field of view across width and height of the largest centred pinhole of the image's aspect whose
    border lies inside the image, where the lens's model is one-to-one; None where its axis does not."""
    height, width = size

    def fits(scale: float) -> bool:
        """Whether a pinhole of half the width `scale` on the plane z = 1 fits."""
        across, down = scale, scale * height / width
        share = np.linspace(-1, 1, _BORDER_POINTS)
        ends = np.ones_like(share)
        sides = [(across * share, down * ends), (across * share, -down * ends)]
        sides += [(across * ends, down * share), (-across * ends, down * share)]
        border = np.concatenate([np.stack([x, y, ends], axis=-1) for x, y in sides])
        pixels = lens.project(border)
        inside = ((pixels >= 0) & (pixels <= [width, height])).all()
        rays = lens.rays(pixels)  # of another point, where the model folds
        same = np.abs(rays - border / np.linalg.norm(border, axis=-1, keepdims=True)).max() < 1e-3
        return bool(inside and same)

    low, high = 1e-3, math.tan(math.radians(WIDEST_DEG / 2)) / max(1.0, height / width)
    if not fits(low):
        return None
    if not fits(high):
        for _ in range(_STEPS):
            middle = (low + high) / 2
            low, high = (middle, high) if fits(middle) else (low, middle)
        high = low
    return math.atan(high), math.atan(high * height / width)


def _encode(image: np.ndarray, like: bytes) -> bytes:
    """RGB as a JPEG where the source's image is one, else as PNG, without loss."""
    if like.startswith(_JPEG_START):
        sampling = (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)
        settings = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY, *sampling]
        return cv2.imencode(".jpg", image[..., ::-1], settings)[1].tobytes()
    return cv2.imencode(".png", image[..., ::-1])[1].tobytes()
