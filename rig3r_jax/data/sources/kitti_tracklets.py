"""Tracklets of KITTI's raw data: boxes of objects in the LiDAR's frame, by frame, in `tracklet_labels.xml`."""

import dataclasses
import functools
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from rig3r_jax.data.boxes import Box, upright_pose
from rig3r_jax.data.scene import BadRecord

MOVING_SPEED = 0.5  # metres per second
AROUND = 5  # frames before and after one, of ten per second, between which an object's speed is taken


class PlacedSweep(NamedTuple):
    """When and where a sweep was taken."""

    time: float  # seconds
    world_from_lidar: Float[np.ndarray, "4 4"]


@dataclasses.dataclass(frozen=True)
class Tracklet:
    """An object and its boxes in frames that follow each other."""

    first: int  # number of the first frame
    lidar_from_box: Float[np.ndarray, "n 4 4"]  # the box's origin in its middle
    size: tuple[float, float, float]  # length, width, height

    def moving_box(self, frame: int, sweeps: Mapping[int, PlacedSweep]) -> Box | None:
        """Its box in the world, if it is labelled in this frame and moves; one that is labelled once is said to.

        `sweeps` by frame: of this one, and of those around it that have a pose.
        """
        labelled = range(self.first, self.first + len(self.lidar_from_box))
        if frame not in labelled:
            return None
        numbers = [number for number in sweeps if number in labelled and abs(number - frame) <= AROUND]
        before, after = min(numbers), max(numbers)
        way = np.linalg.norm((self._placed(after, sweeps) - self._placed(before, sweeps))[:3, 3])
        if before < after and way < MOVING_SPEED * (sweeps[after].time - sweeps[before].time):
            return None
        return Box(self._placed(frame, sweeps), self.size)

    def _placed(self, frame: int, sweeps: Mapping[int, PlacedSweep]) -> np.ndarray:
        return sweeps[frame].world_from_lidar @ self.lidar_from_box[frame - self.first]


def read_tracklets(path: Path) -> list[Tracklet] | None:
    """The tracklets of a drive; None where it has no such file. BadRecord for a file that is none."""
    return _read(path, path.stat().st_mtime_ns) if path.is_file() else None


@functools.lru_cache(maxsize=4)
def _read(path: Path, changed: int) -> list[Tracklet]:
    try:
        return [_tracklet(item) for item in ElementTree.parse(path).getroot().findall("tracklets/item")]
    except (OSError, ElementTree.ParseError, ValueError, TypeError) as error:
        raise BadRecord(f"{path}: does not read as tracklets of KITTI ({error}); restore the file") from error


def _tracklet(item: ElementTree.Element) -> Tracklet:
    length, width, height = (float(item.findtext(name)) for name in ("l", "w", "h"))
    poses = [_pose(pose, height) for pose in item.findall("poses/item")]
    if not poses:
        raise ValueError("a tracklet has no pose")
    return Tracklet(int(item.findtext("first_frame")), np.array(poses), (length, width, height))


def _pose(item: ElementTree.Element, height: float) -> np.ndarray:
    """lidar_from_box, turned about z alone, as all of the data set are; tz is of the bottom."""
    x, y, z, yaw = (float(item.findtext(name)) for name in ("tx", "ty", "tz", "rz"))
    return upright_pose(np.array([x, y, z + height / 2]), yaw)
