"""Where rays meet primitives: coordinates on the surface, how fine a pixel is there, and how it faces the sun."""

import functools

import numpy as np
from jaxtyping import Bool, Float32, Int

from rig3r_jax.data.sources.procedural.streets.primitives import ROUND, Table
from rig3r_jax.data.sources.procedural.streets.textures import Channels, Values


class Surface:
    """Hits of some rays on primitives; colours and patterns are looked up where a material asks for them.

    p: metres along the surface, level; q: metres up from the foot, or the other way along a level face. Of a round
    thing both run through the solid, so that its pattern has no seam. `width_p` and `width_q` are what a pixel covers.
    """

    def __init__(self, table: Table, own: Float32[np.ndarray, "11 p"], index: Int[np.ndarray, "n"],
                 ray: Channels, distance: Values, pixel: Values) -> None:  # fmt: skip
        """`own`: of `casting.Hits`; rays are unit, in the world; `pixel`: metres that a pixel covers, seen face on."""
        self._table, self._index = table, index
        # The ray and where it hits, in the primitive's own frame.
        cos, sin, x, y, z, half_x, half_y, height, form_0, form_1, form_2 = own.take(index, axis=1)
        rx, ry, rz = cos * ray[0] + sin * ray[1], cos * ray[1] - sin * ray[0], ray[2]
        px, py, pz = x + rx * distance, y + ry * distance, z + rz * distance
        # Which face that is: the one whose plane lies farthest out; a tapered one's sides lean inwards.
        is_round = (table.kind == ROUND).take(index)
        flat_sided = (~is_round).astype(np.float32)
        taper_x, taper_y = form_0 * flat_sided, form_1 * flat_sided
        beyond_x, beyond_y = np.abs(px) + taper_x * pz - half_x, np.abs(py) + taper_y * pz - half_y
        beyond_z = np.maximum(pz - height, -pz)
        self.upper: Bool[np.ndarray, n] = (beyond_z > np.maximum(beyond_x, beyond_y)) & ~is_round  # a level face
        self.end: Bool[np.ndarray, n] = ~(self.upper | is_round) & (beyond_x >= beyond_y)  # looks along its own x
        upper, end, round_ = (mask.astype(np.float32) for mask in (self.upper, self.end, is_round))
        side = 1 - upper - end - round_
        # Its normal.
        nx = end * np.copysign(np.float32(1), px) + round_ * px
        ny = side * np.copysign(np.float32(1), py) + round_ * py
        nz = upper * np.copysign(np.float32(1), pz - height * np.float32(0.5)) + end * taper_x + side * taper_y
        nz -= round_ * (form_1 * np.float32(0.5) + form_2 * pz)
        inverse = 1 / np.sqrt(np.maximum(nx * nx + ny * ny + nz * nz, np.float32(1e-12)))
        nx, ny, nz = nx * inverse, ny * inverse, nz * inverse
        self._normal = cos * nx - sin * ny, sin * nx + cos * ny, nz
        # Coordinates on the face, and what a pixel covers along each.
        level, upright = upper + side, 1 - upper
        across = 1 - level
        self.p = px * level + py * across - round_ * px * np.float32(0.3)
        self.q = pz * upright + py * upper + round_ * px * np.float32(0.5)
        slope = 1 / np.maximum(np.abs(nx * rx + ny * ry + nz * rz), np.float32(0.05))
        along_p, along_q = (rx * level + ry * across) * slope, (rz * upright + ry * upper) * slope
        self.width_p = pixel * np.sqrt(1 + along_p * along_p)
        self.width_q = pixel * np.sqrt(1 + along_q * along_q)
        self.reach = half_x + (half_y - half_x) * end  # metres from p = 0 to the face's edge
        self.height = height

    def facing(self, direction: tuple[float, float, float]) -> Values:
        """Cosine between the normals and a unit direction of the world."""
        nx, ny, nz = self._normal
        x, y, z = (np.float32(part) for part in direction)
        return nx * x + ny * y + nz * z

    @functools.cached_property
    def width(self) -> Values:
        """The larger of both widths."""
        return np.maximum(self.width_p, self.width_q)

    @functools.cached_property
    def color(self) -> Channels:
        """Of the material."""
        return tuple(self._looked_up(column) for column in self._table.color.T)

    @functools.cached_property
    def accent(self) -> Channels:
        """Its second colour."""
        return tuple(self._looked_up(column) for column in self._table.accent.T)

    @functools.cached_property
    def cell(self) -> tuple[Values, Values]:
        """Metres of its pattern along p and q."""
        return tuple(self._looked_up(column) for column in self._table.cell.T)

    @functools.cached_property
    def seed(self) -> Int[np.ndarray, "n"]:
        """Of its pattern."""
        return self._table.seed.astype(np.int32).take(self._index)

    def _looked_up(self, column: np.ndarray) -> Values:
        return column.astype(np.float32).take(self._index)
