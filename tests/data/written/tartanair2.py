"""A flight in the layout of TartanAir V2: north-east-down axes, float32 depth in four bytes of colour."""

import struct

import numpy as np
from PIL import Image

from tests.data.written.scenery import Taken, Written, pinhole_pixels, points_before, quat_wxyz, turned

FISH = 100  # pixels to a side
FOV = np.radians(195)
DOWN = (0.0, 0.0, 1.0)  # yaw turns about it, to the right
CAMERAS = {
    "lcam_front": (0.0, 0.0),
    "lcam_right": (np.pi / 2, 0.0),
    "rcam_front": (0.0, 0.25),
}  # yaw, metres to the right
DEPTH = 7.25  # of all pixels but the first two


def _write_png(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, compress_level=1)


def _write_depth(path, size):
    """Four bytes of a number, the lowest first, are blue, green, red and alpha."""
    depth = [[DEPTH] * size for _ in range(size)]
    depth[0][0], depth[0][1] = 1e6, 0.0
    numbers = np.frombuffer(b"".join(struct.pack(f"<{size}f", *row) for row in depth), np.uint8).reshape(size, size, 4)
    _write_png(path, np.ascontiguousarray(numbers[..., [2, 1, 0, 3]]))


def write_tartanair2(root):
    folder, taken, count = root / "AbandonedCable/Data_easy/P000", [], 2
    for name, (yaw, right) in CAMERAS.items():
        rows = ""
        for frame in range(count):
            body = turned(DOWN, 0.1 * frame) @ turned((0.0, 1.0, 0.0), 0.05)
            centre = np.array([30.0 + frame, -12.0, -3.5]) + right * body[:, 1]
            forward, rightward, down = (body @ turned(DOWN, yaw)).T
            w, x, y, z = quat_wxyz(np.stack([forward, rightward, down], axis=1))
            rows += " ".join(map(repr, map(float, (*centre, x, y, z, w)))) + "\n"
            axes = np.stack([rightward, down, forward], axis=1)
            points = points_before(centre, axes)
            pixels = pinhole_pixels(points, centre, axes, 320, 320, 320, 320)
            taken.append(Taken(name, frame / 10, centre, axes, points, pixels))
            _write_png(folder / f"image_{name}/{frame:06d}_{name}.png", np.full((640, 640, 3), 40 * frame, np.uint8))
            if name != "rcam_front":
                _write_depth(folder / f"depth_{name}/{frame:06d}_{name}_depth.png", 640)
            if name == "lcam_front":
                taken.append(Taken("lcam_fish", frame / 10, centre, axes, *fisheye_points(centre, axes)))
                _write_png(folder / f"image_lcam_fish/{frame:06d}_lcam_fish.png", np.full((FISH, FISH, 3), 9, np.uint8))
                _write_depth(folder / f"depth_lcam_fish/{frame:06d}_lcam_fish_depth.png", FISH)
        (folder / f"pose_{name}.txt").write_text(rows)
    (folder / "image_lcam_equirect").mkdir()
    return Written(root, taken, "lcam_front")


def fisheye_points(centre, axes):
    """Points at angles from the axis, one beyond 90 degrees, and their pixels: radius by angle in proportion."""
    points, pixels = [], []
    for angle, around in ((0.0, 0.0), (0.5, 1.0), (1.2, -2.0), (1.65, 2.5)):
        direction = np.array([np.sin(angle) * np.cos(around), np.sin(angle) * np.sin(around), np.cos(angle)])
        points.append(centre + 5 * (axes @ direction))
        radius = angle / (FOV / 2) * FISH / 2
        pixels.append((FISH / 2 + radius * np.cos(around), FISH / 2 + radius * np.sin(around)))
    return np.array(points), np.array(pixels)
