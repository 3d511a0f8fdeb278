"""What lines the streets of a town, or stands in a yard and around it; nothing in a vehicle's way."""

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from rig3r_jax.data.sources.procedural.streets import things, vehicles
from rig3r_jax.data.sources.procedural.streets.primitives import ROCK, Table, box, tabulate
from rig3r_jax.data.sources.procedural.streets.things import Thing
from rig3r_jax.data.sources.procedural.streets.town import BAY, HALF_WIDTH, ROWS, WALK, Town

CLEARANCE = 2.5  # metres from a vehicle's middle to anything: its cameras are up to 1.6 m from there
_REACH = 80.0  # metres from a drive, within which a town is built
_KERBS = 35.0  # metres from a drive, within which kerbs stand out
_LOW = 2.6  # metres; what begins above this is in nobody's way

# A side of a block: gives (u, v) of metres along it from its middle, and metres inwards from the middle of its street.
Side = Callable[[float, float], tuple[float, float]]


class Site:
    """Places of the map, for things that face a direction of the map."""

    def __init__(self, town: Town, way: Float[np.ndarray, "n 2"]) -> None:
        """`way`: points of the drive, world."""
        self.town, self.way = town, way
        self.built: list[Thing] = []

    def near(self, u: float, v: float, reach: float = _REACH) -> bool:
        """Whether a place of the map is seen from the drive."""
        x, y, _ = self.town.point(u, v)
        return bool((np.hypot(self.way[:, 0] - x, self.way[:, 1] - y) < reach).any())

    def spot(self, u: float, v: float, direction: float = 0.0) -> tuple[tuple[float, float, float], float]:
        """Foot and yaw, world, of a place and a direction of the map."""
        cos, sin = math.cos(direction), math.sin(direction)
        return self.town.point(u, v), math.atan2(sin + self.town.slope(u) * cos, cos)

    def table(self) -> Table:
        """All things that leave the way free."""
        parts = tabulate([part for thing in self.built for part in thing])
        owner = np.repeat(np.arange(len(self.built)), [len(thing) for thing in self.built])
        ground = self.town.height(parts.foot[:, 0], parts.foot[:, 1])
        blocked = (distance_to(parts, self.way) < CLEARANCE) & (parts.foot[:, 2] - ground < _LOW)
        kept = np.bincount(owner[blocked], minlength=len(self.built)) == 0
        return parts.rows(kept[owner])


def distance_to(parts: Table, points: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "p"]:
    """Metres from the foot of each primitive to the nearest point, seen from above."""
    offset = points[None] - parts.foot[:, None, :2]
    cos, sin = np.cos(parts.yaw)[:, None], np.sin(parts.yaw)[:, None]
    along, across = cos * offset[..., 0] + sin * offset[..., 1], cos * offset[..., 1] - sin * offset[..., 0]
    outside = np.maximum(np.abs(along) - parts.half[:, :1], 0), np.maximum(np.abs(across) - parts.half[:, 1:], 0)
    return np.hypot(*outside).min(axis=1)


def furnish(rng: np.random.Generator, town: Town, way: Float[np.ndarray, "n 2"]) -> Table:
    """All that stands still."""
    site = Site(town, way)
    if town.yard:
        _bays(rng, site, *town.yard)
        for side in range(4):
            _yard_edge(rng, site, side, *town.yard)
        _beyond_yard(rng, site)
    else:
        block_u, block_v = town.block
        lowest, highest = way.min(axis=0) - _REACH, way.max(axis=0) + _REACH
        for i in range(math.floor(lowest[0] / block_u), math.ceil(highest[0] / block_u)):
            for j in range(math.floor(lowest[1] / block_v) - 1, math.ceil(highest[1] / block_v) + 1):
                _block(rng, site, i * block_u, j * block_v)
    _hills(rng, site)
    return site.table()


def _block(rng: np.random.Generator, site: Site, corner_u: float, corner_v: float) -> None:
    """One block of a town: on each of its four sides kerbs, parked vehicles, trees, lamps, signs and houses."""
    block_u, block_v = site.town.block
    style = {
        "houses": rng.uniform(0.5, 0.95),
        "floors": float(rng.choice([1.5, 2.5, 4.5])),
        "trees": rng.uniform(4, 11),
    }
    middle = corner_u + block_u / 2, corner_v + block_v / 2
    for side in range(4):
        direction = side * math.pi / 2
        cos, sin = round(math.cos(direction)), round(math.sin(direction))
        length, depth = (block_u, block_v) if side % 2 == 0 else (block_v, block_u)

        def place(along: float, inwards: float, cos=cos, sin=sin, depth=depth) -> tuple[float, float]:
            """From the middle of this side's street; the street lies to the right of its direction."""
            across = inwards - depth / 2
            return middle[0] + cos * along - sin * across, middle[1] + sin * along + cos * across

        if site.near(*place(0.0, HALF_WIDTH)):
            reach = length / 2 - HALF_WIDTH
            _kerbside(rng, site, place, direction, reach, style["trees"])
            _plots(rng, site, place, direction, reach - WALK - (11.0 if side % 2 == 1 else 0.0), style)


def _kerbside(
    rng: np.random.Generator, site: Site, place: Side, direction: float, reach: float, spacing: float
) -> None:
    """Kerb stones, parked vehicles, and what stands on the sidewalk, `reach` metres to both sides of its middle."""
    for start in np.arange(-reach + 3.5, reach - 3.5, 6.0):
        if site.near(*place(start + 3, HALF_WIDTH), _KERBS):
            site.built.append(things.kerb(rng, *site.spot(*place(start + 3, HALF_WIDTH + 0.1), direction), 2.95))
    for along in np.arange(-reach + 8, reach - 6, 5.6):
        if rng.uniform() < 0.45:
            foot, yaw = site.spot(*place(along + rng.uniform(-0.3, 0.3), HALF_WIDTH - 1.05), direction)
            site.built.append(vehicles.vehicle(rng, foot, yaw + (math.pi if rng.uniform() < 0.8 else 0.0)))
    for along in np.arange(-reach + rng.uniform(2, 6), reach - 2, spacing):
        foot, yaw = site.spot(*place(along, HALF_WIDTH + rng.uniform(0.6, 1.1)), direction)
        kind = rng.choice(5, p=[0.42, 0.16, 0.16, 0.18, 0.08])
        maker = (things.tree, things.lamp, things.sign, things.small, vehicles.person)[kind]
        if maker in (things.tree, vehicles.person):
            site.built.append(maker(rng, foot))
        else:
            turned = {things.lamp: math.pi, things.sign: math.pi / 2, things.small: rng.uniform(0, 3)}[maker]
            site.built.append(maker(rng, foot, yaw + turned))


def _plots(rng: np.random.Generator, site: Site, place: Side, direction: float, reach: float, style: dict) -> None:
    """Houses behind the sidewalk, or fences with trees behind them."""
    along = -reach
    while along < reach - 5:
        width = min(rng.uniform(7, 16), reach - along)
        if rng.uniform() < style["houses"]:
            depth = rng.uniform(6, 9)
            height = 3.0 * max(1.0, rng.normal(style["floors"], 0.8)) + 0.5
            back = rng.uniform(0.2, 3.5)
            spot = site.spot(*place(along + width / 2, HALF_WIDTH + WALK + back + depth / 2), direction)
            site.built.append(things.house(rng, spot[0], spot[1] + math.pi, (width / 2 - 0.4, depth / 2), height))
            if back > 2 and rng.uniform() < 0.5:
                spot = site.spot(*place(along + width / 2, HALF_WIDTH + WALK + 0.3), direction)
                site.built.append(things.fence(rng, *spot, width / 2 - 1.2))
        else:
            spot = site.spot(*place(along + width / 2, HALF_WIDTH + WALK + 0.4), direction)
            site.built.append(things.fence(rng, *spot, width / 2))
            for _ in range(int(rng.integers(1, 4))):
                where = place(along + rng.uniform(0.1, 0.9) * width, HALF_WIDTH + WALK + rng.uniform(2, 9))
                site.built.append(things.tree(rng, site.spot(*where)[0]))
        along += width + rng.uniform(0, 3)


def _bays(rng: np.random.Generator, site: Site, half_u: float, half_v: float) -> None:
    """Of a yard: parked vehicles, trees, lamps and people, in rows."""
    for row in np.arange(math.ceil(-half_v / ROWS), math.floor(half_v / ROWS) + 1) * ROWS:
        for side in (-1, 1):
            for bay in np.arange(-half_u + 3, half_u - 3, BAY):
                u, v, chance = (math.floor(bay / BAY) + 0.5) * BAY, row + side * 2.5, rng.uniform()
                if chance < 0.4:
                    foot, yaw = site.spot(u + rng.uniform(-0.15, 0.15), v, math.pi / 2 + rng.normal(0, 0.03))
                    site.built.append(vehicles.vehicle(rng, foot, yaw + (math.pi if rng.uniform() < 0.5 else 0)))
                elif chance < 0.47:
                    site.built.append(things.tree(rng, site.spot(u, v)[0]))
                elif chance < 0.55:
                    site.built.append(things.small(rng, *site.spot(u, v, rng.uniform(0, 3))))
                elif chance < 0.6:
                    maker = things.lamp if rng.uniform() < 0.5 else things.sign
                    site.built.append(maker(rng, *site.spot(u, row, rng.choice([0, 1, 2, 3]) * math.pi / 2)))
                elif chance < 0.63:
                    site.built.append(vehicles.person(rng, site.spot(u, v + side * 3.5)[0]))


def _yard_edge(rng: np.random.Generator, site: Site, side: int, half_u: float, half_v: float) -> None:
    """One of the four sides of a yard: houses or fences, trees before them, and a kerb."""
    direction = side * math.pi / 2
    cos, sin = round(math.cos(direction)), round(math.sin(direction))
    length, depth = (half_u, half_v) if side % 2 == 0 else (half_v, half_u)

    def place(along: float, across: float) -> tuple[float, float]:
        """(u, v) of a place: metres along this side from its middle, and metres across from the yard's middle."""
        return cos * along - sin * across, sin * along + cos * across

    along, sidewalk = -length, -depth - WALK  # its outer edge
    while along < length - 4:
        width = rng.uniform(7, 18)
        middle = along + width / 2
        if rng.uniform() < 0.6:
            deep, back = rng.uniform(6, 10), rng.uniform(0.5, 5)
            foot, yaw = site.spot(*place(middle, sidewalk - (back + deep / 2)), direction)
            height = rng.uniform(3.5, 14)
            site.built.append(things.house(rng, foot, yaw, (width / 2 - 0.3, deep / 2), height))
        else:
            site.built.append(things.fence(rng, *site.spot(*place(middle, sidewalk - 0.4), direction), width / 2))
        for _ in range(int(rng.integers(0, 3))):
            u, v = place(middle, sidewalk - rng.uniform(-1.5, -0.4))
            site.built.append(things.tree(rng, site.spot(u + rng.uniform(-3, 3), v)[0]))
        along += width
    for start in np.arange(-length + 3, length - 3, 6.0):
        site.built.append(things.kerb(rng, *site.spot(*place(start, -depth), direction), 2.9))


def _beyond_yard(rng: np.random.Generator, site: Site) -> None:
    """Houses and trees behind the edges of a yard."""
    for _ in range(30):
        angle, away = rng.uniform(0, 2 * math.pi), rng.uniform(55, 110)
        foot, yaw = site.spot(away * math.cos(angle), away * math.sin(angle), rng.uniform(0, 3))
        if rng.uniform() < 0.5:
            half = rng.uniform(5, 12, 2)
            site.built.append(things.house(rng, foot, yaw, half, rng.uniform(5, 26)))
        else:
            site.built.append(things.tree(rng, foot))


def _hills(rng: np.random.Generator, site: Site) -> None:
    """Slopes around the horizon, and towers."""
    middle = site.way.mean(axis=0)
    for number in range(9):
        angle, away = (number + rng.uniform(-0.4, 0.4)) * 2 * math.pi / 9, rng.uniform(135, 185)
        x, y = middle + away * np.array([math.cos(angle), math.sin(angle)])
        foot = (x, y, site.town.height(x, y) - 6)
        if rng.uniform() < 0.55:
            half, height = rng.uniform(30, 70, 2), rng.uniform(12, 30)
            looks = {
                "taper": tuple(half / height * rng.uniform(0.5, 0.8)),
                "accent": (0.2, 0.3, 0.14),
                "seed": number + 1,
            }
            site.built.append([box(foot, rng.uniform(0, 3), half, height, ROCK, (0.36, 0.44, 0.24), **looks)])
        else:
            half = rng.uniform(7, 14, 2)
            site.built.append(things.house(rng, foot, rng.uniform(0, 3), half, rng.uniform(20, 60)))
