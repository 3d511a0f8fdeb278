"""The lens of a wide camera from its predicted rays: a Kannala-Brandt lens and the camera's rotation, fitted robustly.

Ray maps as `recover` takes them: directions of rows x cols equal cells of the image, of any length; zeros count for
nothing. Errors are chords between unit rays, so that a wrong ray has a bounded pull however wide the lens. A fit starts
from the best equidistant lens and is repeated with the noise that it left, which says how much the usual sizes of
coefficients count against the rays: of exact rays, nothing. Host float64.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from rig3r_jax.geometry import recover
from rig3r_jax.geometry.camera import Fisheye, Pinhole
from rig3r_jax.geometry.distortion import distort_fisheye
from rig3r_jax.geometry.lenses import KINDS, MOST_COEFFICIENTS, Lenses, padded_coefficients
from rig3r_jax.schema import Distortion

LEAST_RAYS = 12  # about twice what 11 unknowns need of two numbers a ray
_FIELDS_DEG = np.geomspace(60.0, 240.0, 13)  # across the longer side, of the equidistant lenses that a fit starts from
_USUAL = np.array([0.05, 0.05, 0.1, 0.05, 0.02, 0.005])  # standard deviations of cx, cy (image sizes) and of k1..k4
_MOST_STEPS = 40  # of one fit
_LEAST_NOISE = 1e-8  # radians
_MOST_FITS, _SETTLED = 8, 0.8  # a fit that leaves so much of the noise that it reckoned with is the last
_TUNING = 2.4  # noises from which on Cauchy's loss counts an error less: 95 % efficient on normal ones
_POWERS = np.array([3, 5, 7, 9])
_TINY = 1e-12
_GRID = np.linspace(0.0, np.pi, 257)  # angles between which the inverse is refined
_NEWTON_STEPS, _LEAST_SLOPE = 3, 0.1


class TooFewRays(ValueError):
    """A ray map does not tell a lens."""


def fit_fisheye(
    directions: Float[np.ndarray, "rows cols 3"], height: int, width: int
) -> tuple[Fisheye, Float[np.ndarray, "3 3"]]:
    """The lens of an image of height x width pixels, and a_from_camera's rotation, of directions in frame a.

    Gives back the coefficients of exact rays. Of noisy ones take the lens as a whole: fx, k1..k4 trade against each
    other with nearly the same rays. Pixels need not be square; the model grows with the angle on all of the image.

    Raises:
        TooFewRays: for fewer than LEAST_RAYS directions that are finite and not zero.
    """
    length = np.linalg.norm(directions, axis=-1)
    usable = np.isfinite(length) & (length > 0)
    if usable.sum() < LEAST_RAYS:
        raise TooFewRays(f"{usable.sum()} rays do not tell a fisheye lens; give {LEAST_RAYS} or more")
    rows, cols = directions.shape[:2]
    v, u = np.meshgrid((np.arange(rows) + 0.5) / rows, (np.arange(cols) + 0.5) / cols, indexing="ij")
    cells = np.stack([u, v], axis=-1)[usable]  # in image sizes, as all unknowns
    units = directions[usable].astype(np.float64) / length[usable, None]
    unknowns, start = _equidistant(cells, units, height / width)
    loss, noise = "soft_l1", _noise(_errors(unknowns, start, cells, units))
    for _ in range(_MOST_FITS):
        unknowns = _fit(unknowns, start, cells, units, noise, loss)
        reckoned, noise = noise, _noise(_errors(unknowns, start, cells, units))
        if loss == "cauchy" and noise > _SETTLED * reckoned:
            break
        loss = "cauchy"  # whose wrong rays do not pull: not from the start, which errs at the image's border most
    focal, middle = unknowns[:2] * [width, height], unknowns[2:4] * [width, height]
    intrinsics = np.array([[focal[0], 0, middle[0]], [0, focal[1], middle[1]], [0, 0, 1]])
    rotation = start @ Rotation.from_rotvec(unknowns[8:]).as_matrix()
    return Fisheye(intrinsics, unknowns[4:8]), rotation


def fitted_lenses(
    directions: Float[np.ndarray, "*b rows cols 3"],
    image_mask: Bool[np.ndarray, "*b h w"],
    wide: Bool[np.ndarray, "*b"],
) -> Lenses:
    """Lenses of predicted ray maps: a fisheye by `fit_fisheye` where `wide`, else the pinhole of `recover_focal`.

    Of lenses that are not wide only focal lengths follow: Brown's distortion is not looked for. A map of too few rays
    that are finite and on the image gives intrinsics of NaN, wrong by every threshold.
    """
    wide, (height, width) = np.asarray(wide), image_mask.shape[-2:]
    intrinsics = np.full((*wide.shape, 3, 3), np.nan)
    if not wide.all():
        centers = np.zeros((*wide.shape, 3))
        intrinsics = np.array(recover.host_cameras_of(directions, centers, image_mask).intrinsics)
    coefficients = np.zeros((*wide.shape, MOST_COEFFICIENTS))
    on_image = np.asarray(recover.rays_on_image(jnp.asarray(directions), jnp.asarray(image_mask)))
    for index in map(tuple, np.argwhere(wide)):
        try:
            lens, _ = fit_fisheye(on_image[index], height, width)
        except TooFewRays:
            intrinsics[index] = np.nan
            continue
        intrinsics[index], coefficients[index] = lens.intrinsics, padded_coefficients(lens)
    kind = np.where(wide, KINDS.index(Fisheye.kind), KINDS.index(Pinhole.kind)).astype(np.int32)
    return Lenses(intrinsics, Distortion(kind, coefficients))


def _equidistant(
    cells: Float[np.ndarray, "n 2"], units: Float[np.ndarray, "n 3"], aspect: float
) -> tuple[Float[np.ndarray, "11"], Float[np.ndarray, "3 3"]]:
    """Unknowns of the equidistant lens, its axis through the middle, whose rays are nearest when turned; the turn."""
    best = None
    for field in np.radians(_FIELDS_DEG):
        focal = max(1.0, aspect) / field / np.array([1.0, aspect])
        unknowns = np.concatenate([focal, [0.5, 0.5], np.zeros(7)])
        rays = _rays(unknowns, cells)
        left, _, right = np.linalg.svd(units.T @ rays)
        start = left @ np.diag([1.0, 1.0, np.sign(np.linalg.det(left @ right))]) @ right  # Kabsch
        cost = np.median(np.linalg.norm(rays @ start.T - units, axis=-1))
        if best is None or cost < best[0]:
            best = cost, unknowns, start
    return best[1:]


def _fit(
    unknowns: Float[np.ndarray, "11"],
    start: Float[np.ndarray, "3 3"],
    cells: Float[np.ndarray, "n 2"],
    units: Float[np.ndarray, "n 3"],
    noise: float,
    loss: str,
) -> Float[np.ndarray, "11"]:
    """The unknowns of the most probable lens under this noise (radians) with tails of the `loss`."""
    usual = np.zeros((6, 11))
    usual[np.arange(6), np.arange(2, 8)] = 1 / _USUAL
    expected = np.array([0.5, 0.5, 0, 0, 0, 0]) / _USUAL

    def residuals(values):
        errors = _errors(values, start, cells, units).ravel() / noise
        return np.concatenate([errors, usual @ values - expected])

    def jacobian(values):
        return np.concatenate([_jacobian(values, start, cells).reshape(-1, 11) / noise, usual])

    solution = least_squares(
        residuals, unknowns, jacobian, x_scale="jac", loss=loss, f_scale=_TUNING, ftol=1e-6, max_nfev=_MOST_STEPS
    )
    return solution.x


def _noise(errors: Float[np.ndarray, "n 3"]) -> float:
    """Standard deviation of one component along the sphere, robustly, at least _LEAST_NOISE; radians."""
    deviation = np.median(np.linalg.norm(errors, axis=-1)) / np.sqrt(2 * np.log(2))  # Rayleigh's median
    return max(float(deviation), _LEAST_NOISE)


def _errors(
    unknowns: Float[np.ndarray, "11"],
    start: Float[np.ndarray, "3 3"],
    cells: Float[np.ndarray, "n 2"],
    units: Float[np.ndarray, "n 3"],
) -> Float[np.ndarray, "n 3"]:
    """Turned rays of the lens less the directions."""
    turn = start @ Rotation.from_rotvec(unknowns[8:]).as_matrix()
    return _rays(unknowns, cells) @ turn.T - units


def _rays(unknowns: Float[np.ndarray, "11"], cells: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n 3"]:
    """Unit rays in the camera's frame."""
    _, outward, angle, _ = _polar(unknowns, cells)
    return np.concatenate([np.sin(angle) * outward, np.cos(angle)], axis=-1)


def _polar(unknowns: Float[np.ndarray, "11"], cells: Float[np.ndarray, "n 2"]) -> tuple[np.ndarray, ...]:
    """Of cells: radius on the unit image (n 1), direction there (n 2), and the two angles of `_angles` (n 1)."""
    plane = (cells - unknowns[2:4]) / unknowns[:2]
    radius = np.maximum(np.sqrt(np.sum(plane * plane, axis=-1, keepdims=True)), _TINY)
    return radius, plane / radius, *_angles(radius, unknowns[4:8])


def _angles(
    radius: Float[np.ndarray, "n 1"], bends: Float[np.ndarray, "4"]
) -> tuple[Float[np.ndarray, "n 1"], Float[np.ndarray, "n 1"]]:
    """Angles from the axis, and the same or, where that is less, the angle at which the curve gets flat.

    The curve of `distort_fisheye` goes on straight from where it grows by less than _LEAST_SLOPE: so every lens that a
    fit tries has rays for all cells, which change steadily with it.
    """
    flat = _slope(_GRID[:, None], bends)[:, 0] <= _LEAST_SLOPE
    grid = _GRID[: int(np.argmax(flat)) + 1] if flat.any() else _GRID
    curve = distort_fisheye(grid, bends)
    within = np.interp(radius, curve, grid)
    for _ in range(_NEWTON_STEPS):
        within = within - (distort_fisheye(within, bends) - radius) / _slope(within, bends)
        within = np.clip(within, _TINY, grid[-1])
    return within + np.maximum(radius - curve[-1], 0.0) / _LEAST_SLOPE, within


def _slope(angle: Float[np.ndarray, "n 1"], bends: Float[np.ndarray, "4"]) -> Float[np.ndarray, "n 1"]:
    """Of the radius by the angle."""
    return np.maximum(1 + angle ** (_POWERS - 1) @ (bends * _POWERS)[:, None], _LEAST_SLOPE)


def _jacobian(
    unknowns: Float[np.ndarray, "11"], start: Float[np.ndarray, "3 3"], cells: Float[np.ndarray, "n 2"]
) -> Float[np.ndarray, "n 3 11"]:
    """Of `_errors` by fx, fy, cx, cy, k1..k4 and the turn."""
    radius, outward, angle, within = _polar(unknowns, cells)
    sine, cosine, powers = np.sin(angle), np.cos(angle), within**_POWERS
    by_radius = np.concatenate([cosine * outward, -sine], axis=-1) / _slope(within, unknowns[4:8])
    by_radius = by_radius[..., None]
    around = np.stack([-outward[:, 1], outward[:, 0]], axis=-1)
    by_shift_around = np.pad(sine / radius * around, ((0, 0), (0, 1)))[..., None]  # the angle stays as it is
    by_plane = by_radius * outward[:, None] + by_shift_around * around[:, None]
    by_focal, by_middle = -by_plane * (radius * outward / unknowns[:2])[:, None], -by_plane / unknowns[:2]
    rays = np.concatenate([sine * outward, cosine], axis=-1)
    by_turn = np.cross(_turn_jacobian(unknowns[8:]).T, rays[:, None]).swapaxes(1, 2)
    turn = start @ Rotation.from_rotvec(unknowns[8:]).as_matrix()
    return turn @ np.concatenate([by_focal, by_middle, -by_radius * powers[:, None], by_turn], axis=-1)


def _turn_jacobian(vector: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3 3"]:
    """Right Jacobian of SO(3): exp(w + dw) = exp(w) exp(J dw)."""
    angle = np.linalg.norm(vector)
    x, y, z = vector
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    if angle < 1e-6:
        return np.eye(3) - cross / 2
    first = (1 - np.cos(angle)) / angle**2
    return np.eye(3) - first * cross + (angle - np.sin(angle)) / angle**3 * cross @ cross
