"""The windows' length units in closed form: what each ratio of lengths says, then all of them in least squares.

Distances between cameras that two windows share give the ratio of their units. Distances between given poses, and
between a held rig's cameras at one step, give a window's unit in metres.
"""

import math
import typing
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse
from scipy.sparse import csgraph
from scipy.sparse.linalg import spsolve

from rig3r_jax.geometry.fusion.problem import Problem
from rig3r_jax.geometry.rig_poses import median_rotations

_PARTNERS = 8  # windows, those that share most images, that a window is compared with
_LEAST_LENGTH = 1e-9  # of a window's largest: nearer cameras are at one place
_LEAST_SIGMA = 1e-6  # of a length, so that exact ones have a finite weight
_ROUNDS = 10  # of reweighting against wrong ratios
GIVEN_POSES, GIVEN_SCALE, RIG, NONE = "given poses", "given scale", "rig baselines", "none"


class Ratio(typing.NamedTuple):
    """log(world lengths per unit of window `second` / of `first`), its standard deviation, and what tells it."""

    first: int
    second: int
    log: float
    sigma: float
    source: str


def log_scales(problem: Problem) -> tuple[Float[np.ndarray, " w1"], str]:
    """log(world lengths per unit) of every window, and where the world's unit comes from.

    Without any source window 0 has scale 1. ValueError names windows whose unit nothing tells.
    """
    ratios = [*_shared(problem), *_given(problem), *_rigs(problem), *_links(problem)]
    held = np.isfinite(problem.log_scale)
    absolute = [ratio.source for ratio in ratios if ratio.first == problem.world]
    absolute += [GIVEN_SCALE] * int(held[:-1].any())
    source = next((name for name in (GIVEN_POSES, GIVEN_SCALE, RIG) if name in absolute), NONE)
    log_scale = np.where(held, problem.log_scale, 0.0)
    if source == NONE:
        held[0] = True
        held[problem.world] = False
    _check_joined(problem, ratios, held)
    return _least_squares(ratios, log_scale, held | (np.arange(len(held)) == problem.world)), source


def observed_twice(window_image: Int[np.ndarray, "o 2"]) -> Int[np.ndarray, "p 2"]:
    """Pairs of windows that share images (or bodies), those that share most first; every window with few others."""
    window, thing = window_image.T
    shape = (window.max() + 1, thing.max() + 1)
    seen = sparse.csr_array((np.ones(len(window)), (window, thing)), shape=shape)
    seen.data[:] = 1.0
    shared = sparse.triu(seen @ seen.T, 1).tocoo()
    order = np.lexsort((shared.col - shared.row, -shared.data))
    counts, pairs = np.zeros(shape[0], int), []
    for first, second in np.stack([shared.row, shared.col], axis=-1)[order].tolist():
        if min(counts[first], counts[second]) < _PARTNERS:
            counts[[first, second]] += 1
            pairs.append((first, second))
    return np.array(pairs, np.int64).reshape(-1, 2)


def _shared(problem: Problem) -> Iterator[Ratio]:
    """By images of two windows."""
    own = problem.window < problem.world
    for first, second in observed_twice(np.stack([problem.window[own], problem.image[own]], axis=-1)).tolist():
        rows = [problem.of_window(window) for window in (first, second)]
        _, *places = np.intersect1d(*(problem.image[row] for row in rows), return_indices=True)
        sides = [_lengths(problem, row[place]) for row, place in zip(rows, places, strict=True)]
        yield from _by_lengths(first, second, *sides, source=NONE)


def _given(problem: Problem) -> Iterator[Ratio]:
    """By images with a given pose."""
    place = {image: number for number, image in enumerate(problem.posed.tolist())}
    for window in range(problem.window_count) if place else ():
        rows = [row for row in problem.of_window(window).tolist() if int(problem.image[row]) in place]
        centers = problem.world_from_posed[[place[int(problem.image[row])] for row in rows], :3, 3]
        lengths = _pairwise(centers)
        exact = (lengths, np.full_like(lengths, _LEAST_SIGMA))
        yield from _by_lengths(problem.world, window, exact, _lengths(problem, np.array(rows, int)), GIVEN_POSES)


def _rigs(problem: Problem) -> Iterator[Ratio]:
    """By cameras of a rig at one step.

    Lengths L of the rig, exact, and predicted ones l = L / scale + error, so 1 / scale is regressed on L: the other way
    round the error of l would lower the scale. l is measured along the rig's line, turned as its cameras say.
    """
    for window in range(problem.window_count):
        rows = problem.of_window(window)
        body = problem.body[problem.image[rows]]
        body_from_camera = problem.body_from_camera[problem.image[rows]]
        numbers, group = np.unique(body, return_inverse=True)
        if len(numbers) == len(rows):
            continue
        turned = problem.window_from_camera[rows, :3, :3] @ np.swapaxes(body_from_camera[:, :3, :3], -1, -2)
        rotation = median_rotations(turned, group, len(numbers))[group]
        i, j = (side.ravel() for side in np.triu_indices(len(rows), 1))
        i, j = i[together := group[i] == group[j]], j[together]
        line = (rotation[i] @ (body_from_camera[i, :3, 3] - body_from_camera[j, :3, 3])[..., None])[..., 0]
        center, sigma = problem.window_from_camera[rows, :3, 3], _sigmas(problem, rows)
        square = np.sum(line**2, axis=-1)
        apart = square > (_LEAST_LENGTH * max(1.0, np.abs(body_from_camera[:, :3, 3]).max())) ** 2
        if not apart.any():
            continue
        along = np.sum((center[i] - center[j]) * line, axis=-1)[apart] / square[apart]
        weights = square[apart] / np.hypot(sigma[i], sigma[j])[apart] ** 2
        inverse = _weighted_median(along, weights)
        if inverse > 0:  # else all noise
            yield Ratio(problem.world, window, -math.log(inverse), _spread(len(rows), weights) / inverse, RIG)


def _links(problem: Problem) -> Iterator[Ratio]:
    for link in problem.links:
        first = problem.world if link.first is None else link.first
        yield Ratio(first, link.second, link.log_ratio, link.sigma, GIVEN_SCALE if link.first is None else NONE)


Lengths = tuple[Float[np.ndarray, " p"], Float[np.ndarray, " p"]]  # of pairs of cameras, and their sigmas


def _lengths(problem: Problem, rows: Int[np.ndarray, " n"]) -> Lengths:
    first, second = np.triu_indices(len(rows), 1)
    sigma = _sigmas(problem, rows)
    return _pairwise(problem.window_from_camera[rows, :3, 3]), np.hypot(sigma[first], sigma[second])


def _pairwise(centers: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, " p"]:
    first, second = np.triu_indices(len(centers), 1)
    return np.linalg.norm(centers[first] - centers[second], axis=-1)


def _sigmas(problem: Problem, rows: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Of the centres along an axis, in the window's unit."""
    variance = np.trace(problem.covariance[rows, :3, :3], axis1=-2, axis2=-1) / 3
    return np.sqrt(np.maximum(variance, _LEAST_SIGMA**2))


def _by_lengths(first: int, second: int, side_first: Lengths, side_second: Lengths, source: str) -> Iterator[Ratio]:
    """The median ratio of lengths, if there are any."""
    (lengths, sigmas), (lengths_second, sigmas_second) = side_first, side_second
    least = [_LEAST_LENGTH * side.max(initial=0.0) for side in (lengths, lengths_second)]
    apart = (lengths > max(least[0], 1e-12)) & (lengths_second > max(least[1], 1e-12))
    if not apart.any():
        return
    lengths, sigmas, lengths_second, sigmas_second = (
        side[apart] for side in (lengths, sigmas, lengths_second, sigmas_second)
    )
    ratios = np.log(lengths / lengths_second)
    factor = np.exp(np.median(ratios))
    shorter = np.minimum(lengths, factor * lengths_second)  # a grossly wrong view makes lengths that are too long
    weights = shorter**2 / (sigmas**2 + (factor * sigmas_second) ** 2)
    count = (1 + math.isqrt(1 + 8 * len(apart))) // 2  # cameras, of so many pairs
    yield Ratio(first, second, _weighted_median(ratios, weights), _spread(count, weights), source)


def _spread(camera_count: int, weights: Float[np.ndarray, " p"]) -> float:
    """Sigma of a mean of lengths between so many cameras, each of which is in all but few of the pairs."""
    return float(np.sqrt(0.5 * camera_count / weights.sum()))


def _weighted_median(values: Float[np.ndarray, " p"], weights: Float[np.ndarray, " p"]) -> float:
    order = np.argsort(values)
    below = np.cumsum(weights[order])
    return float(values[order[np.searchsorted(below, 0.5 * below[-1])]])


def _check_joined(problem: Problem, ratios: list[Ratio], held: np.ndarray) -> None:
    """Every window's unit must follow from a held one by ratios."""
    ends = np.array([ratio[:2] for ratio in ratios], np.int64).reshape(-1, 2)
    ground = np.flatnonzero(held)
    ends = np.concatenate([ends, np.stack([np.full(len(ground), ground[0]), ground], axis=-1)])
    shape = (len(held), len(held))
    _, part = csgraph.connected_components(sparse.csr_array((np.ones(len(ends)), ends.T), shape=shape), directed=False)
    stray = np.flatnonzero(part[: problem.world] != part[ground[0]])
    if len(stray):
        raise ValueError(
            f"the length unit of {len(stray)} windows cannot be told, window {stray[0]} first: the cameras that it "
            "shares with others stay in one place; let windows share images from two places or more, or give its "
            "scale or a ScaleLink"
        )


def _least_squares(ratios: list[Ratio], log_scale: np.ndarray, held: np.ndarray) -> np.ndarray:
    """The scales that fit all ratios, held ones held; a few wrong ratios are outvoted (iterative reweighting)."""
    free = np.flatnonzero(~held)
    if not len(free):
        return log_scale
    rows, ends = np.arange(len(ratios)), np.array([ratio[:2] for ratio in ratios])
    signs = np.concatenate([-np.ones(len(rows)), np.ones(len(rows))])
    matrix = sparse.csc_array(
        (signs, (np.concatenate([rows, rows]), ends.T.ravel())), shape=(len(rows), len(log_scale))
    )
    value, sigma = (np.array([getattr(ratio, name) for ratio in ratios]) for name in ("log", "sigma"))
    solved, weights = log_scale.copy(), sigma**-2.0
    for _ in range(_ROUNDS):
        part = matrix[:, free]
        right = value - matrix @ np.where(held, log_scale, 0.0)
        scaled = sparse.diags_array(weights) @ part
        solved[free] = spsolve((part.T @ scaled).tocsc(), scaled.T @ right)
        size = np.abs(matrix @ solved - value) / sigma
        weights = sigma**-2.0 / np.maximum(size, 1.0)
    return solved
