"""Scenes of logs that the library py123d converted from nuScenes, Waymo, Argoverse 2, PandaSet, KITTI-360, nuPlan, ...

The root is the library's (it holds `logs/`), or its `logs/`: a folder DATASET_SPLIT/LOG of Arrow files for every log.
`sync.arrow` has a row per time step with the row of every modality that belongs to it. camera_to_global_se3 is
world_from_camera, of OpenCV's axes, at the image's own time; where it is null, the vehicle's pose is interpolated to
that time. LiDAR points are in the frame of the vehicle's IMU at the pose of their time step's row, boxes in the world.
"""

import dataclasses
import functools
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from rig3r_jax.data.boxes import inside_any
from rig3r_jax.data.pose_track import PoseTrack
from rig3r_jax.data.scene import UNMATCHED, BadRecord, LeftOut, Scene, about, leaving_out
from rig3r_jax.data.source import Scenes, bad_scene, even_pieces
from rig3r_jax.data.sources.drives import DriveSource, Shot, Sweep, drive_scene
from rig3r_jax.data.sources.py123d_cameras import camera_of, front_of, image_of, name_of
from rig3r_jax.data.sources.py123d_tables import BOXES, EGO, BoxTable, LogTable, decode_points, ego_track, se3
from rig3r_jax.geometry import rigid

_SYNC, _CAMERA, _LIDAR = "sync", "camera.", "lidar."
_MERGED = "lidar.lidar_merged"
_SPLITS = ("train", "val", "test")


@dataclasses.dataclass(frozen=True)
class Py123d(DriveSource):
    """Options of py123d's logs. A time step is a row of a log's sync.arrow."""

    front: str = ""  # "" takes pcam_f0, pcam_stereo_l or ftcam_f0, the first of them that a log has
    datasets: tuple[str, ...] = ()  # such as nuscenes or av2-sensor; () keeps all that the root holds
    sensors: str = ""  # folder of the original data set, where logs state their images by path

    root_holds = "py123d's logs: logs/DATASET_SPLIT/LOG/sync.arrow"
    requires = ("pyarrow", "msgpack")

    def splits(self) -> tuple[str, ...]:
        """The last words of the folders DATASET_SPLIT; train, val, test first."""
        splits = {_split_of(log) for log in _logs(self)}
        return tuple(sorted(splits, key=lambda split: (_SPLITS.index(split) if split in _SPLITS else 9, split)))

    def scenes(self, split: str) -> Scenes:
        """See `Source`."""
        self.check_split(split)
        return [entry for log in _logs(self) if _split_of(log) == split for entry in _loaders_of(self, log)]

    def left_out(self) -> list[tuple[str, LeftOut]]:
        """Images that belong to no time step."""
        left_out = []
        for log in _logs(self):
            try:
                sync = LogTable(log / "sync.arrow")
                for key in _keys(sync, _CAMERA):
                    if not self.cameras or name_of(key) in self.cameras:
                        count, used = len(LogTable(log / f"{key}.arrow").column("timestamp_us")), set(sync.column(key))
                        for row in sorted(set(range(count)) - used):
                            reason = f"{log / key}.arrow, row {row}: {sync.path} has it in no time step"
                            left_out.append((log.name, LeftOut(f"{name_of(key)}, row {row}", UNMATCHED, reason)))
            except BadRecord:  # a bad scene
                continue
        return left_out

    def notes(self) -> list[str]:
        """Logs without sync.arrow, and those whose LiDAR only the library reads."""
        folder, logs = _logs_folder(self), _logs(self)
        begun, ended = ({path.parent for path in folder.glob(f"*/*/{name}.arrow")} for name in ("*", _SYNC))
        notes = []
        if unfinished := begun - ended:
            notes.append(f"{folder}: {len(unfinished)} logs have no sync.arrow and are not read; convert them again")
        if by_path := sum(map(_lidar_by_path, logs)):
            notes.append(
                f"{folder}: {by_path} of {len(logs)} logs state their LiDAR by path, which only py123d reads, so they "
                "are read without depth; convert them with lidar_store_option=binary and lidar_codec=ipc_zstd"
            )
        return notes


def _logs_folder(source: Py123d) -> Path:
    root = source.folder()
    return root / "logs" if (root / "logs").is_dir() else root


def _logs(source: Py123d) -> list[Path]:
    folder = _logs_folder(source)
    logs = sorted(path.parent for path in folder.glob("*/*/sync.arrow"))
    kept = [log for log in logs if not source.datasets or log.parent.name.rpartition("_")[0] in source.datasets]
    if not kept:
        of_datasets = f" of {', '.join(source.datasets)}" if source.datasets else ""
        raise BadRecord(f"{folder}: holds no log{of_datasets}; give the folder that holds {source.root_holds}")
    return kept


def _split_of(log: Path) -> str:
    return re.sub(r"\W", "_", log.parent.name.rpartition("_")[2])


def _keys(sync: LogTable, kind: str) -> list[str]:
    return sorted(name for name in sync.fields if name.startswith(kind))


def _lidar_keys(sync: LogTable) -> list[str]:
    """The merged sweeps where they are, else each LiDAR's own."""
    keys = _keys(sync, _LIDAR)
    return [_MERGED] if _MERGED in keys else keys


def _lidar_by_path(log: Path) -> bool:
    try:
        keys = _lidar_keys(LogTable(log / "sync.arrow"))
        return any(LogTable(log / f"{key}.arrow").is_text("data") for key in keys)
    except BadRecord:  # a bad scene
        return False


def _loaders_of(source: Py123d, log: Path) -> Scenes:
    name = f"{log.parent.name}_{log.name}"
    try:
        count = len(LogTable(log / "sync.arrow").column("sync.timestamp_us"))
    except BadRecord as error:
        return [bad_scene(name, str(error))]
    loaders = []
    for steps in even_pieces(range(count), source.window) or [range(0)]:
        piece = name + (f"_{steps.start:05d}" if steps.start else "")
        loaders.append((piece, functools.partial(_load, source, log, piece, steps)))
    return loaders


def _load(source: Py123d, log: Path, name: str, steps: range) -> Scene:
    sync = LogTable(log / "sync.arrow")
    present = [name_of(key) for key in _keys(sync, _CAMERA)]
    front = front_of(source.cameras or present, source.front, str(sync.path))
    kept = dataclasses.replace(source, front=front).kept_cameras(present, str(sync.path))
    tables = {camera: LogTable(log / f"{_CAMERA}{camera}.arrow") for camera in kept}
    cameras = [camera_of(tables[camera], str(sync.metadata.get("dataset"))) for camera in kept]
    vehicle = _Vehicle(log, sync)
    left_out: list[LeftOut] = []
    shots = []
    for camera in cameras:
        table, rows = tables[camera.name], sync.column(_CAMERA + camera.name)
        times = table.column("timestamp_us")
        for step in steps:
            row = rows[step]
            if row is None or rows.index(row) < step:  # the image of a slower camera stays at its first time step
                continue
            with leaving_out(left_out, f"{camera.name}, row {row}"), about("pose"):
                if not 0 <= row < len(times):
                    raise BadRecord(f"{table.path}: has no row {row}, which {sync.path} states; restore the files")
                pose = vehicle.world_from_camera(table, row, times[row], camera.rig_from_camera)
                shots.append(
                    Shot(
                        camera=camera.name,
                        step=step - steps.start,
                        time=times[row] / 1e6,
                        world_from_camera=pose,
                        image=functools.partial(image_of, table, row, source.sensors),
                        sweep=vehicle.sweep(step),
                    )
                )
    return drive_scene(name, cameras, front, shots, left_out)


class _Vehicle:
    """Poses, sweeps and boxes of a log."""

    def __init__(self, log: Path, sync: LogTable):
        self._log, self._sync = log, sync
        self._rows = {key: sync.column(key) for key in (*_lidar_keys(sync), EGO, BOXES) if key in sync.fields}
        self._lidars = [key for key in self._rows if key.startswith(_LIDAR)]
        self._table = functools.cache(lambda key: LogTable(log / f"{key}.arrow"))
        self._boxes = functools.cache(lambda: BoxTable(self._table(BOXES)))
        self._track: Callable[[], PoseTrack] = functools.cache(lambda: ego_track(self._table(EGO)))
        self._read = functools.lru_cache(maxsize=2)(self._read_sweep)

    def world_from_camera(self, table: LogTable, row: int, time: int, imu_from_camera: np.ndarray) -> np.ndarray:
        """As a row of a camera states it, or by the vehicle's pose at its time (microseconds)."""
        numbers = table.cell("camera_to_global_se3", row)
        if numbers is not None:
            return se3(numbers, f"{table.path}, row {row}: camera_to_global_se3")
        return self._track().at(time * 1000) @ imu_from_camera

    def sweep(self, step: int) -> Callable[[], Sweep] | None:
        """A loader of the points of a time step; None where it has none, or only a path to them."""
        if not any(self._stored(key, step) for key in self._lidars):
            return None
        return functools.partial(self._read, step)

    def _row(self, key: str, step: int) -> int | None:
        """Of a modality at a time step; None where the log has none then, or none at all."""
        return self._rows[key][step] if key in self._rows else None

    def _stored(self, key: str, step: int) -> bool:
        return self._rows[key][step] is not None and not self._table(key).is_text("data")

    def _read_sweep(self, step: int) -> Sweep:
        clouds = []
        for key in (key for key in self._lidars if self._stored(key, step)):
            row = self._rows[key][step]
            data = self._table(key).cell("data", row)
            if data is not None:
                clouds.append(decode_points(data, f"{self._table(key).path}, row {row}"))
        points_imu = np.concatenate([np.zeros((0, 3)), *clouds])
        points_world = rigid.apply(self._world_from_imu(step), points_imu)
        row = self._row(BOXES, step)
        if row is None:
            return Sweep(points_world)
        return Sweep(points_world, inside_any(points_world, self._boxes().moving(row)))

    def _world_from_imu(self, step: int) -> np.ndarray:
        row = self._row(EGO, step)
        if row is None:
            raise BadRecord(f"{self._sync.path}, row {step}: has LiDAR and no {EGO}; restore the file")
        return se3(self._table(EGO).cell("imu_se3", row), f"{self._table(EGO).path}, row {row}")
