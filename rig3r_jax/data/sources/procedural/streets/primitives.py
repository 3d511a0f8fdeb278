"""What a town is built of: boxes, tapered boxes and rounds, all upright, as lists of primitives and as tables of them.

A primitive's own frame has its origin in the middle of its foot, z up and x along its yaw. A box holds |x| <= half_x,
|y| <= half_y, 0 <= z <= height. A tapered one is narrower higher up: half_x - form_0 z, half_y - form_1 z, such as a
roof, a ramp's end or a hill. A round one holds x^2 + y^2 <= form_0 + form_1 z + form_2 z^2: cylinders, ellipsoids, and
paraboloids that taper to a point.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

BOX, TAPERED, ROUND = range(3)
Color = tuple[float, float, float]

# What a primitive is made of, which is how it is coloured: see `materials`.
MATERIALS = ("facade", "tiles", "plain", "paint", "glass", "foliage", "fence", "sign", "glow", "cloth", "rock")
(FACADE, TILES, PLAIN, PAINT, GLASS, FOLIAGE, FENCE, SIGN, GLOW, CLOTH, ROCK) = range(len(MATERIALS))
# Parts of 1 to which all that is seen is rounded: what a machine's sine makes of the last digits is gone.
_FINEST = 2.0**20


@dataclasses.dataclass(frozen=True)
class Primitive:
    """One solid of one material; metres."""

    kind: int
    foot: tuple[float, float, float]
    yaw: float
    half: tuple[float, float]
    height: float
    form: tuple[float, float, float]
    material: int
    color: Color
    accent: Color = (0.5, 0.5, 0.5)
    cell: tuple[float, float] = (1.0, 1.0)  # metres, of the pattern
    seed: int = 0  # of the pattern


def box(foot, yaw, half, height, material, color, taper=(0.0, 0.0), **looks) -> Primitive:
    """A box, or one whose half sides shrink by `taper` per metre of height."""
    kind = TAPERED if any(taper) else BOX
    return Primitive(kind, tuple(foot), yaw, tuple(half), height, (*taper, 0.0), material, color, **looks)


def cylinder(foot, radius, height, material, color, **looks) -> Primitive:
    """An upright cylinder."""
    form = (radius**2, 0.0, 0.0)
    return Primitive(ROUND, tuple(foot), 0.0, (radius, radius), height, form, material, color, **looks)


def ellipsoid(foot, radius, height, material, color, **looks) -> Primitive:
    """An ellipsoid that stands on its lower pole."""
    half = height / 2
    form = (0.0, 2 * radius**2 / half, -((radius / half) ** 2))
    return Primitive(ROUND, tuple(foot), 0.0, (radius, radius), height, form, material, color, **looks)


def spire(foot, radius, height, material, color, **looks) -> Primitive:
    """A paraboloid, wide at its foot and pointed at its top."""
    form = (radius**2, -(radius**2) / height, 0.0)
    return Primitive(ROUND, tuple(foot), 0.0, (radius, radius), height, form, material, color, **looks)


# Columns of a table, and where each begins.
_FIELDS = {"kind": 1, "material": 1, "seed": 1, "foot": 3, "yaw": 1, "half": 2, "height": 1, "form": 3}
_FIELDS |= {"color": 3, "accent": 3, "cell": 2}
_STARTS = dict(zip(_FIELDS, np.cumsum([0, *_FIELDS.values()]).tolist()[:-1], strict=True))


def _column(name: str) -> property:
    start, width = _STARTS[name], _FIELDS[name]
    return property(lambda table: table.numbers[:, start if width == 1 else slice(start, start + width)])


@dataclasses.dataclass(frozen=True)
class Table:
    """Primitives as rows of numbers, with the fields of `Primitive` as columns: (p) or, of several numbers, (p m)."""

    numbers: Float[np.ndarray, "p n"]

    kind, material, seed = _column("kind"), _column("material"), _column("seed")
    foot, yaw, half, height, form = (_column(name) for name in ("foot", "yaw", "half", "height", "form"))
    color, accent, cell = _column("color"), _column("accent"), _column("cell")

    def __len__(self) -> int:
        return len(self.numbers)

    def rows(self, chosen: Int[np.ndarray, "n"] | Bool[np.ndarray, "p"]) -> "Table":
        """Some of the primitives."""
        return Table(self.numbers[chosen])

    def moved(self, shift: Float[np.ndarray, "p 3"], yaw: Float[np.ndarray, "p"]) -> "Table":
        """Each primitive turned about the origin by its yaw, then shifted."""
        moved = Table(self.numbers.copy())
        cos, sin = np.cos(yaw), np.sin(yaw)
        x, y, z = self.foot.T
        moved.foot[:] = rounded(np.stack([cos * x - sin * y, sin * x + cos * y, z], axis=-1) + shift)
        moved.yaw[:] = rounded(self.yaw + yaw)
        return moved


def tabulate(primitives: Sequence[Primitive]) -> Table:
    """The table of a list; all numbers are rounded to a millionth."""
    rows = [
        (solid.kind, solid.material, solid.seed, *solid.foot, solid.yaw, *solid.half, solid.height, *solid.form)
        + (*solid.color, *solid.accent, *solid.cell)
        for solid in primitives
    ]
    return Table(rounded(np.array(rows, np.float64).reshape(len(rows), sum(_FIELDS.values()))))


def concatenate(tables: Sequence[Table]) -> Table:
    """The rows of all tables."""
    return Table(np.concatenate([table.numbers for table in tables]))


def rounded(values: Float[np.ndarray, "*b"]) -> Float[np.ndarray, "*b"]:
    """To a millionth, alike on every machine."""
    return np.round(values * _FINEST) / _FINEST
