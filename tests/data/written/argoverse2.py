"""A log in the layout of Argoverse 2's sensor data set."""

import math

import numpy as np
import pyarrow
from pyarrow import feather

from tests.data.written.scenery import (
    FORWARD_LEFT_UP,
    Taken,
    Written,
    pinhole_pixels,
    points_before,
    quat_wxyz,
    turned,
    write_image,
)

START = 315969904359876000  # ns, as the logs count
# name: yaw on the vehicle, place, fx, cx, cy, height, width, images each n ms, first after n ms
CAMERAS = {
    "ring_front_center": (0.0, (1.6, 0.0, 1.4), 60.0, 23.5, 31.5, 64, 48, 50, 0),
    "ring_side_left": (1.7, (1.3, 0.4, 1.3), 55.0, 30.0, 24.0, 48, 64, 50, 13),
    "stereo_front_left": (0.02, (1.5, 0.2, 1.2), 90.0, 31.0, 23.0, 48, 64, 200, 3),
}
UP = (0.0, 0.0, 1.0)
IMAGES = 8  # of the front camera
SWEEPS = range(0, 401, 100)  # ms
PARKED, DRIVING = np.array([6019.0, 3008.0, 21.0]), np.array([6014.0, 3001.5, 21.0])  # boxes in the city at the start


def ego_at(ms):
    """Position and yaw in the city: even speed and an even turn."""
    seconds = ms / 1000
    return np.array([6000 + 10 * seconds, 3000 + 2 * seconds, 20.0]), 0.3 + 0.2 * seconds


def driving_at(ms):
    return DRIVING + np.array([8.0, 0, 0]) * ms / 1000


def _table(path, columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    feather.write_feather(pyarrow.table(columns), str(path), compression="zstd")


def _pose_columns(poses):
    """Columns of pairs (rotation, place)."""
    rows = [(*quat_wxyz(rotation), *place) for rotation, place in poses]
    names = ("qw", "qx", "qy", "qz", "tx_m", "ty_m", "tz_m")
    return {name: [float(row[i]) for row in rows] for i, name in enumerate(names)}


def write_log(folder, taken, annotated=True):
    for name, (yaw, place, *_) in CAMERAS.items():
        assert -math.pi < yaw < math.pi and len(place) == 3, name
    _table(
        folder / "calibration/egovehicle_SE3_sensor.feather",
        {
            "sensor_name": [*CAMERAS, "stereo_front_right", "up_lidar"],
            **_pose_columns(
                [(turned(UP, yaw) @ FORWARD_LEFT_UP.T, place) for yaw, place, *_ in CAMERAS.values()]
                + [(np.eye(3), (0.0, 0, 1))] * 2
            ),
        },
    )
    _table(
        folder / "calibration/intrinsics.feather",  # without stereo_front_right, as in some logs
        {
            "sensor_name": list(CAMERAS),
            "fx_px": [row[2] for row in CAMERAS.values()],
            "fy_px": [row[2] + 1 for row in CAMERAS.values()],
            "cx_px": [row[3] for row in CAMERAS.values()],
            "cy_px": [row[4] for row in CAMERAS.values()],
            **{
                name: [-0.25] * len(CAMERAS) for name in ("k1", "k2", "k3")
            },  # of the images before they were undistorted
            "height_px": [row[5] for row in CAMERAS.values()],
            "width_px": [row[6] for row in CAMERAS.values()],
        },
    )
    stated = list(range(-100, 600, 40))  # ms; most images lie between two of them
    stated = sorted({*stated, *SWEEPS})
    _table(
        folder / "city_SE3_egovehicle.feather",
        {
            "timestamp_ns": [START + ms * 1_000_000 for ms in stated],
            **_pose_columns([(turned(UP, ego_at(ms)[1]), ego_at(ms)[0]) for ms in stated]),
        },
    )
    boxes = []
    for ms in SWEEPS:
        position, yaw = ego_at(ms)
        to_ego = turned(UP, -yaw)
        parked, driving = to_ego @ (PARKED - position), to_ego @ (driving_at(ms) - position)
        boxes += [(ms, "parked", parked, -yaw), (ms, "driving", driving, -yaw)]
        points = np.array([parked + (0.5, 0, 0), driving + (-0.5, 0, 0), (17.0, 0.5, 1.5), (16.0, -1.0, 0.8)])
        columns = {axis: points[:, i].astype(np.float16) for i, axis in enumerate("xyz")}
        _table(folder / f"sensors/lidar/{START + ms * 1_000_000}.feather", {**columns, "intensity": [1] * 4})
    if annotated:
        _table(
            folder / "annotations.feather",
            {
                "timestamp_ns": [START + ms * 1_000_000 for ms, *_ in boxes],
                "track_uuid": [track for _, track, *_ in boxes],
                "category": ["REGULAR_VEHICLE"] * len(boxes),
                "length_m": [4.0] * len(boxes),
                "width_m": [2.0] * len(boxes),
                "height_m": [1.6] * len(boxes),
                **_pose_columns([(turned(UP, yaw), centre) for _, _, centre, yaw in boxes]),
            },
        )
    for name, (yaw, place, fx, cx, cy, height, width, every, first) in CAMERAS.items():
        for ms in range(first, IMAGES * 50, every):
            time = START + ms * 1_000_000
            position, heading = ego_at(ms)
            axes = turned(UP, heading) @ turned(UP, yaw) @ FORWARD_LEFT_UP.T
            centre = position + turned(UP, heading) @ np.array(place)
            points = points_before(centre, axes)
            pixels = pinhole_pixels(points, centre, axes, fx, fx + 1, cx + 0.5, cy + 0.5)
            write_image(folder / f"sensors/cameras/{name}/{time}.jpg", (height, width), ms)
            taken.append(Taken(name, time / 1e9, centre, axes, points, pixels))


def write_argoverse2(root):
    """One log for training and one, without boxes, for testing."""
    taken = []
    write_log(root / "train/00a6ffc1-6ce9-3bc3-a060-6006e9893a1a", taken)
    write_log(root / "test/0c6e62d7-bdfa-3061-8d3d-03b13aa21f68", [], annotated=False)
    return Written(root, taken, "ring_front_center")
