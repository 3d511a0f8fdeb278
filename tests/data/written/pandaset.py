"""Sequences in the layout of PandaSet."""

import gzip
import io
import json

import numpy as np

from tests.data.written.frame_pickles import pickled_frame
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

UP = (0.0, 0.0, 1.0)
START = 1557539924.5
CAMERAS = {
    "front_camera": (0.0, (1.5, 0, 1.6), 60.0, 31.5, 23.5, 0.0),
    "back_camera": (3.0, (-1.0, 0.1, 1.5), 50, 30, 24, 0.04),
}
STANDING, DRIVING = np.array([12.0, 1.0, 1.0]), np.array([10.0, -1.5, 1.0])  # in the world


def vehicle_at(seconds):
    return np.array([4 * seconds, 1 * seconds, 0.0]), 0.1 * seconds


def _write_frame(path, columns, old):
    path.parent.mkdir(parents=True, exist_ok=True)
    content = io.BytesIO()
    pickled_frame(content, columns, old)
    path.write_bytes(gzip.compress(content.getvalue()))


def write_sequence(folder, taken, count, old=True):
    for name, (yaw, place, focal, cx, cy, later) in CAMERAS.items():
        camera, poses, times = folder / "camera" / name, [], []
        for number in range(count):
            seconds = number / 10 + later
            position, heading = vehicle_at(seconds)
            axes = turned(UP, heading) @ turned(UP, yaw) @ FORWARD_LEFT_UP.T
            centre = position + turned(UP, heading) @ np.array(place)
            w, x, y, z = quat_wxyz(axes)
            poses.append(
                {
                    "position": dict(zip("xyz", centre.tolist(), strict=True)),
                    "heading": {"w": w, "x": x, "y": y, "z": z},
                }
            )
            times.append(START + seconds)
            write_image(camera / f"{number:02d}.jpg", (48, 64), 10 * number)
            points = points_before(centre, axes)
            pixels = pinhole_pixels(points, centre, axes, focal, focal + 2, cx + 0.5, cy + 0.5)
            taken.append(Taken(name, START + seconds, centre, axes, points, pixels))
        (camera / "poses.json").write_text(json.dumps(poses))
        (camera / "timestamps.json").write_text(json.dumps(times))
        (camera / "intrinsics.json").write_text(json.dumps({"fx": focal, "fy": focal + 2, "cx": cx, "cy": cy}))
    for number in range(count):
        points = np.array([STANDING, DRIVING + (0.1, 0, 0), (15.0, 0.5, 1.2)])
        columns = {axis: points[:, i] for i, axis in enumerate("xyz")}
        _write_frame(
            folder / f"lidar/{number:02d}.pkl.gz", {**columns, "i": [1.0] * 3, "t": [0.0] * 3, "d": [0] * 3}, old
        )
        # Boxes are 2 across (x), 4 along (y): turned by -90 degrees they lie along the world's x.
        boxes = {
            "uuid": ["a", "b"],
            "label": ["Car", "Car"],
            "yaw": [-np.pi / 2] * 2,
            "stationary": [True, False],
            "camera_used": [-1, -1],
            **{
                f"position.{axis}": [STANDING[i], DRIVING[i] - (1.8 if axis == "x" else 0)]
                for i, axis in enumerate("xyz")
            },
            **{f"dimensions.{axis}": [side] * 2 for axis, side in (("x", 2.0), ("y", 4.0), ("z", 1.5))},
            "attributes.object_motion": ["Parked", "Moving"],
        }
        _write_frame(folder / f"annotations/cuboids/{number:02d}.pkl.gz", boxes, old)


def write_pandaset(root):
    """Two sequences for training, with pickles of two times of pandas."""
    taken = []
    write_sequence(root / "001", taken, 4)
    write_sequence(root / "002", [], 2, old=False)
    return Written(root, taken, "front_camera")
