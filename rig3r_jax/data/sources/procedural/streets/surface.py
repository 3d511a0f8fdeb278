"""Where rays meet primitives: coordinates on the surface, how fine a pixel is there, and how it faces the sun."""

import functools

import numpy as np
from jaxtyping import Float, Float32, Int

from rig3r_jax.data.sources.procedural.streets.primitives import ROUND, Table
from rig3r_jax.data.sources.procedural.streets.textures import Channels, Size, Values

_STEEPEST = np.float32(0.05)  # least cosine between a ray and a normal, for the size of a pixel
_HALF, _ONE = np.float32(0.5), np.float32(1)


class Surface:
    """Hits of some rays on primitives that are all round, or all not; what a material asks for is looked up.

    p: metres along the surface, level; q: metres up from the foot, or the other way along a level face. Of a round
    thing both run through the solid, so that its pattern has no seam. `width_p` and `width_q` are what a pixel covers,
    `facing` is the cosine between normal and sun.
    """

    upper: Size = np.float32(0)  # 1 on a level face, 0 elsewhere
    end: Size = np.float32(0)  # 1 on a face that looks along its own x

    def __init__(self, table: Table, own: Float32[np.ndarray, "11 p"], index: Int[np.ndarray, "n"],
                 ray: Channels, distance: Values, pixel: Values, sun: tuple[float, float, float]) -> None:  # fmt: skip
        """`own`: of `casting.Hits`; rays are unit, in the world; `pixel`: metres that a pixel covers, seen face on;
        `sun`: unit, towards it."""
        # Rays that follow one another mostly hit the same primitive, whose numbers are repeated.
        starts = np.flatnonzero(np.concatenate([[True], index[1:] != index[:-1]]))
        self._table, self._primitives = table, index[starts]
        self._lengths = np.diff(np.append(starts, len(index)))
        own, sun = own[:, self._primitives], [np.float32(part) for part in sun]
        cos, sin = own[:2]
        towards_sun = self._repeated(np.stack([cos * sun[0] + sin * sun[1], cos * sun[1] - sin * sun[0]]))
        own = self._repeated(own)
        meet = self._meet_round if table.kind[index[0]] == ROUND else self._meet_flat
        normal, step, level, upright = meet(own, ray, distance)
        self.facing = normal[0] * towards_sun[0] + normal[1] * towards_sun[1] + normal[2] * sun[2]
        cosine = np.abs(normal[0] * step[0] + normal[1] * step[1] + normal[2] * step[2])
        slope = 1 / np.maximum(cosine, _STEEPEST, out=cosine)
        self.width_p, self.width_q = (pixel * _length(along * slope) for along in (level, upright))
        self.height = own[7]

    def _meet_flat(self, own, ray: Channels, distance: Values) -> tuple[Channels, Channels, Values, Values]:
        """Normal and ray in the primitive's own frame, and the ray's steps along p and q."""
        cos, sin, x, y, z, self._half_x, self._half_y, height, taper_x, taper_y, _ = own
        rx, ry, rz = cos * ray[0] + sin * ray[1], cos * ray[1] - sin * ray[0], ray[2]
        px, py, pz = x + rx * distance, y + ry * distance, z + rz * distance
        # Which face that is: the one whose plane lies farthest out; the sides of a tapered one lean inwards.
        beyond_x, beyond_y = np.abs(px) + taper_x * pz - self._half_x, np.abs(py) + taper_y * pz - self._half_y
        is_upper = np.maximum(pz - height, -pz) > np.maximum(beyond_x, beyond_y)
        is_end = (beyond_x >= beyond_y) & ~is_upper
        upper, end = is_upper.astype(np.float32), is_end.astype(np.float32)
        side = 1 - upper - end
        lean = end * taper_x + side * taper_y
        inverse = 1 / _length(lean)
        nx, ny = end * np.copysign(inverse, px), side * np.copysign(inverse, py)
        nz = upper * np.copysign(_ONE, pz - height * _HALF) + lean * inverse
        self.upper, self.end = upper, end
        self.p, self.q = px + end * (py - px), pz + upper * (py - pz)
        return (nx, ny, nz), (rx, ry, rz), rx + end * (ry - rx), rz + upper * (ry - rz)

    def _meet_round(self, own, ray: Channels, distance: Values) -> tuple[Channels, Channels, Values, Values]:
        """The same of round ones, whose own frame is not turned."""
        _, _, x, y, z, self._half_x, self._half_y, _, _, form_1, form_2 = own
        px, py, pz = x + ray[0] * distance, y + ray[1] * distance, z + ray[2] * distance
        nz = form_1 * -_HALF - form_2 * pz
        inverse = 1 / np.sqrt(np.maximum(px * px + py * py + nz * nz, np.float32(1e-12)))
        self.p, self.q = py - px * np.float32(0.3), pz + px * _HALF
        return (px * inverse, py * inverse, nz * inverse), ray, ray[1], ray[2]

    def _repeated(self, columns: np.ndarray) -> np.ndarray:
        """For each ray the numbers (... r) of the primitives of its run."""
        return np.repeat(columns, self._lengths, axis=-1)

    def _looks(self, columns: Float[np.ndarray, "p c"]) -> Channels:
        return tuple(self._repeated(columns[self._primitives].T.astype(np.float32)))

    @functools.cached_property
    def reach(self) -> Values:
        """Metres from p = 0 to the face's edge."""
        return self._half_x + (self._half_y - self._half_x) * self.end

    @functools.cached_property
    def width(self) -> Values:
        """The larger of both widths."""
        return np.maximum(self.width_p, self.width_q)

    @functools.cached_property
    def color(self) -> Channels:
        """Of the material."""
        return self._looks(self._table.color)

    @functools.cached_property
    def accent(self) -> Channels:
        """Its second colour."""
        return self._looks(self._table.accent)

    @functools.cached_property
    def cell(self) -> tuple[Values, Values]:
        """Metres of its pattern along p and q."""
        return self._looks(self._table.cell)

    @functools.cached_property
    def seed(self) -> Int[np.ndarray, "n"]:
        """Of its pattern."""
        return self._repeated(self._table.seed[self._primitives].astype(np.int32))

    def some(self, count: int, of: int) -> Values:
        """1 on that share of all primitives, 0 on the others."""
        return self._repeated((self._table.seed[self._primitives] % of < count).astype(np.float32))


def _length(along: Values) -> Values:
    """Of a step that goes 1 one way and `along` the other."""
    squared = along * along
    squared += 1
    return np.sqrt(squared, out=squared)
