"""Where a vehicle was at any time between its stated poses."""

import dataclasses

import numpy as np
from jaxtyping import Float, Int64
from scipy.spatial.transform import Rotation

from rig3r_jax.data.scene import BadRecord
from rig3r_jax.geometry import rigid


@dataclasses.dataclass(frozen=True)
class PoseTrack:
    """Poses by time; between two of them position is linear and rotation turns evenly."""

    times: Int64[np.ndarray, " n"]  # ns, ascending
    world_from_body: Float[np.ndarray, "n 4 4"]
    longest_gap: int  # ns between two poses that are interpolated
    where: str  # the file, for messages

    @classmethod
    def of(cls, times: np.ndarray, world_from_body: np.ndarray, longest_gap: int, where: str) -> "PoseTrack":
        """Of poses in any order; of two of one time the first stays."""
        times, first = np.unique(np.asarray(times, np.int64), return_index=True)
        return cls(times, np.asarray(world_from_body, np.float64)[first], longest_gap, where)

    def at(self, time: int) -> Float[np.ndarray, "4 4"]:
        """world_from_body at a time in ns. BadRecord beyond the ends and in gaps."""
        after = int(np.searchsorted(self.times, time))
        if after < len(self.times) and self.times[after] == time:
            return self.world_from_body[after]
        if after in (0, len(self.times)):
            first, last = (self.times[0], self.times[-1]) if len(self.times) else (None, None)
            raise BadRecord(f"{self.where}: has no pose at {time} ns, only from {first} to {last} ns")
        gap = int(self.times[after] - self.times[after - 1])
        if gap > self.longest_gap:
            raise BadRecord(
                f"{self.where}: has no pose near {time} ns: those around it are {gap / 1e9:.3g} s apart, may be "
                f"{self.longest_gap / 1e9:.3g} s"
            )
        return _between(
            self.world_from_body[after - 1], self.world_from_body[after], (time - self.times[after - 1]) / gap
        )


def _between(start: np.ndarray, end: np.ndarray, share: float) -> np.ndarray:
    turn = Rotation.from_matrix(start[:3, :3].T @ end[:3, :3]).as_rotvec()
    rotation = start[:3, :3] @ Rotation.from_rotvec(share * turn).as_matrix()
    return rigid.from_rotation_translation(rotation, start[:3, 3] + share * (end[:3, 3] - start[:3, 3]))
