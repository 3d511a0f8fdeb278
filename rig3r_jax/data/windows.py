"""Which frames of a recording make one window: varied, consecutive, or two clusters where the camera came back.

Windows are ascending and never repeat a frame. A sequence is what belongs to one split, so its windows do as well.
"""

import math
import typing
from collections.abc import Iterable, Mapping

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import cKDTree

from rig3r_jax.data.options import KINDS, WindowOptions


def varied_window(
    rng: np.random.Generator, num_frames: int, views: int, reach: int, name: str = "sequence"
) -> Int[np.ndarray, " v"]:
    """Distinct random frames at most `reach` before or after a random centre, which is one of them."""
    _check_length(name, num_frames, views)
    if reach < views - 1:
        raise ValueError(
            f"reach={reach} must be at least {views - 1}, or a centre at the border has too few neighbours"
        )
    centre = int(rng.integers(num_frames))
    around = np.arange(max(0, centre - reach), min(num_frames, centre + reach + 1))
    others = rng.choice(around[around != centre], views - 1, replace=False)
    return np.sort(np.append(others, centre))


def consecutive_window(
    rng: np.random.Generator, num_frames: int, views: int, stride: int = 1, name: str = "sequence"
) -> Int[np.ndarray, " v"]:
    """Every `stride`-th frame from a random one on."""
    if stride < 1:
        raise ValueError(f"stride={stride} must be at least 1")
    span = (views - 1) * stride + 1
    _check_length(name, num_frames, span)
    return int(rng.integers(num_frames - span + 1)) + stride * np.arange(views)


def two_cluster_window(
    rng: np.random.Generator, pairs: Int[np.ndarray, "p 2"], num_frames: int, views: int, name: str = "sequence"
) -> Int[np.ndarray, " v"]:
    """Two runs of consecutive frames around the frames of a random pair of `revisits`, the first the longer if odd."""
    _check_length(name, num_frames, views)
    apart = pairs[pairs[:, 1] - pairs[:, 0] >= views]
    if views < 2 or not len(apart):
        raise ValueError(
            f"{name}: of {len(pairs)} pairs of frames where the camera came back none is {views} frames apart "
            "(views, at least 2); loosen max_metres and max_degrees, or draw no two_cluster windows"
        )
    pair = apart[rng.integers(len(apart))]
    sizes = (views - views // 2, views // 2)
    starts = [min(max(int(i) - size // 2, 0), num_frames - size) for i, size in zip(pair, sizes, strict=True)]
    return np.concatenate([start + np.arange(size) for start, size in zip(starts, sizes, strict=True)])


def consecutive_windows(num_frames: int, window: int, overlap: float) -> Int[np.ndarray, "n 2"]:
    """[first, past the last] frame of windows that cover a sequence, for evaluation; none where it is shorter.

    Neighbours share at least the fraction `overlap`; the last window ends with the sequence and may share more.
    """
    if window < 1 or not 0 <= overlap < 1:
        raise ValueError(f"window={window} must be at least 1 frame and overlap={overlap} in [0, 1)")
    if num_frames < window:
        return np.zeros((0, 2), np.int64)
    step = max(1, math.floor(window * (1 - overlap) + 1e-9))
    starts = np.arange(0, num_frames - window + 1, step)
    if starts[-1] != num_frames - window:
        starts = np.append(starts, num_frames - window)
    return np.stack([starts, starts + window], axis=1)


def revisits(
    world_from_camera: Float[np.ndarray, "n 4 4"], max_metres: float, max_degrees: float, min_gap: int
) -> Int[np.ndarray, "p 2"]:
    """All pairs of frames (i, j), j - i >= min_gap, that are under `max_metres` and `max_degrees` apart; ascending."""
    if min(max_metres, max_degrees) <= 0 or min_gap < 1:
        raise ValueError(
            f"max_metres={max_metres}, max_degrees={max_degrees} must be positive, min_gap={min_gap} at least 1 frame"
        )
    centres, rotations = world_from_camera[:, :3, 3], world_from_camera[:, :3, :3]
    pairs = cKDTree(centres).query_pairs(max_metres, output_type="ndarray").astype(np.int64)
    pairs = pairs[pairs[:, 1] - pairs[:, 0] >= min_gap]  # query_pairs gives i < j
    first, second = pairs.T
    trace = np.einsum("pij,pij->p", rotations[first], rotations[second])
    near = (np.linalg.norm(centres[first] - centres[second], axis=1) < max_metres) & (
        np.degrees(np.arccos(np.clip((trace - 1) / 2, -1, 1))) < max_degrees
    )
    pairs = pairs[near]
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


class Window(typing.NamedTuple):
    """Frames of one sequence, and the kind of window that they are."""

    sequence: str
    kind: str
    frames: Int[np.ndarray, " v"]

    @property
    def name(self) -> str:
        """Such as desk[3,4,6]."""
        return f"{self.sequence}[{','.join(map(str, self.frames.tolist()))}]"


class WindowSampler:
    """Window number n of a split is a function of (seed, n): first its kind by the ratios, then its sequence."""

    def __init__(self, sequences: Mapping[str, Float[np.ndarray, "n 4 4"]], options: WindowOptions, seed: int) -> None:
        """Takes world_from_camera of each sequence of a split.

        Sequences are drawn in proportion to their frames; two-cluster windows come from those with revisits only.
        ValueError where a sequence is shorter than a window, or a kind with a ratio fits no sequence.
        """
        self.options, self.seed = options, seed
        self._lengths = {name: len(world_from_camera) for name, world_from_camera in sequences.items()}
        if not self._lengths:
            raise ValueError("no sequences to draw windows from; give at least one")
        for name, length in self._lengths.items():
            _check_length(name, length, options.frames_needed)
        self._pairs = {}
        if options.two_cluster:
            rules = (options.max_metres, options.max_degrees, options.min_gap)
            pairs_of = {name: revisits(world_from_camera, *rules) for name, world_from_camera in sequences.items()}
            self._pairs = {name: pairs for name, pairs in pairs_of.items() if len(pairs)}
            if not self._pairs:
                raise ValueError(
                    f"two_cluster={options.two_cluster}: in none of {', '.join(sequences)} does the camera come back "
                    f"within {options.max_metres} m and {options.max_degrees} degrees after {options.min_gap} frames; "
                    "set two_cluster to 0, or loosen these"
                )
        ratios = np.array([getattr(options, kind) for kind in KINDS], np.float64)
        self._ratios = ratios / ratios.sum()
        self._pools = {  # by kind: its sequences, and each one's share of all their frames
            kind: self._shares(self._pairs if kind == "two_cluster" else self._lengths)
            for kind in KINDS
            if getattr(options, kind)
        }

    def __getitem__(self, number: int) -> Window:
        """Window number `number`."""
        return self.draw(number)

    def draw(self, number: int, attempt: int = 0) -> Window:
        """Window number `number`, or the draw that takes its place after `attempt` draws that could not be used."""
        rng = np.random.default_rng([self.seed, number, attempt])  # zeros at the end change nothing
        kind = KINDS[rng.choice(len(KINDS), p=self._ratios)]
        names, shares = self._pools[kind]
        name = names[rng.choice(len(names), p=shares)]
        length, options = self._lengths[name], self.options
        if kind == "varied":
            return Window(name, kind, varied_window(rng, length, options.views, options.reach, name))
        if kind == "consecutive":
            return Window(name, kind, consecutive_window(rng, length, options.views, options.stride, name))
        return Window(name, kind, two_cluster_window(rng, self._pairs[name], length, options.views, name))

    def _shares(self, names: Iterable[str]) -> tuple[list[str], np.ndarray]:
        names = list(names)
        frames = np.array([self._lengths[name] for name in names], np.float64)
        return names, frames / frames.sum()


def _check_length(name: str, num_frames: int, needed: int) -> None:
    if num_frames < needed:
        raise ValueError(
            f"{name}: has {num_frames} frames, a window needs {needed}; lower views or stride, or leave it out"
        )
