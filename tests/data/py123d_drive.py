"""A writer of py123d's Arrow logs, for a drive that is made up."""

import cv2
import msgpack
import numpy as np
import pyarrow as pa
from scipy.spatial.transform import Rotation

from tests.data.kitti_drives import CENTRE, FISHEYE_SIZE, GAMMA, MEI, project_mei
from tests.data.made_drive import INTRINSICS, SIZE, Taken, image_jpeg, opencv_pixels, vehicle_from_camera
from tests.data.made_drive import world_from_vehicle as world_from_imu
from tests.data.nuscenes_drive import lidar_points, world_from_box

START_US = 1_532_402_927_600_000
STEP_US, SWEEP_US = 100_000, 50_000  # from step to step; from a sweep's beginning to the pose that it is stored for
BROWN = [-0.12, 0.03, 1e-3, -5e-4, 0.01]  # k1 k2 p1 p2 k3, as OpenCV's
# Degrees to the left, and microseconds after the step.
CAMERAS = {"pcam_f0": (0.0, 30_000), "pcam_l0": (55.0, 40_000), "fmcam_r": (-90.0, 10_000)}


def brown_pixels(points):
    return opencv_pixels(points, distortion=np.array(BROWN))


def numbers_of(pose):
    """x y z qw qx qy qz."""
    x, y, z, w = Rotation.from_matrix(pose[:3, :3]).as_quat()
    return [*pose[:3, 3].tolist(), w, x, y, z]


def camera_metadata(name):
    fields = {"camera_name": name.upper(), "camera_id": 0}
    fields["camera_to_imu_se3"] = numbers_of(vehicle_from_camera(CAMERAS[name][0]))
    if name == "fmcam_r":
        fields |= {"camera_model": "fisheye_mei", "height": FISHEYE_SIZE[0], "width": FISHEYE_SIZE[1]}
        fields |= {"mirror_parameter": MEI["xi"], "distortion": [MEI[key] for key in ("k1", "k2", "p1", "p2")]}
        return fields | {"projection": [*GAMMA, *CENTRE]}
    fx, fy, cx, cy = (float(INTRINSICS[index]) for index in ((0, 0), (1, 1), (0, 2), (1, 2)))
    fields |= {"camera_model": "pinhole", "height": SIZE[0], "width": SIZE[1], "intrinsics": [fx, fy, cx, cy, 0.0]}
    return fields | {"distortion": BROWN, "is_undistorted": name == "pcam_l0"}  # of the files before that


def write_table(folder, key, columns, metadata, rows_per_batch=2):
    """{field: (type, values)}; cells lie in batches, as the library writes them."""
    names = [f"{key}.{name}" if key != "sync" else name for name in columns]
    schema = pa.schema([(name, kind) for name, (kind, _) in zip(names, columns.values(), strict=True)])
    schema = schema.with_metadata({b"metadata": msgpack.packb(metadata, use_bin_type=True)})
    count = len(next(iter(columns.values()))[1])
    with pa.OSFile(str(folder / f"{key}.arrow"), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for start in range(0, count, rows_per_batch):
            arrays = [values[start : start + rows_per_batch] for _, values in columns.values()]
            writer.write_batch(pa.record_batch(dict(zip(names, arrays, strict=True)), schema=schema))


def packed_points(points):
    sink = pa.BufferOutputStream()
    batch = pa.RecordBatch.from_pydict({axis: points[:, i].astype(np.float32) for i, axis in enumerate("xyz")})
    with pa.ipc.new_stream(sink, batch.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


def _write_camera(folder, root, name, count, codec):
    """All images of a camera, and one before the first step, which belongs to none."""
    yaw, delay = CAMERAS[name]
    stamps = [START_US - STEP_US + delay] + [START_US + step * STEP_US + delay for step in range(count)]
    size = FISHEYE_SIZE if name == "fmcam_r" else SIZE
    taken, cells = [], []
    for number, stamp in enumerate(stamps):
        pose = world_from_imu((stamp - START_US) / 1e6) @ vehicle_from_camera(yaw)
        if name == "fmcam_r":
            taken.append(Taken(pose, stamp / 1e6, project_mei, size=size, wide=True))
        else:
            taken.append(Taken(pose, stamp / 1e6, brown_pixels if name == "pcam_f0" else opencv_pixels, widest=1.0))
        cells.append(image_jpeg(10 * number, size))
    kinds = {"binary": pa.binary(), "path": pa.string(), "mp4": pa.int32()}
    if codec == "path":
        (root / "sensors" / name).mkdir(parents=True)
        for number, cell in enumerate(cells):
            (root / "sensors" / name / f"{number}.jpg").write_bytes(cell)
        cells = [f"{name}/{number}.jpg" for number in range(len(cells))]
    elif codec == "mp4":
        video = cv2.VideoWriter(str(folder / f"camera.{name}.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 30, size[::-1])
        for number in range(len(cells)):
            video.write(np.full((*size, 3), 10 * number, np.uint8))
        video.release()
        cells = list(range(len(cells)))
    poses = [None if name == "pcam_l0" else numbers_of(image.world_from_camera) for image in taken]  # left to the ego's
    columns = {
        "timestamp_us": (pa.int64(), stamps),
        "data": (kinds[codec], cells),
        "camera_to_global_se3": (pa.list_(pa.float64(), 7), poses),
        "exposure_factor": (pa.float32(), [None] * len(cells)),
    }
    write_table(folder, f"camera.{name}", columns, camera_metadata(name))
    return taken[1:]


def _write_boxes(folder, count, velocities):
    """A car that drives by its places, one whose speed nothing tells but a velocity, and a parked one."""
    rows = []
    for step in range(count):
        parked = np.eye(4)
        parked[:3, 3] = lidar_points(0)[0][0]
        rows.append([[*numbers_of(pose), 4.4, 1.8, 1.6] for pose in (world_from_box(0.1 * step + 0.05), parked)])
    vector = pa.list_(pa.list_(pa.float64(), 3))
    columns = {
        "timestamp_us": (pa.int64(), [START_US + step * STEP_US + SWEEP_US for step in range(count)]),
        "bounding_box_se3": (pa.list_(pa.list_(pa.float64(), 10)), rows),
        "track_token": (pa.list_(pa.string()), [["car", "parked"]] * count),
        "label": (pa.list_(pa.uint16()), [[1, 1]] * count),
        "velocity_3d": (vector, [velocities] * count),
        "num_lidar_points": (pa.list_(pa.int32()), [[None, None]] * count),
    }
    write_table(folder, "box_detections_se3", columns, {"box_detection_label_class": "DefaultBoxDetectionLabel"})


def write_log(
    root, split="nuscenes_train", name="scene-0061", count=3, codec="binary", lidar="binary", velocities=(None, None)
):
    """Writes a log below root/logs; returns {(camera, step): Taken}."""
    folder = root / "logs" / split / name
    folder.mkdir(parents=True)
    taken = {}
    for camera in CAMERAS:
        for step, image in enumerate(_write_camera(folder, root, camera, count, codec)):
            taken[camera, step] = image
    ego = range(START_US - STEP_US, START_US + count * STEP_US, 10_000)  # 100 Hz
    poses = [numbers_of(world_from_imu((stamp - START_US) / 1e6)) for stamp in ego]
    columns = {"timestamp_us": (pa.int64(), list(ego)), "imu_se3": (pa.list_(pa.float64(), 7), poses)}
    write_table(folder, "ego_state_se3", columns, {"vehicle_name": "van"}, rows_per_batch=1000)
    clouds = []
    for step in range(count):
        points, *_ = lidar_points(0.1 * step + SWEEP_US / 1e6)
        imu_from_world = np.linalg.inv(world_from_imu(0.1 * step + SWEEP_US / 1e6))
        clouds.append(packed_points(points @ imu_from_world[:3, :3].T + imu_from_world[:3, 3]))
    stamps = [START_US + step * STEP_US for step in range(count)]
    columns = {
        "timestamp_us": (pa.int64(), stamps),
        "end_timestamp_us": (pa.int64(), [stamp + STEP_US for stamp in stamps]),
        "data": (pa.binary(), clouds) if lidar == "binary" else (pa.string(), ["sweep.bin"] * count),
    }
    write_table(folder, "lidar.lidar_merged", columns, {"2": {"lidar_id": 2}})
    _write_boxes(folder, count, list(velocities))
    rows = list(range(count))
    columns = {
        "sync.uuid": (pa.binary(), [bytes(16)] * count),
        "sync.timestamp_us": (pa.int64(), stamps),
        **{f"camera.{camera}": (pa.int64(), [row + 1 for row in rows]) for camera in CAMERAS},
        "ego_state_se3": (pa.int64(), [10 + 10 * row + SWEEP_US // 10_000 for row in rows]),
        "lidar.lidar_merged": (pa.int64(), rows),
        "box_detections_se3": (pa.int64(), rows),
    }
    write_table(folder, "sync", columns, {"dataset": split.rpartition("_")[0], "split": split, "log_name": name})
    return taken
