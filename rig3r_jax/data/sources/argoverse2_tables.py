"""The feather tables of an Argoverse 2 log: calibration, poses, boxes and LiDAR sweeps."""

import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from rig3r_jax.data.boxes import Box, inside_any
from rig3r_jax.data.files import read_bytes
from rig3r_jax.data.pose_track import PoseTrack
from rig3r_jax.data.scene import BadRecord
from rig3r_jax.data.sources.pose_tables import poses_of
from rig3r_jax.geometry import rigid

_POSE = ("qw", "qx", "qy", "qz", "tx_m", "ty_m", "tz_m")
_SIZE = ("length_m", "width_m", "height_m")  # along x, y and z of a box
_POSE_GAP = 200_000_000  # ns: poses are of every time of any sensor
_NEIGHBOUR = 1_000_000_000  # ns between two boxes of an object that tell its speed


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Of one camera."""

    intrinsics: np.ndarray  # (3, 3) float64, the centre of the first pixel at 0.5
    size: tuple[int, int]  # height, width
    ego_from_camera: np.ndarray  # (4, 4) float64, metres


def read_table(path: Path, columns: Sequence[str]) -> dict[str, np.ndarray]:
    """Columns of a feather table; BadRecord, naming the file, where it does not read or lacks one."""
    import pyarrow
    from pyarrow import feather

    data = read_bytes(path)
    try:
        table = feather.read_table(io.BytesIO(data), columns=list(columns))
        return {column: table[column].to_numpy() for column in columns}
    except (pyarrow.ArrowException, KeyError, ValueError, OSError) as error:
        rule = f"must be a feather table with {', '.join(columns)}"
        raise BadRecord(f"{path}: holds {len(data)} bytes, {rule} ({error}); restore the file") from error


def read_calibration(folder: Path) -> dict[str, Calibration]:
    """Of every camera that has intrinsics and a place on the vehicle (some logs state no stereo cameras)."""
    numbers = ("fx_px", "fy_px", "cx_px", "cy_px", "height_px", "width_px")
    places = read_table(folder / "egovehicle_SE3_sensor.feather", ("sensor_name", *_POSE))
    ego_from_sensor = dict(
        zip(places["sensor_name"], _poses(places, folder / "egovehicle_SE3_sensor.feather"), strict=True)
    )
    table = read_table(folder / "intrinsics.feather", ("sensor_name", *numbers))
    calibration = {}
    for name, *values in zip(table["sensor_name"], *(table[column] for column in numbers), strict=True):
        fx, fy, cx, cy, height, width = map(float, values)
        if name in ego_from_sensor:
            intrinsics = np.array([[fx, 0, cx + 0.5], [0, fy, cy + 0.5], [0, 0, 1]])
            calibration[str(name)] = Calibration(intrinsics, (int(height), int(width)), ego_from_sensor[name])
    return calibration


def read_poses(path: Path) -> PoseTrack:
    """city_from_ego by time."""
    table = read_table(path, ("timestamp_ns", *_POSE))
    return PoseTrack.of(table["timestamp_ns"], _poses(table, path), _POSE_GAP, str(path))


def read_sweep(path: Path) -> Float[np.ndarray, "n 3"]:
    """Points in the vehicle's frame at the sweep's time (its motion while it turned is taken out already)."""
    table = read_table(path, ("x", "y", "z"))
    points = np.stack([table[axis].astype(np.float64) for axis in "xyz"], axis=1)
    return points[np.isfinite(points).all(axis=1)]


class Boxes:
    """Boxes of a log that move, by the time of their sweep."""

    def __init__(self, table: dict[str, np.ndarray], path: Path, poses: PoseTrack, moving_speed: float):
        self._table, self._ego_from_box = table, _poses(table, path)
        times = table["timestamp_ns"].astype(np.int64)
        centres = np.zeros((len(times), 3))
        for time in np.unique(times):
            centres[times == time] = rigid.apply(poses.at(int(time)), self._ego_from_box[times == time, :3, 3])
        self._moves = _speeds(table["track_uuid"], times, centres) >= moving_speed
        self._rows: dict[int, list[int]] = {}
        for row, time in enumerate(times.tolist()):
            self._rows.setdefault(time, []).append(row)

    def moving(self, time: int, points_ego: Float[np.ndarray, "n 3"]) -> Bool[np.ndarray, " n"] | None:
        """Which points of the sweep at this time are in a box that moves; None where the sweep has no boxes."""
        if time not in self._rows:
            return None
        sizes = np.stack([self._table[column] for column in _SIZE], axis=1).astype(float)
        rows = [row for row in self._rows[time] if self._moves[row]]
        return inside_any(points_ego, [Box(self._ego_from_box[row], tuple(sizes[row].tolist())) for row in rows])


def read_boxes(path: Path, poses: PoseTrack, moving_speed: float) -> Boxes | None:
    """The boxes of a log; None where it has none, as those for testing."""
    if not path.exists():
        return None
    return Boxes(read_table(path, ("timestamp_ns", "track_uuid", *_POSE, *_SIZE)), path, poses, moving_speed)


def _speeds(tracks: np.ndarray, times: np.ndarray, centres: np.ndarray) -> Float[np.ndarray, " n"]:
    """Metres per second of every box in the city: the faster of those from the box before and to the box after of its
    object. An object that is seen once may move: infinite."""
    speeds = np.full(len(times), np.inf)
    _, track = np.unique(tracks.astype(str), return_inverse=True)
    order = np.lexsort((times, track))
    gaps = np.diff(times[order])
    linked = (np.diff(track[order]) == 0) & (gaps > 0) & (gaps <= _NEIGHBOUR)
    rates = np.linalg.norm(np.diff(centres[order], axis=0), axis=1) / np.maximum(gaps, 1) * 1e9
    before = np.full(len(order), -1.0)
    after = before.copy()
    before[1:][linked], after[:-1][linked] = rates[linked], rates[linked]
    fastest = np.maximum(before, after)  # -1 where neither is near
    speeds[order] = np.where(fastest < 0, np.inf, fastest)
    return speeds


def _poses(table: dict[str, np.ndarray], path: Path) -> Float[np.ndarray, "n 4 4"]:
    rows = np.stack([table[column] for column in _POSE], axis=1).astype(np.float64)
    return poses_of(rows[:, :4], rows[:, 4:], str(path), "wxyz")
