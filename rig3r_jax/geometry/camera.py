"""Cameras: pixels, grids of them, and lenses, which turn pixels into rays and points into pixels.

Pixel centres lie at +0.5, (u, v) is (right, down), intrinsics are 3x3 and upper triangular.
The leading axes of intrinsics and distortion are the first axes of pixels and points: intrinsics (b v 3 3) meet points
(b v h w 3), intrinsics (3 3) meet anything; a grid shared by many cameras is passed with axes of length 1 before it.
A lens of numpy arrays meets numpy points in numpy, in their own precision (float64 in all host code); where either is
JAX's, in JAX.
"""

import typing

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from rig3r_jax.geometry.distortion import (
    distort_brown,
    distort_fisheye,
    fisheye_reach,
    undistort_brown,
    undistort_fisheye,
)
from rig3r_jax.geometry.numerics import (
    AnyArray,
    align_leading,
    array_module,
    safe_divide,
    safe_norm,
    safe_normalize,
    safe_sqrt,
)

_SAME_PIXEL = 0.05  # pixels between one and the image of its ray, where the model is not one-to-one much more


def pixel_centers(height: int, width: int, dtype=jnp.float32) -> Float[Array, "{height} {width} 2"]:
    """(u, v) of every pixel's centre."""
    return cell_centers(height, width, height, width, dtype)


def cell_centers(height: int, width: int, rows: int, cols: int, dtype=jnp.float32) -> Float[Array, "{rows} {cols} 2"]:
    """(u, v), in pixels, of the centres of rows x cols equal cells of the image."""
    u = (jnp.arange(cols, dtype=dtype) + 0.5) * (width / cols)
    v = (jnp.arange(rows, dtype=dtype) + 0.5) * (height / rows)
    return jnp.stack(jnp.meshgrid(u, v, indexing="xy"), axis=-1)


def cell_pixels(size: int, count: int) -> Int[np.ndarray, "{count}"]:
    """Indices of the pixels that hold the centres of `count` equal cells along an axis of `size` pixels."""
    return ((np.arange(count) + 0.5) * size / count).astype(np.int64)


def stride_pixels(size: int, count: int) -> Int[np.ndarray, "{count}"]:
    """Indices of `count` pixels along an axis: of each run of size // count, the one in or just past its middle."""
    if count < 1 or size % count:
        raise ValueError(f"{count} points along {size} pixels: the count must divide the size; choose a divisor")
    stride = size // count
    return stride // 2 + stride * np.arange(count)


def normalized_from_pixels(
    pixels: Float[AnyArray, "... 2"], intrinsics: Float[AnyArray, "*b 3 3"]
) -> Float[AnyArray, "... 2"]:
    """(x, y) on the plane z = 1 of the camera: K^-1 (u, v, 1), skew included."""
    k = align_leading(intrinsics, 2, pixels.ndim - 1)
    y = (pixels[..., 1] - k[..., 1, 2]) / k[..., 1, 1]
    x = (pixels[..., 0] - k[..., 0, 2] - k[..., 0, 1] * y) / k[..., 0, 0]
    return array_module(pixels, intrinsics).stack([x, y], axis=-1)


def pixels_from_normalized(
    normalized: Float[AnyArray, "... 2"], intrinsics: Float[AnyArray, "*b 3 3"]
) -> Float[AnyArray, "... 2"]:
    """(u, v) of points (x, y) on the plane z = 1."""
    xp = array_module(normalized, intrinsics)
    k = align_leading(intrinsics, 2, normalized.ndim - 1)
    x, y = normalized[..., 0], normalized[..., 1]
    return xp.stack([k[..., 0, 0] * x + k[..., 0, 1] * y + k[..., 0, 2], k[..., 1, 1] * y + k[..., 1, 2]], axis=-1)


@typing.no_type_check
@struct.dataclass(eq=False)
class Lens:
    """What a camera does to light: one camera's, or those of many with leading axes. Use a class of `lenses.LENSES`."""

    intrinsics: Float[AnyArray, "*b 3 3"]  # pixels

    kind: typing.ClassVar[str]  # the name in files
    coefficients: typing.ClassVar[tuple[str, ...]]  # names of the entries of `distortion`, in order
    wide: typing.ClassVar[bool] = False  # sees 180 degrees and more: what it sees may have no depth along its axis

    def rays(self, pixels: Float[AnyArray, "... 2"]) -> Float[AnyArray, "... 3"]:
        """Unit directions_camera of pixels."""
        return self._directions(normalized_from_pixels(pixels, self.intrinsics))

    def project(self, points_camera: Float[AnyArray, "... 3"]) -> Float[AnyArray, "... 2"]:
        """Pixels of points. Where z <= 0 they mean nothing (but are finite) except for a `wide` lens: mask by z."""
        return pixels_from_normalized(self._image(points_camera), self.intrinsics)

    def sees(self, pixels: Float[AnyArray, "... 2"]) -> Bool[AnyArray, "..."]:
        """Whether a pixel has a ray: false beyond the circle in which the lens's model is one-to-one."""
        xp = array_module(pixels, self.intrinsics)
        return xp.abs(self.project(self.rays(pixels)) - pixels).max(axis=-1) < _SAME_PIXEL

    def crop(self, left: float | int | Float[AnyArray, "*b"], top: float | int | Float[AnyArray, "*b"]) -> "Lens":
        """The lens after the first `left` columns and `top` rows of pixels are cut away (negative: padding added)."""
        return self.replace(intrinsics=self.intrinsics - self._rows(left, top, 0.0) * self.intrinsics[..., 2:, :])

    def resize(
        self, scale_u: float | int | Float[AnyArray, "*b"], scale_v: float | int | Float[AnyArray, "*b"]
    ) -> "Lens":
        """The lens after the width is multiplied by scale_u, the height by scale_v (centres at +0.5: no shift)."""
        return self.replace(intrinsics=self.intrinsics * self._rows(scale_u, scale_v, 1.0))

    def to_numbers(self) -> dict[str, str | float]:
        """One camera's kind, fx, fy, cx, cy and coefficients by name, for files; ValueError where they do not do."""
        self.check("lens")
        k = np.asarray(self.intrinsics, np.float64)
        if abs(k[0, 1]) > 1e-6 * k[0, 0]:
            raise ValueError(f"intrinsics {k.tolist()} have entries beside fx, fy, cx, cy; remove the skew first")
        focal_and_centre = {"fx": k[0, 0], "fy": k[1, 1], "cx": k[0, 2], "cy": k[1, 2]}
        named = focal_and_centre | dict(zip(self.coefficients, np.asarray(self.distortion, np.float64), strict=True))
        return {"kind": self.kind} | {name: float(value) for name, value in named.items()}

    def check(self, where: str, error: type[ValueError] = ValueError) -> None:
        """Raises `error`, naming `where`, value and rule, unless this is the lens of one camera that can be used."""
        k, distortion = np.asarray(self.intrinsics), np.asarray(self.distortion)
        if k.shape != (3, 3) or not np.isfinite(k).all():
            raise error(f"{where}: intrinsics {k.tolist()} must be a finite 3x3 matrix; correct the calibration")
        if not (k[0, 0] > 0 and k[1, 1] > 0):
            raise error(f"{where}: focal lengths {k[0, 0]}, {k[1, 1]} must be positive pixels; correct the calibration")
        if np.any(k[1:, 0]) or np.any(k[2] != [0, 0, 1]):
            raise error(f"{where}: intrinsics {k.tolist()} must be upper triangular with a 1 at the end; correct it")
        if distortion.shape != (len(self.coefficients),) or not np.isfinite(distortion).all():
            what = f"distortion {distortion.tolist()} of a {self.kind} lens"
            raise error(f"{where}: {what} must be finite {' '.join(self.coefficients)}; correct it")

    def _rows(self, first, second, third) -> AnyArray:
        """Numbers for the three rows of the intrinsics, which broadcast against them."""
        dtype = self.intrinsics.dtype
        if isinstance(first, int | float) and isinstance(second, int | float):  # 20 times as fast, for the loader
            return np.array([[first], [second], [third]], dtype)
        xp = array_module(self.intrinsics, first, second)
        rows = xp.broadcast_arrays(*(xp.asarray(row, dtype) for row in (first, second, third)))
        return xp.stack(rows, axis=-1)[..., None]

    def __eq__(self, other: object) -> bool:
        """Same kind and numbers. Of concrete arrays only, as `hash`."""
        return type(self) is type(other) and all(map(np.array_equal, jax.tree.leaves(self), jax.tree.leaves(other)))

    def __hash__(self) -> int:
        return hash((self.kind, *(tuple(np.ravel(leaf).tolist()) for leaf in jax.tree.leaves(self))))


@struct.dataclass(eq=False)
class Pinhole(Lens):
    """Straight lines stay straight."""

    kind = "pinhole"
    coefficients = ()

    @property
    def distortion(self) -> Float[AnyArray, "*b 0"]:
        """No coefficients."""
        return self.intrinsics[..., 0, :0]

    def sees(self, pixels: Float[AnyArray, "... 2"]) -> Bool[AnyArray, "..."]:
        """Every pixel has a ray."""
        return array_module(pixels, self.intrinsics).ones(pixels.shape[:-1], bool)

    def _directions(self, normalized):
        return _unit_rays(normalized)

    def _image(self, points_camera):
        return _perspective(points_camera)


@typing.no_type_check
@struct.dataclass(eq=False)
class Brown(Lens):
    """Brown-Conrady: radial and tangential distortion of lenses of moderate fields, OpenCV's order of coefficients."""

    distortion: Float[AnyArray, "*b 5"]

    kind = "brown"
    coefficients = ("k1", "k2", "p1", "p2", "k3")

    def _directions(self, normalized):
        return _unit_rays(undistort_brown(normalized, self.distortion))

    def _image(self, points_camera):
        return distort_brown(_perspective(points_camera), self.distortion)


@typing.no_type_check
@struct.dataclass(eq=False)
class Fisheye(Lens):
    """Kannala-Brandt: fields over 180 degrees, points behind the image plane too. OpenCV's and COLMAP's fisheye."""

    distortion: Float[AnyArray, "*b 4"]

    kind = "fisheye"
    coefficients = ("k1", "k2", "k3", "k4")
    wide = True

    def sees(self, pixels: Float[AnyArray, "... 2"]) -> Bool[AnyArray, "..."]:
        """See `Lens`; by the radius alone, for the loader."""
        radius = safe_norm(normalized_from_pixels(pixels, self.intrinsics))
        return radius < align_leading(fisheye_reach(self.distortion), 1, radius.ndim)[..., 0]

    def _directions(self, normalized):
        xp = array_module(normalized, self.distortion)
        angle = undistort_fisheye(safe_norm(normalized, keepdims=True), self.distortion)
        # sin(angle) / angle times angle / radius, so that the centre needs no special case but the norm's.
        return xp.concatenate([xp.sin(angle) * safe_normalize(normalized), xp.cos(angle)], axis=-1)

    def _image(self, points_camera):
        across = points_camera[..., :2]
        angle = array_module(across).arctan2(safe_norm(across, keepdims=True), points_camera[..., 2:])
        return distort_fisheye(angle, self.distortion) * safe_normalize(across)


@typing.no_type_check
@struct.dataclass(eq=False)
class Unified(Lens):
    """Mei and Rives 2007: onto the unit sphere, from xi behind its centre onto a plane, then Brown-Conrady.

    Catadioptric and wide lenses, as KITTI-360's and those of OpenCV's omnidir; points behind the plane too.
    """

    distortion: Float[AnyArray, "*b 5"]

    kind = "unified"
    coefficients = ("xi", "k1", "k2", "p1", "p2")
    wide = True

    def _directions(self, normalized):
        xp = array_module(normalized, self.distortion)
        xi = align_leading(self.distortion, 1, normalized.ndim - 1)[..., :1]
        on_plane = undistort_brown(normalized, self._brown())
        squared = xp.sum(on_plane * on_plane, axis=-1, keepdims=True)
        along = (xi + safe_sqrt(1 + (1 - xi * xi) * squared)) / (1 + squared)
        return safe_normalize(xp.concatenate([along * on_plane, along - xi], axis=-1))

    def _image(self, points_camera):
        xi = align_leading(self.distortion, 1, points_camera.ndim - 1)[..., :1]
        depths = points_camera[..., 2:] + xi * safe_norm(points_camera, keepdims=True)
        return distort_brown(safe_divide(points_camera[..., :2], depths), self._brown())

    def _brown(self):
        """k1, k2, p1, p2, and k3 of 0."""
        return array_module(self.distortion).concatenate(
            [self.distortion[..., 1:], 0 * self.distortion[..., :1]], axis=-1
        )


def _unit_rays(normalized: Float[AnyArray, "... 2"]) -> Float[AnyArray, "... 3"]:
    xp = array_module(normalized)
    directions = xp.concatenate([normalized, xp.ones_like(normalized[..., :1])], axis=-1)
    return directions / xp.linalg.norm(directions, axis=-1, keepdims=True)  # at least 1 long


def _perspective(points_camera: Float[AnyArray, "... 3"]) -> Float[AnyArray, "... 2"]:
    return safe_divide(points_camera[..., :2], points_camera[..., 2:])
