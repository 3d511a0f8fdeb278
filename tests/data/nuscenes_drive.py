"""A writer of nuScenes' tables, for a drive that is made up."""

import json

import numpy as np
from scipy.spatial.transform import Rotation

from tests.data.made_drive import (
    INTRINSICS,
    SIZE,
    Taken,
    image_jpeg,
    matrix,
    static_points,
    vehicle_from_camera,
    world_from_vehicle,
)

CAMERAS = {"CAM_FRONT": 0.0, "CAM_FRONT_LEFT": 55.0, "CAM_BACK": 180.0}  # degrees to the left
DELAYS_US = {"CAM_FRONT": -35_000, "CAM_FRONT_LEFT": -43_000, "CAM_BACK": -10_000, "LIDAR_TOP": 0, "RADAR_FRONT": 9_000}
START_US = 1_532_402_927_647_951
EGO_FROM_LIDAR = matrix(Rotation.from_euler("z", -90, degrees=True).as_matrix(), [0.94, 0.0, 1.84])
BOX_CENTRE, BOX_SPEED, BOX_YAW = np.array([25.0, 3.0, 0.5]), 4.0, 0.3  # of a car: metres from the first vehicle, m/s


def placed(pose):
    """Translation, and rotation w x y z."""
    x, y, z, w = Rotation.from_matrix(pose[:3, :3]).as_quat()
    return {"translation": pose[:3, 3].tolist(), "rotation": [w, x, y, z]}


def world_from_box(time):
    middle = world_from_vehicle(0.0) @ matrix(Rotation.from_euler("z", BOX_YAW).as_matrix(), BOX_CENTRE)
    middle[:3, 3] += BOX_SPEED * time * middle[:3, 0]
    return middle


def lidar_points(time):
    """What stands, and points on the car and on a parked one, and which are on the first."""
    car = np.array([[-1.9, 0.7, 0.2], [0.0, -0.8, -0.5], [1.9, 0.0, 0.6], [2.6, 0.7, -0.6]])  # the last is before it
    on_car = car @ world_from_box(time)[:3, :3].T + world_from_box(time)[:3, 3]
    points = np.concatenate([static_points(), on_car])
    return points, np.arange(len(points)) >= len(points) - 4, len(points) - 1


def write_nuscenes(
    root, version="v1.0-mini", scenes=("scene-0061", "scene-0103"), keys=3, between=0, labels=True, vehicles=("n015",)
):
    """Writes the scenes, taken by these vehicles in turn; returns {(scene, camera, number of the image): Taken};
    `between` images lie between keyframes that are 0.5 s apart."""
    tables = {name: [] for name in ("scene", "sample", "sample_data", "ego_pose", "sample_annotation", "instance")}
    tables["sensor"] = [
        {"token": f"sensor-{name}", "channel": name, "modality": name.split("_")[0].replace("CAM", "camera").lower()}
        for name in DELAYS_US
    ]
    tables["calibrated_sensor"] = [
        {"token": f"calibrated-{name}", "sensor_token": f"sensor-{name}", "camera_intrinsic": [], **placed(np.eye(4))}
        for name in DELAYS_US
    ]
    for row in tables["calibrated_sensor"]:
        name = row["token"].removeprefix("calibrated-")
        if name in CAMERAS:
            row.update(placed(vehicle_from_camera(CAMERAS[name])), camera_intrinsic=INTRINSICS.tolist())
        elif name == "LIDAR_TOP":
            row.update(placed(EGO_FROM_LIDAR))
    tables["attribute"] = [{"token": "moves", "name": "vehicle.moving"}, {"token": "stands", "name": "vehicle.parked"}]
    tables["log"] = [{"token": f"log-{vehicle}", "vehicle": vehicle} for vehicle in vehicles]
    taken = {}
    for number, scene in enumerate(scenes):
        row = {"token": f"token-{scene}", "name": scene, "nbr_samples": keys}
        tables["scene"].append(row | {"log_token": f"log-{vehicles[number % len(vehicles)]}"})
        for key in reversed(range(keys)):  # tables are in no order
            time = 0.5 * key
            stamp = START_US + round(1e6 * time)
            sample = f"{scene}-{key}"
            tables["sample"].append({"token": sample, "timestamp": stamp, "scene_token": f"token-{scene}"})
            if labels:
                for thing, pose in (("car", world_from_box(time)), ("parked", matrix(np.eye(3), static_points()[0]))):
                    row = {"token": f"{sample}-{thing}", "sample_token": sample, "instance_token": f"{scene}-{thing}"}
                    row |= {"size": [1.8, 4.4, 1.6], "attribute_tokens": [], **placed(pose)}  # width, length, height
                    tables["sample_annotation"].append(row)
            for sub in range(between + 1 if key < keys - 1 else 1):
                for channel, delay in DELAYS_US.items():
                    at = stamp + round(5e5 * sub / (between + 1)) + delay
                    number = key * (between + 1) + sub
                    _write_datum(root, tables, taken, scene, sample, channel, at, sub == 0, number)
    folder = root / version
    folder.mkdir(parents=True)
    for name, rows in tables.items():
        (folder / f"{name}.json").write_text(json.dumps(rows, indent=0))
    return taken


def _write_datum(root, tables, taken, scene, sample, channel, stamp, is_key, number):
    token, time = f"{sample}-{channel}-{stamp}", (stamp - START_US) / 1e6
    ending = {"CAM": "jpg", "LID": "pcd.bin", "RAD": "pcd"}[channel[:3]]
    file = f"{'samples' if is_key else 'sweeps'}/{channel}/{scene}__{channel}__{stamp}.{ending}"
    row = {"token": token, "sample_token": sample, "ego_pose_token": f"ego-{token}", "timestamp": stamp}
    row |= {"calibrated_sensor_token": f"calibrated-{channel}", "is_key_frame": is_key, "filename": file}
    row |= {"height": SIZE[0], "width": SIZE[1]} if ending == "jpg" else {"height": 0, "width": 0}
    tables["sample_data"].append(row)
    pose = world_from_vehicle(time)
    tables["ego_pose"].append({"token": f"ego-{token}", "timestamp": stamp, **placed(pose)})
    path = root / file
    path.parent.mkdir(parents=True, exist_ok=True)
    if channel in CAMERAS:
        path.write_bytes(image_jpeg(number))
        taken[scene, channel, number] = Taken(pose @ vehicle_from_camera(CAMERAS[channel]), stamp / 1e6)
    elif channel == "LIDAR_TOP":
        points, *_ = lidar_points(time)
        lidar_from_world = np.linalg.inv(pose @ EGO_FROM_LIDAR)
        points_lidar = points @ lidar_from_world[:3, :3].T + lidar_from_world[:3, 3]
        path.write_bytes(np.c_[points_lidar, np.full(len(points), 9.0), np.zeros(len(points))].astype("<f4").tobytes())
