"""Writers of KITTI's odometry, of its raw data and of KITTI-360, of a drive that is made up."""

import datetime

import numpy as np
from scipy.spatial.transform import Rotation

from tests.data.made_drive import (
    FORWARD_LEFT_UP_FROM_CAMERA,
    SIZE,
    Taken,
    image_png,
    matrix,
    opencv_pixels,
    static_points,
    world_from_vehicle,
)

INTRINSICS = np.array([[190.0, 0, 157.25], [0, 190.0, 118.5], [0, 0, 1]])  # the centre of the first pixel at 0
BASELINES = {0: 0.0, 1: 0.537, 2: -0.06, 3: 0.47}  # metres to the right of the first grey camera
IMU_FROM_LIDAR = matrix(Rotation.from_euler("ZYX", [0.01, -0.02, 0.005]).as_matrix(), [0.81, -0.32, 0.8])
LIDAR_FROM_CAMERA = matrix(
    Rotation.from_euler("ZYX", [0.02, 0.01, -0.01]).as_matrix() @ FORWARD_LEFT_UP_FROM_CAMERA, [0.27, 0.0, -0.08]
)  # of the first camera as mounted
RECTIFIED_FROM_CAMERA = Rotation.from_euler("ZYX", [0.01, -0.015, 0.008]).as_matrix()


def row(values):
    return " ".join(repr(float(value)) for value in np.ravel(values))


def project(points):
    return opencv_pixels(points, INTRINSICS)


def projection(number):
    """3x4 of a rectified camera."""
    return INTRINSICS @ np.c_[np.eye(3), [-BASELINES[number], 0, 0]]


def write_png(path, value, size=SIZE):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(image_png(value, size))


def write_sweep(path, world_from_lidar, points):
    lidar_from_world = np.linalg.inv(world_from_lidar)
    points_lidar = points @ lidar_from_world[:3, :3].T + lidar_from_world[:3, 3]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(np.c_[points_lidar, np.full(len(points), 0.3)].astype("<f4").tobytes())


def shifted(world_from_first, number):
    return world_from_first @ matrix(np.eye(3), [BASELINES[number], 0, 0])


def write_odometry(root, sequences=("00", "09"), frames=4, named=True, cameras=(0, 1, 2, 3), unposed=0, sizes=None):
    """Returns {(sequence, camera, frame): Taken}; the last `unposed` images have no pose."""
    taken = {}
    rectified_from_lidar = matrix(RECTIFIED_FROM_CAMERA, [0, 0, 0]) @ np.linalg.inv(LIDAR_FROM_CAMERA)
    for sequence in sequences:
        folder = root / "sequences" / sequence
        size = (sizes or {}).get(sequence, SIZE)
        for camera in cameras:
            for frame in range(frames):
                write_png(folder / f"image_{camera}" / f"{frame:06d}.png", 10 * frame + camera, size)
        name = (lambda key: f"{key}: ") if named else (lambda key: "")
        rows = [name(f"P{number}") + row(projection(number)) for number in BASELINES]
        rows += [f"Tr: {row(rectified_from_lidar[:3])}"] if named else []
        (folder / "calib.txt").write_text("\n".join(rows) + "\n")
        times = 0.1037 * np.arange(frames)
        (folder / "times.txt").write_text("".join(f"{time:.6e}\n" for time in times))
        poses = [world_from_vehicle(time) @ matrix(FORWARD_LEFT_UP_FROM_CAMERA, [1, 0, 1]) for time in times]
        (root / "poses").mkdir(exist_ok=True)
        text = "".join(row(pose[:3]) + "\n" for pose in poses[: frames - unposed])
        (root / "poses" / f"{sequence}.txt").write_text(text)
        for frame, (pose, time) in enumerate(zip(poses, times, strict=True)):
            write_sweep(folder / "velodyne" / f"{frame:06d}.bin", pose @ rectified_from_lidar, static_points())
            for camera in cameras:
                taken[sequence, f"image_{camera}", frame] = Taken(shifted(pose, camera), time, project, size=size)
    return taken


def dates(times_ns):
    """Lines of a timestamps.txt."""
    lines = []
    for time in times_ns:
        seconds, fraction = divmod(int(time), 10**9)
        date = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=seconds)
        lines.append(f"{date:%Y-%m-%d %H:%M:%S}.{fraction:09d}")
    return "\n".join(lines) + "\n"


START_NS = 1_317_042_145_964_389_445
EARTH = 6378137.0
LATITUDE, LONGITUDE = 49.015003823272, 8.4342971002335


def oxts(vehicle, first_scale):
    """latitude longitude altitude roll pitch yaw and 24 more numbers."""
    yaw, pitch, roll = Rotation.from_matrix(vehicle[:3, :3]).as_euler("ZYX")
    east, north, up = vehicle[:3, 3]
    longitude = np.degrees(east / (first_scale * EARTH))
    latitude = np.degrees(2 * np.arctan(np.exp(north / (first_scale * EARTH)))) - 90
    return row([latitude, longitude, up, roll, pitch, yaw]) + " 0" * 19 + " 4 9 6 6 6\n"


def mercator_start():
    """World position of the drive's start on the map, and the map's scale there."""
    scale = np.cos(np.radians(LATITUDE))
    north = scale * EARTH * np.log(np.tan(np.radians(90 + LATITUDE) / 2))
    return np.array([scale * EARTH * np.radians(LONGITUDE), north, 112.8]), scale


def even_drive(time):
    """Without acceleration: what lies between two poses is exact by slerp and a straight line."""
    start, _ = mercator_start()
    rotation = Rotation.from_euler("z", 0.3 + 0.2 * time).as_matrix()
    return matrix(rotation, start + np.array([6.0, 2.5, 0.1]) * time)


def write_raw(root, day="2011_09_26", drive="0001", frames=5, cameras=(0, 1, 2, 3), first=0, more_points=None):
    """Returns {(camera, frame): Taken}, and points of LiDAR. Images are taken 35 ms, sweeps 20 ms behind the poses."""
    folder = root / day / f"{day}_drive_{drive}_sync"
    start, scale = mercator_start()
    points = static_points() - static_points().mean(axis=0) + start + [0, 0, 1.0]
    pose_times = 0.1 * np.arange(frames + 1)
    (folder / "oxts" / "data").mkdir(parents=True)
    for frame, time in enumerate(pose_times):
        (folder / "oxts" / "data" / f"{frame:010d}.txt").write_text(oxts(even_drive(time), scale))
    stamps = START_NS + np.round(1e9 * pose_times).astype(np.int64)
    (folder / "oxts" / "timestamps.txt").write_text(dates(stamps))
    camera_from_lidar = np.linalg.inv(LIDAR_FROM_CAMERA)
    imu_from_first = IMU_FROM_LIDAR @ LIDAR_FROM_CAMERA @ matrix(RECTIFIED_FROM_CAMERA.T, [0, 0, 0])
    taken = {}
    for camera in cameras:
        late = 0.035 + 0.001 * camera
        for frame in range(first, frames):
            write_png(folder / f"image_{camera:02d}" / "data" / f"{frame:010d}.png", 10 * frame + camera)
            pose = shifted(even_drive(0.1 * frame + late) @ imu_from_first, camera)
            taken[f"image_{camera:02d}", frame] = Taken(pose, START_NS / 1e9 + 0.1 * frame + late, project)
        text = dates(stamps[:frames] + round(1e9 * late))
        (folder / f"image_{camera:02d}" / "timestamps.txt").write_text(text)
    for frame in range(first, frames):
        path = folder / "velodyne_points" / "data" / f"{frame:010d}.bin"
        more = np.zeros((0, 3)) if more_points is None else more_points(0.1 * frame + 0.02)
        write_sweep(path, even_drive(0.1 * frame + 0.02) @ IMU_FROM_LIDAR, np.concatenate([points, more]))
    (folder / "velodyne_points" / "timestamps.txt").write_text(dates(stamps[:frames] + 20_000_000))

    def transform(name, value):
        head = "calib_time: 15-Mar-2012 11:45:23\n"
        (root / day / name).write_text(f"{head}R: {row(value[:3, :3])}\nT: {row(value[:3, 3])}\n")

    transform("calib_velo_to_cam.txt", camera_from_lidar)
    transform("calib_imu_to_velo.txt", np.linalg.inv(IMU_FROM_LIDAR))
    rows = ["calib_time: 09-Jan-2012 13:57:47", "corner_dist: 9.950000e-02"]
    for number in BASELINES:
        rows += [f"S_rect_{number:02d}: {SIZE[1]:.6e} {SIZE[0]:.6e}", f"R_rect_{number:02d}: {row(np.eye(3))}"]
        rows += [f"P_rect_{number:02d}: {row(projection(number))}"]
    rows = [f"R_rect_00: {row(RECTIFIED_FROM_CAMERA)}" if line.startswith("R_rect_00") else line for line in rows]
    (root / day / "calib_cam_to_cam.txt").write_text("\n".join(rows) + "\n")
    return taken, points


TRACKED, TRACKED_SIZE = matrix(Rotation.from_euler("z", 0.2).as_matrix(), [24.0, 2.0, 0.8]), (4.2, 1.7, 1.6)


def tracked_car(time, speed):
    """world_from_box of a car whose size is TRACKED_SIZE."""
    car = even_drive(0.0) @ TRACKED
    car[:3, 3] += speed * time * car[:3, 0]
    return car


def write_tracklets(folder, frames, speed, first=0):
    """Of a drive of `write_raw`: the car, seen from the LiDAR when it sweeps; the box's origin is at its bottom."""
    length, width, height = TRACKED_SIZE
    items = ""
    for frame in range(first, frames):
        time = 0.1 * frame + 0.02
        box = np.linalg.inv(even_drive(time) @ IMU_FROM_LIDAR) @ tracked_car(time, speed)
        x, y, z = box[:3, 3] - [0, 0, height / 2]
        yaw = np.arctan2(box[1, 0], box[0, 0])
        items += f"<item><tx>{x}</tx><ty>{y}</ty><tz>{z}</tz><rx>0</rx><ry>0</ry><rz>{yaw}</rz><state>2</state></item>"
    (folder / "tracklet_labels.xml").write_text(
        '<?xml version="1.0" encoding="UTF-8"?>\n<boost_serialization version="9"><tracklets><count>1</count><item>'
        f"<objectType>Car</objectType><h>{height}</h><w>{width}</w><l>{length}</l><first_frame>{first}</first_frame>"
        f"<poses><count>{frames - first}</count>{items}</poses></item></tracklets></boost_serialization>\n"
    )


DRIVE = "2013_05_28_drive_0000_sync"
FISHEYE_SIZE = (260, 260)
MEI = {"xi": 2.2134, "k1": 0.0168, "k2": 1.6548, "p1": 4.2e-4, "p2": 4.2e-4}
GAMMA, CENTRE = (248.0, 247.5), (131.0, 128.5)
MOUNTED = {  # imu_from_camera, before rectification; the IMU's axes are forward, right, down
    0: (Rotation.from_euler("y", 5, degrees=True), [1.57, 0.04, -1.43]),
    1: (Rotation.from_euler("y", 4, degrees=True), [1.56, 0.63, -1.42]),
    2: (Rotation.from_euler("zy", [-85, 3], degrees=True), [0.7, -0.4, -1.5]),
    3: (Rotation.from_euler("zy", [88, 2], degrees=True), [0.72, 0.92, -1.49]),
}
FORWARD_RIGHT_DOWN_FROM_CAMERA = np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]])
RECTIFIED = {0: RECTIFIED_FROM_CAMERA, 1: RECTIFIED_FROM_CAMERA @ Rotation.from_euler("y", 1, degrees=True).as_matrix()}


def imu_from_camera(camera):
    rotation, place = MOUNTED[camera]
    return matrix(rotation.as_matrix() @ FORWARD_RIGHT_DOWN_FROM_CAMERA, place)


def project_mei(points):
    """As Mei and Rives have it, written out."""
    x, y, z = (points / np.linalg.norm(points, axis=1, keepdims=True)).T
    mx, my = x / (z + MEI["xi"]), y / (z + MEI["xi"])
    rho = mx * mx + my * my
    bend = 1 + MEI["k1"] * rho + MEI["k2"] * rho * rho
    dx = 2 * MEI["p1"] * mx * my + MEI["p2"] * (rho + 2 * mx * mx)
    dy = MEI["p1"] * (rho + 2 * my * my) + 2 * MEI["p2"] * mx * my
    pixels = np.stack([GAMMA[0] * (mx * bend + dx) + CENTRE[0], GAMMA[1] * (my * bend + dy) + CENTRE[1]], axis=1)
    pixels[z * MEI["xi"] < -1 + 0.02] = -1e6  # behind what the mirror shows
    return pixels


def box_360(frame):
    """world_from_corners of a van of 6 x 2.5 x 3 m whose corners are those of a unit cube: the transform stretches."""
    van = world_from_vehicle(0.9) @ matrix(Rotation.from_euler("z", 0.4).as_matrix(), [17.0 + 0.3 * frame, 1.0, 0.5])
    van[:3, :3] = van[:3, :3] @ np.diag([6.0, 2.5, 3.0])
    return van


def points_360(frame):
    """What stands, and two points in the van and one beside it; which are in it."""
    on_van = np.array([[0.45, 0.4, -0.4], [-0.45, -0.4, 0.3], [0.0, 0.6, 0.2]])
    van = box_360(frame)
    points = np.concatenate([static_points(240), on_van @ van[:3, :3].T + van[:3, 3]])
    standing = ~_in_van(points, van)
    return points, ~standing


def _in_van(points, van):
    lengths = np.linalg.norm(van[:3, :3], axis=0)
    return (np.abs((points - van[:3, 3]) @ (van[:3, :3] / lengths)) <= lengths / 2 + 0.1).all(axis=1)


def write_boxes_360(root, drive=DRIVE, frames=(3, 4, 5, 6, 18, 19)):
    """Of the van by frame, and of a house around everything, which stands."""
    corners = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])

    def node(name, value):
        rows, columns = value.shape
        size = f"<rows>{rows}</rows><cols>{columns}</cols><dt>f</dt>"
        return f'<{name} type_id="opencv-matrix">{size}<data>\n{row(value)}</data></{name}>'

    house = matrix(1000 * np.eye(3), world_from_vehicle(0)[:3, 3])
    things = [(frame, box_360(frame)) for frame in frames] + [(-1, house)]
    text = "".join(
        f"<object{i}><index>{i}</index><label>van</label><timestamp>{frame}</timestamp>"
        f"<dynamic>{int(frame >= 0)}</dynamic>{node('transform', pose)}{node('vertices', corners)}</object{i}>\n"
        for i, (frame, pose) in enumerate(things)
    )
    path = root / "data_3d_bboxes" / "train" / f"{drive}.xml"
    path.parent.mkdir(parents=True)
    path.write_text(f'<?xml version="1.0"?>\n<opencv_storage>\n{text}</opencv_storage>\n')
    return path


def write_360(root, drive=DRIVE, frames=(3, 4, 5, 6, 18, 19), unposed=(0, 1, 7)):
    """Returns {(camera, frame): Taken}."""
    down = matrix(np.diag([1.0, -1, -1]), [0, 0, 0])  # the made vehicle's axes are forward, left, up
    taken, poses = {}, []
    stamps = START_NS + 104_000_000 * np.arange(max(*frames, *unposed) + 1)
    lidar_from_first = np.linalg.inv(
        matrix(Rotation.from_euler("x", 180.5, degrees=True).as_matrix(), [0.77, 0.35, -1.7])
    ) @ imu_from_camera(0)
    for frame in frames:
        world_from_imu = world_from_vehicle(0.104 * frame) @ down
        poses.append(f"{frame} {row(world_from_imu[:3])}\n")
        for camera in MOUNTED:
            mounted = world_from_imu @ imu_from_camera(camera)
            time = stamps[frame] / 1e9 + 0.001 * camera
            if camera < 2:
                rectified = mounted @ matrix(RECTIFIED[camera].T, [0, 0, 0])
                taken[f"image_{camera:02d}", frame] = Taken(rectified, time, project)
            else:
                taken[f"image_{camera:02d}", frame] = Taken(mounted, time, project_mei, size=FISHEYE_SIZE, wide=True)
        path = root / "data_3d_raw" / drive / "velodyne_points" / "data" / f"{frame:010d}.bin"
        world_from_lidar = world_from_imu @ imu_from_camera(0) @ np.linalg.inv(lidar_from_first)
        write_sweep(path, world_from_lidar, points_360(frame)[0])
    for camera in MOUNTED:
        folder = root / "data_2d_raw" / drive / f"image_{camera:02d}"
        for frame in (*frames, *unposed):
            size = SIZE if camera < 2 else FISHEYE_SIZE
            data = "data_rect" if camera < 2 else "data_rgb"
            write_png(folder / data / f"{frame:010d}.png", frame + camera, size)
        (folder / "timestamps.txt").write_text(dates(stamps + 1_000_000 * camera))
    path = root / "data_poses" / drive / "poses.txt"
    path.parent.mkdir(parents=True)
    path.write_text("".join(poses))
    calibration = root / "calibration"
    calibration.mkdir(exist_ok=True)
    lines = [f"image_{camera:02d}: {row(imu_from_camera(camera)[:3])}\n" for camera in MOUNTED]
    (calibration / "calib_cam_to_pose.txt").write_text("".join(lines))
    (calibration / "calib_cam_to_velo.txt").write_text(row(lidar_from_first[:3]) + "\n")
    lines = ["calib_time: 28-May-2013 12:00:01\n"]
    for camera, baseline in ((0, 0.0), (1, 0.59)):
        lines += [f"S_rect_{camera:02d}: {SIZE[1]} {SIZE[0]}\n", f"R_rect_{camera:02d}: {row(RECTIFIED[camera])}\n"]
        moved = INTRINSICS @ np.c_[np.eye(3), [-baseline, 0, 0]]
        lines += [f"P_rect_{camera:02d}: {row(moved)}\n"]
    (calibration / "perspective.txt").write_text("".join(lines))
    for camera in (2, 3):
        (calibration / f"image_{camera:02d}.yaml").write_text(
            f"%YAML:1.0\n---\nmodel_type: MEI\ncamera_name: image_{camera:02d}\nimage_width: {FISHEYE_SIZE[1]}\n"
            f"image_height: {FISHEYE_SIZE[0]}\nmirror_parameters:\n   xi: {MEI['xi']!r}\ndistortion_parameters:\n"
            + "".join(f"   {name}: {MEI[name]:.16e}\n" for name in ("k1", "k2", "p1", "p2"))
            + f"projection_parameters:\n   gamma1: {GAMMA[0]:.10e}\n   gamma2: {GAMMA[1]:.10e}\n"
            + f"   u0: {CENTRE[0]:.10e}\n   v0: {CENTRE[1]:.10e}\n"
        )
    return taken
