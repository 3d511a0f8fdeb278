"""Where a sequence comes back: pairs of images far apart in it that look as if they showed one place.

They are candidates: what a model says of images of both times decides (`loop_check`), and a robust kernel where windows
are joined.
"""

import numpy as np
from jaxtyping import Float, Int

_RARE = 0.99  # of the pairs of different time steps, that are less alike than those of a loop
_PAIRS = 200_000  # that this is told from


def loop_pairs(
    similarity: Float[np.ndarray, "n n"], moment: Int[np.ndarray, " n"], reach: int, most: int
) -> list[tuple[int, int]]:
    """Pairs (earlier, later) of images that look alike across a gap of more than two windows, the most alike first.

    Compared are time steps with those around them, in the same direction or against it (Milford and Wyeth 2012,
    "SeqSLAM"): one image may look like many. A pair's steps are each other's best match beyond the gap, more alike than
    99% of such pairs, and at least as alike as steps an eighth of a window apart usually are. Of neighbouring pairs,
    those with both ends within half a window, the best one stays.

    Args:
        similarity: of the images in the order of the sequence.
        moment: number of the time step of each, 0, 1 ... without gaps.
        reach: time steps of a window.
        most: pairs that are wanted at most.
    """
    steps, half_window, radius = int(moment[-1]) + 1, max(1, reach // 2), max(1, reach // 8)
    apart = np.abs(np.arange(steps)[:, None] - np.arange(steps))
    far = apart > 2 * reach
    if most < 1 or not far.any():
        return []
    begins = np.flatnonzero(np.diff(moment, prepend=-1))
    along, against = _with_neighbours(_of_steps(similarity, begins), radius)
    beyond = np.where(far, np.maximum(along, against), -np.inf)
    match = np.argmax(beyond, axis=1)
    earlier = np.flatnonzero((match[match] == np.arange(steps)) & (match > np.arange(steps)))
    alike = beyond[earlier, match[earlier]]
    elsewhere = beyond[far]
    by_chance = np.quantile(elsewhere[:: max(1, len(elsewhere) // _PAIRS)], _RARE)
    least = max(by_chance, np.median(along[apart == radius]))
    best_first = earlier[np.argsort(-alike)][: np.count_nonzero(alike > least)]
    pairs = _thinned([(int(step), int(match[step])) for step in best_first], half_window, most)
    return [_images(similarity, begins, pair) for pair in pairs]


def _of_steps(similarity: Float[np.ndarray, "n n"], begins: Int[np.ndarray, " t"]) -> Float[np.ndarray, "t t"]:
    """Of time steps: the mean over the images of both of how like each is to the most alike one of the other step."""
    best = np.maximum.reduceat(similarity, begins, axis=1)
    counts = np.diff(np.append(begins, len(similarity)))
    means = np.add.reduceat(best, begins, axis=0) / counts[:, None]
    return (means + means.T) / 2


def _with_neighbours(
    alike: Float[np.ndarray, "t t"], radius: int
) -> tuple[Float[np.ndarray, "t t"], Float[np.ndarray, "t t"]]:
    """Means over steps up to `radius` before and behind both, of two ways in one direction and in opposite ones."""
    steps, shifts = np.arange(len(alike)), range(-radius, radius + 1)
    shifted = [np.clip(steps + shift, 0, len(alike) - 1) for shift in shifts]
    along, against = (
        sum(alike[one[:, None], other] for one, other in zip(shifted, others, strict=True)) / len(shifts)
        for others in (shifted, shifted[::-1])
    )
    return along, against


def _thinned(pairs: list[tuple[int, int]], half_window: int, most: int) -> list[tuple[int, int]]:
    """Non-maximum suppression along both ends, of pairs of steps, the best first."""
    kept: list[tuple[int, int]] = []
    for pair in pairs:
        if all(max(abs(pair[0] - one), abs(pair[1] - other)) > half_window for one, other in kept):
            kept.append(pair)
    return kept[:most]


def _images(
    similarity: Float[np.ndarray, "n n"], begins: Int[np.ndarray, " t"], pair: tuple[int, int]
) -> tuple[int, int]:
    """The images of two steps that are most alike."""
    ends = np.append(begins[1:], len(similarity))
    block = similarity[begins[pair[0]] : ends[pair[0]], begins[pair[1]] : ends[pair[1]]]
    one, other = np.unravel_index(np.argmax(block), block.shape)
    return int(begins[pair[0]] + one), int(begins[pair[1]] + other)
