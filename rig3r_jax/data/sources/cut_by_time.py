"""Sources whose recordings are cut by time: into splits by blocks, and blocks into scenes of nearly equal length."""

import dataclasses
from collections.abc import Iterator

from rig3r_jax.data.source import Source, even_pieces

SPLITS = ("train", "validation", "test")


@dataclasses.dataclass(frozen=True)
class CutByTime(Source):
    """Options of recordings that are cut into splits and scenes. Every frame, which of a rig is a time step, is in one
    scene of one split at most."""

    fractions: tuple[float, ...] = (0.7, 0.15, 0.15)  # shares of train, validation and test, in this order of time
    gap: int = 0  # frames left out where one split ends and the next begins, so that neighbours are less alike
    stride: int = 1  # every n-th frame is taken
    window: int = 64  # frames per scene at most; a record is read as a whole
    min_frames: int = 8  # a recording's part of a split with fewer frames is a bad scene

    def problems(self) -> Iterator[str]:
        """See `Source`."""
        shares = self.fractions
        if len(shares) != 3 or not all(share >= 0 for share in shares) or abs(sum(shares) - 1) > 1e-6:
            yield f"fractions={shares!r} must be three shares, of {', '.join(SPLITS)}, that sum to 1"
        lowest = {"gap": 0, "stride": 1, "window": 1, "min_frames": 1}
        for key, low in lowest.items():
            if getattr(self, key) < low:
                yield f"{key}={getattr(self, key)} must be a whole number of frames, at least {low}"
        if 2 * self.min_frames > self.window + 1:  # a block of window + 1 frames becomes two scenes
            yield (
                f"min_frames={self.min_frames} with window={self.window}: scenes may get half of the window; set "
                f"min_frames of at most {(self.window + 1) // 2}, or window of at least {2 * self.min_frames - 1}"
            )

    def splits(self) -> tuple[str, ...]:
        """Names of the splits that have a share."""
        return tuple(split for split, share in zip(SPLITS, self.fractions, strict=True) if share > 0)

    def block(self, count: int, split: str) -> range:
        """The frames, of `count`, that belong to a split: one contiguous block."""
        index = SPLITS.index(split)
        edges = [round(sum(self.fractions[:i]) * count) for i in range(4)]
        return range(min(edges[index] + (self.gap if edges[index] else 0), edges[index + 1]), edges[index + 1])

    def pieces(self, block: range) -> list[range]:
        """The block in pieces of nearly equal length, none longer than `window`."""
        return even_pieces(block, self.window)
