"""Poses, known at some times, at other times: of a vehicle when its cameras fire, of a box when LiDAR sweeps."""

import dataclasses

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation, Slerp

from rig3r_jax.data.scene import UNMATCHED, BadRecord
from rig3r_jax.geometry import rigid

_SAME_TIME = 1e-6  # seconds


@dataclasses.dataclass(frozen=True)
class PosesByTime:
    """world_from_body at ascending times (seconds), between which it moves evenly and turns by slerp."""

    times: Float[np.ndarray, " n"]
    world_from_body: Float[np.ndarray, "n 4 4"]
    longest_gap: float  # seconds between two poses to interpolate between

    def __post_init__(self) -> None:
        """ValueError where times do not ascend."""
        if np.any(np.diff(self.times) <= 0):
            row = int(np.argmax(np.diff(self.times) <= 0))
            raise ValueError(f"times of poses must ascend; {self.times[row]} is followed by {self.times[row + 1]}")

    def covers(self, time: float) -> bool:
        """Whether there is a pose at this time, or one before and one after that are near enough to each other."""
        before, after = self._around(time)
        return before >= 0 and bool(self.times[after] - self.times[before] <= self.longest_gap)

    def at(self, time: float, where: str) -> Float[np.ndarray, "4 4"]:
        """world_from_body at a time.

        Raises:
            BadRecord: of the kind UNMATCHED, naming `where`, if the poses do not cover the time.
        """
        if not self.covers(time):
            error = BadRecord(
                f"{where}: no pose at {time:.6f} s and none on both sides of it at most {self.longest_gap:g} s apart"
            )
            error.kind = UNMATCHED
            raise error
        before, after = self._around(time)
        if before == after:
            return self.world_from_body[before]
        times, ends = self.times[[before, after]], self.world_from_body[[before, after]]
        share = (time - times[0]) / (times[1] - times[0])
        rotation = Slerp([0, 1], Rotation.from_matrix(ends[:, :3, :3]))(share).as_matrix()
        return rigid.from_rotation_translation(rotation, (1 - share) * ends[0, :3, 3] + share * ends[1, :3, 3])

    def speed(self, time: float) -> float:
        """Metres per second from the pose before to the one after; 0 where there is no such pair."""
        if len(self.times) < 2:
            return 0.0
        after = int(np.clip(np.searchsorted(self.times, time), 1, len(self.times) - 1))
        way = self.world_from_body[after, :3, 3] - self.world_from_body[after - 1, :3, 3]
        return float(np.linalg.norm(way) / (self.times[after] - self.times[after - 1]))

    def _around(self, time: float) -> tuple[int, int]:
        """Numbers of the last pose before a time and the first after it; of one at it twice; -1, -1 for none."""
        after = int(np.searchsorted(self.times, time))
        for same in (after - 1, after):
            if 0 <= same < len(self.times) and abs(self.times[same] - time) <= _SAME_TIME:
                return same, same
        return (after - 1, after) if 0 < after < len(self.times) else (-1, -1)
