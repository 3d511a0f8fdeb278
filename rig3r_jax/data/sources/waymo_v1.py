"""Segments of the Waymo Open Dataset 1: a .tfrecord file each, a record a `Frame` message per turn of the top LiDAR.

Numbers of fields are those of waymo_open_dataset/dataset.proto and label.proto.
"""

import contextlib
import functools
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

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
from rig3r_jax.formats.protobuf_wire import Message
from rig3r_jax.formats.tfrecord import read_record, record_places

# Fields of Frame, Context, CameraCalibration and LaserCalibration, CameraImage, Laser, RangeImage, MatrixFloat, Label.
_CONTEXT, _FRAME_POSE, _IMAGES, _LASERS, _LABELS = 1, 3, 4, 5, 6
_CAMERA_CALIBRATIONS, _LASER_CALIBRATIONS = 2, 3
_NAME, _INTRINSIC, _EXTRINSIC, _WIDTH, _HEIGHT, _DIRECTION = 1, 2, 3, 4, 5, 6
_INCLINATIONS, _LOWEST, _HIGHEST, _LASER_EXTRINSIC = 2, 3, 4, 5
_IMAGE, _POSE, _POSE_TIME, _SHUTTER, _TRIGGERED, _READ_OUT = 2, 3, 5, 6, 7, 8
_RETURN, _VALUES, _POSES = 2, 2, 4
_DATA, _SHAPE, _DIMS = 1, 2, 1
_BOX, _METADATA = 1, 2
_CENTRE, _SIZE, _HEADING, _SPEED = (1, 2, 3), (5, 4, 6), 7, (1, 2, 5)  # length, width, height have numbers 5, 4, 6


def segment_files(folder: Path) -> list[Path]:
    """The segments of a split."""
    return sorted(folder.glob("*.tfrecord"))


def count_frames(path: Path) -> int:
    """Frames of a segment."""
    with _reading(path):
        return len(record_places(path))


def read_segment(path: Path, steps: range) -> Segment:
    """A piece of a segment; range images are kept packed."""
    with _reading(path):
        places = record_places(path)[steps.start : steps.stop]
        messages = [Message(read_record(path, place)) for place in places]
        context = messages[0].message(_CONTEXT)
        cameras = {
            CAMERAS.get(row.integer(_NAME), str(row.integer(_NAME))): _camera(row)
            for row in context.messages(_CAMERA_CALIBRATIONS)
        }
        lidars = {row.integer(_NAME): _lidar(row, path) for row in context.messages(_LASER_CALIBRATIONS)}
        labelled = any(message.has(_LABELS) for message in messages)
        return Segment(str(path), cameras, lidars, [_frame(message, path, labelled) for message in messages])


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    """What is not as it must be is a BadRecord that names the file."""
    try:
        yield
    except BadRecord:
        raise
    except OSError as error:
        raise BadRecord(f"{path}: cannot be read ({error.strerror}); restore the file") from error
    except (ValueError, IndexError, zlib.error) as error:
        named = "" if str(path) in str(error) else f"{path}: is no segment of Waymo: "
        raise BadRecord(f"{named}{error}") from error


def _camera(row: Message) -> CameraCalibration:
    return CameraCalibration(
        intrinsic=row.doubles(_INTRINSIC).tolist(),
        vehicle_from_camera=row.message(_EXTRINSIC).doubles(1).tolist(),
        size=(row.integer(_HEIGHT), row.integer(_WIDTH)),
        direction=row.integer(_DIRECTION),
    )


def _lidar(row: Message, path: Path) -> LidarCalibration:
    where = f"{path}: LiDAR {row.integer(_NAME)}"
    return LidarCalibration(
        transform(row.message(_LASER_EXTRINSIC).doubles(1).tolist(), where),
        row.doubles(_INCLINATIONS),
        (row.double(_LOWEST), row.double(_HIGHEST)),
    )


def _frame(message: Message, path: Path, labelled: bool) -> SegmentFrame:
    return SegmentFrame(
        images=[_image(row) for row in message.messages(_IMAGES)],
        world_from_vehicle=message.message(_FRAME_POSE).doubles(1).tolist(),
        range_images=functools.partial(_range_images, message.messages(_LASERS), path),
        labels=[_label(row) for row in message.messages(_LABELS)] if labelled else None,
    )


def _image(row: Message) -> CameraImage:
    exposed = row.double(_READ_OUT) - row.double(_TRIGGERED)
    return CameraImage(
        camera=CAMERAS.get(row.integer(_NAME), str(row.integer(_NAME))),
        data=functools.partial(row.bytes, _IMAGE),
        world_from_vehicle=row.message(_POSE).doubles(1).tolist(),
        time=row.double(_POSE_TIME),
        readout=exposed - row.double(_SHUTTER),
    )


def _label(row: Message) -> Label:
    box, metadata = row.message(_BOX), row.message(_METADATA)
    speed = np.linalg.norm([metadata.double(number) for number in _SPEED]) if row.has(_METADATA) else np.nan
    centre, size = (tuple(box.double(number) for number in numbers) for numbers in (_CENTRE, _SIZE))
    return Label(centre, size, box.double(_HEADING), float(speed))


def _range_images(lasers: Sequence[Message], path: Path) -> list[RangeImage]:
    with _reading(path):
        return [
            RangeImage(laser.integer(_NAME), values, _matrix(laser.message(_RETURN).bytes(_POSES)))
            for laser in lasers
            if (values := _matrix(laser.message(_RETURN).bytes(_VALUES))) is not None
        ]


def _matrix(packed: bytes) -> np.ndarray | None:
    """(h, w, c) of a packed MatrixFloat, or None where there is none."""
    if not packed:
        return None
    message = Message(zlib.decompress(packed))
    return message.floats(_DATA).reshape(message.message(_SHAPE).integers(_DIMS))
