"""What each pixel of a camera looks at, for the ray caster: its ray, how fine it is, and whether light reaches it."""

import dataclasses
import functools
import math
import typing
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Float32, Int

from rig3r_jax.geometry.camera import Lens, Pinhole

IMAGE_CIRCLE_DEG = 190.0  # across the circle of light that a wide lens throws on its sensor; all beyond is black
_STEP = 1e-3  # pixels, of the differences that tell how fast rays turn


@dataclasses.dataclass(frozen=True)
class Sight:
    """The pixels of a square image of a lens, row by row: n = size * size."""

    # To the plane z = 1 of the camera, so that what is as many rays away lies on a plane; of wide lenses, 1 long.
    rays: Float32[np.ndarray, "3 n"]
    focal: Float32[np.ndarray, "n"]  # pixels per metre at the ray's end, seen face on, along the pixel's longer side
    lit: Bool[np.ndarray, "size size"]


@functools.lru_cache(maxsize=32)  # lenses of a pool of rigs
def sight(lens: Lens, size: int) -> Sight:
    """The sight of a camera. Of a wide lens pixels are lit within its image circle, of others where they have a ray."""
    pixels = _pixels(np.arange(size * size), size)
    rays, lit = lens.rays(pixels), lens.sees(pixels)
    if lens.wide:
        lit = lit & (rays[:, 2] > math.cos(math.radians(IMAGE_CIRCLE_DEG / 2)))
    rays = np.where(lit[:, None], rays, [0.0, 0.0, 1.0])
    length = np.ones(len(rays)) if lens.wide else 1 / rays[:, 2]
    if isinstance(lens, Pinhole):
        focal = np.full(len(rays), lens.intrinsics[[0, 1], [0, 1]].min())
    else:
        focal = np.where(lit, 1 / (np.where(lit, _widest_turn(lens, pixels), 1.0) * length), 1.0)
    return Sight((rays.T * length).astype(np.float32), focal.astype(np.float32), lit.reshape(size, size))


def lit_pixels(lens: Lens, size: int) -> Bool[np.ndarray, "size size"]:
    """Which pixels of a square image light reaches."""
    return np.ones((size, size), bool) if isinstance(lens, Pinhole) else sight(lens, size).lit


@typing.no_type_check
@struct.dataclass
class Rays:
    """Of the same n pixels of some frames, by their `Sight`."""

    rays: Float[Array, "f 3 n"]
    focal: Float[Array, "f n"]

    def of_frames(self) -> tuple[tuple, Array]:
        """(right, down, ahead), each (f n), and focal lengths that broadcast against them."""
        return (self.rays[:, 0], self.rays[:, 1], self.rays[:, 2]), self.focal


@typing.no_type_check
@struct.dataclass
class PinholeRays:
    """The same of pinholes, made on the device: equal seeds give, to the last bit, the worlds of earlier versions."""

    pixels: Float[Array, "2 n"]
    pinhole: Float[Array, "f 4"]  # fx, fy, cx, cy

    def of_frames(self) -> tuple[tuple, Array]:
        """See `Rays`."""
        fx, fy, cx, cy = (self.pinhole[:, i, None] for i in range(4))
        return ((self.pixels[0] - cx) / fx, (self.pixels[1] - cy) / fy, 1.0), jnp.minimum(fx, fy)


def rays_of_tile(lenses: Sequence[Lens], size: int, tile: Int[np.ndarray, "n"]) -> Rays | PinholeRays:
    """The rays of the pixels of these numbers, row by row, in frames of these lenses."""
    if all(isinstance(lens, Pinhole) for lens in lenses):
        pinhole = np.stack([np.asarray(lens.intrinsics)[[0, 1, 0, 1], [0, 1, 2, 2]] for lens in lenses])
        return PinholeRays(_pixels(tile, size).T.astype(np.float32), pinhole.astype(np.float32))
    sights = [sight(lens, size) for lens in lenses]
    return Rays(np.stack([one.rays[:, tile] for one in sights]), np.stack([one.focal[tile] for one in sights]))


def _pixels(number: Int[np.ndarray, "n"], size: int) -> Float[np.ndarray, "n 2"]:
    return np.stack([number % size, number // size], axis=-1) + 0.5


def _widest_turn(lens: Lens, pixels: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n"]:
    """Radians by which the ray turns where the pixel moves by 1 in the direction that turns it most: the larger
    singular value of the Jacobian, by central differences."""
    right, down = ((lens.rays(pixels + step) - lens.rays(pixels - step)) / (2 * _STEP) for step in _STEP * np.eye(2))
    a, b, d = (np.sum(one * other, axis=-1) for one, other in ((right, right), (right, down), (down, down)))
    return np.sqrt((a + d) / 2 + np.hypot((a - d) / 2, b))
