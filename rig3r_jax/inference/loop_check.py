"""Loops that the way between their ends contradicts, told before windows are joined.

A wrong loop's window is one of many good witnesses for what is not so: all of its images agree. Between its ends lie
windows that overlap, each of which adds a small error that is known from how well its images fit those of the next.
A loop that is off by many times what these add up to is no loop.
"""

import dataclasses
import typing
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from rig3r_jax.geometry import rigid
from rig3r_jax.inference.passes import Pass
from rig3r_jax.inference.scale_ratios import log_ratio
from rig3r_jax.inference.windows import Facts, WindowPlan, snake

_TIMES = 6.0  # what independent errors of windows add up to, that a loop may be off
# Allowed in any case, for errors that all windows have in common.
_TURN, _LOG_SCALE, _SHARE = np.radians(10.0), 0.2, 0.05  # radians; of lengths; of the way


@dataclasses.dataclass(frozen=True)
class LoopVerdict:
    """How far a loop and the way between its ends disagree, over what is allowed: above 1 it is taken for wrong."""

    pair: tuple[int, int]  # images
    turn: float
    scale: float
    place: float

    @property
    def right(self) -> bool:
        """Whether it may be one."""
        return max(self.turn, self.scale, self.place) <= 1.0

    def text(self, names: Sequence[str]) -> str:
        """A sentence that says what was found; `names` of all images."""
        one, other = (names[row] for row in self.pair)
        parts = {"turn": self.turn, "scale": self.scale, "place": self.place}
        worst = max(parts, key=parts.get)
        return (
            f"{one} and {other} look alike, but the images between them put them {parts[worst]:.1f} times as far apart "
            f"in {worst} as is allowed: not taken for one place"
        )


def loop_verdicts(plan: WindowPlan, passes: Sequence[Pass], facts: Facts) -> list[LoopVerdict]:
    """Of each loop of a plan, in its order; `passes` are those of its windows."""
    if not plan.loops:
        return []
    of_way = passes[: len(plan.windows) - len(plan.loops)]
    chain = _chained(of_way, len(facts.step))
    order, in_order = snake(facts)
    moment = np.empty(len(order), np.int64)
    moment[order] = in_order
    along = _way(chain.world_from_camera, moment)
    loops = passes[len(of_way) :]
    return [_verdict(pair, one, chain, moment, along) for pair, one in zip(plan.loops, loops, strict=True)]


def right_loops(
    plan: WindowPlan, passes: Sequence[Pass], verdicts: Sequence[LoopVerdict]
) -> tuple[WindowPlan, list[Pass]]:
    """The plan and the passes without the loops that are wrong."""
    first = len(plan.windows) - len(plan.loops)
    kept = [*range(first), *(first + place for place, verdict in enumerate(verdicts) if verdict.right)]
    loops = tuple(verdict.pair for verdict in verdicts if verdict.right)
    return dataclasses.replace(plan, windows=tuple(plan.windows[n] for n in kept), loops=loops), [
        passes[n] for n in kept
    ]


@typing.no_type_check
@dataclasses.dataclass(frozen=True)
class _Chain:
    """The images as windows one after the other place them, in the world and unit of the first window."""

    world_from_camera: Float[np.ndarray, "n 4 4"]
    distances: Float[np.ndarray, "n m"]
    window: Int[np.ndarray, " n"]  # the first of each image
    turn: Float[np.ndarray, " w"]  # variances that each window adds: radians squared
    log_scale: Float[np.ndarray, " w"]


@typing.no_type_check
class _Fit(typing.NamedTuple):
    """target = scale rotation source + translation, and standard deviations."""

    scale: float
    rotation: Float[np.ndarray, "3 3"]
    translation: Float[np.ndarray, "3"]
    turn_sigma: float
    log_scale_sigma: float

    def place(self, poses: Float[np.ndarray, "k 4 4"]) -> Float[np.ndarray, "k 4 4"]:
        """Poses in the target's world."""
        centers = self.scale * poses[:, :3, 3] @ self.rotation.T + self.translation
        return rigid.from_rotation_translation(self.rotation @ poses[:, :3, :3], centers)


def _chained(passes: Sequence[Pass], count: int) -> _Chain:
    poses = np.tile(np.eye(4), (count, 1, 1))
    distances, window = np.zeros((count, passes[0].distances.shape[1])), np.full(count, -1)
    variances = np.zeros((len(passes), 2))
    for number, one in enumerate(passes):
        placed = window[one.rows] >= 0
        fit = _Fit(1.0, np.eye(3), np.zeros(3), 0.0, 0.0)
        if number:
            shared = one.rows[placed]
            fit = _fitted(one.world_from_camera[placed], one.distances[placed], poses[shared], distances[shared])
            variances[number] = fit.turn_sigma**2, fit.log_scale_sigma**2
        new = one.rows[~placed]
        poses[new] = fit.place(one.world_from_camera[~placed])
        distances[new] = fit.scale * one.distances[~placed]
        window[new] = number
    return _Chain(poses, distances, window, *variances.T)


def _fitted(source: np.ndarray, source_distances: np.ndarray, target: np.ndarray, target_distances: np.ndarray) -> _Fit:
    """By cameras that both sides have; the scale by the distances of their points, which need no baseline."""
    turns = target[:, :3, :3] @ np.swapaxes(source[:, :3, :3], -1, -2)
    rotation = rigid.nearest_rotation(turns.sum(axis=0))
    cosines = (np.trace(rotation.T @ turns, axis1=-2, axis2=-1) - 1) / 2
    off = np.arccos(np.clip(cosines, -1, 1))
    log_scale, log_scale_sigma = log_ratio(target_distances, source_distances) or (0.0, np.inf)
    scale = float(np.exp(log_scale))
    translation = np.median(target[:, :3, 3] - scale * source[:, :3, 3] @ rotation.T, axis=0)
    return _Fit(scale, rotation, translation, float(np.sqrt(np.mean(off**2) / len(off))), log_scale_sigma)


def _way(world_from_camera: np.ndarray, moment: np.ndarray) -> Float[np.ndarray, " t"]:
    """Length of the way up to each time step, through the middles of their cameras."""
    sums = np.zeros((moment.max() + 1, 3))
    np.add.at(sums, moment, world_from_camera[:, :3, 3])
    middles = sums / np.bincount(moment)[:, None]
    return np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(middles, axis=0), axis=1))])


def _verdict(pair: tuple[int, int], one: Pass, chain: _Chain, moment: np.ndarray, along: np.ndarray) -> LoopVerdict:
    ends = moment[list(pair)]
    later = np.abs(moment[one.rows] - ends[1]) < np.abs(moment[one.rows] - ends[0])
    fits = [
        _fitted(
            one.world_from_camera[half],
            one.distances[half],
            chain.world_from_camera[one.rows[half]],
            chain.distances[one.rows[half]],
        )
        for half in (~later, later)
    ]
    middle = one.world_from_camera[later].mean(axis=0)[None]
    by_earlier, by_later = (fit.place(middle)[0, :3, 3] for fit in fits)
    cosine = (np.trace(fits[0].rotation.T @ fits[1].rotation) - 1) / 2
    between = slice(*np.sort(chain.window[list(pair)]) + 1)
    way = abs(float(along[ends[1]] - along[ends[0]]))
    turn, log_scale = (
        _TIMES * np.sqrt(variances[between].sum() + sum(sigma**2 for sigma in own))
        for variances, own in (
            (chain.turn, [fit.turn_sigma for fit in fits]),
            (chain.log_scale, [fit.log_scale_sigma for fit in fits]),
        )
    )
    # Turns and scales of windows that walk at random move what lies behind them: the mean of its square is a third.
    place = max(_SHARE, np.hypot(turn, log_scale) / np.sqrt(3)) * way
    return LoopVerdict(
        pair,
        turn=float(np.arccos(np.clip(cosine, -1, 1)) / max(_TURN, turn)),
        scale=float(abs(np.log(fits[0].scale / fits[1].scale)) / max(_LOG_SCALE, log_scale)),
        place=float(np.linalg.norm(by_earlier - by_later) / max(place, 1e-12)),
    )
