"""Writers of both formats of the Waymo Open Dataset, of one drive that is made up.

Messages are made by Google's protobuf from definitions with the field numbers of dataset.proto, tables by pyarrow.
"""

import functools
import struct
import zlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from scipy.spatial.transform import Rotation

from tests.data.made_drive import SIZE, Taken, image_jpeg, matrix, opencv_pixels, world_from_vehicle

NAME = "1024360143612057520_3580_000_3600_000"
START_US = 1_553_735_853_462_203
SIDE_SIZE = (160, 320)
CAMERAS = {1: ("FRONT", 0.0, SIZE), 2: ("FRONT_LEFT", 45.0, SIZE), 5: ("SIDE_RIGHT", -90.0, SIDE_SIZE)}
DELAYS = {1: 0.052, 2: 0.042, 5: 0.072}  # seconds behind the frame's start, of the middle column
DIRECTIONS = {1: 2, 2: 4, 5: 1}  # left to right, right to left, top to bottom
SHUTTER, TRIGGERED, READ_OUT = 0.004, -0.026, 0.024  # seconds; the last two around the middle
INTRINSIC = [300.0, 305.0, 159.0, 121.75, 0.03, -0.33, 0.001, -0.0015, 0.0]  # the border of the first pixel at 0
LASERS = {1: ((8, 180), [1.43, 0.0, 2.18], 2.6), 2: ((6, 60), [4.0, 0.0, 0.7], 0.1)}  # TOP, FRONT: shape, place, turned
INCLINATIONS = [-0.28, -0.2, -0.14, -0.1, -0.06, -0.02, 0.01, 0.035]  # of TOP, from below
RANGE = (-0.5, 0.5)  # of FRONT
CAR, CAR_SPEED = ((20.0, 1.0, 0.3), (4.4, 1.8, 1.6), 0.4), (3.0, -1.0, 0.0)  # centre, size, heading; m/s


def waymo_camera(yaw_degrees):
    """vehicle_from_camera, whose axes are forward, left, up."""
    return matrix(Rotation.from_euler("ZYX", [yaw_degrees, 1.5, -0.4], degrees=True).as_matrix(), [1.5, 0.02, 2.1])


def project(points_right_down_forward):
    fu, fv, cu, cv, *distortion = INTRINSIC
    intrinsics = np.array([[fu, 0, cu], [0, fv, cv], [0, 0, 1]])
    return opencv_pixels(points_right_down_forward, intrinsics, np.array(distortion))


def vehicle_from_laser(laser):
    _, place, turned = LASERS[laser]
    return matrix(Rotation.from_euler("ZY", [turned, 0.01]).as_matrix(), place)


def range_image(laser, frame):
    """Ranges (h, w), poses (h, w, 6) or None, and points of the world with whether they are on the car."""
    (height, width), _, turned = LASERS[laser]
    rng = np.random.default_rng(10 * laser + frame)
    ranges, poses = np.zeros((height, width)), np.zeros((height, width, 6))
    points, start = [], 0.1 * frame
    from_bottom = INCLINATIONS if laser == 1 else [RANGE[0] + (i + 0.5) * (RANGE[1] - RANGE[0]) / 6 for i in range(6)]
    heading = np.arctan2(*vehicle_from_laser(laser)[[1, 0], 0])
    for row in range(height):
        for column in range(rng.integers(3), width, 3):
            ranges[row, column] = np.float32(rng.uniform(14, 20))
            left = np.pi - 2 * np.pi * (column + 0.5) / width - heading
            towards = Rotation.from_euler("ZY", [left, -from_bottom[height - 1 - row]]).apply([1.0, 0, 0])
            there = vehicle_from_laser(laser) @ [*(ranges[row, column] * towards), 1]
            vehicle = world_from_vehicle(start + (0.1 * column / width if laser == 1 else 0.05))
            yaw, pitch, roll = Rotation.from_matrix(vehicle[:3, :3]).as_euler("ZYX")
            poses[row, column] = [roll, pitch, yaw, *vehicle[:3, 3]]
            points.append((vehicle @ there)[:3])
    return ranges, poses if laser == 1 else None, np.array(points)


def lidar_points(frame):
    """Points of the world and which of them are on the car."""
    points = np.concatenate([range_image(laser, frame)[2] for laser in LASERS])
    centre, size, heading = CAR
    box = world_from_vehicle(0.1 * frame + 0.05) @ matrix(Rotation.from_euler("z", heading).as_matrix(), centre)
    points_box = (points - box[:3, 3]) @ box[:3, :3]
    return points, (np.abs(points_box) <= np.array(size) / 2 + 0.1).all(axis=1)


def images(frames):
    """{(camera, step): Taken}."""
    axes = matrix(np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]]), [0, 0, 0])
    return {
        (name, frame): Taken(
            world_from_vehicle(0.1 * frame + DELAYS[number]) @ waymo_camera(yaw) @ axes,
            START_US / 1e6 + 0.1 * frame + DELAYS[number],
            project,
            centre=0.5,
            size=size,
            widest=0.85,
        )
        for number, (name, yaw, size) in CAMERAS.items()
        for frame in range(frames)
    }


def write_v2(folder, frames=3, lidar=True, labels=True, stamps=()):
    """The components of one segment; `stamps` are its frames' times, us."""
    stamps = list(stamps) or [START_US + 100_000 * frame for frame in range(frames)]

    def write(component, rows):
        path = folder / component / f"{NAME}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = [{"key.segment_context_name": NAME, **row} for row in rows]
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=2)

    prefix = "[CameraImageComponent]."
    image_rows = [
        {
            "key.frame_timestamp_micros": stamp,
            "key.camera_name": number,
            prefix + "image": image_jpeg(10 * frame + number, size),
            prefix + "pose.transform": world_from_vehicle(0.1 * frame + DELAYS[number]).ravel().tolist(),
            prefix + "pose_timestamp": START_US / 1e6 + 0.1 * frame + DELAYS[number],
            prefix + "rolling_shutter_params.shutter": SHUTTER,
            prefix + "rolling_shutter_params.camera_trigger_time": TRIGGERED,
            prefix + "rolling_shutter_params.camera_readout_done_time": READ_OUT,
        }
        for number, (_, _, size) in CAMERAS.items()
        for frame, stamp in reversed(list(enumerate(stamps)))
    ]
    write("camera_image", image_rows)
    prefix = "[CameraCalibrationComponent]."
    names = ("f_u", "f_v", "c_u", "c_v", "k1", "k2", "p1", "p2", "k3")
    calibration_rows = [
        {
            "key.camera_name": number,
            **{f"{prefix}intrinsic.{key}": value for key, value in zip(names, INTRINSIC, strict=True)},
            prefix + "extrinsic.transform": waymo_camera(yaw).ravel().tolist(),
            prefix + "width": size[1],
            prefix + "height": size[0],
            prefix + "rolling_shutter_direction": DIRECTIONS[number],
        }
        for number, (_, yaw, size) in CAMERAS.items()
    ]
    write("camera_calibration", calibration_rows)
    prefix = "[VehiclePoseComponent].world_from_vehicle.transform"
    write(
        "vehicle_pose",
        [
            {"key.frame_timestamp_micros": stamp, prefix: world_from_vehicle(0.1 * i + 0.05).ravel().tolist()}
            for i, stamp in enumerate(stamps)
        ],
    )
    if lidar:
        _write_v2_lidar(write, stamps)
    if labels:
        _write_v2_labels(write, stamps)
    return images(frames)


def _write_v2_lidar(write, stamps):
    rows, poses = [], []
    for frame, stamp in enumerate(stamps):
        for laser in LASERS:
            ranges, pose, _ = range_image(laser, frame)
            key = {"key.frame_timestamp_micros": stamp, "key.laser_name": laser}
            values = np.stack([ranges, ranges * 0 + 0.5, ranges * 0, ranges * 0 - 1], axis=-1)
            prefix = "[LiDARComponent].range_image_return1."
            rows.append(key | {prefix + "values": _float32(values), prefix + "shape": list(values.shape)})
            if pose is not None:
                prefix = "[LiDARPoseComponent].range_image_return1."
                poses.append(key | {prefix + "values": _float32(pose), prefix + "shape": list(pose.shape)})
    write("lidar", rows)
    write("lidar_pose", poses)
    prefix = "[LiDARCalibrationComponent]."
    calibration_rows = [
        {
            "key.laser_name": laser,
            prefix + "extrinsic.transform": vehicle_from_laser(laser).ravel().tolist(),
            prefix + "beam_inclination.min": RANGE[0],
            prefix + "beam_inclination.max": RANGE[1],
            prefix + "beam_inclination.values": INCLINATIONS if laser == 1 else None,
        }
        for laser in LASERS
    ]
    write("lidar_calibration", calibration_rows)


def _float32(values):
    return values.astype(np.float32).ravel().tolist()


def _labels():
    """(id, centre, size, heading, speed) of a car that drives, and of a wall of a house that stands."""
    centre, size, heading = CAR
    return [("car", centre, size, heading, CAR_SPEED), ("wall", (-20.0, 0, 0), (30.0, 30.0, 10.0), 0.0, (0.1, 0, 0))]


def _write_v2_labels(write, stamps):
    prefix = "[LiDARBoxComponent]."
    rows = []
    for stamp in stamps:
        for name, centre, size, heading, speed in _labels():
            row = {"key.frame_timestamp_micros": stamp, "key.laser_object_id": name, prefix + "box.heading": heading}
            for group, numbers in (("box.center", centre), ("box.size", size), ("speed", speed)):
                row |= {f"{prefix}{group}.{axis}": float(number) for axis, number in zip("xyz", numbers, strict=True)}
            rows.append(row)
    write("lidar_box", rows)


@functools.cache
def messages():
    """Classes of messages by name: (field, number, type, repeated), after dataset.proto and label.proto."""
    double, single, integer, blob = "DOUBLE", "FLOAT", "INT64", "BYTES"
    definitions = {
        "Transform": [("transform", 1, double, True)],
        "CameraCalibration": [
            ("name", 1, integer, False),
            ("intrinsic", 2, double, True),
            ("extrinsic", 3, "Transform", False),
            ("width", 4, integer, False),
            ("height", 5, integer, False),
            ("rolling_shutter_direction", 6, integer, False),
        ],
        "LaserCalibration": [
            ("name", 1, integer, False),
            ("beam_inclinations", 2, double, True),
            ("beam_inclination_min", 3, double, False),
            ("beam_inclination_max", 4, double, False),
            ("extrinsic", 5, "Transform", False),
        ],
        "Context": [
            ("name", 1, blob, False),
            ("camera_calibrations", 2, "CameraCalibration", True),
            ("laser_calibrations", 3, "LaserCalibration", True),
        ],
        "CameraImage": [
            ("name", 1, integer, False),
            ("image", 2, blob, False),
            ("pose", 3, "Transform", False),
            ("pose_timestamp", 5, double, False),
            ("shutter", 6, double, False),
            ("camera_trigger_time", 7, double, False),
            ("camera_readout_done_time", 8, double, False),
        ],
        "MatrixShape": [("dims", 1, integer, True)],
        "MatrixFloat": [("data", 1, single, True), ("shape", 2, "MatrixShape", False)],
        "RangeImage": [
            ("range_image_compressed", 2, blob, False),
            ("range_image_pose_compressed", 4, blob, False),
        ],
        "Laser": [("name", 1, integer, False), ("ri_return1", 2, "RangeImage", False)],
        "Box": [
            ("center_x", 1, double, False),
            ("center_y", 2, double, False),
            ("center_z", 3, double, False),
            ("width", 4, double, False),
            ("length", 5, double, False),
            ("height", 6, double, False),
            ("heading", 7, double, False),
        ],
        "Metadata": [("speed_x", 1, double, False), ("speed_y", 2, double, False), ("speed_z", 5, double, False)],
        "Label": [("box", 1, "Box", False), ("metadata", 2, "Metadata", False), ("id", 4, blob, False)],
        "Frame": [
            ("context", 1, "Context", False),
            ("timestamp_micros", 2, integer, False),
            ("pose", 3, "Transform", False),
            ("images", 4, "CameraImage", True),
            ("lasers", 5, "Laser", True),
            ("laser_labels", 6, "Label", True),
        ],
    }
    file = descriptor_pb2.FileDescriptorProto(name="made.proto", package="made", syntax="proto2")
    kinds = descriptor_pb2.FieldDescriptorProto
    for name, fields in definitions.items():
        message = file.message_type.add(name=name)
        for field, number, kind, repeated in fields:
            label = kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL
            row = message.field.add(name=field, number=number, label=label)
            if kind in definitions:
                row.type, row.type_name = kinds.TYPE_MESSAGE, f".made.{kind}"
            else:
                row.type = getattr(kinds, f"TYPE_{kind}")
            if name == "MatrixFloat" and field == "data":
                row.options.packed = True
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"made.{name}")) for name in definitions}


def write_v1(folder, frames=3, lidar=True, labels=True):
    """The same segment in one file."""
    folder.mkdir(parents=True, exist_ok=True)
    records = b""
    for frame in range(frames):
        data = _frame(frame, lidar, labels).SerializeToString()
        records += struct.pack("<QI", len(data), 0) + data + struct.pack("<I", 0)
    (folder / f"segment-{NAME}_with_camera_labels.tfrecord").write_bytes(records)
    return images(frames)


def _frame(frame, lidar, labels):
    message = messages()["Frame"](timestamp_micros=START_US + 100_000 * frame)
    message.context.name = NAME.encode()
    message.pose.transform.extend(world_from_vehicle(0.1 * frame + 0.05).ravel())
    for number, (_, yaw, size) in CAMERAS.items():
        calibration = message.context.camera_calibrations.add(name=number, width=size[1], height=size[0])
        calibration.intrinsic.extend(INTRINSIC)
        calibration.extrinsic.transform.extend(waymo_camera(yaw).ravel())
        calibration.rolling_shutter_direction = DIRECTIONS[number]
        image = message.images.add(name=number, image=image_jpeg(10 * frame + number, size), shutter=SHUTTER)
        image.pose.transform.extend(world_from_vehicle(0.1 * frame + DELAYS[number]).ravel())
        image.pose_timestamp = START_US / 1e6 + 0.1 * frame + DELAYS[number]
        image.camera_trigger_time, image.camera_readout_done_time = TRIGGERED, READ_OUT
    for laser in LASERS if lidar else ():
        calibration = message.context.laser_calibrations.add(name=laser)
        calibration.beam_inclination_min, calibration.beam_inclination_max = RANGE
        calibration.beam_inclinations.extend(INCLINATIONS if laser == 1 else [])
        calibration.extrinsic.transform.extend(vehicle_from_laser(laser).ravel())
        ranges, poses, _ = range_image(laser, frame)
        row = message.lasers.add(name=laser)
        values = np.stack([ranges, ranges * 0 + 0.5, ranges * 0, ranges * 0 - 1], axis=-1)
        row.ri_return1.range_image_compressed = _packed(values)
        if poses is not None:
            row.ri_return1.range_image_pose_compressed = _packed(poses)
    for name, centre, size, heading, speed in _labels() if labels else ():
        label = message.laser_labels.add(id=name.encode())
        label.box.center_x, label.box.center_y, label.box.center_z = centre
        label.box.length, label.box.width, label.box.height = size
        label.box.heading = heading
        label.metadata.speed_x, label.metadata.speed_y, label.metadata.speed_z = speed
    return message


def _packed(values):
    message = messages()["MatrixFloat"](data=values.astype(np.float32).ravel())
    message.shape.dims.extend(values.shape)
    return zlib.compress(message.SerializeToString())
