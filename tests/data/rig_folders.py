"""Small folders of a rig in the layouts of `source=folder`, by arithmetic of their own: the truth is in TRUTH.

Two cameras (a Brown lens to the left, a fisheye to the right of it) on a vehicle that drives along a curve past points;
what each image shows of them is computed here with OpenCV.
"""

import dataclasses
import json

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

SIZES = {"left": (48, 64), "right": (50, 60)}  # height, width
MATRICES = {
    "left": np.array([[40.0, 0, 31.5], [0, 41.0, 24.5], [0, 0, 1]]),
    "right": np.array([[30.0, 0, 30.25], [0, 30.0, 25.0], [0, 0, 1]]),
}
BROWN, FISHEYE = (-0.1, 0.02, 0.001, -0.002), (0.05, -0.01, 0.002, -0.0005)
POINTS_WORLD = np.array([[0.5, -0.2, 6.0], [-1.0, 0.4, 7.0], [1.5, 0.6, 9.0]])
STEPS = 12
START = 1700000000.0


def matrix(rotation, translation):
    result = np.eye(4)
    result[:3, :3], result[:3, 3] = rotation, translation
    return result


def wxyz(rotation):
    x, y, z, w = Rotation.from_matrix(rotation).as_quat()
    return [w, x, y, z]


@dataclasses.dataclass(frozen=True)
class Truth:
    """Where everything is."""

    times: np.ndarray
    world_from_rig: np.ndarray  # the rig is the left camera
    rig_from_camera: dict

    def world_from_camera(self, camera, step):
        return self.world_from_rig[step] @ self.rig_from_camera[camera]

    def pixels(self, camera, step):
        """(u, v) of POINTS_WORLD with pixel centres at +0.5."""
        camera_from_world = np.linalg.inv(self.world_from_camera(camera, step))
        points = POINTS_WORLD @ camera_from_world[:3, :3].T + camera_from_world[:3, 3]
        none = np.zeros(3)
        if camera == "left":
            return cv2.projectPoints(points, none, none, MATRICES["left"], np.array(BROWN))[0][:, 0]
        return cv2.fisheye.projectPoints(points[:, None], none, none, MATRICES["right"], np.array(FISHEYE))[0][:, 0]

    def depths(self, camera, step):
        """Metres along the camera's axis."""
        camera_from_world = np.linalg.inv(self.world_from_camera(camera, step))
        return POINTS_WORLD @ camera_from_world[2, :3] + camera_from_world[2, 3]


def make_truth():
    angles = np.linspace(0, 0.2, STEPS)
    rotations = Rotation.from_euler("yxz", np.stack([angles, 0.02 * np.sin(5 * angles), 0.3 * angles], 1)).as_matrix()
    world_from_rig = np.stack([matrix(turn, [0.1 * i, 0.02 * i, 0.15 * i]) for i, turn in enumerate(rotations)])
    right = matrix(Rotation.from_euler("y", 8, degrees=True).as_matrix(), [0.4, 0.02, -0.03])
    return Truth(START + 0.1 * np.arange(STEPS), world_from_rig, {"left": np.eye(4), "right": right})


TRUTH = make_truth()


def name_of(step):
    return f"{step:06d}"


def write_images(folder, cameras=("left", "right"), name=name_of, suffix=".png"):
    for camera in cameras:
        (folder / camera).mkdir(parents=True)
        for step in range(STEPS):
            image = np.full((*SIZES[camera], 3), 10 * step, np.uint8)
            assert cv2.imwrite(str(folder / camera / f"{name(step)}{suffix}"), image)


def write_rig_config(path):
    right_from_rig = np.linalg.inv(TRUTH.rig_from_camera["right"])
    left, right = MATRICES["left"], MATRICES["right"]
    entries = [
        {
            "image_prefix": "left/", "ref_sensor": True, "camera_model_name": "OPENCV",
            "camera_params": [left[0, 0], left[1, 1], left[0, 2], left[1, 2], *BROWN],
        },
        {
            "image_prefix": "right/", "camera_model_name": "OPENCV_FISHEYE",
            "camera_params": [right[0, 0], right[1, 1], right[0, 2], right[1, 2], *FISHEYE],
            "cam_from_rig_rotation": wxyz(right_from_rig[:3, :3]),
            "cam_from_rig_translation": right_from_rig[:3, 3].tolist(),
        },
    ]  # fmt: skip
    path.write_text(json.dumps([{"cameras": entries}]))


def write_camchain(path):
    """Kalibr: pixel centres at 0, T_cn_cnm1 = right_from_left."""
    lines = []
    for camera, model, coefficients in (("left", "radtan", BROWN), ("right", "equidistant", FISHEYE)):
        k, (height, width) = MATRICES[camera], SIZES[camera]
        lines += [f"{camera}:", "  camera_model: pinhole", f"  distortion_model: {model}"]
        lines += [f"  distortion_coeffs: {list(coefficients)}", f"  resolution: [{width}, {height}]"]
        lines += [f"  intrinsics: [{k[0, 0]}, {k[1, 1]}, {k[0, 2] - 0.5}, {k[1, 2] - 0.5}]"]
        if camera == "right":
            lines += [f"  T_cn_cnm1: {np.linalg.inv(TRUTH.rig_from_camera['right']).tolist()}"]
    path.write_text("\n".join(lines) + "\n")


def tum_rows(times, transforms):
    rows = []
    for time, transform in zip(times, transforms, strict=True):
        quaternion = Rotation.from_matrix(transform[:3, :3]).as_quat()
        rows.append(" ".join(repr(float(value)) for value in [time, *transform[:3, 3], *quaternion]))
    return "\n".join(rows) + "\n"


def kitti_rows(transforms):
    return "\n".join(" ".join(repr(float(value)) for value in transform[:3].ravel()) for transform in transforms) + "\n"


def write_times(path, per_second=1):
    rows = [f"{time * per_second:.6f} {name_of(step)}" for step, time in enumerate(TRUTH.times)]
    path.write_text("\n".join(rows) + "\n")


def of_camera(camera):
    return [TRUTH.world_from_camera(camera, step) for step in range(STEPS)]


def write_colmap(folder, rigs=False):
    """A text model: camera_from_world, w x y z; with rigs, poses of images are out of date and frames tell."""
    folder.mkdir(parents=True)
    models = {"left": ("OPENCV", BROWN), "right": ("OPENCV_FISHEYE", FISHEYE)}
    cameras, images, frames, number = [], [], [], 0
    observed = [[] for _ in POINTS_WORLD]
    for index, camera in enumerate(("left", "right"), start=1):
        k, (height, width), (model, coefficients) = MATRICES[camera], SIZES[camera], models[camera]
        numbers = [k[0, 0], k[1, 1], k[0, 2], k[1, 2], *coefficients]
        cameras.append(f"{index} {model} {width} {height} " + " ".join(map(repr, map(float, numbers))))
    for step in range(STEPS):
        data = []
        for index, camera in enumerate(("left", "right"), start=1):
            number += 1
            camera_from_world = np.linalg.inv(TRUTH.world_from_camera(camera, step))
            stale = np.eye(4) if rigs else camera_from_world
            pose = " ".join(repr(float(value)) for value in [*wxyz(stale[:3, :3]), *stale[:3, 3]])
            images.append(f"{number} {pose} {index} {camera}/{name_of(step)}.png")
            seen = TRUTH.pixels(camera, step)
            images.append(" ".join(f"{float(u)!r} {float(v)!r} {i + 1}" for i, (u, v) in enumerate(seen)))
            for i in range(len(POINTS_WORLD)):
                observed[i] += [number, i]
            data += ["CAMERA", index, number]
        rig_from_world = np.linalg.inv(TRUTH.world_from_rig[step])
        numbers = [float(value) for value in [*wxyz(rig_from_world[:3, :3]), *rig_from_world[:3, 3]]]
        frames.append(" ".join(map(str, [step + 1, 1, *map(repr, numbers), 2, *data])))
    points = [
        f"{i + 1} {' '.join(repr(float(x)) for x in point)} 1 2 3 {0.5 if i else 9.0} {' '.join(map(str, track))}"
        for i, (point, track) in enumerate(zip(POINTS_WORLD, observed, strict=True))
    ]
    files = {"cameras": cameras, "images": images, "points3D": points}
    if rigs:
        right_from_rig = np.linalg.inv(TRUTH.rig_from_camera["right"])
        place = " ".join(repr(float(x)) for x in [*wxyz(right_from_rig[:3, :3]), *right_from_rig[:3, 3]])
        files |= {"rigs": [f"1 2 CAMERA 1 CAMERA 2 1 {place}"], "frames": frames}
    for name, lines in files.items():
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")


def write_transforms(path):
    """OpenGL's axes; the list is not in the order of names, and one frame has no file."""
    names = {"left": ("k1", "k2", "p1", "p2"), "right": ("k1", "k2", "k3", "k4")}
    frames = []
    for step in reversed(range(STEPS)):
        for camera, coefficients in (("left", BROWN), ("right", FISHEYE)):
            k = MATRICES[camera]
            frame = {"file_path": f"images/{camera}/{name_of(step)}.png", "fl_x": k[0, 0], "fl_y": k[1, 1]}
            frame |= {"cx": k[0, 2], "cy": k[1, 2]} | dict(zip(names[camera], coefficients, strict=True))
            frame["camera_model"] = "OPENCV" if camera == "left" else "OPENCV_FISHEYE"
            opengl = TRUTH.world_from_camera(camera, step) @ np.diag([1.0, -1, -1, 1])
            frames.append(frame | {"transform_matrix": opengl.tolist()})
    frames.append(frames[0] | {"file_path": "images/left/999999.png"})
    path.write_text(json.dumps({"frames": frames}))


def write_depth(folder, kind="png"):
    """Depth along the axis of the left camera, 2 m plus a centimetre per column; 0 in the first column."""
    (folder / "left").mkdir(parents=True)
    height, width = SIZES["left"]
    metres = np.broadcast_to(2 + 0.01 * np.arange(width), (height, width)).copy()
    metres[:, 0] = 0
    for step in range(STEPS):
        path = folder / "left" / f"{name_of(step)}.{kind}"
        if kind == "png":
            assert cv2.imwrite(str(path), np.round(metres * 1000).astype(np.uint16))
        elif kind == "npy":
            np.save(path, np.where(metres > 0, metres, np.nan).astype(np.float32))
        else:
            import OpenEXR

            header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
            far = np.where(metres > 0, metres, 1e10).astype(np.float32)
            OpenEXR.File(header, {"Z": OpenEXR.Channel(far)}).write(str(path))
    return metres


def make_folder(folder):
    """A whole one: rig_config.json, times.txt, poses.txt of the rig, depth and masks of the left camera."""
    write_images(folder / "images")
    write_rig_config(folder / "rig_config.json")
    write_times(folder / "times.txt")
    (folder / "poses.txt").write_text(tum_rows(TRUTH.times, TRUTH.world_from_rig))
    write_depth(folder / "depth")
    (folder / "masks/left").mkdir(parents=True)
    mask = np.zeros(SIZES["left"], np.uint8)
    mask[:2], mask[-3:] = 255, 128
    assert cv2.imwrite(str(folder / "masks/left/000003.png"), mask)
    return folder


def make_colmap(folder):
    """A model without anything else."""
    write_images(folder / "images")
    write_colmap(folder / "sparse/0")
    return folder


def make_transforms(folder):
    """transforms.json beside its images."""
    write_images(folder / "images")
    write_transforms(folder / "transforms.json")
    return folder


def make_wayve(folder):
    """scene_001 with a model with rigs; cameras are named as the source's front camera is an option."""
    scene = folder / "scene_001"
    write_images(scene / "images")
    write_colmap(scene / "colmap_sparse/rig", rigs=True)
    (scene / "masks/left").mkdir(parents=True)
    mask = np.full(SIZES["left"], 255, np.uint8)
    mask[-5:] = 0
    assert cv2.imwrite(str(scene / "masks/left/000001.png"), mask)
    return folder


def make_scannetpp(folder, suffix=".JPG"):
    """Two scenes of one fisheye each: images and model of the right camera, flat."""
    for scene in ("0a5c013435", "1ada7a0617"):
        dslr = folder / "data" / scene / "dslr"
        (dslr / "resized_images").mkdir(parents=True)
        k, (height, width) = MATRICES["right"], SIZES["right"]
        numbers = [k[0, 0], k[1, 1], k[0, 2], k[1, 2], *FISHEYE]
        lines = []
        for step in range(STEPS):
            name = f"DSC{step:05d}{suffix}"
            image = np.full((height, width, 3), 10 * step, np.uint8)
            (dslr / "resized_images" / name).write_bytes(cv2.imencode(".jpg", image)[1].tobytes())
            camera_from_world = np.linalg.inv(TRUTH.world_from_camera("right", step))
            pose = [float(value) for value in [*wxyz(camera_from_world[:3, :3]), *camera_from_world[:3, 3]]]
            lines += [f"{step + 1} {' '.join(map(repr, pose))} 1 {name}", ""]
        (dslr / "colmap").mkdir()
        camera = f"1 OPENCV_FISHEYE {width} {height} {' '.join(map(repr, map(float, numbers)))}\n"
        texts = {"cameras": camera, "images": "\n".join(lines) + "\n", "points3D": "# none\n"}
        for file, text in texts.items():
            (dslr / "colmap" / f"{file}.txt").write_text(text)
    return folder


# Of EuRoC and Hilti, whose poses are those of an IMU.
BODY_FROM_RIG = matrix(Rotation.from_euler("xyz", [90, 10, -5], degrees=True).as_matrix(), [0.1, -0.02, 0.05])


def make_euroc(folder):
    """Two cameras by sensor.yaml; truth of the body at twice their rate, of which they want what lies between."""
    for number, camera in enumerate(("left", "right")):
        sensor = folder / f"mav0/cam{number}"
        (sensor / "data").mkdir(parents=True)
        k, (height, width) = MATRICES[camera], SIZES[camera]
        model, coefficients = ("radial-tangential", BROWN) if camera == "left" else ("equidistant", FISHEYE)
        transform = (BODY_FROM_RIG @ TRUTH.rig_from_camera[camera]).ravel().tolist()
        (sensor / "sensor.yaml").write_text(
            "%YAML:1.0\nsensor_type: camera\nT_BS:\n  cols: 4\n  rows: 4\n"
            f"  data: {transform}\nrate_hz: 10\nresolution: [{width}, {height}]\ncamera_model: pinhole\n"
            f"intrinsics: [{k[0, 0]}, {k[1, 1]}, {k[0, 2] - 0.5}, {k[1, 2] - 0.5}] #fu, fv, cu, cv\n"
            f"distortion_model: {model}\ndistortion_coefficients: {list(coefficients)}\n"
        )
        rows = ["#timestamp [ns],filename"]
        for time in TRUTH.times:
            name = f"{round(time * 10) * 10**8}.png"
            image = np.full((height, width), 99, np.uint8)
            assert cv2.imwrite(str(sensor / "data" / name), image)
            rows.append(f"{name[:-4]},{name}")
        rows.append("1700000009000000000,1700000009000000000.png")  # has no file
        (sensor / "data.csv").write_text("\r\n".join(rows) + "\r\n")
    truth = folder / "mav0/state_groundtruth_estimate0"
    truth.mkdir()
    names = "#timestamp, p_RS_R_x [m], p_RS_R_y [m], p_RS_R_z [m], q_RS_w [], q_RS_x [], q_RS_y [], q_RS_z [], v_RS_R_x"
    rows = [names]
    for time, world_from_rig in zip(TRUTH.times, TRUTH.world_from_rig, strict=True):
        world_from_body = world_from_rig @ np.linalg.inv(BODY_FROM_RIG)
        numbers = [*world_from_body[:3, 3], *wxyz(world_from_body[:3, :3]), 0.0]
        rows.append(f"{round(time * 10) * 10**8}," + ",".join(repr(float(value)) for value in numbers))
    (truth / "data.csv").write_text("\n".join(rows) + "\n")
    return folder


def make_hilti(folder):
    """Two cameras in two chains: image n is of camera n mod 2."""
    (folder / "images").mkdir(parents=True)
    (folder / "calibration").mkdir()
    (folder / "lidar").mkdir()
    for number, camera in enumerate(("left", "right")):
        k, (height, width) = MATRICES[camera], SIZES[camera]
        model, coefficients = ("radtan", BROWN) if camera == "left" else ("equidistant", FISHEYE)
        camera_from_imu = np.linalg.inv(BODY_FROM_RIG @ TRUTH.rig_from_camera[camera])
        (folder / f"calibration/calib_3_cam{number}-camchain-imucam.yaml").write_text(
            f"cam0:\n  T_cam_imu: {camera_from_imu.tolist()}\n  camera_model: pinhole\n  distortion_model: {model}\n"
            f"  distortion_coeffs: {list(coefficients)}\n  resolution: [{width}, {height}]\n"
            f"  intrinsics: [{k[0, 0]}, {k[1, 1]}, {k[0, 2] - 0.5}, {k[1, 2] - 0.5}]\n"
        )
        for step in range(STEPS):
            image = np.full((height, width), 10 * step, np.uint8)
            (folder / f"images/{2 * step + number}.jpg").write_bytes(cv2.imencode(".jpg", image)[1].tobytes())
    world_from_imu = TRUTH.world_from_rig @ np.linalg.inv(BODY_FROM_RIG)
    (folder / "lidar/fastlio2_odom.txt").write_text(tum_rows(TRUTH.times, world_from_imu))
    return folder


def make_kapture(folder):
    """sensor_from_rig and rig_from_world, w x y z."""
    sensors = folder / "sensors"
    sensors.mkdir(parents=True)
    models = {"left": ("OPENCV", BROWN), "right": ("OPENCV_FISHEYE", FISHEYE)}
    tables = {"sensors": [], "rigs": [], "trajectories": [], "records_camera": []}
    write_images(sensors / "records_data")
    for camera, (model, coefficients) in models.items():
        k, (height, width) = MATRICES[camera], SIZES[camera]
        numbers = [width, height, k[0, 0], k[1, 1], k[0, 2], k[1, 2], *coefficients]
        tables["sensors"].append(f"{camera}, , camera, {model}, {', '.join(map(str, map(float, numbers)))}")
        camera_from_rig = np.linalg.inv(TRUTH.rig_from_camera[camera])
        numbers = [*wxyz(camera_from_rig[:3, :3]), *camera_from_rig[:3, 3]]
        tables["rigs"].append(f"rig, {camera}, {', '.join(repr(float(value)) for value in numbers)}")
    tables["sensors"].append("imu, , other")
    for step, time in enumerate(TRUTH.times):
        stamp = round(time * 10) * 10**5  # microseconds
        rig_from_world = np.linalg.inv(TRUTH.world_from_rig[step])
        numbers = [*wxyz(rig_from_world[:3, :3]), *rig_from_world[:3, 3]]
        tables["trajectories"].append(f"{stamp}, rig, {', '.join(repr(float(value)) for value in numbers)}")
        tables["records_camera"] += [f"{stamp}, {camera}, {camera}/{name_of(step)}.png" for camera in models]
    for name, lines in tables.items():
        (sensors / f"{name}.txt").write_text("# kapture format: 1.1\n" + "\n".join(lines) + "\n")
    return folder
