"""Segments of the Waymo Open Dataset 2: a folder per component, in it a parquet file per segment."""

import contextlib
import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rig3r_jax.data.scene import BadRecord
from rig3r_jax.data.sources.waymo_lidar import LidarCalibration, RangeImage
from rig3r_jax.data.sources.waymo_segment import (
    CAMERAS,
    CameraCalibration,
    CameraImage,
    Label,
    Segment,
    SegmentFrame,
    transform,
)
from rig3r_jax.formats.declared import check_unpacked

IMAGES = "camera_image"
_TIME, _CAMERA, _LASER = "key.frame_timestamp_micros", "key.camera_name", "key.laser_name"
_INTRINSIC = [f"intrinsic.{name}" for name in ("f_u", "f_v", "c_u", "c_v", "k1", "k2", "p1", "p2", "k3")]
_SHUTTER = "rolling_shutter_params"
_RETURN = "range_image_return1"
_COMPONENTS = (
    IMAGES,
    "camera_calibration",
    "vehicle_pose",
    "lidar",
    "lidar_pose",
    "lidar_calibration",
    "lidar_box",
)
_IMAGE_FIELDS = [
    "image",
    "pose.transform",
    "pose_timestamp",
    f"{_SHUTTER}.shutter",
    f"{_SHUTTER}.camera_trigger_time",
    f"{_SHUTTER}.camera_readout_done_time",
]
_LABEL_FIELDS = [
    *(f"box.{group}.{axis}" for group in ("center", "size") for axis in "xyz"),
    "box.heading",
    *(f"speed.{axis}" for axis in "xyz"),
]

_Row = Mapping[str, Any]


def segment_files(folder: Path) -> list[Path]:
    """The segments of a split, by their images."""
    return sorted((folder / IMAGES).glob("*.parquet"))


def frame_times(path: Path) -> list[int]:
    """Times of a segment's frames, us, of its file of images."""
    return sorted({row[_TIME] for row in _rows(path, [_TIME])})


def read_segment(path: Path, steps: range) -> Segment:
    """A piece of a segment, of its file of images; nothing of the LiDAR is read yet."""
    times = frame_times(path)[steps.start : steps.stop]
    files = {name: path.parent.parent / name / path.name for name in _COMPONENTS}
    images = _by_time(_component(files[IMAGES], "CameraImage", _IMAGE_FIELDS, [_CAMERA], times))
    poses = _by_time(_component(files["vehicle_pose"], "VehiclePose", ["world_from_vehicle.transform"], [], times))
    labels = None
    if files["lidar_box"].is_file():
        labels = _by_time(_component(files["lidar_box"], "LiDARBox", _LABEL_FIELDS, [], times))
    lidar = functools.cache(functools.partial(_read_lidar, files, tuple(times)))
    frames = []
    for time in times:
        with _reading(files["vehicle_pose"]):
            world_from_vehicle = poses[time][0]["world_from_vehicle.transform"]
        frames.append(
            SegmentFrame(
                images=[_image(files[IMAGES], row) for row in images.get(time, [])],
                world_from_vehicle=world_from_vehicle,
                range_images=functools.partial(_of_time, lidar, time),
                labels=None if labels is None else [_label(row) for row in labels.get(time, [])],
            )
        )
    return Segment(str(path), _cameras(files["camera_calibration"]), _lidars(files["lidar_calibration"]), frames)


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """What a file lacks is a BadRecord that names it."""
    import pyarrow as pa

    try:
        yield
    except OSError as error:
        raise BadRecord(f"{path}: cannot be read ({error}); restore the file") from error
    except (pa.ArrowException, KeyError, IndexError, TypeError, ValueError) as error:
        if isinstance(error, BadRecord):
            raise
        raise BadRecord(f"{path}: lacks what a component of Waymo holds ({error!r}); restore the file") from error


def _table(path: Path, columns: Sequence[str], times: Sequence[int] | None):
    import pyarrow.parquet as pq

    with _reading(path):
        file = pq.ParquetFile(path)
        groups = (file.metadata.row_group(number) for number in range(file.num_row_groups))
        check_unpacked(path, sum(group.total_byte_size for group in groups), path.stat().st_size)
        table = file.schema_arrow
        if missing := [name for name in columns if name not in table.names]:
            raise BadRecord(f"{path}: has no column {missing[0]}; restore the file")
        filters = None if times is None else [(_TIME, "in", list(times))]
        return pq.read_table(path, columns=list(columns), filters=filters)


def _rows(path: Path, columns: Sequence[str]) -> list[_Row]:
    return _table(path, columns, None).to_pylist()


def _component(
    path: Path, name: str, fields: Sequence[str], keys: Sequence[str], times: Sequence[int] | None
) -> list[_Row]:
    """Rows by their fields' names without the component's, of some frames or of the segment."""
    prefix = f"[{name}Component]."
    keys = [*keys, _TIME] if times is not None else list(keys)
    rows = _table(path, [*keys, *(prefix + field for field in fields)], times).to_pylist()
    return [{key.removeprefix(prefix): value for key, value in row.items()} for row in rows]


def _by_time(rows: Sequence[_Row]) -> dict[int, list[_Row]]:
    by_time: dict[int, list[_Row]] = {}
    for row in rows:
        by_time.setdefault(row[_TIME], []).append(row)
    return by_time


def _camera_name(key: int | str) -> str:
    return CAMERAS.get(key, str(key))


def _image(path: Path, row: _Row) -> CameraImage:
    with _reading(path):
        exposed = row[f"{_SHUTTER}.camera_readout_done_time"] - row[f"{_SHUTTER}.camera_trigger_time"]
        return CameraImage(
            camera=_camera_name(row[_CAMERA]),
            data=functools.partial(bytes, row["image"]),
            world_from_vehicle=row["pose.transform"],
            time=row["pose_timestamp"],
            readout=exposed - row[f"{_SHUTTER}.shutter"],
        )


def _label(row: _Row) -> Label:
    speed = [np.nan if row[f"speed.{axis}"] is None else row[f"speed.{axis}"] for axis in "xyz"]
    centre, size = (tuple(row[f"box.{group}.{axis}"] for axis in "xyz") for group in ("center", "size"))
    return Label(centre, size, row["box.heading"], float(np.linalg.norm(speed)))


def _cameras(path: Path) -> dict[str, CameraCalibration]:
    fields = [*_INTRINSIC, "extrinsic.transform", "width", "height", "rolling_shutter_direction"]
    rows = _component(path, "CameraCalibration", fields, [_CAMERA], None)
    return {
        _camera_name(row[_CAMERA]): CameraCalibration(
            [row[name] for name in _INTRINSIC],
            row["extrinsic.transform"],
            (row["height"], row["width"]),
            row["rolling_shutter_direction"],
        )
        for row in rows
    }


def _lidars(path: Path) -> dict[int, LidarCalibration]:
    """{} of a download without LiDAR."""
    if not path.is_file():
        return {}
    beams = "beam_inclination"
    fields = ["extrinsic.transform", f"{beams}.min", f"{beams}.max", f"{beams}.values"]
    return {
        row[_LASER]: LidarCalibration(
            transform(row["extrinsic.transform"], f"{path}: LiDAR {row[_LASER]}"),
            np.array(row[f"{beams}.values"] or (), np.float64),
            (row[f"{beams}.min"], row[f"{beams}.max"]),
        )
        for row in _component(path, "LiDARCalibration", fields, [_LASER], None)
    }


def _of_time(lidar, time: int) -> Sequence[RangeImage]:
    return lidar().get(time, [])


def _read_lidar(files: Mapping[str, Path], times: Sequence[int]) -> dict[int, list[RangeImage]]:
    """First returns by frame; {} of a download without LiDAR."""
    if not files["lidar"].is_file():
        return {}
    poses = {}
    if files["lidar_pose"].is_file():
        poses = dict(_range_images(files["lidar_pose"], "LiDARPose", times))
    images: dict[int, list[RangeImage]] = {}
    for (time, laser), values in _range_images(files["lidar"], "LiDAR", times):
        images.setdefault(time, []).append(RangeImage(laser, values, poses.get((time, laser))))
    return images


def _range_images(path: Path, name: str, times: Sequence[int]) -> Iterator[tuple[tuple[int, int], np.ndarray]]:
    """(frame, LiDAR) and its image, (h, w, c)."""
    values, shape = (f"[{name}Component].{_RETURN}.{field}" for field in ("values", "shape"))
    table = _table(path, [_TIME, _LASER, values, shape], times)
    with _reading(path):
        for row in range(len(table)):
            key = table[_TIME][row].as_py(), table[_LASER][row].as_py()
            numbers = table[values][row].values.to_numpy(zero_copy_only=False)
            yield key, numbers.reshape(table[shape][row].as_py())
