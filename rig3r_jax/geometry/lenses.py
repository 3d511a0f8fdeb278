"""Lenses by kind: from names and numbers, and those of several kinds in arrays, as a batch holds them."""

import typing
from collections.abc import Mapping, Sequence

import numpy as np
from flax import struct
from jaxtyping import Float

from rig3r_jax.geometry.camera import Brown, Fisheye, Lens, Pinhole, Unified
from rig3r_jax.geometry.numerics import AnyArray, array_module
from rig3r_jax.schema import Distortion

LENSES: dict[str, type[Lens]] = {lens.kind: lens for lens in (Pinhole, Brown, Fisheye, Unified)}


def make_lens(kind: str, intrinsics: Float[AnyArray, "*b 3 3"], distortion: Float[AnyArray, "*b n"]) -> Lens:
    """The lens of a kind; of `distortion` it takes the coefficients that it has. ValueError for an unknown kind."""
    if kind not in LENSES:
        raise ValueError(f"lens {kind!r} is unknown; kinds: {', '.join(LENSES)}")
    lens = LENSES[kind]
    count = len(lens.coefficients)
    return lens(intrinsics, distortion[..., :count]) if count else lens(intrinsics)


def lens_from_numbers(numbers: Mapping[str, typing.Any], where: str = "lens") -> Lens:
    """Inverse of `Lens.to_numbers`, in float64; ValueError, naming `where`, for unknown kinds, and missing, extra
    or useless numbers."""
    kind = numbers.get("kind")
    names = ("fx", "fy", "cx", "cy", *(LENSES[kind].coefficients if kind in LENSES else ()))
    lens = make_lens(kind, np.eye(3), np.zeros(len(names) - 4))
    if set(numbers) != {"kind", *names}:
        raise ValueError(f"{where} has {', '.join(map(str, numbers))}; a {kind} one has kind, {', '.join(names)}")
    try:
        fx, fy, cx, cy, *distortion = (float(numbers[name]) for name in names)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where} {dict(numbers)} must hold numbers ({error})") from error
    lens = make_lens(kind, np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]]), np.array(distortion))
    lens.check(where)
    return lens


KINDS = tuple(LENSES)  # a lens's number in arrays is its kind's place here
MOST_COEFFICIENTS = max(len(lens.coefficients) for lens in LENSES.values())


@typing.no_type_check
@struct.dataclass
class Lenses:
    """Lenses of several kinds. Every kind that may occur (`distortion.kinds`) is computed for all and the right one
    taken: where all are pinholes, a `Pinhole` is quicker."""

    intrinsics: Float[AnyArray, "*b 3 3"]  # pixels
    distortion: Distortion  # kinds (*b) and coefficients (*b 5)

    def rays(self, pixels: Float[AnyArray, "... 2"]) -> Float[AnyArray, "... 3"]:
        """Unit directions_camera of pixels."""
        return self._chosen(pixels.ndim - 1, [lens.rays(pixels) for lens in self._each()])

    def project(self, points_camera: Float[AnyArray, "... 3"]) -> Float[AnyArray, "... 2"]:
        """Pixels of points, as `Lens.project`."""
        return self._chosen(points_camera.ndim - 1, [lens.project(points_camera) for lens in self._each()])

    @property
    def wide(self) -> AnyArray:
        """Bool (*b): which see 180 degrees and more."""
        return array_module(self.distortion.kind).asarray([lens.wide for lens in LENSES.values()])[self.distortion.kind]

    def _each(self) -> list[Lens]:
        return [
            make_lens(KINDS[number], self.intrinsics, self.distortion.coefficients) for number in self.distortion.kinds
        ]

    def _chosen(self, leading: int, of_kinds: list[AnyArray]) -> AnyArray:
        kind, chosen, xp = self.distortion.kind, of_kinds[0], array_module(*of_kinds)
        kind = kind.reshape(*kind.shape, *(1,) * (leading - kind.ndim), 1)  # leading axes meet the first ones
        for number, values in zip(self.distortion.kinds[1:], of_kinds[1:], strict=True):
            chosen = xp.where(kind == number, values, chosen)
        return chosen


def batch_lens(intrinsics: Float[AnyArray, "*b 3 3"], distortion: Distortion | None) -> Pinhole | Lenses:
    """The lenses that a batch's arrays state."""
    return Pinhole(intrinsics) if distortion is None else Lenses(intrinsics, distortion)


def stacked(lenses: Sequence[Lens]) -> Pinhole | Lenses:
    """Lenses of single cameras as arrays with a first axis, float64 in numpy."""
    intrinsics = np.stack([np.asarray(lens.intrinsics, np.float64) for lens in lenses])
    if all(lens.kind == Pinhole.kind for lens in lenses):
        return Pinhole(intrinsics)
    kind = np.array([KINDS.index(lens.kind) for lens in lenses], np.int32)
    coefficients = np.stack([padded_coefficients(lens) for lens in lenses])
    return Lenses(intrinsics, Distortion(kind, coefficients, tuple(np.unique(kind).tolist())))


def one_lens(lenses: Lenses, index: int | tuple[int, ...]) -> Lens:
    """Of lenses in numpy arrays, that of one camera."""
    kind, coefficients = KINDS[lenses.distortion.kind[index]], lenses.distortion.coefficients[index]
    return make_lens(kind, lenses.intrinsics[index], coefficients)


def padded_coefficients(lens: Lens) -> Float[np.ndarray, " n"]:
    """Of one lens, float64, followed by zeros."""
    padded = np.zeros(MOST_COEFFICIENTS)
    padded[: len(lens.coefficients)] = lens.distortion
    return padded
