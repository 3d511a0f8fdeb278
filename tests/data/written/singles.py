"""Data sets of one camera in their layouts: PointOdyssey, BlendedMVS, Map-free Relocalization."""

import struct

import cv2
import numpy as np

from tests.data.written.scenery import Taken, Written, pinhole_pixels, points_before, quat_wxyz, turned, write_image

SIZE = (48, 64)


def camera_at(number):
    """Place and axes (columns right, down, forward) of a camera that walks and turns."""
    return np.array([0.4 * number, -1.0, 5.0 + 0.1 * number]), turned((0, 1, 0), 0.1 * number - 0.2)


def camera_from_world(centre, axes):
    """Rows of the camera's axes, and minus the place along each."""
    return np.array([[*axes[:, i], -float(axes[:, i] @ centre)] for i in range(3)] + [[0.0, 0, 0, 1]])


def taken_at(name, number, time, fx, fy, cx, cy, sequence=""):
    centre, axes = camera_at(number)
    points = points_before(centre, axes)
    return Taken(name, time, centre, axes, points, pinhole_pixels(points, centre, axes, fx, fy, cx, cy), sequence)


def write_png16(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.asarray(values, np.uint16))


def write_pointodyssey(root):
    """Depth images of 5 m (to the rounding of 16 bits) but for a pixel where nothing was hit and one that is empty."""
    taken = []
    for split, count in (("train", 5), ("val", 2)):
        folder = root / split / "ani1_new_"
        cameras = [camera_from_world(*camera_at(number)) for number in range(count)]
        depth = np.full(SIZE, round(5 / 1000 * 65535))
        depth[0, :2] = 65535, 0
        for number in range(count):
            write_image(folder / f"rgbs/rgb_{number:05d}.jpg", SIZE, number)
            write_png16(folder / f"depths/depth_{number:05d}.png", depth)
            if split == "train":
                taken.append(taken_at("camera", number, number / 30, 70.0, 71.0, 32.0, 24.0))
        np.savez(
            folder / "anno.npz",
            intrinsics=np.tile(np.array([[70.0, 0, 32], [0, 71, 24], [0, 0, 1]], np.float64), (count, 1, 1)),
            extrinsics=np.array(cameras),
            trajs_3d=np.zeros((count, 3, 3), np.float32),
        )
    return Written(root, taken, "camera")


def write_blendedmvs(root):
    """Depth of 7.5 in the rows above, 2.5 in the lowest, which a portable float map holds first; 0 in one pixel."""
    taken = []
    for place in ("5a3ca9cb270f0e3f14d0eddb", "5b558a928bbfb62204e77ba2", "5b21e18c58e2823a67a10dd8"):
        folder = root / place
        for number in range(3):
            cam = "extrinsic\n"
            cam += "".join(
                " ".join(map(repr, map(float, row))) + " \n" for row in camera_from_world(*camera_at(number))
            )
            cam += "\nintrinsic\n70.0 0.0 31.6 \n0.0 71.0 23.7 \n0.0 0.0 1.0 \n\n2.0 0.05 128.0 8.4 \n"
            (folder / "cams").mkdir(parents=True, exist_ok=True)
            (folder / f"cams/{number:08d}_cam.txt").write_text(cam)
            for suffix in ("", "_masked"):
                write_image(folder / f"blended_images/{number:08d}{suffix}.jpg", SIZE, number)
            rows = [[7.5] * SIZE[1] for _ in range(SIZE[0])]
            rows[-1] = [2.5] * SIZE[1]
            rows[0][0] = 0.0
            (folder / "rendered_depth_maps").mkdir(exist_ok=True)
            content = b"".join(struct.pack(f"<{SIZE[1]}f", *row) for row in reversed(rows))
            (folder / f"rendered_depth_maps/{number:08d}.pfm").write_bytes(b"Pf\n64 48\n-1.000000\n" + content)
            if place.startswith("5a3"):
                taken.append(taken_at("camera", number, float(number), 70.0, 71.0, 31.6 + 0.5, 23.7 + 0.5))
        (folder / "cams/pair.txt").write_text("3\n")
    (root / "BlendedMVS_training.txt").write_text("5a3ca9cb270f0e3f14d0eddb\n")
    (root / "validation_list.txt").write_text("5b558a928bbfb62204e77ba2\n")
    return Written(root, taken, "camera")


FOCALS = (70.0, 70.0, 70.0, 70.0, 73.5)  # of a phone that focuses: the middle one is the camera's


def write_mapfree(root):
    """A place for training of two scans, one for validation of an image and a scan, one for testing."""
    taken = []
    for split, place, counts in (("train", "s00000", (5, 3)), ("val", "s00460", (1, 3)), ("test", "s00525", (1, 2))):
        poses, intrinsics, folder = "# frame qw qx qy qz tx ty tz\n", "", root / split / place
        for scan, count in enumerate(counts):
            for number in range(count):
                name = f"seq{scan}/frame_{number:05d}.jpg"
                write_image(folder / name, SIZE, number)
                matrix = camera_from_world(*camera_at(number + 2 * scan))
                numbers = (*quat_wxyz(matrix[:3, :3]), *matrix[:3, 3]) if split != "test" else (0,) * 7
                poses += f"{name} " + " ".join(f"{float(number)!r}" for number in numbers) + "\n"
                focal = FOCALS[number] if scan == 0 else 70.0
                intrinsics += f"{name} {focal} {focal} 31.0 24.0 64 48\n"
                if split == "train":
                    place_and_scan = f"{place}_seq{scan}"
                    numbers = (number + 2 * scan, number / 30, 70.0, 70.0, 31.5, 24.5)
                    taken.append(taken_at("camera", *numbers, place_and_scan))
        (folder / "poses.txt").write_text(poses)
        (folder / "intrinsics.txt").write_text(intrinsics)
    return Written(root, taken, "camera")
