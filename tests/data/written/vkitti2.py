"""A drive in two renderings in the layout of Virtual KITTI 2."""

import cv2
import numpy as np
from PIL import Image

from tests.data.written.scenery import Taken, Written, pinhole_pixels, points_before, turned, write_image

FX, FY, CX, CY = 72.5, 72.0, 31.5, 23.5
SIZE = (48, 64)
DEPTH = 1234  # cm, of all pixels but the first, which is sky
HEADER = "frame cameraID r1,1 r1,2 r1,3 t1 r2,1 r2,2 r2,3 t2 r3,1 r3,2 r3,3 t3 0 0 0 1\n"


def write_drive(folder, taken, count):
    extrinsic, intrinsic = HEADER, "frame cameraID K[0,0] K[1,1] K[0,2] K[1,2]\n"
    boxes = "frame cameraID trackID left right top bottom number_pixels truncation_ratio occupancy_ratio isMoving\n"
    for frame in range(count):
        axes = turned((0, 1, 0), 0.05 * frame) @ turned((1, 0, 0), 0.02)
        for camera in (0, 1):
            centre = np.array([-0.3 * frame, 0.1, 2.0 * frame]) + 0.532725 * camera * axes[:, 0]
            numbers = []
            for row in range(3):  # of camera_from_world: the camera's axes, and minus its place along each
                numbers += [*axes[:, row], -sum(axes[i, row] * centre[i] for i in range(3))]
            extrinsic += f"{frame} {camera} " + " ".join(f"{number!r}" for number in map(float, numbers)) + " 0 0 0 1\n"
            intrinsic += f"{frame} {camera} {FX} {FY} {CX} {CY}\n"
            boxes += f"{frame} {camera} 0 1 5 1 5 20 0.0 1.0 True\n{frame} {camera} 1 8 9 8 9 4 0.0 1.0 False\n"
            write_image(folder / f"frames/rgb/Camera_{camera}/rgb_{frame:05d}.jpg", SIZE, 20 * frame)
            depth = np.full(SIZE, DEPTH, np.uint16)
            depth[0, 0] = 65535
            file = folder / f"frames/depth/Camera_{camera}/depth_{frame:05d}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(file), depth)
            instances = np.zeros(SIZE, np.uint8)
            instances[1:5, 1:5], instances[8, 8] = 1, 2  # numbers of the tracks plus 1
            file = folder / f"frames/instanceSegmentation/Camera_{camera}/instancegt_{frame:05d}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            image = Image.fromarray(instances, "P")
            image.putpalette(list(range(255, 255 - 9, -1)))
            image.save(file)
            points = points_before(centre, axes)
            pixels = pinhole_pixels(points, centre, axes, FX, FY, CX + 0.5, CY + 0.5)
            taken.append(Taken(f"Camera_{camera}", frame / 10, centre, axes, points, pixels))
    (folder / "extrinsic.txt").write_text(extrinsic)
    (folder / "intrinsic.txt").write_text(intrinsic)
    (folder / "bbox.txt").write_text(boxes)


def write_vkitti2(root):
    taken = []
    write_drive(root / "Scene01/clone", taken, 4)
    write_drive(root / "Scene01/fog", [], 4)
    return Written(root, taken, "Camera_0")
