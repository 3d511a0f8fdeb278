"""The Arrow files of a py123d log, read without that library.

A file per modality: `camera.pcam_f0.arrow`, `lidar.lidar_merged.arrow`, `ego_state_se3.arrow`, ...; its columns are
named `MODALITY.FIELD`, its schema's metadata holds, under `metadata`, a msgpack map. A pose is x y z qw qx qy qz,
parent_from_child; times are microseconds.
"""

import contextlib
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from rig3r_jax.data.boxes import Box
from rig3r_jax.data.pose_track import PoseTrack
from rig3r_jax.data.scene import BadRecord
from rig3r_jax.data.sources.pose_tables import pose_of, poses_of
from rig3r_jax.extras import lack_of
from rig3r_jax.formats.point_cloud import read_las

EGO, BOXES = "ego_state_se3", "box_detections_se3"
_LONGEST_GAP = 1_100_000_000  # ns between two poses of the vehicle, of which some logs have two per second
_NEIGHBOUR = 500_000  # microseconds before and after a box within which others of its object tell its speed
_CODECS = ("DracoPy", "laspy", "lazrs", "pyarrow")  # packages that unpack points
MOVING_SPEED = 0.5  # metres per second, which boxes of parked cars wander by at most from label to label


class LogTable:
    """One file: its metadata at once, columns and cells when they are asked for."""

    def __init__(self, path: Path):
        """Opens a file. BadRecord, naming it, where it is none of a log."""
        import msgpack
        import pyarrow as pa

        self.path = path
        with _reading(path):
            self._schema = self._reader(()).schema if path.stat().st_size else pa.schema([])
            self.metadata: dict[str, Any] = msgpack.unpackb(self._schema.metadata[b"metadata"], strict_map_key=False)

    @property
    def key(self) -> str:
        """The modality, such as camera.pcam_f0."""
        return self.path.stem

    @property
    def fields(self) -> list[str]:
        """Names of the columns, without the modality's."""
        return [name.removeprefix(f"{self.key}.") for name in self._schema.names]

    def is_text(self, field: str) -> bool:
        """Whether a column holds words, such as the paths of files."""
        import pyarrow as pa

        return pa.types.is_string(self._schema.field(self._number(field)).type)

    def column(self, field: str) -> list[Any]:
        """All values of a small column."""
        with _reading(self.path):
            return self._reader((self._number(field),)).read_all().column(0).to_pylist()

    def cell(self, field: str, row: int) -> Any:
        """One value; of a large column only the rows that were written together with it are read."""
        with _reading(self.path):
            batch = int(np.searchsorted(self._first_rows, row, side="right")) - 1
            start = self._first_rows[batch]
            return self._reader((self._number(field),)).get_batch(batch).column(0)[row - start].as_py()

    @functools.cached_property
    def _first_rows(self) -> list[int]:
        """Of each batch of rows, then their number."""
        reader = self._reader((self._number("timestamp_us"),))
        counts = [reader.get_batch(number).num_rows for number in range(reader.num_record_batches)]
        return [0, *np.cumsum(counts).tolist()]

    def _number(self, field: str) -> int:
        return self._schema.names.index(field if field in self._schema.names else f"{self.key}.{field}")

    def _reader(self, columns: Sequence[int]):
        import pyarrow as pa

        options = pa.ipc.IpcReadOptions(included_fields=list(columns))
        return pa.ipc.open_file(pa.memory_map(str(self.path)), options=options)


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """What a file lacks is a BadRecord that names it."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, KeyError, IndexError, TypeError, ValueError) as error:
        raise BadRecord(f"{path}: is no such table of a py123d log ({error!r}); restore the file") from error
    except OSError as error:
        raise BadRecord(f"{path}: cannot be read ({error.strerror or error}); restore the file") from error


def se3(numbers: Sequence[float] | None, where: str) -> Float[np.ndarray, "4 4"]:
    """The transform of x y z qw qx qy qz; BadRecord naming `where`."""
    if numbers is None or len(numbers) != 7:
        raise BadRecord(f"{where}: pose {numbers} must be x y z qw qx qy qz; restore the file")
    return pose_of(numbers[3:], numbers[:3], where, "wxyz")


def ego_track(table: LogTable) -> PoseTrack:
    """Where the vehicle's IMU was."""
    times = np.array(table.column("timestamp_us"), np.int64) * 1000
    numbers = np.array(table.column("imu_se3"), np.float64).reshape(-1, 7)
    poses = poses_of(numbers[:, 3:], numbers[:, :3], f"{table.path}: imu_se3", "wxyz")
    return PoseTrack.of(times, poses, _LONGEST_GAP, str(table.path))


def decode_points(data: bytes, where: str) -> Float[np.ndarray, "n 3"]:
    """Points of one of the library's codecs, told apart by their first bytes: Arrow's IPC, LAZ or Draco."""
    try:
        points = _decoder(data)(data)
    except ImportError as error:
        raise BadRecord(f"{where}: reading its points {lack_of(_CODECS) or error}") from error
    except Exception as error:  # each of the libraries raises its own kinds
        raise BadRecord(f"{where}: points do not read ({error!r}); restore the file") from error
    points = np.asarray(points, np.float64).reshape(-1, 3)
    return points[np.isfinite(points).all(axis=1)]


def _decoder(data: bytes):
    for start, decode in ((b"\xff\xff\xff\xff", _arrow_points), (b"LASF", _laz_points), (b"DRACO", _draco_points)):
        if data.startswith(start):
            return decode
    raise ValueError(f"begins with {data[:5]!r}, which is neither Arrow's IPC nor LAZ nor Draco")


def _arrow_points(data: bytes) -> np.ndarray:
    import pyarrow as pa

    with pa.ipc.open_stream(pa.BufferReader(data)) as stream:
        table = stream.read_all()
    return np.stack([table.column(axis).to_numpy() for axis in "xyz"], axis=1)


def _laz_points(data: bytes) -> np.ndarray:
    return read_las(data, "LAZ")


def _draco_points(data: bytes) -> np.ndarray:
    import DracoPy

    return np.asarray(DracoPy.decode(data).points)


class BoxTable:
    """The boxes of a log, and how fast each goes: by its object's other boxes, or else as its row states."""

    def __init__(self, table: LogTable):
        self._table, self._times = table, table.column("timestamp_us")
        self._boxes, self._tracks = table.column("bounding_box_se3"), table.column("track_token")
        self._velocities = table.column("velocity_3d") if "velocity_3d" in table.fields else [None] * len(self._times)

    def moving(self, row: int) -> list[Box]:
        """Of a row those in the world that go MOVING_SPEED or more, or whose speed nothing tells."""
        boxes = []
        for number, box in enumerate(self._boxes[row] or ()):
            if not self._speed(row, number) < MOVING_SPEED:
                where = f"{self._table.path}, row {row}, box {number}"
                boxes.append(Box(se3(box[:7], where), tuple(float(side) for side in box[7:])))
        return boxes

    def _speed(self, row: int, number: int) -> float:
        """Metres per second; NaN where nothing tells it."""
        token = self._tracks[row][number]
        labelled = [other for other in self._near(row) if token in (self._tracks[other] or ())]
        if token is not None and len(labelled) > 1:
            before, after = labelled[0], labelled[-1]
            first, last = (self._boxes[end][self._tracks[end].index(token)] for end in (before, after))
            seconds = (self._times[after] - self._times[before]) / 1e6
            return float(np.linalg.norm(np.subtract(last[:3], first[:3]))) / seconds
        velocity = (self._velocities[row] or [None] * (number + 1))[number]
        return float("nan") if velocity is None else float(np.linalg.norm(velocity))

    def _near(self, row: int) -> range:
        low, high = self._times[row] - _NEIGHBOUR, self._times[row] + _NEIGHBOUR
        return range(*np.searchsorted(self._times, [low, high + 1]).tolist())
