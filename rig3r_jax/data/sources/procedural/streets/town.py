"""The map of a town: a grid of streets, or one wide yard, bent into curves and laid over ground that rises and falls.

The map has coordinates (u, v) in metres. Streets of a town run along u at v = 0, `block[1]`, .. and along v at u = 0,
`block[0]`, ..; a yard is asphalt up to its edge. The world (x, y, z) has z up, x = u, y = v + bend(u), and the ground
z(x, y) is a polynomial of degree two, so that a ray meets it in closed form.
"""

import dataclasses

import numpy as np
from jaxtyping import Float

Numbers = float | np.ndarray  # one, or an array of them

HALF_WIDTH = 5.4  # metres from a street's middle to its kerb: a lane and a strip to park on, to each side
LANE = 1.7  # metres from a street's middle to that of a lane
WALK = 2.6  # metres of sidewalk beside it
BAY, ROWS = 2.7, 16.5  # metres, of the width of a bay in a yard, and from one double row to the next
_STEEPEST, _ROUNDEST = 0.05, 1 / 900  # slope at the origin, and curvature per metre, of the ground
_BENDS = (0.1, 0.6)  # steepest slope of the bend


@dataclasses.dataclass(frozen=True)
class Town:
    """Where streets and ground are."""

    block: tuple[float, float]  # metres between the middles of neighbouring streets, along u and along v
    bend: tuple[float, float, float]  # metres to either side, metres of a half wave, and its phase in half waves
    ground: tuple[float, float, float, float, float]  # of x, y, x^2, x y, y^2 in z
    yard: tuple[float, float] | None  # half sides of the yard, metres; None: streets

    def lateral(self, u: Numbers) -> Numbers:
        """bend(u): arcs of parabolas to either side in turn."""
        size, half_wave, phase = self.bend
        part = (u / half_wave + phase) % 2 - 1  # -1..1 over two arcs
        return size * 4 * part * (1 - abs(part))

    def slope(self, u: Numbers) -> Numbers:
        """Derivative of `lateral`."""
        size, half_wave, phase = self.bend
        part = (u / half_wave + phase) % 2 - 1
        return size / half_wave * 4 * (1 - 2 * abs(part))

    def height(self, x: Numbers, y: Numbers) -> Numbers:
        """z of the ground."""
        a, b, c, d, e = self.ground
        return a * x + b * y + c * x * x + d * x * y + e * y * y

    def point(self, u: float, v: float) -> tuple[float, float, float]:
        """A point of the ground, world."""
        x, y = float(u), float(v + self.lateral(u))
        return x, y, float(self.height(x, y))

    def to_world(self, u: Float[np.ndarray, "*b"], v: Float[np.ndarray, "*b"]) -> Float[np.ndarray, "*b 3"]:
        """Points of the ground, world."""
        y = v + self.lateral(u)
        return np.stack([u, y, self.height(u, y)], axis=-1)

    def yaw(self, u: Float[np.ndarray, "*b"], along: Float[np.ndarray, "*b 2"]) -> Float[np.ndarray, "*b"]:
        """Yaw in the world of a direction (du, dv) of the map at u; radians, anticlockwise from +x."""
        return np.arctan2(along[..., 1] + self.slope(u) * along[..., 0], along[..., 0])

    def gradient(self, x: Float[np.ndarray, "*b"], y: Float[np.ndarray, "*b"]) -> Float[np.ndarray, "*b 2"]:
        """Slope of the ground along x and y."""
        a, b, c, d, e = self.ground
        return np.stack([a + 2 * c * x + d * y, b + d * x + 2 * e * y], axis=-1)


def draw_town(rng: np.random.Generator, yard: bool) -> Town:
    """A random map; a yard lies on a gentler bend, so that its bays are rectangles."""
    half_wave = rng.uniform(40, 90)
    size = half_wave / 4 * rng.uniform(*_BENDS) * (0.0 if yard else 1.0)
    ground = tuple(
        [*rng.uniform(-_STEEPEST, _STEEPEST, 2).tolist(), *(rng.uniform(-_ROUNDEST, _ROUNDEST, 3) / 2).tolist()]
    )
    return Town(
        block=tuple(rng.uniform(46, 75, 2).tolist()),
        bend=(size, half_wave, rng.uniform(0, 2)),
        ground=ground,
        yard=tuple(rng.uniform(28, 42, 2).tolist()) if yard else None,
    )
